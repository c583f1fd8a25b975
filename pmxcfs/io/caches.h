/* caches.h - what the kernel may keep of our answers, and taking it back.
 *
 * The kernel caches names, missing names, attributes, contents and listings.
 * This room says for how long, notes what the kernel may hold, and when that
 * is no longer so makes it let go, through the notifier. What the kernel was
 * never told is not taken back: changes of others cost a node nothing that
 * does not look at them.
 *
 *   - what was told first may be taken back before it has arrived, and that is
 *     lost: only what is told again may be kept;
 *   - what is being taken back may not be kept, nor anything while there is no
 *     notifier;
 *   - attributes alone are taken back at once, before anything else happens.
 *
 * Watchers are told of a change, a step of announce.h, when all that it and the
 * changes before it made the kernel let go of is gone.
 *
 * Owner   the mount.
 * Units   seconds of the kernel's timeouts.
 * Thread  the loop.
 * Source  DESIGN.md 2; linux/fuse.h.
 */
#ifndef CFS_CACHES_H
#define CFS_CACHES_H

#include "pmxcfs/core/metrics.h"
#include "pmxcfs/io/inodes.h"

#include <glib.h>

typedef struct CfsCaches CfsCaches;

/* Watchers may be told of @step. */
typedef void (*CfsCachesSettled)(gpointer data, guint64 step);
/* The kernel's number of an inode; 0: it cannot have one. */
typedef guint64 (*CfsCachesNumber)(guint64 inode);

/* Borrows @inodes. Nothing may be kept before it is started. */
CfsCaches *cfs_caches_new(CfsInodes *inodes,
                          CfsCachesNumber number,
                          CfsCachesSettled settled,
                          gpointer data);
void cfs_caches_free(CfsCaches *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsCaches, cfs_caches_free)
/* Counts what the kernel is told. */
void cfs_caches_set_metrics(CfsCaches *self, CfsMetrics *metrics);
void cfs_caches_collect(CfsCaches *self);
/* As cfs_notifier_new(). */
void cfs_caches_start(CfsCaches *self, int fuse, int mount);
/* From here on nobody is told anything. */
void cfs_caches_stop(CfsCaches *self);

/* What an answer may say; the answer must be given. */

/* A name was looked up in directory @parent: @record is what it means.
 * @attributes: the timeout for those in the same answer. */
double cfs_caches_tell_name(CfsCaches *self,
                            guint64 parent,
                            CfsInode *record,
                            double *attributes);
double
cfs_caches_tell_missing(CfsCaches *self, guint64 parent, const char *name);
/* Named by an answer that nothing is kept of. */
void cfs_caches_tell_first(CfsInode *record);
double cfs_caches_tell_attributes(CfsCaches *self, CfsInode *record);
/* A file or directory is opened to read. FALSE: past the cache. @keep: what
 * is there of its content may stay. */
gboolean
cfs_caches_tell_open(CfsCaches *self, CfsInode *record, gboolean *keep);
/* Some of its content or listing was read. */
void cfs_caches_tell_content(CfsInode *record);

/* What has happened; call before the inodes learn of it. */

/* @changes: of CfsChange. @is_known: the kernel gets a good answer for it.
 * @step: 0 or what watchers wait for. */
void cfs_caches_on_changes(CfsCaches *self,
                           GPtrArray *changes,
                           gboolean is_known,
                           guint64 step);
void cfs_caches_on_reloaded(CfsCaches *self, guint64 step);
/* The newest step that a request of this node made and that is not settled;
 * 0: none. */
guint64 cfs_caches_own_step(CfsCaches *self);
/* FALSE: all such steps up to @step are settled. */
gboolean cfs_caches_has_own_step(CfsCaches *self, guint64 step);
/* Modes are others now. */
void cfs_caches_on_quorum(CfsCaches *self);

#endif
