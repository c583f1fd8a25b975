/* The mount points and interfaces of a configuration: the parts of guestconf.h
 * that are property strings. */
#include "config.h"

#include "agent/core/formats.h"
#include "agent/core/guestconf.h"
#include "agent/core/guestopts.h"

#include <string.h>

enum { MAX_MOUNTS = 256, MAX_NETS = 32, MAX_DEVICES = 256 };
enum { DEFAULT_DEVICE_MODE = 0660 };

void
agent_mount_free(AgentMount *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->key);
    g_free(self->volume);
    g_free(self->mp);
    g_free(self->mountoptions);
    g_free(self->idmap);
    g_free(self);
}

void
agent_net_free(AgentNet *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->key);
    g_free(self->name);
    g_free(self->bridge);
    g_free(self->hwaddr);
    g_free(self->ip);
    g_free(self->ip6);
    g_free(self->gw);
    g_free(self->gw6);
    g_free(self->trunks);
    g_free(self->rate);
    g_free(self);
}

static char *
text_of(GHashTable *props, const char *name)
{
    return g_strdup(g_hash_table_lookup(props, name));
}

static gboolean
flag_of(GHashTable *props, const char *name, gboolean fallback)
{
    const char *value = g_hash_table_lookup(props, name);

    return value != NULL ? agent_value_boolean(value) == 1 : fallback;
}

static guint
number_of(GHashTable *props, const char *name)
{
    const char *value = g_hash_table_lookup(props, name);

    return value != NULL ? (guint)g_ascii_strtoull(value, NULL, 10) : 0;
}

static gboolean
kind_of(const char *volume, AgentMountKind *kind, GError **error)
{
    g_autofree char *message = NULL;

    if (g_str_has_prefix(volume, "/dev/")) {
        *kind = AGENT_MOUNT_DEVICE;
    } else if (*volume == '/') {
        *kind = AGENT_MOUNT_BIND;
    } else if (agent_volume_is_request(volume)) {
        *kind = AGENT_MOUNT_REQUEST;
    } else if ((message = agent_format_volume_id(volume)) == NULL) {
        *kind = AGENT_MOUNT_VOLUME;
    } else {
        g_set_error_literal(error, AGENT_GUESTCONF_ERROR,
                            AGENT_GUESTCONF_ERROR_VALUE, message);
        return FALSE;
    }
    return TRUE;
}

AgentMount *
agent_mount_parse(const char *key, const char *value, GError **error)
{
    gboolean is_root = strcmp(key, "rootfs") == 0;
    g_autoptr(GHashTable) props = agent_props_parse(
        is_root ? agent_rootfs_schema : agent_mp_schema, value, error);
    g_autoptr(AgentMount) self = g_new0(AgentMount, 1);
    const char *size, *acl;

    if (props == NULL) {
        return NULL;
    }
    self->key = g_strdup(key);
    self->volume = text_of(props, "volume");
    self->mp = is_root ? g_strdup("/") : text_of(props, "mp");
    self->mountoptions = text_of(props, "mountoptions");
    self->idmap = text_of(props, "idmap");
    self->ro = flag_of(props, "ro", FALSE);
    self->backup = flag_of(props, "backup", is_root);
    self->keepattrs = flag_of(props, "keepattrs", FALSE);
    self->quota = flag_of(props, "quota", FALSE);
    self->replicate = flag_of(props, "replicate", TRUE);
    self->shared = flag_of(props, "shared", FALSE);
    acl = g_hash_table_lookup(props, "acl");
    self->acl = acl != NULL ? agent_value_boolean(acl) : -1;
    size = g_hash_table_lookup(props, "size");
    if (size == NULL || !agent_size_parse(size, &self->size_bytes)) {
        self->size_bytes = -1;
    }
    if (!kind_of(self->volume, &self->kind, error)) {
        return NULL;
    }
    return g_steal_pointer(&self);
}

AgentNet *
agent_net_parse(const char *key, const char *value, GError **error)
{
    g_autoptr(GHashTable) props =
        agent_props_parse(agent_net_schema, value, error);
    g_autoptr(AgentNet) self = g_new0(AgentNet, 1);

    if (props == NULL) {
        return NULL;
    }
    self->key = g_strdup(key);
    self->index = (guint)MAX(0, agent_guestopt_index(key, "net", MAX_NETS));
    self->name = text_of(props, "name");
    self->bridge = text_of(props, "bridge");
    self->hwaddr = text_of(props, "hwaddr");
    self->ip = text_of(props, "ip");
    self->ip6 = text_of(props, "ip6");
    self->gw = text_of(props, "gw");
    self->gw6 = text_of(props, "gw6");
    self->trunks = text_of(props, "trunks");
    self->rate = text_of(props, "rate");
    self->mtu = number_of(props, "mtu");
    self->tag = number_of(props, "tag");
    self->firewall = flag_of(props, "firewall", FALSE);
    self->host_managed = flag_of(props, "host-managed", FALSE);
    self->link_down = flag_of(props, "link_down", FALSE);
    return g_steal_pointer(&self);
}

static GHashTable *
props_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

static void
put(GHashTable *props, const char *name, const char *value)
{
    if (value != NULL) {
        g_hash_table_insert(props, g_strdup(name), g_strdup(value));
    }
}

static void
put_flag(GHashTable *props, const char *name, gboolean value, gboolean fallback)
{
    if (value != fallback) {
        put(props, name, value ? "1" : "0");
    }
}

static void
put_number(GHashTable *props, const char *name, guint value)
{
    g_autofree char *text = g_strdup_printf("%u", value);

    if (value != 0) {
        put(props, name, text);
    }
}

char *
agent_mount_format(const AgentMount *self)
{
    gboolean is_root = strcmp(self->key, "rootfs") == 0;
    g_autoptr(GHashTable) props = props_new();

    put(props, "volume", self->volume);
    if (!is_root) {
        put(props, "mp", self->mp);
        put_flag(props, "backup", self->backup, FALSE);
        put_flag(props, "keepattrs", self->keepattrs, FALSE);
    }
    put(props, "mountoptions", self->mountoptions);
    put(props, "idmap", self->idmap);
    put_flag(props, "ro", self->ro, FALSE);
    put_flag(props, "quota", self->quota, FALSE);
    put_flag(props, "replicate", self->replicate, TRUE);
    put_flag(props, "shared", self->shared, FALSE);
    if (self->acl >= 0) {
        put(props, "acl", self->acl ? "1" : "0");
    }
    if (self->size_bytes >= 0) {
        g_autofree char *size = agent_size_format(self->size_bytes);

        put(props, "size", size);
    }
    return agent_props_format(is_root ? agent_rootfs_schema : agent_mp_schema,
                              props);
}

char *
agent_net_format(const AgentNet *self)
{
    g_autoptr(GHashTable) props = props_new();

    put(props, "name", self->name);
    put(props, "bridge", self->bridge);
    put(props, "hwaddr", self->hwaddr);
    put(props, "ip", self->ip);
    put(props, "ip6", self->ip6);
    put(props, "gw", self->gw);
    put(props, "gw6", self->gw6);
    put(props, "trunks", self->trunks);
    put(props, "rate", self->rate);
    put(props, "type", "veth");
    put_number(props, "mtu", self->mtu);
    put_number(props, "tag", self->tag);
    put_flag(props, "firewall", self->firewall, FALSE);
    put_flag(props, "host-managed", self->host_managed, FALSE);
    put_flag(props, "link_down", self->link_down, FALSE);
    return agent_props_format(agent_net_schema, props);
}

void
agent_device_free(AgentDevice *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->key);
    g_free(self->path);
    g_free(self);
}

static AgentDevice *
device_parse(const char *key, const char *value, GError **error)
{
    g_autoptr(GHashTable) props =
        agent_props_parse(agent_dev_schema, value, error);
    AgentDevice *self;
    const char *mode;

    if (props == NULL) {
        return NULL;
    }
    self = g_new0(AgentDevice, 1);
    self->key = g_strdup(key);
    self->path = text_of(props, "path");
    self->deny_write = flag_of(props, "deny-write", FALSE);
    self->uid = number_of(props, "uid");
    self->gid = number_of(props, "gid");
    mode = g_hash_table_lookup(props, "mode");
    self->mode = mode != NULL ? (guint)g_ascii_strtoull(mode, NULL, 8)
                              : DEFAULT_DEVICE_MODE;
    return self;
}

/* --- all of a kind --- */

typedef gpointer (*ParseFunc)(const char *key,
                              const char *value,
                              GError **error);

/* Adds what @parse makes of @key, if it is set. */
static gboolean
add_parsed(GPtrArray *list,
           const AgentGuestConf *conf,
           const char *key,
           ParseFunc parse,
           GError **error)
{
    const char *value = agent_guestconf_get(conf, key);
    gpointer item = value != NULL ? parse(key, value, error) : NULL;

    if (item != NULL) {
        g_ptr_array_add(list, item);
    } else if (value != NULL) {
        g_prefix_error(error, "%s: ", key);
    }
    return value == NULL || item != NULL;
}

/* PREFIX0 to PREFIX(count-1), those that are set. */
static gboolean
add_numbered(GPtrArray *list,
             const AgentGuestConf *conf,
             const char *prefix,
             guint count,
             ParseFunc parse,
             GError **error)
{
    for (guint i = 0; i < count; i++) {
        g_autofree char *key = g_strdup_printf("%s%u", prefix, i);

        if (!add_parsed(list, conf, key, parse, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gpointer
parse_mount(const char *key, const char *value, GError **error)
{
    return agent_mount_parse(key, value, error);
}

static gpointer
parse_net(const char *key, const char *value, GError **error)
{
    return agent_net_parse(key, value, error);
}

static gpointer
parse_device(const char *key, const char *value, GError **error)
{
    return device_parse(key, value, error);
}

GPtrArray *
agent_guestconf_mounts(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) mounts =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_mount_free);

    return add_parsed(mounts, conf, "rootfs", parse_mount, error) &&
                   add_numbered(mounts, conf, "mp", MAX_MOUNTS, parse_mount,
                                error)
               ? g_steal_pointer(&mounts)
               : NULL;
}

GPtrArray *
agent_guestconf_nets(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) nets =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_net_free);

    return add_numbered(nets, conf, "net", MAX_NETS, parse_net, error)
               ? g_steal_pointer(&nets)
               : NULL;
}

GPtrArray *
agent_guestconf_devices(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) devices =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_device_free);

    return add_numbered(devices, conf, "dev", MAX_DEVICES, parse_device, error)
               ? g_steal_pointer(&devices)
               : NULL;
}
