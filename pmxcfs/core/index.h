/* index.h - what a member says it has: (inode, digest) of every entry.
 *
 * Owner   reference counted through its bytes; see cfs_index_free().
 * Errors  NULL for bytes that are no index.
 * Thread  any.
 * Source  spec/replication.md 6.1.
 */
#ifndef CFS_INDEX_H
#define CFS_INDEX_H

#include "pmxcfs/core/op.h"

#include <glib.h>

typedef struct CfsIndex CfsIndex;

/* Parses and checks sizes and order: inodes ascend, the root comes first. */
CfsIndex *cfs_index_new(GBytes *bytes);
void cfs_index_free(CfsIndex *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsIndex, cfs_index_free)

guint64 cfs_index_version(const CfsIndex *self);
guint32 cfs_index_mtime(const CfsIndex *self);
GBytes *cfs_index_bytes(const CfsIndex *self); /* borrowed */
gboolean cfs_index_equal(const CfsIndex *a, const CfsIndex *b);
/* Returns: (borrowed) the entry's digest, or NULL when it is not listed. */
const guint8 *cfs_index_find(const CfsIndex *self, guint64 inode);
/* Adds to @inodes (a set of guint64 *, owned keys) what @self lists and @other
 * lacks or has with another digest. @other NULL: it has nothing. */
void cfs_index_missing(const CfsIndex *self,
                       const CfsIndex *other,
                       GHashTable *inodes);

#endif
