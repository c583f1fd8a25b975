#include "config.h"

#include "pmxcfs/core/replica-private.h"

/* Of content to hash, in one step of the loop: about 6 ms. One file more at
 * most. */
#define HASH_SLICE_BYTES (1u << 20)

/* A round that takes longer is talked about, then once a minute. */
#define ROUND_SLOW_MS 5000
#define ROUND_TELL_MS 60000

/* --- synchronising
 * -------------------------------------------------------------- */

/* All that moves the state machine into SYNCED. */
void
cfs_replica_enter_synced(CfsReplica *self)
{
    self->mode = CFS_MODE_SYNCED;
    self->synced_since_ms = self->event->clock_ms;
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "all data is up to date");
    cfs_replica_resume_barriers(self);
}

void
cfs_replica_send_index(CfsReplica *self)
{
    g_autoptr(GBytes) index = cfs_tree_index(self->tree);
    g_autoptr(GByteArray) payload = g_byte_array_new();
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(index, &size);

    pve_write_bytes(payload, bytes, size);
    cfs_replica_send_state_message(self, CFS_MESSAGE_STATE, payload);
}

/* Digests are kept; only what changed since the last state must be hashed. */
void
cfs_replica_continue_state(CfsReplica *self)
{
    gsize spent = 0;

    while (self->n_hashed < self->hashing->len && spent < HASH_SLICE_BYTES) {
        CfsEntry *entry = self->hashing->pdata[self->n_hashed++];

        spent += cfs_entry_hash(entry);
    }
    if (self->n_hashed == self->hashing->len) {
        g_clear_pointer(&self->hashing, g_ptr_array_unref);
        /* Ours hold their STATE back until all TERMs are there. */
        if (cfs_terms_is_spoken(self->terms)) {
            cfs_replica_send_term(self);
        } else {
            cfs_replica_send_index(self);
        }
    }
}

/* Once for each epoch; the tree does not change before we are synced. */
static void
begin_state(CfsReplica *self)
{
    g_clear_pointer(&self->hashing, g_ptr_array_unref);
    self->hashing = cfs_tree_entries(self->tree);
    self->n_hashed = 0;
    cfs_replica_continue_state(self);
}

/* What synced members applied while we are being updated, in their order. */
static void
enter_update(CfsReplica *self)
{
    GQueue all = self->early;
    Queued *item;

    self->mode = CFS_MODE_UPDATE;
    self->round_ms = self->told_ms = self->event->clock_ms;
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                      "waiting for updates from leader");
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
    g_autofree char *bad = cfs_sync_describe(self->sync, CFS_SYNC_UNREADABLE);
    g_autofree char *synced = cfs_sync_describe(self->sync, CFS_SYNC_SYNCED);

    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "received all states");
    if (bad[0] != '\0') {
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                          "members whose state is no index, they get "
                          "everything anew: %s",
                          bad);
    }
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "leader is %u/%u",
                      leader.nodeid, leader.pid);
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "synced members: %s", synced);
    if (cfs_member_equal(leader, self->self)) {
        cfs_replica_send_updates(self);
    }
    if (cfs_sync_is_synced(self->sync, self->self)) {
        if (cfs_replica_settle_terms(
                self, leader,
                cfs_index_version(cfs_sync_leader_index(self->sync)))) {
            cfs_replica_store_terms(self);
        }
        cfs_sync_done(self->sync);
        cfs_replica_enter_synced(self);
        cfs_replica_flush_early(self);
    } else {
        enter_update(self);
    }
}

void
cfs_replica_on_sync_start(CfsReplica *self,
                          const CfsHeader *header,
                          PveReader *reader)
{
    CfsMember sender = self->event->message.sender;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode == CFS_MODE_UPDATE) {
        cfs_replica_refuse(self, "a sync request after the last state");
        return;
    }
    if (sender.nodeid != cfs_sync_lowest_nodeid(self->sync)) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "sync request from wrong member %u/%u", sender.nodeid,
                          sender.pid);
    }
    cfs_replica_trace(
        self, G_LOG_LEVEL_MESSAGE, "received sync request (epoch %u/%u/%u)",
        header->epoch.nodeid, header->epoch.pid, header->epoch.counter);
    self->epoch = header->epoch;
    cfs_sync_forget_states(self->sync);
    cfs_terms_begin_round(self->terms);
    g_clear_pointer(&self->hashing, g_ptr_array_unref); /* of an older epoch */
    begin_state(self);
}

void
cfs_replica_on_state(CfsReplica *self,
                     const CfsHeader *header,
                     PveReader *reader)
{
    gsize size = pve_reader_left(reader);
    const guint8 *bytes = pve_reader_take(reader, size);
    g_autoptr(GBytes) state = NULL;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode == CFS_MODE_UPDATE) {
        cfs_replica_refuse(self, "a state after the last state");
        return;
    }
    state = g_bytes_new(bytes, size);
    switch (
        cfs_sync_add_state(self->sync, self->event->message.sender, state)) {
    case CFS_SYNC_WAITING:
        cfs_terms_add_state(self->terms, self->event->message.sender, state);
        cfs_replica_check_terms(self);
        return;
    case CFS_SYNC_COMPLETE:
        on_all_states(self);
        return;
    case CFS_SYNC_REFUSED:
        cfs_replica_refuse(self, "a second state, or that of a non-member");
        return;
    case CFS_SYNC_MALFORMED:
        cfs_replica_leave(self, "received no state that is an index");
        return;
    }
}

static void
tell_who_is_missing(CfsReplica *self)
{
    gint64 seconds = (self->event->clock_ms - self->round_ms) / 1000;
    CfsMember leader = cfs_sync_leader(self->sync);
    g_autofree char *silent = NULL;

    if (self->mode == CFS_MODE_UPDATE) {
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                          "waiting for updates of member %u/%u for "
                          "%" G_GINT64_FORMAT " s, got %u",
                          leader.nodeid, leader.pid, seconds,
                          g_hash_table_size(self->updates));
        return;
    }
    silent = cfs_sync_describe(self->sync, CFS_SYNC_SILENT);
    cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                      "waiting for the states of these members for "
                      "%" G_GINT64_FORMAT " s, no change is possible "
                      "meanwhile: %s",
                      seconds, silent);
}

/* There is no time limit to a round: a member that is frozen holds up all, and
 * the administrator must know which (spec 9). */
void
cfs_replica_watch_round(CfsReplica *self)
{
    gint64 now = self->event->clock_ms;
    gboolean is_first = self->told_ms == self->round_ms;

    if (self->mode != CFS_MODE_START_SYNC && self->mode != CFS_MODE_UPDATE) {
        return;
    }
    if (now - self->told_ms < (is_first ? ROUND_SLOW_MS : ROUND_TELL_MS)) {
        return;
    }
    if (self->is_doubtful) {
        cfs_replica_leave(self, "the others ended a round that we did not");
        return;
    }
    self->told_ms = now;
    tell_who_is_missing(self);
}
