#include "config.h"

#include "tests/sim/sim-private.h"

#include "pmxcfs/core/repair.h"

#include <string.h>

/* --- processes and hosts -------------------------------------------------- */

void
sim_start_with_locks(SimCluster *self, guint number, const char *saved)
{
    sim_corosync(self, number, TRUE);
    sim_node_start(&self->nodes[number], saved);
}

void
sim_set_features(SimCluster *self, guint node, guint64 features)
{
    g_assert(self->nodes[node].replica == NULL);
    self->nodes[node].features = features;
    if (features == 0) {
        sim_check_no_terms(self->check);
    }
}

void
sim_set_n_nodes(SimCluster *self, guint n_nodes)
{
    self->n_nodes = n_nodes;
    for (guint i = 0; i < self->n; i++) {
        if (self->nodes[i].replica != NULL) {
            sim_node_tell_nodes(&self->nodes[i]);
        }
    }
}

void
sim_start(SimCluster *self, guint number)
{
    sim_start_with_locks(self, number, NULL);
}

void
sim_crash(SimCluster *self, guint number)
{
    SimNode *node = &self->nodes[number];

    if (sim_group_is_member(self->group, number)) {
        sim_group_kill(self->group, number);
    }
    sim_node_end(node);
    sim_store_crash(node->store);
}

void
sim_stop(SimCluster *self, guint number)
{
    SimNode *node = &self->nodes[number];

    if (sim_group_is_member(self->group, number)) {
        sim_group_leave(self->group, number);
    }
    sim_node_end(node);
    while (node->problem == 0 && sim_store_commit(node->store)) {
    }
    sim_store_crash(node->store);
}

void
sim_power_off(SimCluster *self, guint number)
{
    SimNode *node = &self->nodes[number];

    if (sim_group_is_member(self->group, number)) {
        sim_group_drop(self->group, number);
    }
    sim_node_end(node);
    sim_store_power_off(node->store, &self->dice);
    sim_corosync(self, number, FALSE);
}

void
sim_wipe(SimCluster *self, guint number)
{
    g_assert(self->nodes[number].replica == NULL);
    sim_store_wipe(self->nodes[number].store);
    sim_check_lost_disk(self->check, number);
}

/* The rows that are left of @entries when that of @path has a wrong type. */
static CfsRepair *
repair_without(GPtrArray *entries, const char *path)
{
    g_autoptr(GPtrArray) rows = cfs_rows_new();
    g_autoptr(CfsTree) tree = cfs_tree_new_from_entries(entries, NULL);
    const CfsEntry *bad = cfs_tree_lookup(tree, path);

    g_assert_nonnull(bad);
    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);
        const char *name = entry->inode == CFS_ROOT_INODE
                               ? CFS_VERSION_RECORD_NAME
                               : entry->name;

        g_ptr_array_add(rows,
                        cfs_row_new(entry->inode, entry->parent, entry->version,
                                    entry->writer, entry->mtime,
                                    entry == bad ? 5 : entry->type, name,
                                    strlen(name), entry->data));
    }
    return cfs_repair_rows(rows);
}

void
sim_spoil(SimCluster *self, guint number, const char *path)
{
    SimNode *node = &self->nodes[number];
    g_autoptr(GPtrArray) entries = sim_store_load(node->store);
    g_autoptr(CfsRepair) repair = repair_without(entries, path);

    g_assert(node->replica == NULL);
    g_assert_cmpuint(repair->n_set_aside, ==, 1);
    cfs_repair_lower(repair);
    sim_store_wipe(node->store);
    sim_store_fill(node->store, repair->entries);
    sim_check_edited(self->check, number);
    sim_check_lost_disk(self->check, number);
}

void
sim_pause(SimCluster *self, guint node, gboolean is_paused)
{
    self->nodes[node].is_paused =
        is_paused && self->nodes[node].replica != NULL;
}

gboolean
sim_is_paused(SimCluster *self, guint node)
{
    return self->nodes[node].is_paused;
}

void
sim_set_clock(SimCluster *self, guint node, gint64 skew_ms)
{
    self->nodes[node].clock_skew_ms = skew_ms;
}

guint32
sim_wall_time(SimCluster *self, guint node)
{
    return sim_node_event(&self->nodes[node], CFS_EVENT_TICK).time_s;
}

void
sim_fail_store(SimCluster *self, guint node, int problem)
{
    self->nodes[node].problem = problem;
}

void
sim_flush_store(SimCluster *self, guint node)
{
    sim_store_flush(self->nodes[node].store);
}

void
sim_lose_update(SimCluster *self, guint node)
{
    sim_check_bad_peer(self->check);
    self->nodes[node].loses_update = self->nodes[node].replica != NULL;
}

void
sim_inject(SimCluster *self, guint node, GBytes *bytes)
{
    sim_check_bad_peer(self->check);
    sim_group_send(self->group, node, bytes);
}

/* --- the network ---------------------------------------------------------- */

gboolean
sim_has_corosync(SimCluster *self, guint node)
{
    return sim_group_is_host_up(self->group, node);
}

void
sim_corosync(SimCluster *self, guint number, gboolean is_up)
{
    if (sim_has_corosync(self, number) == is_up) {
        return;
    }
    if (is_up) {
        sim_group_host_up(self->group, number);
    } else {
        sim_node_lose(&self->nodes[number]);
        sim_group_host_down(self->group, number);
    }
    self->nodes[number].is_forced = FALSE;
    sim_faults_update_quorum(self);
}

static void
repartition(SimCluster *self, const guint *partition)
{
    sim_group_partition(self->group, partition);
    for (guint i = 0; i < self->n; i++) {
        self->nodes[i].is_forced = FALSE;
    }
    sim_faults_update_quorum(self);
}

void
sim_split(SimCluster *self, const char *sides)
{
    guint partition[SIM_MAX_NODES] = {0};
    guint side = 0;

    for (const char *p = sides; *p != '\0'; p++) {
        if (*p == '|') {
            side++;
        } else {
            g_assert((guint)g_ascii_xdigit_value(*p) < self->n);
            partition[g_ascii_xdigit_value(*p)] = side;
        }
    }
    repartition(self, partition);
}

void
sim_heal(SimCluster *self)
{
    guint partition[SIM_MAX_NODES] = {0};

    repartition(self, partition);
}

/* --- quorum --------------------------------------------------------------- */

/* A node votes while its corosync runs, whatever its process does. */
gboolean
sim_faults_has_quorum(SimCluster *self, guint number)
{
    guint together = 0;

    if (!sim_has_corosync(self, number)) {
        return FALSE;
    }
    for (guint i = 0; i < self->n; i++) {
        together += sim_has_corosync(self, i) &&
                    sim_group_partition_of(self->group, i) ==
                        sim_group_partition_of(self->group, number);
    }
    return together * 2 > self->n || self->nodes[number].is_forced;
}

static void
tell(SimNode *node, gboolean quorate)
{
    node->last_news = quorate;
    g_queue_push_tail(&node->news, GINT_TO_POINTER(quorate));
}

void
sim_faults_update_quorum(SimCluster *self)
{
    for (guint i = 0; i < self->n; i++) {
        SimNode *node = &self->nodes[i];
        gboolean quorate = sim_faults_has_quorum(self, i);

        if (node->replica == NULL || node->last_news == quorate) {
            continue;
        }
        tell(node, quorate);
        if (!self->has_lag) {
            sim_node_tell(node);
        }
    }
}

void
sim_set_quorum_lag(SimCluster *self)
{
    self->has_lag = TRUE;
}

void
sim_force_quorum(SimCluster *self, guint number)
{
    for (guint i = 0; i < self->n; i++) {
        if (sim_group_partition_of(self->group, i) ==
            sim_group_partition_of(self->group, number)) {
            self->nodes[i].is_forced = TRUE;
        }
    }
    sim_faults_update_quorum(self);
}

void
sim_flap_quorum(SimCluster *self, guint number)
{
    SimNode *node = &self->nodes[number];
    gboolean last = node->last_news;

    if (node->replica != NULL) {
        tell(node, !last);
        tell(node, last);
    }
}
