/* Terms, barriers and appends (docs/replication.md), each rule as a short
 * story. */
#include "config.h"

#include "tests/sim/sim-cluster.h"

#include <errno.h>
#include <string.h>

static guint32
seed(void)
{
    return (guint32)g_test_rand_int();
}

static CfsTree *
tree_of(SimCluster *c, guint node)
{
    return cfs_replica_tree(sim_replica(c, node));
}

static guint64
term_of(SimCluster *c, guint node)
{
    return cfs_replica_term_record(sim_replica(c, node))->term;
}

static gboolean
has(SimCluster *c, guint node, const char *path)
{
    return cfs_tree_lookup(tree_of(c, node), path) != NULL;
}

/* A started cluster whose members offer @features. */
static SimCluster *
cluster_with(guint n, guint64 features)
{
    SimCluster *c = sim_cluster_new_stopped(n, seed());

    for (guint i = 0; i < n; i++) {
        sim_set_features(c, i, features);
        sim_start(c, i);
    }
    sim_run(c);
    return c;
}

/* --- what terms cure ------------------------------------------------------ */

/* Node 3 is cut off under load: it goes on for some versions, by what it had
 * sent itself. The other two make a directory. Returns whether that survives
 * the healing. */
static gboolean
cut_and_heal(SimCluster *c)
{
    gboolean is_kept;

    g_assert_cmpint(sim_write(c, 0, "log", ""), ==, 0);
    sim_run(c);
    sim_split(c, "01|2");
    sim_run(c);
    /* Its votes are enough, its administrator says (expected votes). */
    sim_force_quorum(c, 2);
    for (guint i = 0; i < 20; i++) {
        g_assert_cmpint(sim_write(c, 2, "log", "counts on"), ==, 0);
    }
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "made")), ==, 0);
    sim_heal(c);
    sim_run(c);
    is_kept = has(c, 0, "made") && has(c, 1, "made") && has(c, 2, "made");
    sim_assert_equal_trees(c);
    return is_kept;
}

static void
test_erased_without(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, 0);

    g_assert_false(cut_and_heal(c));
}

static void
test_kept_with(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);

    g_assert_true(cut_and_heal(c));
    /* The majority's term, and the whole cluster's. */
    g_assert_cmpuint(term_of(c, 0), >=, 3);
    g_assert_cmpuint(term_of(c, 2), ==, term_of(c, 0));
}

/* The same with nobody's votes lowered: only by messages that the cut-off node
 * alone still got. */
static void
test_kept_under_load(void)
{
    for (guint run = 0; run < 30; run++) {
        g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);

        g_assert_cmpint(sim_write(c, 2, "log", "x"), ==, 0);
        for (guint i = 0; i < 30; i++) {
            g_autoptr(GBytes) data = g_bytes_new_static("y", 1);

            sim_submit(c, 2, cfs_op_new_write("log", data, 0));
        }
        for (guint i = 0; i < run * 4; i++) {
            sim_step(c);
        }
        sim_split(c, "01|2");
        g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "made")), ==,
                        0);
        sim_run(c);
        sim_heal(c);
        sim_run(c);
        g_assert_true(has(c, 2, "made"));
        sim_assert_equal_trees(c);
        sim_assert_no_reply_lost(c);
    }
}

/* --- terms ---------------------------------------------------------------- */

static void
test_restart_keeps_term(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
    guint64 before = term_of(c, 0);

    for (guint i = 0; i < 3; i++) {
        sim_stop(c, i);
    }
    for (guint i = 0; i < 3; i++) {
        sim_start(c, i);
    }
    sim_run(c);
    g_assert_cmpuint(term_of(c, 0), >, before);
    sim_assert_equal_trees(c);
}

/* Two of four are no majority: they go on, and begin nothing. */
static void
test_half_begins_no_term(void)
{
    g_autoptr(SimCluster) c = cluster_with(4, CFS_FEATURES_ALL);
    guint64 before = term_of(c, 0);
    CfsSyncLevel level;

    sim_split(c, "01|23");
    sim_run(c);
    g_assert_cmpuint(term_of(c, 0), ==, before);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, EIO);
    sim_force_quorum(c, 0); /* an administrator lowers the votes */
    sim_force_quorum(c, 1);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_LOCAL);
}

/* A reference peer in the group: it is waited for as always, and ours lead
 * while they are a majority. */
static void
test_reference_peer(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new_stopped(3, seed());
    CfsSyncLevel level;

    sim_set_features(c, 2, 0);
    for (guint i = 0; i < 3; i++) {
        sim_start(c, i);
    }
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_cmpuint(term_of(c, 0), >, 0);
    g_assert_cmpuint(term_of(c, 2), ==, 0);
    g_assert_cmpint(sim_write(c, 2, "f", "x"), ==, 0);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_MAJORITY);

    sim_split(c, "01|2");
    sim_run(c);
    sim_force_quorum(c, 2);
    for (guint i = 0; i < 20; i++) {
        g_assert_cmpint(sim_write(c, 2, "f", "counts on"), ==, 0);
    }
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "made")), ==, 0);
    sim_heal(c);
    sim_run(c);
    g_assert_true(has(c, 2, "made"));
    sim_assert_equal_trees(c);
}

/* One of ours among reference peers follows their rule. */
static void
test_reference_majority(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new_stopped(3, seed());
    CfsSyncLevel level;

    sim_set_features(c, 1, 0);
    sim_set_features(c, 2, 0);
    for (guint i = 0; i < 3; i++) {
        sim_start(c, i);
    }
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_cmpuint(term_of(c, 0), ==, 0);
    g_assert_cmpint(sim_write(c, 0, "f", "x"), ==, 0);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_LOCAL);
}

/* --- barriers ------------------------------------------------------------- */

static void
test_majority(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
    CfsSyncLevel level;

    g_assert_cmpint(sim_write(c, 0, "f", "safe"), ==, 0);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_MAJORITY);
    /* Power fails everywhere, and one disk is gone for good. */
    for (guint i = 0; i < 3; i++) {
        sim_crash(c, i);
    }
    sim_wipe(c, 0);
    for (guint i = 0; i < 3; i++) {
        sim_start(c, i);
    }
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_true(has(c, 0, "f"));
}

static void
test_level_alone(void)
{
    g_autoptr(SimCluster) one = cluster_with(1, CFS_FEATURES_ALL);
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
    CfsSyncLevel level;

    g_assert_cmpint(sim_sync(one, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_MAJORITY);

    sim_split(c, "0|12");
    sim_run(c);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, EIO); /* not quorate */
    sim_force_quorum(c, 0);
    g_assert_cmpint(sim_sync(c, 0, &level), ==, 0);
    g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_LOCAL);
}

/* A hundred that ask at once cost a few messages, not a hundred. */
static void
test_coalesced(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
    guint64 flushes, acks;

    g_assert_cmpint(sim_write(c, 0, "f", "x"), ==, 0);
    for (guint i = 0; i < 100; i++) {
        sim_submit_sync(c, 0);
        sim_submit_sync(c, 1);
    }
    sim_run(c);
    sim_assert_no_reply_lost(c);
    flushes = sim_n_sent(c, CFS_OURS_FLUSH);
    acks = sim_n_sent(c, CFS_OURS_ACK);
    g_assert_cmpuint(flushes, >=, 2);
    g_assert_cmpuint(flushes, <=, 6);
    g_assert_cmpuint(acks, <=, 18);
}

/* A barrier that a change of members crosses is answered by the new group, or
 * fails where its node lost quorum; never lost. */
static void
test_crosses_change(void)
{
    for (guint run = 0; run < 40; run++) {
        g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
        guint64 done;

        g_assert_cmpint(sim_write(c, 0, "f", "x"), ==, 0);
        sim_run(c);
        done = sim_n_replies(c, 0);
        sim_submit_sync(c, 0);
        for (guint i = 0; i < run; i++) {
            sim_step(c);
        }
        sim_split(c, "01|2");
        sim_run(c);
        g_assert_cmpuint(sim_n_replies(c, 0), ==, done + 1);
        sim_heal(c);
        sim_run(c);
        sim_assert_no_reply_lost(c);
    }
}

/* The node whose change is overruled hears so. */
static void
test_overruled(void)
{
    for (guint run = 0; run < 60; run++) {
        g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
        CfsSyncLevel level;

        g_assert_cmpint(sim_write(c, 2, "f", "x"), ==, 0);
        sim_run(c);
        sim_split(c, "01|2");
        sim_run(c);
        sim_force_quorum(c, 2);
        g_assert_cmpint(sim_write(c, 2, "mine", "y"), ==, 0);
        g_assert_cmpint(sim_write(c, 0, "theirs", "z"), ==, 0);
        sim_submit_sync(c, 2); /* local: may be done before the healing */
        for (guint i = 0; i < run; i++) {
            sim_step(c);
        }
        sim_heal(c);
        sim_run(c);
        sim_assert_no_reply_lost(c);
        g_assert_false(has(c, 2, "mine"));
        g_assert_true(has(c, 2, "theirs"));
        g_assert_cmpint(sim_sync(c, 2, &level), ==, 0);
        g_assert_cmpint(level, ==, CFS_SYNC_LEVEL_MAJORITY);
    }
}

/* What an fsync covered survives every fault that leaves a majority of disks,
 * wherever it comes from. */
static void
test_safe_under_faults(void)
{
    for (guint run = 0; run < 60; run++) {
        g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);
        GRand *rand = sim_rand(c);
        CfsSyncLevel level;
        guint safe = 0;

        for (guint i = 0; i < 12; i++) {
            g_autofree char *path = g_strdup_printf("f%u", i);
            guint node = (guint)g_rand_int_range(rand, 0, 3);
            guint victim = (guint)g_rand_int_range(rand, 0, 3);

            if (sim_is_up(c, node) && sim_write(c, node, path, "x") == 0 &&
                sim_sync(c, node, &level) == 0 &&
                level == CFS_SYNC_LEVEL_MAJORITY) {
                safe |= 1u << i;
            }
            switch (g_rand_int_range(rand, 0, 4)) {
            case 0:
                sim_split(c, victim == 0   ? "0|12"
                             : victim == 1 ? "1|02"
                                           : "2|01");
                break;
            case 1:
                sim_heal(c);
                break;
            case 2:
                if (sim_is_up(c, victim)) {
                    sim_crash(c, victim);
                }
                break;
            default:
                if (!sim_is_up(c, victim)) {
                    sim_start(c, victim);
                }
                break;
            }
            for (guint k = (guint)g_rand_int_range(rand, 0, 40); k > 0; k--) {
                sim_step(c);
            }
        }
        for (guint i = 0; i < 3; i++) {
            if (!sim_is_up(c, i)) {
                sim_start(c, i);
            }
        }
        sim_heal(c);
        sim_run(c);
        sim_assert_equal_trees(c);
        for (guint i = 0; i < 12; i++) {
            g_autofree char *path = g_strdup_printf("f%u", i);

            g_assert_true((safe & 1u << i) == 0 || has(c, 0, path));
        }
    }
}

/* --- append --------------------------------------------------------------- */

static void
submit_line(SimCluster *c, guint node, const char *path, const char *line)
{
    g_autoptr(GBytes) data = g_bytes_new(line, strlen(line));

    sim_submit(c, node, cfs_op_new_append(path, data));
}

/* Each of @n lines of each of @nodes is there once, whole. */
static void
assert_lines(SimCluster *c, const char *path, guint nodes, guint n)
{
    const CfsEntry *entry = cfs_tree_lookup(tree_of(c, 0), path);
    g_autofree char *text = g_malloc0(entry->size + 1);
    g_auto(GStrv) lines = NULL;
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    cfs_entry_read(entry, 0, entry->size, (guint8 *)text);
    lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL && lines[i][0] != '\0'; i++) {
        g_assert_true(g_hash_table_add(seen, lines[i]));
    }
    g_assert_cmpuint(g_hash_table_size(seen), ==, nodes * n);
    for (guint node = 0; node < nodes; node++) {
        for (guint i = 0; i < n; i++) {
            g_autofree char *line = g_strdup_printf("%u %u", node, i);

            g_assert_true(g_hash_table_contains(seen, line));
        }
    }
}

static void
submit_lines(SimCluster *c, guint nodes, guint n)
{
    for (guint i = 0; i < n; i++) {
        for (guint node = 0; node < nodes; node++) {
            g_autofree char *line = g_strdup_printf("%u %u\n", node, i);

            submit_line(c, node, "log", line);
            sim_step(c);
        }
    }
}

static void
test_append(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);

    g_assert_cmpint(sim_write(c, 0, "log", ""), ==, 0);
    sim_run(c);
    submit_lines(c, 3, 100);
    sim_run(c);
    assert_lines(c, "log", 3, 100);
    sim_assert_equal_trees(c);
    g_assert_cmpuint(sim_n_sent(c, CFS_OURS_APPEND), ==, 300);
}

/* A member joins in the middle: what waits is sent again, and applied once. */
static void
test_append_while_joining(void)
{
    for (guint run = 0; run < 20; run++) {
        g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);

        g_assert_cmpint(sim_write(c, 0, "log", ""), ==, 0);
        sim_stop(c, 2);
        sim_run(c);
        submit_lines(c, 2, 5);
        sim_start(c, 2);
        for (guint i = 0; i < run; i++) {
            sim_step(c);
        }
        for (guint i = 5; i < 20; i++) {
            g_autofree char *a = g_strdup_printf("0 %u\n", i);
            g_autofree char *b = g_strdup_printf("1 %u\n", i);

            submit_line(c, 0, "log", a);
            submit_line(c, 1, "log", b);
            sim_step(c);
        }
        sim_run(c);
        assert_lines(c, "log", 2, 20);
        sim_assert_equal_trees(c);
    }
}

/* With a reference peer an append is a plain write at the end that its sender
 * sees: nothing is lost where one node appends. One that was under way when the
 * peer came is sent anew. */
static void
test_append_beside_reference(void)
{
    for (guint run = 0; run < 20; run++) {
        g_autoptr(SimCluster) c = sim_cluster_new_stopped(3, seed());

        sim_set_features(c, 2, 0);
        sim_start(c, 0);
        sim_start(c, 1);
        sim_run(c);
        g_assert_cmpint(sim_write(c, 0, "log", ""), ==, 0);
        sim_run(c);
        submit_line(c, 0, "log", "0 0\n");
        sim_start(c, 2);
        for (guint i = 0; i < run; i++) {
            sim_step(c);
        }
        sim_run(c);
        for (guint i = 1; i < 10; i++) {
            g_autofree char *line = g_strdup_printf("0 %u\n", i);

            submit_line(c, 0, "log", line);
            sim_run(c);
        }
        assert_lines(c, "log", 1, 10);
        sim_assert_equal_trees(c);
    }
}

static void
test_append_limits(void)
{
    g_autoptr(SimCluster) c = cluster_with(2, CFS_FEATURES_ALL);
    g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(1 << 20), 1 << 20);
    g_autoptr(GBytes) one = g_bytes_new_static("x", 1);

    g_assert_cmpint(sim_change(c, 0, cfs_op_new_append("none", one)), ==,
                    ENOENT);
    g_assert_cmpint(sim_write(c, 0, "f", ""), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new_append("f", big)), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new_append("f", one)), ==, EFBIG);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new(CFS_OP_MKDIR, "d")), ==, 0);
    g_assert_cmpint(sim_change(c, 0, cfs_op_new_append("d", one)), ==, ENOTDIR);
    sim_run(c);
    sim_assert_equal_trees(c);
}

/* --- clusters that were never one ----------------------------------------- */

static void
write_conf(SimCluster *c, guint node, const char *name)
{
    g_autofree char *text =
        g_strdup_printf("totem {\n cluster_name: %s\n}\n", name);

    g_assert_cmpint(sim_write(c, node, "corosync.conf", text), ==, 0);
}

/* Node 3 comes from another cluster, with more versions behind it. */
static void
test_foreign_cluster(void)
{
    g_autoptr(SimCluster) c = sim_cluster_new_stopped(3, seed());

    sim_set_n_nodes(c, 1);
    sim_split(c, "01|2");
    sim_start(c, 2);
    sim_run(c);
    sim_force_quorum(c, 2);
    for (guint i = 0; i < 10; i++) {
        write_conf(c, 2, "office");
    }
    sim_set_n_nodes(c, 3);
    sim_start(c, 0);
    sim_start(c, 1);
    sim_run(c);
    write_conf(c, 0, "lab");
    g_assert_cmpint(sim_write(c, 0, "precious", "x"), ==, 0);

    sim_heal(c);
    sim_advance(c, 1000);
    while (sim_step(c)) {
    }
    /* The two go on; the third is readable, and refuses. */
    g_assert_true(has(c, 0, "precious"));
    g_assert_true(has(c, 1, "precious"));
    g_assert_cmpint(sim_write(c, 0, "more", "x"), ==, 0);
    g_assert_false(has(c, 2, "precious"));
    g_assert_true(has(c, 2, "corosync.conf"));
    g_assert_cmpint(sim_change(c, 2, cfs_op_new(CFS_OP_MKDIR, "d")), ==,
                    EACCES);
    /* It asks again after a minute, and is refused again. */
    sim_advance(c, 61000);
    while (sim_step(c)) {
    }
    g_assert_true(has(c, 1, "more"));
    g_assert_cmpint(sim_change(c, 2, cfs_op_new(CFS_OP_MKDIR, "d")), ==,
                    EACCES);
    /* The way out: its database moved away, it takes the others' files. */
    sim_stop(c, 2);
    sim_wipe(c, 2);
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_true(has(c, 2, "precious"));
}

static void
test_renamed_cluster(void)
{
    g_autoptr(SimCluster) c = cluster_with(3, CFS_FEATURES_ALL);

    write_conf(c, 0, "lab");
    sim_run(c);
    sim_stop(c, 2);
    sim_run(c);
    write_conf(c, 0, "new-lab");
    sim_start(c, 2);
    sim_run(c);
    sim_assert_equal_trees(c);
    g_assert_cmpint(sim_write(c, 2, "f", "x"), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-terms/erased-without", test_erased_without);
    g_test_add_func("/sim-terms/kept-with", test_kept_with);
    g_test_add_func("/sim-terms/kept-under-load", test_kept_under_load);
    g_test_add_func("/sim-terms/restart", test_restart_keeps_term);
    g_test_add_func("/sim-terms/half", test_half_begins_no_term);
    g_test_add_func("/sim-terms/reference-peer", test_reference_peer);
    g_test_add_func("/sim-terms/reference-majority", test_reference_majority);
    g_test_add_func("/sim-terms/majority", test_majority);
    g_test_add_func("/sim-terms/alone", test_level_alone);
    g_test_add_func("/sim-terms/coalesced", test_coalesced);
    g_test_add_func("/sim-terms/crosses-change", test_crosses_change);
    g_test_add_func("/sim-terms/overruled", test_overruled);
    g_test_add_func("/sim-terms/safe-under-faults", test_safe_under_faults);
    g_test_add_func("/sim-terms/append", test_append);
    g_test_add_func("/sim-terms/append-while-joining",
                    test_append_while_joining);
    g_test_add_func("/sim-terms/append-beside-reference",
                    test_append_beside_reference);
    g_test_add_func("/sim-terms/append-limits", test_append_limits);
    g_test_add_func("/sim-terms/foreign-cluster", test_foreign_cluster);
    g_test_add_func("/sim-terms/renamed-cluster", test_renamed_cluster);
    return g_test_run();
}
