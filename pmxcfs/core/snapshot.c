#include "config.h"

#include "pmxcfs/core/snapshot.h"

struct CfsSnapshot {
    GPtrArray *entries; /* of CfsEntry, ascending by inode */
};

/* Deeper is no tree of ours. */
#define MAX_DEPTH 4096u

CfsSnapshot *
cfs_snapshot_new(CfsTree *tree)
{
    CfsSnapshot *self = g_new0(CfsSnapshot, 1);

    self->entries = cfs_tree_entries(tree);
    return self;
}

void
cfs_snapshot_free(CfsSnapshot *self)
{
    if (self == NULL) {
        return;
    }
    g_ptr_array_unref(self->entries);
    g_free(self);
}

guint64
cfs_snapshot_version(CfsSnapshot *self)
{
    return cfs_snapshot_nth(self, 0)->version;
}

guint
cfs_snapshot_n_entries(CfsSnapshot *self)
{
    return self->entries->len;
}

CfsEntry *
cfs_snapshot_nth(CfsSnapshot *self, guint position)
{
    g_assert(position < self->entries->len);
    return self->entries->pdata[position];
}

CfsEntry *
cfs_snapshot_get(CfsSnapshot *self, guint64 inode)
{
    guint low = 0, high = self->entries->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        CfsEntry *entry = self->entries->pdata[middle];

        if (entry->inode == inode) {
            return entry;
        }
        if (entry->inode < inode) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

char *
cfs_snapshot_path(CfsSnapshot *self, const CfsEntry *entry)
{
    GString *path = g_string_new(NULL);

    for (guint depth = 0; entry != NULL && depth < MAX_DEPTH; depth++) {
        if (entry->inode == CFS_ROOT_INODE) {
            return g_string_free(path, FALSE);
        }
        if (path->len > 0) {
            g_string_prepend_c(path, '/');
        }
        g_string_prepend(path, entry->name);
        entry = cfs_snapshot_get(self, entry->parent);
    }
    (void)g_string_free(path, TRUE);
    return NULL;
}
