#include "config.h"

#include "pmxcfs/core/rrd-table.h"

#include <errno.h>
#include <string.h>

typedef struct {
    char *value;
    guint32 time;
} Entry;

struct CfsRrdTable {
    GHashTable *entries; /* key -> Entry */
    char *dump;          /* NULL: none was made yet */
    guint32 dump_time;
};

static void
entry_free(gpointer data)
{
    Entry *self = data;

    g_free(self->value);
    g_free(self);
}

CfsRrdTable *
cfs_rrd_table_new(void)
{
    CfsRrdTable *self = g_new0(CfsRrdTable, 1);

    self->entries =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
    return self;
}

void
cfs_rrd_table_free(CfsRrdTable *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->entries);
    g_free(self->dump);
    g_free(self);
}

/* A clock that was set back makes nothing expire. */
static gboolean
is_expired(gpointer key, gpointer value, gpointer data)
{
    const Entry *entry = value;
    guint32 now = *(const guint32 *)data;

    return now > entry->time && now - entry->time > CFS_RRD_EXPIRY_S;
}

static gboolean
is_value(GBytes *value)
{
    gsize size = 0;
    const char *text = g_bytes_get_data(value, &size);

    return size > 0 && size <= CFS_RRD_MAX_VALUE && text[size - 1] == '\0';
}

int
cfs_rrd_table_set(CfsRrdTable *self,
                  const char *key,
                  GBytes *value,
                  guint32 now)
{
    Entry *entry = g_hash_table_lookup(self->entries, key);

    if (!is_value(value)) {
        return EINVAL;
    }
    if (entry == NULL) {
        if (g_hash_table_size(self->entries) >= CFS_RRD_MAX_ENTRIES &&
            g_hash_table_foreach_remove(self->entries, is_expired, &now) == 0) {
            return ENOSPC;
        }
        entry = g_new0(Entry, 1);
        g_hash_table_insert(self->entries, g_strdup(key), entry);
    }
    g_free(entry->value);
    entry->value = g_strdup(g_bytes_get_data(value, NULL));
    entry->time = now;
    return 0;
}

const char *
cfs_rrd_table_get(CfsRrdTable *self, const char *key)
{
    Entry *entry = g_hash_table_lookup(self->entries, key);

    return entry != NULL ? entry->value : NULL;
}

/* A newline would make two lines of one. */
static void
append_line(GString *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        g_string_append_c(out, *p == '\n' ? ' ' : *p);
    }
}

static int
compare_keys(gconstpointer a, gconstpointer b)
{
    return strcmp(a, b);
}

static char *
make_dump(CfsRrdTable *self)
{
    g_autoptr(GList) keys = NULL;
    GString *out = g_string_new(NULL);

    keys = g_list_sort(g_hash_table_get_keys(self->entries), compare_keys);
    for (GList *l = keys; l != NULL; l = l->next) {
        const Entry *entry = g_hash_table_lookup(self->entries, l->data);

        g_assert(entry != NULL);
        append_line(out, l->data);
        g_string_append_c(out, ':');
        append_line(out, entry->value);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

const char *
cfs_rrd_table_dump(CfsRrdTable *self, guint32 now, gboolean *is_new)
{
    gboolean is_fresh = self->dump != NULL && now >= self->dump_time &&
                        now - self->dump_time < CFS_RRD_CACHE_S;

    if (!is_fresh) {
        (void)g_hash_table_foreach_remove(self->entries, is_expired, &now);
        g_free(self->dump);
        self->dump = make_dump(self);
        self->dump_time = now;
    }
    if (is_new != NULL) {
        *is_new = !is_fresh;
    }
    return self->dump;
}
