#include "config.h"

#include "agent/io/nodeinfo.h"

#include "agent/core/observe.h"
#include "agent/io/holds.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(agent - nodeinfo - error - quark, agent_nodeinfo_error)

#define MAX_FILE_BYTES (1024u * 1024u)

/* --- members --- */

GPtrArray *
agent_nodeinfo_members(GError **error)
{
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/.members", MAX_FILE_BYTES, error);

    if (bytes == NULL) {
        return NULL;
    }
    return agent_members_parse(g_bytes_get_data(bytes, NULL),
                               g_bytes_get_size(bytes));
}

static char *
address_of(const char *node, GError **error)
{
    g_autoptr(GPtrArray) members = agent_nodeinfo_members(error);

    if (members == NULL) {
        return NULL;
    }
    for (guint i = 0; i < members->len; i++) {
        const AgentMember *member = g_ptr_array_index(members, i);

        if (strcmp(member->name, node) == 0 && member->ip != NULL) {
            return g_strdup(member->ip);
        }
    }
    g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_NODE,
                "node %s: its address is not known; is it up?", node);
    return NULL;
}

/* --- storages: the little that a transfer needs --- */

typedef struct {
    char *type; /* NULL: no such storage */
    char *path;
    char *nodes;
    gboolean shared;
    gboolean disabled;
} Storage;

static void
storage_clear(Storage *self)
{
    g_free(self->type);
    g_free(self->path);
    g_free(self->nodes);
    *self = (Storage){0};
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Storage, storage_clear)

static gboolean
is_always_shared(const char *type)
{
    static const char *const types[] = {
        "nfs",         "cifs", "cephfs", "rbd", "iscsi",
        "iscsidirect", "zfs",  "drbd",   "pbs", NULL};

    return g_strv_contains(types, type);
}

static void
parse_property(Storage *self, char *line)
{
    char *key = g_strstrip(line);
    char *value = key + strcspn(key, " \t");

    if (*value != '\0') {
        *value++ = '\0';
        value = g_strstrip(value);
    }
    if (strcmp(key, "path") == 0 && self->path == NULL) {
        self->path = g_strdup(value);
    } else if (strcmp(key, "nodes") == 0 && self->nodes == NULL) {
        self->nodes = g_strdup(value);
    } else if (strcmp(key, "shared") == 0) {
        self->shared = strcmp(value, "0") != 0;
    } else if (strcmp(key, "disable") == 0) {
        self->disabled = strcmp(value, "0") != 0;
    }
}

/* The section of storage @id (spec/storage.md 1.1). */
static void
parse_storages(Storage *self, const char *text, const char *id)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    gboolean inside = FALSE;

    for (guint i = 0; lines[i] != NULL; i++) {
        char *line = lines[i];
        char *colon = strchr(line, ':');

        if (*g_strchug(g_strdupa(line)) == '#') {
            continue;
        }
        if (*line != '\0' && !g_ascii_isspace(*line) && colon != NULL) {
            inside =
                self->type == NULL && strcmp(g_strstrip(colon + 1), id) == 0;
            if (inside) {
                self->type = g_ascii_strdown(line, colon - line);
            }
        } else if (inside && g_ascii_isspace(*line)) {
            parse_property(self, line);
        }
    }
}

/* "If there is no section local, or it is not type dir, or has a path other
 * than /var/lib/vz, it is replaced" (spec/storage.md 1.1). */
static void
replace_local(Storage *self)
{
    if (g_strcmp0(self->type, "dir") != 0 ||
        g_strcmp0(self->path, PVE_LOCAL_STORAGE_DIR) != 0) {
        storage_clear(self);
        self->type = g_strdup("dir");
        self->path = g_strdup(PVE_LOCAL_STORAGE_DIR);
    }
    g_clear_pointer(&self->nodes, g_free);
}

static gboolean
storage_load(Storage *self, const char *id, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/storage.cfg", MAX_FILE_BYTES, &local);

    if (bytes != NULL) {
        parse_storages(self, g_bytes_get_data(bytes, NULL), id);
    } else if (!g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (strcmp(id, "local") == 0) {
        replace_local(self);
    }
    if (self->type == NULL) {
        g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_STORAGE,
                    "storage '%s' does not exist", id);
        return FALSE;
    }
    if (self->path == NULL &&
        (strcmp(self->type, "nfs") == 0 || strcmp(self->type, "cifs") == 0)) {
        self->path = g_strconcat("/mnt/pve/", id, NULL);
    }
    self->shared = self->shared || is_always_shared(self->type);
    return TRUE;
}

static gboolean
storage_check_here(const Storage *self,
                   const char *id,
                   const char *node,
                   GError **error)
{
    g_auto(GStrv) nodes = NULL;

    if (self->disabled) {
        g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_STORAGE,
                    "storage '%s' is disabled", id);
        return FALSE;
    }
    if (self->nodes == NULL) {
        return TRUE;
    }
    nodes = g_strsplit_set(self->nodes, ",; ", -1);
    if (!g_strv_contains((const char *const *)nodes, node)) {
        g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_STORAGE,
                    "storage '%s' is not available on node '%s'", id, node);
        return FALSE;
    }
    return TRUE;
}

/* NAME of a path-based storage: "CTID/FILE", nothing that leaves the
 * directory (spec/storage.md 2). */
static gboolean
is_volume_name(const char *name)
{
    const char *slash = strchr(name, '/');
    g_autofree char *owner = NULL;

    if (slash == NULL) {
        return FALSE;
    }
    owner = g_strndup(name, (gsize)(slash - name));
    return pve_ctid_parse(owner) != 0 && pve_name_is_component(slash + 1) &&
           slash[1] != '.';
}

void
agent_volume_free(AgentVolume *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->storage);
    g_free(self->path);
    g_free(self);
}

AgentVolume *
agent_volume_find(const char *id, GError **error)
{
    g_autoptr(AgentVolume) volume = g_new0(AgentVolume, 1);
    g_auto(Storage) storage = {0};
    const char *colon = strchr(id, ':');

    if (colon == NULL || colon == id) {
        g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_STORAGE,
                    "unable to parse volume ID '%s'", id);
        return NULL;
    }
    volume->storage = g_strndup(id, (gsize)(colon - id));
    if (!storage_load(&storage, volume->storage, error) ||
        !storage_check_here(&storage, volume->storage, agent_holds_node(),
                            error)) {
        return NULL;
    }
    volume->shared = storage.shared;
    if (storage.path != NULL) {
        if (!is_volume_name(colon + 1)) {
            g_set_error(
                error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_STORAGE,
                "unable to parse directory volume name '%s'", colon + 1);
            return NULL;
        }
        volume->path = g_strconcat(storage.path, "/images/", colon + 1, NULL);
    }
    return g_steal_pointer(&volume);
}

/* --- peers --- */

/* The other node runs the same program; where it lies elsewhere, the shell's
 * path finds it. */
static char *
remote_command(const char *const *words)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *quoted = g_shell_quote(self != NULL ? self : "/");
    g_autofree char *args = g_strjoinv(" ", (char **)words);

    return g_strdup_printf("if [ -x %s ]; then exec %s %s; else exec "
                           "pve-lxc-agent %s; fi",
                           quoted, quoted, args, args);
}

char **
agent_peer_argv(const char *node, const char *const *words, GError **error)
{
    g_autofree char *address = address_of(node, error);
    GPtrArray *argv;

    if (address == NULL) {
        return NULL;
    }
    argv = g_ptr_array_new();
    g_ptr_array_add(argv, g_strdup("ssh"));
    g_ptr_array_add(argv, g_strdup("-e"));
    g_ptr_array_add(argv, g_strdup("none"));
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, g_strdup("BatchMode=yes"));
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, g_strconcat("HostKeyAlias=", node, NULL));
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, g_strdup("ConnectTimeout=10"));
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, g_strdup("ServerAliveInterval=10"));
    g_ptr_array_add(argv, g_strconcat("root@", address, NULL));
    g_ptr_array_add(argv, remote_command(words));
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

static gboolean
answer_flag(const char *text, const char *key, gboolean *flag)
{
    g_autofree char *yes = g_strconcat(key, ": 1\n", NULL);
    g_autofree char *no = g_strconcat(key, ": 0\n", NULL);

    *flag = strstr(text, yes) != NULL;
    return *flag || strstr(text, no) != NULL;
}

gboolean
agent_peer_query(const char *node,
                 guint32 ctid,
                 AgentAnswer *answer,
                 GError **error)
{
    g_autofree char *id = g_strdup_printf("%u", ctid);
    const char *const words[] = {"query", id, NULL};
    g_auto(GStrv) argv = agent_peer_argv(node, words, error);
    g_autofree char *out = NULL;
    g_autofree char *problem = NULL;
    int status = 0;

    if (argv == NULL ||
        !g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                      &problem, &status, error)) {
        return FALSE;
    }
    if (!g_spawn_check_wait_status(status, NULL) ||
        !answer_flag(out, "running", &answer->running) ||
        !answer_flag(out, "busy", &answer->busy) ||
        !answer_flag(out, "record", &answer->record)) {
        g_strdelimit(g_strstrip(problem), "\r\n", ' ');
        g_set_error(error, AGENT_NODEINFO_ERROR, AGENT_NODEINFO_ERROR_NODE,
                    "node %s does not answer: %s", node,
                    *problem != '\0' ? problem : "no answer");
        return FALSE;
    }
    return TRUE;
}
