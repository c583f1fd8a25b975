#include "config.h"

#include "agent/io/configs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/ctid.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#define NODES_DIR PVE_MOUNT_DIR "/nodes"

enum {
    MAX_CONFIG_BYTES = 1024 * 1024,
    MAX_CLUSTER_BYTES = 32 * 1024 * 1024,
    MAX_RESERVE_TRIES = 1000,
};

G_DEFINE_QUARK(agent - ops - error, agent_ops_error)

gboolean
agent_ops_fail(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                        message);
    return FALSE;
}

char *
agent_configs_path(const char *node, guint32 ctid)
{
    return g_strdup_printf(NODES_DIR "/%s/lxc/%u.conf",
                           node != NULL ? node : agent_holds_node(), ctid);
}

gboolean
agent_configs_check_quorum(GError **error)
{
    if (!agent_holds_quorate()) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_QUORUM,
                    "cluster not ready - no quorum?");
        return FALSE;
    }
    return TRUE;
}

GBytes *
agent_configs_read(guint32 ctid, GError **error)
{
    g_autofree char *path = agent_configs_path(NULL, ctid);
    g_autoptr(GError) local = NULL;
    GBytes *bytes = pve_file_read(path, MAX_CONFIG_BYTES, &local);

    if (bytes == NULL) {
        if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_MISSING,
                        "Configuration file 'nodes/%s/lxc/%u.conf' does not "
                        "exist",
                        agent_holds_node(), ctid);
        } else {
            g_propagate_error(error, g_steal_pointer(&local));
        }
    }
    return bytes;
}

AgentGuestConf *
agent_configs_load(guint32 ctid, GError **error)
{
    g_autoptr(GBytes) bytes = agent_configs_read(ctid, error);
    const char *text;
    gsize size;

    if (bytes == NULL) {
        return NULL;
    }
    text = g_bytes_get_data(bytes, &size);
    return agent_guestconf_parse(ctid, text, size, NULL);
}

/* What writers of the file left that were killed: with the mutex held, nobody
 * is writing it. */
static void
drop_unfinished(guint32 ctid)
{
    g_autofree char *folder =
        g_strdup_printf(NODES_DIR "/%s/lxc", agent_holds_node());
    g_autofree char *prefix = g_strdup_printf("%u.conf.tmp.", ctid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (g_str_has_prefix(name, prefix)) {
            (void)unlink(path);
        }
    }
}

gboolean
agent_configs_store(const AgentGuestConf *conf, GError **error)
{
    g_autofree char *path =
        agent_configs_path(NULL, agent_guestconf_ctid(conf));
    g_autofree char *text = NULL;

    if (!agent_guestconf_is_writable(conf, error)) {
        return FALSE;
    }
    drop_unfinished(agent_guestconf_ctid(conf));
    text = agent_guestconf_serialize(conf);
    return pve_file_replace(path, text, strlen(text), 0640, error);
}

gboolean
agent_configs_remove(guint32 ctid, GError **error)
{
    g_autofree char *path = agent_configs_path(NULL, ctid);

    if (unlink(path) < 0 && errno != ENOENT) {
        return pve_errno_error(error, "remove", path);
    }
    return TRUE;
}

/* --- who has what --- */

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **
agent_configs_nodes(void)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    g_autoptr(GDir) dir = g_dir_open(NODES_DIR, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (pve_name_is_node(name)) {
            g_ptr_array_add(nodes, g_strdup(name));
        }
    }
    g_ptr_array_sort(nodes, by_text);
    g_ptr_array_add(nodes, NULL);
    return (char **)g_ptr_array_steal(nodes, NULL);
}

char *
agent_configs_owner(guint32 ctid)
{
    g_auto(GStrv) nodes = agent_configs_nodes();

    for (char **node = nodes; *node != NULL; node++) {
        g_autofree char *path = agent_configs_path(*node, ctid);

        if (access(path, F_OK) == 0) {
            return g_strdup(*node);
        }
    }
    return NULL;
}

static gint
by_id(gconstpointer a, gconstpointer b)
{
    guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;

    return (x > y) - (x < y);
}

/* Adds the ids of the files in @path whose names end in @suffix. */
static void
list_ids(const char *path, const char *suffix, GArray *ids)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *stem = NULL;
        guint32 ctid;

        if (!g_str_has_suffix(name, suffix)) {
            continue;
        }
        stem = g_strndup(name, strlen(name) - strlen(suffix));
        ctid = pve_ctid_parse(stem);
        if (ctid != 0) {
            g_array_append_val(ids, ctid);
        }
    }
    g_array_sort(ids, by_id);
}

GArray *
agent_configs_list(const char *node)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autofree char *path = g_strdup_printf(NODES_DIR "/%s/lxc", node);

    list_ids(path, ".conf", ids);
    return ids;
}

/* Every id that has a file or a hold record on any node. */
static void
collect_taken(GHashTable *taken)
{
    static const struct {
        const char *folder, *suffix;
    } places[] = {
        {"lxc", ".conf"},
        {"qemu-server", ".conf"},
        {"openvz", ".conf"},
        {"lxc-holds", ""},
    };
    g_auto(GStrv) nodes = agent_configs_nodes();

    for (char **node = nodes; *node != NULL; node++) {
        for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
            g_autofree char *path =
                g_strdup_printf(NODES_DIR "/%s/%s", *node, places[i].folder);
            g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint32));

            list_ids(path, places[i].suffix, ids);
            for (guint j = 0; j < ids->len; j++) {
                agent_ctid_set_add(taken, g_array_index(ids, guint32, j));
            }
        }
    }
}

/* --- a new file --- */

/* errno: EEXIST when the id is taken. */
static gboolean
create_file(guint32 ctid, const char *path)
{
    static const char text[] = "lock: create\n";
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0) {
        return FALSE;
    }
    if (!pve_write_all(fd, text, strlen(text))) {
        int saved = errno;

        (void)unlink(path);
        errno = saved;
        return FALSE;
    }
    return TRUE;
}

static gboolean
reserve_given(guint32 ctid, GError **error)
{
    g_autofree char *path = agent_configs_path(NULL, ctid);
    g_autofree char *owner = agent_configs_owner(ctid);

    if (owner == NULL) {
        if (create_file(ctid, path)) {
            return TRUE;
        }
        if (errno != EEXIST) {
            return pve_errno_error(error, "create", path);
        }
        owner = agent_configs_owner(ctid);
    }
    if (owner != NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_EXISTS,
                    "CT %u already exists on node '%s'", ctid, owner);
    } else {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_EXISTS,
                    "the id %u is in use by another guest, or was until a "
                    "moment ago",
                    ctid);
    }
    return FALSE;
}

/* Returns: (owned) a file of the cluster's, empty when it is not there. */
static GBytes *
cluster_file(const char *name)
{
    g_autofree char *path = g_build_filename(PVE_MOUNT_DIR, name, NULL);
    g_autoptr(GBytes) bytes = pve_file_read(path, MAX_CLUSTER_BYTES, NULL);

    /* An empty one has no data to point at. */
    return bytes != NULL && g_bytes_get_size(bytes) > 0
               ? g_steal_pointer(&bytes)
               : g_bytes_new_static("", 0);
}

static const char *
text_of(GBytes *bytes, gsize *size)
{
    const char *text = g_bytes_get_data(bytes, size);

    return text != NULL ? text : "";
}

static gboolean
reserve_next(guint32 *ctid, GError **error)
{
    g_autoptr(GHashTable) taken = agent_ctid_set_new();
    g_autoptr(GBytes) datacenter = cluster_file("datacenter.cfg");
    gsize size;
    const char *text = text_of(datacenter, &size);
    guint32 lower, upper;

    agent_ctid_range(text, size, &lower, &upper);
    collect_taken(taken);
    for (guint i = 0; i < MAX_RESERVE_TRIES; i++) {
        guint32 next = agent_ctid_next(taken, lower, upper);
        g_autofree char *path = NULL;

        if (next == 0) {
            break;
        }
        path = agent_configs_path(NULL, next);
        if (create_file(next, path)) {
            *ctid = next;
            return TRUE;
        }
        if (errno != EEXIST) {
            return pve_errno_error(error, "create", path);
        }
        agent_ctid_set_add(taken, next);
    }
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_EXISTS,
                "unable to get any free VMID in range [%u, %u]", lower, upper);
    return FALSE;
}

gboolean
agent_configs_reserve(guint32 *ctid, GError **error)
{
    return *ctid != 0 ? reserve_given(*ctid, error) : reserve_next(ctid, error);
}

/* --- checks --- */

AgentStorageCfg *
agent_configs_storages(void)
{
    g_autoptr(GBytes) bytes = cluster_file("storage.cfg");
    gsize size;
    const char *text = text_of(bytes, &size);

    return agent_storagecfg_parse(text, size, NULL);
}

void
agent_configs_datacenter(AgentDatacenter *datacenter)
{
    g_autoptr(GBytes) bytes = cluster_file("datacenter.cfg");
    gsize size;
    const char *text = text_of(bytes, &size);

    agent_datacenter_parse(datacenter, text, size);
}

gboolean
agent_configs_check_lock(const AgentGuestConf *conf,
                         const char *except,
                         GError **error)
{
    const char *lock = agent_guestconf_lock(conf);

    if (lock != NULL && g_strcmp0(lock, except) != 0) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_LOCKED,
                    "CT is locked (%s)", lock);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_configs_check_broken(const AgentGuestConf *conf, GError **error)
{
    const char *reason = NULL;

    if (agent_guestconf_is_broken(conf, &reason)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_BROKEN,
                    "the configuration of CT %u cannot be used: %s",
                    agent_guestconf_ctid(conf), reason);
        return FALSE;
    }
    return TRUE;
}
