/* A container's file, turned into what liblxc reads: each line is one key of
 * liblxc's, whatever the values are. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/lxcconf.h"

#include <string.h>

static gboolean
knows_key(const char *key)
{
    return strcmp(key, "lxc.environment.runtime") != 0;
}

static void
check_lines(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        g_assert_true(**line == '\0' || g_str_has_prefix(*line, "lxc."));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const includes[] = {"common.conf", "userns.conf", NULL};
    g_autoptr(AgentGuestConf) conf =
        agent_guestconf_parse(100, (const char *)data, size, NULL);
    static const AgentNode tun = {.type = 'c', .major = 10, .minor = 200};
    g_autoptr(GHashTable) bridges = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) nodes = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    AgentLxcFacts facts = {.memory = AGENT_CGROUP_V2,
                           .cpu = AGENT_CGROUP_V1,
                           .cpuset = AGENT_CGROUP_V2,
                           .includes = includes,
                           .bridge_mtus = bridges,
                           .nodes = nodes,
                           .script_up = "/script",
                           .knows_key = knows_key};
    g_autofree char *text = NULL;
    g_autofree char *seccomp = NULL;

    /* Nobody acts on a file that cannot be parsed. */
    if (agent_guestconf_is_broken(conf, NULL)) {
        return 0;
    }
    g_hash_table_insert(bridges, (gpointer) "vmbr0", GUINT_TO_POINTER(1500));
    g_hash_table_insert(nodes, (gpointer) "/dev/net/tun", (gpointer)&tun);
    text = agent_lxcconf_generate(conf, &facts, warnings, &error);
    g_assert_true((text == NULL) == (error != NULL));
    if (text != NULL) {
        check_lines(text);
    }
    seccomp = agent_lxcconf_seccomp(conf, "2\ndenylist\n", TRUE);
    return 0;
}
