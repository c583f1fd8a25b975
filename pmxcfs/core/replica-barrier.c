/* Barriers: who asked (fsync) hears that a strict majority of the node list
 * has everything on stable storage that this node had applied when asked.
 *
 *   asked --> FLUSH --> each member flushes, says ACK(version) --> a majority
 *     |                                                        acknowledged
 *     +-- no majority of ours: this node's own flush is enough, and is said to
 *         be no more
 *
 * One FLUSH of ours is under way at a time; what is asked meanwhile shares the
 * next, and one ACK of a member answers all FLUSHes it got before its flush
 * began. A term begins when a majority has ACKed with its number; before that
 * an ACK says no version, and barriers wait. An ACK counts in the epoch and the
 * term it was made in. After a change of members all that waits is asked again,
 * once synced. */
#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include <errno.h>

/* As requests: replica-op.c. */
#define HOLD_MS 10000
/* Where the disk failed when a term was to begin. */
#define FOUND_AGAIN_MS 1000

typedef struct {
    guint64 id;
    guint64 version;
    gint64 since_ms; /* of the last change of members, or when asked */
} Barrier;

void
cfs_barriers_init(CfsBarriers *self)
{
    g_queue_init(&self->waiting);
    self->acks =
        g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
    self->founders =
        g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);
    self->failed = g_hash_table_new(g_direct_hash, g_direct_equal);
}

void
cfs_barriers_clear(CfsBarriers *self)
{
    g_queue_clear_full(&self->waiting, g_free);
    g_hash_table_unref(self->acks);
    g_hash_table_unref(self->founders);
    g_hash_table_unref(self->failed);
}

/* --- answers -------------------------------------------------------------- */

static void
answer(CfsReplica *self, guint64 id, int verdict, CfsSyncLevel level)
{
    CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_REPLY_SYNC);

    effect->reply_sync.id = id;
    effect->reply_sync.verdict = verdict;
    effect->reply_sync.level = level;
}

/* Those up to @version. */
static void
answer_up_to(CfsReplica *self, guint64 version, int verdict, CfsSyncLevel level)
{
    GQueue *waiting = &self->barriers.waiting;
    Barrier *first;

    while ((first = g_queue_peek_head(waiting)) != NULL &&
           first->version <= version) {
        answer(self, first->id, verdict, level);
        g_free(g_queue_pop_head(waiting));
    }
}

void
cfs_replica_fail_barriers(CfsReplica *self, int verdict)
{
    answer_up_to(self, G_MAXUINT64, verdict, CFS_SYNC_LEVEL_LOCAL);
}

/* --- this node's own flush ------------------------------------------------ */

static void
start_flush(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;

    if (b->flushing != 0) {
        b->flush_again = TRUE;
        return;
    }
    b->flush_again = FALSE;
    b->flushing = ++b->last_flush;
    b->flush_version = cfs_tree_root(self->tree)->version;
    b->flush_epoch = self->epoch;
    b->flush_is_acked = b->ack_wanted;
    b->flush_is_noted =
        b->flush_is_acked && !cfs_terms_is_beginning(self->terms);
    b->ack_wanted = FALSE;
    /* Before it is said it must be kept, in the same flush. */
    if (b->flush_is_noted &&
        cfs_terms_note_acked(self->terms, b->flush_version)) {
        cfs_replica_store_terms(self);
    }
    cfs_replica_emit(self, CFS_EFFECT_FLUSH)->flush = b->flushing;
}

static void
send_ack(CfsReplica *self, int problem)
{
    const CfsBarriers *b = &self->barriers;
    const CfsAckMessage ack = {.epoch = self->epoch,
                               .term = cfs_terms_current(self->terms),
                               .version =
                                   b->flush_is_noted ? b->flush_version : 0,
                               .error = (guint32)problem};
    g_autoptr(GBytes) bytes = cfs_ack_message_encode(&ack, self->event->time_s);

    cfs_replica_send_bytes(self, bytes);
}

static gboolean
needs_group(CfsReplica *self)
{
    return cfs_terms_has_majority(self->terms) &&
           cfs_sync_n_members(self->sync) > 1;
}

/* Asks for what waits, by whatever reaches furthest now. */
static void
advance(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;
    g_autoptr(GBytes) bytes = NULL;
    CfsFlushMessage flush;

    if (self->mode != CFS_MODE_SYNCED || b->is_asked ||
        cfs_terms_is_beginning(self->terms) || g_queue_is_empty(&b->waiting) ||
        cfs_replica_awaits_peers(self)) {
        return;
    }
    if (needs_group(self)) {
        flush = (CfsFlushMessage){.epoch = self->epoch,
                                  .term = cfs_terms_record(self->terms)->term};
        bytes = cfs_flush_message_encode(&flush, self->event->time_s);
        b->is_asked = TRUE;
        b->asked_version = cfs_tree_root(self->tree)->version;
        b->ack_wanted = TRUE;
        cfs_replica_send_bytes(self, bytes);
    }
    start_flush(self);
}

static void
on_own_flush(CfsReplica *self, int problem)
{
    CfsBarriers *b = &self->barriers;

    if (problem != 0) {
        answer_up_to(self, b->flush_version, problem, CFS_SYNC_LEVEL_LOCAL);
    } else if (!needs_group(self) && self->mode == CFS_MODE_SYNCED &&
               !cfs_terms_is_beginning(self->terms) &&
               !cfs_replica_awaits_peers(self)) {
        answer_up_to(self, b->flush_version, 0,
                     cfs_terms_has_majority(self->terms)
                         ? CFS_SYNC_LEVEL_MAJORITY
                         : CFS_SYNC_LEVEL_LOCAL);
    }
}

void
cfs_replica_on_flushed(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;
    int problem = self->event->flushed.problem;
    gboolean is_current = cfs_epoch_equal(&b->flush_epoch, &self->epoch);

    if (self->event->flushed.token != b->flushing) {
        return;
    }
    b->flushing = 0;
    /* A flush of before is none of what the tree became since. */
    if (is_current) {
        on_own_flush(self, problem);
        if (b->flush_is_acked && self->mode == CFS_MODE_SYNCED) {
            send_ack(self, problem);
        }
    }
    if (b->flush_again || (b->ack_wanted && self->mode == CFS_MODE_SYNCED)) {
        start_flush(self);
    }
}

/* --- messages ------------------------------------------------------------- */

void
cfs_replica_on_flush(CfsReplica *self,
                     const CfsHeader *header,
                     PveReader *reader)
{
    CfsFlushMessage flush;

    if (!cfs_flush_message_decode(reader, &flush) ||
        !cfs_epoch_equal(&flush.epoch, &self->epoch) ||
        cfs_member_equal(self->event->message.sender, self->self)) {
        return; /* our own flush began when we asked */
    }
    if (self->mode == CFS_MODE_UPDATE) {
        self->barriers.ack_wanted = TRUE; /* once we have it all */
    } else if (self->mode == CFS_MODE_SYNCED &&
               flush.term == cfs_terms_record(self->terms)->term) {
        self->barriers.ack_wanted = TRUE;
        start_flush(self);
    }
}

static int
compare_descending(gconstpointer a, gconstpointer b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

    return x > y ? -1 : x < y;
}

/* What a majority of nodes has. 0: nothing yet. */
static guint64
find_committed(CfsReplica *self)
{
    g_autoptr(GArray) versions = g_array_new(FALSE, FALSE, sizeof(guint64));
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->barriers.acks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_array_append_vals(versions, value, 1);
    }
    g_array_sort(versions, compare_descending);
    for (guint i = 0; i < versions->len; i++) {
        if (cfs_terms_is_majority(self->terms, i + 1)) {
            return g_array_index(versions, guint64, i);
        }
    }
    return 0;
}

static void
note_ack(CfsBarriers *b, guint32 nodeid, const CfsAckMessage *ack)
{
    gpointer key = GUINT_TO_POINTER(nodeid);
    guint64 *known = g_hash_table_lookup(b->acks, key);

    if (ack->error != 0) {
        (void)g_hash_table_add(b->failed, key);
        return;
    }
    (void)g_hash_table_remove(b->failed, key);
    if (known == NULL || ack->version > *known) {
        (void)g_hash_table_insert(
            b->acks, key, g_memdup2(&ack->version, sizeof(ack->version)));
    }
}

/* Every member learns it: whoever goes on with this copy knows it is safe. */
static void
note_committed(CfsReplica *self, guint64 version)
{
    CfsBarriers *b = &self->barriers;

    version = MIN(version, cfs_tree_root(self->tree)->version);
    b->acked_sure = MAX(b->acked_sure, version);
    if (cfs_terms_note_acked(self->terms, version)) {
        cfs_replica_store_terms(self);
    }
}

/* --- the beginning of a term ---------------------------------------------- */

/* Our disk gets its number; all hear of it. */
static void
found_term(CfsReplica *self)
{
    self->barriers.founding_ms = self->event->clock_ms;
    self->barriers.ack_wanted = TRUE;
    start_flush(self);
}

/* All members find so at the same message. */
static void
try_to_begin(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;
    GHashTableIter iter;
    gpointer value;
    guint n = 0;

    if (self->mode != CFS_MODE_SYNCED || !cfs_terms_is_beginning(self->terms)) {
        return;
    }
    g_hash_table_iter_init(&iter, b->founders);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        n += *(guint64 *)value == cfs_terms_current(self->terms);
    }
    if (cfs_terms_is_majority(self->terms, n)) {
        cfs_terms_begin(self->terms);
        cfs_replica_store_terms(self);
        b->acked_sure = 0;
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "term %" G_GUINT64_FORMAT " begins",
                          cfs_terms_current(self->terms));
        advance(self);
    }
}

/* A disk that failed may be well again. */
static void
found_term_again(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;

    if (self->mode == CFS_MODE_SYNCED && b->flushing == 0 &&
        cfs_terms_is_beginning(self->terms) &&
        self->event->clock_ms - b->founding_ms >= FOUND_AGAIN_MS) {
        found_term(self);
    }
}

void
cfs_replica_on_ack(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    CfsBarriers *b = &self->barriers;
    CfsMember sender = self->event->message.sender;
    guint64 committed;
    CfsAckMessage ack;

    if (!cfs_ack_message_decode(reader, &ack) ||
        !cfs_epoch_equal(&ack.epoch, &self->epoch)) {
        return;
    }
    /* Who is in UPDATE finds out later what it says. */
    if (ack.error == 0) {
        (void)g_hash_table_insert(b->founders, GUINT_TO_POINTER(sender.nodeid),
                                  g_memdup2(&ack.term, sizeof(ack.term)));
    }
    try_to_begin(self);
    if (self->mode != CFS_MODE_SYNCED ||
        ack.term != cfs_terms_record(self->terms)->term ||
        !cfs_terms_has_majority(self->terms)) {
        return;
    }
    note_ack(b, sender.nodeid, &ack);
    if (cfs_member_equal(sender, self->self) && ack.error == 0) {
        b->acked_sure = MAX(b->acked_sure, ack.version);
    }
    committed = find_committed(self);
    if (committed > 0) {
        note_committed(self, committed);
        answer_up_to(self, committed, 0, CFS_SYNC_LEVEL_MAJORITY);
        b->is_asked = b->is_asked && committed < b->asked_version;
    }
    if (b->is_asked &&
        !cfs_terms_is_majority(self->terms, cfs_terms_n_ours(self->terms) -
                                                g_hash_table_size(b->failed))) {
        b->is_asked = FALSE;
        answer_up_to(self, b->asked_version, EIO, CFS_SYNC_LEVEL_LOCAL);
    }
    advance(self);
}

/* --- requests and membership ---------------------------------------------- */

void
cfs_replica_on_sync_request(CfsReplica *self)
{
    Barrier *barrier;

    if (!self->quorate || self->mode == CFS_MODE_VERSION_ERROR ||
        self->is_refused) {
        answer(self, self->event->sync_id, EIO, CFS_SYNC_LEVEL_LOCAL);
        return;
    }
    barrier = g_new0(Barrier, 1);
    barrier->id = self->event->sync_id;
    barrier->version = cfs_tree_root(self->tree)->version;
    barrier->since_ms = self->event->clock_ms;
    g_queue_push_tail(&self->barriers.waiting, barrier);
    advance(self);
}

void
cfs_replica_on_sync_cancel(CfsReplica *self)
{
    GQueue *waiting = &self->barriers.waiting;

    for (GList *l = waiting->head; l != NULL; l = l->next) {
        if (((Barrier *)l->data)->id == self->event->sync_id) {
            g_free(l->data);
            g_queue_delete_link(waiting, l);
            return;
        }
    }
}

/* The group changed: nothing that was said before counts any more. What we
 * said, and the group has not seen, nobody has counted. */
void
cfs_replica_reset_barriers(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;

    g_hash_table_remove_all(b->acks);
    g_hash_table_remove_all(b->failed);
    g_hash_table_remove_all(b->founders);
    b->is_asked = FALSE;
    b->ack_wanted = FALSE;
    b->flush_again = FALSE;
    for (GList *l = b->waiting.head; l != NULL; l = l->next) {
        ((Barrier *)l->data)->since_ms = self->event->clock_ms;
    }
}

void
cfs_replica_limit_acked(CfsReplica *self)
{
    if (cfs_terms_limit_acked(self->terms, self->barriers.acked_sure)) {
        cfs_replica_store_terms(self);
    }
}

void
cfs_replica_resume_barriers(CfsReplica *self)
{
    CfsBarriers *b = &self->barriers;
    guint64 version = cfs_tree_root(self->tree)->version;

    for (GList *l = b->waiting.head; l != NULL; l = l->next) {
        ((Barrier *)l->data)->version = version;
    }
    if (cfs_terms_is_beginning(self->terms)) {
        found_term(self);
        try_to_begin(self);
    }
    advance(self);
    if (b->ack_wanted && b->flushing == 0) {
        start_flush(self);
    }
}

/* The node list grew or shrank: what is a majority may have changed. */
void
cfs_replica_reconsider_barriers(CfsReplica *self)
{
    self->barriers.is_asked = FALSE;
    try_to_begin(self);
    advance(self);
}

void
cfs_replica_expire_barriers(CfsReplica *self)
{
    GQueue *waiting = &self->barriers.waiting;
    Barrier *first;

    found_term_again(self);
    while ((self->mode != CFS_MODE_SYNCED ||
            cfs_terms_is_beginning(self->terms)) &&
           (first = g_queue_peek_head(waiting)) != NULL &&
           self->event->clock_ms - first->since_ms > HOLD_MS) {
        answer(self, first->id, EIO, CFS_SYNC_LEVEL_LOCAL);
        g_free(g_queue_pop_head(waiting));
    }
    if (self->barriers.flushing == 0) {
        advance(self); /* what waited for peers */
    }
}
