/* rrd.h - measurements into the files of rrdcached(1).
 *
 * Speaks with its socket and waits for nothing. Where there is no rrdcached
 * measurements are not kept, and nothing is said about it; when it comes they
 * are. What it is too slow for is dropped, the oldest first.
 *
 * Directories are made by a thread: they are on a disk.
 *
 * Owner   the daemon.
 * Thread  the loop.
 * Source  rrdcached(1), PROTOCOL; spec/ipc.md 6.2, 6.3.
 */
#ifndef CFS_RRD_H
#define CFS_RRD_H

#include <glib.h>

typedef struct CfsRrd CfsRrd;

/* @socket_path: rrdcached's; @base: the directory of its files. Literals. */
CfsRrd *cfs_rrd_new(const char *socket_path, const char *base);
void cfs_rrd_free(CfsRrd *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRrd, cfs_rrd_free)

/* A CfsStatusArchive; @self is the data. */
void cfs_rrd_add(gpointer self, const char *key, const char *value);

#endif
