#include "config.h"

#include "agent/core/guestopts.h"

#include "agent/core/formats.h"

#include <string.h>

#define BOOLEAN                                                                \
    {                                                                          \
        .type = AGENT_VALUE_BOOLEAN                                            \
    }
#define TEXT(name)                                                             \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .hint = name                               \
    }
#define SIZE                                                                   \
    {                                                                          \
        .type = AGENT_VALUE_SIZE                                               \
    }
#define FORMAT(name, function)                                                 \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .hint = name, .format = function           \
    }
#define LIMITED(name, length, function)                                        \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .hint = name, .max_length = length,        \
        .format = function                                                     \
    }
#define PATTERN(name, function)                                                \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .hint = name, .pattern = function          \
    }
#define CHOICE(list)                                                           \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .choices = list                            \
    }
#define INTEGER(low, high)                                                     \
    {                                                                          \
        .type = AGENT_VALUE_INTEGER, .has_range = TRUE, .min = low,            \
        .max = high                                                            \
    }
#define NUMBER(low, high)                                                      \
    {                                                                          \
        .type = AGENT_VALUE_NUMBER, .has_range = TRUE, .min = low, .max = high \
    }

static const char *const arches[] = {"amd64",   "i386",    "arm64", "armhf",
                                     "riscv32", "riscv64", NULL};
static const char *const cmodes[] = {"shell", "console", "tty", NULL};
static const char *const ostypes[] = {
    "debian",    "devuan", "ubuntu", "centos", "fedora",    "opensuse",
    "archlinux", "alpine", "gentoo", "nixos",  "unmanaged", NULL};
static const char *const locks[] = {
    "backup",   "create",          "destroyed", "disk",
    "fstrim",   "migrate",         "mounted",   "rollback",
    "snapshot", "snapshot-delete", NULL};
static const char *const states[] = {"started", "stopped", NULL};
static const char *const veth[] = {"veth", NULL};

enum { NO = FALSE, YES = TRUE };

/* What is between the words: name, rule, mandatory, default key, default,
 * meaning. */
#define MOUNT_KEYS                                                             \
    {"volume",                                                                 \
     FORMAT("volume", agent_format_mount_path),                                \
     YES,                                                                      \
     YES,                                                                      \
     NULL,                                                                     \
     "volume, device or directory to mount; STORAGE:GiB makes a new volume"},  \
        {"acl",                                                                \
         BOOLEAN,                                                              \
         NO,                                                                   \
         NO,                                                                   \
         NULL,                                                                 \
         "access control lists on or off; unset: as the file system does"},    \
        {"idmap",                                                              \
         PATTERN("passthrough|type:ct:disk:count;...", agent_pattern_idmap),   \
         NO,                                                                   \
         NO,                                                                   \
         NULL,                                                                 \
         "ids on disk, for an unprivileged container"},                        \
        {"mountoptions",                                                       \
         PATTERN("opt[;opt...]", agent_pattern_mountoptions),                  \
         NO,                                                                   \
         NO,                                                                   \
         NULL,                                                                 \
         "discard, lazytime, noatime, nodev, noexec, nosuid, joined by ';'"},  \
        {"quota", BOOLEAN, NO, NO, "0", "user quotas inside"},                 \
        {"replicate", BOOLEAN, NO, NO, "1", "part of storage replication"},    \
        {"ro", BOOLEAN, NO, NO, "0", "read-only"},                             \
        {"shared", BOOLEAN,                                                    \
         NO,       NO,                                                         \
         "0",      "the source exists on every node: allows migration"},       \
    {                                                                          \
        "size", SIZE, NO, NO, NULL, "size of the volume, kept by the tools"    \
    }

const AgentPropKey agent_rootfs_schema[] = {MOUNT_KEYS, {NULL}};

const AgentPropKey agent_mp_schema[] = {
    MOUNT_KEYS,
    {"mp", FORMAT("path", agent_format_mount_path), YES, NO, NULL,
     "where in the container; no symbolic links on the way"},
    {"backup", BOOLEAN, NO, NO, "0", "include in backups"},
    {"keepattrs", BOOLEAN, NO, NO, "0",
     "keep owner and mode of the directory mounted on"},
    {NULL}};

const AgentPropKey agent_net_schema[] = {
    {"name", PATTERN("name", agent_pattern_interface), YES, NO, NULL,
     "name of the interface in the container"},
    {"bridge", PATTERN("bridge", agent_pattern_interface), NO, NO, NULL,
     "bridge of the host"},
    {"firewall", BOOLEAN, NO, NO, "0", "use the firewall's rules"},
    {"gw", FORMAT("IPv4", agent_format_ipv4), NO, NO, NULL,
     "default gateway for IPv4"},
    {"gw6", FORMAT("IPv6", agent_format_ipv6), NO, NO, NULL,
     "default gateway for IPv6"},
    {"host-managed", BOOLEAN, NO, NO, "0",
     "the host configures the interface, for images without network tools"},
    {"hwaddr", FORMAT("XX:XX:XX:XX:XX:XX", agent_format_mac), NO, NO, NULL,
     "unicast MAC address; made when not given"},
    {"ip", FORMAT("(IPv4/CIDR|dhcp|manual)", agent_format_ipv4_config), NO, NO,
     NULL, "IPv4 address"},
    {"ip6", FORMAT("(IPv6/CIDR|auto|dhcp|manual)", agent_format_ipv6_config),
     NO, NO, NULL, "IPv6 address"},
    {"link_down", BOOLEAN, NO, NO, "0", "unplug the cable"},
    {"mtu", INTEGER(64, 65535), NO, NO, NULL,
     "at most the bridge's, which is the default"},
    {"rate", NUMBER(0, G_MAXINT32), NO, NO, NULL, "limit in MiB/s"},
    {"tag", INTEGER(1, 4094), NO, NO, NULL, "VLAN of the interface"},
    {"trunks", PATTERN("vlanid[;vlanid...]", agent_pattern_trunks), NO, NO,
     NULL, "VLANs passed through"},
    {"type", CHOICE(veth), NO, NO, "veth", "kind of interface"},
    {NULL}};

const AgentPropKey agent_features_schema[] = {
    {"force_rw_sys", BOOLEAN, NO, NO, "0",
     "/sys writable in an unprivileged container"},
    {"fuse", BOOLEAN, NO, NO, "0", "allow FUSE file systems"},
    {"keyctl", BOOLEAN, NO, NO, "0",
     "allow keyctl(2), for unprivileged containers"},
    {"mknod", BOOLEAN, NO, NO, "0",
     "allow mknod(2) of some devices, for unprivileged containers"},
    {"mount", PATTERN("fstype;fstype;...", agent_pattern_fs_types), NO, NO,
     NULL, "allow to mount file systems of these types"},
    {"nesting", BOOLEAN, NO, NO, "0", "allow containers inside"},
    {NULL}};

const AgentPropKey agent_dev_schema[] = {
    {"path", FORMAT("path", agent_format_device_path), NO, YES, NULL,
     "device node of the host"},
    {"deny-write", BOOLEAN, NO, NO, "0", "reading only"},
    {"gid", INTEGER(0, G_MAXUINT32), NO, NO, "0",
     "group of the node, as the container sees it"},
    {"mode", PATTERN("0xxx", agent_pattern_device_mode), NO, NO, "0660",
     "access mode of the node"},
    {"uid", INTEGER(0, G_MAXUINT32), NO, NO, "0",
     "user of the node, as the container sees it"},
    {NULL}};

static const AgentPropKey unused_schema[] = {
    {"volume", FORMAT("volume", agent_format_volume_id), YES, YES, NULL,
     "volume that nothing uses"},
    {NULL}};

enum {
    C = AGENT_OPT_CREATE,
    S = AGENT_OPT_SET,
    CS = AGENT_OPT_CREATE | AGENT_OPT_SET,
    CSL = AGENT_OPT_CREATE | AGENT_OPT_SET | AGENT_OPT_LIST,
    NEEDED = AGENT_OPT_NEEDED,
    CANON = AGENT_OPT_CANONICAL,
    NOSNAP = AGENT_OPT_NO_SNAPSHOT,
    SECTION = AGENT_OPT_SECTION | AGENT_OPT_NO_SNAPSHOT,
    OURS = AGENT_OPT_NO_SNAPSHOT,

    FILED = AGENT_LIVE_FILE,
    HOT = AGENT_LIVE_HOT,
    ADDED = AGENT_LIVE_ADDED,
    PENDING = AGENT_LIVE_PENDING,
    FIXED = AGENT_LIVE_FIXED,
};

/* name, count, flags, live, rule, props, default, meaning */
static const AgentGuestOpt table[] = {
    {"arch", 0, CS, PENDING, CHOICE(arches), NULL, "detected",
     "Architecture of the programs in the container."},
    {"cmode", 0, CS, FILED, CHOICE(cmodes), NULL, "tty",
     "What 'pct console' attaches to: a login on a tty, /dev/console, or a "
     "shell without login."},
    {"console", 0, CS, PENDING, BOOLEAN, NULL, "1", "Provide /dev/console."},
    {"cores", 0, CS, FILED, INTEGER(1, 8192), NULL, "all",
     "Number of CPUs the container sees and runs on."},
    {"cpulimit", 0, CS, HOT, NUMBER(0, 8192), NULL, "0",
     "CPU time at most, in CPUs; 0 is no limit."},
    {"cpuunits", 0, CS, HOT, INTEGER(0, 500000), NULL, "100",
     "Weight against other containers when CPU time is short (cgroup v2: 1 to "
     "10000; v1: from 2, default 1024)."},
    {"debug", 0, CS, PENDING, BOOLEAN, NULL, "0", "Write a detailed log."},
    {"description", 0, CS | NOSNAP, FILED, LIMITED("string", 8192, NULL), NULL,
     NULL, "Notes; kept as comment lines at the top of the file."},
    {"dev", 256, CS, ADDED, TEXT("device"), agent_dev_schema, NULL,
     "Device of the host to pass through."},
    {"entrypoint", 0, CS, PENDING, PATTERN("command", agent_pattern_entrypoint),
     NULL, "/sbin/init", "Command to run as init."},
    {"env", 0, CS | AGENT_OPT_REPEAT, PENDING,
     PATTERN("VAR=value", agent_pattern_variable), NULL, NULL,
     "Environment of init, one variable; repeat it for more. Replaces all "
     "that were set before."},
    {"features", 0, CS, PENDING, TEXT("features"), agent_features_schema, NULL,
     "What the container may do beyond the usual."},
    {"hookscript", 0, CS, FILED, FORMAT("volume", agent_format_volume_id), NULL,
     NULL,
     "Script, a volume of content type snippets, run before and after start "
     "and stop."},
    {"hostname", 0, CS, FILED, LIMITED("string", 255, agent_format_dns_name),
     NULL, "CT<vmid>", "Host name; in the container from its next start on."},
    {"lock", 0, CS | NOSNAP, FILED, CHOICE(locks), NULL, NULL,
     "Mark of an operation under way; 'pct unlock' removes it."},
    {"memory", 0, CS | NEEDED, HOT, INTEGER(16, G_MAXINT32), NULL, "512",
     "Memory in MiB."},
    {"mp", 256, CS | CANON, ADDED, TEXT("mount point"), agent_mp_schema, NULL,
     "Mount point: a volume, or a device or directory of the host."},
    {"nameserver", 0, CSL, PENDING, FORMAT("IP list", agent_format_ip_list),
     NULL, "the host's", "DNS servers."},
    {"net", 32, CS | CANON, HOT, TEXT("network"), agent_net_schema, NULL,
     "Network interface."},
    {"onboot", 0, CS, FILED, BOOLEAN, NULL, "0",
     "Start when the node comes up."},
    {"ostemplate", 0, OURS, FIXED, TEXT("volume"), NULL, NULL,
     "In a request for a new container: the template to unpack."},
    {"ostype", 0, CS | NEEDED, PENDING, CHOICE(ostypes), NULL, "detected",
     "Distribution: which files of the guest are set up and how. 'unmanaged': "
     "none."},
    {"parent", 0, SECTION, FIXED, LIMITED("string", 40, agent_format_config_id),
     NULL, NULL, "The snapshot this state comes from."},
    {"protection", 0, CS, FILED, BOOLEAN, NULL, "0",
     "Refuse to destroy the container or to change its volumes."},
    {"rootfs", 0, CS | CANON | NEEDED, PENDING, TEXT("volume"),
     agent_rootfs_schema, NULL, "Root file system."},
    {"searchdomain", 0, CSL, PENDING,
     FORMAT("domain list", agent_format_dns_list), NULL, "the host's",
     "DNS search domains."},
    {"snapstate", 0, SECTION, FIXED, TEXT("string"), NULL, NULL,
     "An unfinished snapshot: prepare or delete."},
    {"snaptime",
     0,
     SECTION,
     FIXED,
     {.type = AGENT_VALUE_INTEGER},
     NULL,
     NULL,
     "When the snapshot was taken, in seconds since the epoch."},
    {"startup", 0, CS, FILED,
     FORMAT("[[order=]\\d+] [,up=\\d+] [,down=\\d+]", agent_format_startup),
     NULL, NULL,
     "Order at the node's start (and, reversed, at its shutdown), and how many "
     "seconds to wait after each."},
    {"state", 0, CS | NOSNAP, FILED, CHOICE(states), NULL, NULL,
     "What the agent keeps true, always; without it the container is left to "
     "pct."},
    {"swap", 0, CS, HOT, INTEGER(0, G_MAXINT32), NULL, "0", "Swap in MiB."},
    {"tags", 0, CSL, FILED, FORMAT("list", agent_format_tags), NULL, NULL,
     "Tags of the container."},
    {"template", 0, CS, PENDING, BOOLEAN, NULL, "0",
     "The container is a template, which cannot be started."},
    {"timezone", 0, CS, PENDING, FORMAT("zone", agent_format_timezone), NULL,
     "the guest's", "Time zone, or 'host' for the host's."},
    {"tty", 0, CS, PENDING, INTEGER(0, 6), NULL, "2", "Number of ttys."},
    {"unprivileged", 0, C, FIXED, BOOLEAN, NULL, "1 at create",
     "Root of the container is a plain user of the host."},
    {"unused", 256, S | NOSNAP, PENDING, TEXT("volume"), unused_schema, NULL,
     "A volume that the container owns and nothing uses. Deleting it frees "
     "the volume."},
    {"vmstate", 0, SECTION, FIXED, TEXT("volume"), NULL, NULL,
     "A volume; never written for containers."},
    {NULL}};

const AgentGuestOpt *
agent_guestopts(void)
{
    return table;
}

int
agent_guestopt_index(const char *key, const char *prefix, guint count)
{
    gsize n = strlen(prefix);
    guint64 index;

    if (strncmp(key, prefix, n) != 0 || !g_ascii_isdigit(key[n]) ||
        (key[n] == '0' && key[n + 1] != '\0') ||
        !g_ascii_string_to_unsigned(key + n, 10, 0, count - 1, &index, NULL)) {
        return -1;
    }
    return (int)index;
}

const AgentGuestOpt *
agent_guestopt_find(const char *key)
{
    for (const AgentGuestOpt *opt = table; opt->name != NULL; opt++) {
        if (opt->count > 0
                ? agent_guestopt_index(key, opt->name, opt->count) >= 0
                : strcmp(key, opt->name) == 0) {
            return opt;
        }
    }
    return NULL;
}

/* `state` is ours, and what the daemon acts on: its words are checked in the
 * file already. */
static gboolean
is_strict(const AgentGuestOpt *opt)
{
    return strcmp(opt->name, "state") == 0;
}

char *
agent_guestopt_read(const AgentGuestOpt *opt, const char *value, GError **error)
{
    if (opt->props != NULL) {
        g_autoptr(GHashTable) props =
            agent_props_parse(opt->props, value, error);

        return props != NULL ? g_strdup(value) : NULL;
    }
    return is_strict(opt) ? agent_value_check(&opt->rule, value, error)
                          : agent_value_read(&opt->rule, value, error);
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *
agent_guestopt_tags(const char *value, gboolean keep_case, gboolean keep_order)
{
    g_auto(GStrv) items = agent_list_split(value);
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);

    for (char **item = items; *item != NULL; item++) {
        char *tag = keep_case ? g_strdup(*item) : g_ascii_strdown(*item, -1);

        if (g_ptr_array_find_with_equal_func(tags, tag, g_str_equal, NULL)) {
            g_free(tag);
        } else {
            g_ptr_array_add(tags, tag);
        }
    }
    if (!keep_order) {
        g_ptr_array_sort(tags, by_text);
    }
    g_ptr_array_add(tags, NULL);
    return g_strjoinv(";", (char **)tags->pdata);
}

static char *
stored_list(const AgentGuestOpt *opt, const char *value)
{
    g_auto(GStrv) items = agent_list_split(value);

    return strcmp(opt->name, "tags") == 0
               ? agent_guestopt_tags(value, TRUE, TRUE)
               : g_strjoinv(" ", items);
}

static char *
check_props(const AgentGuestOpt *opt, const char *value, GError **error)
{
    g_autoptr(GHashTable) props = agent_props_parse(opt->props, value, error);

    if (props == NULL) {
        g_prefix_error(error, "invalid format - ");
        return NULL;
    }
    if (opt->props == agent_dev_schema &&
        g_hash_table_lookup(props, "path") == NULL) {
        g_set_error(error, AGENT_VALUE_ERROR, AGENT_VALUE_ERROR_BAD,
                    "Path has to be defined");
        return NULL;
    }
    return opt->flags & AGENT_OPT_CANONICAL
               ? agent_props_format(opt->props, props)
               : g_strdup(value);
}

char *
agent_guestopt_check(const AgentGuestOpt *opt,
                     const char *value,
                     GError **error)
{
    g_autofree char *stored = NULL;

    /* Its lines are stored encoded, so it may have any character. */
    if (strcmp(opt->name, "description") == 0) {
        if (g_utf8_strlen(value, -1) > (glong)opt->rule.max_length) {
            g_set_error(error, AGENT_VALUE_ERROR, AGENT_VALUE_ERROR_BAD,
                        "value may only be %u characters long",
                        opt->rule.max_length);
            return NULL;
        }
        return g_strdup(value);
    }
    stored = agent_value_check(&opt->rule, value, error);
    if (stored == NULL) {
        return NULL;
    }
    if (opt->props != NULL) {
        return check_props(opt, stored, error);
    }
    return opt->flags & AGENT_OPT_LIST ? stored_list(opt, stored)
                                       : g_steal_pointer(&stored);
}

char *
agent_guestopt_describe(const AgentGuestOpt *opt)
{
    return opt->props != NULL ? agent_props_describe(opt->props)
                              : agent_value_describe(&opt->rule);
}
