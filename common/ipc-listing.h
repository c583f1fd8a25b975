/* ipc-listing.h - entries of the tree as they come over the local socket.
 *
 * Owner   the caller.
 * Errors  FALSE: malformed.
 * Thread  any.
 * Source  docs/ipc.md.
 */
#ifndef PVE_IPC_LISTING_H
#define PVE_IPC_LISTING_H

#include <glib.h>

typedef struct {
    guint64 inode;
    guint64 version; /* of the tree when it changed last */
    guint32 mtime;
    guint32 size;
    gboolean is_directory;
    char *path;      /* owned */
    GBytes *content; /* owned; NULL: a directory, or larger than asked for */
} PveIpcEntry;

void pve_ipc_entry_free(PveIpcEntry *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PveIpcEntry, pve_ipc_entry_free)

/* One piece of a listing: appends to @entries. FALSE: malformed. @next: (out)
 * where the next begins, 0: nowhere. */
gboolean pve_ipc_list_parse(GBytes *piece, GPtrArray *entries, guint32 *next);

#endif
