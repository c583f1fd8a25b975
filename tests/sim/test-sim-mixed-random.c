/* Random changes and faults on clusters with one member of the reference's
 * model, which leads and follows; at the end one tree.
 *
 *   test-sim-mixed-random --sim-seed N [--runs N]
 *
 * One only, which writes when it is synchronised: of two, or one that writes
 * meanwhile, the reference itself makes different trees
 * (spec/replication.md 12.2). */
#include "config.h"

#include "tests/sim/sim-dice.h"
#include "tests/sim/sim-mixed.h"

#include <string.h>

#define OPERATIONS 300u

static gint64 seed_option = -1;
static gint runs_option = 40;

static char *
any_path(SimDice *dice)
{
    static const char *const folders[] = {"", "a/", "nodes/", "nodes/n1/lxc/"};
    guint folder = sim_dice(dice, G_N_ELEMENTS(folders));

    return folder == G_N_ELEMENTS(folders) - 1
               ? g_strdup_printf("%s%u.conf", folders[folder],
                                 100 + sim_dice(dice, 3))
               : g_strdup_printf("%sf%u", folders[folder], sim_dice(dice, 6));
}

/* None that makes a size without content: that ends a leader of the reference
 * (12.1), which test-sim-mixed tells of. */
static CfsOp *
any_op(SimDice *dice)
{
    static const char *const directories[] = {"a", "nodes", "nodes/n1",
                                              "nodes/n1/lxc"};
    g_autofree char *path = any_path(dice), *to = any_path(dice);
    g_autoptr(GBytes) data = NULL;

    switch (sim_dice(dice, 8)) {
    case 0:
    case 1:
        return cfs_op_new(
            CFS_OP_MKDIR,
            directories[sim_dice(dice, G_N_ELEMENTS(directories))]);
    case 2:
    case 3:
        return cfs_op_new(CFS_OP_CREATE, path);
    case 4:
        return cfs_op_new(CFS_OP_DELETE, path);
    case 5:
        if (strcmp(path, to) != 0) {
            return cfs_op_new_rename(path, to);
        }
        return cfs_op_new_mtime(path, sim_dice(dice, 100));
    default:
        data = g_bytes_new(to, strlen(to));
        return cfs_op_new_write(path, data, sim_dice(dice, 20));
    }
}

static void
submit(SimMixed *c, SimDice *dice, guint node)
{
    if (!sim_mixed_is_up(c, node) || (!sim_mixed_is_ours(c, node) &&
                                      sim_reference_mode(sim_mixed_reference(
                                          c, node)) != SIM_REFERENCE_SYNCED)) {
        return;
    }
    (void)sim_mixed_submit(c, node, any_op(dice));
}

static void
split(SimMixed *c, SimDice *dice)
{
    g_autoptr(GString) one = g_string_new(NULL), other = g_string_new("|");

    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        g_string_append_printf(sim_dice_once_in(dice, 2) ? one : other, "%u",
                               i);
    }
    g_string_append(one, other->str);
    sim_mixed_split(c, one->str);
}

static void
any_fault(SimMixed *c, SimDice *dice)
{
    guint node = sim_dice(dice, sim_mixed_n_nodes(c));
    gboolean is_up = sim_mixed_is_up(c, node);

    switch (sim_dice(dice, 9)) {
    case 0:
        split(c, dice);
        break;
    case 1:
    case 2:
        sim_mixed_heal(c);
        break;
    case 3:
        if (is_up) {
            sim_mixed_kill(c, node);
        }
        break;
    case 4:
        if (is_up) {
            sim_mixed_stop(c, node);
        }
        break;
    case 5:
        if (is_up) {
            sim_mixed_restart_corosync(c, node);
        }
        break;
    case 6:
        sim_mixed_set_clock(c, node, sim_dice(dice, 600));
        break;
    default:
        if (!is_up) {
            sim_mixed_start(c, node);
        }
        break;
    }
}

static void
run(guint32 seed)
{
    static const char *const mixtures[] = {"roo",  "oro",  "oor",  "rooo",
                                           "oroo", "ooor", "ooroo"};
    SimDice dice = {sim_mix(seed)};
    g_autoptr(SimMixed) c =
        sim_mixed_new(mixtures[sim_dice(&dice, G_N_ELEMENTS(mixtures))], seed);
    guint fault_every = sim_dice_range(&dice, 15, 80);
    guint lag = sim_dice_range(&dice, 2, 30);

    g_test_message("seed %u", seed);
    sim_mixed_start_all(c);
    for (guint done = 0; done < OPERATIONS; done++) {
        submit(c, &dice, sim_dice(&dice, sim_mixed_n_nodes(c)));
        for (guint i = sim_dice(&dice, lag); i > 0; i--) {
            (void)sim_mixed_step(c);
        }
        if (sim_dice_once_in(&dice, fault_every)) {
            any_fault(c, &dice);
        }
        if (sim_dice_once_in(&dice, 20)) {
            sim_mixed_advance(c, 1 + sim_dice(&dice, 2000));
        }
    }
    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        if (!sim_mixed_is_up(c, i)) {
            sim_mixed_start(c, i);
        }
    }
    sim_mixed_heal(c);
    sim_mixed_run(c);
    sim_mixed_assert_equal(c);
}

static void
test_mixed(void)
{
    guint32 first = seed_option >= 0 ? (guint32)seed_option
                                     : (guint32)g_random_int_range(1, 1 << 30);

    for (gint i = 0; i < runs_option; i++) {
        run(first + (guint32)i);
    }
}

static const GOptionEntry options[] = {
    {"sim-seed", 0, 0, G_OPTION_ARG_INT64, &seed_option, "The first", "N"},
    {"runs", 0, 0, G_OPTION_ARG_INT, &runs_option, "How many", "N"},
    {NULL}};

int
main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    g_option_context_set_ignore_unknown_options(context, TRUE);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_printerr("%s\n", error->message);
        return 2;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-mixed-random/one-reference", test_mixed);
    return g_test_run();
}
