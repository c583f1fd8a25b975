#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include "pmxcfs/core/access.h"

#include <errno.h>
#include <string.h>

/* A change that cannot be sent, because the group is being joined or synced,
 * waits this long before its caller hears EBUSY. */
#define HOLD_MS 10000
/* A change that we cannot interpret makes us leave this often in a while, as
 * who can interpret it goes on with another tree. Somebody who goes on sending
 * such is no reason to be away for ever: then verification decides. */
#define UNKNOWN_MAX 3u
#define UNKNOWN_PEACE_MS 600000

/* --- normal messages --------------------------------------------------------
 */

static void
store_changes(CfsReplica *self, GPtrArray *changes)
{
    CfsEffect *effect = cfs_replica_emit_store(self);

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
announce_changes(CfsReplica *self,
                 const CfsOp *op,
                 GPtrArray *changes,
                 guint64 origin)
{
    CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_CHANGED);

    cfs_views_on_changes(self->views, op, changes);
    for (guint i = 0; i < changes->len; i++) {
        cfs_dirlock_on_change(self->locks, changes->pdata[i],
                              self->event->clock_ms);
    }
    effect->changed.changes = g_ptr_array_ref(changes);
    effect->changed.origin = origin;
    effect->changed.version = cfs_tree_root(self->tree)->version;
    effect->changed.writer = cfs_tree_root(self->tree)->writer;
    effect->step = cfs_views_end_step(self->views, self->tree);
}

static gboolean
makes_entry(const CfsOp *op)
{
    return op->kind == CFS_OP_CREATE || op->kind == CFS_OP_MKDIR;
}

/* Does the request still name a lock that is there? */
static const CfsEntry *
find_lock(CfsReplica *self, const CfsOp *request)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, request->path);
    guint8 sum[CFS_DIGEST_SIZE];

    if (entry == NULL || !cfs_entry_is_directory(entry) ||
        !g_str_has_prefix(request->path, "priv/lock/")) {
        return NULL;
    }
    cfs_entry_checksum(entry, sum);
    return memcmp(sum, request->checksum, sizeof(sum)) == 0 ? entry : NULL;
}

static void
send_unlock(CfsReplica *self, const CfsOp *request)
{
    g_autoptr(CfsOp) unlock = cfs_op_copy(request);

    unlock->kind = CFS_OP_UNLOCK;
    cfs_replica_send_op(self, unlock, 0);
}

/* The member with the lowest node id decides, the others see to it that it
 * does: its clock may have begun later than theirs. */
static void
answer_unlock_request(CfsReplica *self, const CfsOp *op)
{
    const CfsEntry *entry = find_lock(self, op);

    if (entry == NULL || !cfs_dirlock_is_expired(self->locks, op->path, entry,
                                                 self->event->clock_ms)) {
        return;
    }
    if (self->self.nodeid == cfs_sync_lowest_nodeid(self->sync)) {
        send_unlock(self, op);
    } else {
        cfs_dirlock_expect_removal(self->locks, op, self->event->clock_ms);
    }
}

static void
unlock_overdue(CfsReplica *self)
{
    CfsOp *request;

    while ((request = cfs_dirlock_take_overdue(
                self->locks, self->event->clock_ms)) != NULL) {
        if (self->mode == CFS_MODE_SYNCED && self->quorate &&
            find_lock(self, request) != NULL) {
            cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                              "removing the expired lock '%s'", request->path);
            send_unlock(self, request);
        }
        cfs_op_free(request);
    }
}

/* Returns: (owned) the write that an append is now: at the end of the file. */
static CfsOp *
write_at_end(CfsReplica *self, const CfsOp *append)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, append->path);
    CfsOp *write = cfs_op_copy(append);

    write->is_append = FALSE;
    write->offset = entry != NULL ? entry->size : 0;
    return write;
}

static gboolean
can_append(CfsReplica *self)
{
    return (cfs_terms_features(self->terms) & CFS_FEATURE_APPEND) != 0;
}

/* All members apply an APPEND, or none does: a reference peer has dropped it.
 * Then its sender, who knows that nobody applied it, sends what all know. */
static void
apply_append(CfsReplica *self,
             CfsMember sender,
             guint32 time,
             guint64 count,
             const CfsOp *append)
{
    g_autoptr(CfsOp) write = write_at_end(self, append);
    guint64 id;

    if (can_append(self)) {
        cfs_replica_apply_op(self, sender, time, count, write);
        return;
    }
    id = cfs_member_equal(sender, self->self)
             ? cfs_replica_take_request(self, count)
             : 0;
    if (id != 0 && !self->quorate) {
        cfs_replica_reply(self, id, EACCES);
    } else if (id != 0) {
        cfs_replica_send_op(self, write, id);
    }
}

void
cfs_replica_apply_op(CfsReplica *self,
                     CfsMember sender,
                     guint32 time,
                     guint64 count,
                     const CfsOp *op)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    g_autoptr(CfsEntry) made = NULL;
    gboolean own = cfs_member_equal(sender, self->self);
    guint64 id = own ? cfs_replica_take_request(self, count) : 0;
    gboolean changed;
    int verdict;

    g_assert(!op->is_append);
    if (!self->quorate) {
        if (id != 0) {
            cfs_replica_reply(self, id, EACCES);
        }
        cfs_replica_leave(self,
                          "received write while not quorate - trigger resync");
        return;
    }
    verdict = cfs_tree_apply(self->tree, op, sender.nodeid, time, changes);
    changed = changes->len > 0;
    if (changed) {
        CfsChange *last = g_ptr_array_index(changes, changes->len - 1);

        made =
            verdict == 0 && makes_entry(op) ? cfs_entry_ref(last->after) : NULL;
        store_changes(self, changes);
        announce_changes(self, op, changes, id);
    }
    if (op->kind == CFS_OP_UNLOCK_REQUEST) {
        answer_unlock_request(self, op);
    }
    if (id != 0) {
        CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_REPLY);

        effect->reply.id = id;
        effect->reply.verdict = verdict;
        effect->reply.entry = g_steal_pointer(&made);
        effect->reply.stored = changed;
    }
}

/* What came in order, now or from a queue. */
static void
apply(CfsReplica *self,
      CfsMember sender,
      guint32 time,
      guint64 count,
      const CfsOp *op)
{
    if (op->is_append) {
        apply_append(self, sender, time, count, op);
    } else {
        cfs_replica_apply_op(self, sender, time, count, op);
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
void
cfs_replica_flush_early(CfsReplica *self)
{
    GQueue all = self->early;
    Queued *item;

    g_queue_init(&self->early);
    if (all.length > 0) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "queue length %u",
                          all.length);
    }
    while ((item = g_queue_pop_head(&all)) != NULL) {
        if (self->mode != CFS_MODE_SYNCED) {
            cfs_replica_queued_free(item); /* we left on the way */
        } else if (!cfs_sync_is_member(self->sync, item->sender)) {
            cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                              "remove message from non-member %u/%u",
                              item->sender.nodeid, item->sender.pid);
            cfs_replica_queued_free(item);
        } else if (!cfs_sync_is_synced(self->sync, item->sender)) {
            g_queue_push_tail(&self->early, item);
        } else {
            apply(self, item->sender, item->time, item->count, item->op);
            cfs_replica_queued_free(item);
        }
    }
}

void
cfs_replica_flush_late(CfsReplica *self)
{
    Queued *item;

    while ((item = g_queue_pop_head(&self->late)) != NULL) {
        if (self->mode == CFS_MODE_SYNCED) {
            apply(self, item->sender, item->time, item->count, item->op);
        }
        cfs_replica_queued_free(item);
    }
}

/* Applies it, or keeps it until members are equal. @op: (takes). */
static void
take_op(CfsReplica *self, guint32 time, guint64 count, CfsOp *op)
{
    CfsMember sender = self->event->message.sender;
    Queued *item;

    if (self->mode == CFS_MODE_SYNCED) {
        apply(self, sender, time, count, op);
        cfs_op_free(op);
        return;
    }
    item = g_new0(Queued, 1);
    item->sender = sender;
    item->time = time;
    item->count = count;
    item->op = op;
    item->bytes = g_bytes_ref(self->event->message.bytes);
    if (self->mode == CFS_MODE_UPDATE) {
        g_queue_push_tail(&self->late, item);
    } else {
        g_queue_insert_sorted(&self->early, item, compare_counts, NULL);
    }
}

static void
on_unknown_operation(CfsReplica *self)
{
    gint64 now = self->event->clock_ms;

    if (now - self->unknown_ms > UNKNOWN_PEACE_MS) {
        self->n_unknown = 0;
    }
    self->unknown_ms = now;
    if (++self->n_unknown > UNKNOWN_MAX) {
        cfs_replica_refuse(self, "a change of an unknown kind, again");
        return;
    }
    cfs_replica_leave(self, "received a change of an unknown kind");
}

/* A malformed one nobody applies. */
static void
on_bad_operation(CfsReplica *self, const CfsHeader *header)
{
    guint64 id = cfs_member_equal(self->event->message.sender, self->self)
                     ? cfs_replica_take_request(self, header->count)
                     : 0;

    if (id != 0) {
        cfs_replica_reply(self, id, EPERM);
    }
    if (cfs_op_is_known(header->subtype)) {
        cfs_replica_refuse(self, "a malformed change");
    } else {
        on_unknown_operation(self);
    }
}

void
cfs_replica_on_normal(CfsReplica *self,
                      const CfsHeader *header,
                      PveReader *reader)
{
    CfsOp *op = cfs_op_decode(header->subtype, reader);

    if (op == NULL) {
        on_bad_operation(self, header);
        return;
    }
    /* In UPDATE the synced members have applied it all the same. */
    if (self->mode == CFS_MODE_START_SYNC &&
        !cfs_sync_is_member(self->sync, self->event->message.sender)) {
        cfs_op_free(op);
        cfs_replica_refuse(self, "a change of a non-member");
        return;
    }
    take_op(self, header->time, header->count, op);
}

void
cfs_replica_on_append(CfsReplica *self,
                      const CfsHeader *header,
                      PveReader *reader)
{
    guint64 count = 0;
    CfsOp *op = cfs_append_message_decode(reader, &count);

    if (op == NULL) {
        cfs_replica_refuse(self, "a malformed APPEND");
    } else if (self->mode == CFS_MODE_START_SYNC &&
               !cfs_sync_is_member(self->sync, self->event->message.sender)) {
        cfs_op_free(op);
        cfs_replica_refuse(self, "an APPEND of a non-member");
    } else {
        take_op(self, header->time, count, op);
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
    /* Alone we need not ask: the caller finds it gone (local mode). */
    if (self->self.nodeid == 0) {
        if (cfs_dirlock_is_expired(self->locks, op->path, entry,
                                   self->event->clock_ms)) {
            send_unlock(self, request);
        }
        return;
    }
    cfs_replica_send_op(self, request, 0);
}

/* With a time far ahead nobody could renew the lock before then. */
static gboolean
is_renewal_from_the_future(CfsReplica *self, const CfsOp *op)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, op->path);

    return cfs_dirlock_is_lock(op->path) && entry != NULL &&
           cfs_entry_is_directory(entry) &&
           op->offset > (guint64)self->event->time_s + CFS_LOCK_MAX_AHEAD_S;
}

/* Takes nothing; may rewrite @op. */
static void
submit(CfsReplica *self, guint64 id, CfsOp *op)
{
    gboolean done = FALSE;
    int verdict = cfs_access_check_send(self->tree, op, &done);

    if (verdict == 0 && op->kind == CFS_OP_MTIME &&
        is_renewal_from_the_future(self, op)) {
        verdict = EACCES;
    }
    if (verdict != 0 || done) {
        cfs_replica_reply(self, id, verdict);
        return;
    }
    if (op->kind == CFS_OP_MTIME) {
        send_unlock_request(self, op);
    }
    if (op->is_append && !can_append(self)) {
        g_autoptr(CfsOp) write = write_at_end(self, op);

        cfs_replica_send_op(self, write, id);
        return;
    }
    cfs_replica_send_op(self, op, id);
}

/* After this time daemons that could have joined are taken for dead. */
#define PEERS_MS 5000

/* Corosync sees a majority of the node list, but it is not in our group yet: a
 * cut heals, and daemons that left for it come back one after the other. What
 * we did now, on a copy that may be old, theirs would overrule, and an fsync
 * would have reached ourselves alone. */
gboolean
cfs_replica_awaits_peers(CfsReplica *self)
{
    return !cfs_terms_is_majority(self->terms,
                                  cfs_sync_n_members(self->sync)) &&
           cfs_terms_is_majority(self->terms, self->n_quorum_nodes) &&
           self->event->clock_ms - self->changed_ms < PEERS_MS;
}

/* What this node can say at once. 0: it must go to the group. */
static int
refuse_request(CfsReplica *self)
{
    if (self->mode == CFS_MODE_VERSION_ERROR) {
        return EIO;
    }
    if (!self->quorate || self->is_refused) {
        return EACCES;
    }
    return self->store_errno;
}

void
cfs_replica_on_request(CfsReplica *self)
{
    guint64 id = self->event->request.id;
    int verdict = refuse_request(self);
    CfsOp *op;

    if (verdict != 0) {
        cfs_replica_reply(self, id, verdict);
        return;
    }
    op = cfs_op_copy(self->event->request.op);
    if (self->mode == CFS_MODE_SYNCED && !cfs_replica_awaits_peers(self)) {
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

void
cfs_replica_submit_held(CfsReplica *self)
{
    Held *held;

    while (self->mode == CFS_MODE_SYNCED && !cfs_replica_awaits_peers(self) &&
           (held = g_queue_pop_head(&self->held)) != NULL) {
        submit(self, held->id, held->op);
        cfs_replica_held_free(held);
    }
}

/* Our turn to repair comes so much later than the next lower member's. */
#define REPAIR_TURN_MS 500
#define REPAIR_AGAIN_MS 10000

static gboolean
is_our_turn(CfsReplica *self)
{
    gint64 now = self->event->clock_ms;
    gint64 turn_ms =
        (gint64)cfs_sync_rank(self->sync, self->self) * REPAIR_TURN_MS;

    if (self->repaired_ms > 0) {
        return now - self->repaired_ms >= REPAIR_AGAIN_MS;
    }
    return now - self->phantom_ms >= turn_ms;
}

/* A peer's growing truncate of an empty file, or two truncates that crossed,
 * made a size without content, which kills the reference where it is read or
 * sent (spec 12.1). Reading gives zeros; one zero at its end makes them real.
 * One byte, as another change may come before it. We do not know who of the
 * lower members are ours, so each waits for its turn. */
static void
repair_phantom(CfsReplica *self, const CfsEntry *phantom)
{
    g_autoptr(GBytes) zero = g_bytes_new_static("", 1);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;

    self->repaired_ms = self->event->clock_ms;
    path = cfs_tree_path(self->tree, phantom->inode);
    if (path == NULL) {
        return; /* out of reach, also for those who could fall over it */
    }
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                      "'%s' has a size and no content: filling it with zeros",
                      path);
    op = cfs_op_new_write(path, zero, phantom->size - 1);
    cfs_replica_send_op(self, op, 0);
}

void
cfs_replica_repair_phantoms(CfsReplica *self)
{
    const CfsEntry *phantom = cfs_tree_find_phantom(self->tree);

    if (phantom == NULL) {
        self->phantom_ms = 0;
        return;
    }
    if (self->phantom_ms == 0 || phantom->inode != self->phantom) {
        self->phantom_ms = self->event->clock_ms;
        self->repaired_ms = 0;
        self->phantom = phantom->inode;
    }
    if (self->mode == CFS_MODE_SYNCED && self->quorate && is_our_turn(self)) {
        repair_phantom(self, phantom);
    }
}

void
cfs_replica_on_tick(CfsReplica *self)
{
    Held *held;

    unlock_overdue(self);
    cfs_replica_verify_on_tick(self);
    cfs_replica_watch_round(self);
    while ((held = g_queue_peek_head(&self->held)) != NULL &&
           self->event->clock_ms - held->since_ms > HOLD_MS) {
        cfs_replica_reply(self, held->id, EBUSY);
        cfs_replica_held_free(g_queue_pop_head(&self->held));
    }
    cfs_replica_expire_barriers(self);
}

void
cfs_replica_on_quorum(CfsReplica *self)
{
    if (self->event->n_quorum_nodes != self->n_quorum_nodes ||
        self->event->quorate != self->quorate) {
        self->n_quorum_nodes = self->event->n_quorum_nodes;
        self->changed_ms = self->event->clock_ms;
    }
    if (self->event->quorate == self->quorate) {
        return;
    }
    self->quorate = self->event->quorate;
    cfs_views_set_quorate(self->views, self->quorate);
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "node %s quorum",
                      self->quorate ? "has" : "lost");
    if (!self->quorate) {
        cfs_replica_fail_held(self, EACCES);
        cfs_replica_fail_barriers(self, EIO);
    }
}
