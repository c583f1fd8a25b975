#include "config.h"

#include "common/ipc-listing.h"

#include "common/wire.h"

void
pve_ipc_entry_free(PveIpcEntry *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->path);
    g_clear_pointer(&self->content, g_bytes_unref);
    g_free(self);
}

static PveIpcEntry *
parse_entry(PveReader *reader)
{
    g_autoptr(PveIpcEntry) entry = g_new0(PveIpcEntry, 1);
    gsize left = pve_reader_left(reader);
    guint32 size = pve_reader_u32(reader), content;
    const char *path;
    const guint8 *bytes;
    gsize fixed;

    entry->inode = pve_reader_u64(reader);
    entry->version = pve_reader_u64(reader);
    (void)pve_reader_u64(reader); /* parent */
    (void)pve_reader_u32(reader); /* writer */
    entry->mtime = pve_reader_u32(reader);
    entry->size = pve_reader_u32(reader);
    content = pve_reader_u32(reader);
    entry->is_directory = pve_reader_u8(reader) == 4;
    fixed = left - pve_reader_left(reader);
    if (!pve_reader_ok(reader) || size > left ||
        size < (guint64)fixed + content) {
        return NULL;
    }
    path = pve_reader_string(reader, size - fixed - content);
    bytes = pve_reader_take(reader, content);
    if (path == NULL || bytes == NULL) {
        return NULL;
    }
    entry->path = g_strdup(path);
    if (!entry->is_directory && content == entry->size) {
        entry->content = g_bytes_new(bytes, content);
    }
    return g_steal_pointer(&entry);
}

gboolean
pve_ipc_list_parse(GBytes *piece, GPtrArray *entries, guint32 *next)
{
    PveReader reader;

    pve_reader_init_bytes(&reader, piece);
    *next = pve_reader_u32(&reader);
    while (pve_reader_left(&reader) > 0) {
        PveIpcEntry *entry = parse_entry(&reader);

        if (entry == NULL) {
            return FALSE;
        }
        g_ptr_array_add(entries, entry);
    }
    return pve_reader_ok(&reader);
}
