#include "config.h"

#include "common/names.h"

static void
test_nodes(void)
{
    static const char *const good[] = {"n1", "a", "a-b", "9"};
    static const char *const bad[] = {"", "-a", "a-", "a_b", "a.b", "a/b"};

    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(pve_name_is_node(good[i]));
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(pve_name_is_node(bad[i]));
    }
}

static void
test_guest_paths(void)
{
    static const struct {
        const char *path;
        guint32 id; /* 0: no guest path */
        PveGuestType type;
    } rows[] = {
        {"nodes/n1/lxc/100.conf", 100, PVE_GUEST_LXC},
        {"nodes/n1/qemu-server/5.conf", 5, PVE_GUEST_QEMU},
        {"nodes/ghost/openvz/4294967295.conf", 4294967295u, PVE_GUEST_OPENVZ},
        {"nodes/n1/lxc/4294967296.conf", 0, 0},
        {"nodes/n1/lxc/0200.conf", 0, 0},
        {"nodes/n1/lxc/5x.conf", 0, 0},
        {"nodes/n1/lxc/200.conf.tmp.5", 0, 0},
        {"nodes/n1/lxc/.conf", 0, 0},
        {"nodes/bad_node/lxc/200.conf", 0, 0},
        {"nodes/n1/priv/200.conf", 0, 0},
        {"nodes/n1/lxc/x/200.conf", 0, 0},
        {"nodes/n1/200.conf", 0, 0},
        {"nodes//lxc/200.conf", 0, 0},
        {"lxc/200.conf", 0, 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        PveGuestPath guest = {0};

        g_test_message("%s", rows[i].path);
        g_assert_cmpint(pve_guest_path_parse(rows[i].path, &guest), ==,
                        rows[i].id != 0);
        if (rows[i].id != 0) {
            g_autofree char *path =
                pve_guest_path_build(guest.node, guest.type, guest.id);

            g_assert_cmpuint(guest.id, ==, rows[i].id);
            g_assert_cmpint(guest.type, ==, rows[i].type);
            g_assert_cmpstr(path, ==, rows[i].path);
        }
    }
}

static void
test_ctids(void)
{
    g_assert_cmpuint(pve_ctid_parse("100"), ==, 100);
    g_assert_cmpuint(pve_ctid_parse("999999999"), ==, 999999999);
    g_assert_cmpuint(pve_ctid_parse("99"), ==, 0);
    g_assert_cmpuint(pve_ctid_parse("1000000000"), ==, 0);
    g_assert_cmpuint(pve_ctid_parse("0100"), ==, 0);
    g_assert_cmpuint(pve_ctid_parse("100x"), ==, 0);
    g_assert_cmpuint(pve_ctid_parse(""), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/names/nodes", test_nodes);
    g_test_add_func("/names/guest-paths", test_guest_paths);
    g_test_add_func("/names/ctids", test_ctids);
    return g_test_run();
}
