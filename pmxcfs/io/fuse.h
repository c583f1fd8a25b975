/* fuse.h - the mount: requests of the kernel in, answers out.
 *
 * libfuse's low level in the loop's one thread. Reads are answered at once
 * from the tree. A change becomes a request to the replica and its fuse_req_t
 * is parked until the answer comes; thousands can be. What the kernel gets to
 * see of an entry is looked up when the answer is written, not before.
 *
 * Node ids: 1 the root, then the virtual entries, then tree inode + a base;
 * st_ino and d_ino are the same numbers.
 *
 * Owner   the daemon.
 * Errors  verdicts to the kernel; GError for what keeps us from serving.
 * Thread  the loop.
 * Source  spec/filesystem.md 4, 5; DESIGN.md 2.
 */
#ifndef CFS_FUSE_H
#define CFS_FUSE_H

#include "pmxcfs/io/effects.h"

#include <glib.h>
#include <sys/types.h>

typedef struct CfsFuse CfsFuse;

typedef struct {
    void (*on_ready)(gpointer data); /* the kernel has said hello */
    void (*on_ended)(gpointer data); /* somebody unmounted it */
    gpointer data;
} CfsFuseHandler;

/* Becomes the client of @effects (borrowed). @group owns what is shown. */
CfsFuse *cfs_fuse_new(CfsEffects *effects,
                      gid_t group,
                      const CfsFuseHandler *handler,
                      GError **error);
/* Mounts at @path and begins to serve. */
gboolean cfs_fuse_start(CfsFuse *self, const char *path, GError **error);
/* Is that file open for writing by anybody here? */
gboolean cfs_fuse_is_being_written(CfsFuse *self, guint64 inode);
/* Sets what it knows: requests, handles, caches. */
void cfs_fuse_collect(CfsFuse *self);
/* Answers what is parked with EBUSY and unmounts. */
void cfs_fuse_stop(CfsFuse *self);
/* Stops first, if need be. */
void cfs_fuse_free(CfsFuse *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsFuse, cfs_fuse_free)

#endif
