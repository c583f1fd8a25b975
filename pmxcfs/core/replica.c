#include "config.h"

#include "pmxcfs/core/replica.h"

#include "pmxcfs/core/access.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/core/dirlock.h"
#include "pmxcfs/core/sync.h"

#include <errno.h>
#include <string.h>

/* A change that cannot be sent, because the group is being joined or synced,
 * waits this long before its caller hears EBUSY. */
#define HOLD_MS 10000
/* The pause before joining again doubles from the first to the last when we
 * leave again and again; a minute in peace forgets it. */
#define REJOIN_FIRST_MS 100u
#define REJOIN_DOUBLINGS 8u
#define REJOIN_PEACE_MS 60000

/* A change of this node that was not sent yet. */
typedef struct {
    guint64 id;
    CfsOp *op;
    gint64 since_ms;
} Held;

/* A normal message that waits for the end of a synchronisation. */
typedef struct {
    CfsMember sender;
    guint32 time;
    guint64 count;
    CfsOp *op;
    GBytes *bytes; /* the whole message, to send it again */
} Queued;

struct CfsReplica {
    CfsTree *tree;
    CfsViews *views;
    CfsDirlock *locks;
    CfsSync *sync;
    CfsMode mode;
    CfsTrace trace;
    gpointer trace_data;

    CfsMember self;
    gboolean quorate;
    int store_errno;
    CfsEpoch epoch;
    guint32 epoch_counter;
    guint64 count; /* of the last normal message sent */

    GHashTable *in_flight; /* count -> request id, both guint64 */
    GQueue held;           /* of Held */
    GQueue early;          /* of Queued, by count: spec queue 1 */
    GQueue late;           /* of Queued, in order: the list L of spec 7.7 */
    GHashTable *updates;   /* inode -> CfsEntry, in UPDATE */

    guint leaves; /* in a row */
    gint64 synced_since_ms;

    /* Of the step under way. */
    const CfsEvent *event;
    GQueue *effects;
};

/* --- small parts ---------------------------------------------------------- */

static void
held_free(gpointer data)
{
    Held *self = data;

    cfs_op_free(self->op);
    g_free(self);
}

static void
queued_free(gpointer data)
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
    g_clear_pointer(&self->reply.entry, cfs_entry_unref);
    g_clear_pointer(&self->change, cfs_change_free);
    g_free(self);
}

/* inode -> CfsEntry; the key lies in the entry. */
static GHashTable *
new_updates(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                 (GDestroyNotify)cfs_entry_unref);
}

CfsReplica *
cfs_replica_new(CfsTree *tree, CfsViews *views)
{
    CfsReplica *self = g_new0(CfsReplica, 1);

    self->tree = tree;
    self->views = views;
    self->locks = cfs_dirlock_new();
    self->sync = cfs_sync_new();
    self->mode = CFS_MODE_START;
    self->in_flight =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    self->updates = new_updates();
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
    clear_queue(&self->held, held_free);
    clear_queue(&self->early, queued_free);
    clear_queue(&self->late, queued_free);
    g_hash_table_unref(self->in_flight);
    g_hash_table_unref(self->updates);
    cfs_sync_free(self->sync);
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

static void G_GNUC_PRINTF(3, 4)
    trace(CfsReplica *self, GLogLevelFlags level, const char *format, ...)
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

static CfsEffect *
emit(CfsReplica *self, CfsEffectKind kind)
{
    CfsEffect *effect = g_new0(CfsEffect, 1);

    effect->kind = kind;
    g_queue_push_tail(self->effects, effect);
    return effect;
}

static void
reply(CfsReplica *self, guint64 id, int verdict)
{
    CfsEffect *effect = emit(self, CFS_EFFECT_REPLY);

    effect->reply.id = id;
    effect->reply.verdict = verdict;
}

static void
send_bytes(CfsReplica *self, GBytes *message)
{
    emit(self, CFS_EFFECT_SEND)->message = g_bytes_ref(message);
}

/* @payload is NULL for none. */
static void
send_state_message(CfsReplica *self, guint16 type, GByteArray *payload)
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
    send_bytes(self, message);
}

/* Sends an operation. @id 0: nobody waits for it. */
static void
send_op(CfsReplica *self, const CfsOp *op, guint64 id)
{
    CfsHeader header = {.type = CFS_MESSAGE_NORMAL,
                        .subtype = (guint16)op->kind,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = self->event->time_s,
                        .count = ++self->count};
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) message = NULL;

    if (id != 0) {
        g_hash_table_insert(self->in_flight,
                            g_memdup2(&self->count, sizeof(self->count)),
                            g_memdup2(&id, sizeof(id)));
    }
    cfs_message_write(out, &header);
    cfs_op_encode(op, out);
    message = g_byte_array_free_to_bytes(out);
    send_bytes(self, message);
}

/* Takes the request that waits for our message @count. 0: nobody does. */
static guint64
take_request(CfsReplica *self, guint64 count)
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
        reply(self, *(guint64 *)l->data, EBUSY);
    }
    g_hash_table_remove_all(self->in_flight);
}

static void
fail_held(CfsReplica *self, int verdict)
{
    Held *held;

    while ((held = g_queue_pop_head(&self->held)) != NULL) {
        reply(self, held->id, verdict);
        held_free(held);
    }
}

static void
forget_group(CfsReplica *self)
{
    g_autoptr(GArray) nobody = g_array_new(FALSE, FALSE, sizeof(CfsMember));

    fail_in_flight(self);
    clear_queue(&self->early, queued_free);
    clear_queue(&self->late, queued_free);
    g_hash_table_remove_all(self->updates);
    cfs_sync_set_members(self->sync, NULL, 0);
    cfs_views_set_online(self->views, nobody);
}

/* Our own state is in doubt: out, in again, and take the others' copy. */
static void
leave(CfsReplica *self, const char *reason)
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
    trace(self, G_LOG_LEVEL_MESSAGE, "%s - leaving CPG group", reason);
    self->mode = CFS_MODE_LEAVE;
    forget_group(self);
    emit(self, CFS_EFFECT_LEAVE)->delay_ms = delay_ms;
}

static void
stop_for_version(CfsReplica *self)
{
    trace(self, G_LOG_LEVEL_CRITICAL,
          "detected newer protocol - please update this node");
    self->mode = CFS_MODE_VERSION_ERROR;
    forget_group(self);
    fail_held(self, EIO);
    emit(self, CFS_EFFECT_LEAVE)->delay_ms = G_MAXUINT;
}

/* --- normal messages --------------------------------------------------------
 */

static void
store_changes(CfsReplica *self, GPtrArray *changes)
{
    CfsEffect *effect = emit(self, CFS_EFFECT_STORE);

    effect->store.puts =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    effect->store.deletes = g_array_new(FALSE, FALSE, sizeof(guint64));
    for (guint i = 0; i < changes->len; i++) {
        CfsChange *change = g_ptr_array_index(changes, i);

        if (change->after != NULL) {
            g_ptr_array_add(effect->store.puts, cfs_entry_ref(change->after));
        } else {
            g_array_append_val(effect->store.deletes, change->before->inode);
        }
    }
    g_ptr_array_add(effect->store.puts,
                    cfs_entry_ref(cfs_tree_root(self->tree)));
}

static void
announce_changes(CfsReplica *self, const CfsOp *op, GPtrArray *changes)
{
    cfs_views_on_changes(self->views, op, changes);
    while (changes->len > 0) {
        CfsChange *change = g_ptr_array_steal_index(changes, 0);

        cfs_dirlock_on_change(self->locks, change, self->event->clock_ms);
        emit(self, CFS_EFFECT_CHANGED)->change = change;
    }
}

static gboolean
makes_entry(const CfsOp *op)
{
    return op->kind == CFS_OP_CREATE || op->kind == CFS_OP_MKDIR;
}

/* Only the member with the lowest node id judges a lock's age. */
static void
answer_unlock_request(CfsReplica *self, const CfsOp *op)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, op->path);
    g_autoptr(CfsOp) unlock = NULL;
    guint8 sum[CFS_DIGEST_SIZE];

    if (entry == NULL || !cfs_entry_is_directory(entry) ||
        !g_str_has_prefix(op->path, "priv/lock/") ||
        self->self.nodeid != cfs_sync_lowest_nodeid(self->sync)) {
        return;
    }
    cfs_entry_checksum(entry, sum);
    if (memcmp(sum, op->checksum, sizeof(sum)) == 0 &&
        cfs_dirlock_is_expired(self->locks, op->path, entry,
                               self->event->clock_ms)) {
        unlock = cfs_op_copy(op);
        unlock->kind = CFS_OP_UNLOCK;
        send_op(self, unlock, 0);
    }
}

static void
apply_op(CfsReplica *self,
         CfsMember sender,
         guint32 time,
         guint64 count,
         const CfsOp *op)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    g_autoptr(CfsEntry) made = NULL;
    gboolean own = cfs_member_equal(sender, self->self);
    guint64 id = own ? take_request(self, count) : 0;
    gboolean changed;
    int verdict;

    if (!self->quorate) {
        if (id != 0) {
            reply(self, id, EACCES);
        }
        leave(self, "received write while not quorate - trigger resync");
        return;
    }
    verdict = cfs_tree_apply(self->tree, op, sender.nodeid, time, changes);
    changed = changes->len > 0;
    if (changed) {
        CfsChange *last = g_ptr_array_index(changes, changes->len - 1);

        made =
            verdict == 0 && makes_entry(op) ? cfs_entry_ref(last->after) : NULL;
        store_changes(self, changes);
        announce_changes(self, op, changes);
    }
    if (op->kind == CFS_OP_UNLOCK_REQUEST) {
        answer_unlock_request(self, op);
    }
    if (id != 0) {
        CfsEffect *effect = emit(self, CFS_EFFECT_REPLY);

        effect->reply.id = id;
        effect->reply.verdict = verdict;
        effect->reply.entry = g_steal_pointer(&made);
        effect->reply.stored = changed;
    }
}

static int
compare_counts(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Queued *x = a, *y = b;

    /* Never 0: equal counts stay in the order of their arrival. */
    return x->count <= y->count ? -1 : 1;
}

/* Applies what waited, as far as its senders are synced (spec 7.7). */
static void
flush_early(CfsReplica *self)
{
    GQueue all = self->early;
    Queued *item;

    g_queue_init(&self->early);
    if (all.length > 0) {
        trace(self, G_LOG_LEVEL_MESSAGE, "queue length %u", all.length);
    }
    while ((item = g_queue_pop_head(&all)) != NULL) {
        if (self->mode != CFS_MODE_SYNCED) {
            queued_free(item); /* we left on the way */
        } else if (!cfs_sync_is_member(self->sync, item->sender)) {
            trace(self, G_LOG_LEVEL_MESSAGE,
                  "remove message from non-member %u/%u", item->sender.nodeid,
                  item->sender.pid);
            queued_free(item);
        } else if (!cfs_sync_is_synced(self->sync, item->sender)) {
            g_queue_push_tail(&self->early, item);
        } else {
            apply_op(self, item->sender, item->time, item->count, item->op);
            queued_free(item);
        }
    }
}

static void
flush_late(CfsReplica *self)
{
    Queued *item;

    while ((item = g_queue_pop_head(&self->late)) != NULL) {
        if (self->mode == CFS_MODE_SYNCED) {
            apply_op(self, item->sender, item->time, item->count, item->op);
        }
        queued_free(item);
    }
}

static void
on_normal(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    CfsMember sender = self->event->message.sender;
    g_autoptr(CfsOp) op = cfs_op_decode(header->subtype, reader);
    Queued *item;

    if (op == NULL) {
        leave(self, "received a malformed or unknown operation");
        return;
    }
    if (self->mode == CFS_MODE_SYNCED) {
        apply_op(self, sender, header->time, header->count, op);
        return;
    }
    if (!cfs_sync_is_member(self->sync, sender)) {
        leave(self, "received an operation from a non-member");
        return;
    }
    item = g_new0(Queued, 1);
    item->sender = sender;
    item->time = header->time;
    item->count = header->count;
    item->op = g_steal_pointer(&op);
    item->bytes = g_bytes_ref(self->event->message.bytes);
    if (self->mode == CFS_MODE_UPDATE) {
        g_queue_push_tail(&self->late, item);
    } else {
        g_queue_insert_sorted(&self->early, item, compare_counts, NULL);
    }
}

/* --- requests ----------------------------------------------------------------
 */

/* utime(0) on a lock asks for its removal, before it is refused. */
static void
send_unlock_request(CfsReplica *self, const CfsOp *op)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, op->path);
    g_autoptr(CfsOp) request = NULL;

    if (entry == NULL || !cfs_entry_is_directory(entry) || op->offset != 0 ||
        !g_str_has_prefix(op->path, "priv/lock/")) {
        return;
    }
    request = cfs_op_new(CFS_OP_UNLOCK_REQUEST, op->path);
    cfs_entry_checksum(entry, request->checksum);
    send_op(self, request, 0);
}

/* Takes nothing; may rewrite @op. */
static void
submit(CfsReplica *self, guint64 id, CfsOp *op)
{
    gboolean done = FALSE;
    int verdict = cfs_access_check_send(self->tree, op, &done);

    if (verdict != 0 || done) {
        reply(self, id, verdict);
        return;
    }
    if (op->kind == CFS_OP_MTIME) {
        send_unlock_request(self, op);
    }
    send_op(self, op, id);
}

/* What this node can say at once. 0: it must go to the group. */
static int
refuse_request(CfsReplica *self)
{
    if (self->mode == CFS_MODE_VERSION_ERROR) {
        return EIO;
    }
    if (!self->quorate) {
        return EACCES;
    }
    return self->store_errno;
}

static void
on_request(CfsReplica *self)
{
    guint64 id = self->event->request.id;
    int verdict = refuse_request(self);
    CfsOp *op;

    if (verdict != 0) {
        reply(self, id, verdict);
        return;
    }
    op = cfs_op_copy(self->event->request.op);
    if (self->mode == CFS_MODE_SYNCED) {
        submit(self, id, op);
        cfs_op_free(op);
    } else {
        Held *held = g_new0(Held, 1);

        held->id = id;
        held->op = op;
        held->since_ms = self->event->clock_ms;
        g_queue_push_tail(&self->held, held);
    }
}

static void
submit_held(CfsReplica *self)
{
    Held *held;

    while (self->mode == CFS_MODE_SYNCED &&
           (held = g_queue_pop_head(&self->held)) != NULL) {
        submit(self, held->id, held->op);
        held_free(held);
    }
}

static void
on_tick(CfsReplica *self)
{
    Held *held;

    while ((held = g_queue_peek_head(&self->held)) != NULL &&
           self->event->clock_ms - held->since_ms > HOLD_MS) {
        reply(self, held->id, EBUSY);
        held_free(g_queue_pop_head(&self->held));
    }
}

static void
on_quorum(CfsReplica *self)
{
    if (self->event->quorate == self->quorate) {
        return;
    }
    self->quorate = self->event->quorate;
    cfs_views_set_quorate(self->views, self->quorate);
    trace(self, G_LOG_LEVEL_MESSAGE, "node %s quorum",
          self->quorate ? "has" : "lost");
    if (!self->quorate) {
        fail_held(self, EACCES);
    }
}

/* --- synchronising
 * -------------------------------------------------------------- */

/* All that moves the state machine into SYNCED. */
static void
enter_synced(CfsReplica *self)
{
    self->mode = CFS_MODE_SYNCED;
    self->synced_since_ms = self->event->clock_ms;
    trace(self, G_LOG_LEVEL_MESSAGE, "all data is up to date");
}

static void
send_state(CfsReplica *self)
{
    g_autoptr(GBytes) index = cfs_tree_index(self->tree);
    g_autoptr(GByteArray) payload = g_byte_array_new();
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(index, &size);

    pve_write_bytes(payload, bytes, size);
    send_state_message(self, CFS_MESSAGE_STATE, payload);
}

/* The whole entries, children after parents or not: receivers take any
 * order. Always ends with UPDATE_COMPLETE. */
static void
send_updates(CfsReplica *self)
{
    g_autoptr(GHashTable) missing = cfs_sync_missing(self->sync);
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self->tree);
    guint sent = 0;

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);
        g_autoptr(GByteArray) payload = NULL;

        if (g_hash_table_contains(missing, &entry->inode)) {
            payload = g_byte_array_new();
            cfs_entry_encode(entry, payload);
            send_state_message(self, CFS_MESSAGE_UPDATE, payload);
            sent++;
        }
    }
    trace(self, G_LOG_LEVEL_MESSAGE, "sent all (%u) updates", sent);
    send_state_message(self, CFS_MESSAGE_UPDATE_COMPLETE, NULL);
}

/* What synced members applied while we are being updated, in their order. */
static void
enter_update(CfsReplica *self)
{
    GQueue all = self->early;
    Queued *item;

    self->mode = CFS_MODE_UPDATE;
    trace(self, G_LOG_LEVEL_MESSAGE, "waiting for updates from leader");
    g_queue_init(&self->early);
    while ((item = g_queue_pop_head(&all)) != NULL) {
        g_queue_push_tail(cfs_sync_is_synced(self->sync, item->sender)
                              ? &self->late
                              : &self->early,
                          item);
    }
}

static void
on_all_states(CfsReplica *self)
{
    CfsMember leader = cfs_sync_leader(self->sync);
    g_autofree char *synced = cfs_sync_describe(self->sync, TRUE);

    trace(self, G_LOG_LEVEL_MESSAGE, "received all states");
    trace(self, G_LOG_LEVEL_MESSAGE, "leader is %u/%u", leader.nodeid,
          leader.pid);
    trace(self, G_LOG_LEVEL_MESSAGE, "synced members: %s", synced);
    if (cfs_member_equal(leader, self->self)) {
        send_updates(self);
    }
    if (cfs_sync_is_synced(self->sync, self->self)) {
        cfs_sync_done(self->sync);
        enter_synced(self);
        flush_early(self);
    } else {
        enter_update(self);
    }
}

static void
on_sync_start(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    CfsMember sender = self->event->message.sender;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode == CFS_MODE_UPDATE) {
        leave(self, "received a sync request while waiting for updates");
        return;
    }
    if (sender.nodeid != cfs_sync_lowest_nodeid(self->sync)) {
        trace(self, G_LOG_LEVEL_MESSAGE, "sync request from wrong member %u/%u",
              sender.nodeid, sender.pid);
    }
    trace(self, G_LOG_LEVEL_MESSAGE, "received sync request (epoch %u/%u/%u)",
          header->epoch.nodeid, header->epoch.pid, header->epoch.counter);
    self->epoch = header->epoch;
    cfs_sync_forget_states(self->sync);
    send_state(self);
}

static void
on_state(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    gsize size = pve_reader_left(reader);
    const guint8 *bytes = pve_reader_take(reader, size);
    g_autoptr(GBytes) state = NULL;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode == CFS_MODE_UPDATE) {
        leave(self, "received a state while waiting for updates");
        return;
    }
    state = g_bytes_new(bytes, size);
    switch (
        cfs_sync_add_state(self->sync, self->event->message.sender, state)) {
    case CFS_SYNC_WAITING:
        return;
    case CFS_SYNC_COMPLETE:
        on_all_states(self);
        return;
    case CFS_SYNC_REFUSED:
        leave(self, "received a state from a non-member, or a second one");
        return;
    case CFS_SYNC_MALFORMED:
        leave(self, "received a state that is no index");
        return;
    }
}

static void
on_update(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    CfsEntry *entry;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode != CFS_MODE_UPDATE) {
        leave(self, "received an update while collecting states");
        return;
    }
    entry = cfs_entry_decode(reader);
    if (entry == NULL) {
        leave(self, "received a malformed update");
        return;
    }
    g_hash_table_replace(self->updates, &entry->inode, entry);
}

/* Holds what the leader sent against its index. Returns: (owned) the updates
 * as the leader has them, or NULL. */
static GHashTable *
match_updates(CfsReplica *self, GError **error)
{
    const CfsIndex *index = cfs_sync_leader_index(self->sync);
    g_autoptr(GHashTable) matched = new_updates();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CfsEntry *entry = value;
        const guint8 *digest = cfs_index_find(index, entry->inode);
        CfsEntry *match =
            digest != NULL ? cfs_entry_match(entry, digest) : NULL;

        if (match == NULL) {
            g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT,
                        "update of inode %016" G_GINT64_MODIFIER
                        "X ('%s') is not in the leader's index",
                        entry->inode, entry->name);
            return NULL;
        }
        g_hash_table_replace(matched, &match->inode, match);
    }
    return g_steal_pointer(&matched);
}

/* Our tree with what the leader sent: (owned) it, or NULL when that is not the
 * leader's tree, byte for byte. */
static CfsTree *
build_leaders_tree(CfsReplica *self, GArray *gone, GError **error)
{
    const CfsIndex *index = cfs_sync_leader_index(self->sync);
    g_autoptr(GPtrArray) ours = cfs_tree_entries(self->tree);
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GBytes) bytes = NULL;
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < ours->len; i++) {
        CfsEntry *entry = g_ptr_array_index(ours, i);

        if (cfs_index_find(index, entry->inode) == NULL) {
            g_array_append_val(gone, entry->inode);
        } else if (!g_hash_table_contains(self->updates, &entry->inode)) {
            g_ptr_array_add(entries, cfs_entry_ref(entry));
        }
    }
    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(entries, cfs_entry_ref(value));
    }
    tree = cfs_tree_new_from_entries(entries, error);
    if (tree == NULL) {
        return NULL;
    }
    bytes = cfs_tree_index(tree);
    if (!g_bytes_equal(bytes, cfs_index_bytes(index))) {
        g_set_error_literal(error, CFS_ERROR, CFS_ERROR_CONTENT,
                            "new index does not match master index");
        return NULL;
    }
    return g_steal_pointer(&tree);
}

static void
replace_tree(CfsReplica *self, CfsTree *tree, GArray *gone)
{
    CfsEffect *effect = emit(self, CFS_EFFECT_STORE);
    GHashTableIter iter;
    gpointer value;

    effect->store.deletes = g_array_ref(gone);
    effect->store.puts =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(effect->store.puts, cfs_entry_ref(value));
    }
    g_hash_table_remove_all(self->updates);
    cfs_guests_continue(cfs_tree_guests(tree), cfs_tree_guests(self->tree),
                        cfs_tree_lookup(tree, "nodes") != NULL);
    cfs_tree_free(self->tree);
    self->tree = tree;
    cfs_dirlock_reload(self->locks, tree, self->event->clock_ms);
    cfs_views_on_reload(self->views);
    (void)emit(self, CFS_EFFECT_RELOADED);
}

static void
commit_update(CfsReplica *self)
{
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_autoptr(GHashTable) matched = NULL;
    g_autoptr(GError) error = NULL;
    CfsTree *tree = NULL;

    trace(self, G_LOG_LEVEL_MESSAGE,
          "update complete - trying to commit (got %u inode updates)",
          g_hash_table_size(self->updates));
    matched = match_updates(self, &error);
    if (matched != NULL) {
        g_hash_table_unref(self->updates);
        self->updates = g_steal_pointer(&matched);
        tree = build_leaders_tree(self, gone, &error);
    }
    if (tree == NULL) {
        trace(self, G_LOG_LEVEL_WARNING, "state transfer refused: %s",
              error->message);
        leave(self, "state transfer refused");
        return;
    }
    replace_tree(self, tree, gone);
    cfs_sync_done(self->sync);
    cfs_sync_set_all_synced(self->sync);
    enter_synced(self);
    flush_late(self);
    flush_early(self);
}

static void
on_update_complete(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    if (self->mode == CFS_MODE_UPDATE) {
        commit_update(self);
    } else if (self->mode == CFS_MODE_SYNCED) {
        cfs_sync_set_all_synced(self->sync);
        flush_early(self);
    } else {
        leave(self, "received the end of updates while collecting states");
    }
}

static void
on_message(CfsReplica *self)
{
    static void (*const handlers[])(CfsReplica *, const CfsHeader *,
                                    PveReader *) = {
        [CFS_MESSAGE_SYNC_START] = on_sync_start,
        [CFS_MESSAGE_STATE] = on_state,
        [CFS_MESSAGE_UPDATE] = on_update,
        [CFS_MESSAGE_UPDATE_COMPLETE] = on_update_complete,
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
        leave(self, "received a message that is too short");
        return;
    case CFS_PARSE_OLDER:
        trace(self, G_LOG_LEVEL_MESSAGE,
              "ignore message with wrong protocol version %u", header.protocol);
        return;
    case CFS_PARSE_NEWER:
        stop_for_version(self);
        return;
    }
    if (header.type == CFS_MESSAGE_NORMAL) {
        on_normal(self, &header, &reader);
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
        trace(self, G_LOG_LEVEL_MESSAGE,
              "queue not empty - resending %u messages", self->early.length);
    }
    while ((item = g_queue_pop_head(&self->early)) != NULL) {
        if (cfs_member_equal(item->sender, self->self)) {
            send_bytes(self, item->bytes);
        }
        queued_free(item);
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
            guint64 id = take_request(self, item->count);

            if (id != 0) {
                reply(self, id, EBUSY);
            }
        }
        queued_free(item);
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
    trace(self, G_LOG_LEVEL_MESSAGE, "starting data syncronisation");
    if (cfs_sync_lowest_nodeid(self->sync) == self->self.nodeid) {
        send_state_message(self, CFS_MESSAGE_SYNC_START, NULL);
    }
}

static void
on_confchg(CfsReplica *self)
{
    const CfsMember *members = self->event->confchg.members;
    guint n = self->event->confchg.n_members;
    g_autoptr(GArray) online = g_array_new(FALSE, FALSE, sizeof(CfsMember));
    g_autofree char *text = NULL;

    if (self->mode == CFS_MODE_LEAVE || self->mode == CFS_MODE_VERSION_ERROR) {
        return;
    }
    new_epoch(self);
    drop_late(self);
    g_hash_table_remove_all(self->updates);
    cfs_sync_set_members(self->sync, members, n);
    g_array_append_vals(online, members, n);
    cfs_views_set_online(self->views, online);
    text = cfs_sync_describe(self->sync, FALSE);
    trace(self, G_LOG_LEVEL_MESSAGE, "members: %s", text);
    if (!cfs_sync_is_member(self->sync, self->self)) {
        if (self->mode != CFS_MODE_START) {
            leave(self, "this node is no member of the group");
        }
        return;
    }
    if (n > 1) {
        start_sync(self);
        return;
    }
    cfs_sync_set_all_synced(self->sync);
    enter_synced(self);
    flush_early(self);
}

static void
on_connected(CfsReplica *self)
{
    self->self = self->event->connected.self;
    self->mode = CFS_MODE_START;
    cfs_dirlock_reload(self->locks, self->tree, self->event->clock_ms);
    trace(self, G_LOG_LEVEL_MESSAGE, "start cluster connection");
}

static void
on_disconnected(CfsReplica *self)
{
    forget_group(self);
    if (self->mode != CFS_MODE_VERSION_ERROR) {
        self->mode = CFS_MODE_START;
    }
}

static void
on_stored(CfsReplica *self)
{
    self->store_errno = self->event->store_errno;
}

void
cfs_replica_step(CfsReplica *self, const CfsEvent *event, GQueue *effects)
{
    static void (*const handlers[])(CfsReplica *) = {
        [CFS_EVENT_REQUEST] = on_request,
        [CFS_EVENT_CONNECTED] = on_connected,
        [CFS_EVENT_DISCONNECTED] = on_disconnected,
        [CFS_EVENT_CONFCHG] = on_confchg,
        [CFS_EVENT_MESSAGE] = on_message,
        [CFS_EVENT_QUORUM] = on_quorum,
        [CFS_EVENT_STORED] = on_stored,
        [CFS_EVENT_TICK] = on_tick,
    };

    g_assert(event->kind < G_N_ELEMENTS(handlers));
    self->event = event;
    self->effects = effects;
    handlers[event->kind](self);
    submit_held(self);
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
