#include "config.h"

#include "agent/core/guestopts.h"

#include "agent/core/formats.h"

#include <string.h>

#define BOOLEAN                                                                \
    {                                                                          \
        .type = AGENT_VALUE_BOOLEAN                                            \
    }
#define TEXT                                                                   \
    {                                                                          \
        .type = AGENT_VALUE_STRING                                             \
    }
#define SIZE                                                                   \
    {                                                                          \
        .type = AGENT_VALUE_SIZE                                               \
    }
#define FORMAT(function)                                                       \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .format = function                         \
    }
#define PATTERN(function)                                                      \
    {                                                                          \
        .type = AGENT_VALUE_STRING, .pattern = function                        \
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

#define MOUNT_KEYS                                                             \
    {"volume", FORMAT(agent_format_mount_path), TRUE, TRUE}, {"acl", BOOLEAN}, \
        {"idmap", FORMAT(agent_format_idmap)},                                 \
        {"mountoptions", FORMAT(agent_format_mountoptions)},                   \
        {"quota", BOOLEAN}, {"replicate", BOOLEAN}, {"ro", BOOLEAN},           \
        {"shared", BOOLEAN},                                                   \
    {                                                                          \
        "size", SIZE                                                           \
    }

const AgentPropKey agent_rootfs_schema[] = {MOUNT_KEYS, {NULL}};

const AgentPropKey agent_mp_schema[] = {
    MOUNT_KEYS,
    {"mp", FORMAT(agent_format_mount_path), TRUE},
    {"backup", BOOLEAN},
    {"keepattrs", BOOLEAN},
    {NULL}};

const AgentPropKey agent_net_schema[] = {
    {"name", PATTERN(agent_pattern_interface), TRUE},
    {"bridge", PATTERN(agent_pattern_interface)},
    {"firewall", BOOLEAN},
    {"gw", FORMAT(agent_format_ipv4)},
    {"gw6", FORMAT(agent_format_ipv6)},
    {"host-managed", BOOLEAN},
    {"hwaddr", FORMAT(agent_format_mac)},
    {"ip", FORMAT(agent_format_ipv4_config)},
    {"ip6", FORMAT(agent_format_ipv6_config)},
    {"link_down", BOOLEAN},
    {"mtu", INTEGER(64, 65535)},
    {"rate", NUMBER(0, G_MAXINT32)},
    {"tag", INTEGER(1, 4094)},
    {"trunks", PATTERN(agent_pattern_trunks)},
    {"type", CHOICE(veth)},
    {NULL}};

const AgentPropKey agent_features_schema[] = {
    {"force_rw_sys", BOOLEAN},
    {"fuse", BOOLEAN},
    {"keyctl", BOOLEAN},
    {"mknod", BOOLEAN},
    {"mount", PATTERN(agent_pattern_fs_types)},
    {"nesting", BOOLEAN},
    {NULL}};

static const AgentPropKey dev_schema[] = {
    {"path", FORMAT(agent_format_device_path), TRUE, TRUE},
    {"deny-write", BOOLEAN},
    {"gid", INTEGER(0, G_MAXUINT32)},
    {"mode", PATTERN(agent_pattern_device_mode)},
    {"uid", INTEGER(0, G_MAXUINT32)},
    {NULL}};

static const AgentPropKey unused_schema[] = {
    {"volume", FORMAT(agent_format_volume_id), TRUE, TRUE}, {NULL}};

enum {
    C = AGENT_OPT_CREATE,
    CS = AGENT_OPT_CREATE | AGENT_OPT_SET,
    CSL = AGENT_OPT_CREATE | AGENT_OPT_SET | AGENT_OPT_LIST,
};

/* What is between the words: name, count, flags, rule, props, canonical. */
static const AgentGuestOpt table[] = {
    {"arch", 0, CS, CHOICE(arches)},
    {"cmode", 0, CS, CHOICE(cmodes)},
    {"console", 0, CS, BOOLEAN},
    {"cores", 0, CS, INTEGER(1, 8192)},
    {"cpulimit", 0, CS, NUMBER(0, 8192)},
    {"cpuunits", 0, CS, INTEGER(0, 500000)},
    {"debug", 0, CS, BOOLEAN},
    {"description", 0, CS, {.type = AGENT_VALUE_STRING, .max_length = 8192}},
    {"dev", 256, CS, TEXT, dev_schema, FALSE},
    {"entrypoint", 0, CS, TEXT},
    {"features", 0, CS, TEXT, agent_features_schema, FALSE},
    {"hookscript", 0, CS, FORMAT(agent_format_volume_id)},
    {"hostname",
     0,
     CS,
     {.type = AGENT_VALUE_STRING,
      .max_length = 255,
      .format = agent_format_dns_name}},
    {"lock", 0, CS, CHOICE(locks)},
    {"memory", 0, CS, INTEGER(16, G_MAXINT32)},
    {"mp", 256, CS, TEXT, agent_mp_schema, TRUE},
    {"nameserver", 0, CSL, FORMAT(agent_format_ip_list)},
    {"net", 32, CS, TEXT, agent_net_schema, TRUE},
    {"onboot", 0, CS, BOOLEAN},
    {"ostemplate", 0, 0, TEXT},
    {"ostype", 0, CS, CHOICE(ostypes)},
    {"parent",
     0,
     AGENT_OPT_SECTION,
     {.type = AGENT_VALUE_STRING,
      .max_length = 40,
      .format = agent_format_config_id}},
    {"protection", 0, CS, BOOLEAN},
    {"rootfs", 0, CS, TEXT, agent_rootfs_schema, TRUE},
    {"searchdomain", 0, CSL, FORMAT(agent_format_dns_list)},
    {"snapstate", 0, AGENT_OPT_SECTION, TEXT},
    {"snaptime", 0, AGENT_OPT_SECTION, {.type = AGENT_VALUE_INTEGER}},
    {"startup", 0, CS, FORMAT(agent_format_startup)},
    {"state", 0, CS, CHOICE(states)},
    {"swap", 0, CS, INTEGER(0, G_MAXINT32)},
    {"tags", 0, CSL, FORMAT(agent_format_tags)},
    {"template", 0, CS, BOOLEAN},
    {"timezone", 0, CS, FORMAT(agent_format_timezone)},
    {"tty", 0, CS, INTEGER(0, 6)},
    {"unprivileged", 0, C, BOOLEAN},
    {"unused", 256, AGENT_OPT_SET, TEXT, unused_schema, FALSE},
    {"vmstate", 0, AGENT_OPT_SECTION, TEXT},
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

/* Lower case, each once, sorted, joined with ';'. */
static char *
stored_tags(const char *value)
{
    g_auto(GStrv) items = agent_list_split(value);
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);

    for (char **item = items; *item != NULL; item++) {
        char *tag = g_ascii_strdown(*item, -1);

        if (g_ptr_array_find_with_equal_func(tags, tag, g_str_equal, NULL)) {
            g_free(tag);
        } else {
            g_ptr_array_add(tags, tag);
        }
    }
    g_ptr_array_sort(tags, by_text);
    g_ptr_array_add(tags, NULL);
    return g_strjoinv(";", (char **)tags->pdata);
}

static char *
stored_list(const char *value)
{
    g_auto(GStrv) items = agent_list_split(value);

    return g_strjoinv(" ", items);
}

char *
agent_guestopt_check(const AgentGuestOpt *opt,
                     const char *value,
                     GError **error)
{
    g_autofree char *stored = NULL;

    /* Its lines are stored encoded, so it may have any character. */
    if (strcmp(opt->name, "description") == 0) {
        return agent_value_read(&opt->rule, value, error);
    }
    stored = agent_value_check(&opt->rule, value, error);
    if (stored == NULL) {
        return NULL;
    }
    if (opt->props != NULL) {
        g_autoptr(GHashTable) props =
            agent_props_parse(opt->props, stored, error);

        if (props == NULL) {
            g_prefix_error(error, "invalid format - ");
            return NULL;
        }
        return opt->is_canonical ? agent_props_format(opt->props, props)
                                 : g_steal_pointer(&stored);
    }
    if (strcmp(opt->name, "tags") == 0) {
        return stored_tags(stored);
    }
    if (opt->flags & AGENT_OPT_LIST) {
        return stored_list(stored);
    }
    return g_steal_pointer(&stored);
}
