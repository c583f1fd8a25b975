/* tree.h - the replicated files and directories, held in memory.
 *
 * Members that apply the same operations in the same order hold the same
 * tree, byte for byte; cfs_tree_index() and cfs_tree_checksum() prove it.
 * Applying depends on the operation, its sender, its time and the tree alone.
 *
 * Owner   the replica. What queries return is borrowed until the next change,
 *         unless said; an entry may be kept with cfs_entry_ref().
 * Units   bytes; whole seconds since the epoch, as the operation carries them.
 * Errors  verdicts only: 0, or the positive errno that every member computes.
 * Thread  the loop.
 * Source  spec/filesystem.md 2; spec/replication.md 5, 6.
 */
#ifndef CFS_TREE_H
#define CFS_TREE_H

#include "pmxcfs/core/entry.h"
#include "pmxcfs/core/guests.h"
#include "pmxcfs/core/op.h"

#include <glib.h>

typedef struct CfsTree CfsTree;

/* What one operation did to one entry. */
typedef struct {
    CfsEntry *before; /* owned; NULL: it is new */
    CfsEntry *after;  /* owned; NULL: it is gone */
    char *path;       /* owned; where it was, or where the new one is */
    char *new_path;   /* owned; RENAME only, else NULL */
} CfsChange;

void cfs_change_free(CfsChange *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsChange, cfs_change_free)
/* An array of CfsChange that frees them. */
GPtrArray *cfs_changes_new(void);

/* A new database: only the root, version 1. */
CfsTree *cfs_tree_new(guint32 mtime);
/* Builds a tree of @entries (of CfsEntry; the root is inode 0 and may be
 * absent: then its version is the highest found). Parents may come after
 * children. Returns: (owned) the tree, or NULL with @error set: missing parent,
 * two of one name in one place, a file as parent, an empty name. */
CfsTree *cfs_tree_new_from_entries(GPtrArray *entries, GError **error);
void cfs_tree_free(CfsTree *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsTree, cfs_tree_free)

/* Applies @op as every member does. Appends to @changes what happened to which
 * entry, also for the one failure that has an effect (spec/replication.md
 * 12.3). The root changes with each success and is not in @changes. */
int cfs_tree_apply(CfsTree *self,
                   const CfsOp *op,
                   guint32 writer,
                   guint32 time,
                   GPtrArray *changes);

/* Counts the tree on to @version, above its own; nothing else changes. */
void cfs_tree_raise(CfsTree *self, guint64 version);

CfsEntry *cfs_tree_root(CfsTree *self);
CfsEntry *cfs_tree_get(CfsTree *self, guint64 inode);
/* By path; "" is the root. NULL: there is none. */
CfsEntry *cfs_tree_lookup(CfsTree *self, const char *path);
CfsEntry *cfs_tree_child(CfsTree *self, guint64 parent, const char *name);
/* Returns: (owned array, entries referenced) the content of a directory in the
 * order of their inodes, or NULL when @parent is none. */
GPtrArray *cfs_tree_children(CfsTree *self, guint64 parent);
gboolean cfs_tree_is_empty(CfsTree *self, guint64 directory);
/* Returns: (owned) the path without leading slash, or NULL when the inode is
 * not there or cannot be reached from the root. */
char *cfs_tree_path(CfsTree *self, guint64 inode);
/* All entries with the root, referenced, ascending by inode. */
GPtrArray *cfs_tree_entries(CfsTree *self);
guint cfs_tree_n_entries(CfsTree *self);     /* with the root */
guint64 cfs_tree_total_bytes(CfsTree *self); /* of content */
CfsGuests *cfs_tree_guests(CfsTree *self);
/* Returns: (borrowed) the first file that has a size and no content, or NULL:
 * spec/replication.md 12.1. */
CfsEntry *cfs_tree_find_phantom(CfsTree *self);

/* Returns: (owned) the index: spec/replication.md 6.1. */
GBytes *cfs_tree_index(CfsTree *self);
/* Digests of entries are made anew when they are asked for. */
void cfs_tree_forget_digests(CfsTree *self);
/* spec/replication.md 6.3. */
void cfs_tree_checksum(CfsTree *self, guint8 out[CFS_DIGEST_SIZE]);

#endif
