#include "config.h"

#include "pmxcfs/core/treesum.h"

/* What an entry costs beside its content. */
#define ENTRY_COST 256u

struct CfsTreeSum {
    GPtrArray *entries; /* of CfsEntry, ascending by inode */
    guint next;
    GChecksum *sum;
};

CfsTreeSum *
cfs_tree_sum_new(CfsTree *tree)
{
    CfsTreeSum *self = g_new0(CfsTreeSum, 1);

    self->entries = cfs_tree_entries(tree);
    self->sum = g_checksum_new(G_CHECKSUM_SHA256);
    return self;
}

void
cfs_tree_sum_free(CfsTreeSum *self)
{
    if (self == NULL) {
        return;
    }
    g_ptr_array_unref(self->entries);
    g_checksum_free(self->sum);
    g_free(self);
}

gboolean
cfs_tree_sum_run(CfsTreeSum *self, gsize budget)
{
    gsize spent = 0;

    while (self->next < self->entries->len && spent < budget) {
        const CfsEntry *entry = self->entries->pdata[self->next++];

        cfs_entry_update_checksum(entry, self->sum);
        spent += ENTRY_COST + entry->size;
    }
    return self->next == self->entries->len;
}

void
cfs_tree_sum_get(CfsTreeSum *self, guint8 out[CFS_DIGEST_SIZE])
{
    gsize length = CFS_DIGEST_SIZE;

    g_assert(self->next == self->entries->len);
    g_checksum_get_digest(self->sum, out, &length);
    g_assert(length == CFS_DIGEST_SIZE);
}
