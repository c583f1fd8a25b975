/* sim-check.h - what must hold, looked at after every step.
 *
 *   digest    two members that are synced, and got the same messages of one
 *             ring, hold the same tree
 *   lineage   what a state transfer or a database gives is a tree that some
 *             node had; one operation makes one version
 *   answers   each request gets one answer; success means that the change was
 *             applied here before
 *   wire      sim-wire.h
 *   version   no number in .version goes back while the process lives
 *   guests    no CTID twice
 *   locks     a lock directory goes when its holder says so, or 120 s after
 *             its last renewal; nobody gets it while another holds it
 *   durable   what a barrier answered "majority" for was on the disks of a
 *             strict majority of the nodes, and is in the tree of each member
 *             that is synced in a strict majority, ever after
 *   transfer  no state transfer fails while all peers are sound
 *   stuck     when the network is whole all are synced, with one tree
 *   disk      ... which is what their databases hold
 *
 * The first violation is kept; tests that tell a story end with it at once.
 *
 * Owner   the cluster. Thread: one.
 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "pmxcfs/core/replica.h"
#include "tests/sim/sim-group.h"

#include <glib.h>

typedef struct SimCheck SimCheck;

SimCheck *sim_check_new(void);
void sim_check_free(SimCheck *self);
/* From now on a violation is kept instead of ending the test. */
void sim_check_keep(SimCheck *self);
/* Somebody sent what no sound member sends: leaving is no fault from now on. */
void sim_check_bad_peer(SimCheck *self);
void sim_check_trace(SimCheck *self, guint node, const char *text);
/* NULL: there is none. "name: what". */
const char *sim_check_violation(SimCheck *self);
void sim_check_fail(SimCheck *self, const char *name, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* A process begins with what its database gave, and ends. */
void sim_check_start(SimCheck *self,
                     guint node,
                     CfsMember member,
                     CfsReplica *replica);
void sim_check_end(SimCheck *self, guint node);
/* Somebody else wrote to the database of @node. */
void sim_check_edited(SimCheck *self, guint node);

/* The disks, and how many nodes there are: which barriers look at. */
typedef guint64 (*SimFlushedHash)(gpointer data, guint node);
void sim_check_set_disks(SimCheck *self,
                         guint n_nodes,
                         SimFlushedHash flushed_hash,
                         gpointer data);
/* What was on the disk of @node is lost: from now on nothing is promised. */
void sim_check_lost_disk(SimCheck *self, guint node);
/* Some members keep no terms: nothing is promised. */
void sim_check_no_terms(SimCheck *self);
void sim_check_sync(SimCheck *self, guint node, guint64 id);
void sim_check_sync_cancel(SimCheck *self, guint node, guint64 id);

/* Before the step: a request; what the group gives; anything else. */
void sim_check_request(SimCheck *self, guint node, guint64 id, const CfsOp *op);
void sim_check_get(SimCheck *self, guint node, const SimGet *get);
void sim_check_other(SimCheck *self, guint node);
/* After it: its effects in order, then the end. */
void sim_check_effect(SimCheck *self,
                      guint node,
                      const CfsEffect *effect,
                      gint64 clock_ms);
void sim_check_after(SimCheck *self, guint node);

/* Now and then: what costs more to look at. */
void sim_check_whole(SimCheck *self, guint node);
/* The node whose client has the lock at @path, as far as it can know; -1: none.
 */
int sim_check_holder(SimCheck *self, const char *path);
/* The hash of what the node has, for comparing disks. */
guint64 sim_check_hash(SimCheck *self, guint node);

#endif
