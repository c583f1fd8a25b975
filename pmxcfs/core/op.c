#include "config.h"

#include "pmxcfs/core/op.h"

#include <string.h>

#define N_FIELDS 5

CfsOp *
cfs_op_new(CfsOpKind kind, const char *path)
{
    CfsOp *self = g_new0(CfsOp, 1);

    self->kind = kind;
    self->path = g_strdup(path);
    return self;
}

CfsOp *
cfs_op_new_rename(const char *from, const char *to)
{
    CfsOp *self = cfs_op_new(CFS_OP_RENAME, from);

    self->to = g_strdup(to);
    return self;
}

CfsOp *
cfs_op_new_write(const char *path, GBytes *data, guint32 offset)
{
    CfsOp *self = cfs_op_new(CFS_OP_WRITE, path);

    self->data = g_bytes_ref(data);
    self->offset = offset;
    return self;
}

CfsOp *
cfs_op_new_append(const char *path, GBytes *data)
{
    CfsOp *self = cfs_op_new_write(path, data, 0);

    self->is_append = TRUE;
    return self;
}

CfsOp *
cfs_op_new_truncate(const char *path, guint32 size)
{
    CfsOp *self = cfs_op_new(CFS_OP_WRITE, path);

    self->offset = size;
    self->truncate = TRUE;
    return self;
}

CfsOp *
cfs_op_new_mtime(const char *path, guint32 mtime)
{
    CfsOp *self = cfs_op_new(CFS_OP_MTIME, path);

    self->offset = mtime;
    return self;
}

CfsOp *
cfs_op_copy(const CfsOp *self)
{
    CfsOp *copy = g_memdup2(self, sizeof(*self));

    copy->path = g_strdup(self->path);
    copy->to = g_strdup(self->to);
    copy->data = self->data != NULL ? g_bytes_ref(self->data) : NULL;
    return copy;
}

void
cfs_op_free(CfsOp *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->path);
    g_free(self->to);
    g_clear_pointer(&self->data, g_bytes_unref);
    g_free(self);
}

static gboolean
is_unlock(guint16 subtype)
{
    return subtype == CFS_OP_UNLOCK_REQUEST || subtype == CFS_OP_UNLOCK;
}

static guint32
string_size(const char *text)
{
    return text != NULL ? (guint32)strlen(text) + 1 : 0;
}

guint
cfs_op_size(const CfsOp *self)
{
    gsize data = self->data != NULL ? g_bytes_get_size(self->data) : 0;

    return N_FIELDS * (guint)sizeof(guint32) + string_size(self->path) +
           string_size(self->to) + (guint)sizeof(self->checksum) + (guint)data;
}

void
cfs_op_encode(const CfsOp *self, GByteArray *out)
{
    gsize size = 0;
    gconstpointer data = NULL;

    if (is_unlock((guint16)self->kind)) {
        pve_write_bytes(out, self->checksum, sizeof(self->checksum));
        pve_write_string(out, self->path);
        return;
    }
    if (self->data != NULL) {
        data = g_bytes_get_data(self->data, &size);
    }
    pve_write_u32(out, (guint32)size);
    pve_write_u32(out, self->offset);
    pve_write_u32(out, string_size(self->path));
    pve_write_u32(out, string_size(self->to));
    pve_write_u32(out, self->truncate ? 1 : 0);
    pve_write_bytes(out, self->path, string_size(self->path));
    pve_write_bytes(out, self->to, string_size(self->to));
    pve_write_bytes(out, data, size);
}

/* A string field: its last byte must be NUL, and like the reference we take it
 * as a C string, up to the first NUL. A size of 0 means there is none. */
static gboolean
decode_string(PveReader *reader, guint32 size, char **text)
{
    const guint8 *p = pve_reader_take(reader, size);

    if (p == NULL) {
        return FALSE;
    }
    if (size == 0) {
        return TRUE;
    }
    if (p[size - 1] != '\0') {
        return FALSE;
    }
    *text = g_strdup((const char *)p);
    return TRUE;
}

static CfsOp *
decode_unlock(CfsOpKind kind, PveReader *reader)
{
    g_autoptr(CfsOp) self = cfs_op_new(kind, NULL);
    const guint8 *sum = pve_reader_take(reader, sizeof(self->checksum));
    gsize left = pve_reader_left(reader);

    if (sum == NULL || left == 0 || left > G_MAXUINT32 ||
        !decode_string(reader, (guint32)left, &self->path)) {
        return NULL;
    }
    memcpy(self->checksum, sum, sizeof(self->checksum));
    return g_steal_pointer(&self);
}

gboolean
cfs_op_is_known(guint16 subtype)
{
    return subtype >= CFS_OP_WRITE && subtype <= CFS_OP_UNLOCK;
}

CfsOp *
cfs_op_decode(guint16 subtype, PveReader *reader)
{
    g_autoptr(CfsOp) self = NULL;
    guint32 size, path_size, to_size;
    const guint8 *data;

    if (is_unlock(subtype)) {
        return decode_unlock((CfsOpKind)subtype, reader);
    }
    if (subtype < CFS_OP_WRITE || subtype > CFS_OP_MTIME) {
        return NULL;
    }
    self = cfs_op_new((CfsOpKind)subtype, NULL);
    size = pve_reader_u32(reader);
    self->offset = pve_reader_u32(reader);
    path_size = pve_reader_u32(reader);
    to_size = pve_reader_u32(reader);
    self->truncate = pve_reader_u32(reader) != 0;
    if (!pve_reader_ok(reader) ||
        !decode_string(reader, path_size, &self->path) ||
        !decode_string(reader, to_size, &self->to)) {
        return NULL;
    }
    data = pve_reader_take(reader, size);
    if (!pve_reader_done(reader)) {
        return NULL;
    }
    if (self->kind == CFS_OP_WRITE && size > 0) {
        self->data = g_bytes_new(data, size);
    }
    return g_steal_pointer(&self);
}
