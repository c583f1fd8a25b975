#include "config.h"

#include "agent/io/settle.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/io/cgroups.h"
#include "agent/io/configs.h"
#include "agent/io/hookscript.h"
#include "agent/io/netplug.h"
#include "agent/io/ops.h"
#include "agent/io/prepare.h"
#include "agent/io/volumes.h"

#define ZONEINFO "/usr/share/zoneinfo"

/* What the checks of one value need. */
typedef struct {
    const AgentStorageCfg *cfg;
    guint32 ctid;
} Setting;

static gboolean
check_mount(const Setting *self,
            const char *key,
            const char *value,
            GError **error)
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
               agent_ops_fail(error, "directory '%s' does not exist",
                              mount->volume);
    case AGENT_MOUNT_DEVICE:
        return (stat(mount->volume, &st) == 0 && S_ISBLK(st.st_mode)) ||
               agent_ops_fail(error, "'%s' is not a block device",
                              mount->volume);
    case AGENT_MOUNT_VOLUME:
        break;
    }
    path = agent_volumes_path(self->cfg, mount->volume, error);
    volume = path != NULL ? agent_volume_parse(mount->volume, error) : NULL;
    return volume != NULL &&
           (volume->owner == 0 || volume->owner == self->ctid ||
            agent_ops_fail(error, "volume '%s' belongs to CT %u", mount->volume,
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
        return agent_ops_fail(error, "bridge '%s' does not exist", net->bridge);
    }
    return net->mtu <= bridge.mtu ||
           agent_ops_fail(error,
                          "%s: MTU size '%u' is bigger than bridge MTU '%u'",
                          net->key, net->mtu, bridge.mtu);
}

/* Stored with its address and type, always. */
static char *
settle_net(const char *key, const char *value, GError **error)
{
    g_autoptr(AgentNet) net = agent_net_parse(key, value, error);

    if (net == NULL || !check_mtu(net, error)) {
        return NULL;
    }
    if (net->hwaddr == NULL) {
        net->hwaddr = agent_prepare_mac();
    }
    return agent_net_format(net);
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
        return errno == ENOENT
                   ? agent_ops_fail(error, "Device %s does not exist", path)
                   : agent_ops_fail(error, "Error accessing device %s", path);
    }
    return S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ||
           agent_ops_fail(error, "%s is not a device", path);
}

static gboolean
check_hookscript(const Setting *self, const char *value, GError **error)
{
    g_autofree char *path = agent_hookscript_path(self->cfg, value, error);

    return path != NULL;
}

static gboolean
check_timezone(const char *value, GError **error)
{
    g_autofree char *path = g_build_filename(ZONEINFO, value, NULL);

    return strcmp(value, "host") == 0 || strcmp(value, "UTC") == 0 ||
           !g_file_test(ZONEINFO, G_FILE_TEST_IS_DIR) ||
           g_file_test(path, G_FILE_TEST_IS_REGULAR) ||
           agent_ops_fail(error,
                          "timezone: invalid format - invalid time zone '%s'",
                          value);
}

static char *
settle_tags(const char *value)
{
    g_auto(AgentDatacenter) style = {0};

    agent_configs_datacenter(&style);
    return agent_guestopt_tags(value, style.tags_keep_case,
                               style.tags_keep_order);
}

static char *
settle_cpuunits(const char *value)
{
    return g_strdup_printf(
        "%" G_GUINT64_FORMAT,
        agent_limits_cpuunits(g_ascii_strtoull(value, NULL, 10),
                              agent_cgroups_version("cpu")));
}

static gboolean
check(const Setting *self, const char *key, const char *value, GError **error)
{
    if (strcmp(key, "rootfs") == 0 ||
        agent_guestopt_index(key, "mp", 256) >= 0) {
        return check_mount(self, key, value, error);
    }
    if (agent_guestopt_index(key, "dev", 256) >= 0) {
        return check_device(value, error);
    }
    if (strcmp(key, "hookscript") == 0) {
        return check_hookscript(self, value, error);
    }
    return strcmp(key, "timezone") != 0 || check_timezone(value, error);
}

char *
agent_settle(const AgentStorageCfg *cfg,
             guint32 ctid,
             const char *key,
             const char *value,
             GError **error)
{
    const Setting self = {.cfg = cfg, .ctid = ctid};

    if (agent_guestopt_index(key, "net", 32) >= 0) {
        return settle_net(key, value, error);
    }
    if (strcmp(key, "tags") == 0) {
        return settle_tags(value);
    }
    if (strcmp(key, "cpuunits") == 0) {
        return settle_cpuunits(value);
    }
    return check(&self, key, value, error) ? g_strdup(value) : NULL;
}
