/* A node whose database had to be repaired (spec/filesystem.md 1.6): any copy
 * that is whole wins; where there is none, what was saved is what there is, and
 * no number is given out twice. */
#include "config.h"

#include <string.h>

#include "tests/sim/sim-cluster.h"

static guint32
seed(void)
{
    return (guint32)g_test_rand_int();
}

static void
assert_content(SimCluster *c, guint node, const char *path, const char *text)
{
    const CfsEntry *entry =
        cfs_tree_lookup(cfs_replica_tree(sim_replica(c, node)), path);
    guint8 found[64] = {0};

    if (text == NULL) {
        g_assert_null(entry);
        return;
    }
    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->size, <, sizeof(found));
    cfs_entry_read(entry, 0, entry->size, found);
    g_assert_cmpstr((const char *)found, ==, text);
}

static guint64
version_of(SimCluster *c, guint node)
{
    return cfs_tree_root(cfs_replica_tree(sim_replica(c, node)))->version;
}

/* Every inode below the tree's version: the next one is free. */
static void
assert_numbers(SimCluster *c, guint node)
{
    CfsTree *tree = cfs_replica_tree(sim_replica(c, node));
    g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);

        g_assert_cmpuint(entry->inode, <=, cfs_tree_root(tree)->version);
        g_assert_cmpuint(entry->version, <=, cfs_tree_root(tree)->version);
    }
}

static SimCluster *
make_cluster(void)
{
    SimCluster *c = sim_cluster_new(3, seed());

    for (guint i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i);

        g_assert_cmpint(sim_write(c, i % 3, path, path), ==, 0);
    }
    sim_run(c);
    return c;
}

/* In whatever order they start, the whole copies win. */
static void
test_one_of_three(void)
{
    static const guint orders[][3] = {{0, 1, 2}, {2, 0, 1}, {1, 2, 0}};

    for (guint i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_autoptr(SimCluster) c = make_cluster();
        guint64 version = version_of(c, 0);

        for (guint n = 0; n < 3; n++) {
            sim_stop(c, n);
        }
        sim_spoil(c, 0, "f3");
        for (guint n = 0; n < 3; n++) {
            sim_start(c, orders[i][n]);
            sim_run(c);
        }
        sim_assert_equal_trees(c);
        assert_content(c, 0, "f3", "f3");
        g_assert_cmpuint(version_of(c, 0), ==, version);
        g_assert_cmpint(sim_write(c, 0, "more", "x"), ==, 0);
        assert_numbers(c, 0);
    }
}

/* It comes back to a cluster that went on without it. */
static void
test_rejoins(void)
{
    g_autoptr(SimCluster) c = make_cluster();

    sim_stop(c, 2);
    g_assert_cmpint(sim_write(c, 0, "meanwhile", "x"), ==, 0);
    sim_spoil(c, 2, "f3");
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 2, "meanwhile", "x");
    assert_content(c, 2, "f3", "f3");
}

/* Nobody has a whole copy: what was saved stays, and counts on above all. */
static void
test_all_spoiled(void)
{
    g_autoptr(SimCluster) c = make_cluster();
    guint64 version = version_of(c, 0);

    for (guint n = 0; n < 3; n++) {
        sim_stop(c, n);
    }
    sim_spoil(c, 0, "f3");
    sim_spoil(c, 1, "f4");
    sim_spoil(c, 2, "f3");
    for (guint n = 0; n < 3; n++) {
        sim_start(c, n);
    }
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 1, "f19", "f19");
    for (guint n = 0; n < 3; n++) {
        sim_submit(c, n, cfs_op_new(CFS_OP_MKDIR, n == 0 ? "a" : "b"));
    }
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_cmpuint(version_of(c, 1), ==, version + 2);
    assert_numbers(c, 1);
    assert_content(c, 1, "f19", "f19");
}

/* The others are new: an empty tree must not become the truth. A member that
 * joins between the first changes counts as the others do. */
static void
test_others_new(void)
{
    g_autoptr(SimCluster) c = make_cluster();
    guint64 version = version_of(c, 0);

    for (guint n = 0; n < 3; n++) {
        sim_stop(c, n);
    }
    sim_spoil(c, 1, "f3");
    sim_wipe(c, 0);
    sim_wipe(c, 2);
    sim_start(c, 0);
    sim_run(c);
    sim_start(c, 1);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 0, "f19", "f19");
    assert_content(c, 0, "f3", NULL);
    g_assert_cmpint(sim_write(c, 0, "f19", "new"), ==, 0);
    sim_start(c, 2);
    g_assert_cmpint(sim_write(c, 1, "f18", "new"), ==, 0);
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_cmpuint(version_of(c, 2), ==, version + 2);
    assert_numbers(c, 2);
    assert_content(c, 2, "f18", "new");
    assert_content(c, 2, "f19", "new");
}

/* Waiting alone raises nothing: the whole copy that comes late still wins. */
static void
test_whole_copy_comes_late(void)
{
    g_autoptr(SimCluster) c = make_cluster();

    for (guint n = 0; n < 3; n++) {
        sim_stop(c, n);
    }
    sim_spoil(c, 0, "f3");
    sim_spoil(c, 1, "f4");
    sim_start(c, 0);
    sim_start(c, 1);
    sim_run(c);
    sim_advance(c, 60000);
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    assert_content(c, 0, "f3", "f3");
    assert_content(c, 0, "f4", "f4");
    g_assert_cmpint(sim_write(c, 1, "more", "x"), ==, 0);
    assert_numbers(c, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-repair/one-of-three", test_one_of_three);
    g_test_add_func("/sim-repair/rejoins", test_rejoins);
    g_test_add_func("/sim-repair/all-spoiled", test_all_spoiled);
    g_test_add_func("/sim-repair/others-new", test_others_new);
    g_test_add_func("/sim-repair/whole-copy-late", test_whole_copy_comes_late);
    return g_test_run();
}
