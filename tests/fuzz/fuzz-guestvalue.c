/* `key: value` of an option, as the command line gives it: what is taken is
 * taken again in its stored form, and stays one line. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/guestconf.h"
#include "agent/core/guestopts.h"
#include "agent/core/propstring.h"

#include <string.h>

static void
check_mount(const char *key, const char *value)
{
    g_autoptr(AgentMount) mount = agent_mount_parse(key, value, NULL);
    g_autoptr(AgentMount) again = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *once = NULL;
    g_autofree char *twice = NULL;

    if (mount == NULL) {
        return;
    }
    once = agent_mount_format(mount);
    again = agent_mount_parse(key, once, &error);
    g_assert_no_error(error);
    g_assert_cmpint(again->kind, ==, mount->kind);
    g_assert_cmpstr(again->volume, ==, mount->volume);
    g_assert_cmpstr(again->mp, ==, mount->mp);
    twice = agent_mount_format(again);
    g_assert_cmpstr(once, ==, twice);
}

static void
check_net(const char *key, const char *value)
{
    g_autoptr(AgentNet) net = agent_net_parse(key, value, NULL);
    g_autoptr(AgentNet) again = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *once = NULL;
    g_autofree char *twice = NULL;

    if (net == NULL) {
        return;
    }
    once = agent_net_format(net);
    again = agent_net_parse(key, once, &error);
    g_assert_no_error(error);
    twice = agent_net_format(again);
    g_assert_cmpstr(once, ==, twice);
}

static void
check_option(const char *key, const char *value)
{
    g_autofree char *stored = agent_guestconf_check(key, value, NULL);
    g_autofree char *again = NULL;
    g_autoptr(GError) error = NULL;

    if (stored == NULL) {
        return;
    }
    again = agent_guestconf_check(key, stored, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(stored, ==, again);
    if (strcmp(key, "description") != 0) {
        g_assert_null(strpbrk(stored, "\r\n"));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *key = g_strndup((const char *)data, size);
    char *value = strstr(key, ": ");
    g_auto(GStrv) list = NULL;

    if (value == NULL) {
        return 0;
    }
    *value = '\0';
    value += strlen(": ");
    list = agent_list_split(value);
    g_assert_cmpuint(g_strv_length(list), <=, size);
    check_option(key, value);
    if (strcmp(key, "rootfs") == 0 ||
        agent_guestopt_index(key, "mp", 256) >= 0) {
        check_mount(key, value);
    }
    if (agent_guestopt_index(key, "net", 32) >= 0) {
        check_net(key, value);
    }
    return 0;
}
