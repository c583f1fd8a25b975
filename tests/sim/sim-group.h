/* sim-group.h - closed process groups in memory.
 *
 * What corosync promises and what it does not (cpg_overview(3), totem):
 *   - hosts of one ring order the same messages, joins and leaves alike;
 *   - what one host of a ring got before the ring ends, all that go on with it
 *     get before the next, but not what only the other side got (agreed, not
 *     safe); behind a gap there is only what the own side sent (totem's
 *     transitional configuration);
 *   - a new ring tells the processes first who is gone, then who is new, or
 *     both at once;
 *   - what was sent and not ordered goes out in the next ring, and dies with
 *     its host; a part of it dies with its process;
 *   - a process reads as slowly as it likes: its host keeps what it got.
 * Who is how far is random, by dice that each step may set anew.
 *
 * Owner   the cluster. Thread: one. Hosts begin at 0, node ids at 1.
 */
#ifndef SIM_GROUP_H
#define SIM_GROUP_H

#include "pmxcfs/core/message.h"
#include "tests/sim/sim-dice.h"

#include <glib.h>

#define SIM_MAX_NODES 16u

typedef struct SimGroup SimGroup;

typedef enum {
    SIM_GET_MESSAGE,
    SIM_GET_CONFCHG,
} SimGetKind;

/* What a process gets next. */
typedef struct {
    SimGetKind kind;
    CfsMember sender; /* MESSAGE */
    GBytes *bytes;    /* MESSAGE, owned */
    GArray *members;  /* CONFCHG, of CfsMember, owned */
    gboolean has_joined;
    guint64 place; /* who got this got all before it in its ring, alike */
    guint64 ring;
} SimGet;

void sim_get_clear(SimGet *self);

/* All hosts run, in one ring. */
SimGroup *sim_group_new(guint n_nodes, guint64 seed);
void sim_group_free(SimGroup *self);
/* What is left to chance follows from @seed from now on. */
void sim_group_set_dice(SimGroup *self, guint64 seed);

/* The process of @node asks to join; a node has one. */
void sim_group_join(SimGroup *self, guint node, guint32 pid);
/* The process leaves in order: what it sent goes out first. */
void sim_group_leave(SimGroup *self, guint node);
/* The process dies: a random part of what it sent goes out. */
void sim_group_kill(SimGroup *self, guint node);
/* Gives each node's partition number, below SIM_MAX_NODES. Hosts that are down
 * stay so, and go there when they come up. */
void sim_group_partition(SimGroup *self, const guint *partition);
guint sim_group_partition_of(SimGroup *self, guint node);
/* The host's corosync ends, with what it had not sent; its process must have
 * been taken from it by sim_group_drop(). */
void sim_group_host_down(SimGroup *self, guint node);
void sim_group_host_up(SimGroup *self, guint node);
gboolean sim_group_is_host_up(SimGroup *self, guint node);
/* The process is no longer served; nobody hears of it. */
void sim_group_drop(SimGroup *self, guint node);

/* It joined, or asked to. */
gboolean sim_group_is_member(SimGroup *self, guint node);
void sim_group_send(SimGroup *self, guint node, GBytes *bytes);
/* Orders the oldest of what @node's host has to send. FALSE: nothing. */
gboolean sim_group_order(SimGroup *self, guint node);
/* TRUE and @out filled when the process of @node has something to get. */
gboolean sim_group_get(SimGroup *self, guint node, SimGet *out);
gboolean sim_group_has_output(SimGroup *self, guint node);
gboolean sim_group_has_input(SimGroup *self, guint node);

#endif
