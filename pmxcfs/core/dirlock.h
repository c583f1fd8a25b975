/* dirlock.h - how long each lock directory has been held.
 *
 * Each member keeps, per lock, the checksum of its entry and when it first saw
 * it; nothing of it is replicated. When somebody asks for an expired lock, the
 * member with the lowest node id removes it. Where that one did not within 2 s,
 * because its clock began later, any other does whose own says so.
 *
 * The times are saved as a text, so that they survive a restart.
 *
 * Owner   the replica.
 * Units   milliseconds of a clock that is the same for all processes of a boot.
 * Thread  the loop.
 * Source  spec/filesystem.md 8; spec/replication.md 5.4.
 */
#ifndef CFS_DIRLOCK_H
#define CFS_DIRLOCK_H

#include "pmxcfs/core/tree.h"

#include <glib.h>

#define CFS_LOCK_TIMEOUT_MS 120000
#define CFS_LOCK_GRACE_MS 2000
/* A renewal may carry a time this much after the renewer's own. */
#define CFS_LOCK_MAX_AHEAD_S 60u

typedef struct CfsDirlock CfsDirlock;

CfsDirlock *cfs_dirlock_new(void);
void cfs_dirlock_free(CfsDirlock *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsDirlock, cfs_dirlock_free)

/* A direct child of priv/lock: a directory there is a lock. */
gboolean cfs_dirlock_is_lock(const char *path);

/* Looks at every lock of the tree: new or changed ones start their time now,
 * unchanged ones keep theirs, others are forgotten. */
void cfs_dirlock_reload(CfsDirlock *self, CfsTree *tree, gint64 clock_ms);
/* Notes what an operation did to a lock. */
void cfs_dirlock_on_change(CfsDirlock *self,
                           const CfsChange *change,
                           gint64 clock_ms);
/* TRUE when the lock is held for more than 120 s. A lock seen for the first
 * time, or changed, starts its time now. */
gboolean cfs_dirlock_is_expired(CfsDirlock *self,
                                const char *path,
                                const CfsEntry *entry,
                                gint64 clock_ms);

/* The lowest member should remove this lock: see after the grace whether it
 * did. */
void cfs_dirlock_expect_removal(CfsDirlock *self,
                                const CfsOp *request,
                                gint64 clock_ms);
/* Returns: (owned) a request whose grace is over, or NULL. */
CfsOp *cfs_dirlock_take_overdue(CfsDirlock *self, gint64 clock_ms);
/* They are of a membership that is gone. */
void cfs_dirlock_forget_expected(CfsDirlock *self);

/* Returns: (owned) all times, or NULL when none has changed since. */
char *cfs_dirlock_save(CfsDirlock *self);
/* Takes over what cfs_dirlock_save() gave, before the first reload: locks that
 * are still the same keep their times. Bad lines are skipped. */
void cfs_dirlock_restore(CfsDirlock *self, const char *text, gint64 clock_ms);

#endif
