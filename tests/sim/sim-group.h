/* sim-group.h - closed process groups in memory.
 *
 * What corosync promises and what it does not (cpg_overview(3), totem):
 *   - members of one configuration get the same messages in the same order;
 *   - what one of them got before a change, all that go on with it get before
 *     the change, but not what only the other side got (agreed, not safe);
 *   - what was sent and not ordered goes out in the next configuration, or
 *     dies with its sender.
 * Who is how far is random, by the cluster's own source.
 *
 * Owner   the cluster. Thread: one.
 */
#ifndef SIM_GROUP_H
#define SIM_GROUP_H

#include "pmxcfs/core/message.h"

#include <glib.h>

#define SIM_MAX_NODES 16u

typedef struct SimGroup SimGroup;

typedef enum {
    SIM_GET_MESSAGE,
    SIM_GET_CONFCHG,
} SimGetKind;

/* What a member gets next. */
typedef struct {
    SimGetKind kind;
    CfsMember sender; /* MESSAGE */
    GBytes *bytes;    /* MESSAGE, owned */
    GArray *members;  /* CONFCHG, of CfsMember, owned */
    gboolean has_joined;
} SimGet;

void sim_get_clear(SimGet *self);

SimGroup *sim_group_new(guint n_nodes, GRand *rand);
void sim_group_free(SimGroup *self);

/* @process starts on @node and asks to join; a node has one process. */
void sim_group_join(SimGroup *self, guint node, guint32 pid);
/* The process leaves in order: what it sent goes out first. */
void sim_group_leave(SimGroup *self, guint node);
/* The process dies: a random part of what it sent goes out. */
void sim_group_kill(SimGroup *self, guint node);
/* Gives each node's partition number; changes membership where needed. */
void sim_group_partition(SimGroup *self, const guint *partition);

gboolean sim_group_is_member(SimGroup *self, guint node);
void sim_group_send(SimGroup *self, guint node, GBytes *bytes);
/* Orders the oldest unordered message of @node. FALSE: it has none. */
gboolean sim_group_order(SimGroup *self, guint node);
/* TRUE and @out filled when @node has something to get. */
gboolean sim_group_get(SimGroup *self, guint node, SimGet *out);
gboolean sim_group_has_output(SimGroup *self, guint node);
gboolean sim_group_has_input(SimGroup *self, guint node);

#endif
