/* repair.h - rows of a database, right or wrong, made a tree.
 *
 * A database that somebody edited, or that an older daemon wrote wrongly, must
 * not keep a node down: what makes a tree is kept, the rest is set aside, and
 * each decision is told in words. The decisions depend on the rows alone, not
 * on their order: members with the same rows make the same tree.
 *
 * Where two rows want one place or one guest id, the lower version loses, then
 * the higher inode. What lies in a directory that is set aside goes with it.
 *
 * In a cluster what was repaired must not overrule a copy that is whole. Its
 * tree claims the least there is: cfs_repair_lower(), and cfs_tree_apply()
 * counts on from the true height once a change is made to it.
 *
 * Owner   the caller. Rows are borrowed; entries share their data.
 * Errors  none: any rows make a tree.
 * Thread  any.
 * Source  spec/filesystem.md 1.6, 2.1, 2.2, W2, W18, W19, W20.
 */
#ifndef CFS_REPAIR_H
#define CFS_REPAIR_H

#include "pmxcfs/core/entry.h"

#include <glib.h>

#define CFS_VERSION_RECORD_NAME "__version__"
/* Counting by one a daemon gets nowhere near. */
#define CFS_MAX_VERSION (G_GUINT64_CONSTANT(1) << 62)

/* One row as the file has it. */
typedef struct {
    guint64 inode;
    guint64 parent;
    guint64 version;
    guint32 writer;
    guint32 mtime;
    guint8 type;
    GBytes *name; /* owned; any bytes, also none */
    GBytes *data; /* owned; NULL: none */
} CfsRow;

/* Copies the name, takes a reference to @data (nullable). */
CfsRow *cfs_row_new(guint64 inode,
                    guint64 parent,
                    guint64 version,
                    guint32 writer,
                    guint32 mtime,
                    guint8 type,
                    gconstpointer name,
                    gsize name_size,
                    GBytes *data);
void cfs_row_free(CfsRow *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRow, cfs_row_free)
/* An array of CfsRow that frees them. */
GPtrArray *cfs_rows_new(void);

typedef struct {
    GPtrArray *entries;   /* of CfsEntry, with the root: they make a tree */
    GPtrArray *decisions; /* of char *, one line each; none: nothing to do */
    guint n_set_aside;    /* rows of which nothing is left */
} CfsRepair;

/* @rows: of CfsRow. */
CfsRepair *cfs_repair_rows(GPtrArray *rows);
void cfs_repair_free(CfsRepair *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRepair, cfs_repair_free)
/* Notes something that the one who read the rows found. */
void cfs_repair_note(CfsRepair *self, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
/* Lets the tree's version be no lower than what is in it (W20): for a node on
 * its own. A decision when there was something to do. */
void cfs_repair_raise(CfsRepair *self);
/* Gives the tree the lowest claim: below every copy that was ever worked with,
 * above one that is new and empty. */
void cfs_repair_lower(CfsRepair *self);

#endif
