/* treesum.h - the checksum of a whole tree, in slices.
 *
 * It is one SHA-256 over all entries: for a full tree most of a second. So it
 * is computed of a snapshot, which costs references, a piece at a time, while
 * the tree goes on changing.
 *
 * Owner   who made it; it holds the entries until it is freed.
 * Units   bytes.
 * Thread  the tree's to make it, then any one.
 * Source  spec/replication.md 6.3, 8.
 */
#ifndef CFS_TREESUM_H
#define CFS_TREESUM_H

#include "pmxcfs/core/tree.h"

typedef struct CfsTreeSum CfsTreeSum;

/* Of @tree as it is now. */
CfsTreeSum *cfs_tree_sum_new(CfsTree *tree);
void cfs_tree_sum_free(CfsTreeSum *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsTreeSum, cfs_tree_sum_free)

/* Goes on for about @budget bytes of content, one file more at most. Returns:
 * TRUE when it is done. */
gboolean cfs_tree_sum_run(CfsTreeSum *self, gsize budget);
/* Once it is done. */
void cfs_tree_sum_get(CfsTreeSum *self, guint8 out[CFS_DIGEST_SIZE]);

#endif
