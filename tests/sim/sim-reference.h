/* sim-reference.h - a member that behaves as the reference does.
 *
 * A small model of its own, made from spec/replication.md 7 and 8 alone: its
 * state machine with its quirks, so that clusters of both can be simulated. It
 * shares with ours what an operation does to a tree and the bytes of entries,
 * nothing of how members become equal:
 *   - it leaves for every message out of turn, and comes back after 6 s;
 *   - in UPDATE it puts changes of members that are behind after all others
 *     (12.2);
 *   - a commit that failed once makes it end at its next change;
 *   - as leader it dies of an entry with a size and no content (12.1);
 *   - it sends changes at once, synchronised or not;
 *   - it has no messages but those of the specification.
 *
 * Owner   the test. Thread: one.
 * Units   as replica.h.
 */
#ifndef SIM_REFERENCE_H
#define SIM_REFERENCE_H

#include "pmxcfs/core/message.h"
#include "pmxcfs/core/tree.h"

#include <glib.h>

typedef struct SimReference SimReference;

typedef enum {
    SIM_REFERENCE_START,
    SIM_REFERENCE_START_SYNC,
    SIM_REFERENCE_SYNCED,
    SIM_REFERENCE_UPDATE,
    SIM_REFERENCE_LEAVE,         /* the group must be left for it */
    SIM_REFERENCE_VERSION_ERROR, /* likewise, and for good */
    SIM_REFERENCE_ERROR,         /* likewise */
    SIM_REFERENCE_DEAD,          /* crashed */
} SimReferenceMode;

/* Takes @tree. */
SimReference *sim_reference_new(CfsMember self, CfsTree *tree);
void sim_reference_free(SimReference *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimReference, sim_reference_free)

SimReferenceMode sim_reference_mode(SimReference *self);
CfsTree *sim_reference_tree(SimReference *self); /* borrowed */
void sim_reference_set_time(SimReference *self, guint32 time_s);
void sim_reference_set_quorate(SimReference *self, gboolean quorate);
/* The group is about to be joined (again). */
void sim_reference_start(SimReference *self);
void sim_reference_confchg(SimReference *self,
                           const CfsMember *members,
                           guint n_members,
                           gboolean has_joined);
void sim_reference_hear(SimReference *self, CfsMember sender, GBytes *bytes);
/* What it does each hour as the lowest node. */
void sim_reference_verify(SimReference *self);

/* Returns: the number of a change that was asked for, for
 * sim_reference_verdict(). Takes @op. */
guint64 sim_reference_submit(SimReference *self, CfsOp *op);
/* -1: not answered yet. */
int sim_reference_verdict(SimReference *self, guint64 request);
/* Returns: (owned) the oldest message to send, or NULL. */
GBytes *sim_reference_take_sent(SimReference *self);
/* Verifications that went well. */
guint sim_reference_n_verified(SimReference *self);
/* How often it was in UPDATE. */
guint sim_reference_n_updated(SimReference *self);
/* Updates it sent as the leader of the last round. */
guint sim_reference_n_sent(SimReference *self);

#endif
