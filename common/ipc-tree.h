/* ipc-tree.h - the tree over the local socket: all of it at one version.
 *
 * Owner   the caller.
 * Errors  PVE_IPC_ERROR.
 * Thread  one at a time per client; calls wait.
 * Source  docs/ipc.md.
 */
#ifndef PVE_IPC_TREE_H
#define PVE_IPC_TREE_H

#include "common/ipc-client.h"
#include "common/ipc-listing.h"

#include <glib.h>

typedef struct {
    guint32 id;
    guint32 n_entries;
    guint64 version;
    guint64 instance; /* with the sequence: its place in the events */
    guint64 sequence;
    gboolean quorate;
    gboolean synced;
} PveIpcSnapshot;

gboolean pve_ipc_snapshot(PveIpcClient *client,
                          PveIpcSnapshot *snapshot,
                          GError **error);
/* How it is now, without holding it. */
gboolean
pve_ipc_look(PveIpcClient *client, PveIpcSnapshot *state, GError **error);
/* Returns: (owned) of PveIpcEntry, what is at @prefix and below, with the
 * content of files of up to @most bytes; NULL with @error set. */
GPtrArray *pve_ipc_list(PveIpcClient *client,
                        const PveIpcSnapshot *snapshot,
                        const char *prefix,
                        guint32 most,
                        GError **error);
/* It goes by itself after a while. */
void pve_ipc_release(PveIpcClient *client, const PveIpcSnapshot *snapshot);

#endif
