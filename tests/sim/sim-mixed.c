#include "config.h"

#include "tests/sim/sim-mixed.h"

#include "tests/sim/sim-group.h"

#include <errno.h>
#include <string.h>

#define START_TIME 1700000000u
#define REFERENCE_REJOIN_MS 6000
#define MAX_ROUNDS 3000u

typedef struct {
    SimMixed *cluster;
    guint number;
    gboolean is_ours;
    CfsReplica *ours;
    SimReference *reference;
    GPtrArray *disk; /* NULL: empty; while stopped */
    guint32 pid;
    guint32 ahead_s;
    gint64 rejoin_ms; /* -1: does not wait for it */
    gboolean has_work, is_paused;
    GHashTable *verdicts; /* of ours */
    guint64 n_requests;
    guint n_left, n_updated, n_lost;
    GHashTable *overruled; /* set of paths */
    gboolean is_flushing;
    guint64 flush;      /* its token */
    gboolean has_terms; /* on the disk */
    CfsTermRecord terms;
    guint64 terms_version;
} Node;

struct SimMixed {
    guint n;
    Node nodes[SIM_MAX_NODES];
    SimGroup *group;
    SimDice dice;
    gint64 clock_ms;
    guint32 next_pid;
    guint partition[SIM_MAX_NODES];
    gboolean is_forced[SIM_MAX_NODES]; /* by partition */
    guint n_updates;
    CfsEpoch epoch;
    gboolean tells_nodes;
};

static void step_ours(Node *node, CfsEvent *event);

/* --- what a node does ------------------------------------------------------
 */

static gboolean
is_update(GBytes *bytes)
{
    const guint8 *data = g_bytes_get_data(bytes, NULL);

    return data[0] == CFS_MESSAGE_UPDATE && data[1] == 0;
}

static void
send(Node *node, GBytes *bytes)
{
    if (g_bytes_get_size(bytes) > 0 && is_update(bytes)) {
        if (node->n_lost > 0) {
            node->n_lost--;
            return;
        }
        node->cluster->n_updates++;
    }
    sim_group_send(node->cluster->group, node->number, bytes);
}

static void
leave(Node *node, gint64 rejoin_ms)
{
    SimMixed *self = node->cluster;

    node->n_left++;
    if (sim_group_is_member(self->group, node->number)) {
        sim_group_leave(self->group, node->number);
    }
    node->rejoin_ms = rejoin_ms < 0 ? -1 : self->clock_ms + rejoin_ms;
}

static void
run_effect(Node *node, const CfsEffect *effect)
{
    CfsEvent gone = {.kind = CFS_EVENT_DISCONNECTED};

    switch (effect->kind) {
    case CFS_EFFECT_SEND:
        send(node, effect->message);
        break;
    case CFS_EFFECT_REPLY:
        g_assert_true(g_hash_table_insert(
            node->verdicts, GSIZE_TO_POINTER((gsize)effect->reply.id),
            GINT_TO_POINTER(effect->reply.verdict)));
        break;
    case CFS_EFFECT_RELOADED:
        node->n_updated++;
        break;
    case CFS_EFFECT_STORE:
        if (effect->store.terms != NULL) {
            node->has_terms = TRUE;
            node->terms = *effect->store.terms;
            node->terms_version = effect->store.terms_version;
        }
        break;
    case CFS_EFFECT_FLUSH:
        node->is_flushing = TRUE;
        node->flush = effect->flush;
        break;
    case CFS_EFFECT_OVERRULED:
        for (guint i = 0; i < effect->overruled.entries->len; i++) {
            const CfsOverruled *item = effect->overruled.entries->pdata[i];

            g_hash_table_add(node->overruled, g_strdup(item->path));
        }
        break;
    case CFS_EFFECT_CONTINUE:
        node->has_work = TRUE;
        break;
    case CFS_EFFECT_LEAVE:
        leave(node, effect->delay_ms);
        step_ours(node, &gone);
        break;
    default:
        break;
    }
}

static guint32
wall_time(Node *node)
{
    return START_TIME + node->ahead_s +
           (guint32)(node->cluster->clock_ms / 1000);
}

static void
step_ours(Node *node, CfsEvent *event)
{
    GQueue effects = G_QUEUE_INIT;
    CfsEffect *effect;

    event->time_s = wall_time(node);
    event->clock_ms = node->cluster->clock_ms;
    cfs_replica_step(node->ours, event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        run_effect(node, effect);
        cfs_effect_free(effect);
    }
}

/* What the reference's model wants done. */
static void
look_after(Node *node)
{
    GBytes *bytes;

    while ((bytes = sim_reference_take_sent(node->reference)) != NULL) {
        send(node, bytes);
        g_bytes_unref(bytes);
    }
    switch (sim_reference_mode(node->reference)) {
    case SIM_REFERENCE_LEAVE:
        leave(node, REFERENCE_REJOIN_MS);
        break;
    case SIM_REFERENCE_VERSION_ERROR:
    case SIM_REFERENCE_ERROR:
        leave(node, -1);
        break;
    case SIM_REFERENCE_DEAD:
        sim_mixed_kill(node->cluster, node->number);
        break;
    default:
        break;
    }
}

static void
tell_quorum(Node *node)
{
    SimMixed *self = node->cluster;
    CfsEvent event = {.kind = CFS_EVENT_QUORUM};
    guint side = self->partition[node->number], together = 0;

    for (guint i = 0; i < self->n; i++) {
        together += self->partition[i] == side;
    }
    event.quorate = self->is_forced[side] || together * 2 > self->n;
    if (node->ours != NULL) {
        step_ours(node, &event);
    } else if (node->reference != NULL) {
        sim_reference_set_quorate(node->reference, event.quorate);
    }
}

static void
join(Node *node)
{
    CfsEvent event = {.kind = CFS_EVENT_CONNECTED};

    node->rejoin_ms = -1;
    if (node->ours != NULL) {
        event.connected.self = (CfsMember){node->number + 1, node->pid};
        step_ours(node, &event);
    } else {
        sim_reference_set_time(node->reference, wall_time(node));
        sim_reference_start(node->reference);
    }
    sim_group_join(node->cluster->group, node->number, node->pid);
}

/* --- processes and disks ---------------------------------------------------
 */

static CfsTree *
load(Node *node)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    CfsTree *tree;

    if (node->disk == NULL) {
        return cfs_tree_new(wall_time(node));
    }
    for (guint i = 0; i < node->disk->len; i++) {
        CfsEntry *entry = node->disk->pdata[i];

        /* A size is what the row's content has. */
        g_ptr_array_add(entries, cfs_entry_new(entry->inode, entry->parent,
                                               entry->version, entry->writer,
                                               entry->mtime, entry->type,
                                               entry->name, entry->data));
    }
    tree = cfs_tree_new_from_entries(entries, NULL);
    g_assert_nonnull(tree);
    return tree;
}

static void
begin_terms(Node *node)
{
    CfsEvent event = {.kind = CFS_EVENT_NODES};

    if (node->has_terms) {
        cfs_replica_restore_terms(node->ours, &node->terms,
                                  node->terms_version);
    }
    if (node->cluster->tells_nodes) {
        event.n_nodes = node->cluster->n;
        step_ours(node, &event);
    }
}

void
sim_mixed_start(SimMixed *self, guint number)
{
    Node *node = &self->nodes[number];
    g_autofree char *name = g_strdup_printf("n%u", number + 1);

    g_assert_false(sim_mixed_is_up(self, number));
    node->pid = ++self->next_pid;
    if (node->is_ours) {
        node->ours =
            cfs_replica_new(load(node), cfs_views_new(name, START_TIME));
        begin_terms(node);
    } else {
        node->reference =
            sim_reference_new((CfsMember){number + 1, node->pid}, load(node));
    }
    node->n_left = node->n_updated = 0;
    tell_quorum(node);
    join(node);
}

static void
end(Node *node)
{
    CfsTree *tree = sim_mixed_tree(node->cluster, node->number);

    g_clear_pointer(&node->disk, g_ptr_array_unref);
    node->disk = cfs_tree_entries(tree);
    g_clear_pointer(&node->ours, cfs_replica_free);
    g_clear_pointer(&node->reference, sim_reference_free);
    node->rejoin_ms = -1;
    node->has_work = FALSE;
    node->is_flushing = FALSE;
    g_hash_table_remove_all(node->verdicts);
}

void
sim_mixed_stop(SimMixed *self, guint number)
{
    if (sim_group_is_member(self->group, number)) {
        sim_group_leave(self->group, number);
    }
    end(&self->nodes[number]);
}

void
sim_mixed_kill(SimMixed *self, guint number)
{
    if (sim_group_is_member(self->group, number)) {
        sim_group_kill(self->group, number);
    }
    end(&self->nodes[number]);
}

void
sim_mixed_wipe(SimMixed *self, guint number)
{
    g_assert_false(sim_mixed_is_up(self, number));
    g_clear_pointer(&self->nodes[number].disk, g_ptr_array_unref);
    self->nodes[number].has_terms = FALSE;
}

void
sim_mixed_copy_disk(SimMixed *self, guint number, guint from)
{
    sim_mixed_wipe(self, number);
    self->nodes[number].disk =
        sim_mixed_is_up(self, from)
            ? cfs_tree_entries(sim_mixed_tree(self, from))
            : g_ptr_array_ref(self->nodes[from].disk);
}

void
sim_mixed_edit(SimMixed *self, guint number, CfsOp *op)
{
    Node *node = &self->nodes[number];
    g_autoptr(CfsTree) tree = load(node);
    g_autoptr(GPtrArray) changes = cfs_changes_new();

    g_assert_cmpint(cfs_tree_apply(tree, op, 0, wall_time(node), changes), ==,
                    0);
    g_clear_pointer(&node->disk, g_ptr_array_unref);
    node->disk = cfs_tree_entries(tree);
    cfs_op_free(op);
}

void
sim_mixed_pause(SimMixed *self, guint number, gboolean is_paused)
{
    self->nodes[number].is_paused = is_paused;
}

SimMixed *
sim_mixed_new(const char *kinds, guint32 seed)
{
    SimMixed *self = g_new0(SimMixed, 1);

    g_test_message("%s, seed %u", kinds, seed);
    self->n = (guint)strlen(kinds);
    self->group = sim_group_new(self->n, seed);
    self->dice.state = seed;
    self->next_pid = 100;
    for (guint i = 0; i < self->n; i++) {
        Node *node = &self->nodes[i];

        node->cluster = self;
        node->number = i;
        node->is_ours = kinds[i] == 'o';
        node->rejoin_ms = -1;
        node->ahead_s = sim_dice(&self->dice, 5);
        node->verdicts = g_hash_table_new(NULL, NULL);
        node->overruled =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    return self;
}

void
sim_mixed_free(SimMixed *self)
{
    for (guint i = 0; i < self->n; i++) {
        Node *node = &self->nodes[i];

        if (sim_mixed_is_up(self, i)) {
            end(node);
        }
        g_clear_pointer(&node->disk, g_ptr_array_unref);
        g_hash_table_unref(node->verdicts);
        g_hash_table_unref(node->overruled);
    }
    sim_group_free(self->group);
    g_free(self);
}

void
sim_mixed_start_all(SimMixed *self)
{
    for (guint i = 0; i < self->n; i++) {
        sim_mixed_start(self, i);
    }
    sim_mixed_run(self);
}

/* --- questions --------------------------------------------------------------
 */

void
sim_mixed_tell_nodes(SimMixed *self)
{
    self->tells_nodes = TRUE;
}

guint
sim_mixed_n_nodes(SimMixed *self)
{
    return self->n;
}

gboolean
sim_mixed_is_ours(SimMixed *self, guint node)
{
    return self->nodes[node].is_ours;
}

gboolean
sim_mixed_is_up(SimMixed *self, guint node)
{
    return self->nodes[node].ours != NULL ||
           self->nodes[node].reference != NULL;
}

CfsReplica *
sim_mixed_replica(SimMixed *self, guint node)
{
    return self->nodes[node].ours;
}

SimReference *
sim_mixed_reference(SimMixed *self, guint node)
{
    return self->nodes[node].reference;
}

CfsTree *
sim_mixed_tree(SimMixed *self, guint node)
{
    return self->nodes[node].ours != NULL
               ? cfs_replica_tree(self->nodes[node].ours)
               : sim_reference_tree(self->nodes[node].reference);
}

guint
sim_mixed_n_left(SimMixed *self, guint node)
{
    return self->nodes[node].n_left;
}

guint
sim_mixed_n_updated(SimMixed *self, guint node)
{
    return self->nodes[node].ours != NULL
               ? self->nodes[node].n_updated
               : sim_reference_n_updated(self->nodes[node].reference);
}

gboolean
sim_mixed_was_overruled(SimMixed *self, guint node, const char *path)
{
    return g_hash_table_contains(self->nodes[node].overruled, path);
}

guint
sim_mixed_n_overruled(SimMixed *self, guint node)
{
    return g_hash_table_size(self->nodes[node].overruled);
}

CfsEpoch
sim_mixed_epoch(SimMixed *self)
{
    return self->epoch;
}

guint
sim_mixed_n_updates(SimMixed *self)
{
    return self->n_updates;
}

static gboolean
is_synced(Node *node)
{
    return node->ours != NULL
               ? cfs_replica_mode(node->ours) == CFS_MODE_SYNCED
               : sim_reference_mode(node->reference) == SIM_REFERENCE_SYNCED;
}

void
sim_mixed_assert_equal(SimMixed *self)
{
    g_autoptr(GBytes) expected = NULL;

    for (guint i = 0; i < self->n; i++) {
        g_autoptr(GBytes) index = NULL;

        if (!sim_mixed_is_up(self, i)) {
            continue;
        }
        g_assert_true(is_synced(&self->nodes[i]));
        index = cfs_tree_index(sim_mixed_tree(self, i));
        if (expected == NULL) {
            expected = g_bytes_ref(index);
        }
        g_assert_true(g_bytes_equal(index, expected));
    }
}

/* --- faults -----------------------------------------------------------------
 */

static void
repartition(SimMixed *self)
{
    sim_group_partition(self->group, self->partition);
    for (guint i = 0; i < self->n; i++) {
        tell_quorum(&self->nodes[i]);
    }
}

void
sim_mixed_split(SimMixed *self, const char *sides)
{
    guint side = 0;

    memset(self->is_forced, 0, sizeof(self->is_forced));
    for (const char *p = sides; *p != '\0'; p++) {
        if (*p == '|') {
            side++;
        } else if (*p == '!') {
            self->is_forced[side] = TRUE;
        } else {
            self->partition[g_ascii_digit_value(*p)] = side;
        }
    }
    repartition(self);
}

void
sim_mixed_heal(SimMixed *self)
{
    memset(self->is_forced, 0, sizeof(self->is_forced));
    memset(self->partition, 0, sizeof(self->partition));
    repartition(self);
}

void
sim_mixed_restart_corosync(SimMixed *self, guint number)
{
    Node *node = &self->nodes[number];
    CfsEvent gone = {.kind = CFS_EVENT_DISCONNECTED};
    CfsEvent quorum = {.kind = CFS_EVENT_QUORUM, .quorate = FALSE};

    if (sim_group_is_member(self->group, number)) {
        sim_group_drop(self->group, number);
    }
    sim_group_host_down(self->group, number);
    if (node->ours != NULL) {
        step_ours(node, &quorum);
        step_ours(node, &gone);
    } else {
        sim_reference_start(node->reference);
    }
    sim_group_host_up(self->group, number);
    tell_quorum(node);
    node->rejoin_ms =
        self->clock_ms + (node->ours != NULL ? 100 : REFERENCE_REJOIN_MS);
}

void
sim_mixed_set_clock(SimMixed *self, guint node, guint32 ahead_s)
{
    self->nodes[node].ahead_s = ahead_s;
}

void
sim_mixed_inject(SimMixed *self, guint node, GBytes *bytes)
{
    sim_group_send(self->group, node, bytes);
}

void
sim_mixed_lose_updates(SimMixed *self, guint node, guint n)
{
    self->nodes[node].n_lost = n;
}

/* --- changes ----------------------------------------------------------------
 */

guint64
sim_mixed_submit(SimMixed *self, guint number, CfsOp *op)
{
    Node *node = &self->nodes[number];
    CfsEvent event = {.kind = CFS_EVENT_REQUEST};
    guint64 id;

    if (node->reference != NULL) {
        sim_reference_set_time(node->reference, wall_time(node));
        id = sim_reference_submit(node->reference, op);
        look_after(node);
        return id;
    }
    event.request.id = ++node->n_requests;
    event.request.op = op;
    step_ours(node, &event);
    cfs_op_free(op);
    return node->n_requests;
}

int
sim_mixed_verdict(SimMixed *self, guint number, guint64 request)
{
    Node *node = &self->nodes[number];
    gpointer verdict = NULL;

    if (node->reference != NULL) {
        return sim_reference_verdict(node->reference, request);
    }
    return g_hash_table_lookup_extended(
               node->verdicts, GSIZE_TO_POINTER((gsize)request), NULL, &verdict)
               ? GPOINTER_TO_INT(verdict)
               : -1;
}

int
sim_mixed_change(SimMixed *self, guint node, CfsOp *op)
{
    guint64 request = sim_mixed_submit(self, node, op);

    for (guint i = 0; sim_mixed_verdict(self, node, request) < 0; i++) {
        g_assert_cmpuint(i, <, 100 * MAX_ROUNDS);
        if (!sim_mixed_step(self)) {
            sim_mixed_advance(self, 100);
        }
    }
    return sim_mixed_verdict(self, node, request);
}

int
sim_mixed_write(SimMixed *self, guint node, const char *path, const char *text)
{
    g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));
    int verdict = sim_mixed_change(self, node, cfs_op_new(CFS_OP_CREATE, path));

    if (verdict != 0 && verdict != EEXIST) {
        return verdict;
    }
    return sim_mixed_change(self, node, cfs_op_new_write(path, data, 0));
}

void
sim_mixed_send(SimMixed *self, guint number, CfsOp *op)
{
    static guint64 count = 1000000; /* nobody waits for it */
    Node *node = &self->nodes[number];
    CfsHeader header = {.subtype = (guint16)op->kind,
                        .protocol = 1,
                        .time = wall_time(node),
                        .count = ++count};
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) bytes = NULL;

    cfs_message_write(out, &header);
    cfs_op_encode(op, out);
    bytes = g_byte_array_free_to_bytes(out);
    sim_group_send(self->group, number, bytes);
    cfs_op_free(op);
}

/* --- time -------------------------------------------------------------------
 */

/* The slowest hears the last one last. */
static void
note_epoch(Node *node, GBytes *bytes)
{
    CfsHeader header;
    PveReader reader;

    pve_reader_init_bytes(&reader, bytes);
    if (cfs_message_parse(&reader, 1, &header) == CFS_PARSE_OK &&
        header.type == CFS_MESSAGE_SYNC_START) {
        node->cluster->epoch = header.epoch;
    }
}

static void
hear(Node *node, SimGet *get)
{
    const CfsMember *members =
        get->members != NULL ? (const CfsMember *)(void *)get->members->data
                             : NULL;
    CfsEvent event = {.kind = CFS_EVENT_MESSAGE};

    if (get->kind == SIM_GET_MESSAGE) {
        note_epoch(node, get->bytes);
    }
    if (node->reference != NULL) {
        sim_reference_set_time(node->reference, wall_time(node));
        if (get->kind == SIM_GET_MESSAGE) {
            sim_reference_hear(node->reference, get->sender, get->bytes);
        } else {
            sim_reference_confchg(node->reference, members, get->members->len,
                                  get->has_joined);
        }
        look_after(node);
        return;
    }
    if (get->kind == SIM_GET_MESSAGE) {
        event.message.sender = get->sender;
        event.message.bytes = get->bytes;
    } else {
        event.kind = CFS_EVENT_CONFCHG;
        event.confchg.members = members;
        event.confchg.n_members = get->members->len;
        event.confchg.has_joined = get->has_joined;
    }
    step_ours(node, &event);
}

static gboolean
get_next(Node *node)
{
    SimGet get;

    if (!sim_mixed_is_up(node->cluster, node->number) || node->is_paused ||
        !sim_group_get(node->cluster->group, node->number, &get)) {
        return FALSE;
    }
    hear(node, &get);
    sim_get_clear(&get);
    return TRUE;
}

static gboolean
flush_next(Node *node)
{
    CfsEvent event = {.kind = CFS_EVENT_FLUSHED};

    if (!node->is_flushing || node->is_paused) {
        return FALSE;
    }
    node->is_flushing = FALSE;
    event.flushed.token = node->flush;
    step_ours(node, &event);
    return TRUE;
}

static gboolean
work_next(Node *node)
{
    CfsEvent event = {.kind = CFS_EVENT_CONTINUE};

    if (!node->has_work || node->is_paused) {
        return FALSE;
    }
    node->has_work = FALSE;
    step_ours(node, &event);
    return TRUE;
}

gboolean
sim_mixed_step(SimMixed *self)
{
    guint start = sim_dice(&self->dice, self->n * 4);

    for (guint i = 0; i < self->n * 4; i++) {
        guint choice = (start + i) % (self->n * 4);
        Node *node = &self->nodes[choice / 4];
        gboolean did = choice % 4 == 0
                           ? sim_group_order(self->group, node->number)
                       : choice % 4 == 1 ? get_next(node)
                       : choice % 4 == 2 ? flush_next(node)
                                         : work_next(node);

        if (did) {
            return TRUE;
        }
    }
    return FALSE;
}

void
sim_mixed_advance(SimMixed *self, gint64 ms)
{
    self->clock_ms += ms;
    for (guint i = 0; i < self->n; i++) {
        Node *node = &self->nodes[i];
        CfsEvent tick = {.kind = CFS_EVENT_TICK};

        if (!sim_mixed_is_up(self, i) || node->is_paused) {
            continue;
        }
        if (node->rejoin_ms >= 0 && node->rejoin_ms <= self->clock_ms) {
            join(node);
        }
        if (node->ours != NULL) {
            step_ours(node, &tick);
        }
    }
}

static gboolean
waits_for_time(SimMixed *self)
{
    for (guint i = 0; i < self->n; i++) {
        if (self->nodes[i].rejoin_ms >= 0) {
            return TRUE;
        }
    }
    return FALSE;
}

void
sim_mixed_run(SimMixed *self)
{
    for (guint rounds = 0;; rounds++) {
        while (sim_mixed_step(self)) {
        }
        if (!waits_for_time(self)) {
            return;
        }
        g_assert_cmpuint(rounds, <, MAX_ROUNDS);
        sim_mixed_advance(self, 100);
    }
}
