#include "config.h"

#include "pmxcfs/core/index.h"

#include "pmxcfs/core/entry.h"

#include <string.h>

enum { HEADER_SIZE = 32, RECORD_SIZE = 40 };

struct CfsIndex {
    GBytes *bytes;
    const guint8 *records;
    guint32 n_records;
    guint64 version;
    guint32 mtime;
};

static guint64
inode_at(const CfsIndex *self, guint32 position)
{
    guint64 inode;

    memcpy(&inode, self->records + (gsize)position * RECORD_SIZE,
           sizeof(inode));
    return GUINT64_FROM_LE(inode);
}

static gboolean
is_ascending(const CfsIndex *self)
{
    for (guint32 i = 1; i < self->n_records; i++) {
        if (inode_at(self, i - 1) >= inode_at(self, i)) {
            return FALSE;
        }
    }
    return TRUE;
}

CfsIndex *
cfs_index_new(GBytes *bytes)
{
    g_autoptr(CfsIndex) self = g_new0(CfsIndex, 1);
    PveReader reader;
    guint32 size;

    pve_reader_init_bytes(&reader, bytes);
    self->version = pve_reader_u64(&reader);
    (void)pve_reader_u64(&reader); /* last inode: the last record says it */
    (void)pve_reader_u32(&reader); /* writer: in the root's digest */
    self->mtime = pve_reader_u32(&reader);
    self->n_records = pve_reader_u32(&reader);
    size = pve_reader_u32(&reader);
    if (!pve_reader_ok(&reader) || size != g_bytes_get_size(bytes) ||
        (guint64)self->n_records * RECORD_SIZE != size - HEADER_SIZE ||
        self->n_records == 0) {
        return NULL;
    }
    self->records = pve_reader_take(&reader, pve_reader_left(&reader));
    self->bytes = g_bytes_ref(bytes);
    if (inode_at(self, 0) != CFS_ROOT_INODE || !is_ascending(self)) {
        return NULL;
    }
    return g_steal_pointer(&self);
}

void
cfs_index_free(CfsIndex *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_pointer(&self->bytes, g_bytes_unref);
    g_free(self);
}

guint64
cfs_index_version(const CfsIndex *self)
{
    return self->version;
}

guint32
cfs_index_mtime(const CfsIndex *self)
{
    return self->mtime;
}

GBytes *
cfs_index_bytes(const CfsIndex *self)
{
    return self->bytes;
}

gboolean
cfs_index_equal(const CfsIndex *a, const CfsIndex *b)
{
    return g_bytes_equal(a->bytes, b->bytes);
}

const guint8 *
cfs_index_find(const CfsIndex *self, guint64 inode)
{
    guint32 low = 0, high = self->n_records;

    while (low < high) {
        guint32 middle = low + (high - low) / 2;
        guint64 here = inode_at(self, middle);

        if (here == inode) {
            return self->records + (gsize)middle * RECORD_SIZE + sizeof(inode);
        }
        if (here < inode) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static void
add_inode(GHashTable *inodes, guint64 inode)
{
    g_hash_table_add(inodes, g_memdup2(&inode, sizeof(inode)));
}

void
cfs_index_missing(const CfsIndex *self,
                  const CfsIndex *other,
                  GHashTable *inodes)
{
    guint32 j = 0;

    for (guint32 i = 0; i < self->n_records; i++) {
        guint64 inode = inode_at(self, i);

        while (other != NULL && j < other->n_records &&
               inode_at(other, j) < inode) {
            j++;
        }
        if (other == NULL || j == other->n_records ||
            memcmp(self->records + (gsize)i * RECORD_SIZE,
                   other->records + (gsize)j * RECORD_SIZE, RECORD_SIZE) != 0) {
            add_inode(inodes, inode);
        }
    }
}
