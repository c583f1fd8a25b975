#include "config.h"

#include "common/ipc-tree.h"

#include "common/wire.h"

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
