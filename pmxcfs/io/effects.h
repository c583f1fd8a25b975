/* effects.h - the world around the replica: events in, effects out.
 *
 * The one place where events get their time, and where effects are carried
 * out, in order: messages go to the group, rows to the store, answers and
 * changes to the client (the mount). All rows of one bundle of events become
 * one transaction; what no answer here waits for is written a little later,
 * with what came meanwhile: the node it was done on has it on its disk. An
 * answer that must be stored waits for the transactions before it; a commit
 * that takes too long, or fails because somebody holds the database, lets it go
 * from memory and marks this node not durable until the store has caught up
 * (DESIGN.md 2). A commit that fails answers what waits for it with its errno.
 *
 * Owner   the daemon.
 * Thread  the loop.
 */
#ifndef CFS_EFFECTS_H
#define CFS_EFFECTS_H

#include "pmxcfs/core/metrics.h"
#include "pmxcfs/core/replica.h"
#include "pmxcfs/io/group.h"
#include "pmxcfs/io/salvage.h"
#include "pmxcfs/io/store.h"

#include <glib.h>

typedef struct CfsEffects CfsEffects;

typedef struct {
    /* @entry: what a CREATE or MKDIR made, borrowed; else NULL. */
    void (*on_reply)(gpointer data, guint64 id, int verdict, CfsEntry *entry);
    /* What one operation did; @origin: the request that made it, if it is one
     * of ours; @step: for cfs_views_release(), or 0. */
    void (*on_changed)(gpointer data,
                       GPtrArray *changes,
                       guint64 origin,
                       guint64 step);
    void (*on_reloaded)(gpointer data, guint64 step);
    void (*on_quorum)(gpointer data); /* it came or went: modes change */
    gpointer data;
} CfsEffectsClient;

/* Who also wants to know what changes; before the client hears of it. */
typedef struct {
    /* @is_own: it was asked for on this node. */
    void (*on_changed)(gpointer data, const CfsChange *change, gboolean is_own);
    void (*on_reloaded)(gpointer data);
    /* For the cluster log; @priority as in syslog(3). */
    void (*on_log)(gpointer data, int priority, const char *text);
    /* A CFS_EFFECT_CHANGED, behind its changes. */
    void (*on_applied)(gpointer data, const CfsEffect *effect);
    void (*on_settled)(gpointer data, const CfsEffect *effect);
    void (*on_turn)(gpointer data); /* a bundle of events is over */
    gpointer data;
} CfsEffectsWatcher;

/* Borrows all; the store is not yet started. Ticks from here on. */
CfsEffects *cfs_effects_new(CfsReplica *replica);
void cfs_effects_free(CfsEffects *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsEffects, cfs_effects_free)
/* Borrowed until NULL is set, or for good. Effects for one that is not there
 * are dropped. */
void cfs_effects_set_store(CfsEffects *self, CfsStore *store);
void cfs_effects_set_group(CfsEffects *self, CfsGroup *group);
void cfs_effects_set_salvage(CfsEffects *self, CfsSalvage *salvage);
void cfs_effects_set_client(CfsEffects *self, const CfsEffectsClient *client);
void cfs_effects_set_watcher(CfsEffects *self,
                             const CfsEffectsWatcher *watcher);

/* What is counted from here on; borrowed. */
void cfs_effects_set_metrics(CfsEffects *self, CfsMetrics *metrics);
/* Borrowed; NULL: nothing is counted. */
CfsMetrics *cfs_effects_metrics(CfsEffects *self);
/* Sets what it knows: the replica, the tree, the store. */
void cfs_effects_collect(CfsEffects *self);

/* Between them events make one bundle. They nest. */
void cfs_effects_begin(CfsEffects *self);
void cfs_effects_end(CfsEffects *self);

void cfs_effects_request(CfsEffects *self, guint64 id, const CfsOp *op);
void cfs_effects_connected(CfsEffects *self, CfsMember member);
void cfs_effects_disconnected(CfsEffects *self);
void cfs_effects_confchg(CfsEffects *self,
                         const CfsMember *members,
                         guint n_members,
                         gboolean has_joined);
void cfs_effects_message(CfsEffects *self, CfsMember sender, GBytes *bytes);
/* @n_nodes: whom corosync sees. */
void cfs_effects_quorum(CfsEffects *self, gboolean quorate, guint n_nodes);
/* A CfsStoreReport; @self is the data. */
void cfs_effects_stored(gpointer self, guint64 committed, int problem);

/* The barrier behind fsync(2) and the IPC call `sync`: answers when everything
 * that this node has applied when asked is on stable storage, and says how far
 * that reached:
 *
 *   verdict 0, MAJORITY  on a strict majority of the nodes of the node list
 *   verdict 0, LOCAL     on this node; no more is to be had now: no cluster,
 *                        reference peers, or too few members of ours
 *   EIO                  not known to be safe: no quorum, the members of the
 *                        group changed and did not agree again within 10 s, a
 *                        merge overruled it, too many disks failed
 *   ENOSPC, EBUSY, EIO   what this node's disk said
 *
 * It waits as long as the disks do; cfs_effects_sync_cancel() ends that. */
typedef void (*CfsEffectsSynced)(gpointer data,
                                 guint64 id,
                                 int verdict,
                                 CfsSyncLevel level);
/* @id comes back with the answer, and is the caller's. Returns: the token for
 * cfs_effects_sync_cancel(). The answer may come before this returns. */
guint64 cfs_effects_sync(CfsEffects *self,
                         CfsEffectsSynced done,
                         gpointer data,
                         guint64 id);
/* No answer comes any more. Unknown tokens are fine: it was just answered. */
void cfs_effects_sync_cancel(CfsEffects *self, guint64 token);
/* The last writer of @inode on this node has closed it. Those of some
 * milliseconds are told together. */
void cfs_effects_closed(CfsEffects *self, guint64 inode);
/* How many nodes corosync's node list has. */
void cfs_effects_nodes(CfsEffects *self, guint n_nodes);
/* FALSE while answers are given from memory. */
gboolean cfs_effects_is_durable(CfsEffects *self);
CfsReplica *cfs_effects_replica(CfsEffects *self);

/* The clock of the events: milliseconds since this host was booted. */
gint64 cfs_effects_clock_ms(void);

#endif
