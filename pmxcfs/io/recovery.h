/* recovery.h - a start with whatever stands where the database belongs.
 *
 * No content keeps a node down. What cannot be used is moved to
 * PATH.corrupt-<epoch>, with its log of changes; what could be saved of it is
 * written to a new file in its place. A healthy database passes through
 * untouched.
 *
 *     opened, read, judged --> (the caller decides) --> finished
 *
 * Owner   the caller.
 * Errors  GError: the world fails - no room, no access, locked by somebody.
 * Thread  before the store's begins.
 * Source  spec/filesystem.md 1.6.
 */
#ifndef CFS_RECOVERY_H
#define CFS_RECOVERY_H

#include "pmxcfs/core/repair.h"
#include "pmxcfs/io/store.h"

typedef struct {
    char *path;
    gboolean is_new;           /* nothing was there: make a tree */
    gboolean has_damage;       /* something was set aside or cannot be read */
    gboolean has_saved;        /* something is left of it */
    gboolean is_unwritable;    /* no room on the disk: it can only be read */
    gboolean may_lack_cluster; /* corosync.conf can be among that */
    CfsRepair *repair;
    CfsDbTerms terms; /* of one that can only be read */
} CfsRecovery;

/* Opens @path and reads it all. @store is set to the open store, NULL where
 * the file is of no use. */
CfsRecovery *
cfs_recovery_open(const char *path, CfsStore **store, GError **error);
void cfs_recovery_free(CfsRecovery *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRecovery, cfs_recovery_free)

/* The tree gets the lowest claim, and the log says so. */
void cfs_recovery_lower(CfsRecovery *self);
/* Logs each decision; puts the entries of the repair in place where they are
 * not what the file has. @store is the open store then. */
gboolean
cfs_recovery_finish(CfsRecovery *self, CfsStore **store, GError **error);

#endif
