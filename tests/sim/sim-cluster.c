#include "config.h"

#include "tests/sim/sim-cluster.h"

#include "pmxcfs/core/repair.h"
#include "tests/sim/sim-group.h"
#include "tests/sim/sim-store.h"

#include <errno.h>
#include <string.h>

#define START_TIME 1700000000u

typedef struct {
    guint64 id;
    int verdict;
    guint64 after; /* the batch that must be committed first */
} Reply;

typedef struct {
    SimCluster *cluster;
    guint number;
    CfsReplica *replica; /* NULL: stopped */
    SimStore *store;
    GQueue replies;      /* of Reply: waiting for the store */
    GHashTable *waiting; /* request ids without an answer */
    guint32 pid;
    gint64 rejoin_ms; /* -1: not leaving */
    guint partition;
    gint64 clock_skew_ms;
    gboolean has_work; /* its CONTINUE is under way */
    guint64 features;
    guint64 flush;       /* token of the FLUSH under way, or 0 */
    guint64 flush_after; /* the batch that must be committed first */
} Node;

struct SimCluster {
    guint n;
    GRand *rand;
    SimGroup *group;
    Node nodes[SIM_MAX_NODES];
    gint64 clock_ms;
    guint32 next_pid;
    guint64 next_request;
    GHashTable *verdicts; /* errno -> count */
    guint n_nodes;        /* in the node list */
    guint64 sent[8];      /* messages of ours, by kind */
    CfsSyncLevel level;   /* of the last barrier */
    guint64 watched;      /* a request that sim_change() waits for */
    int watched_verdict;
    GChecksum *trace;
    gboolean verbose;
};

/* --- events and effects --------------------------------------------------- */

static CfsEvent
event_of(Node *node, CfsEventKind kind)
{
    CfsEvent event = {.kind = kind};

    event.clock_ms = node->cluster->clock_ms;
    event.time_s =
        START_TIME +
        (guint32)((node->cluster->clock_ms + node->clock_skew_ms) / 1000);
    return event;
}

static void
deliver_reply(Node *node, guint64 id, int verdict)
{
    SimCluster *self = node->cluster;
    gpointer key = GINT_TO_POINTER(verdict);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->verdicts, key));

    /* Exactly one answer. */
    g_assert_true(g_hash_table_remove(node->waiting, &id));
    g_hash_table_insert(self->verdicts, key, GUINT_TO_POINTER(count + 1));
    if (id == self->watched) {
        self->watched = 0;
        self->watched_verdict = verdict;
    }
}

static void
on_reply(Node *node, const CfsEffect *effect)
{
    Reply *reply;

    if (!effect->reply.stored) {
        deliver_reply(node, effect->reply.id, effect->reply.verdict);
        return;
    }
    reply = g_new0(Reply, 1);
    reply->id = effect->reply.id;
    reply->verdict = effect->reply.verdict;
    reply->after = sim_store_submitted(node->store);
    g_queue_push_tail(&node->replies, reply);
}

static void
flush_replies(Node *node)
{
    Reply *reply;

    while ((reply = g_queue_peek_head(&node->replies)) != NULL &&
           reply->after <= sim_store_committed(node->store)) {
        deliver_reply(node, reply->id, reply->verdict);
        g_free(g_queue_pop_head(&node->replies));
    }
}

static void step(Node *node, const CfsEvent *event);

static gboolean
flush_next(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_FLUSHED);

    if (node->flush == 0 ||
        sim_store_committed(node->store) < node->flush_after) {
        return FALSE;
    }
    event.flushed.token = node->flush;
    node->flush = 0;
    step(node, &event);
    return TRUE;
}

static void
on_flush(Node *node, const CfsEffect *effect)
{
    g_assert_cmpuint(node->flush, ==, 0); /* one at a time */
    node->flush = effect->flush;
    node->flush_after = sim_store_submitted(node->store);
}

static void
send_message(Node *node, GBytes *message)
{
    SimCluster *self = node->cluster;
    PveReader reader;

    pve_reader_init_bytes(&reader, message);
    if (pve_reader_u16(&reader) == CFS_MESSAGE_OURS) {
        self->sent[pve_reader_u16(&reader) % G_N_ELEMENTS(self->sent)]++;
    }
    sim_group_send(self->group, node->number, message);
}

static void
on_leave(Node *node, const CfsEffect *effect)
{
    CfsEvent gone = event_of(node, CFS_EVENT_DISCONNECTED);

    if (sim_group_is_member(node->cluster->group, node->number)) {
        sim_group_leave(node->cluster->group, node->number);
    }
    if (effect->delay_ms != G_MAXUINT) {
        node->rejoin_ms = node->cluster->clock_ms + effect->delay_ms;
    }
    step(node, &gone);
}

static void
run_effect(Node *node, const CfsEffect *effect)
{
    switch (effect->kind) {
    case CFS_EFFECT_SEND:
        send_message(node, effect->message);
        break;
    case CFS_EFFECT_FLUSH:
        on_flush(node, effect);
        break;
    case CFS_EFFECT_REPLY_SYNC:
        node->cluster->level = effect->reply_sync.level;
        deliver_reply(node, effect->reply_sync.id, effect->reply_sync.verdict);
        break;
    case CFS_EFFECT_STORE:
        sim_store_submit(node->store, effect);
        break;
    case CFS_EFFECT_REPLY:
        on_reply(node, effect);
        break;
    case CFS_EFFECT_LEAVE:
        on_leave(node, effect);
        break;
    case CFS_EFFECT_CONTINUE:
        node->has_work = TRUE;
        break;
    case CFS_EFFECT_CHANGED:
    case CFS_EFFECT_RELOADED:
    case CFS_EFFECT_CLUSTER_LOG:
        break;
    }
}

static void
step(Node *node, const CfsEvent *event)
{
    GQueue effects = G_QUEUE_INIT;
    CfsEffect *effect;

    cfs_replica_step(node->replica, event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        run_effect(node, effect);
        cfs_effect_free(effect);
    }
}

static void
on_trace(gpointer data, GLogLevelFlags level, const char *text)
{
    Node *node = data;
    g_autofree char *line = g_strdup_printf("%u %s\n", node->number + 1, text);

    g_checksum_update(node->cluster->trace, (const guchar *)line, -1);
    if (node->cluster->verbose) {
        g_test_message("%" G_GINT64_FORMAT " n%s", node->cluster->clock_ms,
                       line);
    }
}

/* --- nodes
 * -------------------------------------------------------------------- */

static gboolean
has_quorum(SimCluster *self, guint node)
{
    guint together = 0;

    for (guint i = 0; i < self->n; i++) {
        /* A node votes while its corosync runs, whatever pmxcfs does. */
        together += self->nodes[i].partition == self->nodes[node].partition;
    }
    return together * 2 > self->n;
}

static void
tell_n_nodes(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_NODES);

    event.n_nodes = node->cluster->n_nodes;
    step(node, &event);
}

static void
tell_quorum(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_QUORUM);

    event.quorate = has_quorum(node->cluster, node->number);
    step(node, &event);
}

static void
join(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_CONNECTED);

    node->rejoin_ms = -1;
    event.connected.self = (CfsMember){node->number + 1, node->pid};
    step(node, &event);
    sim_group_join(node->cluster->group, node->number, node->pid);
}

static CfsTree *
load_tree(Node *node)
{
    g_autoptr(GPtrArray) entries = sim_store_load(node->store);
    g_autoptr(GError) error = NULL;
    CfsTree *tree;

    if (entries->len == 0) {
        return cfs_tree_new(event_of(node, CFS_EVENT_TICK).time_s);
    }
    tree = cfs_tree_new_from_entries(entries, &error);
    g_assert_no_error(error);
    return tree;
}

static void
restore_terms(Node *node)
{
    guint64 version = 0;
    const CfsTermRecord *record = sim_store_terms(node->store, &version);

    if (record != NULL) {
        cfs_replica_restore_terms(node->replica, record, version);
    }
}

void
sim_set_features(SimCluster *self, guint node, guint64 features)
{
    g_assert(self->nodes[node].replica == NULL);
    self->nodes[node].features = features;
}

void
sim_start(SimCluster *self, guint number)
{
    sim_start_with_locks(self, number, NULL);
}

void
sim_start_with_locks(SimCluster *self, guint number, const char *saved)
{
    Node *node = &self->nodes[number];
    g_autofree char *name = g_strdup_printf("n%u", number + 1);

    g_assert(node->replica == NULL);
    node->pid = ++self->next_pid;
    node->replica =
        cfs_replica_new(load_tree(node), cfs_views_new(name, START_TIME));
    cfs_replica_set_trace(node->replica, on_trace, node);
    if (saved != NULL) {
        cfs_replica_restore_locks(node->replica, saved, self->clock_ms);
    }
    cfs_replica_set_features(node->replica, node->features);
    restore_terms(node);
    tell_n_nodes(node);
    tell_quorum(node);
    join(node);
}

static void
end_process(Node *node)
{
    g_clear_pointer(&node->replica, cfs_replica_free);
    node->rejoin_ms = -1;
    node->has_work = FALSE;
    node->flush = 0;
    g_queue_clear_full(&node->replies, g_free);
    g_hash_table_remove_all(node->waiting);
}

void
sim_crash(SimCluster *self, guint number)
{
    Node *node = &self->nodes[number];

    if (sim_group_is_member(self->group, number)) {
        sim_group_kill(self->group, number);
    }
    end_process(node);
    sim_store_crash(node->store);
}

void
sim_stop(SimCluster *self, guint number)
{
    Node *node = &self->nodes[number];

    if (sim_group_is_member(self->group, number)) {
        sim_group_leave(self->group, number);
    }
    end_process(node);
    while (sim_store_commit(node->store)) {
    }
}

void
sim_wipe(SimCluster *self, guint number)
{
    g_assert(self->nodes[number].replica == NULL);
    sim_store_wipe(self->nodes[number].store);
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
    Node *node = &self->nodes[number];
    g_autoptr(GPtrArray) entries = sim_store_load(node->store);
    g_autoptr(CfsRepair) repair = repair_without(entries, path);

    g_assert(node->replica == NULL);
    g_assert_cmpuint(repair->n_set_aside, ==, 1);
    cfs_repair_lower(repair);
    sim_store_wipe(node->store);
    sim_store_fill(node->store, repair->entries);
}

SimCluster *
sim_cluster_new_stopped(guint n, guint32 seed)
{
    SimCluster *self = g_new0(SimCluster, 1);

    g_test_message("seed %u", seed);
    self->n = n;
    self->n_nodes = n;
    self->rand = g_rand_new_with_seed(seed);
    self->group = sim_group_new(n, self->rand);
    self->verdicts = g_hash_table_new(NULL, NULL);
    self->trace = g_checksum_new(G_CHECKSUM_SHA256);
    self->next_pid = 100;
    self->verbose = g_getenv("SIM_VERBOSE") != NULL;
    for (guint i = 0; i < n; i++) {
        Node *node = &self->nodes[i];

        node->cluster = self;
        node->number = i;
        node->store = sim_store_new();
        g_queue_init(&node->replies);
        node->waiting =
            g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        node->rejoin_ms = -1;
        node->features = CFS_FEATURES_ALL;
        /* Clocks differ, and so do the trees of nodes that start alone. */
        node->clock_skew_ms = g_rand_int_range(self->rand, 0, 5000);
    }
    return self;
}

SimCluster *
sim_cluster_new(guint n, guint32 seed)
{
    SimCluster *self = sim_cluster_new_stopped(n, seed);

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
        end_process(&self->nodes[i]);
        sim_store_free(self->nodes[i].store);
        g_hash_table_unref(self->nodes[i].waiting);
    }
    sim_group_free(self->group);
    g_hash_table_unref(self->verdicts);
    g_checksum_free(self->trace);
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

/* Quorum comes before the change of the group, as the daemon arranges it, but
 * what the group delivered before may still be on its way. */
static void
repartition(SimCluster *self, const guint *partition)
{
    for (guint i = 0; i < self->n; i++) {
        self->nodes[i].partition = partition[i];
    }
    sim_group_partition(self->group, partition);
    for (guint i = 0; i < self->n; i++) {
        if (self->nodes[i].replica != NULL) {
            tell_quorum(&self->nodes[i]);
        }
    }
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

void
sim_force_quorum(SimCluster *self, guint node, gboolean quorate)
{
    CfsEvent event = event_of(&self->nodes[node], CFS_EVENT_QUORUM);

    event.quorate = quorate;
    step(&self->nodes[node], &event);
}

void
sim_set_n_nodes(SimCluster *self, guint n_nodes)
{
    self->n_nodes = n_nodes;
    for (guint i = 0; i < self->n; i++) {
        if (self->nodes[i].replica != NULL) {
            tell_n_nodes(&self->nodes[i]);
        }
    }
}

guint64
sim_n_sent(SimCluster *self, guint16 subtype)
{
    return self->sent[subtype];
}

void
sim_inject(SimCluster *self, guint node, GBytes *bytes)
{
    sim_group_send(self->group, node, bytes);
}

/* --- changes
 * --------------------------------------------------------------------- */

static guint64
submit(SimCluster *self, guint number, CfsOp *op)
{
    Node *node = &self->nodes[number];
    CfsEvent event = event_of(node, CFS_EVENT_REQUEST);
    guint64 id = ++self->next_request;

    g_hash_table_add(node->waiting, g_memdup2(&id, sizeof(id)));
    event.request.id = id;
    event.request.op = op;
    self->watched = id;
    step(node, &event);
    cfs_op_free(op);
    return id;
}

static guint64
submit_sync(SimCluster *self, guint number)
{
    Node *node = &self->nodes[number];
    CfsEvent event = event_of(node, CFS_EVENT_SYNC);

    event.sync_id = ++self->next_request;
    g_hash_table_add(node->waiting,
                     g_memdup2(&event.sync_id, sizeof(event.sync_id)));
    self->watched = event.sync_id;
    step(node, &event);
    return event.sync_id;
}

void
sim_submit_sync(SimCluster *self, guint node)
{
    submit_sync(self, node);
}

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
sim_sync(SimCluster *self, guint node, CfsSyncLevel *level)
{
    int verdict = await(self, submit_sync(self, node));

    *level = self->level;
    return verdict;
}

void
sim_submit(SimCluster *self, guint node, CfsOp *op)
{
    submit(self, node, op);
}

int
sim_change(SimCluster *self, guint node, CfsOp *op)
{
    return await(self, submit(self, node, op));
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

/* --- time
 * -------------------------------------------------------------------------- */

static gboolean
get_next(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_MESSAGE);
    SimGet get;

    if (!sim_group_get(node->cluster->group, node->number, &get)) {
        return FALSE;
    }
    if (get.kind == SIM_GET_MESSAGE) {
        event.message.sender = get.sender;
        event.message.bytes = get.bytes;
    } else {
        event.kind = CFS_EVENT_CONFCHG;
        event.confchg.members = (const CfsMember *)(void *)get.members->data;
        event.confchg.n_members = get.members->len;
        event.confchg.has_joined = get.has_joined;
    }
    step(node, &event);
    sim_get_clear(&get);
    return TRUE;
}

static gboolean
commit_next(Node *node)
{
    if (!sim_store_commit(node->store)) {
        return FALSE;
    }
    flush_replies(node);
    return TRUE;
}

static gboolean
work_next(Node *node)
{
    CfsEvent event = event_of(node, CFS_EVENT_CONTINUE);

    if (!node->has_work) {
        return FALSE;
    }
    node->has_work = FALSE;
    step(node, &event);
    return TRUE;
}

gboolean
sim_step(SimCluster *self)
{
    guint start = (guint)g_rand_int_range(self->rand, 0, (gint32)self->n * 4);

    for (guint i = 0; i < self->n * 4; i++) {
        guint choice = (start + i) % (self->n * 4);
        Node *node = &self->nodes[choice / 4];
        gboolean did;

        if (node->replica == NULL) {
            continue;
        }
        if (choice % 4 == 0) {
            did = sim_group_order(self->group, node->number);
        } else if (choice % 4 == 1) {
            did = get_next(node);
        } else if (choice % 4 == 2) {
            did = flush_next(node) || commit_next(node);
        } else {
            did = work_next(node);
        }
        if (did) {
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
        Node *node = &self->nodes[i];
        CfsEvent event = event_of(node, CFS_EVENT_TICK);

        if (node->replica == NULL) {
            continue;
        }
        if (node->rejoin_ms >= 0 && node->rejoin_ms <= self->clock_ms) {
            join(node);
        }
        step(node, &event);
    }
}

static gboolean
waits_for_time(SimCluster *self)
{
    for (guint i = 0; i < self->n; i++) {
        const Node *node = &self->nodes[i];

        if (node->replica != NULL &&
            (node->rejoin_ms >= 0 || g_hash_table_size(node->waiting) > 0)) {
            return TRUE;
        }
    }
    return FALSE;
}

void
sim_run(SimCluster *self)
{
    guint rounds = 0;

    for (;;) {
        while (sim_step(self)) {
        }
        if (!waits_for_time(self)) {
            return;
        }
        /* A cluster that never comes to rest is a fault. */
        g_assert_cmpuint(++rounds, <, 10000);
        sim_advance(self, 100);
    }
}

/* --- what must hold
 * ------------------------------------------------------------------ */

static GBytes *
stored_index(Node *node)
{
    g_autoptr(GPtrArray) entries = sim_store_load(node->store);
    g_autoptr(GError) error = NULL;
    g_autoptr(CfsTree) tree = cfs_tree_new_from_entries(entries, &error);

    g_assert_no_error(error);
    return cfs_tree_index(tree);
}

void
sim_assert_equal_trees(SimCluster *self)
{
    g_autoptr(GBytes) expected = NULL;

    for (guint i = 0; i < self->n; i++) {
        Node *node = &self->nodes[i];
        g_autoptr(GBytes) index = NULL, stored = NULL;

        if (node->replica == NULL) {
            continue;
        }
        g_assert_cmpstr(cfs_mode_name(cfs_replica_mode(node->replica)), ==,
                        "synced");
        index = cfs_tree_index(cfs_replica_tree(node->replica));
        if (expected == NULL) {
            expected = g_bytes_ref(index);
        }
        g_assert_true(g_bytes_equal(index, expected));
        if (cfs_tree_root(cfs_replica_tree(node->replica))->version > 1) {
            stored = stored_index(node);
            g_assert_true(g_bytes_equal(stored, index));
        }
    }
}

void
sim_assert_no_reply_lost(SimCluster *self)
{
    for (guint i = 0; i < self->n; i++) {
        g_assert_cmpuint(g_hash_table_size(self->nodes[i].waiting), ==, 0);
    }
}

guint64
sim_n_replies(SimCluster *self, int verdict)
{
    return GPOINTER_TO_UINT(
        g_hash_table_lookup(self->verdicts, GINT_TO_POINTER(verdict)));
}

char *
sim_trace_digest(SimCluster *self)
{
    g_autoptr(GChecksum) copy = g_checksum_copy(self->trace);

    return g_strdup(g_checksum_get_string(copy));
}
