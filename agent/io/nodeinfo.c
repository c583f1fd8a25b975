#include "config.h"

#include "agent/io/nodeinfo.h"

#include "agent/core/observe.h"
#include "agent/core/storagecfg.h"
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

/* --- volumes --- */

static AgentStorageCfg *
load_storages(GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/storage.cfg", MAX_FILE_BYTES, &local);

    if (bytes != NULL) {
        return agent_storagecfg_parse(g_bytes_get_data(bytes, NULL),
                                      g_bytes_get_size(bytes), NULL);
    }
    if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        return agent_storagecfg_parse("", 0, NULL);
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

void
agent_place_free(AgentPlace *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->path);
    g_free(self);
}

AgentPlace *
agent_place_find(const char *id, GError **error)
{
    g_autoptr(AgentStorageCfg) storages = load_storages(error);
    g_autoptr(AgentVolume) volume = NULL;
    g_autoptr(AgentPlace) place = NULL;
    g_autofree char *name = g_strndup(id, strcspn(id, ":"));
    const AgentStorage *storage;

    if (storages == NULL) {
        return NULL;
    }
    storage = agent_storagecfg_use(storages, name, agent_holds_node(),
                                   "rootdir", error);
    if (storage == NULL) {
        return NULL;
    }
    place = g_new0(AgentPlace, 1);
    place->shared = storage->is_shared;
    if (storage->path != NULL) {
        volume = agent_volume_parse(id, error);
        if (volume == NULL) {
            return NULL;
        }
        place->owner = volume->owner;
        place->path = g_strconcat(storage->path, "/", volume->relative, NULL);
    }
    return g_steal_pointer(&place);
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
    g_ptr_array_add(argv, g_strdup("--"));
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
