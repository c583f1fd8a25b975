/* lock-timers.h - keeps the times of the lock directories over a restart.
 *
 * A lock that is held for 120 s may be taken from its holder. The time it has
 * been held must not begin anew whenever the daemon is restarted, so it is
 * written to the runtime directory, which a boot of the host empties.
 *
 * Owner   the daemon.
 * Thread  the loop. The file is small and in memory; it is written at most
 *         once a second, and only when something has changed.
 * Source  spec/filesystem.md 8, "Better".
 */
#ifndef CFS_LOCK_TIMERS_H
#define CFS_LOCK_TIMERS_H

#include "pmxcfs/core/replica.h"

typedef struct CfsLockTimers CfsLockTimers;

/* Restores what was saved in this boot. Borrows @replica, which has not been
 * connected yet. */
CfsLockTimers *cfs_lock_timers_new(CfsReplica *replica);
/* Saves for the last time. */
void cfs_lock_timers_free(CfsLockTimers *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsLockTimers, cfs_lock_timers_free)

#endif
