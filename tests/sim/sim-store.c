#include "config.h"

#include "tests/sim/sim-store.h"

#include "tests/sim/sim-line.h"

/* So many batches are flushed by themselves: a database makes checkpoints. */
#define CHECKPOINT 64u

/* The record of terms, and the version of the tree it belongs to. */
typedef struct {
    gboolean is_there;
    CfsTermRecord record;
    guint64 version;
} Terms;

typedef struct {
    GPtrArray *puts;
    GArray *deletes;
    Terms terms;
} Batch;

struct SimStore {
    GHashTable *rows;    /* inode -> CfsEntry: committed */
    GHashTable *flushed; /* the same: what the disk has for sure */
    GQueue unflushed;    /* of Batch: between them */
    Terms terms;         /* committed */
    Terms flushed_terms;
    GQueue waiting; /* of Batch */
    guint64 submitted;
    guint64 committed;
};

static void
batch_free(gpointer data)
{
    Batch *self = data;

    g_ptr_array_unref(self->puts);
    g_array_unref(self->deletes);
    g_free(self);
}

static void
batch_apply(const Batch *self, GHashTable *rows)
{
    for (guint i = 0; i < self->deletes->len; i++) {
        g_hash_table_remove(rows, &g_array_index(self->deletes, guint64, i));
    }
    for (guint i = 0; i < self->puts->len; i++) {
        CfsEntry *entry = g_ptr_array_index(self->puts, i);

        g_hash_table_replace(rows, &entry->inode, cfs_entry_ref(entry));
    }
}

static GHashTable *
rows_new(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                 (GDestroyNotify)cfs_entry_unref);
}

SimStore *
sim_store_new(void)
{
    SimStore *self = g_new0(SimStore, 1);

    self->rows = rows_new();
    self->flushed = rows_new();
    g_queue_init(&self->unflushed);
    g_queue_init(&self->waiting);
    return self;
}

void
sim_store_free(SimStore *self)
{
    g_hash_table_unref(self->rows);
    g_hash_table_unref(self->flushed);
    g_queue_clear_full(&self->unflushed, batch_free);
    g_queue_clear_full(&self->waiting, batch_free);
    g_free(self);
}

guint64
sim_store_submit(SimStore *self, const CfsEffect *effect)
{
    Batch *batch = g_new0(Batch, 1);

    batch->puts = g_ptr_array_ref(effect->store.puts);
    batch->deletes = g_array_ref(effect->store.deletes);
    if (effect->store.terms != NULL) {
        batch->terms.is_there = TRUE;
        batch->terms.record = *effect->store.terms;
        batch->terms.version = effect->store.terms_version;
    }
    g_queue_push_tail(&self->waiting, batch);
    return ++self->submitted;
}

static void
flush_oldest(SimStore *self)
{
    Batch *batch = g_queue_pop_head(&self->unflushed);

    batch_apply(batch, self->flushed);
    self->flushed_terms =
        batch->terms.is_there ? batch->terms : self->flushed_terms;
    batch_free(batch);
}

gboolean
sim_store_commit(SimStore *self)
{
    Batch *batch = g_queue_pop_head(&self->waiting);

    if (batch == NULL) {
        return FALSE;
    }
    batch_apply(batch, self->rows);
    self->terms = batch->terms.is_there ? batch->terms : self->terms;
    g_queue_push_tail(&self->unflushed, batch);
    if (self->unflushed.length > CHECKPOINT) {
        flush_oldest(self);
    }
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
sim_store_flush(SimStore *self)
{
    while (self->unflushed.length > 0) {
        flush_oldest(self);
    }
}

guint64
sim_store_flushed_hash(SimStore *self)
{
    GHashTableIter iter;
    gpointer value;
    guint64 sum = 0;

    g_hash_table_iter_init(&iter, self->flushed);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        sum += sim_entry_hash(value);
    }
    return sum;
}

void
sim_store_crash(SimStore *self)
{
    g_queue_clear_full(&self->waiting, batch_free);
    self->submitted = self->committed;
}

void
sim_store_power_off(SimStore *self, SimDice *dice)
{
    guint kept = sim_dice_range(dice, 0, self->unflushed.length);
    GHashTableIter iter;
    gpointer value;

    sim_store_crash(self);
    while (kept-- > 0) {
        flush_oldest(self);
    }
    g_queue_clear_full(&self->unflushed, batch_free);
    self->terms = self->flushed_terms;
    g_hash_table_remove_all(self->rows);
    g_hash_table_iter_init(&iter, self->flushed);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CfsEntry *entry = value;

        g_hash_table_replace(self->rows, &entry->inode, cfs_entry_ref(entry));
    }
}

void
sim_store_wipe(SimStore *self)
{
    sim_store_crash(self);
    g_queue_clear_full(&self->unflushed, batch_free);
    g_hash_table_remove_all(self->rows);
    g_hash_table_remove_all(self->flushed);
    self->terms.is_there = self->flushed_terms.is_there = FALSE;
}

gboolean
sim_store_terms(SimStore *self, CfsTermRecord *record, guint64 *version)
{
    *record = self->terms.record;
    *version = self->terms.version;
    return self->terms.is_there;
}

void
sim_store_fill(SimStore *self, GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = g_ptr_array_index(entries, i);

        g_hash_table_replace(self->rows, &entry->inode, cfs_entry_ref(entry));
        g_hash_table_replace(self->flushed, &entry->inode,
                             cfs_entry_ref(entry));
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
