#include "config.h"

#include "agent/io/treewatch.h"

#include "agent/io/scan.h"
#include "common/ipc-tree.h"
#include "common/names.h"

#include <string.h>

/* Guests' files are small; the filesystem sends so much with a listing. */
#define MOST_BYTES (256u * 1024u)

struct AgentTreeWatch {
    PveIpcEvents *events;
    PveIpcClient *client;
    gboolean is_on;
    gboolean is_dirty;
    guint n_breaks;     /* the tree may have been replaced */
    GHashTable *closed; /* inode -> version of the tree at which it was whole */
    AgentSnapshot *known; /* what was read last; nullable */
    PveIpcSnapshot state; /* ... and when */
};

/* --- what is heard --- */

static void
note_whole(AgentTreeWatch *self, const PveEvent *event)
{
    g_hash_table_replace(self->closed,
                         g_memdup2(&event->inode, sizeof(event->inode)),
                         g_memdup2(&event->version, sizeof(event->version)));
}

static void
on_event(gpointer data, const PveEvent *event, const GError *error)
{
    AgentTreeWatch *self = data;

    self->is_dirty = TRUE;
    if (event == NULL) {
        if (self->is_on) {
            g_message("looking for changes every now and then: %s",
                      error->message);
        }
        self->is_on = FALSE;
        return;
    }
    self->is_on = TRUE;
    switch (event->kind) {
    case PVE_EVENT_LOST:
    case PVE_EVENT_RELOADED:
        self->n_breaks++;
        g_hash_table_remove_all(self->closed);
        break;
    case PVE_EVENT_SETTLED:
    case PVE_EVENT_RENAMED:
        note_whole(self, event);
        break;
    default:
        break;
    }
}

AgentTreeWatch *
agent_treewatch_new(void)
{
    static const char *const prefixes[] = {"nodes", "storage.cfg",
                                           "ha/resources.cfg", NULL};
    AgentTreeWatch *self = g_new0(AgentTreeWatch, 1);

    self->closed =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    self->client = pve_ipc_client_new();
    self->is_dirty = TRUE;
    self->events = pve_ipc_events_new(
        PVE_EVENT_TREE | PVE_EVENT_BIT(PVE_EVENT_RELOADED) |
            PVE_EVENT_BIT(PVE_EVENT_QUORUM) | PVE_EVENT_BIT(PVE_EVENT_SYNC) |
            PVE_EVENT_BIT(PVE_EVENT_MEMBERS),
        prefixes, on_event, self);
    return self;
}

void
agent_treewatch_free(AgentTreeWatch *self)
{
    if (self == NULL) {
        return;
    }
    pve_ipc_events_free(self->events);
    pve_ipc_client_free(self->client);
    g_hash_table_unref(self->closed);
    g_clear_pointer(&self->known, agent_snapshot_unref);
    g_free(self);
}

gboolean
agent_treewatch_is_dirty(AgentTreeWatch *self)
{
    return self->is_on && self->is_dirty;
}

/* --- what is read --- */

/* Was it whole, and is it still what it was then? */
static gboolean
is_whole(AgentTreeWatch *self, const PveIpcEntry *entry)
{
    const guint64 *version = g_hash_table_lookup(self->closed, &entry->inode);

    return version != NULL && entry->version <= *version;
}

/* nodes/NODE/FOLDER/NAME; other paths are nobody's. */
static void
add_file(AgentTreeWatch *self, AgentSnapshot *now, const PveIpcEntry *entry)
{
    g_auto(GStrv) parts = g_strsplit(entry->path, "/", 5);
    AgentFileKind kind;
    AgentFile *file;
    guint32 ctid;

    if (entry->is_directory || g_strv_length(parts) != 4 ||
        !pve_name_is_node(parts[1]) ||
        !agent_scan_classify(parts[2], parts[3], &kind, &ctid)) {
        return;
    }
    file = agent_file_new(kind, parts[1], parts[3], ctid,
                          entry->inode + PVE_IPC_INODE_BASE, NULL);
    file->size = entry->size;
    file->mtime = entry->mtime;
    file->whole = is_whole(self, entry);
    if (kind != AGENT_FILE_FOREIGN && entry->content != NULL) {
        file->content = g_bytes_ref(entry->content);
    }
    g_ptr_array_add(now->files, file);
}

static void
forget_others(AgentTreeWatch *self, const GPtrArray *entries)
{
    g_autoptr(GHashTable) there = g_hash_table_new(g_int64_hash, g_int64_equal);
    GHashTableIter iter;
    gpointer inode;

    for (guint i = 0; i < entries->len; i++) {
        g_hash_table_add(there, &((PveIpcEntry *)entries->pdata[i])->inode);
    }
    g_hash_table_iter_init(&iter, self->closed);
    while (g_hash_table_iter_next(&iter, &inode, NULL)) {
        if (!g_hash_table_contains(there, inode)) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

static gboolean
read_tree(AgentTreeWatch *self, AgentSnapshot *now, GError **error)
{
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GBytes) members = NULL;

    if (!pve_ipc_snapshot(self->client, &self->state, error)) {
        return FALSE;
    }
    entries =
        pve_ipc_list(self->client, &self->state, "nodes", MOST_BYTES, error);
    if (entries == NULL) {
        return FALSE;
    }
    pve_ipc_release(self->client, &self->state);
    members =
        pve_ipc_call(self->client, PVE_IPC_CLUSTER_INFO, NULL, 0, NULL, error);
    if (members == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < entries->len; i++) {
        add_file(self, now, entries->pdata[i]);
    }
    forget_others(self, entries);
    now->quorate = self->state.quorate;
    now->complete = TRUE;
    now->session = g_strdup_printf("watch %" G_GUINT64_FORMAT " %u",
                                   self->state.instance, self->n_breaks);
    return agent_scan_add_cluster(now, self->client, members, error);
}

/* The daemon says so itself, now: what was heard is no proof that it lives. */
static gboolean
is_as_known(AgentTreeWatch *self, GError **error)
{
    PveIpcSnapshot state = {0};

    if (!pve_ipc_look(self->client, &state, error)) {
        return FALSE;
    }
    return !self->is_dirty && self->known != NULL &&
           state.instance == self->state.instance &&
           state.version == self->state.version &&
           state.quorate == self->state.quorate;
}

gboolean
agent_treewatch_fill(AgentTreeWatch *self, AgentSnapshot *now)
{
    g_autoptr(GError) error = NULL;

    if (!self->is_on) {
        return FALSE;
    }
    if (!is_as_known(self, &error) && error == NULL) {
        g_autoptr(AgentSnapshot) fresh = agent_snapshot_new(now->time_us);

        self->is_dirty = FALSE;
        if (read_tree(self, fresh, &error)) {
            g_clear_pointer(&self->known, agent_snapshot_unref);
            self->known = g_steal_pointer(&fresh);
        }
    }
    if (error != NULL) {
        self->is_dirty = TRUE;
        g_warning("%s", error->message);
        return FALSE;
    }
    agent_snapshot_share_tree(now, self->known);
    return TRUE;
}
