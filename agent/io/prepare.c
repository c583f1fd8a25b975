#include "config.h"

#include "agent/io/prepare.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/core/guestopts.h"
#include "agent/core/lxcconf.h"
#include "agent/io/apply.h"
#include "agent/io/cgroups.h"
#include "agent/io/configs.h"
#include "agent/io/container.h"
#include "agent/io/holds.h"
#include "agent/io/hookscript.h"
#include "agent/io/netplug.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/paths.h"

#define INCLUDE_DIR "/usr/share/lxc/config"

enum { MAX_SECCOMP_BYTES = 1024 * 1024 };

char *
agent_prepare_log_path(guint32 ctid)
{
    return g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.log", ctid);
}

char *
agent_prepare_reason_path(guint32 ctid)
{
    return g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.warnings", ctid);
}

/* --- the file --- */

char *
agent_prepare_mac(void)
{
    g_auto(AgentDatacenter) datacenter = {0};

    agent_configs_datacenter(&datacenter);
    return agent_datacenter_mac(&datacenter,
                                (guint64)g_random_int() << 32 | g_random_int());
}

gboolean
agent_prepare_macs(AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) nets = agent_guestconf_nets(conf, NULL);
    gboolean changed = FALSE;

    for (guint i = 0; nets != NULL && i < nets->len; i++) {
        AgentNet *net = nets->pdata[i];

        if (net->hwaddr == NULL) {
            g_autofree char *text = NULL;

            net->hwaddr = agent_prepare_mac();
            text = agent_net_format(net);
            agent_guestconf_set(conf, net->key, text);
            changed = TRUE;
        }
    }
    return changed;
}

static gboolean
check_startable(const AgentGuestConf *conf, GError **error)
{
    if (!agent_configs_check_broken(conf, error)) {
        return FALSE;
    }
    if (agent_guestconf_is_template(conf)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "you can't start a CT if it's a template");
        return FALSE;
    }
    return agent_configs_check_lock(conf, "mounted", error);
}

/* Loads the file; writes it when pending changes or missing addresses belong
 * in it. */
static AgentGuestConf *
load_applied(guint32 ctid, GError **error)
{
    g_autoptr(AgentGuestConf) conf = agent_configs_load(ctid, error);

    if (conf == NULL || !check_startable(conf, error) ||
        !agent_apply_pending(conf, error)) {
        return NULL;
    }
    if (agent_prepare_macs(conf) && !agent_configs_store(conf, error)) {
        return NULL;
    }
    return g_steal_pointer(&conf);
}

/* --- the low-level configuration --- */

static char **
list_includes(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(GDir) dir = g_dir_open(INCLUDE_DIR, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

static GHashTable *
find_bridges(const AgentGuestConf *conf)
{
    GHashTable *mtus =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) nets = agent_guestconf_nets(conf, NULL);

    for (guint i = 0; nets != NULL && i < nets->len; i++) {
        const AgentNet *net = nets->pdata[i];
        AgentLink link;

        if (net->bridge != NULL && agent_link_find(net->bridge, &link, NULL)) {
            g_hash_table_insert(mtus, g_strdup(net->bridge),
                                GUINT_TO_POINTER(link.mtu));
        }
    }
    return mtus;
}

static AgentNode *
look_at_node(const char *path)
{
    AgentNode *node = g_new0(AgentNode, 1);
    struct stat st;

    if (stat(path, &st) < 0) {
        node->problem = errno;
        return node;
    }
    node->type = S_ISBLK(st.st_mode) ? 'b' : S_ISCHR(st.st_mode) ? 'c' : 0;
    node->major = major(st.st_rdev);
    node->minor = minor(st.st_rdev);
    return node;
}

static GHashTable *
find_nodes(const AgentGuestConf *conf)
{
    GHashTable *nodes =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GPtrArray) devices = agent_guestconf_devices(conf, NULL);

    for (guint i = 0; devices != NULL && i < devices->len; i++) {
        const AgentDevice *device = devices->pdata[i];

        if (device->path != NULL) {
            g_hash_table_replace(nodes, g_strdup(device->path),
                                 look_at_node(device->path));
        }
    }
    return nodes;
}

/* Is somebody at the socket of the mknod proxy? Returns: its path, or NULL. */
static const char *
find_mknod_proxy(void)
{
    static const char *const paths[] = {"/run/pve-lxc-syscalld/socket",
                                        "/run/pve/lxc-syscalld.sock", NULL};

    for (guint i = 0; paths[i] != NULL; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        PVE_AUTOFD(fd) = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        (void)g_strlcpy(address.sun_path, paths[i], sizeof(address.sun_path));
        if (fd >= 0 && !g_file_test(paths[i], G_FILE_TEST_IS_SYMLINK) &&
            connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
            return paths[i];
        }
    }
    return NULL;
}

static char *
generate(const AgentGuestConf *conf, const char *mknod_proxy, GError **error)
{
    g_auto(GStrv) includes = list_includes();
    g_autoptr(GHashTable) bridges = find_bridges(conf);
    g_autoptr(GHashTable) nodes = find_nodes(conf);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *cpus =
        agent_cgroups_pick_cpus(agent_guestconf_get_uint(conf, "cores", 0));
    AgentLxcFacts facts = {
        .memory = agent_cgroups_version("memory"),
        .cpu = agent_cgroups_version("cpu"),
        .cpuset = agent_cgroups_version("cpuset"),
        .has_memsw = agent_cgroups_has_memsw(),
        .includes = (const char *const *)includes,
        .bridge_mtus = bridges,
        .nodes = nodes,
        .cpus = cpus,
        .script_up = PVE_LIBEXECDIR "/lxcnetaddbr",
        .mknod_proxy = mknod_proxy,
        .knows_key = agent_container_knows_key,
    };
    char *text = agent_lxcconf_generate(conf, &facts, warnings, error);

    for (guint i = 0; i < warnings->len; i++) {
        g_printerr("WARN: %s\n", (const char *)warnings->pdata[i]);
    }
    return text;
}

static gboolean
write_seccomp(const AgentGuestConf *conf,
              const char *directory,
              gboolean has_proxy,
              GError **error)
{
    g_autoptr(GBytes) common =
        pve_file_read(INCLUDE_DIR "/common.seccomp", MAX_SECCOMP_BYTES, error);
    g_autofree char *path = g_build_filename(directory, "rules.seccomp", NULL);
    g_autofree char *text = NULL;

    if (common == NULL) {
        return FALSE;
    }
    text =
        agent_lxcconf_seccomp(conf, g_bytes_get_data(common, NULL), has_proxy);
    return text == NULL ||
           pve_file_replace(path, text, strlen(text), 0644, error);
}

/* Containers' users walk through these directories. */
static gboolean
make_directory(const char *path, GError **error)
{
    if (!pve_mkdir_parents(PVE_LXC_DIR, 0755, error) ||
        !pve_mkdir_parents(path, 0755, error)) {
        return FALSE;
    }
    if (chmod(PVE_LXC_DIR, 0755) < 0 || chmod(path, 0755) < 0) {
        return pve_errno_error(error, "change mode of", path);
    }
    return TRUE;
}

static gboolean
write_config(const AgentGuestConf *conf, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);
    g_autofree char *directory = g_strdup_printf(PVE_LXC_DIR "/%u", ctid);
    g_autofree char *path = g_build_filename(directory, "config", NULL);
    g_autofree char *draft = g_build_filename(directory, "config.new", NULL);
    const char *mknod_proxy = find_mknod_proxy();
    g_autofree char *text = generate(conf, mknod_proxy, error);
    gboolean fine;

    if (text == NULL || !make_directory(directory, error) ||
        !pve_mkdir_parents(PVE_CT_RUN_DIR, 0755, error) ||
        !write_seccomp(conf, directory, mknod_proxy != NULL, error)) {
        return FALSE;
    }
    fine = pve_file_replace(draft, text, strlen(text), 0644, error) &&
           agent_container_check(ctid, draft, error);
    if (fine && rename(draft, path) < 0) {
        fine = pve_errno_error(error, "replace", path);
    }
    (void)unlink(draft);
    return fine;
}

gboolean
agent_prepare_clean(guint32 ctid, GError **error)
{
    g_autofree char *stage =
        g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.mounts", ctid);

    /* Where mounts were staged; the supervisor's own namespace still has it. */
    (void)rmdir(stage);
    agent_netplug_clean(ctid);
    return agent_cgroups_clean(ctid, error);
}

gboolean
agent_prepare_check_claim(gint64 claimed_us, GError **error)
{
    if (g_get_monotonic_time() - claimed_us >
        AGENT_HOLDS_CLAIM_VALID_S * G_USEC_PER_SEC) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "the claim on the container is more than %d s old, try "
                    "again",
                    AGENT_HOLDS_CLAIM_VALID_S);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_prepare_start(guint32 ctid,
                    gboolean is_reboot,
                    gint64 *claimed_us,
                    GError **error)
{
    g_autoptr(AgentGuestConf) conf = NULL;

    if (!agent_configs_check_quorum(error)) {
        return FALSE;
    }
    conf = load_applied(ctid, error);
    if (conf == NULL || !agent_prepare_clean(ctid, error) ||
        !write_config(conf, error) ||
        !(is_reboot || agent_hookscript_run(conf, "pre-start", error)) ||
        !agent_holds_claim(ctid, error)) {
        return FALSE;
    }
    *claimed_us = g_get_monotonic_time();
    return TRUE;
}
