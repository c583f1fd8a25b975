#include "config.h"

#include "pmxcfs/core/ipc-ops.h"

#include "common/ipc-proto.h"
#include "pmxcfs/core/access.h"
#include "pmxcfs/core/guest-props.h"

#include <errno.h>
#include <string.h>

#define FIRST_VMID 100u
#define NAME_BYTES 256u
#define RESERVED_BYTES 12u /* of GET_LOG */

typedef struct {
    guint8 *payload; /* @size bytes and a NUL */
    gsize size;
    PveReader reader; /* over the payload */
} Request;

static GBytes *
take_text(char *text)
{
    return g_bytes_new_take(text, strlen(text));
}

static CfsTree *
tree_of(const CfsIpcContext *context)
{
    return cfs_replica_tree(context->replica);
}

/* The rest of the payload as a string: what was its last byte is its NUL. */
static const char *
last_string(Request *request)
{
    request->payload[request->size - 1] = '\0';
    return (const char *)request->payload + request->reader.offset;
}

/* --- views --- */

static int
answer_view(const CfsIpcContext *context,
            Request *request,
            const char *name,
            GBytes **answer)
{
    if (request->size != 0) {
        return EINVAL;
    }
    *answer = take_text(cfs_views_text_now(cfs_replica_views(context->replica),
                                           (guint)cfs_views_find(name),
                                           tree_of(context)));
    return 0;
}

static int
get_version(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return answer_view(context, request, ".version", answer);
}

static int
get_members(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return answer_view(context, request, ".members", answer);
}

static int
get_guests(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return answer_view(context, request, ".vmlist", answer);
}

/* --- files --- */

static GBytes *
content_of(const CfsEntry *entry)
{
    return entry->data != NULL
               ? g_bytes_ref(entry->data)
               : g_bytes_new_take(g_malloc0(entry->size), entry->size);
}

static int
get_config(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    g_autofree char *path = NULL;
    const CfsEntry *entry;

    if (request->size == 0) {
        return EINVAL;
    }
    path = cfs_access_normalize(last_string(request));
    if (context->is_read_only && cfs_access_is_private(path)) {
        return EPERM;
    }
    entry = cfs_tree_lookup(tree_of(context), path);
    if (entry == NULL || cfs_entry_is_directory(entry)) {
        return ENOENT;
    }
    *answer = content_of(entry);
    return 0;
}

/* --- guests --- */

static int
check_guest(const CfsIpcContext *context, guint32 vmid)
{
    PveGuestPath guest;

    if (vmid == 0) {
        return 0;
    }
    if (vmid < FIRST_VMID) {
        return EINVAL;
    }
    return cfs_guests_find(cfs_tree_guests(tree_of(context)), vmid, &guest)
               ? 0
               : ENOENT;
}

static int
get_property(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    guint32 vmid = pve_reader_u32(&request->reader);
    const char *names[2] = {NULL, NULL};
    int verdict;

    if (!pve_reader_ok(&request->reader)) {
        return EINVAL;
    }
    verdict = check_guest(context, vmid);
    if (verdict != 0) {
        return verdict;
    }
    if (pve_reader_left(&request->reader) == 0) {
        return EINVAL;
    }
    names[0] = last_string(request);
    *answer = take_text(cfs_guest_props_json(tree_of(context), vmid, names));
    return 0;
}

/* Returns: (owned array, borrowed names) all of @n, which must be all there
 * is; NULL: they are malformed. */
static GPtrArray *
read_names(PveReader *reader, guint8 n)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < n; i++) {
        gsize left = pve_reader_left(reader);
        const guint8 *end =
            left > 0 ? memchr(reader->bytes + reader->offset, '\0', left)
                     : NULL;
        const char *name;

        if (end == NULL) {
            return NULL;
        }
        name = pve_reader_string(
            reader, (gsize)(end - (reader->bytes + reader->offset)) + 1);
        if (name == NULL || !g_ascii_islower(*name)) {
            return NULL;
        }
        g_ptr_array_add(names, (gpointer)name);
    }
    g_ptr_array_add(names, NULL);
    return n > 0 && pve_reader_done(reader) ? g_steal_pointer(&names) : NULL;
}

static int
get_properties(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    guint32 vmid = pve_reader_u32(&request->reader);
    guint8 n = pve_reader_u8(&request->reader);
    g_autoptr(GPtrArray) names = NULL;
    int verdict;

    if (!pve_reader_ok(&request->reader)) {
        return EINVAL;
    }
    verdict = check_guest(context, vmid);
    if (verdict != 0) {
        return verdict;
    }
    names = read_names(&request->reader, n);
    if (names == NULL) {
        return EINVAL;
    }
    *answer = take_text(cfs_guest_props_json(
        tree_of(context), vmid, (const char *const *)names->pdata));
    return 0;
}

/* --- tokens --- */

/* Takes as long for a token that begins well as for any other. */
static gboolean
is_equal(const char *a, const char *b, gsize size)
{
    guint8 difference = 0;

    for (gsize i = 0; i < size; i++) {
        difference |= (guint8)(a[i] ^ b[i]);
    }
    return difference == 0;
}

/* One of the lines of @text is @token. */
static gboolean
has_line(const char *text, gsize size, const char *token, gsize length)
{
    const char *end = text + size;
    gboolean found = FALSE;

    while (text < end) {
        const char *stop = memchr(text, '\n', (gsize)(end - text));

        stop = stop != NULL ? stop : end;
        if ((gsize)(stop - text) == length && is_equal(text, token, length)) {
            found = TRUE;
        }
        text = stop + 1;
    }
    return found;
}

static int
verify_token(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    const CfsEntry *entry = cfs_tree_lookup(tree_of(context), "priv/token.cfg");
    const char *token = (const char *)request->payload;
    gconstpointer text;
    gsize size;

    if (request->size < 2 || token[request->size - 1] != '\0' ||
        strlen(token) != request->size - 1 || strchr(token, '\n') != NULL) {
        return EINVAL;
    }
    if (entry == NULL || entry->data == NULL) {
        return ENOENT;
    }
    text = g_bytes_get_data(entry->data, &size);
    return has_line(text, size, token, request->size - 1) ? 0 : ENOENT;
}

/* --- status --- */

static CfsStatus *
status_of(const CfsIpcContext *context)
{
    return cfs_views_status(cfs_replica_views(context->replica));
}

/* Returns: (borrowed) a field of 256 bytes, whose last is a NUL. */
static const char *
take_name(Request *request)
{
    gsize at = request->reader.offset;

    if (pve_reader_take(&request->reader, NAME_BYTES) == NULL) {
        return NULL;
    }
    request->payload[at + NAME_BYTES - 1] = '\0';
    return (const char *)request->payload + at;
}

static int
set_status(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    const char *key = take_name(request);
    g_autoptr(GBytes) value = NULL;

    if (key == NULL) {
        return EINVAL;
    }
    if (pve_reader_left(&request->reader) > CFS_KV_MAX_VALUE) {
        return EFBIG;
    }
    value = g_bytes_new(request->payload + NAME_BYTES,
                        pve_reader_left(&request->reader));
    return cfs_status_set(status_of(context), key, value, context->time_s);
}

static int
get_status(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    const char *key = take_name(request);
    const char *node = take_name(request);
    GBytes *value;

    if (key == NULL || node == NULL) {
        return EINVAL;
    }
    value = cfs_status_get(status_of(context), node, key);
    if (value == NULL) {
        return ENOENT;
    }
    *answer = g_bytes_ref(value);
    return 0;
}

/* The next @size bytes are a string and its NUL, though what comes behind the
 * first NUL counts for nothing. */
static const char *
take_field(PveReader *reader, guint8 size)
{
    const guint8 *field = pve_reader_take(reader, size);

    return field != NULL && size > 0 && field[size - 1] == '\0'
               ? (const char *)field
               : NULL;
}

static int
log_message(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    guint8 priority = pve_reader_u8(&request->reader);
    guint8 ident_size = pve_reader_u8(&request->reader);
    guint8 tag_size = pve_reader_u8(&request->reader);
    const char *ident = take_field(&request->reader, ident_size);
    const char *tag = take_field(&request->reader, tag_size);

    if (ident == NULL || tag == NULL ||
        pve_reader_left(&request->reader) == 0) {
        return EINVAL;
    }
    /* The copy ends in a NUL, also where the message does not. */
    cfs_status_log(status_of(context), priority, ident, tag, context->pid,
                   (const char *)request->payload + request->reader.offset,
                   context->time_s);
    return 0;
}

static int
get_log(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    guint32 max = pve_reader_u32(&request->reader);

    (void)pve_reader_take(&request->reader, RESERVED_BYTES);
    if (pve_reader_left(&request->reader) == 0) {
        return EINVAL;
    }
    *answer = take_text(
        cfs_status_clog_json(status_of(context), max, last_string(request)));
    return 0;
}

/* With a NUL when it was made just now. What does not fit is left out, whole
 * lines at a time. */
static int
get_rrd_dump(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    gboolean is_new = FALSE;
    const char *text;
    gsize size;

    if (request->size != 0) {
        return EINVAL;
    }
    text = cfs_status_rrd_dump(status_of(context), context->time_s, &is_new);
    size = strlen(text);
    if (size >= PVE_IPC_MAX_PAYLOAD) {
        const char *end = g_strrstr_len(text, PVE_IPC_MAX_PAYLOAD - 1, "\n");

        size = end != NULL ? (gsize)(end - text) + 1 : 0;
        *answer = g_bytes_new(text, size);
        return 0;
    }
    *answer = g_bytes_new(text, size + (is_new ? 1 : 0));
    return 0;
}

/* --- ours --- */

static int
subscribe(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return cfs_ipc_session_subscribe(context->session, &request->reader,
                                     answer);
}

static int
make_snapshot(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return cfs_ipc_session_snapshot(context->session, &request->reader,
                                    context->clock_ms, answer);
}

static int
list_snapshot(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return cfs_ipc_session_list(context->session, &request->reader,
                                context->clock_ms, answer);
}

static int
read_part(const CfsIpcContext *context, Request *request, GBytes **answer)
{
    return cfs_ipc_session_read(context->session, &request->reader,
                                context->clock_ms, answer);
}

static int
release_snapshot(const CfsIpcContext *context,
                 Request *request,
                 GBytes **answer)
{
    return cfs_ipc_session_release(context->session, &request->reader, answer);
}

/* --- the table --- */

static const struct {
    gint32 id;
    gboolean is_write; /* not for read-only clients */
    int (*run)(const CfsIpcContext *context, Request *request, GBytes **answer);
} operations[] = {
    {PVE_IPC_FS_VERSION, FALSE, get_version},
    {PVE_IPC_CLUSTER_INFO, FALSE, get_members},
    {PVE_IPC_GUEST_LIST, FALSE, get_guests},
    {PVE_IPC_SET_STATUS, TRUE, set_status},
    {PVE_IPC_GET_STATUS, FALSE, get_status},
    {PVE_IPC_GET_CONFIG, FALSE, get_config},
    {PVE_IPC_LOG, TRUE, log_message},
    {PVE_IPC_GET_LOG, FALSE, get_log},
    {PVE_IPC_RRD_DUMP, FALSE, get_rrd_dump},
    {PVE_IPC_GUEST_PROPERTY, FALSE, get_property},
    {PVE_IPC_VERIFY_TOKEN, FALSE, verify_token},
    {PVE_IPC_GUEST_PROPERTIES, FALSE, get_properties},
    {PVE_IPC_SUBSCRIBE, FALSE, subscribe},
    {PVE_IPC_SNAPSHOT, FALSE, make_snapshot},
    {PVE_IPC_LIST, FALSE, list_snapshot},
    {PVE_IPC_READ, FALSE, read_part},
    {PVE_IPC_RELEASE, FALSE, release_snapshot},
};

static int
run(const CfsIpcContext *context, gint32 id, Request *request, GBytes **answer)
{
    for (guint i = 0; i < G_N_ELEMENTS(operations); i++) {
        if (operations[i].id == id) {
            return operations[i].is_write && context->is_read_only
                       ? EPERM
                       : operations[i].run(context, request, answer);
        }
    }
    return ECHRNG;
}

int
cfs_ipc_answer(const CfsIpcContext *context,
               gint32 id,
               guint8 *payload,
               gsize size,
               GBytes **answer)
{
    Request request = {.payload = payload, .size = size};
    g_autoptr(GBytes) found = NULL;
    int verdict;

    *answer = NULL;
    pve_reader_init(&request.reader, payload, size);
    verdict = run(context, id, &request, &found);
    if (verdict == 0 && found != NULL &&
        g_bytes_get_size(found) > PVE_IPC_MAX_PAYLOAD) {
        return EMSGSIZE;
    }
    if (verdict == 0) {
        *answer = g_steal_pointer(&found);
    }
    return verdict;
}
