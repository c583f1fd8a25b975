#include "config.h"

#include "agent/core/lxcconf.h"

#include "agent/core/guestopts.h"
#include "agent/core/idmap.h"
#include "agent/core/rawkeys.h"
#include "common/paths.h"

#include <errno.h>
#include <string.h>

#define INCLUDE_DIR "/usr/share/lxc/config"

enum { DEFAULT_TTYS = 2 };

typedef struct {
    const AgentGuestConf *conf;
    const AgentLxcFacts *facts;
    GPtrArray *warnings;  /* nullable */
    GHashTable *features; /* nullable */
    GString *out;
    guint32 ctid;
    gboolean is_unprivileged;
} Generator;

static void line(Generator *self, const char *key, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void warn(Generator *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
line(Generator *self, const char *key, const char *format, ...)
{
    va_list args;

    g_string_append_printf(self->out, "%s = ", key);
    va_start(args, format);
    g_string_append_vprintf(self->out, format, args);
    va_end(args);
    g_string_append_c(self->out, '\n');
}

static void
warn(Generator *self, const char *format, ...)
{
    va_list args;

    if (self->warnings != NULL) {
        va_start(args, format);
        g_ptr_array_add(self->warnings, g_strdup_vprintf(format, args));
        va_end(args);
    }
}

static gboolean
feature(const Generator *self, const char *name)
{
    const char *value = self->features != NULL
                            ? g_hash_table_lookup(self->features, name)
                            : NULL;

    return value != NULL && strcmp(value, "1") == 0;
}

static gboolean
require(const AgentGuestConf *conf, GError **error)
{
    static const char *const needed[] = {"arch", "ostype", NULL};

    for (guint i = 0; needed[i] != NULL; i++) {
        if (agent_guestconf_get(conf, needed[i]) == NULL) {
            g_set_error(error, AGENT_GUESTCONF_ERROR,
                        AGENT_GUESTCONF_ERROR_VALUE,
                        "missing '%s' - internal error", needed[i]);
            return FALSE;
        }
    }
    if (agent_guestconf_get(conf, "rootfs") == NULL) {
        g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                    "missing 'rootfs' configuration");
        return FALSE;
    }
    return TRUE;
}

/* --- the lines of spec 2.1, in its order --- */

static void
add_cgroup_names(Generator *self)
{
    line(self, "lxc.cgroup.relative", "0");
    line(self, "lxc.cgroup.dir.monitor", "lxc.monitor/%u", self->ctid);
    line(self, "lxc.cgroup.dir.container", "lxc/%u", self->ctid);
    line(self, "lxc.cgroup.dir.container.inner", "ns");
}

/* The file of the distribution, or the common one. */
static void
add_include(Generator *self, const char *suffix)
{
    g_autofree char *own = g_strdup_printf(
        "%s.%s", agent_guestconf_get(self->conf, "ostype"), suffix);
    gboolean exists = g_strv_contains(self->facts->includes, own);

    line(self, "lxc.include", INCLUDE_DIR "/%s", exists ? own : suffix);
}

/* Which of @names are on: "keyctl, mknod"; with @prefix before each. NULL:
 * none. Returns: (owned). */
static char *
features_on(const Generator *self, const char *prefix, const char *const *names)
{
    g_autoptr(GString) out = g_string_new(NULL);

    for (; *names != NULL; names++) {
        const char *value = self->features != NULL
                                ? g_hash_table_lookup(self->features, *names)
                                : NULL;

        if (value != NULL && strcmp(value, "0") != 0) {
            g_string_append_printf(out, "%s%s%s", out->len > 0 ? ", " : "",
                                   prefix, *names);
        }
    }
    return out->len > 0 ? g_string_free(g_steal_pointer(&out), FALSE) : NULL;
}

/* Without anybody at the socket the container would die at its start. */
static void
add_mknod_proxy(Generator *self)
{
    if (!feature(self, "mknod")) {
        return;
    }
    if (self->facts->mknod_proxy == NULL) {
        warn(self, "feature 'mknod' needs the service pve-lxc-syscalld, which "
                   "does not answer: ignored");
        return;
    }
    line(self, "lxc.seccomp.notify.proxy", "unix:%s", self->facts->mknod_proxy);
    line(self, "lxc.seccomp.notify.cookie", "%u", self->ctid);
}

static void
add_seccomp(Generator *self)
{
    static const char *const names[] = {"keyctl", "mknod", NULL};
    g_autofree char *on = features_on(self, "", names);

    if (!self->is_unprivileged) {
        return;
    }
    if (!agent_guestconf_has_raw(self->conf, "lxc.seccomp.profile")) {
        add_mknod_proxy(self);
        line(self, "lxc.seccomp.profile", PVE_LXC_DIR "/%u/rules.seccomp",
             self->ctid);
    } else if (on != NULL) {
        warn(self,
             "explicitly configured lxc.seccomp.profile overrides the "
             "following settings: %s",
             on);
    }
}

static void
add_apparmor_mounts(Generator *self)
{
    const char *types = self->features != NULL
                            ? g_hash_table_lookup(self->features, "mount")
                            : NULL;
    g_auto(GStrv) list = agent_list_split(types != NULL ? types : "");

    for (char **type = list; *type != NULL; type++) {
        line(self, "lxc.apparmor.raw", "mount fstype=%s,", *type);
    }
}

static void
add_apparmor(Generator *self)
{
    static const char *const names[] = {"fuse", "mount", "nesting", NULL};
    g_autofree char *on = features_on(self, "features:", names);

    if (agent_guestconf_has_raw(self->conf, "lxc.apparmor.profile")) {
        if (on != NULL) {
            warn(self,
                 "explicitly configured lxc.apparmor.profile overrides the "
                 "following settings: %s",
                 on);
        }
        return;
    }
    line(self, "lxc.apparmor.profile", "generated");
    line(self, "lxc.apparmor.raw", "allow mqueue,");
    if (feature(self, "nesting")) {
        line(self, "lxc.apparmor.allow_nesting", "1");
        line(self, "lxc.apparmor.raw", "allow userns,");
    } else {
        line(self, "lxc.apparmor.raw", "deny mount -> /proc/,");
        line(self, "lxc.apparmor.raw", "deny mount -> /sys/,");
    }
    add_apparmor_mounts(self);
}

static void
add_mounts(Generator *self)
{
    const char *entrypoint = agent_guestconf_get(self->conf, "entrypoint");

    if (feature(self, "fuse")) {
        line(self, "lxc.apparmor.raw", "mount fstype=fuse,");
        line(self, "lxc.mount.entry",
             "/dev/fuse dev/fuse none bind,create=file 0 0");
    }
    if (self->is_unprivileged && !feature(self, "force_rw_sys")) {
        line(self, "lxc.mount.auto", "sys:mixed");
    }
    if (entrypoint != NULL && strcmp(entrypoint, "/sbin/init") != 0) {
        line(self, "lxc.mount.entry",
             "shm dev/shm tmpfs rw,nosuid,nodev,create=dir 0 0");
    }
}

static gboolean
refuse_device(GError **error,
              const char *before,
              const char *name,
              const char *after)
{
    g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                "%s%s%s", before, name, after);
    return FALSE;
}

char *
agent_lxcconf_passthrough(guint32 ctid)
{
    return g_strdup_printf(PVE_LXC_DIR "/%u/passthrough", ctid);
}

/* Blanks end a field of an fstab(5) line. */
static char *
fstab_text(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "\\", -1);
    g_autofree char *slashes = g_strjoinv("\\134", parts);
    g_auto(GStrv) words = g_strsplit(slashes, " ", -1);
    g_autofree char *blanks = g_strjoinv("\\040", words);
    g_auto(GStrv) pieces = g_strsplit(blanks, "\t", -1);

    return g_strjoinv("\\011", pieces);
}

/* Whatever the version: a controller ignores the other's lines. The node is
 * made by the supervisor; liblxc puts it in place. */
static void
add_device(Generator *self, const AgentDevice *device, const AgentNode *node)
{
    static const char *const versions[] = {"lxc.cgroup2", "lxc.cgroup", NULL};
    g_autofree char *path = fstab_text(device->path);
    g_autofree char *directory = agent_lxcconf_passthrough(self->ctid);

    for (guint i = 0; versions[i] != NULL; i++) {
        g_autofree char *allow =
            g_strconcat(versions[i], ".devices.allow", NULL);
        g_autofree char *deny = g_strconcat(versions[i], ".devices.deny", NULL);

        line(self, allow, "%c %u:%u %s", node->type, node->major, node->minor,
             device->deny_write ? "r" : "rw");
        if (device->deny_write) {
            line(self, deny, "%c %u:%u w", node->type, node->major,
                 node->minor);
        }
    }
    line(self, "lxc.mount.entry", "%s%s %s none bind,create=file 0 0",
         directory, path, path + 1);
}

enum { MISC_MAJOR = 10, LOOP_CONTROL_MINOR = 237 };

static gboolean
check_device(Generator *self, const AgentDevice *device, GError **error)
{
    const AgentNode *node;

    if (device->path == NULL) {
        return refuse_device(error,
                             "Path is not defined for passthrough device ",
                             device->key, "");
    }
    node = g_hash_table_lookup(self->facts->nodes, device->path);
    if (node == NULL || node->problem == ENOENT) {
        return refuse_device(error, "Device ", device->path, " does not exist");
    }
    if (node->problem != 0) {
        return refuse_device(error, "Error accessing device ", device->path,
                             "");
    }
    if (node->type == 0) {
        return refuse_device(error, "", device->path, " is not a device");
    }
    if (node->type == 'c' && node->major == MISC_MAJOR &&
        node->minor == LOOP_CONTROL_MINOR) {
        warn(self, "%s: the control of loop devices is not passed through",
             device->key);
    } else {
        add_device(self, device, node);
    }
    return TRUE;
}

static gboolean
add_devices(Generator *self, GError **error)
{
    g_autoptr(GPtrArray) devices = agent_guestconf_devices(self->conf, error);

    for (guint i = 0; devices != NULL && i < devices->len; i++) {
        if (!check_device(self, devices->pdata[i], error)) {
            return FALSE;
        }
    }
    return devices != NULL;
}

/* liblxc has the last word on them. */
static void
warn_about_idmap(Generator *self)
{
    g_autoptr(GPtrArray) maps = g_ptr_array_new();
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < agent_guestconf_n_raw(self->conf); i++) {
        const char *key, *value;

        agent_guestconf_raw(self->conf, i, &key, &value);
        if (strcmp(key, "lxc.idmap") == 0) {
            g_ptr_array_add(maps, (gpointer)value);
        }
    }
    g_ptr_array_add(maps, NULL);
    if (!agent_idmap_check((const char *const *)maps->pdata, " ", &error)) {
        warn(self, "lxc.idmap: %s", error->message);
    }
}

static void
add_idmap(Generator *self)
{
    warn_about_idmap(self);
    line(self, "lxc.monitor.unshare", "1");
    if (self->is_unprivileged &&
        !agent_guestconf_has_raw(self->conf, "lxc.idmap")) {
        line(self, "lxc.idmap", "u 0 100000 65536");
        line(self, "lxc.idmap", "g 0 100000 65536");
    }
}

static void
add_terminals(Generator *self)
{
    if (!agent_guestconf_get_bool(self->conf, "console", TRUE)) {
        line(self, "lxc.console.path", "none");
        line(self, "lxc.cgroup2.devices.deny", "c 5:1 rwm");
        line(self, "lxc.cgroup.devices.deny", "c 5:1 rwm");
    }
    line(self, "lxc.tty.max", "%" G_GUINT64_FORMAT,
         agent_guestconf_get_uint(self->conf, "tty", DEFAULT_TTYS));
    line(self, "lxc.environment", "TERM=linux");
}

static void
add_hostname(Generator *self)
{
    g_autofree char *name = agent_guestconf_hostname(self->conf);

    line(self, "lxc.uts.name", "%s", name);
}

/* In the syntax of the version's keys. */
static void
add_limits(Generator *self, AgentCgroupVersion version, const GPtrArray *limits)
{
    const char *prefix =
        version == AGENT_CGROUP_V2 ? "lxc.cgroup2" : "lxc.cgroup";

    for (guint i = 0; i < limits->len; i++) {
        const AgentLimit *limit = limits->pdata[i];
        g_autofree char *key = g_strdup_printf("%s.%s", prefix, limit->file);

        line(self, key, "%s", limit->value);
    }
}

static void
add_memory(Generator *self)
{
    AgentCgroupVersion version = self->facts->memory;
    g_autoptr(GPtrArray) limits =
        agent_limits_memory(self->conf, version, self->facts->has_memsw);

    add_limits(self, version, limits);
    if (version == AGENT_CGROUP_NONE) {
        warn(self, "no memory controller: the container runs without a "
                   "memory limit");
    }
}

static void
add_cpu(Generator *self)
{
    AgentCgroupVersion version = self->facts->cpu;
    g_autoptr(GPtrArray) limits = agent_limits_cpu(self->conf, version, FALSE);

    add_limits(self, version, limits);
}

static void
add_root(Generator *self)
{
    const char *entrypoint = agent_guestconf_get(self->conf, "entrypoint");

    line(self, "lxc.rootfs.path", PVE_LXC_DIR "/%u/rootfs", self->ctid);
    if (entrypoint != NULL) {
        line(self, "lxc.init.cmd", "%s", entrypoint);
    }
}

/* The MTU of the interface, checked against its bridge's. 0: an error. */
static guint
net_mtu(Generator *self, const AgentNet *net, GError **error)
{
    gpointer found = NULL;
    guint bridge_mtu;

    if (net->bridge == NULL) {
        g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                    "%s: missing bridge configuration", net->key);
        return 0;
    }
    if (!g_hash_table_lookup_extended(self->facts->bridge_mtus, net->bridge,
                                      NULL, &found)) {
        g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                    "bridge '%s' does not exist", net->bridge);
        return 0;
    }
    bridge_mtu = GPOINTER_TO_UINT(found);
    if (net->mtu > bridge_mtu) {
        g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                    "%s: MTU size '%u' is bigger than bridge MTU '%u'",
                    net->key, net->mtu, bridge_mtu);
        return 0;
    }
    return net->mtu != 0 ? net->mtu : bridge_mtu;
}

static void
net_line(Generator *self,
         const AgentNet *net,
         const char *key,
         const char *text)
{
    g_autofree char *full = g_strdup_printf("lxc.net.%u.%s", net->index, key);

    line(self, full, "%s", text);
}

static gboolean
is_address(const char *ip)
{
    return ip != NULL && strcmp(ip, "dhcp") != 0 && strcmp(ip, "manual") != 0 &&
           strcmp(ip, "auto") != 0;
}

/* For images without a network stack: the host brings the interface up. */
static void
add_host_managed(Generator *self, const AgentNet *net)
{
    if (is_address(net->ip)) {
        net_line(self, net, "ipv4.address", net->ip);
    }
    if (net->gw != NULL) {
        net_line(self, net, "ipv4.gateway", net->gw);
    }
    if (is_address(net->ip6)) {
        net_line(self, net, "ipv6.address", net->ip6);
    }
    if (net->gw6 != NULL) {
        net_line(self, net, "ipv6.gateway", net->gw6);
    }
    net_line(self, net, "flags", "up");
    if (g_strcmp0(net->ip, "dhcp") == 0 || g_strcmp0(net->ip6, "dhcp") == 0) {
        warn(self, "%s: DHCP run by the host is not supported and ignored",
             net->key);
    }
}

void
agent_lxcconf_warn_net(const AgentNet *net, GPtrArray *warnings)
{
    const struct {
        gboolean is_asked;
        const char *what;
    } rows[] = {
        {net->tag != 0 || net->trunks != NULL,
         "'tag' and 'trunks' are not supported and ignored"},
        {net->firewall, "'firewall' is not supported and ignored"},
        {net->rate != NULL, "'rate' is not supported and ignored"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].is_asked) {
            g_ptr_array_add(warnings,
                            g_strdup_printf("%s: %s", net->key, rows[i].what));
        }
    }
}

static gboolean
add_net(Generator *self, const AgentNet *net, GError **error)
{
    guint mtu = net_mtu(self, net, error);
    g_autofree char *pair =
        g_strdup_printf("veth%ui%u", self->ctid, net->index);
    g_autofree char *mtu_text = g_strdup_printf("%u", mtu);

    if (mtu == 0) {
        return FALSE;
    }
    if (self->warnings != NULL) {
        agent_lxcconf_warn_net(net, self->warnings);
    }
    net_line(self, net, "type", "veth");
    net_line(self, net, "veth.pair", pair);
    if (net->hwaddr != NULL) {
        net_line(self, net, "hwaddr", net->hwaddr);
    }
    net_line(self, net, "name", net->name);
    net_line(self, net, "mtu", mtu_text);
    net_line(self, net, "script.up", self->facts->script_up);
    if (net->host_managed && !net->link_down) {
        if (g_strcmp0(net->ip6, "auto") == 0) {
            g_set_error(error, AGENT_GUESTCONF_ERROR,
                        AGENT_GUESTCONF_ERROR_VALUE,
                        "%s: SLAAC is not supported for host-managed network "
                        "configuration",
                        net->key);
            return FALSE;
        }
        add_host_managed(self, net);
    }
    return TRUE;
}

static gint
by_key(gconstpointer a, gconstpointer b)
{
    const AgentNet *x = *(const AgentNet *const *)a;
    const AgentNet *y = *(const AgentNet *const *)b;

    return strcmp(x->key, y->key);
}

static gboolean
add_nets(Generator *self, GError **error)
{
    g_autoptr(GPtrArray) nets = agent_guestconf_nets(self->conf, error);

    if (nets == NULL) {
        return FALSE;
    }
    g_ptr_array_sort(nets, by_key);
    for (guint i = 0; i < nets->len; i++) {
        if (!add_net(self, nets->pdata[i], error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static void
add_environment(Generator *self)
{
    const char *const *env = agent_guestconf_env(self->conf);
    const char *key = self->facts->knows_key("lxc.environment.runtime")
                          ? "lxc.environment.runtime"
                          : "lxc.environment";

    for (; *env != NULL; env++) {
        line(self, key, "%s", *env);
    }
}

/* --- raw lines --- */

static const char *const families[] = {"lxc.cgroup2", "lxc.cgroup", "lxc.net",
                                       "lxc.prlimit", "lxc.sysctl", NULL};

/* The library answers for a family by its bare name only. */
static gboolean
knows(const AgentLxcFacts *facts, const char *key)
{
    for (guint i = 0; families[i] != NULL; i++) {
        gsize n = strlen(families[i]);

        if (strncmp(key, families[i], n) == 0 && key[n] == '.') {
            return facts->knows_key(families[i]);
        }
    }
    return facts->knows_key(key);
}

static void
add_raw(Generator *self)
{
    for (guint i = 0; i < agent_guestconf_n_raw(self->conf); i++) {
        const char *key, *value;
        g_autofree char *name = NULL;

        agent_guestconf_raw(self->conf, i, &key, &value);
        name = agent_rawkey_current(key);
        if (strcmp(name, key) != 0) {
            warn(self, "%s is deprecated and was renamed to %s", key, name);
        }
        if (knows(self->facts, name)) {
            line(self, name, "%s", value);
        } else {
            warn(self, "%s: this LXC library does not know the key, ignored",
                 key);
        }
    }
}

static void
add_cpuset(Generator *self)
{
    if (self->facts->cpus == NULL ||
        agent_guestconf_has_raw(self->conf, "lxc.cgroup2.cpuset.cpus") ||
        agent_guestconf_has_raw(self->conf, "lxc.cgroup.cpuset.cpus")) {
        return;
    }
    if (self->facts->cpuset == AGENT_CGROUP_V2) {
        line(self, "lxc.cgroup2.cpuset.cpus", "%s", self->facts->cpus);
    } else if (self->facts->cpuset == AGENT_CGROUP_V1) {
        line(self, "lxc.cgroup.cpuset.cpus", "%s", self->facts->cpus);
    }
}

static GHashTable *
parse_features(const AgentGuestConf *conf, GError **error)
{
    const char *text = agent_guestconf_get(conf, "features");

    return agent_props_parse(agent_features_schema, text != NULL ? text : "",
                             error);
}

static gboolean
generate(Generator *self, GError **error)
{
    add_cgroup_names(self);
    line(self, "lxc.arch", "%s", agent_guestconf_get(self->conf, "arch"));
    add_include(self, "common.conf");
    if (self->is_unprivileged) {
        add_include(self, "userns.conf");
    }
    add_seccomp(self);
    add_apparmor(self);
    add_mounts(self);
    if (!add_devices(self, error)) {
        return FALSE;
    }
    add_idmap(self);
    add_terminals(self);
    add_hostname(self);
    add_memory(self);
    add_cpu(self);
    add_root(self);
    if (!add_nets(self, error)) {
        return FALSE;
    }
    add_environment(self);
    add_raw(self);
    add_cpuset(self);
    return TRUE;
}

char *
agent_lxcconf_generate(const AgentGuestConf *conf,
                       const AgentLxcFacts *facts,
                       GPtrArray *warnings,
                       GError **error)
{
    g_autoptr(GHashTable) features = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    Generator self = {.conf = conf,
                      .facts = facts,
                      .warnings = warnings,
                      .out = out,
                      .ctid = agent_guestconf_ctid(conf),
                      .is_unprivileged = agent_guestconf_is_unprivileged(conf)};

    if (!require(conf, error)) {
        return NULL;
    }
    features = parse_features(conf, error);
    if (features == NULL) {
        g_prefix_error(error, "features: ");
        return NULL;
    }
    self.features = features;
    if (!generate(&self, error)) {
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static gboolean
is_on(GHashTable *features, const char *name)
{
    return features != NULL &&
           g_strcmp0(g_hash_table_lookup(features, name), "1") == 0;
}

char *
agent_lxcconf_seccomp(const AgentGuestConf *conf,
                      const char *common,
                      gboolean has_proxy)
{
    g_autoptr(GHashTable) features = parse_features(conf, NULL);
    GString *out;

    if (!agent_guestconf_is_unprivileged(conf) ||
        agent_guestconf_has_raw(conf, "lxc.seccomp.profile")) {
        return NULL;
    }
    out = g_string_new(common);
    if (out->len > 0 && out->str[out->len - 1] != '\n') {
        g_string_append_c(out, '\n');
    }
    /* btrfs ioctls act on the whole file system. */
    g_string_append(out,
                    "ioctl errno 1 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\n");
    if (!is_on(features, "keyctl")) {
        g_string_append(out, "keyctl errno 38\n");
    }
    if (is_on(features, "mknod") && has_proxy) {
        /* S_IFCHR and S_IFBLK. */
        g_string_append(out,
                        "mknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                        "mknod notify [1,24576,SCMP_CMP_MASKED_EQ,61440]\n"
                        "mknodat notify [2,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                        "mknodat notify [2,24576,SCMP_CMP_MASKED_EQ,61440]\n");
    }
    g_string_append(out, "socket errno 97 [0,38,SCMP_CMP_EQ]\n");
    return g_string_free(out, FALSE);
}
