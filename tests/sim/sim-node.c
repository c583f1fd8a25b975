#include "config.h"

#include "tests/sim/sim-line.h"
#include "tests/sim/sim-private.h"

#include <errno.h>
#include <string.h>

/* --- answers -------------------------------------------------------------- */

static void
count_verdict(SimCluster *self, int verdict)
{
    gpointer key = GINT_TO_POINTER(verdict);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->verdicts, key));

    g_hash_table_insert(self->verdicts, key, GUINT_TO_POINTER(count + 1));
}

static void
deliver_reply(SimNode *self, guint64 id, int verdict)
{
    SimCluster *cluster = self->cluster;

    if (g_hash_table_remove(self->interrupted, &id)) {
        return;
    }
    if (!g_hash_table_remove(self->waiting, &id)) {
        sim_check_fail(cluster->check, "answers",
                       "node %u answers a request twice", self->number);
    }
    count_verdict(cluster, verdict);
    if (id == cluster->watched) {
        cluster->watched = 0;
        cluster->watched_verdict = verdict;
    }
}

static void
on_reply(SimNode *self, const CfsEffect *effect)
{
    SimReply *reply;

    if (!effect->reply.stored || self->is_late ||
        sim_store_committed(self->store) >= sim_store_submitted(self->store)) {
        deliver_reply(self, effect->reply.id, effect->reply.verdict);
        return;
    }
    reply = g_new0(SimReply, 1);
    reply->id = effect->reply.id;
    reply->verdict = effect->reply.verdict;
    reply->after = sim_store_submitted(self->store);
    reply->deadline_ms = self->cluster->clock_ms + SIM_PATIENCE_MS;
    g_queue_push_tail(&self->replies, reply);
}

static void
release_first(SimNode *self, int problem)
{
    g_autofree SimReply *reply = g_queue_pop_head(&self->replies);

    deliver_reply(self, reply->id, problem != 0 ? problem : reply->verdict);
}

static void
release_committed(SimNode *self)
{
    SimReply *reply;

    while ((reply = g_queue_peek_head(&self->replies)) != NULL &&
           reply->after <= sim_store_committed(self->store)) {
        release_first(self, 0);
    }
}

static void
release_all(SimNode *self, int problem)
{
    while (self->replies.length > 0) {
        release_first(self, problem);
    }
}

/* --- effects -------------------------------------------------------------- */

static gboolean
is_update(GBytes *message)
{
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(message, &size);

    return size > 0 && bytes[0] == CFS_MESSAGE_UPDATE && bytes[1] == 0;
}

static void
count_ours(SimCluster *self, GBytes *message)
{
    PveReader reader;

    pve_reader_init_bytes(&reader, message);
    if (pve_reader_u16(&reader) == CFS_MESSAGE_OURS) {
        self->sent[pve_reader_u16(&reader) % G_N_ELEMENTS(self->sent)]++;
    }
}

static void
on_send(SimNode *self, const CfsEffect *effect)
{
    if (self->loses_update && is_update(effect->message)) {
        self->loses_update = FALSE;
        return;
    }
    count_ours(self->cluster, effect->message);
    if (sim_group_is_member(self->cluster->group, self->number)) {
        sim_group_send(self->cluster->group, self->number, effect->message);
    }
}

static void
on_flush(SimNode *self, const CfsEffect *effect)
{
    g_assert_cmpuint(self->flush, ==, 0); /* one at a time */
    self->flush = effect->flush;
    self->flush_after = sim_store_submitted(self->store);
}

static void
on_reply_sync(SimNode *self, const CfsEffect *effect)
{
    if (effect->reply_sync.id == self->cluster->watched) {
        self->cluster->level = effect->reply_sync.level;
    }
    g_hash_table_remove(self->syncs, &effect->reply_sync.id);
    if (effect->reply_sync.verdict == 0) {
        self->cluster->n_syncs[effect->reply_sync.level]++;
    }
    deliver_reply(self, effect->reply_sync.id, effect->reply_sync.verdict);
}

/* The daemon ends the connection in a later turn. */
static void
on_leave(SimNode *self, const CfsEffect *effect)
{
    if (!self->is_connected || self->is_leaving) {
        return;
    }
    if (sim_group_is_member(self->cluster->group, self->number)) {
        sim_group_leave(self->cluster->group, self->number);
    }
    self->is_leaving = TRUE;
    self->rejoin_ms = effect->delay_ms == G_MAXUINT
                          ? -1
                          : self->cluster->clock_ms + effect->delay_ms;
}

static void
run_effect(SimNode *self, const CfsEffect *effect)
{
    switch (effect->kind) {
    case CFS_EFFECT_SEND:
        on_send(self, effect);
        break;
    case CFS_EFFECT_STORE:
        sim_store_submit(self->store, effect);
        break;
    case CFS_EFFECT_REPLY:
        on_reply(self, effect);
        break;
    case CFS_EFFECT_LEAVE:
        on_leave(self, effect);
        break;
    case CFS_EFFECT_CONTINUE:
        self->has_work = TRUE;
        break;
    case CFS_EFFECT_FLUSH:
        on_flush(self, effect);
        break;
    case CFS_EFFECT_REPLY_SYNC:
        on_reply_sync(self, effect);
        break;
    default:
        break;
    }
}

/* The check was told what it is. */
static void
step(SimNode *self, const CfsEvent *event)
{
    SimCheck *check = self->cluster->check;
    GQueue effects = G_QUEUE_INIT;
    CfsEffect *effect;

    cfs_replica_step(self->replica, event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        sim_check_effect(check, self->number, effect, self->cluster->clock_ms);
        run_effect(self, effect);
        cfs_effect_free(effect);
    }
    sim_check_after(check, self->number);
}

CfsEvent
sim_node_event(SimNode *self, CfsEventKind kind)
{
    CfsEvent event = {.kind = kind};

    event.clock_ms = self->cluster->clock_ms;
    event.time_s =
        SIM_START_TIME +
        (guint32)((self->cluster->clock_ms + self->clock_skew_ms) / 1000);
    return event;
}

void
sim_node_step(SimNode *self, const CfsEvent *event)
{
    sim_check_other(self->cluster->check, self->number);
    step(self, event);
}

void
sim_node_note(SimNode *self, const char *text)
{
    SimCluster *cluster = self->cluster;

    cluster->trace = sim_mix(cluster->trace ^
                             sim_bytes_hash(text, strlen(text)) ^ self->number);
    if (cluster->verbose) {
        g_test_message("%" G_GINT64_FORMAT " n%u %s", cluster->clock_ms,
                       self->number + 1, text);
    }
}

static void
on_trace(gpointer data, GLogLevelFlags level, const char *text)
{
    SimNode *self = data;

    sim_node_note(self, text);
    sim_check_trace(self->cluster->check, self->number, text);
}

/* --- the process ---------------------------------------------------------- */

static void
join(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_CONNECTED);

    self->rejoin_ms = -1;
    self->is_connected = TRUE;
    event.connected.self = (CfsMember){self->number + 1, self->pid};
    sim_group_join(self->cluster->group, self->number, self->pid);
    sim_node_step(self, &event);
}

static CfsTree *
load_tree(SimNode *self)
{
    g_autoptr(GPtrArray) entries = sim_store_load(self->store);
    g_autoptr(GError) error = NULL;
    CfsTree *tree;

    if (entries->len == 0) {
        return cfs_tree_new(sim_node_event(self, CFS_EVENT_TICK).time_s);
    }
    tree = cfs_tree_new_from_entries(entries, &error);
    g_assert_no_error(error);
    return tree;
}

static void
restore_terms(SimNode *self)
{
    CfsTermRecord record;
    guint64 version;

    if (sim_store_terms(self->store, &record, &version)) {
        cfs_replica_restore_terms(self->replica, &record, version);
    }
}

void
sim_node_tell_nodes(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_NODES);

    event.n_nodes = self->cluster->n_nodes;
    sim_node_step(self, &event);
}

void
sim_node_start(SimNode *self, const char *saved_locks)
{
    SimCluster *cluster = self->cluster;
    g_autofree char *name = g_strdup_printf("n%u", self->number + 1);
    CfsEvent event = sim_node_event(self, CFS_EVENT_QUORUM);

    g_assert(self->replica == NULL);
    self->pid = ++cluster->next_pid;
    self->replica =
        cfs_replica_new(load_tree(self), cfs_views_new(name, SIM_START_TIME));
    cfs_replica_set_trace(self->replica, on_trace, self);
    cfs_replica_set_features(self->replica, self->features);
    restore_terms(self);
    sim_check_start(cluster->check, self->number,
                    (CfsMember){self->number + 1, self->pid}, self->replica);
    if (saved_locks != NULL) {
        cfs_replica_restore_locks(self->replica, saved_locks,
                                  cluster->clock_ms);
    }
    g_queue_clear(&self->news);
    event.quorate = sim_faults_has_quorum(cluster, self->number);
    self->last_news = event.quorate;
    sim_node_step(self, &event);
    sim_node_tell_nodes(self);
    join(self);
}

void
sim_node_end(SimNode *self)
{
    if (self->replica == NULL) {
        return;
    }
    sim_check_end(self->cluster->check, self->number);
    g_clear_pointer(&self->replica, cfs_replica_free);
    self->is_paused = self->is_connected = self->is_leaving = FALSE;
    self->is_late = self->loses_update = self->has_work = FALSE;
    self->told_problem = 0;
    self->flush = 0;
    self->rejoin_ms = -1;
    g_queue_clear_full(&self->replies, g_free);
    g_queue_clear(&self->news);
    g_hash_table_remove_all(self->waiting);
    g_hash_table_remove_all(self->interrupted);
    g_hash_table_remove_all(self->syncs);
}

gboolean
sim_node_runs(const SimNode *self)
{
    return self->replica != NULL && !self->is_paused;
}

void
sim_node_lose(SimNode *self)
{
    if (sim_group_is_member(self->cluster->group, self->number)) {
        sim_group_drop(self->cluster->group, self->number);
    }
    if (self->replica != NULL && self->is_connected && !self->is_leaving) {
        self->is_leaving = TRUE;
        self->rejoin_ms = self->cluster->clock_ms + SIM_RECONNECT_MS;
    }
}

void
sim_node_submit(SimNode *self, guint64 id, CfsOp *op)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_REQUEST);

    g_hash_table_add(self->waiting, g_memdup2(&id, sizeof(id)));
    event.request.id = id;
    event.request.op = op;
    sim_check_request(self->cluster->check, self->number, id, op);
    step(self, &event);
    cfs_op_free(op);
}

void
sim_node_submit_sync(SimNode *self, guint64 id)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_SYNC);

    g_hash_table_add(self->waiting, g_memdup2(&id, sizeof(id)));
    g_hash_table_add(self->syncs, g_memdup2(&id, sizeof(id)));
    event.sync_id = id;
    sim_check_sync(self->cluster->check, self->number, id);
    step(self, &event);
}

static void
cancel_sync(SimNode *self, guint64 id)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_SYNC_CANCEL);

    g_hash_table_remove(self->syncs, &id);
    event.sync_id = id;
    sim_check_sync_cancel(self->cluster->check, self->number, id);
    step(self, &event);
}

void
sim_node_interrupt(SimNode *self)
{
    GHashTableIter iter;
    gpointer key;
    guint64 oldest = G_MAXUINT64;

    g_hash_table_iter_init(&iter, self->waiting);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        oldest = MIN(oldest, *(guint64 *)key);
    }
    if (oldest == G_MAXUINT64) {
        return;
    }
    g_hash_table_remove(self->waiting, &oldest);
    count_verdict(self->cluster, EINTR);
    if (g_hash_table_contains(self->syncs, &oldest)) {
        cancel_sync(self, oldest);
    } else {
        g_hash_table_add(self->interrupted, g_memdup2(&oldest, sizeof(oldest)));
    }
}

/* --- what can happen next ------------------------------------------------- */

static gboolean
disconnect(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_DISCONNECTED);

    self->is_leaving = FALSE;
    self->is_connected = FALSE;
    sim_node_step(self, &event);
    return TRUE;
}

gboolean
sim_node_get(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_MESSAGE);
    SimGet get;

    if (!sim_node_runs(self)) {
        return FALSE;
    }
    if (self->is_leaving) {
        return disconnect(self);
    }
    if (!sim_group_get(self->cluster->group, self->number, &get)) {
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
    sim_check_get(self->cluster->check, self->number, &get);
    step(self, &event);
    sim_get_clear(&get);
    return TRUE;
}

static void
tell_problem(SimNode *self, int problem)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_STORED);

    if (self->told_problem != problem) {
        self->told_problem = problem;
        event.store_errno = problem;
        sim_node_step(self, &event);
    }
}

/* TRUE: something came of it. */
static gboolean
fail_commit(SimNode *self)
{
    gboolean is_news = self->told_problem != self->problem;

    if (self->problem == EBUSY ||
        sim_store_committed(self->store) >= sim_store_submitted(self->store)) {
        return FALSE;
    }
    is_news = is_news || self->replies.length > 0;
    release_all(self, self->problem);
    tell_problem(self, self->problem);
    return is_news;
}

/* As the daemon's store: while it fails nothing is stable. */
static gboolean
finish_flush(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_FLUSHED);

    if (self->flush == 0 ||
        (self->problem == 0 &&
         sim_store_committed(self->store) < self->flush_after)) {
        return FALSE;
    }
    if (self->problem == 0) {
        sim_store_flush(self->store);
    }
    event.flushed.token = self->flush;
    event.flushed.problem = self->problem;
    self->flush = 0;
    sim_node_step(self, &event);
    return TRUE;
}

gboolean
sim_node_commit(SimNode *self)
{
    if (!sim_node_runs(self)) {
        return FALSE;
    }
    if (finish_flush(self)) {
        return TRUE;
    }
    if (self->problem != 0) {
        return fail_commit(self);
    }
    if (!sim_store_commit(self->store)) {
        return FALSE;
    }
    release_committed(self);
    tell_problem(self, 0);
    if (sim_store_committed(self->store) >= sim_store_submitted(self->store)) {
        self->is_late = FALSE;
    }
    return TRUE;
}

gboolean
sim_node_tell(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_QUORUM);

    if (!sim_node_runs(self) || self->news.length == 0) {
        return FALSE;
    }
    event.quorate = GPOINTER_TO_INT(g_queue_pop_head(&self->news));
    sim_node_step(self, &event);
    return TRUE;
}

gboolean
sim_node_work(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_CONTINUE);

    if (!sim_node_runs(self) || !self->has_work) {
        return FALSE;
    }
    self->has_work = FALSE;
    sim_node_step(self, &event);
    return TRUE;
}

void
sim_node_tick(SimNode *self)
{
    CfsEvent event = sim_node_event(self, CFS_EVENT_TICK);
    const SimReply *first = g_queue_peek_head(&self->replies);

    if (!sim_node_runs(self)) {
        return;
    }
    if (first != NULL && first->deadline_ms <= self->cluster->clock_ms) {
        self->is_late = TRUE;
        release_all(self, 0);
    }
    if (self->rejoin_ms >= 0 && self->rejoin_ms <= self->cluster->clock_ms &&
        !self->is_leaving &&
        sim_group_is_host_up(self->cluster->group, self->number)) {
        join(self);
    }
    sim_node_step(self, &event);
}

/* --- life ----------------------------------------------------------------- */

void
sim_node_init(SimNode *self, SimCluster *cluster, guint number)
{
    self->cluster = cluster;
    self->number = number;
    self->store = sim_store_new();
    g_queue_init(&self->replies);
    g_queue_init(&self->news);
    self->waiting =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->interrupted =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->syncs =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->rejoin_ms = -1;
    self->features = CFS_FEATURES_ALL;
}

void
sim_node_clear(SimNode *self)
{
    sim_node_end(self);
    sim_store_free(self->store);
    g_hash_table_unref(self->waiting);
    g_hash_table_unref(self->interrupted);
    g_hash_table_unref(self->syncs);
}
