/* corosync-conf.h - takes the tree's corosync.conf over to this host.
 *
 * A change is settled when the file was renamed into place, or when its last
 * writer has closed it. Nodes that run this daemon tell of that; of a writer on
 * another kind of node, 2 s of quiet must do. Then it is checked; if it is
 * whole and newer than the host's, that is replaced atomically, and the node
 * the change came from makes all corosyncs read it (corosync-cfgtool -R). What
 * is refused leaves the host's file as it is and is logged once.
 *
 * Owner   the daemon, in cluster mode.
 * Thread  the loop. Reading and writing the host's file, which a slow disk can
 *         hold up, runs in a worker thread on copies; the reload is a child.
 * Source  spec/filesystem.md 11.
 */
#ifndef CFS_COROSYNC_CONF_H
#define CFS_COROSYNC_CONF_H

#include "pmxcfs/core/tree.h"

#include <glib.h>

typedef struct CfsCorosyncConf CfsCorosyncConf;

typedef struct {
    /* Is that file open for writing on this node? */
    gboolean (*is_being_written)(gpointer data, guint64 inode);
    /* For the cluster log: it was not taken over, and why. */
    void (*on_refused)(gpointer data, const char *text);
    gpointer data;
} CfsCorosyncConfHandler;

CfsCorosyncConf *cfs_corosync_conf_new(const char *node_name,
                                       const CfsCorosyncConfHandler *handler);
/* Forgets what is not settled: the next start does it. Never waits. */
void cfs_corosync_conf_free(CfsCorosyncConf *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsCorosyncConf, cfs_corosync_conf_free)

/* At start, before the loop runs: waits until the host's file is right, so
 * that a corosync started after us finds it. */
void cfs_corosync_conf_start(CfsCorosyncConf *self, CfsTree *tree);
/* @is_own: asked for on this node. */
void cfs_corosync_conf_on_changed(CfsCorosyncConf *self,
                                  const CfsChange *change,
                                  gboolean is_own);
/* Its last writer on @nodeid has closed @entry. */
void cfs_corosync_conf_on_settled(CfsCorosyncConf *self,
                                  const CfsEntry *entry,
                                  guint32 nodeid);
/* After a state transfer: copied without a reload. */
void cfs_corosync_conf_on_reloaded(CfsCorosyncConf *self, CfsTree *tree);

#endif
