#define G_LOG_DOMAIN "main"
#include "config.h"

#include "pmxcfs/io/effects.h"

#include <errno.h>
#include <time.h>

#include "pmxcfs/io/priorities.h"

#define TICK_MS 250
#define PATIENCE_MS 1000
#define CLOSED_MS 5
/* Changes that nobody here waits for, those of other nodes, are written
 * together. */
#define LAZY_COMMIT_MS 20
/* No step may keep requests waiting for longer. */
#define LONG_STEP_MS 20
/* What was sent is still on its way: work that sends more waits. */
#define BACKLOG_MS 1

/* An answer that waits for a transaction. */
typedef struct {
    guint64 id;
    guint64 number; /* of the store's */
    gint64 deadline_ms;
    int verdict;
    CfsEntry *entry;
} Waiting;

/* A barrier that waits. */
typedef struct {
    guint64 token; /* the key */
    CfsEffectsSynced done;
    gpointer data;
    guint64 id;
} Sync;

struct CfsEffects {
    CfsReplica *replica;
    CfsStore *store;
    CfsGroup *group;
    CfsSalvage *salvage;
    CfsEffectsClient client;
    CfsEffectsWatcher watcher;
    CfsMetrics *metrics;
    guint tick;
    guint work; /* source of the turn that a CONTINUE asked for */

    GQueue queue; /* of CfsEffect */
    gboolean is_running;
    guint depth;         /* of begin */
    gboolean has_stores; /* submitted, not yet to be committed */
    gboolean is_awaited; /* ... and an answer waits for them */
    guint lazy_commit; /* timer */
    GArray *closed;    /* of CfsSettled, to be told; NULL: none */
    guint closed_timer;

    GHashTable *syncs; /* token -> Sync */
    guint64 last_sync;

    GQueue waiting;    /* of Waiting, in the order of their numbers */
    guint64 submitted; /* newest number */
    guint64 committed;
    int problem;
    gboolean is_late; /* not durable */
};

gint64
cfs_effects_clock_ms(void)
{
    struct timespec now;

    /* Goes on while the host sleeps, and over a restart of the daemon. */
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
waiting_free(Waiting *waiting)
{
    g_clear_pointer(&waiting->entry, cfs_entry_unref);
    g_free(waiting);
}

static void
answer(CfsEffects *self, guint64 id, int verdict, CfsEntry *entry)
{
    if (self->client.on_reply != NULL) {
        self->client.on_reply(self->client.data, id, verdict, entry);
    }
}

/* One function per kind of effect ----------------------------------------- */

static void
run_send(CfsEffects *self, CfsEffect *effect)
{
    if (self->group != NULL) {
        cfs_metrics_add(self->metrics, CFS_METRIC_MESSAGES_SENT, 1);
        cfs_metrics_add(self->metrics, CFS_METRIC_MESSAGE_BYTES_SENT,
                        g_bytes_get_size(effect->message));
        cfs_group_send(self->group, effect->message);
    }
}

/* Returns: @terms, filled in, or NULL. */
static const CfsDbTerms *
terms_of(const CfsEffect *effect, CfsDbTerms *terms)
{
    if (effect->store.terms == NULL) {
        return NULL;
    }
    terms->record = *effect->store.terms;
    terms->version = effect->store.terms_version;
    return terms;
}

static void
run_store(CfsEffects *self, CfsEffect *effect)
{
    CfsDbTerms terms;

    if (self->store != NULL) {
        self->submitted =
            cfs_store_submit(self->store, effect->store.puts,
                             effect->store.deletes, terms_of(effect, &terms));
        self->has_stores = TRUE;
    }
}

static void
run_reply(CfsEffects *self, CfsEffect *effect)
{
    Waiting *waiting;

    if (!effect->reply.stored || self->store == NULL || self->is_late ||
        self->committed >= self->submitted) {
        answer(self, effect->reply.id, effect->reply.verdict,
               effect->reply.entry);
        return;
    }
    waiting = g_new0(Waiting, 1);
    waiting->id = effect->reply.id;
    waiting->number = self->submitted;
    waiting->deadline_ms = cfs_effects_clock_ms() + PATIENCE_MS;
    waiting->verdict = effect->reply.verdict;
    waiting->entry = g_steal_pointer(&effect->reply.entry);
    g_queue_push_tail(&self->waiting, waiting);
    self->is_awaited = TRUE;
}

static void
run_changed(CfsEffects *self, CfsEffect *effect)
{
    GPtrArray *changes = effect->changed.changes;

    cfs_metrics_add(self->metrics, CFS_METRIC_CHANGES_APPLIED, 1);
    for (guint i = 0; i < changes->len && self->watcher.on_changed != NULL;
         i++) {
        self->watcher.on_changed(self->watcher.data, changes->pdata[i],
                                 effect->changed.origin != 0);
    }
    if (self->watcher.on_applied != NULL) {
        self->watcher.on_applied(self->watcher.data, effect);
    }
    if (self->client.on_changed != NULL) {
        self->client.on_changed(self->client.data, effect->changed.changes,
                                effect->changed.origin, effect->step);
    } else {
        cfs_views_release(cfs_replica_views(self->replica), effect->step);
    }
}

static void
run_reloaded(CfsEffects *self, CfsEffect *effect)
{
    if (self->watcher.on_reloaded != NULL) {
        self->watcher.on_reloaded(self->watcher.data);
    }
    if (self->client.on_reloaded != NULL) {
        self->client.on_reloaded(self->client.data, effect->step);
    } else {
        cfs_views_release(cfs_replica_views(self->replica), effect->step);
    }
}

static void
run_leave(CfsEffects *self, CfsEffect *effect)
{
    if (self->group != NULL) {
        cfs_group_leave(self->group, effect->delay_ms);
    }
}

static gboolean on_work(gpointer data);

static void
run_continue(CfsEffects *self, CfsEffect *effect)
{
    g_assert(self->work == 0);
    self->work = g_idle_add_full(CFS_PRIORITY_WORK, on_work, self, NULL);
}

static void
run_cluster_log(CfsEffects *self, CfsEffect *effect)
{
    if (self->watcher.on_log != NULL) {
        self->watcher.on_log(self->watcher.data, effect->log.priority,
                             effect->log.text);
    }
}

static void dispatch(CfsEffects *self, CfsEvent *event);

/* Of the FLUSH effect, which is one at a time. */
static void
on_flushed(gpointer data, guint64 token, int verdict)
{
    CfsEvent event = {.kind = CFS_EVENT_FLUSHED,
                      .flushed = {.token = token, .problem = verdict}};

    dispatch(data, &event);
}

static void
run_flush(CfsEffects *self, CfsEffect *effect)
{
    if (self->store != NULL) {
        cfs_store_flush(self->store, on_flushed, self, effect->flush);
    }
}

static void
run_reply_sync(CfsEffects *self, CfsEffect *effect)
{
    guint64 token = effect->reply_sync.id;
    g_autofree Sync *sync = g_hash_table_lookup(self->syncs, &token);

    if (sync != NULL) {
        (void)g_hash_table_steal(self->syncs, &token);
        sync->done(sync->data, sync->id, effect->reply_sync.verdict,
                   effect->reply_sync.level);
    }
}

static void
run_overruled(CfsEffects *self, CfsEffect *effect)
{
    if (self->salvage != NULL) {
        cfs_salvage_keep(self->salvage, effect->overruled.whole,
                         effect->overruled.entries, effect->overruled.leader);
    }
}

static void
run_settled(CfsEffects *self, CfsEffect *effect)
{
    if (self->watcher.on_settled != NULL) {
        self->watcher.on_settled(self->watcher.data, effect);
    }
}

typedef void (*RunEffect)(CfsEffects *self, CfsEffect *effect);

static const RunEffect run_effect[] = {
    [CFS_EFFECT_SEND] = run_send,
    [CFS_EFFECT_STORE] = run_store,
    [CFS_EFFECT_REPLY] = run_reply,
    [CFS_EFFECT_CHANGED] = run_changed,
    [CFS_EFFECT_RELOADED] = run_reloaded,
    [CFS_EFFECT_LEAVE] = run_leave,
    [CFS_EFFECT_CONTINUE] = run_continue,
    [CFS_EFFECT_CLUSTER_LOG] = run_cluster_log,
    [CFS_EFFECT_FLUSH] = run_flush,
    [CFS_EFFECT_REPLY_SYNC] = run_reply_sync,
    [CFS_EFFECT_OVERRULED] = run_overruled,
    [CFS_EFFECT_SETTLED] = run_settled,
};

/* A client may answer an effect with a new request: its effects go to the end
 * of the queue that is being worked on. */
static void
run_queue(CfsEffects *self)
{
    CfsEffect *effect;

    if (self->is_running) {
        return;
    }
    self->is_running = TRUE;
    while ((effect = g_queue_pop_head(&self->queue)) != NULL) {
        run_effect[effect->kind](self, effect);
        cfs_effect_free(effect);
    }
    self->is_running = FALSE;
}

static void
note_duration(const CfsEvent *event)
{
    gint64 took_ms = cfs_effects_clock_ms() - event->clock_ms;

    if (took_ms > LONG_STEP_MS) {
        g_debug("an event of kind %d took %d ms", (int)event->kind,
                (int)took_ms);
    }
}

static void
dispatch(CfsEffects *self, CfsEvent *event)
{
    event->time_s = (guint32)time(NULL);
    event->clock_ms = cfs_effects_clock_ms();
    cfs_effects_begin(self);
    cfs_replica_step(self->replica, event, &self->queue);
    run_queue(self);
    cfs_effects_end(self);
    note_duration(event);
}

static gboolean
on_work(gpointer data)
{
    CfsEffects *self = data;
    CfsEvent event = {.kind = CFS_EVENT_CONTINUE};

    self->work = 0;
    if (self->group != NULL && cfs_group_has_backlog(self->group)) {
        self->work = g_timeout_add_full(CFS_PRIORITY_WORK, BACKLOG_MS, on_work,
                                        self, NULL);
    } else {
        dispatch(self, &event);
    }
    return G_SOURCE_REMOVE;
}

void
cfs_effects_begin(CfsEffects *self)
{
    self->depth++;
}

static void
commit(CfsEffects *self)
{
    g_clear_handle_id(&self->lazy_commit, g_source_remove);
    self->is_awaited = FALSE;
    if (self->has_stores && self->store != NULL) {
        cfs_store_commit(self->store);
    }
    self->has_stores = FALSE;
}

static gboolean
on_lazy_commit(gpointer data)
{
    CfsEffects *self = data;

    self->lazy_commit = 0;
    commit(self);
    return G_SOURCE_REMOVE;
}

void
cfs_effects_end(CfsEffects *self)
{
    g_assert(self->depth > 0);
    self->depth--;
    if (self->depth == 0 && self->watcher.on_turn != NULL) {
        self->watcher.on_turn(self->watcher.data);
    }
    if (self->depth > 0 || !self->has_stores) {
        return;
    }
    if (self->is_awaited) {
        commit(self);
    } else if (self->lazy_commit == 0) {
        self->lazy_commit = g_timeout_add_full(
            CFS_PRIORITY_STORE, LAZY_COMMIT_MS, on_lazy_commit, self, NULL);
    }
}

/* Waiting for the store --------------------------------------------------- */

/* Lets go the first in the queue. */
static void
release(CfsEffects *self, int problem)
{
    Waiting *waiting = g_queue_pop_head(&self->waiting);

    answer(self, waiting->id, problem != 0 ? problem : waiting->verdict,
           problem != 0 ? NULL : waiting->entry);
    waiting_free(waiting);
}

static void
release_committed(CfsEffects *self)
{
    Waiting *first;

    while ((first = g_queue_peek_head(&self->waiting)) != NULL &&
           first->number <= self->committed) {
        release(self, 0);
    }
}

/* All that waits now; not what their owners ask for next. */
static void
release_all(CfsEffects *self, int problem)
{
    for (guint n = self->waiting.length; n > 0; n--) {
        release(self, problem);
    }
}

static void
release_late(CfsEffects *self)
{
    Waiting *first = g_queue_peek_head(&self->waiting);

    if (first == NULL || cfs_effects_clock_ms() < first->deadline_ms) {
        return;
    }
    if (!self->is_late) {
        self->is_late = TRUE;
        g_warning("a commit takes longer than %d ms: changes are answered "
                  "from memory, this node is not durable until it is done",
                  PATIENCE_MS);
    }
    release_all(self, 0);
}

/* A database that somebody holds is only a slow one: the patience decides, and
 * the replica is not told. */
static int
errno_for_replica(int problem)
{
    return problem == EBUSY ? 0 : problem;
}

static void
note_problem(CfsEffects *self, int problem)
{
    int told = errno_for_replica(self->problem);
    CfsEvent event = {.kind = CFS_EVENT_STORED,
                      .store_errno = errno_for_replica(problem)};

    if (problem == self->problem) {
        return;
    }
    self->problem = problem;
    if (problem != 0) {
        g_critical("the database cannot be written: %s; trying again each "
                   "second",
                   g_strerror(problem));
    } else {
        g_message("the database is written again, nothing was lost");
    }
    if (event.store_errno != told) {
        dispatch(self, &event);
    }
}

void
cfs_effects_stored(gpointer data, guint64 committed, int problem)
{
    CfsEffects *self = data;

    cfs_effects_begin(self);
    self->committed = committed;
    release_committed(self);
    if (errno_for_replica(problem) != 0) {
        release_all(self, problem);
    }
    note_problem(self, problem);
    if (self->is_late && committed >= self->submitted) {
        self->is_late = FALSE;
        g_message("the database has caught up, this node is durable again");
    }
    cfs_effects_end(self);
}

/* Events ------------------------------------------------------------------ */

static gboolean
on_tick(gpointer data)
{
    CfsEffects *self = data;
    CfsEvent event = {.kind = CFS_EVENT_TICK};

    cfs_effects_begin(self);
    release_late(self);
    dispatch(self, &event);
    cfs_effects_end(self);
    return G_SOURCE_CONTINUE;
}

void
cfs_effects_request(CfsEffects *self, guint64 id, const CfsOp *op)
{
    CfsEvent event = {.kind = CFS_EVENT_REQUEST,
                      .request = {.id = id, .op = op}};

    dispatch(self, &event);
}

void
cfs_effects_connected(CfsEffects *self, CfsMember member)
{
    CfsEvent event = {.kind = CFS_EVENT_CONNECTED,
                      .connected = {.self = member}};

    dispatch(self, &event);
}

void
cfs_effects_disconnected(CfsEffects *self)
{
    CfsEvent event = {.kind = CFS_EVENT_DISCONNECTED};

    dispatch(self, &event);
}

void
cfs_effects_confchg(CfsEffects *self,
                    const CfsMember *members,
                    guint n_members,
                    gboolean has_joined)
{
    CfsEvent event = {.kind = CFS_EVENT_CONFCHG,
                      .confchg = {.members = members,
                                  .n_members = n_members,
                                  .has_joined = has_joined}};

    dispatch(self, &event);
}

/* Each message tells its sender's time. */
static void
note_clock(CfsEffects *self, CfsMember sender, GBytes *bytes)
{
    PveReader reader;
    CfsHeader header;

    pve_reader_init_bytes(&reader, bytes);
    if (cfs_message_parse(&reader, CFS_PROTOCOL_DATABASE, &header) ==
        CFS_PARSE_OK) {
        cfs_metrics_set_clock(self->metrics, sender.nodeid,
                              (gint64)header.time - (gint64)time(NULL));
    }
}

void
cfs_effects_message(CfsEffects *self, CfsMember sender, GBytes *bytes)
{
    CfsEvent event = {.kind = CFS_EVENT_MESSAGE,
                      .message = {.sender = sender, .bytes = bytes}};

    cfs_metrics_add(self->metrics, CFS_METRIC_MESSAGES_RECEIVED, 1);
    cfs_metrics_add(self->metrics, CFS_METRIC_MESSAGE_BYTES_RECEIVED,
                    g_bytes_get_size(bytes));
    note_clock(self, sender, bytes);
    dispatch(self, &event);
}

void
cfs_effects_quorum(CfsEffects *self, gboolean quorate, guint n_nodes)
{
    CfsEvent event = {.kind = CFS_EVENT_QUORUM,
                      .quorate = quorate,
                      .n_quorum_nodes = n_nodes};
    gboolean was_quorate = cfs_replica_is_quorate(self->replica);

    dispatch(self, &event);
    if (quorate != was_quorate && self->client.on_quorum != NULL) {
        self->client.on_quorum(self->client.data);
    }
}

guint64
cfs_effects_sync(CfsEffects *self,
                 CfsEffectsSynced done,
                 gpointer data,
                 guint64 id)
{
    guint64 token = ++self->last_sync;
    CfsEvent event = {.kind = CFS_EVENT_SYNC, .sync_id = token};
    Sync *sync = g_new0(Sync, 1);

    g_assert(self->store != NULL);
    sync->token = token;
    sync->done = done;
    sync->data = data;
    sync->id = id;
    g_hash_table_insert(self->syncs, &sync->token, sync);
    dispatch(self, &event);
    return token;
}

void
cfs_effects_sync_cancel(CfsEffects *self, guint64 token)
{
    CfsEvent event = {.kind = CFS_EVENT_SYNC_CANCEL, .sync_id = token};

    if (g_hash_table_remove(self->syncs, &token)) {
        dispatch(self, &event);
    }
}

/* Most are renamed next: then there is nothing to tell. */
static gboolean
on_closed(gpointer data)
{
    CfsEffects *self = data;
    g_autoptr(GArray) files = g_steal_pointer(&self->closed);
    CfsEvent event = {.kind = CFS_EVENT_SETTLED, .settled = files};

    self->closed_timer = 0;
    dispatch(self, &event);
    return G_SOURCE_REMOVE;
}

void
cfs_effects_closed(CfsEffects *self, guint64 inode)
{
    const CfsEntry *entry =
        cfs_tree_get(cfs_replica_tree(self->replica), inode);
    CfsSettled file = {.inode = inode};

    if (entry == NULL) {
        return;
    }
    file.version = entry->version;
    if (self->closed == NULL) {
        self->closed = g_array_new(FALSE, FALSE, sizeof(CfsSettled));
        self->closed_timer = g_timeout_add_full(CFS_PRIORITY_FUSE, CLOSED_MS,
                                                on_closed, self, NULL);
    }
    g_array_append_val(self->closed, file);
}

void
cfs_effects_nodes(CfsEffects *self, guint n_nodes)
{
    CfsEvent event = {.kind = CFS_EVENT_NODES, .n_nodes = n_nodes};

    dispatch(self, &event);
}

gboolean
cfs_effects_is_durable(CfsEffects *self)
{
    return !self->is_late && self->problem == 0;
}

void
cfs_effects_set_metrics(CfsEffects *self, CfsMetrics *metrics)
{
    self->metrics = metrics;
}

CfsMetrics *
cfs_effects_metrics(CfsEffects *self)
{
    return self->metrics;
}

static void
collect_replica(CfsEffects *self)
{
    static const CfsMetric modes[] = {
        [CFS_MODE_START] = CFS_METRIC_MODE_START,
        [CFS_MODE_START_SYNC] = CFS_METRIC_MODE_START_SYNC,
        [CFS_MODE_SYNCED] = CFS_METRIC_MODE_SYNCED,
        [CFS_MODE_UPDATE] = CFS_METRIC_MODE_UPDATE,
        [CFS_MODE_LEAVE] = CFS_METRIC_MODE_LEAVE,
        [CFS_MODE_VERSION_ERROR] = CFS_METRIC_MODE_VERSION_ERROR,
    };
    CfsTree *tree = cfs_replica_tree(self->replica);

    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        cfs_metrics_set(self->metrics, modes[i],
                        (CfsMode)i == cfs_replica_mode(self->replica));
    }
    cfs_metrics_set(self->metrics, CFS_METRIC_QUORATE,
                    (guint64)cfs_replica_is_quorate(self->replica));
    cfs_metrics_set(self->metrics, CFS_METRIC_TREE_VERSION,
                    cfs_tree_root(tree)->version);
    cfs_metrics_set(self->metrics, CFS_METRIC_TREE_ENTRIES,
                    cfs_tree_n_entries(tree));
    cfs_metrics_set(self->metrics, CFS_METRIC_TREE_BYTES,
                    cfs_tree_total_bytes(tree));
}

void
cfs_effects_collect(CfsEffects *self)
{
    collect_replica(self);
    cfs_metrics_set(self->metrics, CFS_METRIC_STORE_WAITING,
                    self->waiting.length);
    cfs_metrics_set(self->metrics, CFS_METRIC_DURABLE,
                    (guint64)cfs_effects_is_durable(self));
    if (self->store != NULL) {
        cfs_store_collect(self->store, self->metrics);
    }
}

CfsReplica *
cfs_effects_replica(CfsEffects *self)
{
    return self->replica;
}

void
cfs_effects_set_store(CfsEffects *self, CfsStore *store)
{
    self->store = store;
}

void
cfs_effects_set_group(CfsEffects *self, CfsGroup *group)
{
    self->group = group;
}

void
cfs_effects_set_salvage(CfsEffects *self, CfsSalvage *salvage)
{
    self->salvage = salvage;
}

void
cfs_effects_set_client(CfsEffects *self, const CfsEffectsClient *client)
{
    self->client = client != NULL ? *client : (CfsEffectsClient){0};
}

void
cfs_effects_set_watcher(CfsEffects *self, const CfsEffectsWatcher *watcher)
{
    self->watcher = watcher != NULL ? *watcher : (CfsEffectsWatcher){0};
}

CfsEffects *
cfs_effects_new(CfsReplica *replica)
{
    CfsEffects *self = g_new0(CfsEffects, 1);

    self->replica = replica;
    self->syncs =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    self->tick =
        g_timeout_add_full(CFS_PRIORITY_GROUP, TICK_MS, on_tick, self, NULL);
    return self;
}

void
cfs_effects_free(CfsEffects *self)
{
    if (self == NULL) {
        return;
    }
    g_source_remove(self->tick);
    g_clear_handle_id(&self->work, g_source_remove);
    g_clear_handle_id(&self->lazy_commit, g_source_remove);
    g_clear_handle_id(&self->closed_timer, g_source_remove);
    g_clear_pointer(&self->closed, g_array_unref);
    g_queue_clear_full(&self->queue, (GDestroyNotify)cfs_effect_free);
    g_queue_clear_full(&self->waiting, (GDestroyNotify)waiting_free);
    g_hash_table_unref(self->syncs);
    g_free(self);
}
