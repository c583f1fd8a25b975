#include "config.h"

#include "pmxcfs/core/access.h"

#include <errno.h>
#include <string.h>

static void
test_modes(void)
{
    static const struct {
        const char *path;
        gboolean is_directory;
        mode_t with, without;
    } rows[] = {
        {"", TRUE, 0755, 0755},
        {"nodes", TRUE, 0755, 0555},
        {"storage.cfg", FALSE, 0640, 0440},
        {"priv", TRUE, 0700, 0500},
        {"priv/a/b", FALSE, 0600, 0400},
        {"privat", FALSE, 0640, 0440},
        {"nodes/n1/priv", TRUE, 0700, 0500},
        {"nodes/n1/priv/x", FALSE, 0600, 0400},
        {"nodes/n1/lxc/priv", TRUE, 0755, 0555},
        {"nodes/n1/openvz/101.mount", FALSE, 0740, 0540},
        {"vps.start", FALSE, 0740, 0540},
        {"x.start", FALSE, 0640, 0440},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].path);
        g_assert_cmpuint(
            cfs_access_mode(rows[i].path, rows[i].is_directory, TRUE), ==,
            rows[i].with);
        g_assert_cmpuint(
            cfs_access_mode(rows[i].path, rows[i].is_directory, FALSE), ==,
            rows[i].without);
    }
}

static void
make(CfsTree *tree, CfsOpKind kind, const char *path)
{
    g_autoptr(CfsOp) op = cfs_op_new(kind, path);

    g_assert_cmpint(cfs_tree_apply(tree, op, 0, 1, NULL), ==, 0);
}

static int
check(CfsTree *tree, CfsOp *take)
{
    g_autoptr(CfsOp) op = take;
    gboolean done = FALSE;

    return cfs_access_check_send(tree, op, &done);
}

static void
test_sending(void)
{
    g_autoptr(CfsTree) tree = cfs_tree_new(1);
    g_autofree char *long_name = g_strnfill(256, 'x');
    gboolean done = FALSE;
    g_autoptr(CfsOp) same = cfs_op_new_rename("f", "f");
    g_autoptr(CfsOp) grow = cfs_op_new_truncate("f", 10);

    make(tree, CFS_OP_MKDIR, "full");
    make(tree, CFS_OP_CREATE, "full/f");
    make(tree, CFS_OP_MKDIR, "empty");
    make(tree, CFS_OP_CREATE, "f");

    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_CREATE, "local")), ==,
                    EACCES);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_DELETE, ".version")), ==,
                    EACCES);
    g_assert_cmpint(check(tree, cfs_op_new_rename("f", "lxc")), ==, EACCES);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_MKDIR, long_name)), ==,
                    ENAMETOOLONG);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_CREATE, "a\nb")), ==, EINVAL);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_CREATE, "\xff\xfe")), ==,
                    EINVAL);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_CREATE, "\xc3\xa4")), ==, 0);
    g_assert_cmpint(check(tree, cfs_op_new(CFS_OP_CREATE, "nodes/n1/lxc")), ==,
                    EINVAL);
    g_assert_cmpint(
        check(tree, cfs_op_new(CFS_OP_MKDIR, "nodes/n1/lxc/100.conf")), ==,
        EINVAL);
    g_assert_cmpint(check(tree, cfs_op_new_rename("full", "empty")), ==,
                    ENOTEMPTY);
    g_assert_cmpint(check(tree, cfs_op_new_rename("empty", "f")), ==, ENOTDIR);
    g_assert_cmpint(check(tree, cfs_op_new_rename("f", "empty")), ==, EISDIR);
    g_assert_cmpint(check(tree, cfs_op_new_rename("empty", "empty/x")), ==,
                    EINVAL);
    g_assert_cmpint(
        check(tree, cfs_op_new_rename("empty", "nodes/n1/lxc/7.conf")), ==,
        EINVAL);

    g_assert_cmpint(cfs_access_check_send(tree, same, &done), ==, 0);
    g_assert_true(done);

    /* A growing truncate of an empty file leaves as a write of zeros. */
    g_assert_cmpint(cfs_access_check_send(tree, grow, &done), ==, 0);
    g_assert_false(done);
    g_assert_false(grow->truncate);
    g_assert_cmpuint(grow->offset, ==, 0);
    g_assert_cmpuint(g_bytes_get_size(grow->data), ==, 10);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/access/modes", test_modes);
    g_test_add_func("/access/sending", test_sending);
    return g_test_run();
}
