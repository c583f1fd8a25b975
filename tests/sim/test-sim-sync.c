/* The scenarios of spec/replication.md 14 that the thin whole reaches, each as
 * a short story. */
#include "config.h"

#include "tests/sim/sim-cluster.h"

#include <errno.h>
#include <string.h>

static guint32
seed(void)
{
    return (guint32)g_test_rand_int();
}

static char *
content(SimCluster *c, guint node, const char *path)
{
    const CfsEntry *entry =
        cfs_tree_lookup(cfs_replica_tree(sim_replica(c, node)), path);
    char *text;

    if (entry == NULL) {
        return NULL;
    }
    text = g_malloc0(entry->size + 1);
    cfs_entry_read(entry, 0, entry->size, (guint8 *)text);
    return text;
}

static void
assert_content(SimCluster *c, guint node, const char *path, const char *text)
{
    g_autofree char *found = content(c, node, path);

    g_assert_cmpstr(found, ==, text);
}

/* The part without quorum refuses; after healing all trees are the same. */
static void
test_minority_cannot_write(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

    sim_split(c, "01|2");
    g_assert_cmpint(sim_write(c, 0, "storage.cfg", "dir: a\n"), ==, 0);
    g_assert_cmpint(sim_write(c, 2, "storage.cfg", "dir: b\n"), ==, EACCES);
    sim_heal(c);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 2, "storage.cfg", "dir: a\n");
}

/* 14.2: a node without a database gets everything. */
static void
test_empty_node_joins(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

    for (guint i = 0; i < 50; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i);

        g_assert_cmpint(sim_write(c, i % 3, path, path), ==, 0);
    }
    sim_stop(c, 1);
    sim_wipe(c, 1);
    sim_start(c, 1);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 1, "f49", "f49");
}

/* 14.3: delete, change, create and rename elsewhere. */
static void
test_older_node_joins(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

    g_assert_cmpint(sim_write(c, 0, "gone", "x"), ==, 0);
    g_assert_cmpint(sim_write(c, 0, "changed", "x"), ==, 0);
    g_assert_cmpint(sim_write(c, 0, "moved", "x"), ==, 0);
    sim_stop(c, 2);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_DELETE, "gone")), ==, 0);
    g_assert_cmpint(sim_write(c, 1, "changed", "y"), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new_rename("moved", "new")), ==, 0);
    g_assert_cmpint(sim_write(c, 0, "created", "z"), ==, 0);
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 2, "gone", NULL);
    assert_content(c, 2, "changed", "y");
    assert_content(c, 2, "new", "x");
}

/* 14.11: the leader dies while it sends; the next one sends all again. */
static void
test_leader_dies(void)
{
    for (guint i = 0; i < 40; i++) {
        g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

        for (guint k = 0; k < 10; k++) {
            g_autofree char *path = g_strdup_printf("f%u", k);

            g_assert_cmpint(sim_write(c, 0, path, path), ==, 0);
        }
        sim_stop(c, 2);
        sim_wipe(c, 2);
        sim_start(c, 2);
        for (guint k = 0; k < i; k++) {
            sim_step(c);
        }
        sim_crash(c, 0);
        sim_run(c);
        sim_assert_equal_trees(c);
        assert_content(c, 2, "f9", "f9");
        sim_start(c, 0);
        sim_run(c);
        sim_assert_equal_trees(c);
    }
}

/* 14.13: exactly one winner. */
static void
test_one_creator(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

    for (guint i = 0; i < 60; i++) {
        g_autofree char *path = g_strdup_printf("lock%u", i);

        for (guint node = 0; node < 3; node++) {
            sim_submit(c, node, cfs_op_new(CFS_OP_MKDIR, path));
        }
    }
    sim_run(c);
    g_assert_cmpuint(sim_n_replies(c, 0), ==, 60);
    g_assert_cmpuint(sim_n_replies(c, EEXIST), ==, 120);
    sim_assert_equal_trees(c);
}

/* A change that waits while members synchronise is sent afterwards. */
static void
test_held_while_syncing(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());

    sim_stop(c, 2);
    sim_run(c);
    sim_start(c, 2);
    sim_submit(c, 2, cfs_op_new(CFS_OP_CREATE, "early"));
    sim_run(c);
    g_assert_cmpuint(sim_n_replies(c, 0), ==, 1);
    assert_content(c, 0, "early", "");
    sim_assert_equal_trees(c);
}

/* The same id on two nodes: the second is refused wherever it is made. */
static void
test_one_guest(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());
    static const char *const made[] = {"nodes", "nodes/n1", "nodes/n2",
                                       "nodes/n1/lxc", "nodes/n2/lxc"};

    for (guint i = 0; i < G_N_ELEMENTS(made); i++) {
        g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, made[i])), ==,
                        0);
    }
    sim_submit(c, 0, cfs_op_new(CFS_OP_CREATE, "nodes/n1/lxc/100.conf"));
    sim_submit(c, 1, cfs_op_new(CFS_OP_CREATE, "nodes/n2/lxc/100.conf"));
    sim_run(c);
    g_assert_cmpuint(sim_n_replies(c, EEXIST), ==, 1);
    sim_assert_equal_trees(c);
}

/* 8: a lock held for 120 s goes when somebody asks, not before. */
static void
test_lock_expires(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());
    int verdict;

    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "priv")), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "priv/lock")), ==,
                    0);
    g_assert_cmpint(sim_change(c, 1, cfs_op_new(CFS_OP_MKDIR, "priv/lock/L")),
                    ==, 0);
    sim_run(c); /* every node has seen it */
    sim_advance(c, 110000);
    g_assert_cmpint(sim_change(c, 2, cfs_op_new_mtime("priv/lock/L", 0)), ==,
                    EACCES);
    sim_run(c);
    g_assert_nonnull(
        cfs_tree_lookup(cfs_replica_tree(sim_replica(c, 2)), "priv/lock/L"));
    sim_advance(c, 11000);
    /* The removal may come before our own utime: then it finds nothing. */
    verdict = sim_change(c, 2, cfs_op_new_mtime("priv/lock/L", 0));
    g_assert_true(verdict == EACCES || verdict == ENOENT);
    sim_run(c);
    g_assert_null(
        cfs_tree_lookup(cfs_replica_tree(sim_replica(c, 2)), "priv/lock/L"));
    sim_assert_equal_trees(c);
}

/* Two truncates that cross make a size without content, which has a digest of
 * its own; a joiner must get it so, not as zeros (spec/replication.md 12.1). */
static void
test_size_without_content(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());
    const CfsEntry *entry;

    g_assert_cmpint(sim_write(c, 0, "f", "0123456789"), ==, 0);
    sim_run(c);
    sim_submit(c, 0, cfs_op_new_truncate("f", 0));
    sim_submit(c, 1, cfs_op_new_truncate("f", 5));
    sim_submit(c, 0, cfs_op_new_truncate("f", 0));
    sim_submit(c, 1, cfs_op_new_truncate("f", 5));
    sim_run(c);
    sim_assert_equal_trees(c);
    sim_submit(c, 0, cfs_op_new_truncate("f", 3));
    sim_run(c);
    sim_stop(c, 2);
    sim_wipe(c, 2);
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    entry = cfs_tree_lookup(cfs_replica_tree(sim_replica(c, 2)), "f");
    g_assert_cmpuint(entry->size, <=, 5);
}

/* Bytes that are no message: dropped or resynced, never divergence. */
static void
test_hostile_messages(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new(3, seed());
    GRand *rand = sim_rand(c);

    g_assert_cmpint(sim_write(c, 0, "f", "x"), ==, 0);
    for (guint i = 0; i < 300; i++) {
        gsize size = (gsize)g_rand_int_range(rand, 0, 100);
        guint8 *bytes = g_malloc0(size + 1);
        g_autoptr(GBytes) message = NULL;

        for (gsize k = 0; k < size; k++) {
            bytes[k] = (guint8)(g_rand_boolean(rand) ? 0 : g_rand_int(rand));
        }
        if (size > 7) {
            bytes[0] = (guint8)g_rand_int_range(rand, 0, 8);
            bytes[1] = 0;
            /* A newer protocol would take members out for good. */
            memcpy(bytes + 4, "\1\0\0\0", 4);
        }
        message = g_bytes_new_take(bytes, size);
        sim_inject(c, 1, message);
        sim_run(c);
    }
    sim_advance(c, 60000);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 2, "f", "x");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-sync/minority", test_minority_cannot_write);
    g_test_add_func("/sim-sync/empty-node", test_empty_node_joins);
    g_test_add_func("/sim-sync/older-node", test_older_node_joins);
    g_test_add_func("/sim-sync/leader-dies", test_leader_dies);
    g_test_add_func("/sim-sync/one-creator", test_one_creator);
    g_test_add_func("/sim-sync/held", test_held_while_syncing);
    g_test_add_func("/sim-sync/one-guest", test_one_guest);
    g_test_add_func("/sim-sync/lock-expires", test_lock_expires);
    g_test_add_func("/sim-sync/size-without-content",
                    test_size_without_content);
    g_test_add_func("/sim-sync/hostile", test_hostile_messages);
    return g_test_run();
}
