#include "config.h"

#include "agent/core/guestos.h"

static void
test_type(void)
{
    g_assert_cmpstr(agent_guestos_type("NAME=x\nID=debian\n"), ==, "debian");
    g_assert_cmpstr(agent_guestos_type("ID=\"rocky\"\nID_LIKE=rhel\n"), ==,
                    "centos");
    g_assert_cmpstr(agent_guestos_type("ID=fedora\nID='arch'"), ==,
                    "archlinux");
    g_assert_null(agent_guestos_type("ID=plan9\n"));
    g_assert_null(agent_guestos_type(""));
}

static void
test_arch(void)
{
    guint8 elf[20] = {0x7f, 'E', 'L', 'F', 2, 1};

    elf[18] = 62;
    g_assert_cmpstr(agent_guestos_arch(elf, sizeof(elf)), ==, "amd64");
    elf[18] = 243;
    g_assert_cmpstr(agent_guestos_arch(elf, sizeof(elf)), ==, "riscv64");
    elf[4] = 1;
    g_assert_cmpstr(agent_guestos_arch(elf, sizeof(elf)), ==, "riscv32");
    g_assert_null(agent_guestos_arch(elf, 19));
    elf[0] = '#';
    g_assert_null(agent_guestos_arch(elf, sizeof(elf)));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guestos/type", test_type);
    g_test_add_func("/guestos/arch", test_arch);
    return g_test_run();
}
