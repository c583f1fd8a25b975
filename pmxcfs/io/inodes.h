/* inodes.h - the entries the kernel knows, and those that are open.
 *
 * An inode number of the tree is never used twice, so a handle means the file
 * it was opened for, wherever it is renamed to; when the file is removed, here
 * or on another node, the handle keeps its last content. Only when the whole
 * tree is replaced the same number may mean another file: then the old record
 * is cut off and the next gets a new generation.
 *
 * Owner   the mount. Records are borrowed until they are forgotten and closed.
 * Thread  the loop.
 * Source  spec/filesystem.md 5.3; libfuse: fuse_lowlevel.h on lookup counts.
 */
#ifndef CFS_INODES_H
#define CFS_INODES_H

#include "pmxcfs/core/tree.h"

#include <glib.h>

typedef struct CfsInodes CfsInodes;

/* What the kernel may hold of an entry beyond the moment: caches.c's. */
typedef struct {
    gboolean was_named; /* told once, by the name it has now */
    gboolean has_name;
    gboolean has_attributes;
    gboolean has_content;    /* of a file, or the listing of a directory */
    gint64 content_since_us; /* all of it is younger */
} CfsHeld;

typedef struct {
    guint64 inode;
    guint64 generation;
    guint64 n_lookups;
    guint n_handles;
    gboolean is_gone;    /* no longer in the tree */
    gboolean is_cut_off; /* its number means another entry now */
    gboolean is_private; /* where it was when last looked at */
    CfsEntry *entry;     /* as it is, or as it was last while it is open; NULL:
                            gone and not open */
    CfsHeld held;
} CfsInode;

CfsInodes *cfs_inodes_new(void);
/* All records go, open or not. */
void cfs_inodes_free(CfsInodes *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsInodes, cfs_inodes_free)

/* NULL: the kernel does not know it. */
CfsInode *cfs_inodes_find(CfsInodes *self, guint64 inode);
/* All that can be found, in no order. Nothing may be forgotten meanwhile. */
void cfs_inodes_foreach(CfsInodes *self,
                        void (*function)(gpointer data, CfsInode *record),
                        gpointer data);
/* How many can be found. */
guint cfs_inodes_count(CfsInodes *self);
/* The kernel looked @entry up, once more. */
CfsInode *cfs_inodes_remember(CfsInodes *self, CfsEntry *entry);
void cfs_inodes_forget(CfsInodes *self, guint64 inode, guint64 n_lookups);
/* One handle more; cfs_inodes_close() takes it back. */
CfsInode *cfs_inodes_open(CfsInodes *self, CfsEntry *entry);
/* The same for a file that went a moment ago, or that is gone and open: whoever
 * opens it found its name before. NULL: there is none of that number. */
CfsInode *cfs_inodes_open_recent(CfsInodes *self, guint64 inode);
void cfs_inodes_close(CfsInodes *self, CfsInode *record);

void cfs_inodes_on_changed(CfsInodes *self, const CfsChange *change);
void cfs_inodes_on_reloaded(CfsInodes *self, CfsTree *tree);

#endif
