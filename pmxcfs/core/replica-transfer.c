#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include "pmxcfs/core/core-error.h"

#include <errno.h>
/* Of content to send, in one step of the loop. One file more at most. */
#define SEND_SLICE_BYTES (256u << 10)
#define SEND_SLICE_ENTRIES 256u

/* So many in a row are told to all. */
#define REFUSALS_TOLD 3u

/* --- what the leader sends ------------------------------------------------ */

static void
send_update(CfsReplica *self, const CfsEntry *entry)
{
    CfsHeader header = {.type = CFS_MESSAGE_UPDATE,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = self->event->time_s,
                        .epoch = self->epoch};
    GByteArray *out = g_byte_array_sized_new(CFS_MESSAGE_STATE_SIZE +
                                             cfs_entry_encoded_size(entry));
    g_autoptr(GBytes) message = NULL;

    cfs_message_write(out, &header);
    cfs_entry_encode(entry, out);
    message = g_byte_array_free_to_bytes(out);
    cfs_replica_send_bytes(self, message);
}

/* Whole entries as they were when all states were there, children after
 * parents or not: receivers take any order. We are synced and go on applying
 * meanwhile. Always ends with UPDATE_COMPLETE. */
void
cfs_replica_send_updates(CfsReplica *self)
{
    g_autoptr(GHashTable) missing = cfs_sync_missing(self->sync);
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self->tree);

    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "start sending inode updates");
    cfs_replica_drop_updates(self);
    self->outgoing =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = g_ptr_array_index(entries, i);

        if (g_hash_table_contains(missing, &entry->inode)) {
            g_ptr_array_add(self->outgoing, cfs_entry_ref(entry));
        }
    }
    cfs_replica_continue_updates(self);
}

void
cfs_replica_continue_updates(CfsReplica *self)
{
    gsize spent = 0;

    for (guint n = 0; n < SEND_SLICE_ENTRIES && spent < SEND_SLICE_BYTES &&
                      self->n_sent < self->outgoing->len;
         n++) {
        const CfsEntry *entry = self->outgoing->pdata[self->n_sent++];

        send_update(self, entry);
        spent += entry->size;
    }
    if (self->n_sent < self->outgoing->len) {
        return;
    }
    cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE, "sent all (%u) updates",
                      self->n_sent);
    cfs_replica_drop_updates(self);
    cfs_replica_send_state_message(self, CFS_MESSAGE_UPDATE_COMPLETE, NULL);
}

void
cfs_replica_drop_updates(CfsReplica *self)
{
    g_clear_pointer(&self->outgoing, g_ptr_array_unref);
    self->n_sent = 0;
}

/* --- what a member behind takes ------------------------------------------- */

/* What is not in the leader's index, whoever sent it, is not the leader's tree:
 * the digest proves where it belongs. */
static CfsEntry *
match_update(CfsReplica *self, CfsEntry *entry)
{
    const guint8 *digest =
        cfs_index_find(cfs_sync_leader_index(self->sync), entry->inode);

    return digest != NULL ? cfs_entry_match(entry, digest) : NULL;
}

void
cfs_replica_on_update(CfsReplica *self,
                      const CfsHeader *header,
                      PveReader *reader)
{
    g_autoptr(CfsEntry) entry = NULL;
    CfsEntry *match;

    if (self->mode == CFS_MODE_SYNCED) {
        return;
    }
    if (self->mode != CFS_MODE_UPDATE) {
        cfs_replica_refuse(self, "an update before the last state");
        return;
    }
    entry = cfs_entry_decode(reader);
    if (entry == NULL) {
        cfs_replica_refuse(self, "a malformed update");
        return;
    }
    match = match_update(self, entry);
    if (match == NULL) {
        cfs_replica_refuse(self, "an update that the leader does not have");
        return;
    }
    g_hash_table_replace(self->updates, &match->inode, match);
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

/* Only the root was raised: nothing of ours is gone. */
static gboolean
is_same_content(CfsReplica *self, GArray *gone)
{
    guint64 root = CFS_ROOT_INODE;

    return gone->len == 0 && g_hash_table_size(self->updates) == 1 &&
           g_hash_table_contains(self->updates, &root);
}

/* Before the tree is replaced: what waits for stable storage may be gone. No
 * number tells: two copies that counted on apart, or were raised, have the same
 * ones. */
static void
judge_barriers(CfsReplica *self, GArray *gone)
{
    if (!g_queue_is_empty(&self->barriers.waiting) &&
        !is_same_content(self, gone)) {
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                          "changes of this node may have been overruled: "
                          "whoever waits for their safety hears EIO");
        cfs_replica_fail_barriers(self, EIO);
    }
}

static void
replace_tree(CfsReplica *self, CfsTree *tree, GArray *gone)
{
    CfsMember leader = cfs_sync_leader(self->sync);
    guint64 version = cfs_index_version(cfs_sync_leader_index(self->sync));
    CfsEffect *effect;
    GHashTableIter iter;
    gpointer value;

    judge_barriers(self, gone);
    cfs_replica_keep_overruled(self, gone);
    effect = cfs_replica_emit_store(self);
    g_array_append_vals(effect->store.deletes, gone->data, gone->len);
    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(effect->store.puts, cfs_entry_ref(value));
    }
    g_hash_table_remove_all(self->updates);
    cfs_guests_continue(cfs_tree_guests(tree), cfs_tree_guests(self->tree),
                        cfs_tree_lookup(tree, "nodes") != NULL);
    cfs_tree_free(self->tree);
    self->tree = tree;
    /* In the same transaction as the tree it speaks of. */
    if (cfs_replica_settle_terms(self, leader, version)) {
        cfs_replica_attach_terms(self, effect);
    }
    cfs_dirlock_reload(self->locks, tree, self->event->clock_ms);
    cfs_views_on_reload(self->views);
    cfs_replica_emit(self, CFS_EFFECT_RELOADED)->step =
        cfs_views_end_step(self->views, self->tree);
}

/* What came was not the leader's copy. Once can be bad luck: a message that the
 * leader could not send. Nobody can tell whether a member that never sends what
 * it says it has is mad or has the only newest copy: so we stay out, and say
 * what to do. */
static void
on_refused(CfsReplica *self, const GError *error)
{
    CfsMember leader = cfs_sync_leader(self->sync);
    g_autofree char *text = NULL;

    cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                      "state transfer refused: %s (leader %u/%u)",
                      error->message, leader.nodeid, leader.pid);
    if (!cfs_member_equal(leader, self->refused)) {
        self->refused = leader;
        self->n_refused = 0;
    }
    if (++self->n_refused == REFUSALS_TOLD) {
        text = g_strdup_printf(
            "node %u is kept out: node %u (pid %u) says it has the newest "
            "copy, and did not send it whole %u times; if that goes on, stop "
            "pmxcfs on node %u and look at its disk and its version",
            self->self.nodeid, leader.nodeid, leader.pid, self->n_refused,
            leader.nodeid);
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING, "%s", text);
        cfs_replica_log_to_cluster(self, text);
    }
    cfs_replica_leave(self, "state transfer refused");
}

static void
commit_update(CfsReplica *self)
{
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_autoptr(GError) error = NULL;
    CfsTree *tree;

    cfs_replica_trace(
        self, G_LOG_LEVEL_MESSAGE,
        "update complete - trying to commit (got %u inode updates)",
        g_hash_table_size(self->updates));
    tree = build_leaders_tree(self, gone, &error);
    if (tree == NULL) {
        on_refused(self, error);
        return;
    }
    self->n_refused = 0;
    replace_tree(self, tree, gone);
    cfs_sync_done(self->sync);
    cfs_sync_set_all_synced(self->sync);
    self->verify.has_accuser = FALSE; /* it was right */
    cfs_replica_verify_allow(self);
    cfs_replica_enter_synced(self);
    cfs_replica_flush_late(self);
    cfs_replica_flush_early(self);
}

/* Synced members take anybody's word that all are equal, and then apply what
 * waited; so we do that in the same place, but believe only the leader. */
static void
note_false_end(CfsReplica *self)
{
    Queued *item;

    cfs_replica_refuse(self, "the end of updates, not from the leader");
    while ((item = g_queue_pop_head(&self->early)) != NULL) {
        g_queue_push_tail(&self->late, item);
    }
}

void
cfs_replica_on_update_complete(CfsReplica *self,
                               const CfsHeader *header,
                               PveReader *reader)
{
    gboolean is_leaders = cfs_member_equal(self->event->message.sender,
                                           cfs_sync_leader(self->sync));

    if (self->mode == CFS_MODE_UPDATE && is_leaders) {
        commit_update(self);
    } else if (self->mode == CFS_MODE_UPDATE) {
        note_false_end(self);
    } else if (self->mode == CFS_MODE_SYNCED) {
        cfs_sync_set_all_synced(self->sync);
        if (is_leaders) {
            cfs_replica_verify_allow(self);
        }
        cfs_replica_flush_early(self);
    } else {
        cfs_replica_refuse(self, "the end of updates before the last state");
        self->is_doubtful = TRUE;
    }
}
