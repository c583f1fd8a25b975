#include "config.h"

#include "pmxcfs/io/inodes.h"

#include <string.h>

#include "pmxcfs/core/access.h"

/* Who opens a file takes two steps, name and inode; between them it may be
 * replaced, on a busy machine also after a second look at the name. */
#define N_RECENT 32
#define RECENT_US G_USEC_PER_SEC

typedef struct {
    CfsEntry *entry;
    gint64 since_us;
} Recent;

struct CfsInodes {
    Recent recent[N_RECENT]; /* the last files that went, a ring */
    guint next;
    GHashTable *records; /* inode -> CfsInode; cut off ones are not in it */
    GHashTable *cut_off; /* set of CfsInode that only handles hold */
    guint64 generation;
};

static void
record_free(gpointer data)
{
    CfsInode *record = data;

    g_clear_pointer(&record->entry, cfs_entry_unref);
    g_free(record);
}

CfsInodes *
cfs_inodes_new(void)
{
    CfsInodes *self = g_new0(CfsInodes, 1);

    self->records =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, record_free);
    self->cut_off = g_hash_table_new_full(NULL, NULL, record_free, NULL);
    return self;
}

void
cfs_inodes_free(CfsInodes *self)
{
    if (self != NULL) {
        g_hash_table_unref(self->records);
        g_hash_table_unref(self->cut_off);
        for (guint i = 0; i < N_RECENT; i++) {
            g_clear_pointer(&self->recent[i].entry, cfs_entry_unref);
        }
        g_free(self);
    }
}

CfsInode *
cfs_inodes_find(CfsInodes *self, guint64 inode)
{
    return g_hash_table_lookup(self->records, &inode);
}

guint
cfs_inodes_count(CfsInodes *self)
{
    return g_hash_table_size(self->records);
}

void
cfs_inodes_foreach(CfsInodes *self,
                   void (*function)(gpointer data, CfsInode *record),
                   gpointer data)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        function(data, value);
    }
}

static void
set_entry(CfsInode *record, CfsEntry *entry)
{
    CfsEntry *old = record->entry;

    record->entry = entry != NULL ? cfs_entry_ref(entry) : NULL;
    g_clear_pointer(&old, cfs_entry_unref);
}

static CfsInode *
get_record(CfsInodes *self, CfsEntry *entry)
{
    CfsInode *record = cfs_inodes_find(self, entry->inode);

    if (record == NULL) {
        record = g_new0(CfsInode, 1);
        record->inode = entry->inode;
        record->generation = self->generation;
        set_entry(record, entry);
        g_hash_table_insert(self->records, &record->inode, record);
    }
    return record;
}

static void
drop_unused(CfsInodes *self, CfsInode *record)
{
    if (record->n_handles > 0) {
        return;
    }
    if (record->is_cut_off) {
        (void)g_hash_table_remove(self->cut_off, record);
    } else if (record->n_lookups == 0) {
        (void)g_hash_table_remove(self->records, &record->inode);
    } else if (record->is_gone) {
        set_entry(record, NULL);
    }
}

CfsInode *
cfs_inodes_remember(CfsInodes *self, CfsEntry *entry)
{
    CfsInode *record = get_record(self, entry);

    record->n_lookups++;
    return record;
}

void
cfs_inodes_forget(CfsInodes *self, guint64 inode, guint64 n_lookups)
{
    CfsInode *record = cfs_inodes_find(self, inode);

    if (record != NULL) {
        record->n_lookups -= MIN(n_lookups, record->n_lookups);
        drop_unused(self, record);
    }
}

CfsInode *
cfs_inodes_open(CfsInodes *self, CfsEntry *entry)
{
    CfsInode *record = get_record(self, entry);

    record->n_handles++;
    return record;
}

void
cfs_inodes_close(CfsInodes *self, CfsInode *record)
{
    g_assert(record->n_handles > 0);
    record->n_handles--;
    drop_unused(self, record);
}

static void
note_recent(CfsInodes *self, CfsEntry *entry)
{
    Recent *recent = &self->recent[self->next++ % N_RECENT];

    g_clear_pointer(&recent->entry, cfs_entry_unref);
    recent->entry = cfs_entry_ref(entry);
    recent->since_us = g_get_monotonic_time();
}

CfsInode *
cfs_inodes_open_recent(CfsInodes *self, guint64 inode)
{
    gint64 oldest_us = g_get_monotonic_time() - RECENT_US;
    CfsInode *record = cfs_inodes_find(self, inode);

    if (record == NULL || !record->is_gone) {
        return NULL;
    }
    for (guint i = 0; i < N_RECENT && record->entry == NULL; i++) {
        const Recent *recent = &self->recent[i];

        if (recent->entry != NULL && recent->entry->inode == inode &&
            recent->since_us > oldest_us) {
            set_entry(record, recent->entry);
        }
    }
    if (record->entry == NULL || cfs_entry_is_directory(record->entry)) {
        return NULL;
    }
    record->n_handles++;
    return record;
}

/* Keeps the last content for those who have it open. */
static void
set_gone(CfsInode *record)
{
    record->is_gone = TRUE;
    if (record->n_handles == 0) {
        set_entry(record, NULL);
    }
}

void
cfs_inodes_on_changed(CfsInodes *self, const CfsChange *change)
{
    const CfsEntry *one =
        change->before != NULL ? change->before : change->after;
    CfsInode *record = cfs_inodes_find(self, one->inode);

    if (record == NULL) {
        return;
    }
    record->is_private = cfs_access_is_private(
        change->new_path != NULL ? change->new_path : change->path);
    if (change->after != NULL) {
        record->is_gone = FALSE;
        set_entry(record, change->after);
    } else {
        note_recent(self, change->before);
        set_gone(record);
    }
}

/* Two trees that went apart may both have made an inode of this number. The
 * same place and kind is as good as the same file to whoever has it open. */
static gboolean
is_same(const CfsEntry *before, const CfsEntry *now)
{
    return before->type == now->type && before->parent == now->parent &&
           strcmp(before->name, now->name) == 0;
}

static void
cut_off(CfsInodes *self, CfsInode *record)
{
    record->is_gone = TRUE;
    record->is_cut_off = TRUE;
    g_hash_table_add(self->cut_off, record);
    drop_unused(self, record);
}

void
cfs_inodes_on_reloaded(CfsInodes *self, CfsTree *tree)
{
    GHashTableIter iter;
    gpointer value;

    self->generation++;
    g_hash_table_iter_init(&iter, self->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CfsInode *record = value;
        CfsEntry *now = cfs_tree_get(tree, record->inode);

        if (now == NULL) {
            set_gone(record);
        } else if (!record->is_gone && is_same(record->entry, now)) {
            set_entry(record, now);
        } else {
            g_hash_table_iter_steal(&iter);
            cut_off(self, record);
        }
    }
}
