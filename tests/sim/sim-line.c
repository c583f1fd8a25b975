#include "config.h"

#include "tests/sim/sim-line.h"

#include "tests/sim/sim-dice.h"

#include <string.h>

struct SimLines {
    GHashTable *by_hash; /* of SimLine; the key lies in it */
};

SimLines *
sim_lines_new(void)
{
    SimLines *self = g_new0(SimLines, 1);

    self->by_hash =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return self;
}

void
sim_lines_free(SimLines *self)
{
    g_hash_table_unref(self->by_hash);
    g_free(self);
}

const SimLine *
sim_lines_find(SimLines *self, guint64 hash)
{
    return g_hash_table_lookup(self->by_hash, &hash);
}

const SimLine *
sim_lines_add(SimLines *self,
              guint64 hash,
              guint64 content,
              guint64 version,
              const SimLine *parent)
{
    SimLine *line = g_hash_table_lookup(self->by_hash, &hash);

    if (line != NULL) {
        return line;
    }
    line = g_new0(SimLine, 1);
    line->hash = hash;
    line->content = content;
    line->version = version;
    line->parent = parent;
    line->jump = line;
    if (parent != NULL) {
        const SimLine *far = parent->jump;

        line->depth = parent->depth + 1;
        /* Two jumps of one length make one twice as long. */
        line->jump = parent->depth - far->depth == far->depth - far->jump->depth
                         ? far->jump
                         : parent;
    }
    g_hash_table_add(self->by_hash, line);
    return line;
}

static const SimLine *
find_depth(const SimLine *self, guint depth)
{
    while (self->depth > depth) {
        self = self->jump->depth >= depth ? self->jump : self->parent;
    }
    return self;
}

gboolean
sim_line_contains(const SimLine *self, const SimLine *other)
{
    if (find_depth(self, other->depth) == other) {
        return TRUE;
    }
    for (; self != NULL; self = self->parent) {
        if (self->content == other->content) {
            return TRUE;
        }
    }
    return FALSE;
}

guint64
sim_bytes_hash(gconstpointer bytes, gsize size)
{
    const guint8 *p = bytes;
    guint64 hash = sim_mix(size);

    for (; size >= sizeof(guint64); size -= sizeof(guint64)) {
        guint64 word;

        memcpy(&word, p, sizeof(word));
        hash = sim_mix(hash ^ word);
        p += sizeof(word);
    }
    if (size > 0) {
        guint64 word = 0;

        memcpy(&word, p, size);
        hash = sim_mix(hash ^ word);
    }
    return hash;
}

guint64
sim_entry_hash(const CfsEntry *entry)
{
    /* The root comes with one type or another (spec/replication.md 7.6). */
    guint64 type = entry->inode == CFS_ROOT_INODE ? 0 : entry->type;
    guint64 fields[] = {entry->inode,
                        entry->parent,
                        entry->version,
                        (guint64)entry->writer << 32 | entry->mtime,
                        (guint64)entry->size << 8 | type,
                        sim_bytes_hash(entry->name, strlen(entry->name)),
                        0};

    if (entry->data != NULL) {
        gsize size = 0;
        gconstpointer bytes = g_bytes_get_data(entry->data, &size);

        fields[6] = sim_bytes_hash(bytes, size);
    }
    return sim_bytes_hash(fields, sizeof(fields));
}
