#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include "pmxcfs/core/corosync-text.h"

#include <string.h>

/* A copy of a foreign cluster asks again after this. */
#define REFUSED_RETRY_MS 60000u

/* --- the record in the database ------------------------------------------- */

void
cfs_replica_attach_terms(CfsReplica *self, CfsEffect *store)
{
    store->store.terms = g_memdup2(cfs_terms_record(self->terms),
                                   sizeof(*cfs_terms_record(self->terms)));
    store->store.terms_version = cfs_tree_root(self->tree)->version;
}

CfsEffect *
cfs_replica_emit_store(CfsReplica *self)
{
    CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_STORE);

    effect->store.puts =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    effect->store.deletes = g_array_new(FALSE, FALSE, sizeof(guint64));
    return effect;
}

void
cfs_replica_store_terms(CfsReplica *self)
{
    cfs_replica_attach_terms(self, cfs_replica_emit_store(self));
}

void
cfs_replica_restore_terms(CfsReplica *self,
                          const CfsTermRecord *record,
                          guint64 version)
{
    CfsTermRecord kept = *record;

    /* Rows went that the record speaks of: it says nothing of what is left.
     * What was used stays used. A higher version is the usual case: a change
     * does not touch the record, nor does the reference, which goes on with
     * the same copy. */
    if (cfs_tree_root(self->tree)->version < version) {
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                          "the database was taken back behind the term that "
                          "is kept beside it: this copy claims no term");
        kept.term = 0;
        kept.acked = 0;
        kept.n_history = 0;
    }
    kept.seen = MAX(kept.seen, record->term);
    cfs_terms_set_record(self->terms, &kept);
    self->barriers.acked_sure = kept.acked;
}

/* --- TERM ----------------------------------------------------------------- */

/* Of the tree, the same that the others will get. */
static void
fill_from_tree(CfsReplica *self, CfsTermMessage *message)
{
    const CfsEntry *root = cfs_tree_root(self->tree);
    const CfsEntry *conf = cfs_tree_lookup(self->tree, CFS_COROSYNC_CONF);
    g_autofree char *name = NULL;
    guint n_nodes = 0;

    memset(message, 0, sizeof(*message));
    message->epoch = self->epoch;
    message->version = root->version;
    message->mtime = root->mtime;
    if (conf != NULL && conf->data != NULL) {
        name = cfs_corosync_text_cluster(conf->data, &n_nodes);
        g_strlcpy(message->name, name, sizeof(message->name));
        message->n_nodes = n_nodes;
    }
    cfs_terms_fill(self->terms, message);
}

void
cfs_replica_send_term(CfsReplica *self)
{
    CfsTermMessage message;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GBytes) index = cfs_tree_index(self->tree);

    fill_from_tree(self, &message);
    cfs_term_content(index, message.content);
    bytes = cfs_term_message_encode(&message, self->event->time_s);
    cfs_replica_send_bytes(self, bytes);
}

static void
on_term(CfsReplica *self, const CfsHeader *header, PveReader *reader)
{
    CfsTermMessage message;

    if (!cfs_term_message_decode(reader, &message)) {
        cfs_replica_refuse(self, "a TERM that we do not understand");
        return;
    }
    if (self->mode == CFS_MODE_START_SYNC &&
        cfs_epoch_equal(&message.epoch, &self->epoch)) {
        cfs_terms_add_term(self->terms, self->event->message.sender, &message);
        cfs_replica_check_terms(self);
    }
}

/* --- all TERMs are there -------------------------------------------------- */

static void
raise_version(CfsReplica *self, guint64 version)
{
    CfsEffect *effect;

    /* Another says it has the highest version there is, or lies about ours:
     * there is nothing above it, so its rule decides. */
    if (version <= cfs_tree_root(self->tree)->version) {
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                          "the version cannot be raised above that of another "
                          "member, which is no true one");
        return;
    }
    cfs_replica_trace(
        self, G_LOG_LEVEL_MESSAGE,
        "this copy is the newest by its term: version %" G_GUINT64_FORMAT
        " becomes %" G_GUINT64_FORMAT,
        cfs_tree_root(self->tree)->version, version);
    cfs_tree_raise(self->tree, version);
    effect = cfs_replica_emit_store(self);
    g_ptr_array_add(effect->store.puts,
                    cfs_entry_ref(cfs_tree_root(self->tree)));
    effect = cfs_replica_emit(self, CFS_EFFECT_CHANGED);
    effect->changed.changes = cfs_changes_new();
    effect->step = cfs_views_end_step(self->views, self->tree);
}

/* Out for a minute; read-only until the administrator has decided. */
static void
refuse_merge(CfsReplica *self, const char *why)
{
    g_autofree char *text = g_strdup_printf(
        "refusing to merge: %s. This node stays readable and read-only. If it "
        "belongs to the others' cluster, stop pmxcfs here, move its config.db "
        "away and start it again: it then takes their files. If it does not, "
        "correct its corosync.conf, so that it no longer talks to them",
        why);

    if (!self->is_refused) {
        cfs_replica_trace(self, G_LOG_LEVEL_CRITICAL, "%s", text);
    }
    self->is_refused = TRUE;
    cfs_replica_fail_held(self, EACCES);
    cfs_replica_fail_barriers(self, EIO);
    cfs_replica_leave_for(self, "copy of a foreign cluster", REFUSED_RETRY_MS);
}

static void
on_all_terms(CfsReplica *self)
{
    CfsMember candidate = {0};
    g_autofree char *why = NULL;
    guint64 version;

    switch (cfs_terms_judge(self->terms, &why)) {
    case CFS_TERMS_REFUSED:
        refuse_merge(self, why);
        return;
    case CFS_TERMS_OTHERS_REFUSED:
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING, "refusing to merge: %s",
                          why);
        break;
    case CFS_TERMS_AGREE:
        self->is_refused = FALSE;
        break;
    }
    version = cfs_terms_raise(self->terms, &candidate);
    if (version > 0 && cfs_member_equal(candidate, self->self)) {
        raise_version(self, version);
    }
    cfs_replica_send_index(self);
}

void
cfs_replica_check_terms(CfsReplica *self)
{
    if (cfs_terms_is_spoken(self->terms) &&
        cfs_terms_take_complete(self->terms)) {
        on_all_terms(self);
    }
}

/* --- synced --------------------------------------------------------------- */

static void
trace_term(CfsReplica *self)
{
    const CfsTermRecord *record = cfs_terms_record(self->terms);

    self->barriers.acked_sure = record->acked;
    if (cfs_terms_has_majority(self->terms)) { /* of one */
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "term %" G_GUINT64_FORMAT " begins", record->term);
    }
}

gboolean
cfs_replica_settle_terms(CfsReplica *self, CfsMember leader, guint64 version)
{
    gboolean has_changed;

    if (!cfs_terms_is_spoken(self->terms)) {
        return FALSE;
    }
    has_changed = cfs_terms_settle(self->terms, leader, &self->epoch, version);
    trace_term(self);
    return has_changed;
}

void
cfs_replica_settle_alone(CfsReplica *self)
{
    CfsTermMessage own;

    if (!cfs_terms_is_spoken(self->terms)) {
        return;
    }
    self->is_refused = FALSE; /* nobody is here to be foreign to */
    fill_from_tree(self, &own);
    if (self->self.nodeid == 0) {
        own.n_nodes = 0; /* local mode: there is no group to be a part of */
    }
    if (cfs_terms_settle_alone(self->terms, &own)) {
        cfs_replica_store_terms(self);
    }
    trace_term(self);
}

void
cfs_replica_on_nodes(CfsReplica *self)
{
    cfs_terms_set_n_nodes(self->terms, self->event->n_nodes);
    cfs_replica_reconsider_barriers(self);
}

/* --- the door ------------------------------------------------------------- */

/* Never a reason to leave: they cannot change a tree but by APPEND, and a
 * malformed one is dropped by all alike. */
void
cfs_replica_on_ours(CfsReplica *self,
                    const CfsHeader *header,
                    PveReader *reader)
{
    static void (*const handlers[])(CfsReplica *, const CfsHeader *,
                                    PveReader *) = {
        [CFS_OURS_TERM] = on_term,
        [CFS_OURS_FLUSH] = cfs_replica_on_flush,
        [CFS_OURS_ACK] = cfs_replica_on_ack,
        [CFS_OURS_APPEND] = cfs_replica_on_append,
        [CFS_OURS_SETTLED] = cfs_replica_on_settled,
    };

    if (!cfs_terms_is_spoken(self->terms)) {
        return;
    }
    if (header->subtype >= G_N_ELEMENTS(handlers) ||
        handlers[header->subtype] == NULL) {
        cfs_replica_trace(self, G_LOG_LEVEL_DEBUG,
                          "dropped an unknown message of ours, kind %u",
                          header->subtype);
        return;
    }
    handlers[header->subtype](self, header, reader);
}
