#include "config.h"

#include "agent/core/transfer.h"

#include <string.h>

static void
check(const char *text, const char *expected)
{
    g_autofree char *id = agent_transfer_header_parse(text, strlen(text));

    g_assert_cmpstr(id, ==, expected);
}

static void
test_parse(void)
{
    check("pve-lxc-transfer 1\nvolume: local:1/a b.raw\n\n", "local:1/a b.raw");
    check("pve-lxc-transfer 2\nvolume: local:1/a.raw\n\n", NULL);
    check("pve-lxc-transfer 1\nvolume: \n\n", NULL);
    check("pve-lxc-transfer 1\nvolume: a\nvolume: b\n\n", NULL);
    check("pve-lxc-transfer 1\nvolume: local:1/a.raw\n", NULL);
    check("\n\n", NULL);
    check("", NULL);
}

static void
test_round_trip(void)
{
    g_autofree char *text = agent_transfer_header("local:1/a.raw");

    check(text, "local:1/a.raw");
    for (gsize n = 0; n < strlen(text); n++) {
        g_assert_false(agent_transfer_header_is_whole(text, n));
    }
    g_assert_true(agent_transfer_header_is_whole(text, strlen(text)));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/transfer/parse", test_parse);
    g_test_add_func("/transfer/round-trip", test_round_trip);
    return g_test_run();
}
