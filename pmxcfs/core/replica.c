#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include <errno.h>

/* The pause before joining again doubles from the first to the last when we
 * leave again and again; a minute in peace forgets it. */
#define REJOIN_FIRST_MS 100u
#define REJOIN_DOUBLINGS 8u
#define REJOIN_PEACE_MS 60000
/* ... and where members speak a newer protocol. */
#define REJOIN_VERSION_MS 60000u
/* Syslog's word (RFC 5424), which the cluster log uses. */
#define PRIORITY_WARNING 4

/* --- small parts ---------------------------------------------------------- */

void
cfs_replica_held_free(gpointer data)
{
    Held *self = data;

    cfs_op_free(self->op);
    g_free(self);
}

void
cfs_replica_queued_free(gpointer data)
{
    Queued *self = data;

    cfs_op_free(self->op);
    g_clear_pointer(&self->bytes, g_bytes_unref);
    g_free(self);
}

static void
clear_queue(GQueue *queue, GDestroyNotify free_item)
{
    g_queue_clear_full(queue, free_item);
}

void
cfs_effect_free(CfsEffect *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_pointer(&self->message, g_bytes_unref);
    g_clear_pointer(&self->store.puts, g_ptr_array_unref);
    g_clear_pointer(&self->store.deletes, g_array_unref);
    g_free(self->store.terms);
    g_clear_pointer(&self->reply.entry, cfs_entry_unref);
    g_clear_pointer(&self->changed.changes, g_ptr_array_unref);
    g_clear_pointer(&self->settled.entry, cfs_entry_unref);
    g_free(self->settled.path);
    g_free(self->log.text);
    g_clear_pointer(&self->overruled.whole, g_ptr_array_unref);
    g_clear_pointer(&self->overruled.entries, g_ptr_array_unref);
    g_free(self);
}

/* inode -> CfsEntry; the key lies in the entry. */
GHashTable *
cfs_replica_new_updates(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                 (GDestroyNotify)cfs_entry_unref);
}

/* What was to be done in pieces is of an epoch that is gone. */
static void
drop_work(CfsReplica *self)
{
    g_clear_pointer(&self->hashing, g_ptr_array_unref);
    cfs_replica_drop_updates(self);
    cfs_replica_verify_forget(self);
}

CfsReplica *
cfs_replica_new(CfsTree *tree, CfsViews *views)
{
    CfsReplica *self = g_new0(CfsReplica, 1);

    self->tree = tree;
    self->views = views;
    self->locks = cfs_dirlock_new();
    self->sync = cfs_sync_new();
    self->terms = cfs_terms_new();
    cfs_barriers_init(&self->barriers);
    self->mode = CFS_MODE_START;
    self->in_flight =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    self->updates = cfs_replica_new_updates();
    g_queue_init(&self->held);
    g_queue_init(&self->early);
    g_queue_init(&self->late);
    cfs_views_on_reload(views);
    return self;
}

void
cfs_replica_free(CfsReplica *self)
{
    if (self == NULL) {
        return;
    }
    clear_queue(&self->held, cfs_replica_held_free);
    clear_queue(&self->early, cfs_replica_queued_free);
    clear_queue(&self->late, cfs_replica_queued_free);
    g_hash_table_unref(self->in_flight);
    g_hash_table_unref(self->updates);
    drop_work(self);
    cfs_sync_free(self->sync);
    cfs_terms_free(self->terms);
    cfs_barriers_clear(&self->barriers);
    cfs_dirlock_free(self->locks);
    cfs_views_free(self->views);
    cfs_tree_free(self->tree);
    g_free(self);
}

void
cfs_replica_set_trace(CfsReplica *self, CfsTrace trace, gpointer data)
{
    self->trace = trace;
    self->trace_data = data;
}

void
cfs_replica_trace(CfsReplica *self,
                  GLogLevelFlags level,
                  const char *format,
                  ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (self->trace == NULL) {
        return;
    }
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    self->trace(self->trace_data, level, text);
}

CfsEffect *
cfs_replica_emit(CfsReplica *self, CfsEffectKind kind)
{
    CfsEffect *effect = g_new0(CfsEffect, 1);

    effect->kind = kind;
    g_queue_push_tail(self->effects, effect);
    return effect;
}

void
cfs_replica_reply(CfsReplica *self, guint64 id, int verdict)
{
    CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_REPLY);

    effect->reply.id = id;
    effect->reply.verdict = verdict;
}

void
cfs_replica_send_bytes(CfsReplica *self, GBytes *message)
{
    cfs_replica_emit(self, CFS_EFFECT_SEND)->message = g_bytes_ref(message);
}

/* @payload is NULL for none. */
void
cfs_replica_send_state_message(CfsReplica *self,
                               guint16 type,
                               GByteArray *payload)
{
    CfsHeader header = {.type = type,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = self->event->time_s,
                        .epoch = self->epoch};
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) message = NULL;

    cfs_message_write(out, &header);
    if (payload != NULL) {
        pve_write_bytes(out, payload->data, payload->len);
    }
    message = g_byte_array_free_to_bytes(out);
    cfs_replica_send_bytes(self, message);
}

/* Sends an operation. @id 0: nobody waits for it. */
void
cfs_replica_send_op(CfsReplica *self, const CfsOp *op, guint64 id)
{
    CfsHeader header = {.type = CFS_MESSAGE_NORMAL,
                        .subtype = (guint16)op->kind,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = self->event->time_s,
                        .count = ++self->count};
    GByteArray *out;
    g_autoptr(GBytes) message = NULL;

    if (id != 0) {
        g_hash_table_insert(self->in_flight,
                            g_memdup2(&self->count, sizeof(self->count)),
                            g_memdup2(&id, sizeof(id)));
    }
    if (op->is_append) {
        message = cfs_append_message_encode(op, self->count, header.time);
    } else {
        out = g_byte_array_sized_new(CFS_NORMAL_HEADER_SIZE + cfs_op_size(op));
        cfs_message_write(out, &header);
        cfs_op_encode(op, out);
        message = g_byte_array_free_to_bytes(out);
    }
    cfs_replica_send_bytes(self, message);
}

/* Takes the request that waits for our message @count. 0: nobody does. */
guint64
cfs_replica_take_request(CfsReplica *self, guint64 count)
{
    guint64 *found = g_hash_table_lookup(self->in_flight, &count);
    guint64 id = found != NULL ? *found : 0;

    g_hash_table_remove(self->in_flight, &count);
    return id;
}

static int
compare_u64(gconstpointer a, gconstpointer b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

    return x < y ? -1 : x > y;
}

/* The members may or may not apply what we sent: EBUSY means unknown. */
static void
fail_in_flight(CfsReplica *self)
{
    g_autoptr(GList) ids = g_hash_table_get_values(self->in_flight);

    /* A table has no order; the simulator replays ours. */
    ids = g_list_sort(ids, compare_u64);
    for (GList *l = ids; l != NULL; l = l->next) {
        cfs_replica_reply(self, *(guint64 *)l->data, EBUSY);
    }
    g_hash_table_remove_all(self->in_flight);
}

void
cfs_replica_fail_held(CfsReplica *self, int verdict)
{
    Held *held;

    while ((held = g_queue_pop_head(&self->held)) != NULL) {
        cfs_replica_reply(self, held->id, verdict);
        cfs_replica_held_free(held);
    }
}

void
cfs_replica_forget_group(CfsReplica *self)
{
    fail_in_flight(self);
    clear_queue(&self->early, cfs_replica_queued_free);
    clear_queue(&self->late, cfs_replica_queued_free);
    g_hash_table_remove_all(self->updates);
    drop_work(self);
    cfs_dirlock_forget_expected(self->locks);
    cfs_sync_set_members(self->sync, NULL, 0);
    cfs_terms_set_members(self->terms, self->self, NULL, 0);
    cfs_replica_reset_barriers(self);
    /* What we said last may have been counted: it stays said. */
    self->barriers.acked_sure = cfs_terms_record(self->terms)->acked;
}

void
cfs_replica_leave_for(CfsReplica *self, const char *reason, guint delay_ms)
{
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "%s - leaving CPG group",
                      reason);
    self->mode = CFS_MODE_LEAVE;
    cfs_replica_forget_group(self);
    cfs_replica_emit(self, CFS_EFFECT_LEAVE)->delay_ms = delay_ms;
}

/* Our own state is in doubt: out, in again, and take the others' copy. */
void
cfs_replica_leave(CfsReplica *self, const char *reason)
{
    guint delay_ms;

    if (self->mode == CFS_MODE_LEAVE || self->mode == CFS_MODE_VERSION_ERROR) {
        return;
    }
    if (self->event->clock_ms - self->synced_since_ms > REJOIN_PEACE_MS) {
        self->leaves = 0;
    }
    delay_ms = REJOIN_FIRST_MS << MIN(self->leaves, REJOIN_DOUBLINGS);
    self->leaves++;
    cfs_replica_leave_for(self, reason, delay_ms);
}

/* One line for each configuration: who sends nonsense sends much of it. */
void
cfs_replica_refuse(CfsReplica *self, const char *why)
{
    CfsMember sender = self->event->message.sender;

    cfs_replica_trace(
        self, self->has_refused ? G_LOG_LEVEL_DEBUG : G_LOG_LEVEL_WARNING,
        "ignored a message of member %u/%u: %s", sender.nodeid, sender.pid,
        why);
    self->has_refused = TRUE;
}

void
cfs_replica_log_to_cluster(CfsReplica *self, const char *text)
{
    CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_CLUSTER_LOG);

    effect->log.priority = PRIORITY_WARNING;
    effect->log.text = g_strdup(text);
}

/* We cannot follow the others, and must not keep them from going on. One bad
 * message must not end us for good either: we look again whether they still
 * speak so. */
void
cfs_replica_stop_for_version(CfsReplica *self)
{
    cfs_replica_trace(self, G_LOG_LEVEL_CRITICAL,
                      "detected newer protocol - please update this node");
    self->mode = CFS_MODE_VERSION_ERROR;
    cfs_replica_forget_group(self);
    cfs_replica_fail_held(self, EIO);
    cfs_replica_fail_barriers(self, EIO);
    cfs_replica_emit(self, CFS_EFFECT_LEAVE)->delay_ms = REJOIN_VERSION_MS;
}

static gboolean
is_zero(const CfsEpoch *epoch)
{
    const CfsEpoch zero = {0};

    return cfs_epoch_equal(epoch, &zero);
}

static void
on_message(CfsReplica *self)
{
    static void (*const handlers[])(CfsReplica *, const CfsHeader *,
                                    PveReader *) = {
        [CFS_MESSAGE_SYNC_START] = cfs_replica_on_sync_start,
        [CFS_MESSAGE_STATE] = cfs_replica_on_state,
        [CFS_MESSAGE_UPDATE] = cfs_replica_on_update,
        [CFS_MESSAGE_UPDATE_COMPLETE] = cfs_replica_on_update_complete,
        [CFS_MESSAGE_VERIFY_REQUEST] = cfs_replica_on_verify_request,
        [CFS_MESSAGE_VERIFY] = cfs_replica_on_verify,
    };
    CfsHeader header;
    PveReader reader;

    if (self->mode != CFS_MODE_START_SYNC && self->mode != CFS_MODE_SYNCED &&
        self->mode != CFS_MODE_UPDATE) {
        return;
    }
    pve_reader_init_bytes(&reader, self->event->message.bytes);
    switch (cfs_message_parse(&reader, CFS_PROTOCOL_DATABASE, &header)) {
    case CFS_PARSE_OK:
        break;
    case CFS_PARSE_MALFORMED:
        cfs_replica_refuse(self, "it is too short");
        return;
    case CFS_PARSE_OLDER:
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "ignore message with wrong protocol version %u",
                          header.protocol);
        return;
    case CFS_PARSE_NEWER:
        cfs_replica_stop_for_version(self);
        return;
    }
    if (header.type == CFS_MESSAGE_NORMAL) {
        cfs_replica_on_normal(self, &header, &reader);
        return;
    }
    if (header.type == CFS_MESSAGE_OURS && is_zero(&header.epoch)) {
        cfs_replica_on_ours(self, &header, &reader);
        return;
    }
    if (header.type != CFS_MESSAGE_SYNC_START &&
        !cfs_epoch_equal(&header.epoch, &self->epoch)) {
        return; /* of an older membership */
    }
    /* Types we do not know cannot change a tree: no reason to leave. */
    if (header.type < G_N_ELEMENTS(handlers) && handlers[header.type] != NULL) {
        handlers[header.type](self, &header, &reader);
    }
}

/* --- membership
 * --------------------------------------------------------------------- */

/* Members that are new do not know what waits in our queue: each sends its own
 * part again, and all begin with an empty queue (spec 7.2, step 4a). */
static void
resend_early(CfsReplica *self)
{
    Queued *item;

    if (self->early.length > 0) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "queue not empty - resending %u messages",
                          self->early.length);
    }
    while ((item = g_queue_pop_head(&self->early)) != NULL) {
        if (cfs_member_equal(item->sender, self->self)) {
            cfs_replica_send_bytes(self, item->bytes);
        }
        cfs_replica_queued_free(item);
    }
}

/* Synced members have applied what waits behind an update; their state will
 * hold it, and nobody will tell us its result. */
static void
drop_late(CfsReplica *self)
{
    Queued *item;

    while ((item = g_queue_pop_head(&self->late)) != NULL) {
        if (cfs_member_equal(item->sender, self->self)) {
            guint64 id = cfs_replica_take_request(self, item->count);

            if (id != 0) {
                cfs_replica_reply(self, id, EBUSY);
            }
        }
        cfs_replica_queued_free(item);
    }
}

static void
new_epoch(CfsReplica *self)
{
    self->epoch.counter = ++self->epoch_counter;
    self->epoch.time = self->event->time_s;
    self->epoch.nodeid = self->self.nodeid;
    self->epoch.pid = self->self.pid;
}

static void
start_sync(CfsReplica *self)
{
    if (self->event->confchg.has_joined) {
        resend_early(self);
    }
    self->mode = CFS_MODE_START_SYNC;
    self->round_ms = self->told_ms = self->event->clock_ms;
    self->is_doubtful = FALSE;
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                      "starting data syncronisation");
    if (cfs_sync_lowest_nodeid(self->sync) == self->self.nodeid) {
        cfs_replica_send_state_message(self, CFS_MESSAGE_SYNC_START, NULL);
    }
}

static void
on_confchg(CfsReplica *self)
{
    const CfsMember *members = self->event->confchg.members;
    guint n = self->event->confchg.n_members;
    g_autofree char *text = NULL;

    if (self->mode == CFS_MODE_LEAVE || self->mode == CFS_MODE_VERSION_ERROR) {
        return;
    }
    self->changed_ms = self->event->clock_ms;
    cfs_replica_limit_acked(self);
    new_epoch(self);
    cfs_replica_reset_barriers(self);
    self->has_refused = FALSE;
    drop_late(self);
    g_hash_table_remove_all(self->updates);
    drop_work(self);
    cfs_sync_set_members(self->sync, members, n);
    cfs_terms_set_members(self->terms, self->self, members, n);
    text = cfs_sync_describe(self->sync, CFS_SYNC_ALL);
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "members: %s", text);
    if (!cfs_sync_is_member(self->sync, self->self)) {
        if (self->mode != CFS_MODE_START) {
            cfs_replica_leave(self, "this node is no member of the group");
        }
        return;
    }
    if (n > 1) {
        start_sync(self);
        return;
    }
    cfs_sync_set_all_synced(self->sync);
    cfs_replica_settle_alone(self);
    cfs_replica_enter_synced(self);
    cfs_replica_flush_early(self);
}

static void
on_connected(CfsReplica *self)
{
    self->self = self->event->connected.self;
    self->mode = CFS_MODE_START;
    cfs_dirlock_reload(self->locks, self->tree, self->event->clock_ms);
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "start cluster connection");
}

static void
on_disconnected(CfsReplica *self)
{
    cfs_replica_forget_group(self);
    if (self->mode != CFS_MODE_VERSION_ERROR) {
        self->mode = CFS_MODE_START;
    }
}

static void
on_stored(CfsReplica *self)
{
    self->store_errno = self->event->store_errno;
}

/* --- work in pieces -------------------------------------------------------
 */

static gboolean
has_work(CfsReplica *self)
{
    return self->hashing != NULL || self->outgoing != NULL ||
           cfs_replica_verify_has_work(self);
}

/* What others wait for comes first. */
static void
on_continue(CfsReplica *self)
{
    self->is_continuing = FALSE;
    if (self->hashing != NULL) {
        cfs_replica_continue_state(self);
    } else if (self->outgoing != NULL) {
        cfs_replica_continue_updates(self);
    } else if (cfs_replica_verify_has_work(self)) {
        cfs_replica_verify_continue(self);
    }
}

static void
ask_to_continue(CfsReplica *self)
{
    if (!self->is_continuing && has_work(self)) {
        self->is_continuing = TRUE;
        cfs_replica_emit(self, CFS_EFFECT_CONTINUE);
    }
}

void
cfs_replica_step(CfsReplica *self, const CfsEvent *event, GQueue *effects)
{
    static void (*const handlers[])(CfsReplica *) = {
        [CFS_EVENT_REQUEST] = cfs_replica_on_request,
        [CFS_EVENT_CONNECTED] = on_connected,
        [CFS_EVENT_DISCONNECTED] = on_disconnected,
        [CFS_EVENT_CONFCHG] = on_confchg,
        [CFS_EVENT_MESSAGE] = on_message,
        [CFS_EVENT_QUORUM] = cfs_replica_on_quorum,
        [CFS_EVENT_STORED] = on_stored,
        [CFS_EVENT_TICK] = cfs_replica_on_tick,
        [CFS_EVENT_SYNC] = cfs_replica_on_sync_request,
        [CFS_EVENT_SYNC_CANCEL] = cfs_replica_on_sync_cancel,
        [CFS_EVENT_FLUSHED] = cfs_replica_on_flushed,
        [CFS_EVENT_NODES] = cfs_replica_on_nodes,
        [CFS_EVENT_SETTLED] = cfs_replica_on_closed,
        [CFS_EVENT_CONTINUE] = on_continue,
    };

    g_assert(event->kind < G_N_ELEMENTS(handlers));
    self->event = event;
    self->effects = effects;
    handlers[event->kind](self);
    cfs_replica_submit_held(self);
    cfs_replica_repair_phantoms(self);
    ask_to_continue(self);
    self->event = NULL;
    self->effects = NULL;
}

/* --- queries
 * ------------------------------------------------------------------------- */

CfsTree *
cfs_replica_tree(CfsReplica *self)
{
    return self->tree;
}

CfsViews *
cfs_replica_views(CfsReplica *self)
{
    return self->views;
}

CfsMode
cfs_replica_mode(CfsReplica *self)
{
    return self->mode;
}

gboolean
cfs_replica_is_quorate(CfsReplica *self)
{
    return self->quorate;
}

void
cfs_replica_set_features(CfsReplica *self, guint64 features)
{
    cfs_terms_set_features(self->terms, features);
}

const CfsTermRecord *
cfs_replica_term_record(CfsReplica *self)
{
    return cfs_terms_record(self->terms);
}

char *
cfs_replica_save_locks(CfsReplica *self)
{
    return cfs_dirlock_save(self->locks);
}

void
cfs_replica_restore_locks(CfsReplica *self, const char *text, gint64 clock_ms)
{
    cfs_dirlock_restore(self->locks, text, clock_ms);
}

const char *
cfs_mode_name(CfsMode mode)
{
    static const char *const names[] = {
        [CFS_MODE_START] = "start",
        [CFS_MODE_START_SYNC] = "start-sync",
        [CFS_MODE_SYNCED] = "synced",
        [CFS_MODE_UPDATE] = "update",
        [CFS_MODE_LEAVE] = "leave",
        [CFS_MODE_VERSION_ERROR] = "version-error",
    };

    return names[mode];
}
