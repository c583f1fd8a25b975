#include "config.h"

#include "tests/sim/sim-private.h"

#include "tests/sim/sim-line.h"

#include <errno.h>
#include <string.h>

/* --- life ----------------------------------------------------------------- */

static guint64
flushed_hash(gpointer data, guint node)
{
    SimCluster *self = data;

    return sim_store_flushed_hash(self->nodes[node].store);
}

SimCluster *
sim_cluster_new_stopped(guint n, guint32 seed)
{
    SimCluster *self = g_new0(SimCluster, 1);

    self->n = n;
    self->n_nodes = n;
    self->rand = g_rand_new_with_seed(seed);
    self->dice.state = seed;
    self->group = sim_group_new(n, sim_dice_next(&self->dice));
    self->check = sim_check_new();
    sim_check_set_disks(self->check, n, flushed_hash, self);
    self->verdicts = g_hash_table_new(NULL, NULL);
    self->next_pid = 100;
    self->verbose = g_getenv("SIM_VERBOSE") != NULL;
    for (guint i = 0; i < n; i++) {
        sim_node_init(&self->nodes[i], self, i);
        /* Clocks differ, and so do the trees of nodes that start alone. */
        self->nodes[i].clock_skew_ms = (gint64)sim_dice(&self->dice, 5000);
    }
    return self;
}

SimCluster *
sim_cluster_new(guint n, guint32 seed)
{
    SimCluster *self = sim_cluster_new_stopped(n, seed);

    g_test_message("seed %u", seed);
    for (guint i = 0; i < n; i++) {
        sim_start(self, i);
    }
    sim_run(self);
    return self;
}

void
sim_cluster_free(SimCluster *self)
{
    if (self == NULL) {
        return;
    }
    for (guint i = 0; i < self->n; i++) {
        sim_node_clear(&self->nodes[i]);
    }
    sim_group_free(self->group);
    sim_check_free(self->check);
    g_hash_table_unref(self->verdicts);
    g_rand_free(self->rand);
    g_free(self);
}

guint
sim_n_nodes(SimCluster *self)
{
    return self->n;
}

GRand *
sim_rand(SimCluster *self)
{
    return self->rand;
}

SimCheck *
sim_check(SimCluster *self)
{
    return self->check;
}

void
sim_set_dice(SimCluster *self, guint64 seed)
{
    self->dice.state = seed;
    sim_group_set_dice(self->group, sim_dice_next(&self->dice));
}

CfsReplica *
sim_replica(SimCluster *self, guint node)
{
    return self->nodes[node].replica;
}

gboolean
sim_is_up(SimCluster *self, guint node)
{
    return self->nodes[node].replica != NULL;
}

/* --- changes -------------------------------------------------------------- */

void
sim_submit(SimCluster *self, guint node, CfsOp *op)
{
    sim_node_submit(&self->nodes[node], ++self->next_request, op);
}

void
sim_interrupt(SimCluster *self, guint node)
{
    sim_node_interrupt(&self->nodes[node]);
}

/* Until the request that is watched has its answer. */
static int
await(SimCluster *self, guint64 id)
{
    while (self->watched == id) {
        if (!sim_step(self)) {
            sim_advance(self, 1000);
        }
    }
    return self->watched_verdict;
}

int
sim_change(SimCluster *self, guint node, CfsOp *op)
{
    guint64 id = ++self->next_request;

    self->watched = id;
    sim_node_submit(&self->nodes[node], id, op);
    return await(self, id);
}

void
sim_submit_sync(SimCluster *self, guint node)
{
    sim_node_submit_sync(&self->nodes[node], ++self->next_request);
}

int
sim_sync(SimCluster *self, guint node, CfsSyncLevel *level)
{
    guint64 id = ++self->next_request;
    int verdict;

    self->watched = id;
    sim_node_submit_sync(&self->nodes[node], id);
    verdict = await(self, id);
    *level = self->level;
    return verdict;
}

guint64
sim_n_sent(SimCluster *self, guint16 subtype)
{
    return self->sent[subtype];
}

int
sim_write(SimCluster *self, guint node, const char *path, const char *text)
{
    g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));
    int verdict = sim_change(self, node, cfs_op_new(CFS_OP_CREATE, path));

    if (verdict != 0 && verdict != EEXIST) {
        return verdict;
    }
    return sim_change(self, node, cfs_op_new_write(path, data, 0));
}

/* --- time ----------------------------------------------------------------- */

gboolean
sim_order(SimCluster *self, guint node)
{
    return sim_group_order(self->group, node);
}

gboolean
sim_get(SimCluster *self, guint node)
{
    return sim_node_get(&self->nodes[node]);
}

gboolean
sim_commit(SimCluster *self, guint node)
{
    return sim_node_commit(&self->nodes[node]);
}

gboolean
sim_tell(SimCluster *self, guint node)
{
    return sim_node_tell(&self->nodes[node]);
}

gboolean
sim_can_order(SimCluster *self, guint node)
{
    return sim_group_has_output(self->group, node);
}

gboolean
sim_can_get(SimCluster *self, guint node)
{
    return sim_node_runs(&self->nodes[node]) &&
           (self->nodes[node].is_leaving ||
            sim_group_has_input(self->group, node));
}

gboolean
sim_can_commit(SimCluster *self, guint node)
{
    const SimNode *it = &self->nodes[node];

    return sim_node_runs(it) &&
           (it->flush != 0 ||
            sim_store_committed(it->store) < sim_store_submitted(it->store));
}

gboolean
sim_can_tell(SimCluster *self, guint node)
{
    return sim_node_runs(&self->nodes[node]) &&
           self->nodes[node].news.length > 0;
}

gboolean
sim_can_work(SimCluster *self, guint node)
{
    return sim_node_runs(&self->nodes[node]) && self->nodes[node].has_work;
}

gboolean
sim_work(SimCluster *self, guint node)
{
    return sim_node_work(&self->nodes[node]);
}

gboolean
sim_step(SimCluster *self)
{
    static gboolean (*const kinds[])(SimCluster *, guint) = {
        sim_order, sim_get, sim_commit, sim_tell, sim_work};
    guint n = self->n * G_N_ELEMENTS(kinds);
    guint start = sim_dice(&self->dice, n);

    for (guint i = 0; i < n; i++) {
        guint choice = (start + i) % n;

        if (kinds[choice % G_N_ELEMENTS(kinds)](self,
                                                choice / G_N_ELEMENTS(kinds))) {
            return TRUE;
        }
    }
    return FALSE;
}

void
sim_advance(SimCluster *self, gint64 ms)
{
    self->clock_ms += ms;
    for (guint i = 0; i < self->n; i++) {
        sim_node_tick(&self->nodes[i]);
    }
}

static gboolean
waits_for_time(SimCluster *self)
{
    for (guint i = 0; i < self->n; i++) {
        const SimNode *node = &self->nodes[i];

        if (node->replica != NULL &&
            (node->rejoin_ms >= 0 || g_hash_table_size(node->waiting) > 0 ||
             g_hash_table_size(node->interrupted) > 0)) {
            return TRUE;
        }
    }
    return FALSE;
}

void
sim_run(SimCluster *self)
{
    guint rounds = 0;

    while (sim_check_violation(self->check) == NULL) {
        guint steps = 0;

        /* A cluster that never comes to rest is a fault. */
        while (sim_step(self) && ++steps < 1000000) {
        }
        if (!waits_for_time(self)) {
            return;
        }
        if (++rounds >= 10000 || steps >= 1000000) {
            sim_check_fail(self->check, "stuck",
                           "the cluster does not come to rest");
            return;
        }
        sim_advance(self, 100);
    }
}

/* --- what must hold ------------------------------------------------------- */

static guint64
stored_hash(SimNode *node)
{
    g_autoptr(GPtrArray) entries = sim_store_load(node->store);
    guint64 sum = 0;

    for (guint i = 0; i < entries->len; i++) {
        sum += sim_entry_hash(g_ptr_array_index(entries, i));
    }
    return sum;
}

static void
check_node(SimCluster *self, SimNode *node)
{
    CfsMode mode = cfs_replica_mode(node->replica);

    sim_check_whole(self->check, node->number);
    if (mode != CFS_MODE_SYNCED) {
        sim_check_fail(self->check, "stuck", "node %u is in mode %s",
                       node->number, cfs_mode_name(mode));
    }
    if (cfs_tree_root(cfs_replica_tree(node->replica))->version > 1 &&
        stored_hash(node) != sim_check_hash(self->check, node->number)) {
        sim_check_fail(self->check, "disk",
                       "the database of node %u is not its tree", node->number);
    }
}

void
sim_assert_equal_trees(SimCluster *self)
{
    g_autoptr(GBytes) expected = NULL;

    for (guint i = 0; i < self->n; i++) {
        SimNode *node = &self->nodes[i];
        g_autoptr(GBytes) index = NULL;

        if (node->replica == NULL) {
            continue;
        }
        check_node(self, node);
        index = cfs_tree_index(cfs_replica_tree(node->replica));
        if (expected == NULL) {
            expected = g_bytes_ref(index);
        } else if (!g_bytes_equal(index, expected)) {
            sim_check_fail(self->check, "stuck",
                           "the whole cluster has two trees");
        }
    }
}

void
sim_assert_no_reply_lost(SimCluster *self)
{
    for (guint i = 0; i < self->n; i++) {
        SimNode *node = &self->nodes[i];

        if (g_hash_table_size(node->waiting) +
                g_hash_table_size(node->interrupted) >
            0) {
            sim_check_fail(self->check, "answers",
                           "node %u never answered a request", i);
        }
    }
}

void
sim_end_faults(SimCluster *self)
{
    if (sim_check_violation(self->check) != NULL) {
        return;
    }
    sim_set_dice(self, 1);
    for (guint i = 0; i < self->n; i++) {
        SimNode *node = &self->nodes[i];

        node->loses_update = FALSE;
        node->problem = 0;
        sim_pause(self, i, FALSE);
        if (node->replica == NULL) {
            sim_start(self, i);
        }
        sim_corosync(self, i, TRUE);
    }
    sim_heal(self);
    sim_run(self);
    if (sim_check_violation(self->check) == NULL) {
        sim_assert_no_reply_lost(self);
        sim_assert_equal_trees(self);
    }
}

guint64
sim_n_replies(SimCluster *self, int verdict)
{
    return GPOINTER_TO_UINT(
        g_hash_table_lookup(self->verdicts, GINT_TO_POINTER(verdict)));
}

guint64
sim_n_syncs(SimCluster *self, CfsSyncLevel level)
{
    return self->n_syncs[level];
}

char *
sim_trace_digest(SimCluster *self)
{
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x", self->trace);
}
