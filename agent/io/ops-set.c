/* The operation of ops.h that changes options. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/apply.h"
#include "agent/io/cgroups.h"
#include "agent/io/configs.h"
#include "agent/io/lockfile.h"
#include "agent/io/netplug.h"
#include "agent/io/ops.h"
#include "agent/io/prepare.h"
#include "agent/io/volumes.h"

#define ZONEINFO "/usr/share/zoneinfo"

/* What the checks of one change need of the host. */
typedef struct {
    AgentGuestChange *change;
    AgentStorageCfg *cfg;
    guint32 ctid;
} Setting;

static gboolean fail(GError **error, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static gboolean
fail(GError **error, const char *format, ...)
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

/* --- values, seen from this host --- */

static gboolean
check_mount(Setting *self, const char *key, const char *value, GError **error)
{
    g_autoptr(AgentMount) mount = agent_mount_parse(key, value, error);
    g_autofree char *path = NULL;
    g_autoptr(AgentVolume) volume = NULL;
    struct stat st;

    if (mount == NULL) {
        return FALSE;
    }
    switch (mount->kind) {
    case AGENT_MOUNT_REQUEST:
        return agent_volumes_check_request(self->cfg, mount->volume, error);
    case AGENT_MOUNT_BIND:
        return (stat(mount->volume, &st) == 0 && S_ISDIR(st.st_mode)) ||
               fail(error, "directory '%s' does not exist", mount->volume);
    case AGENT_MOUNT_DEVICE:
        return (stat(mount->volume, &st) == 0 && S_ISBLK(st.st_mode)) ||
               fail(error, "'%s' is not a block device", mount->volume);
    case AGENT_MOUNT_VOLUME:
        break;
    }
    path = agent_volumes_path(self->cfg, mount->volume, error);
    volume = path != NULL ? agent_volume_parse(mount->volume, error) : NULL;
    return volume != NULL &&
           (volume->owner == 0 || volume->owner == self->ctid ||
            fail(error, "volume '%s' belongs to CT %u", mount->volume,
                 volume->owner));
}

static gboolean
check_mtu(const AgentNet *net, GError **error)
{
    AgentLink bridge;

    if (net->mtu == 0 || net->bridge == NULL) {
        return TRUE;
    }
    if (!agent_link_find(net->bridge, &bridge, NULL)) {
        return fail(error, "bridge '%s' does not exist", net->bridge);
    }
    return net->mtu <= bridge.mtu ||
           fail(error, "%s: MTU size '%u' is bigger than bridge MTU '%u'",
                net->key, net->mtu, bridge.mtu);
}

/* Stored with its address and type, always. */
static gboolean
settle_net(Setting *self, const char *key, const char *value, GError **error)
{
    g_autoptr(AgentNet) net = agent_net_parse(key, value, error);
    g_autofree char *text = NULL;

    if (net == NULL || !check_mtu(net, error)) {
        return FALSE;
    }
    if (net->hwaddr == NULL) {
        net->hwaddr = agent_prepare_mac();
    }
    text = agent_net_format(net);
    agent_guestchange_set(self->change, key, text);
    return TRUE;
}

static gboolean
check_device(const char *value, GError **error)
{
    g_autoptr(GHashTable) props =
        agent_props_parse(agent_dev_schema, value, error);
    const char *path =
        props != NULL ? g_hash_table_lookup(props, "path") : NULL;
    struct stat st;

    if (path == NULL) {
        return FALSE;
    }
    if (stat(path, &st) < 0) {
        return errno == ENOENT ? fail(error, "Device %s does not exist", path)
                               : fail(error, "Error accessing device %s", path);
    }
    return S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ||
           fail(error, "%s is not a device", path);
}

static gboolean
check_hookscript(Setting *self, const char *value, GError **error)
{
    g_autoptr(AgentVolume) volume = agent_volume_parse(value, error);
    g_autoptr(GError) missing = NULL;
    g_autofree char *path = NULL;

    if (volume == NULL) {
        return FALSE;
    }
    if (volume->kind != AGENT_VOLUME_SNIPPET) {
        return fail(error, "'%s' is not in the snippets directory", value);
    }
    path = agent_volumes_path(self->cfg, value, &missing);
    if (path == NULL) {
        return fail(error, "script '%s' does not exist", value);
    }
    return access(path, X_OK) == 0 ||
           fail(error, "script '%s' is not executable", value);
}

static gboolean
check_timezone(const char *value, GError **error)
{
    g_autofree char *path = g_build_filename(ZONEINFO, value, NULL);

    return strcmp(value, "host") == 0 || strcmp(value, "UTC") == 0 ||
           !g_file_test(ZONEINFO, G_FILE_TEST_IS_DIR) ||
           g_file_test(path, G_FILE_TEST_IS_REGULAR) ||
           fail(error, "timezone: invalid format - invalid time zone '%s'",
                value);
}

static gboolean
settle_tags(Setting *self, const char *value)
{
    g_auto(AgentDatacenter) style = {0};
    g_autofree char *tags = NULL;

    agent_configs_datacenter(&style);
    tags =
        agent_guestopt_tags(value, style.tags_keep_case, style.tags_keep_order);
    agent_guestchange_set(self->change, "tags", tags);
    return TRUE;
}

static gboolean
settle_cpuunits(Setting *self, const char *value)
{
    g_autofree char *text =
        g_strdup_printf("%" G_GUINT64_FORMAT,
                        agent_limits_cpuunits(g_ascii_strtoull(value, NULL, 10),
                                              agent_cgroups_version("cpu")));

    agent_guestchange_set(self->change, "cpuunits", text);
    return TRUE;
}

static gboolean
settle(Setting *self, const char *key, const char *value, GError **error)
{
    if (strcmp(key, "rootfs") == 0 ||
        agent_guestopt_index(key, "mp", 256) >= 0) {
        return check_mount(self, key, value, error);
    }
    if (agent_guestopt_index(key, "net", 32) >= 0) {
        return settle_net(self, key, value, error);
    }
    if (agent_guestopt_index(key, "dev", 256) >= 0) {
        return check_device(value, error);
    }
    if (strcmp(key, "hookscript") == 0) {
        return check_hookscript(self, value, error);
    }
    if (strcmp(key, "timezone") == 0) {
        return check_timezone(value, error);
    }
    if (strcmp(key, "tags") == 0) {
        return settle_tags(self, value);
    }
    return strcmp(key, "cpuunits") != 0 || settle_cpuunits(self, value);
}

static gboolean
settle_all(AgentGuestChange *change, guint32 ctid, GError **error)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) keys = agent_guestchange_keys(change);
    Setting self = {.change = change, .cfg = cfg, .ctid = ctid};

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *value = g_strdup(agent_guestchange_get(change, *key));

        if (!settle(&self, *key, value, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* --- the file --- */

static gboolean
check_digest(GBytes *bytes, const char *digest, GError **error)
{
    g_autofree char *now = g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, bytes);

    return digest == NULL || *digest == '\0' || strcmp(digest, now) == 0 ||
           fail(error, "detected modified configuration - file changed by "
                       "other user? Try again.");
}

static gboolean
run_steps(AgentApply *apply,
          const GPtrArray *steps,
          gboolean is_running,
          GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);

    for (guint i = 0; i < steps->len; i++) {
        const AgentGuestStep *step = steps->pdata[i];
        g_autoptr(GError) local = NULL;

        if (agent_apply_step(apply, step, &local)) {
            continue;
        }
        g_string_append_printf(
            problems,
            is_running ? "%s%s: unable to hotplug %s: %s"
                       : "%s%s: unable to apply pending change %s : %s",
            problems->len > 0 ? "\n" : "", step->key, step->key,
            local->message);
    }
    return problems->len == 0 || fail(error, "%s", problems->str);
}

gboolean
agent_ops_set(guint32 ctid,
              AgentGuestChange *change,
              const char *digest,
              GPtrArray *warnings,
              GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(AgentApply) apply = NULL;
    gboolean is_running;

    if (lock == NULL || !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    bytes = agent_configs_read(ctid, error);
    if (bytes == NULL) {
        return FALSE;
    }
    conf = agent_guestconf_parse(ctid, g_bytes_get_data(bytes, NULL),
                                 g_bytes_get_size(bytes), NULL);
    is_running = agent_ops_is_running(ctid);
    apply = agent_apply_new(conf, is_running);
    if (!agent_configs_check_lock(conf, NULL, error) ||
        !check_digest(bytes, digest, error) ||
        !agent_guestchange_check(change, error) ||
        !settle_all(change, ctid, error) ||
        !agent_guestchange_queue(change, conf, warnings, error)) {
        return FALSE;
    }
    steps = agent_guestchange_steps(change, conf, is_running);
    return run_steps(apply, steps, is_running, error) &&
           agent_apply_store(apply, error);
}
