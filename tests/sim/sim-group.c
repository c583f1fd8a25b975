#include "config.h"

#include "tests/sim/sim-group.h"

#include <string.h>

typedef struct {
    gboolean member;
    guint32 pid;
    guint partition;
    GQueue out; /* of GBytes: sent, not ordered */
    GQueue in;  /* of SimGet: of configurations that are over */
    guint got;  /* how far in its configuration's log */
} Node;

/* One configuration: its log, ordered once for all its members. */
typedef struct {
    GPtrArray *log; /* of SimGet, MESSAGE only */
} Ring;

struct SimGroup {
    guint n_nodes;
    GRand *rand; /* borrowed */
    Node nodes[SIM_MAX_NODES];
    Ring rings[SIM_MAX_NODES]; /* by partition */
};

void
sim_get_clear(SimGet *self)
{
    g_clear_pointer(&self->bytes, g_bytes_unref);
    g_clear_pointer(&self->members, g_array_unref);
}

static void
get_free(gpointer data)
{
    sim_get_clear(data);
    g_free(data);
}

static SimGet *
get_copy(const SimGet *from)
{
    SimGet *copy = g_memdup2(from, sizeof(*from));

    copy->bytes = from->bytes != NULL ? g_bytes_ref(from->bytes) : NULL;
    copy->members = from->members != NULL ? g_array_ref(from->members) : NULL;
    return copy;
}

SimGroup *
sim_group_new(guint n_nodes, GRand *rand)
{
    SimGroup *self = g_new0(SimGroup, 1);

    g_assert(n_nodes <= SIM_MAX_NODES);
    self->n_nodes = n_nodes;
    self->rand = rand;
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        g_queue_init(&self->nodes[i].out);
        g_queue_init(&self->nodes[i].in);
        self->rings[i].log = g_ptr_array_new_with_free_func(get_free);
    }
    return self;
}

void
sim_group_free(SimGroup *self)
{
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        g_queue_clear_full(&self->nodes[i].out, (GDestroyNotify)g_bytes_unref);
        g_queue_clear_full(&self->nodes[i].in, get_free);
        g_ptr_array_unref(self->rings[i].log);
    }
    g_free(self);
}

static Ring *
ring_of(SimGroup *self, guint node)
{
    return &self->rings[self->nodes[node].partition];
}

/* Ends @partition's configuration: each member will still get the log up to
 * @limit, then what comes next. */
static void
drain(SimGroup *self, guint partition, guint limit)
{
    for (guint i = 0; i < self->n_nodes; i++) {
        Node *node = &self->nodes[i];

        if (!node->member || node->partition != partition) {
            continue;
        }
        for (; node->got < limit; node->got++) {
            g_queue_push_tail(&node->in,
                              get_copy(g_ptr_array_index(
                                  self->rings[partition].log, node->got)));
        }
        node->got = 0;
    }
}

static GArray *
members_of(SimGroup *self, guint partition)
{
    GArray *members = g_array_new(FALSE, FALSE, sizeof(CfsMember));

    for (guint i = 0; i < self->n_nodes; i++) {
        CfsMember member = {i + 1, self->nodes[i].pid};

        if (self->nodes[i].member && self->nodes[i].partition == partition) {
            g_array_append_val(members, member);
        }
    }
    return members;
}

static void
announce(SimGroup *self, guint partition, gboolean has_joined)
{
    g_autoptr(GArray) members = members_of(self, partition);

    for (guint i = 0; i < self->n_nodes; i++) {
        SimGet get = {.kind = SIM_GET_CONFCHG,
                      .members = members,
                      .has_joined = has_joined};

        if (self->nodes[i].member && self->nodes[i].partition == partition) {
            g_queue_push_tail(&self->nodes[i].in, get_copy(&get));
        }
    }
}

/* A change inside one configuration: nothing is lost. */
static void
change_in_order(SimGroup *self, guint partition, gboolean has_joined)
{
    drain(self, partition, self->rings[partition].log->len);
    g_ptr_array_set_size(self->rings[partition].log, 0);
    announce(self, partition, has_joined);
}

void
sim_group_join(SimGroup *self, guint node, guint32 pid)
{
    g_assert(!self->nodes[node].member);
    drain(self, self->nodes[node].partition, ring_of(self, node)->log->len);
    g_ptr_array_set_size(ring_of(self, node)->log, 0);
    self->nodes[node].member = TRUE;
    self->nodes[node].pid = pid;
    self->nodes[node].got = 0;
    announce(self, self->nodes[node].partition, TRUE);
}

static void
remove_member(SimGroup *self, guint node)
{
    self->nodes[node].member = FALSE;
    g_queue_clear_full(&self->nodes[node].out, (GDestroyNotify)g_bytes_unref);
    g_queue_clear_full(&self->nodes[node].in, get_free);
    change_in_order(self, self->nodes[node].partition, FALSE);
}

void
sim_group_leave(SimGroup *self, guint node)
{
    while (sim_group_order(self, node)) {
    }
    remove_member(self, node);
}

void
sim_group_kill(SimGroup *self, guint node)
{
    while (g_rand_boolean(self->rand) && sim_group_order(self, node)) {
    }
    remove_member(self, node);
}

/* How far the members of @old that go to @next get: at least as far as the
 * furthest of them was. */
static guint
side_limit(SimGroup *self, guint old, guint next, const guint *partition)
{
    guint limit = 0, length = self->rings[old].log->len;

    for (guint i = 0; i < self->n_nodes; i++) {
        if (self->nodes[i].member && self->nodes[i].partition == old &&
            partition[i] == next) {
            limit = MAX(limit, self->nodes[i].got);
        }
    }
    return (guint)g_rand_int_range(self->rand, (gint32)limit,
                                   (gint32)length + 1);
}

/* TRUE when @get's sender still is the same process and goes to @next. */
static gboolean
goes_along(SimGroup *self,
           const SimGet *get,
           guint next,
           const guint *partition)
{
    guint node = get->sender.nodeid - 1;

    return self->nodes[node].member &&
           self->nodes[node].pid == get->sender.pid && partition[node] == next;
}

/* Behind the limit there are gaps: only what the side's own members sent is
 * there in full (totem's transitional configuration). */
static void
drain_side(SimGroup *self, guint old, guint next, const guint *partition)
{
    GPtrArray *log = self->rings[old].log;
    guint limit = side_limit(self, old, next, partition);

    for (guint i = 0; i < self->n_nodes; i++) {
        Node *node = &self->nodes[i];

        if (!node->member || node->partition != old || partition[i] != next) {
            continue;
        }
        for (guint k = node->got; k < log->len; k++) {
            const SimGet *get = g_ptr_array_index(log, k);

            if (k < limit || goes_along(self, get, next, partition)) {
                g_queue_push_tail(&node->in, get_copy(get));
            }
        }
        node->got = 0;
    }
}

void
sim_group_partition(SimGroup *self, const guint *partition)
{
    gboolean joined[SIM_MAX_NODES] = {FALSE};
    guint from[SIM_MAX_NODES];

    memset(from, 0xff, sizeof(from));
    for (guint old = 0; old < SIM_MAX_NODES; old++) {
        for (guint next = 0; next < SIM_MAX_NODES; next++) {
            drain_side(self, old, next, partition);
        }
        g_ptr_array_set_size(self->rings[old].log, 0);
    }
    for (guint i = 0; i < self->n_nodes; i++) {
        guint next = partition[i];

        if (self->nodes[i].member) {
            if (from[next] == G_MAXUINT) {
                from[next] = self->nodes[i].partition;
            } else if (from[next] != self->nodes[i].partition) {
                joined[next] = TRUE;
            }
        }
    }
    for (guint i = 0; i < self->n_nodes; i++) {
        self->nodes[i].partition = partition[i];
    }
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        announce(self, i, joined[i]);
    }
}

gboolean
sim_group_is_member(SimGroup *self, guint node)
{
    return self->nodes[node].member;
}

void
sim_group_send(SimGroup *self, guint node, GBytes *bytes)
{
    if (self->nodes[node].member) {
        g_queue_push_tail(&self->nodes[node].out, g_bytes_ref(bytes));
    }
}

gboolean
sim_group_order(SimGroup *self, guint node)
{
    GBytes *bytes = g_queue_pop_head(&self->nodes[node].out);
    SimGet *get;

    if (bytes == NULL) {
        return FALSE;
    }
    get = g_new0(SimGet, 1);
    get->kind = SIM_GET_MESSAGE;
    get->sender = (CfsMember){node + 1, self->nodes[node].pid};
    get->bytes = bytes;
    g_ptr_array_add(ring_of(self, node)->log, get);
    return TRUE;
}

gboolean
sim_group_get(SimGroup *self, guint node, SimGet *out)
{
    Node *me = &self->nodes[node];
    GPtrArray *log = ring_of(self, node)->log;
    SimGet *next = NULL;

    if (!me->member) {
        return FALSE;
    }
    if (me->in.length > 0) {
        next = g_queue_pop_head(&me->in);
    } else if (me->got < log->len) {
        next = get_copy(g_ptr_array_index(log, me->got++));
    }
    if (next == NULL) {
        return FALSE;
    }
    *out = *next;
    g_free(next);
    return TRUE;
}

gboolean
sim_group_has_output(SimGroup *self, guint node)
{
    return self->nodes[node].out.length > 0;
}

gboolean
sim_group_has_input(SimGroup *self, guint node)
{
    const Node *me = &self->nodes[node];

    return me->member &&
           (me->in.length > 0 || me->got < ring_of(self, node)->log->len);
}
