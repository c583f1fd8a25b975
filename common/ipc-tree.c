#include "config.h"

#include "common/ipc-tree.h"

#include <string.h>

#include "common/wire.h"

void
pve_ipc_entry_free(PveIpcEntry *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->path);
    g_clear_pointer(&self->content, g_bytes_unref);
    g_free(self);
}

static gboolean
fail(GError **error, const char *what)
{
    g_set_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_MALFORMED,
                "the cluster filesystem's %s is malformed", what);
    return FALSE;
}

static gboolean
ask_snapshot(PveIpcClient *client,
             guint32 flags,
             PveIpcSnapshot *out,
             GError **error)
{
    const guint32 request = GUINT32_TO_LE(flags);
    g_autoptr(GBytes) answer = pve_ipc_call(client, PVE_IPC_SNAPSHOT, &request,
                                            sizeof(request), NULL, error);
    PveReader reader;

    if (answer == NULL) {
        return FALSE;
    }
    pve_reader_init_bytes(&reader, answer);
    out->id = pve_reader_u32(&reader);
    out->n_entries = pve_reader_u32(&reader);
    out->version = pve_reader_u64(&reader);
    out->instance = pve_reader_u64(&reader);
    out->sequence = pve_reader_u64(&reader);
    out->quorate = pve_reader_u32(&reader) != 0;
    out->synced = pve_reader_u32(&reader) != 0;
    return pve_reader_ok(&reader) || fail(error, "snapshot");
}

gboolean
pve_ipc_snapshot(PveIpcClient *client, PveIpcSnapshot *out, GError **error)
{
    return ask_snapshot(client, 0, out, error);
}

gboolean
pve_ipc_look(PveIpcClient *client, PveIpcSnapshot *out, GError **error)
{
    return ask_snapshot(client, PVE_SNAPSHOT_LOOK, out, error);
}

static PveIpcEntry *
parse_entry(PveReader *reader)
{
    g_autoptr(PveIpcEntry) entry = g_new0(PveIpcEntry, 1);
    gsize left = pve_reader_left(reader);
    guint32 size = pve_reader_u32(reader), content;
    const char *path;
    const guint8 *bytes;
    gsize fixed;

    entry->inode = pve_reader_u64(reader);
    entry->version = pve_reader_u64(reader);
    (void)pve_reader_u64(reader); /* parent */
    (void)pve_reader_u32(reader); /* writer */
    entry->mtime = pve_reader_u32(reader);
    entry->size = pve_reader_u32(reader);
    content = pve_reader_u32(reader);
    entry->is_directory = pve_reader_u8(reader) == 4;
    fixed = left - pve_reader_left(reader);
    if (!pve_reader_ok(reader) || size > left ||
        size < (guint64)fixed + content) {
        return NULL;
    }
    path = pve_reader_string(reader, size - fixed - content);
    bytes = pve_reader_take(reader, content);
    if (path == NULL || bytes == NULL) {
        return NULL;
    }
    entry->path = g_strdup(path);
    if (!entry->is_directory && content == entry->size) {
        entry->content = g_bytes_new(bytes, content);
    }
    return g_steal_pointer(&entry);
}

gboolean
pve_ipc_list_parse(GBytes *piece, GPtrArray *entries, guint32 *next)
{
    PveReader reader;

    pve_reader_init_bytes(&reader, piece);
    *next = pve_reader_u32(&reader);
    while (pve_reader_left(&reader) > 0) {
        PveIpcEntry *entry = parse_entry(&reader);

        if (entry == NULL) {
            return FALSE;
        }
        g_ptr_array_add(entries, entry);
    }
    return pve_reader_ok(&reader);
}

GPtrArray *
pve_ipc_list(PveIpcClient *client,
             const PveIpcSnapshot *snapshot,
             const char *prefix,
             guint32 most,
             GError **error)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)pve_ipc_entry_free);
    guint32 position = 0, next;

    do {
        g_autoptr(GByteArray) request = g_byte_array_new();
        g_autoptr(GBytes) piece = NULL;

        pve_write_u32(request, snapshot->id);
        pve_write_u32(request, position);
        pve_write_u32(request, most);
        pve_write_string(request, prefix);
        piece = pve_ipc_call(client, PVE_IPC_LIST, request->data, request->len,
                             NULL, error);
        if (piece == NULL) {
            return NULL;
        }
        if (!pve_ipc_list_parse(piece, entries, &next) ||
            (next != 0 && next <= position)) {
            (void)fail(error, "listing");
            return NULL;
        }
        position = next;
    } while (position != 0);
    return g_steal_pointer(&entries);
}

void
pve_ipc_release(PveIpcClient *client, const PveIpcSnapshot *snapshot)
{
    g_autoptr(GByteArray) request = g_byte_array_new();
    g_autoptr(GBytes) answer = NULL;

    pve_write_u32(request, snapshot->id);
    answer = pve_ipc_call(client, PVE_IPC_RELEASE, request->data, request->len,
                          NULL, NULL);
}
