#include "config.h"

#include "tests/sim/sim-store.h"

typedef struct {
    GPtrArray *puts;
    GArray *deletes;
    CfsTermRecord *terms; /* NULL: unchanged */
    guint64 terms_version;
} Batch;

struct SimStore {
    GHashTable *rows; /* inode -> CfsEntry */
    GQueue waiting;   /* of Batch */
    CfsTermRecord *terms;
    guint64 terms_version;
    guint64 submitted;
    guint64 committed;
};

static void
batch_free(gpointer data)
{
    Batch *self = data;

    g_ptr_array_unref(self->puts);
    g_array_unref(self->deletes);
    g_free(self->terms);
    g_free(self);
}

SimStore *
sim_store_new(void)
{
    SimStore *self = g_new0(SimStore, 1);

    self->rows = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                       (GDestroyNotify)cfs_entry_unref);
    g_queue_init(&self->waiting);
    return self;
}

void
sim_store_free(SimStore *self)
{
    g_hash_table_unref(self->rows);
    g_queue_clear_full(&self->waiting, batch_free);
    g_free(self->terms);
    g_free(self);
}

guint64
sim_store_submit(SimStore *self, const CfsEffect *effect)
{
    Batch *batch = g_new0(Batch, 1);

    batch->puts = g_ptr_array_ref(effect->store.puts);
    batch->deletes = g_array_ref(effect->store.deletes);
    if (effect->store.terms != NULL) {
        batch->terms =
            g_memdup2(effect->store.terms, sizeof(*effect->store.terms));
        batch->terms_version = effect->store.terms_version;
    }
    g_queue_push_tail(&self->waiting, batch);
    return ++self->submitted;
}

gboolean
sim_store_commit(SimStore *self)
{
    Batch *batch = g_queue_pop_head(&self->waiting);

    if (batch == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < batch->deletes->len; i++) {
        g_hash_table_remove(self->rows,
                            &g_array_index(batch->deletes, guint64, i));
    }
    for (guint i = 0; i < batch->puts->len; i++) {
        CfsEntry *entry = g_ptr_array_index(batch->puts, i);

        g_hash_table_replace(self->rows, &entry->inode, cfs_entry_ref(entry));
    }
    if (batch->terms != NULL) {
        g_free(self->terms);
        self->terms = g_steal_pointer(&batch->terms);
        self->terms_version = batch->terms_version;
    }
    batch_free(batch);
    self->committed++;
    return TRUE;
}

guint64
sim_store_committed(SimStore *self)
{
    return self->committed;
}

guint64
sim_store_submitted(SimStore *self)
{
    return self->submitted;
}

void
sim_store_crash(SimStore *self)
{
    g_queue_clear_full(&self->waiting, batch_free);
    self->submitted = self->committed;
}

void
sim_store_wipe(SimStore *self)
{
    sim_store_crash(self);
    g_hash_table_remove_all(self->rows);
    g_clear_pointer(&self->terms, g_free);
}

const CfsTermRecord *
sim_store_terms(SimStore *self, guint64 *version)
{
    if (self->terms != NULL) {
        *version = self->terms_version;
    }
    return self->terms;
}

void
sim_store_fill(SimStore *self, GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = g_ptr_array_index(entries, i);

        g_hash_table_replace(self->rows, &entry->inode, cfs_entry_ref(entry));
    }
}

GPtrArray *
sim_store_load(SimStore *self)
{
    GPtrArray *entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->rows);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(entries, cfs_entry_ref(value));
    }
    return entries;
}
