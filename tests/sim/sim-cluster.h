/* sim-cluster.h - whole clusters of the real core in one process.
 *
 * Everything random comes from one seed, which is printed: the same seed gives
 * the same run, decision by decision (sim_trace_digest()). After every step
 * sim-check.h looks whether all still holds.
 *
 * A node is a host with its corosync and its disk, and a process on it.
 *
 * Owner   the test. Thread: one. Node numbers begin at 0; node ids at 1.
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "pmxcfs/core/replica.h"
#include "tests/sim/sim-check.h"

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
SimCheck *sim_check(SimCluster *self);
/* What chance decides inside the next actions follows from @seed. */
void sim_set_dice(SimCluster *self, guint64 seed);

/* --- faults; what makes no sense now does nothing, where it says so */

/* What a stopped node's member will offer: cfs_replica_set_features(); 0: it
 * behaves as a member of the reference. */
void sim_set_features(SimCluster *self, guint node, guint64 features);
/* What corosync's node list has from now on; all nodes at first. */
void sim_set_n_nodes(SimCluster *self, guint n_nodes);
/* The process on a node, which keeps its disk; the host comes up with it. */
void sim_start(SimCluster *self, guint node);
/* With the times of locks that cfs_replica_save_locks() gave; NULL: none. */
void sim_start_with_locks(SimCluster *self, guint node, const char *saved);
void sim_crash(SimCluster *self, guint node);
void sim_stop(SimCluster *self, guint node); /* clean */
void sim_wipe(SimCluster *self, guint node); /* a stopped node's disk */
/* The host ends, too, and a tail of what its disk had not flushed. */
void sim_power_off(SimCluster *self, guint node);
/* Bad content on a stopped node's disk: what is at @path is set aside, and the
 * tree gets the lowest claim, as the daemon does at its start. */
void sim_spoil(SimCluster *self, guint node, const char *path);
/* A process that does not run, as after SIGSTOP. */
void sim_pause(SimCluster *self, guint node, gboolean is_paused);
gboolean sim_is_paused(SimCluster *self, guint node);
/* The host's corosync ends, or is there again; the process stays. */
void sim_corosync(SimCluster *self, guint node, gboolean is_up);
gboolean sim_has_corosync(SimCluster *self, guint node);
/* "01|2": who can talk to whom. Every node is named once. */
void sim_split(SimCluster *self, const char *sides);
void sim_heal(SimCluster *self);
/* From now on each process hears of its quorum some time, before or after the
 * group's changes: sim_tell(). */
void sim_set_quorum_lag(SimCluster *self);
/* All in @node's part have quorum until the next cut ("expected votes"). */
void sim_force_quorum(SimCluster *self, guint node);
/* Quorum comes or goes for a moment. */
void sim_flap_quorum(SimCluster *self, guint node);
/* The store fails from now on with this errno; 0: no longer; EBUSY: it waits.
 */
void sim_fail_store(SimCluster *self, guint node, int problem);
void sim_flush_store(SimCluster *self, guint node);
/* The wall clock is set, to so much after the cluster's. */
void sim_set_clock(SimCluster *self, guint node, gint64 skew_ms);
/* The next UPDATE of @node is lost, as a peer of the reference may do. */
void sim_lose_update(SimCluster *self, guint node);
/* Hands @bytes to the group as a message of @node. */
void sim_inject(SimCluster *self, guint node, GBytes *bytes);

/* Seconds, as the node has it. */
guint32 sim_wall_time(SimCluster *self, guint node);

/* --- changes */

/* Asks for a change; takes @op. Its result is counted, not given. */
void sim_submit(SimCluster *self, guint node, CfsOp *op);
/* Asks for a barrier; its result is counted, not given. */
void sim_submit_sync(SimCluster *self, guint node);
/* Asks, runs until the answer is there, and gives the verdict. */
int sim_sync(SimCluster *self, guint node, CfsSyncLevel *level);
/* How many messages of ours, of that kind, all nodes sent so far. */
guint64 sim_n_sent(SimCluster *self, guint16 subtype);
/* Its caller does not want to wait any longer: the oldest one's of @node. */
void sim_interrupt(SimCluster *self, guint node);
/* Asks, runs until the answer is there, and gives the verdict. */
int sim_change(SimCluster *self, guint node, CfsOp *op);
/* Creates the file when it is missing, and writes @text at 0. */
int sim_write(SimCluster *self, guint node, const char *path, const char *text);

/* --- what can happen next; FALSE: nothing of the kind */

gboolean sim_order(SimCluster *self, guint node);  /* its host sends one */
gboolean sim_get(SimCluster *self, guint node);    /* it hears the group */
gboolean sim_commit(SimCluster *self, guint node); /* its store writes one */
gboolean sim_tell(SimCluster *self, guint node);   /* it hears of quorum */
gboolean sim_work(SimCluster *self, guint node);   /* it goes on */
/* Would sim_order(), sim_get(), sim_commit() do something? */
gboolean sim_can_order(SimCluster *self, guint node);
gboolean sim_can_get(SimCluster *self, guint node);
gboolean sim_can_commit(SimCluster *self, guint node);
gboolean sim_can_tell(SimCluster *self, guint node);
gboolean sim_can_work(SimCluster *self, guint node);
/* Any of them. */
gboolean sim_step(SimCluster *self);
/* Until nothing more happens by itself. */
void sim_run(SimCluster *self);
void sim_advance(SimCluster *self, gint64 ms);

/* --- what must hold */

/* Everything is repaired and started, all comes to rest and is equal. */
void sim_end_faults(SimCluster *self);
/* All started nodes: synced, one tree, and each disk holds it. */
void sim_assert_equal_trees(SimCluster *self);
/* Every request of a process that lives got exactly one answer. */
void sim_assert_no_reply_lost(SimCluster *self);
guint64 sim_n_replies(SimCluster *self, int verdict);
/* Barriers that reached it. */
guint64 sim_n_syncs(SimCluster *self, CfsSyncLevel level);
/* Returns: (owned) a hash of every decision so far. */
char *sim_trace_digest(SimCluster *self);

#endif
