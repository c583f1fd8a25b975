#include "config.h"

#include "pmxcfs/core/replica-private.h"

/* A database that was just made: nothing but the host's corosync.conf, which
 * the host still has (spec/replication.md 5). */
#define FRESH_MAX_VERSION 3u

void
cfs_overruled_free(CfsOverruled *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->path);
    cfs_entry_unref(self->entry);
    g_free(self);
}

static gboolean
is_fresh(CfsTree *tree)
{
    const CfsEntry *root = cfs_tree_root(tree);

    return root->version <= FRESH_MAX_VERSION && root->writer == 0;
}

/* Both copies counted on from a common one: had the leader's grown out of ours,
 * then what it has of our versions would be as we have it. */
static gboolean
has_contradiction(CfsReplica *self)
{
    guint64 version = cfs_tree_root(self->tree)->version;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const CfsEntry *entry = value;

        if (entry->inode != CFS_ROOT_INODE &&
            (entry->version <= version ||
             (entry->inode <= version &&
              cfs_tree_get(self->tree, entry->inode) == NULL))) {
            return TRUE;
        }
    }
    return FALSE;
}

typedef enum {
    FRESH,     /* we have nothing yet */
    CONTINUED, /* it has all that we had, or what was done to it later */
    APART,     /* both counted on from a common copy */
    UNKNOWN,   /* the leader is no member of ours, or came long after us */
} Relation;

/* Of the leader's copy to ours. */
static Relation
find_relation(CfsReplica *self)
{
    const CfsTermRecord *record = cfs_terms_record(self->terms);
    CfsMember leader = cfs_sync_leader(self->sync);

    if (is_fresh(self->tree)) {
        return FRESH;
    }
    if (has_contradiction(self)) {
        return APART;
    }
    if (!cfs_terms_is_comparable(self->terms, record, leader)) {
        return UNKNOWN;
    }
    return cfs_terms_is_continued(self->terms, record,
                                  cfs_tree_root(self->tree)->version, leader)
               ? CONTINUED
               : APART;
}

/* An entry that the leader lacks may have been deleted there: we cannot tell,
 * and keep it. One that it has with a higher version is what became of ours,
 * unless both went their own ways. */
static gboolean
is_overruled(CfsReplica *self, const CfsEntry *entry, Relation relation)
{
    const CfsEntry *update = g_hash_table_lookup(self->updates, &entry->inode);

    if (relation == CONTINUED) {
        return FALSE;
    }
    if (update == NULL) {
        return cfs_index_find(cfs_sync_leader_index(self->sync),
                              entry->inode) == NULL;
    }
    return relation == APART || update->version <= entry->version;
}

static void
add(CfsReplica *self, GPtrArray *overruled, CfsEntry *entry)
{
    CfsOverruled *item;
    char *path = cfs_tree_path(self->tree, entry->inode);

    if (path == NULL) {
        return; /* nobody could reach it */
    }
    item = g_new0(CfsOverruled, 1);
    item->path = path;
    item->entry = cfs_entry_ref(entry);
    g_ptr_array_add(overruled, item);
}

/* An entry of ours goes, or becomes another. */
static gboolean
changes_something(CfsReplica *self, const GArray *gone)
{
    GHashTableIter iter;
    gpointer value;

    if (gone->len > 0) {
        return TRUE;
    }
    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const CfsEntry *entry = value;

        if (entry->inode != CFS_ROOT_INODE &&
            cfs_tree_get(self->tree, entry->inode) != NULL) {
            return TRUE;
        }
    }
    return FALSE;
}

void
cfs_replica_keep_overruled(CfsReplica *self, const GArray *gone)
{
    Relation relation = find_relation(self);
    CfsEffect *effect;

    /* No number proves that the few changes were ours alone which this node
     * heard last before a cut: the whole copy is kept where something goes. */
    if (relation == FRESH || !changes_something(self, gone) ||
        (relation == CONTINUED && gone->len == 0)) {
        return;
    }
    effect = cfs_replica_emit(self, CFS_EFFECT_OVERRULED);
    effect->overruled.leader = cfs_sync_leader(self->sync);
    effect->overruled.whole = cfs_tree_entries(self->tree);
    effect->overruled.entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_overruled_free);
    for (guint i = 0; i < effect->overruled.whole->len; i++) {
        CfsEntry *entry = effect->overruled.whole->pdata[i];

        if (entry->inode != CFS_ROOT_INODE &&
            is_overruled(self, entry, relation)) {
            add(self, effect->overruled.entries, entry);
        }
    }
}
