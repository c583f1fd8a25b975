#include "config.h"

#include "agent/core/ctid.h"

#include <string.h>

static void
test_lowest_free(void)
{
    g_autoptr(GHashTable) taken = agent_ctid_set_new();

    g_assert_cmpuint(agent_ctid_next(taken, 100, 102), ==, 100);
    agent_ctid_set_add(taken, 100);
    g_assert_cmpuint(agent_ctid_next(taken, 100, 102), ==, 101);
    agent_ctid_set_add(taken, 101);
    g_assert_cmpuint(agent_ctid_next(taken, 100, 102), ==, 0);
}

static void
test_vmlist(void)
{
    static const char text[] =
        "{\n\"version\": 7,\n\"ids\": {\n"
        "\"100\": { \"node\": \"n1\", \"type\": \"lxc\", \"version\": 3 },\n"
        "\"102\": { \"node\": \"101\", \"type\": \"qemu\", \"version\": 4 }}\n"
        "}\n";
    g_autoptr(GHashTable) taken = agent_ctid_set_new();

    g_assert_true(agent_ctid_set_add_vmlist(taken, text, strlen(text)));
    g_assert_cmpuint(g_hash_table_size(taken), ==, 2);
    g_assert_cmpuint(agent_ctid_next(taken, 100, 1000), ==, 101);
    g_assert_false(agent_ctid_set_add_vmlist(taken, "{}", 2));
}

static void
check_range(const char *text, guint32 lower, guint32 upper)
{
    guint32 l = 0, u = 0;

    agent_ctid_range(text, strlen(text), &l, &u);
    g_assert_cmpuint(l, ==, lower);
    g_assert_cmpuint(u, ==, upper);
}

static void
test_range(void)
{
    check_range("", 100, 1000000);
    check_range("keyboard: de\nnext-id: lower=200,upper=300\n", 200, 300);
    check_range("next-id: upper=500", 100, 500);
    check_range("next-id: lower=300,upper=200\n", 100, 1000000);
    check_range("next-id: lower=x,upper=-1\n", 100, 1000000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ctid/lowest-free", test_lowest_free);
    g_test_add_func("/ctid/vmlist", test_vmlist);
    g_test_add_func("/ctid/range", test_range);
    return g_test_run();
}
