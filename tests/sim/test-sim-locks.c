/* Lock directories: who may take one from its holder, and when. */
#include "config.h"

#include "tests/sim/sim-cluster.h"

#include <errno.h>

#define LOCK "priv/lock/L"
#define START_TIME 1700000000u

static SimCluster *
new_cluster(void)
{
    SimCluster *c = sim_cluster_new(3, (guint32)g_test_rand_int());

    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "priv")), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "priv/lock")), ==,
                    0);
    g_assert_cmpint(sim_change(c, 1, cfs_op_new(CFS_OP_MKDIR, LOCK)), ==, 0);
    sim_run(c); /* every node has seen it */
    return c;
}

static const CfsEntry *
lock_of(SimCluster *c, guint node)
{
    return cfs_tree_lookup(cfs_replica_tree(sim_replica(c, node)), LOCK);
}

static gboolean
is_held(SimCluster *c)
{
    sim_run(c);
    sim_assert_equal_trees(c);
    return lock_of(c, 2) != NULL;
}

/* EACCES while it is there; the removal may come before our own utime. */
static void
ask(SimCluster *c, guint node)
{
    int verdict = sim_change(c, node, cfs_op_new_mtime(LOCK, 0));

    g_assert_true(verdict == EACCES || verdict == ENOENT);
    sim_run(c);
}

/* row: 8/expiry/120-s, row: 8/expiry/lowest-member-decides */
static void
test_expires(void)
{
    g_autoptr(SimCluster) c = new_cluster();

    sim_advance(c, 119000);
    ask(c, 2);
    sim_advance(c, 500);
    g_assert_true(is_held(c));
    sim_advance(c, 1000);
    g_assert_true(is_held(c)); /* only when somebody asks */
    ask(c, 2);
    g_assert_false(is_held(c)); /* at once: no grace was needed */
    g_assert_cmpint(sim_change(c, 2, cfs_op_new(CFS_OP_MKDIR, LOCK)), ==, 0);
}

/* The lowest member was restarted: its time began anew, the others' did not.
 * row: 8/expiry/grace */
static void
test_grace(void)
{
    g_autoptr(SimCluster) c = new_cluster();

    sim_advance(c, 60000);
    sim_stop(c, 0);
    sim_run(c);
    sim_start(c, 0);
    sim_run(c);
    sim_advance(c, 61000);
    ask(c, 2);
    g_assert_true(is_held(c));
    sim_advance(c, 1000);
    g_assert_true(is_held(c));
    sim_advance(c, 1000);
    g_assert_false(is_held(c));
}

/* A renewal within the grace keeps it. */
static void
test_renewed_within_grace(void)
{
    g_autoptr(SimCluster) c = new_cluster();

    sim_stop(c, 0);
    sim_advance(c, 60000);
    sim_start(c, 0);
    sim_run(c);
    sim_advance(c, 61000);
    ask(c, 2);
    g_assert_cmpint(
        sim_change(c, 1, cfs_op_new_mtime(LOCK, lock_of(c, 1)->mtime + 1)), ==,
        0);
    for (guint i = 0; i < 10; i++) {
        sim_advance(c, 1000);
        g_assert_true(is_held(c));
    }
}

/* row: 8/expiry/renewal-restarts, row: 8/utime/other-node */
static void
test_renewal(void)
{
    g_autoptr(SimCluster) c = new_cluster();
    guint32 mtime = lock_of(c, 1)->mtime;

    sim_advance(c, 100000);
    g_assert_cmpint(sim_change(c, 2, cfs_op_new_mtime(LOCK, mtime + 1)), ==,
                    EACCES);
    g_assert_cmpint(sim_change(c, 1, cfs_op_new_mtime(LOCK, mtime - 1)), ==,
                    EACCES);
    /* Clocks differ by up to 5 s here; this is more than 60 s ahead of all. */
    g_assert_cmpint(
        sim_change(c, 1, cfs_op_new_mtime(LOCK, START_TIME + 100 + 70)), ==,
        EACCES);
    g_assert_cmpint(sim_change(c, 1, cfs_op_new_mtime(LOCK, mtime + 1)), ==, 0);
    sim_run(c);
    sim_advance(c, 100000);
    ask(c, 2);
    g_assert_true(is_held(c));
    sim_advance(c, 21000);
    ask(c, 2);
    g_assert_false(is_held(c));
}

/* The deciding node is cut off, and updated by the others afterwards: its
 * times stay. row: 8/expiry/kept-over-transfer */
static void
test_transfer(void)
{
    g_autoptr(SimCluster) c = new_cluster();

    sim_advance(c, 60000);
    sim_split(c, "0|12");
    g_assert_cmpint(sim_write(c, 1, "f", "x"), ==, 0);
    sim_heal(c);
    sim_run(c);
    sim_assert_equal_trees(c);
    sim_advance(c, 61000);
    ask(c, 2);
    g_assert_false(is_held(c)); /* without the others' grace */
}

/* row: 8/expiry/non-empty-stays */
static void
test_non_empty(void)
{
    g_autoptr(SimCluster) c = new_cluster();

    g_assert_cmpint(sim_write(c, 1, LOCK "/file", "x"), ==, 0);
    sim_advance(c, 121000);
    ask(c, 2);
    sim_advance(c, 3000);
    g_assert_true(is_held(c));
}

static void
advance_by_ticks(SimCluster *c, guint ms)
{
    for (guint i = 0; i < ms; i += 250) {
        sim_advance(c, 250);
        sim_run(c);
    }
}

/* As the daemon does it: what is saved before the end is restored after the
 * start, so even the deciding node goes on counting.
 * row: 8/expiry/survives-restart */
static void
test_restart(void)
{
    g_autoptr(SimCluster) c = new_cluster();
    g_autofree char *saved = NULL, *again = NULL;

    advance_by_ticks(c, 60000);
    saved = cfs_replica_save_locks(sim_replica(c, 0));
    g_assert_nonnull(saved);
    again = cfs_replica_save_locks(sim_replica(c, 0));
    g_assert_null(again); /* nothing has changed since */
    sim_stop(c, 0);
    sim_start_with_locks(c, 0, saved);
    sim_run(c);
    advance_by_ticks(c, 61000);
    ask(c, 2);
    g_assert_false(is_held(c));
}

/* Texts that are not ours, and times that have not come yet. */
static void
test_bad_saves(void)
{
    static const char *const texts[] = {
        "",
        "\n\n\n",
        "x y z\n",
        "-5 00 priv/lock/L\n",
        "99999999999999999999 00 priv/lock/L\n",
        "5 zz%zz %zz\n",
        "5 0123456789012345678901234567890123456789012345678901234567890123\n",
    };

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(SimCluster) c = new_cluster();

        sim_stop(c, 0);
        sim_start_with_locks(c, 0, texts[i]);
        sim_run(c);
        ask(c, 0);
        g_assert_true(is_held(c));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-locks/expires", test_expires);
    g_test_add_func("/sim-locks/grace", test_grace);
    g_test_add_func("/sim-locks/renewed-within-grace",
                    test_renewed_within_grace);
    g_test_add_func("/sim-locks/renewal", test_renewal);
    g_test_add_func("/sim-locks/transfer", test_transfer);
    g_test_add_func("/sim-locks/non-empty", test_non_empty);
    g_test_add_func("/sim-locks/restart", test_restart);
    g_test_add_func("/sim-locks/bad-saves", test_bad_saves);
    return g_test_run();
}
