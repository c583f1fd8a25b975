#include "config.h"

#include "pmxcfs/core/kv.h"

#include "pmxcfs/core/json-text.h"

#include <errno.h>
#include <string.h>

/* What an entry costs beside its bytes, so that many small ones count. */
#define ENTRY_COST 96u

typedef struct {
    GBytes *value;
    guint32 version;
    gboolean is_marked;
} Entry;

struct CfsKv {
    GTree *entries; /* key -> Entry */
    gsize bytes;
    gsize max_bytes;
    guint32 highest_gone; /* version of any key that was deleted */
};

static int
compare(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

static void
entry_free(gpointer data)
{
    Entry *self = data;

    g_bytes_unref(self->value);
    g_free(self);
}

CfsKv *
cfs_kv_new(gsize max_bytes)
{
    CfsKv *self = g_new0(CfsKv, 1);

    self->entries = g_tree_new_full(compare, NULL, g_free, entry_free);
    self->max_bytes = max_bytes;
    return self;
}

void
cfs_kv_free(CfsKv *self)
{
    if (self == NULL) {
        return;
    }
    g_tree_unref(self->entries);
    g_free(self);
}

static gsize
cost(const char *key, GBytes *value)
{
    return strlen(key) + g_bytes_get_size(value) + ENTRY_COST;
}

static void
delete_key(CfsKv *self, const char *key)
{
    Entry *entry = g_tree_lookup(self->entries, key);

    if (entry == NULL) {
        return;
    }
    self->bytes -= cost(key, entry->value);
    self->highest_gone = MAX(self->highest_gone, entry->version);
    g_tree_remove(self->entries, key);
}

int
cfs_kv_set(CfsKv *self, const char *key, GBytes *value)
{
    Entry *entry = g_tree_lookup(self->entries, key);
    gsize old = entry != NULL ? cost(key, entry->value) : 0;
    gsize bytes = self->bytes - old + cost(key, value);

    if (g_bytes_get_size(value) == 0) {
        delete_key(self, key);
        return 0;
    }
    if (bytes > self->max_bytes) {
        return ENOSPC;
    }
    self->bytes = bytes;
    if (entry == NULL) {
        entry = g_new0(Entry, 1);
        entry->version = self->highest_gone;
        g_tree_insert(self->entries, g_strdup(key), entry);
    }
    g_clear_pointer(&entry->value, g_bytes_unref);
    entry->value = g_bytes_ref(value);
    entry->version++;
    entry->is_marked = FALSE;
    return 0;
}

GBytes *
cfs_kv_get(CfsKv *self, const char *key)
{
    Entry *entry = g_tree_lookup(self->entries, key);

    return entry != NULL ? entry->value : NULL;
}

guint32
cfs_kv_version(CfsKv *self, const char *key)
{
    Entry *entry = g_tree_lookup(self->entries, key);

    return entry != NULL ? entry->version : 0;
}

void
cfs_kv_foreach(CfsKv *self, CfsKvVisit visit, gpointer data)
{
    for (GTreeNode *node = g_tree_node_first(self->entries); node != NULL;
         node = g_tree_node_next(node)) {
        const Entry *entry = g_tree_node_value(node);

        visit(data, g_tree_node_key(node), entry->value);
    }
}

void
cfs_kv_mark(CfsKv *self)
{
    for (GTreeNode *node = g_tree_node_first(self->entries); node != NULL;
         node = g_tree_node_next(node)) {
        ((Entry *)g_tree_node_value(node))->is_marked = TRUE;
    }
}

GPtrArray *
cfs_kv_sweep(CfsKv *self)
{
    GPtrArray *gone = g_ptr_array_new_with_free_func(g_free);

    for (GTreeNode *node = g_tree_node_first(self->entries); node != NULL;
         node = g_tree_node_next(node)) {
        if (((Entry *)g_tree_node_value(node))->is_marked) {
            g_ptr_array_add(gone, g_strdup(g_tree_node_key(node)));
        }
    }
    for (guint i = 0; i < gone->len; i++) {
        delete_key(self, gone->pdata[i]);
    }
    return gone;
}

void
cfs_kv_append_versions(CfsKv *self, GString *out)
{
    gboolean is_first = TRUE;

    g_string_append(out, "{\n");
    for (GTreeNode *node = g_tree_node_first(self->entries); node != NULL;
         node = g_tree_node_next(node)) {
        g_string_append(out, is_first ? "" : ",\n");
        cfs_json_append_string(out, g_tree_node_key(node));
        g_string_append_printf(out, ": %u",
                               ((Entry *)g_tree_node_value(node))->version);
        is_first = FALSE;
    }
    g_string_append(out, "}\n");
}

gboolean
cfs_kv_is_name(const char *key)
{
    gsize size = strlen(key);

    if (size > CFS_KV_MAX_KEY || !g_utf8_validate(key, (gssize)size, NULL)) {
        return FALSE;
    }
    for (const char *p = key; *p != '\0'; p++) {
        if ((guchar)*p < 32 || *p == 127 || *p == '"' || *p == '\\') {
            return FALSE;
        }
    }
    return TRUE;
}
