#include "config.h"

#include "pmxcfs/core/extension.h"

#include <string.h>

#define LAYOUT 1u
#define TERM_FIXED 112u
/* The head of an index and its first record, that of the root. */
#define INDEX_ROOT_END 72u
#define FLUSH_FIXED 24u
#define ACK_FIXED 36u
#define APPEND_FIXED 16u
#define SETTLED_FIXED 4u
#define START_SIZE 24u

/* --- writing -------------------------------------------------------------- */

static GByteArray *
begin(guint16 subtype, guint16 fixed, guint32 time)
{
    const CfsHeader header = {.type = CFS_MESSAGE_OURS,
                              .subtype = subtype,
                              .protocol = CFS_PROTOCOL_DATABASE,
                              .time = time};
    GByteArray *out = g_byte_array_new();

    cfs_message_write(out, &header);
    pve_write_u16(out, LAYOUT);
    pve_write_u16(out, fixed);
    return out;
}

static void
write_epoch(GByteArray *out, const CfsEpoch *epoch)
{
    pve_write_u32(out, epoch->counter);
    pve_write_u32(out, epoch->time);
    pve_write_u32(out, epoch->nodeid);
    pve_write_u32(out, epoch->pid);
}

static void
write_starts(GByteArray *out, const CfsTermRecord *record)
{
    for (guint i = 0; i < record->n_history; i++) {
        pve_write_u64(out, record->history[i].term);
        pve_write_u64(out, record->history[i].version);
        pve_write_u64(out, record->history[i].tag);
    }
}

GBytes *
cfs_term_message_encode(const CfsTermMessage *self, guint32 time)
{
    GByteArray *out = begin(CFS_OURS_TERM, TERM_FIXED, time);

    write_epoch(out, &self->epoch);
    pve_write_u64(out, self->features);
    pve_write_u64(out, self->version);
    pve_write_u32(out, self->mtime);
    pve_write_u32(out, self->n_nodes);
    pve_write_u64(out, self->record.term);
    pve_write_u64(out, self->record.seen);
    pve_write_u64(out, self->record.acked);
    pve_write_u64(out, self->record.cluster_id);
    pve_write_u32(out, (guint32)strlen(self->name) + 1);
    pve_write_u32(out, self->record.n_history);
    pve_write_bytes(out, self->content, sizeof(self->content));
    pve_write_string(out, self->name);
    write_starts(out, &self->record);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
cfs_flush_message_encode(const CfsFlushMessage *self, guint32 time)
{
    GByteArray *out = begin(CFS_OURS_FLUSH, FLUSH_FIXED, time);

    write_epoch(out, &self->epoch);
    pve_write_u64(out, self->term);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
cfs_ack_message_encode(const CfsAckMessage *self, guint32 time)
{
    GByteArray *out = begin(CFS_OURS_ACK, ACK_FIXED, time);

    write_epoch(out, &self->epoch);
    pve_write_u64(out, self->term);
    pve_write_u64(out, self->version);
    pve_write_u32(out, self->error);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
cfs_append_message_encode(const CfsOp *op, guint64 count, guint32 time)
{
    GByteArray *out = begin(CFS_OURS_APPEND, APPEND_FIXED, time);
    gsize size = 0;
    gconstpointer data =
        op->data != NULL ? g_bytes_get_data(op->data, &size) : NULL;

    pve_write_u64(out, count);
    pve_write_u32(out, (guint32)size);
    pve_write_u32(out, (guint32)strlen(op->path) + 1);
    pve_write_string(out, op->path);
    pve_write_bytes(out, data, size);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
cfs_settled_message_encode(const GArray *files, guint32 time)
{
    GByteArray *out = begin(CFS_OURS_SETTLED, SETTLED_FIXED, time);

    g_assert(files->len <= CFS_MAX_SETTLED);
    pve_write_u32(out, files->len);
    for (guint i = 0; i < files->len; i++) {
        const CfsSettled *file = &g_array_index(files, CfsSettled, i);

        pve_write_u64(out, file->inode);
        pve_write_u64(out, file->version);
    }
    return g_byte_array_free_to_bytes(out);
}

/* --- reading -------------------------------------------------------------- */

/* Sets @fixed to the fixed part; @reader is behind it then. */
static gboolean
read_fixed(PveReader *reader, gsize least, PveReader *fixed)
{
    guint16 layout = pve_reader_u16(reader);
    guint16 size = pve_reader_u16(reader);
    const guint8 *bytes;

    if (layout != LAYOUT || size < least) {
        return FALSE;
    }
    bytes = pve_reader_take(reader, size);
    if (bytes == NULL) {
        return FALSE;
    }
    pve_reader_init(fixed, bytes, size);
    return TRUE;
}

static void
read_epoch(PveReader *reader, CfsEpoch *epoch)
{
    epoch->counter = pve_reader_u32(reader);
    epoch->time = pve_reader_u32(reader);
    epoch->nodeid = pve_reader_u32(reader);
    epoch->pid = pve_reader_u32(reader);
}

static gboolean
read_starts(PveReader *reader, CfsTermRecord *record, guint32 n)
{
    if (n > CFS_TERM_HISTORY) {
        return FALSE;
    }
    for (guint i = 0; i < n; i++) {
        record->history[i].term = pve_reader_u64(reader);
        record->history[i].version = pve_reader_u64(reader);
        record->history[i].tag = pve_reader_u64(reader);
    }
    record->n_history = pve_reader_ok(reader) ? n : 0;
    return pve_reader_ok(reader);
}

/* What a database can hold. */
static gboolean
is_number(guint64 value)
{
    return value <= G_MAXINT64;
}

static gboolean
has_numbers(const CfsTermMessage *self)
{
    return is_number(self->version) && is_number(self->record.term) &&
           is_number(self->record.seen) && is_number(self->record.acked);
}

gboolean
cfs_term_message_decode(PveReader *reader, CfsTermMessage *out)
{
    guint32 name_size, n_history;
    PveReader fixed;
    const char *name;
    const guint8 *content;

    memset(out, 0, sizeof(*out));
    if (!read_fixed(reader, TERM_FIXED, &fixed)) {
        return FALSE;
    }
    read_epoch(&fixed, &out->epoch);
    out->features = pve_reader_u64(&fixed);
    out->version = pve_reader_u64(&fixed);
    out->mtime = pve_reader_u32(&fixed);
    out->n_nodes = pve_reader_u32(&fixed);
    out->record.term = pve_reader_u64(&fixed);
    out->record.seen = pve_reader_u64(&fixed);
    out->record.acked = pve_reader_u64(&fixed);
    out->record.cluster_id = pve_reader_u64(&fixed);
    name_size = pve_reader_u32(&fixed);
    n_history = pve_reader_u32(&fixed);
    content = pve_reader_take(&fixed, sizeof(out->content));
    if (content == NULL) {
        return FALSE;
    }
    memcpy(out->content, content, sizeof(out->content));
    if (name_size > sizeof(out->name) || !has_numbers(out)) {
        return FALSE;
    }
    name = pve_reader_string(reader, name_size);
    if (name == NULL) {
        return FALSE;
    }
    memcpy(out->name, name, name_size);
    return read_starts(reader, &out->record, n_history);
}

gboolean
cfs_flush_message_decode(PveReader *reader, CfsFlushMessage *out)
{
    PveReader fixed;

    if (!read_fixed(reader, FLUSH_FIXED, &fixed)) {
        return FALSE;
    }
    read_epoch(&fixed, &out->epoch);
    out->term = pve_reader_u64(&fixed);
    return TRUE;
}

gboolean
cfs_ack_message_decode(PveReader *reader, CfsAckMessage *out)
{
    PveReader fixed;

    if (!read_fixed(reader, ACK_FIXED, &fixed)) {
        return FALSE;
    }
    read_epoch(&fixed, &out->epoch);
    out->term = pve_reader_u64(&fixed);
    out->version = pve_reader_u64(&fixed);
    out->error = pve_reader_u32(&fixed);
    return TRUE;
}

CfsOp *
cfs_append_message_decode(PveReader *reader, guint64 *count)
{
    guint32 data_size, path_size;
    PveReader fixed;
    const char *path;
    const guint8 *data;
    CfsOp *op;

    if (!read_fixed(reader, APPEND_FIXED, &fixed)) {
        return NULL;
    }
    *count = pve_reader_u64(&fixed);
    data_size = pve_reader_u32(&fixed);
    path_size = pve_reader_u32(&fixed);
    path = pve_reader_string(reader, path_size);
    data = path != NULL ? pve_reader_take(reader, data_size) : NULL;
    if (data == NULL) {
        return NULL;
    }
    op = cfs_op_new(CFS_OP_WRITE, path);
    op->is_append = TRUE;
    op->data = data_size > 0 ? g_bytes_new(data, data_size) : NULL;
    return op;
}

GArray *
cfs_settled_message_decode(PveReader *reader)
{
    g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(CfsSettled));
    PveReader fixed;
    guint32 n;

    if (!read_fixed(reader, SETTLED_FIXED, &fixed)) {
        return NULL;
    }
    n = pve_reader_u32(&fixed);
    if (n > CFS_MAX_SETTLED) {
        return NULL;
    }
    for (guint i = 0; i < n; i++) {
        CfsSettled file = {.inode = pve_reader_u64(reader)};

        file.version = pve_reader_u64(reader);
        g_array_append_val(files, file);
    }
    return pve_reader_ok(reader) ? g_steal_pointer(&files) : NULL;
}

void
cfs_term_content(GBytes *index, guint8 content[CFS_DIGEST_SIZE])
{
    gsize size = 0, digest_size = CFS_DIGEST_SIZE;
    const guint8 *bytes = g_bytes_get_data(index, &size);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    memset(content, 0, CFS_DIGEST_SIZE);
    if (size >= INDEX_ROOT_END) {
        g_checksum_update(sum, bytes + INDEX_ROOT_END,
                          (gssize)(size - INDEX_ROOT_END));
        g_checksum_get_digest(sum, content, &digest_size);
    }
}

/* --- the history ---------------------------------------------------------- */

void
cfs_term_history_write(GByteArray *out, const CfsTermRecord *record)
{
    write_starts(out, record);
}

gboolean
cfs_term_history_read(PveReader *reader, CfsTermRecord *record)
{
    gsize size = pve_reader_left(reader);

    record->n_history = 0;
    return size % START_SIZE == 0 && size / START_SIZE <= CFS_TERM_HISTORY &&
           read_starts(reader, record, (guint32)(size / START_SIZE));
}
