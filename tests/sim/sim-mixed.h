/* sim-mixed.h - clusters of ours and of the reference's model, in one process.
 *
 * Simpler than sim-cluster.h: disks are perfect, and what is written is there.
 * Everything random comes from one seed.
 *
 * Owner   the test. Thread: one. Node numbers begin at 0; node ids at 1.
 */
#ifndef SIM_MIXED_H
#define SIM_MIXED_H

#include "pmxcfs/core/replica.h"
#include "tests/sim/sim-reference.h"

typedef struct SimMixed SimMixed;

/* @kinds: a letter for each node, 'o' for ours, 'r' for the reference. All are
 * stopped and their disks are empty. */
SimMixed *sim_mixed_new(const char *kinds, guint32 seed);
void sim_mixed_free(SimMixed *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimMixed, sim_mixed_free)

/* Before any start: ours know how many nodes there are, so that a majority of
 * them begins terms (terms.h). Else the rule of the reference decides alone. */
void sim_mixed_tell_nodes(SimMixed *self);

guint sim_mixed_n_nodes(SimMixed *self);
gboolean sim_mixed_is_ours(SimMixed *self, guint node);
gboolean sim_mixed_is_up(SimMixed *self, guint node);
CfsTree *sim_mixed_tree(SimMixed *self, guint node);
CfsReplica *sim_mixed_replica(SimMixed *self, guint node); /* NULL: reference */
SimReference *sim_mixed_reference(SimMixed *self, guint node); /* or NULL */

void sim_mixed_start(SimMixed *self, guint node);
void sim_mixed_start_all(SimMixed *self); /* and runs */
void sim_mixed_stop(SimMixed *self, guint node);
void sim_mixed_kill(SimMixed *self, guint node);
void sim_mixed_wipe(SimMixed *self, guint node);
/* A stopped node's disk is that of @from, a stopped or running one. */
void sim_mixed_copy_disk(SimMixed *self, guint node, guint from);
/* Changes a stopped node's disk, as in local mode. Takes @op. */
void sim_mixed_edit(SimMixed *self, guint node, CfsOp *op);
void sim_mixed_pause(SimMixed *self, guint node, gboolean is_paused);
/* corosync on @node ends and is there again: the process stays. */
void sim_mixed_restart_corosync(SimMixed *self, guint node);
/* "01|2"; a '!' behind a side gives it quorum whatever it has. */
void sim_mixed_split(SimMixed *self, const char *sides);
void sim_mixed_heal(SimMixed *self);
/* The wall clock of @node is so much ahead. */
void sim_mixed_set_clock(SimMixed *self, guint node, guint32 ahead_s);
void sim_mixed_inject(SimMixed *self, guint node, GBytes *bytes);
/* @n of the next UPDATEs that @node sends get lost. */
void sim_mixed_lose_updates(SimMixed *self, guint node, guint n);

/* Takes @op. Returns its number, for sim_mixed_verdict(). */
guint64 sim_mixed_submit(SimMixed *self, guint node, CfsOp *op);
/* -1: no answer yet. */
int sim_mixed_verdict(SimMixed *self, guint node, guint64 request);
/* Runs until it is answered. */
int sim_mixed_change(SimMixed *self, guint node, CfsOp *op);
int
sim_mixed_write(SimMixed *self, guint node, const char *path, const char *text);
/* As the reference's front end would do it, which sends it as it is. */
void sim_mixed_send(SimMixed *self, guint node, CfsOp *op);

/* One random thing that can happen. FALSE: nothing can. */
gboolean sim_mixed_step(SimMixed *self);
/* Until nothing more happens, with the time that those need who left. */
void sim_mixed_run(SimMixed *self);
void sim_mixed_advance(SimMixed *self, gint64 ms);

/* All that are up are synced and have the same tree. */
void sim_mixed_assert_equal(SimMixed *self);
/* How often the process on @node left the group since it started. */
guint sim_mixed_n_left(SimMixed *self, guint node);
/* How often UPDATEs came to @node while it waited for them: transfers it took
 * part in as one that was behind. */
guint sim_mixed_n_updated(SimMixed *self, guint node);
/* The entry of @path on @node, ours, was overruled by another copy. */
gboolean sim_mixed_was_overruled(SimMixed *self, guint node, const char *path);
guint sim_mixed_n_overruled(SimMixed *self, guint node);
/* Of the last round, once all have heard of it. */
CfsEpoch sim_mixed_epoch(SimMixed *self);
/* UPDATE messages that were sent, by all. */
guint sim_mixed_n_updates(SimMixed *self);

#endif
