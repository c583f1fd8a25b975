/* process.h - a daemon's life outside its loop: lock, fork, pid file, flag.
 *
 * Owner   the main file.
 * Errors  GError in G_FILE_ERROR; CFS_ERROR_CONFIG for names.
 * Thread  the only one, before and after the loop.
 * Source  spec/filesystem.md 1.
 */
#ifndef CFS_PROCESS_H
#define CFS_PROCESS_H

#include "pmxcfs/core/metrics.h"

#include <glib.h>
#include <sys/types.h>

/* Returns: (owned) the first address of @name, in the resolver's order, that
 * is not of this host alone; NULL with @error set. May wait for a resolver. */
char *cfs_process_resolve(const char *name, GError **error);
/* The state and runtime directories. */
gboolean cfs_process_make_directories(gid_t group, GError **error);
/* Returns a descriptor that holds the lock of this host's daemon, also across
 * fork(2), until the last copy is closed; -1 with @error set when another
 * holds it for 10 s. */
int cfs_process_lock(GError **error);

/* Forks. In the child it returns a descriptor for cfs_process_started(), and
 * stderr is still the caller's. The parent does not return: it exits with 0
 * when the child has started and @probe can be looked at, with 255 when the
 * child ends before. */
int cfs_process_fork(const char *probe);
/* Leaves the caller's terminal and lets the parent go. */
void cfs_process_started(int parent);

/* Sets what the kernel knows of us. */
void cfs_process_collect(CfsMetrics *metrics);

gboolean cfs_process_write_pid(GError **error);
void cfs_process_remove_pid(void);
/* Seconds since the epoch, later than that of any start before on this boot:
 * clients keep what they know as long as it is the same. */
guint32 cfs_process_start_time(void);
/* While it is there clients wait for us to come back. */
void cfs_process_raise_restart_flag(gid_t group);
void cfs_process_lower_restart_flag(void);

#endif
