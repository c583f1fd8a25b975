/* sim-cluster.h - whole clusters of the real core in one process.
 *
 * Everything random comes from one seed, which is printed: the same seed gives
 * the same run, decision by decision (sim_trace_digest()).
 *
 * Owner   the test. Thread: one. Node numbers begin at 0; node ids at 1.
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "pmxcfs/core/replica.h"

#include <glib.h>

typedef struct SimCluster SimCluster;

/* @n nodes, empty and stopped. */
SimCluster *sim_cluster_new_stopped(guint n, guint32 seed);
/* @n nodes, started and synced. */
SimCluster *sim_cluster_new(guint n, guint32 seed);
void sim_cluster_free(SimCluster *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimCluster, sim_cluster_free)

guint sim_n_nodes(SimCluster *self);
GRand *sim_rand(SimCluster *self);
CfsReplica *sim_replica(SimCluster *self, guint node);
gboolean sim_is_up(SimCluster *self, guint node);

/* What a stopped node's member will offer: cfs_replica_set_features(); 0: it
 * behaves as a member of the reference. */
void sim_set_features(SimCluster *self, guint node, guint64 features);
/* What corosync's node list says from now on; all nodes at first. */
void sim_set_n_nodes(SimCluster *self, guint n_nodes);
/* A cut may give a part quorum by votes that were lowered. */
void sim_force_quorum(SimCluster *self, guint node, gboolean quorate);
/* The process on a node, which keeps its disk. */
void sim_start(SimCluster *self, guint node);
/* With the times of locks that cfs_replica_save_locks() gave; NULL: none. */
void sim_start_with_locks(SimCluster *self, guint node, const char *saved);
void sim_crash(SimCluster *self, guint node);
void sim_stop(SimCluster *self, guint node); /* clean */
void sim_wipe(SimCluster *self, guint node); /* a stopped node's disk */
/* Bad content on a stopped node's disk: what is at @path is set aside, and the
 * tree gets the lowest claim, as the daemon does at its start. */
void sim_spoil(SimCluster *self, guint node, const char *path);
/* "01|2": who can talk to whom. Every node is named once. */
void sim_split(SimCluster *self, const char *sides);
void sim_heal(SimCluster *self);
/* Hands @bytes to the group as a message of @node. */
/* How many messages of ours, of that kind, all nodes sent so far. */
guint64 sim_n_sent(SimCluster *self, guint16 subtype);
void sim_inject(SimCluster *self, guint node, GBytes *bytes);

/* Asks for a change; takes @op. Its result is counted, not given. */
void sim_submit(SimCluster *self, guint node, CfsOp *op);
/* Asks, runs until the answer is there, and gives the verdict. */
int sim_change(SimCluster *self, guint node, CfsOp *op);
/* Asks for a barrier; its result is counted, not given. */
void sim_submit_sync(SimCluster *self, guint node);
/* Asks, runs until the answer is there, and gives the verdict. */
int sim_sync(SimCluster *self, guint node, CfsSyncLevel *level);
/* Creates the file when it is missing, and writes @text at 0. */
int sim_write(SimCluster *self, guint node, const char *path, const char *text);

/* One random thing that can happen next. FALSE: nothing can. */
gboolean sim_step(SimCluster *self);
/* Until nothing more happens by itself. */
void sim_run(SimCluster *self);
void sim_advance(SimCluster *self, gint64 ms);

/* All started nodes: synced, one tree, and each disk holds it. */
void sim_assert_equal_trees(SimCluster *self);
/* Every request of a process that lives got exactly one answer. */
void sim_assert_no_reply_lost(SimCluster *self);
guint64 sim_n_replies(SimCluster *self, int verdict);
/* Returns: (owned) SHA-256 of every decision so far. */
char *sim_trace_digest(SimCluster *self);

#endif
