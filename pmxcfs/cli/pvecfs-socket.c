#include "config.h"

#include "pmxcfs/cli/pvecfs-socket.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc-client.h"
#include "pmxcfs/cli/pvecfs-private.h"

#define NAME_BYTES 256u /* of a key, of a node: spec/ipc.md 4 */
#define MAX_VALUE (1u << 20)
#define NO_LIMIT 64

/* watch ------------------------------------------------------------------- */

typedef struct {
    gboolean is_json;
    gboolean has_trouble; /* said already */
    GMainLoop *loop;
    int result;
} Watch;

static const char *const kind_names[PVE_EVENT_N_KINDS] = {
    [PVE_EVENT_CREATED] = "created", [PVE_EVENT_CHANGED] = "changed",
    [PVE_EVENT_DELETED] = "deleted", [PVE_EVENT_RENAMED] = "renamed",
    [PVE_EVENT_SETTLED] = "settled", [PVE_EVENT_RELOADED] = "reloaded",
    [PVE_EVENT_QUORUM] = "quorum",   [PVE_EVENT_MEMBERS] = "members",
    [PVE_EVENT_GUESTS] = "guests",   [PVE_EVENT_STATUS] = "status",
    [PVE_EVENT_LOG] = "log",         [PVE_EVENT_SYNC] = "synchronised",
    [PVE_EVENT_LOST] = "lost",
};

static void
print_text(const PveEvent *event)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *when = g_date_time_format(now, "%T.%f");

    printf("%s %-12s", when, kind_names[event->kind]);
    if (event->kind == PVE_EVENT_STATUS) {
        printf(" %s of %s", event->path, event->other);
    } else if (event->path[0] != '\0') {
        printf(" %s%s%s", event->path, event->other[0] != '\0' ? " to " : "",
               event->other);
    } else if (event->kind == PVE_EVENT_QUORUM ||
               event->kind == PVE_EVENT_SYNC) {
        printf(" %s", event->value != 0 ? "yes" : "no");
    }
    if (event->node != 0) {
        printf(" (version %" G_GUINT64_FORMAT ", node %u)", event->version,
               event->node);
    }
    printf("\n");
}

static void
add_text(JsonBuilder *builder, const char *name, const char *value)
{
    if (value[0] != '\0') {
        (void)json_builder_set_member_name(builder, name);
        (void)json_builder_add_string_value(builder, value);
    }
}

static void
add_number(JsonBuilder *builder, const char *name, guint64 value)
{
    (void)json_builder_set_member_name(builder, name);
    (void)json_builder_add_int_value(builder, (gint64)value);
}

/* One line. */
static void
print_json(const PveEvent *event)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;

    (void)json_builder_begin_object(builder);
    add_text(builder, "kind", kind_names[event->kind]);
    add_number(builder, "sequence", event->sequence);
    add_number(builder, "version", event->version);
    add_number(builder, "inode", event->inode);
    add_number(builder, "node", event->node);
    add_number(builder, "value", event->value);
    add_number(builder, "flags", event->flags);
    add_text(builder, "path", event->path);
    add_text(builder, "other", event->other);
    (void)json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    text = json_to_string(root, FALSE);
    printf("%s\n", text);
}

static void
on_event(gpointer data, const PveEvent *event, const GError *error)
{
    Watch *self = data;

    if (event == NULL) {
        if (!self->has_trouble) {
            (void)cfs_pvecfs_trouble(error->message);
        }
        self->has_trouble = TRUE;
        if (g_error_matches(error, PVE_IPC_ERROR, PVE_IPC_ERROR_UNSUPPORTED)) {
            self->result = CFS_PVECFS_TROUBLE;
            g_main_loop_quit(self->loop);
        }
        return;
    }
    self->has_trouble = FALSE;
    if (event->kind >= PVE_EVENT_N_KINDS) {
        return; /* of a later version */
    }
    (self->is_json ? print_json : print_text)(event);
    if (fflush(stdout) != 0) {
        g_main_loop_quit(self->loop); /* nobody reads any more */
    }
}

/* As the daemon wants it, whatever the shell completed. */
static const char *
below_mount(const char *path)
{
    if (g_str_has_prefix(path, "/etc/pve")) {
        path += strlen("/etc/pve");
    }
    return path + strspn(path, "/");
}

int
cfs_pvecfs_watch(int argc, char **argv)
{
    Watch self = {0};
    GOptionEntry entries[] = {{"json", 0, 0, G_OPTION_ARG_NONE, &self.is_json,
                               "For programs, an object a line", NULL},
                              {NULL}};
    const char *prefixes[NO_LIMIT + 1] = {NULL};
    g_autoptr(PveIpcEvents) events = NULL;

    if (!cfs_pvecfs_parse(entries, "[PATH...]", &argc, &argv, 0, NO_LIMIT)) {
        return CFS_PVECFS_TROUBLE;
    }
    for (int i = 1; i < argc; i++) {
        prefixes[i - 1] = below_mount(argv[i]);
    }
    self.loop = g_main_loop_new(NULL, FALSE);
    /* With paths only what is of paths. */
    events = pve_ipc_events_new(argc > 1 ? PVE_EVENT_TREE |
                                               PVE_EVENT_BIT(PVE_EVENT_RELOADED)
                                         : PVE_EVENT_ALL,
                                argc > 1 ? prefixes : NULL, on_event, &self);
    g_main_loop_run(self.loop);
    g_main_loop_unref(self.loop);
    return self.result;
}

/* Status keys ------------------------------------------------------------- */

/* FALSE: it does not fit, said so. */
static gboolean
append_name(GByteArray *out, const char *name)
{
    char field[NAME_BYTES] = {0};

    if (strlen(name) >= sizeof(field)) {
        (void)cfs_pvecfs_trouble("a name has at most 255 bytes");
        return FALSE;
    }
    memcpy(field, name, strlen(name));
    (void)g_byte_array_append(out, (const guint8 *)field, sizeof(field));
    return TRUE;
}

/* Returns: (owned) the answer; NULL: said why. */
static GBytes *
call(PveIpcOperation operation, GByteArray *payload)
{
    g_autoptr(PveIpcClient) client = pve_ipc_client_new();
    g_autoptr(GError) error = NULL;
    GBytes *answer = pve_ipc_call(client, operation, payload->data,
                                  payload->len, NULL, &error);

    if (answer == NULL) {
        (void)cfs_pvecfs_trouble(error->message);
    }
    return answer;
}

int
cfs_pvecfs_get(int argc, char **argv)
{
    GOptionEntry entries[] = {{NULL}};
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(GBytes) answer = NULL;
    g_autofree char *own = g_strdup(g_get_host_name());
    gconstpointer bytes;
    gsize size;

    own[strcspn(own, ".")] = '\0';
    if (!cfs_pvecfs_parse(entries, "KEY [NODE]", &argc, &argv, 1, 2) ||
        !append_name(payload, argv[1]) ||
        !append_name(payload, argc > 2 ? argv[2] : own) ||
        (answer = call(PVE_IPC_GET_STATUS, payload)) == NULL) {
        return CFS_PVECFS_TROUBLE;
    }
    bytes = g_bytes_get_data(answer, &size);
    /* Most values are C strings, with their end. */
    if (size > 0 && ((const char *)bytes)[size - 1] == '\0') {
        size--;
    }
    if (fwrite(bytes, 1, size, stdout) != size) {
        return CFS_PVECFS_TROUBLE;
    }
    if (isatty(STDOUT_FILENO)) {
        printf("\n");
    }
    return fflush(stdout) == 0 ? CFS_PVECFS_WELL : CFS_PVECFS_TROUBLE;
}

static gboolean
append_input(GByteArray *out)
{
    guint8 buffer[4096];
    gsize n;

    while ((n = fread(buffer, 1, sizeof(buffer), stdin)) > 0) {
        (void)g_byte_array_append(out, buffer, (guint)n);
        if (out->len > MAX_VALUE) {
            (void)cfs_pvecfs_trouble("the value is too large");
            return FALSE;
        }
    }
    return TRUE;
}

int
cfs_pvecfs_set(int argc, char **argv)
{
    GOptionEntry entries[] = {{NULL}};
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(GBytes) answer = NULL;

    if (!cfs_pvecfs_parse(entries, "KEY [VALUE]", &argc, &argv, 1, 2) ||
        !append_name(payload, argv[1])) {
        return CFS_PVECFS_TROUBLE;
    }
    if (argc > 2) {
        /* With its end, as clients of the reference write and read it. */
        (void)g_byte_array_append(payload, (const guint8 *)argv[2],
                                  (guint)strlen(argv[2]) + 1);
    } else if (!append_input(payload)) {
        return CFS_PVECFS_TROUBLE;
    }
    answer = call(PVE_IPC_SET_STATUS, payload);
    return answer != NULL ? CFS_PVECFS_WELL : CFS_PVECFS_TROUBLE;
}

int
cfs_pvecfs_sync(int argc, char **argv)
{
    GOptionEntry entries[] = {{NULL}};
    g_autoptr(PveIpcClient) client = NULL;
    g_autoptr(GError) error = NULL;
    PveSyncLevel level;

    if (!cfs_pvecfs_parse(entries, "", &argc, &argv, 0, 0)) {
        return CFS_PVECFS_TROUBLE;
    }
    client = pve_ipc_client_new();
    if (!pve_ipc_sync(client, &level, &error)) {
        return cfs_pvecfs_trouble(error->message);
    }
    printf("%s\n", level == PVE_SYNC_MAJORITY
                       ? "stable on a majority of the nodes"
                       : "stable on this node");
    return CFS_PVECFS_WELL;
}
