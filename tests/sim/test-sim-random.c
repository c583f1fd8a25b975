/* Random changes, joins, leaves, crashes and cuts; at the end one tree.
 *
 *   test-sim-random --sim-seed N     replays the run of that seed
 *   SIM_VERBOSE=1                    prints every decision
 */
#include "config.h"

#include "tests/sim/sim-cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static guint32 seed;

static const char *const folders[] = {
    "",
    "a",
    "a/b",
    "c",
    "nodes",
    "nodes/n1",
    "nodes/n2",
    "nodes/n1/lxc",
    "nodes/n2/lxc",
    "priv",
    "priv/lock",
};

static char *
random_folder(GRand *rand)
{
    return g_strdup(folders[g_rand_int_range(rand, 0, G_N_ELEMENTS(folders))]);
}

static char *
random_path(GRand *rand)
{
    static const char *const names[] = {"x",        "y",  "z", "100.conf",
                                        "101.conf", "L1", "L2"};
    g_autofree char *folder = random_folder(rand);
    const char *name = names[g_rand_int_range(rand, 0, G_N_ELEMENTS(names))];

    return folder[0] == '\0' ? g_strdup(name)
                             : g_strconcat(folder, "/", name, NULL);
}

static CfsOp *
random_write(GRand *rand, const char *path)
{
    gsize size = (gsize)g_rand_int_range(rand, 1, 200);
    guint8 *bytes = g_malloc(size);
    g_autoptr(GBytes) data = g_bytes_new_take(bytes, size);

    memset(bytes, g_rand_int_range(rand, 'a', 'z'), size);
    return cfs_op_new_write(path, data,
                            (guint32)g_rand_int_range(rand, 0, 100));
}

static CfsOp *
random_op(GRand *rand)
{
    g_autofree char *path = random_path(rand);
    g_autofree char *folder = random_folder(rand);
    g_autofree char *other = random_path(rand);

    switch (g_rand_int_range(rand, 0, 10)) {
    case 0:
    case 1:
        return cfs_op_new(CFS_OP_CREATE, path);
    case 2:
    case 3:
        return random_write(rand, path);
    case 4:
    case 5:
        return cfs_op_new(CFS_OP_MKDIR, g_rand_boolean(rand) ? folder : path);
    case 6:
        return cfs_op_new(CFS_OP_DELETE, path);
    case 7:
        return cfs_op_new_rename(path, other);
    case 8:
        return cfs_op_new_truncate(path,
                                   (guint32)g_rand_int_range(rand, 0, 300));
    default:
        return cfs_op_new_mtime(path, (guint32)g_rand_int_range(rand, 0, 9));
    }
}

static void
random_split(SimCluster *c)
{
    GString *sides[2] = {g_string_new(NULL), g_string_new(NULL)};
    g_autofree char *text = NULL;

    for (guint i = 0; i < sim_n_nodes(c); i++) {
        g_string_append_printf(sides[g_rand_boolean(sim_rand(c))], "%x", i);
    }
    text = g_strconcat(sides[0]->str, "|", sides[1]->str, NULL);
    sim_split(c, text);
    g_string_free(sides[0], TRUE);
    g_string_free(sides[1], TRUE);
}

static void
random_fault(SimCluster *c)
{
    GRand *rand = sim_rand(c);
    guint node = (guint)g_rand_int_range(rand, 0, (gint32)sim_n_nodes(c));

    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        random_split(c);
        break;
    case 1:
    case 2:
        sim_heal(c);
        break;
    case 3:
        if (sim_is_up(c, node)) {
            sim_crash(c, node);
        }
        break;
    case 4:
        if (sim_is_up(c, node)) {
            sim_stop(c, node);
            if (g_rand_boolean(rand)) {
                sim_wipe(c, node);
            }
        }
        break;
    case 5:
    case 6:
        if (!sim_is_up(c, node)) {
            sim_start(c, node);
        }
        break;
    default:
        sim_advance(c, 500);
        break;
    }
}

static void
end_all_faults(SimCluster *c)
{
    for (guint i = 0; i < sim_n_nodes(c); i++) {
        if (!sim_is_up(c, i)) {
            sim_start(c, i);
        }
    }
    sim_heal(c);
    sim_run(c);
}

/* Returns: (owned) the digest of all decisions. */
static char *
run(guint32 with_seed,
    guint nodes,
    guint operations,
    gboolean faults,
    guint64 *worked)
{
    g_autoptr(SimCluster) c = sim_cluster_new(nodes, with_seed);
    GRand *rand = sim_rand(c);
    guint done = 0;

    while (done < operations) {
        guint node = (guint)g_rand_int_range(rand, 0, (gint32)nodes);
        guint lag = (guint)g_rand_int_range(rand, 0, 24);

        if (sim_is_up(c, node)) {
            sim_submit(c, node, random_op(rand));
            done++;
        }
        while (lag-- > 0) {
            sim_step(c);
        }
        if (faults && g_rand_int_range(rand, 0, 60) == 0) {
            random_fault(c);
        }
    }
    end_all_faults(c);
    sim_assert_no_reply_lost(c);
    sim_assert_equal_trees(c);
    g_test_message("%u operations: %" G_GUINT64_FORMAT " ok, %" G_GUINT64_FORMAT
                   " without quorum, %" G_GUINT64_FORMAT " unknown",
                   done, sim_n_replies(c, 0), sim_n_replies(c, EACCES),
                   sim_n_replies(c, EBUSY));
    *worked += sim_n_replies(c, 0);
    return sim_trace_digest(c);
}

static void
run_once(guint32 with_seed,
         guint nodes,
         guint operations,
         gboolean faults,
         guint64 *worked)
{
    g_free(run(with_seed, nodes, operations, faults, worked));
}

static void
test_calm(void)
{
    guint64 worked = 0;

    run_once(seed, 3, 3000, FALSE, &worked);

    /* A run in which nothing works would prove nothing. */
    g_assert_cmpuint(worked, >, 300);
}

/* The run that the project promises: 10,000 changes, 5 members, faults. */
static void
test_faults(void)
{
    guint64 worked = 0;

    run_once(seed, 5, 10000, TRUE, &worked);

    g_assert_cmpuint(worked, >, 500);
}

static void
test_many_seeds(void)
{
    guint64 worked = 0;

    for (guint i = 1; i <= 60; i++) {
        run_once(seed + i, 3 + i % 4, 400, TRUE, &worked);
    }
    g_assert_cmpuint(worked, >, 1000);
}

static void
test_replay(void)
{
    guint64 worked = 0;
    g_autofree char *first = run(seed, 5, 1000, TRUE, &worked);
    g_autofree char *second = run(seed, 5, 1000, TRUE, &worked);

    g_assert_cmpstr(first, ==, second);
}

int
main(int argc, char **argv)
{
    seed = g_random_int();
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--sim-seed") == 0) {
            seed = (guint32)strtoul(argv[i + 1], NULL, 10);
            memmove(argv + i, argv + i + 2,
                    (gsize)(argc - i - 1) * sizeof(*argv));
            argc -= 2;
            break;
        }
    }
    g_test_init(&argc, &argv, NULL);
    g_test_message("seed %u; replay with --sim-seed %u", seed, seed);
    g_test_add_func("/sim-random/calm", test_calm);
    g_test_add_func("/sim-random/faults", test_faults);
    g_test_add_func("/sim-random/many-seeds", test_many_seeds);
    g_test_add_func("/sim-random/replay", test_replay);
    return g_test_run();
}
