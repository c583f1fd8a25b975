#include "config.h"

#include "pmxcfs/core/entry.h"

#include <string.h>

/* What hashing an entry costs beside its content, roughly. */
#define RECORD_BYTES 128u

CfsEntry *
cfs_entry_new_sized(guint64 inode,
                    guint64 parent,
                    guint64 version,
                    guint32 writer,
                    guint32 mtime,
                    guint32 size,
                    guint8 type,
                    const char *name,
                    GBytes *data)
{
    CfsEntry *self = g_new0(CfsEntry, 1);

    g_assert(data == NULL || g_bytes_get_size(data) == size);
    g_atomic_ref_count_init(&self->refs);
    self->inode = inode;
    self->parent = parent;
    self->version = version;
    self->writer = writer;
    self->mtime = mtime;
    self->size = size;
    self->type = type;
    self->name = g_strdup(name);
    self->data = size > 0 && data != NULL ? g_bytes_ref(data) : NULL;
    return self;
}

CfsEntry *
cfs_entry_new(guint64 inode,
              guint64 parent,
              guint64 version,
              guint32 writer,
              guint32 mtime,
              guint8 type,
              const char *name,
              GBytes *data)
{
    guint32 size = data != NULL ? (guint32)g_bytes_get_size(data) : 0;

    return cfs_entry_new_sized(inode, parent, version, writer, mtime, size,
                               type, name, data);
}

CfsEntry *
cfs_entry_ref(CfsEntry *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void
cfs_entry_unref(CfsEntry *self)
{
    if (self == NULL || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    g_free(self->name);
    g_clear_pointer(&self->data, g_bytes_unref);
    g_free(self);
}

gsize
cfs_entry_read(const CfsEntry *self, guint64 offset, gsize size, guint8 *out)
{
    if (offset >= self->size) {
        return 0;
    }
    size = MIN(size, self->size - (gsize)offset);
    if (self->data != NULL) {
        const guint8 *data = g_bytes_get_data(self->data, NULL);

        memcpy(out, data + offset, size);
    } else {
        memset(out, 0, size);
    }
    return size;
}

static void
update_u64(GChecksum *sum, guint64 value)
{
    guint64 le = GUINT64_TO_LE(value);

    g_checksum_update(sum, (const guchar *)&le, sizeof(le));
}

static void
update_u32(GChecksum *sum, guint32 value)
{
    guint32 le = GUINT32_TO_LE(value);

    g_checksum_update(sum, (const guchar *)&le, sizeof(le));
}

/* The fields in the order of spec/replication.md 6.1. */
static void
update_record(const CfsEntry *self, GChecksum *sum)
{
    update_u64(sum, self->version);
    update_u32(sum, self->writer);
    update_u32(sum, self->mtime);
    update_u32(sum, self->size);
    g_checksum_update(sum, &self->type, 1);
    update_u64(sum, self->parent);
    g_checksum_update(sum, (const guchar *)self->name,
                      (gssize)strlen(self->name));
    if (self->data != NULL) {
        gsize size = 0;
        const guchar *data = g_bytes_get_data(self->data, &size);

        g_checksum_update(sum, data, (gssize)size);
    }
}

static void
finish(GChecksum *sum, guint8 out[CFS_DIGEST_SIZE])
{
    gsize length = CFS_DIGEST_SIZE;

    g_checksum_get_digest(sum, out, &length);
    g_assert(length == CFS_DIGEST_SIZE);
}

gsize
cfs_entry_hash(CfsEntry *self)
{
    g_autoptr(GChecksum) sum = NULL;

    if (self->has_digest) {
        return 0;
    }
    sum = g_checksum_new(G_CHECKSUM_SHA256);
    update_record(self, sum);
    finish(sum, self->digest);
    self->has_digest = TRUE;
    return RECORD_BYTES + self->size;
}

void
cfs_entry_forget_digest(CfsEntry *self)
{
    self->has_digest = FALSE;
}

void
cfs_entry_digest(CfsEntry *self, guint8 out[CFS_DIGEST_SIZE])
{
    (void)cfs_entry_hash(self);
    memcpy(out, self->digest, CFS_DIGEST_SIZE);
}

void
cfs_entry_update_checksum(const CfsEntry *self, GChecksum *sum)
{
    update_u64(sum, self->inode);
    update_record(self, sum);
}

void
cfs_entry_checksum(const CfsEntry *self, guint8 out[CFS_DIGEST_SIZE])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    cfs_entry_update_checksum(self, sum);
    finish(sum, out);
}

/* Without name and content. */
#define ENCODED_BYTES 41u

guint
cfs_entry_encoded_size(const CfsEntry *self)
{
    return ENCODED_BYTES + (guint)strlen(self->name) + 1 + self->size;
}

void
cfs_entry_encode(const CfsEntry *self, GByteArray *out)
{
    guint name_size = (guint)strlen(self->name) + 1;
    guint content;

    pve_write_u64(out, self->parent);
    pve_write_u64(out, self->inode);
    pve_write_u64(out, self->version);
    pve_write_u32(out, self->writer);
    pve_write_u32(out, self->mtime);
    pve_write_u32(out, self->size);
    pve_write_u32(out, name_size);
    pve_write_u8(out, self->type);
    pve_write_string(out, self->name);
    /* A size without content goes as zeros: the form has no other. */
    content = out->len;
    g_byte_array_set_size(out, content + self->size);
    cfs_entry_read(self, 0, self->size, out->data + content);
}

CfsEntry *
cfs_entry_decode(PveReader *reader)
{
    guint64 parent = pve_reader_u64(reader);
    guint64 inode = pve_reader_u64(reader);
    guint64 version = pve_reader_u64(reader);
    guint32 writer = pve_reader_u32(reader);
    guint32 mtime = pve_reader_u32(reader);
    guint32 size = pve_reader_u32(reader);
    guint32 name_size = pve_reader_u32(reader);
    guint8 type = pve_reader_u8(reader);
    const char *name = pve_reader_string(reader, name_size);
    const guint8 *bytes = pve_reader_take(reader, size);
    g_autoptr(GBytes) data = NULL;

    if (!pve_reader_done(reader) ||
        (type != CFS_TYPE_DIRECTORY && type != CFS_TYPE_FILE) ||
        (type == CFS_TYPE_DIRECTORY && size > 0)) {
        return NULL;
    }
    if (size > 0) {
        data = g_bytes_new(bytes, size);
    }
    return cfs_entry_new(inode, parent, version, writer, mtime, type, name,
                         data);
}

static gboolean
is_zeros(GBytes *data)
{
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(data, &size);

    return size > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

CfsEntry *
cfs_entry_match(CfsEntry *self, const guint8 digest[CFS_DIGEST_SIZE])
{
    g_autoptr(CfsEntry) bare = NULL;
    guint8 sum[CFS_DIGEST_SIZE];

    cfs_entry_digest(self, sum);
    if (memcmp(sum, digest, sizeof(sum)) == 0) {
        return cfs_entry_ref(self);
    }
    if (self->data == NULL || !is_zeros(self->data)) {
        return NULL;
    }
    bare = cfs_entry_new_sized(self->inode, self->parent, self->version,
                               self->writer, self->mtime, self->size,
                               self->type, self->name, NULL);
    cfs_entry_digest(bare, sum);
    return memcmp(sum, digest, sizeof(sum)) == 0 ? g_steal_pointer(&bare)
                                                 : NULL;
}
