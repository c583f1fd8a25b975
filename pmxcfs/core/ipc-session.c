#include "config.h"

#include "pmxcfs/core/ipc-session.h"

#include "common/wire.h"
#include "pmxcfs/core/access.h"
#include "pmxcfs/core/snapshot.h"

#include <errno.h>
#include <string.h>

#define MAX_PREFIXES 64u
#define MAX_PATH_BYTES 4096u
/* A piece of a listing looks at so many entries, and is about so large. */
#define PIECE_ENTRIES 8192u
#define PIECE_BYTES (512u * 1024u)
/* Fixed parts of answers: ipc-proto.h. */
#define ENTRY_FIXED 45u
#define READ_FIXED 45u

typedef struct {
    guint32 id; /* 0: none */
    CfsSnapshot *tree;
    gint64 used_ms;
} Held;

struct CfsIpcSession {
    CfsIpcShared *shared;
    gboolean is_read_only;
    CfsWatcher *watcher;
    Held held[CFS_IPC_SNAPSHOTS];
    guint32 last_id;
};

CfsIpcSession *
cfs_ipc_session_new(CfsIpcShared *shared, gboolean is_read_only)
{
    CfsIpcSession *self = g_new0(CfsIpcSession, 1);

    self->shared = shared;
    self->is_read_only = is_read_only;
    return self;
}

static void
let_go(CfsIpcSession *self, Held *held)
{
    if (held->id != 0) {
        held->id = 0;
        g_clear_pointer(&held->tree, cfs_snapshot_free);
        self->shared->n_snapshots--;
    }
}

void
cfs_ipc_session_free(CfsIpcSession *self)
{
    if (self == NULL) {
        return;
    }
    for (guint i = 0; i < CFS_IPC_SNAPSHOTS; i++) {
        let_go(self, &self->held[i]);
    }
    cfs_watcher_free(self->watcher);
    g_free(self);
}

CfsWatcher *
cfs_ipc_session_watcher(CfsIpcSession *self)
{
    return self->watcher;
}

void
cfs_ipc_session_expire(CfsIpcSession *self, gint64 clock_ms)
{
    for (guint i = 0; i < CFS_IPC_SNAPSHOTS; i++) {
        if (clock_ms - self->held[i].used_ms > CFS_IPC_SNAPSHOT_MS) {
            let_go(self, &self->held[i]);
        }
    }
}

static GBytes *
take(GByteArray *bytes)
{
    return g_byte_array_free_to_bytes(bytes);
}

static guint64
tree_version(CfsIpcSession *self)
{
    return cfs_tree_root(cfs_replica_tree(self->shared->replica))->version;
}

/* Returns: (borrowed) the string that begins here and ends with its NUL, or
 * NULL with the error flag set. */
static const char *
read_string(PveReader *reader)
{
    gsize left = pve_reader_left(reader);
    const guint8 *begin = reader->bytes + reader->offset;
    const guint8 *end = left > 0 ? memchr(begin, '\0', left) : NULL;

    if (!pve_reader_ok(reader) || end == NULL ||
        (gsize)(end - begin) > MAX_PATH_BYTES) {
        (void)pve_reader_take(reader, left + 1); /* sets the flag */
        return NULL;
    }
    return pve_reader_string(reader, (gsize)(end - begin) + 1);
}

/* --- events --- */

int
cfs_ipc_session_subscribe(CfsIpcSession *self,
                          PveReader *payload,
                          GBytes **answer)
{
    CfsWatch *watch = self->shared->watch;
    g_autoptr(GPtrArray) prefixes = g_ptr_array_new_with_free_func(g_free);
    guint32 kinds = pve_reader_u32(payload);
    guint64 instance = pve_reader_u64(payload);
    guint64 sequence = pve_reader_u64(payload);
    guint16 n = pve_reader_u16(payload);
    GByteArray *out;
    guint32 flags = 0;

    if (n > MAX_PREFIXES) {
        return E2BIG;
    }
    for (guint i = 0; i < n; i++) {
        const char *prefix = read_string(payload);

        if (prefix != NULL) {
            g_ptr_array_add(prefixes, cfs_access_normalize(prefix));
        }
    }
    if (!pve_reader_done(payload)) {
        return EINVAL;
    }
    cfs_watcher_free(self->watcher);
    self->watcher = cfs_watcher_new(watch, kinds, g_steal_pointer(&prefixes),
                                    self->is_read_only);
    if (instance != 0 && cfs_watcher_seek(self->watcher, instance, sequence)) {
        flags = PVE_SUBSCRIBE_CONTINUED;
    }
    out = g_byte_array_new();
    pve_write_u64(out, cfs_watch_instance(watch));
    pve_write_u64(out, flags != 0 ? sequence : cfs_watch_last(watch));
    pve_write_u64(out, tree_version(self));
    pve_write_u32(out, flags);
    pve_write_u32(out, cfs_replica_is_quorate(self->shared->replica) ? 1 : 0);
    *answer = take(out);
    return 0;
}

/* --- snapshots --- */

static Held *
find_held(CfsIpcSession *self, guint32 id, gint64 clock_ms)
{
    for (guint i = 0; id != 0 && i < CFS_IPC_SNAPSHOTS; i++) {
        if (self->held[i].id == id) {
            self->held[i].used_ms = clock_ms;
            return &self->held[i];
        }
    }
    return NULL;
}

/* The place of the new one: a free one, or that of the older. */
static Held *
make_place(CfsIpcSession *self)
{
    Held *place = &self->held[0];

    for (guint i = 1; place->id != 0 && i < CFS_IPC_SNAPSHOTS; i++) {
        if (self->held[i].id == 0 || self->held[i].id < place->id) {
            place = &self->held[i];
        }
    }
    let_go(self, place);
    return place;
}

static Held *
hold(CfsIpcSession *self, gint64 clock_ms)
{
    Held *held = make_place(self);

    if (self->shared->n_snapshots >= CFS_IPC_ALL_SNAPSHOTS) {
        return NULL;
    }
    self->shared->n_snapshots++;
    held->id = ++self->last_id;
    held->used_ms = clock_ms;
    held->tree = cfs_snapshot_new(cfs_replica_tree(self->shared->replica));
    return held;
}

int
cfs_ipc_session_snapshot(CfsIpcSession *self,
                         PveReader *payload,
                         gint64 clock_ms,
                         GBytes **answer)
{
    CfsReplica *replica = self->shared->replica;
    guint32 flags = pve_reader_left(payload) > 0 ? pve_reader_u32(payload) : 0;
    const Held *held = NULL;
    GByteArray *out;

    if (!pve_reader_done(payload) || (flags & ~PVE_SNAPSHOT_LOOK) != 0) {
        return EINVAL;
    }
    if ((flags & PVE_SNAPSHOT_LOOK) == 0) {
        held = hold(self, clock_ms);
        if (held == NULL) {
            return EBUSY;
        }
    }
    out = g_byte_array_new();
    pve_write_u32(out, held != NULL ? held->id : 0);
    pve_write_u32(out, cfs_tree_n_entries(cfs_replica_tree(replica)));
    pve_write_u64(out, tree_version(self));
    pve_write_u64(out, cfs_watch_instance(self->shared->watch));
    pve_write_u64(out, cfs_watch_last(self->shared->watch));
    pve_write_u32(out, cfs_replica_is_quorate(replica) ? 1 : 0);
    pve_write_u32(out, cfs_replica_mode(replica) == CFS_MODE_SYNCED ? 1 : 0);
    *answer = take(out);
    return 0;
}

static void
append_entry(GByteArray *out,
             const CfsEntry *entry,
             const char *path,
             guint32 max_content)
{
    gboolean has_content = entry->size <= max_content && entry->size > 0;
    guint32 content = has_content ? entry->size : 0;
    guint8 *data;
    guint at;

    pve_write_u32(out, (guint32)(ENTRY_FIXED + strlen(path) + 1) + content);
    pve_write_u64(out, entry->inode);
    pve_write_u64(out, entry->version);
    pve_write_u64(out, entry->parent);
    pve_write_u32(out, entry->writer);
    pve_write_u32(out, entry->mtime);
    pve_write_u32(out, entry->size);
    pve_write_u32(out, content);
    pve_write_u8(out, entry->type);
    pve_write_string(out, path);
    if (content > 0) {
        at = out->len;
        g_byte_array_set_size(out, at + content);
        data = out->data + at;
        (void)cfs_entry_read(entry, 0, content, data);
    }
}

static gboolean
may_see(CfsIpcSession *self, const char *path)
{
    return path != NULL && !(self->is_read_only && cfs_access_is_private(path));
}

static gboolean
is_listed(CfsIpcSession *self, const char *path, const char *prefix)
{
    return may_see(self, path) && cfs_access_is_below(path, prefix);
}

int
cfs_ipc_session_list(CfsIpcSession *self,
                     PveReader *payload,
                     gint64 clock_ms,
                     GBytes **answer)
{
    Held *held = find_held(self, pve_reader_u32(payload), clock_ms);
    guint32 position = pve_reader_u32(payload);
    guint32 max_content = pve_reader_u32(payload);
    const char *given = read_string(payload);
    g_autofree char *prefix =
        given != NULL ? cfs_access_normalize(given) : NULL;
    GByteArray *out;
    guint32 end, next;

    if (!pve_reader_done(payload)) {
        return EINVAL;
    }
    if (held == NULL) {
        return ESTALE;
    }
    max_content = MIN(max_content, PIECE_BYTES / 2);
    end = cfs_snapshot_n_entries(held->tree);
    out = g_byte_array_new();
    pve_write_u32(out, 0);
    for (guint n = 0;
         position < end && n < PIECE_ENTRIES && out->len < PIECE_BYTES;
         position++, n++) {
        const CfsEntry *entry = cfs_snapshot_nth(held->tree, position);
        g_autofree char *path = cfs_snapshot_path(held->tree, entry);

        if (is_listed(self, path, prefix)) {
            append_entry(out, entry, path, max_content);
        }
    }
    next = GUINT32_TO_LE(position < end ? position : 0);
    memcpy(out->data, &next, sizeof(next));
    *answer = take(out);
    return 0;
}

int
cfs_ipc_session_release(CfsIpcSession *self,
                        PveReader *payload,
                        GBytes **answer)
{
    Held *held = find_held(self, pve_reader_u32(payload), 0);

    if (!pve_reader_done(payload)) {
        return EINVAL;
    }
    if (held == NULL) {
        return ESTALE;
    }
    let_go(self, held);
    return 0;
}

/* --- files --- */

static GBytes *
part_of(const CfsEntry *entry, guint64 version, guint32 offset, guint32 size)
{
    GByteArray *out = g_byte_array_new();
    gsize n;

    size = offset < entry->size ? MIN(size, entry->size - offset) : 0;
    size = MIN(size, PVE_IPC_MAX_PAYLOAD - READ_FIXED);
    pve_write_u64(out, version);
    pve_write_u64(out, entry->inode);
    pve_write_u64(out, entry->version);
    pve_write_u32(out, entry->writer);
    pve_write_u32(out, entry->mtime);
    pve_write_u32(out, entry->size);
    pve_write_u32(out, offset);
    pve_write_u32(out, size);
    pve_write_u8(out, entry->type);
    g_byte_array_set_size(out, READ_FIXED + size);
    n = cfs_entry_read(entry, offset, size, out->data + READ_FIXED);
    g_assert(n == size);
    return take(out);
}

static CfsEntry *
find_in(CfsIpcSession *self, const Held *held, guint64 inode, const char *path)
{
    CfsTree *tree = cfs_replica_tree(self->shared->replica);

    if (held == NULL) {
        return inode != CFS_ROOT_INODE ? cfs_tree_get(tree, inode)
                                       : cfs_tree_lookup(tree, path);
    }
    if (inode != CFS_ROOT_INODE) {
        return cfs_snapshot_get(held->tree, inode);
    }
    return NULL; /* in a snapshot a listing says which inode it is */
}

int
cfs_ipc_session_read(CfsIpcSession *self,
                     PveReader *payload,
                     gint64 clock_ms,
                     GBytes **answer)
{
    CfsTree *tree = cfs_replica_tree(self->shared->replica);
    guint32 id = pve_reader_u32(payload);
    guint64 inode = pve_reader_u64(payload);
    guint32 offset = pve_reader_u32(payload);
    guint32 size = pve_reader_u32(payload);
    const char *given = read_string(payload);
    g_autofree char *path = given != NULL ? cfs_access_normalize(given) : NULL;
    Held *held = find_held(self, id, clock_ms);
    g_autofree char *where = NULL;
    const CfsEntry *entry;

    if (!pve_reader_done(payload)) {
        return EINVAL;
    }
    if (id != 0 && held == NULL) {
        return ESTALE;
    }
    if (!may_see(self, path)) {
        return EPERM;
    }
    entry = find_in(self, held, inode, path);
    if (entry == NULL) {
        return ENOENT;
    }
    where = held != NULL ? cfs_snapshot_path(held->tree, entry)
                         : cfs_tree_path(tree, entry->inode);
    if (!may_see(self, where)) {
        return EPERM;
    }
    if (cfs_entry_is_directory(entry)) {
        return EISDIR;
    }
    *answer = part_of(entry,
                      held != NULL ? cfs_snapshot_version(held->tree)
                                   : tree_version(self),
                      offset, size);
    return 0;
}
