/* snapshot.h - the tree as it was at one version.
 *
 * Entries never change once made, so this is a list of references: cheap to
 * make, and what it holds goes with it.
 *
 * Owner   the caller.
 * Units   bytes.
 * Thread  the loop.
 * Source  docs/ipc.md.
 */
#ifndef CFS_SNAPSHOT_H
#define CFS_SNAPSHOT_H

#include "pmxcfs/core/tree.h"

#include <glib.h>

typedef struct CfsSnapshot CfsSnapshot;

CfsSnapshot *cfs_snapshot_new(CfsTree *tree);
void cfs_snapshot_free(CfsSnapshot *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsSnapshot, cfs_snapshot_free)

guint64 cfs_snapshot_version(CfsSnapshot *self);
guint cfs_snapshot_n_entries(CfsSnapshot *self); /* with the root */
/* Ascending by inode; 0 is the root. Returns: (borrowed). */
CfsEntry *cfs_snapshot_nth(CfsSnapshot *self, guint position);
/* Returns: (borrowed) or NULL. */
CfsEntry *cfs_snapshot_get(CfsSnapshot *self, guint64 inode);
/* Returns: (owned) as cfs_tree_path(). */
char *cfs_snapshot_path(CfsSnapshot *self, const CfsEntry *entry);

#endif
