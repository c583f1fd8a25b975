/* Random changes and faults on whole clusters, seed by seed; what must hold is
 * in sim-check.h.
 *
 *   test-sim-random                          some seeds, new ones each time
 *   test-sim-random --seeds 1-2000 --ops 500 --faults all
 *                                            by hand, as long as you like
 *   test-sim-random --sim-seed N             that one again
 *   test-sim-random --sim-script FILE        what a failing run printed
 *   SIM_VERBOSE=1                            prints every decision of the core
 *
 * A run that fails is shrunk to a short script, which is printed. */
#include "config.h"

#include "tests/sim/sim-shrink.h"
#include "tests/sim/sim-workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char *seeds_option;
static char *faults_option;
static char *script_option;
static gint ops_option = 500;
static gint64 seed_option = -1;
static gint shrink_option = 120;
static gboolean keep_going_option;

static guint64 seed;

/* --- one seed ------------------------------------------------------------- */

/* What a child tells: also where it was when it died. */
typedef struct {
    guint64 seed;
    guint64 operations;
    guint64 worked;
    guint64 unquorate;
    guint64 unknown;
    guint64 majority;
    guint64 decisions;
    gboolean has_failed;
    char violation[512];
} Progress;

/* Returns: (owned) the violation, or NULL. @script and @trace may be NULL. */
static char *
run_seed(guint64 with_seed,
         SimFaults faults,
         guint operations,
         SimScript *script,
         char **trace,
         Progress *progress)
{
    g_autoptr(SimWorkload) work = sim_workload_new(with_seed, faults);
    g_autoptr(SimCluster) c = sim_script_cluster(sim_workload_n_nodes(work));
    SimCheck *check = sim_check(c);
    guint done = 0;

    if (script != NULL) {
        script->n_nodes = sim_workload_n_nodes(work);
    }
    while (done < operations && sim_check_violation(check) == NULL) {
        SimDecision d = sim_workload_next(work, c);

        if (script != NULL) {
            g_array_append_val(script->decisions, d);
        }
        done += d.what == SIM_DO_SUBMIT || d.what == SIM_DO_SYNC;
        sim_decision_apply(&d, c);
        progress->decisions++;
    }
    sim_end_faults(c);
    progress->operations += done;
    progress->worked += sim_n_replies(c, 0);
    progress->unquorate += sim_n_replies(c, EACCES);
    progress->unknown += sim_n_replies(c, EBUSY);
    progress->majority += sim_n_syncs(c, CFS_SYNC_LEVEL_MAJORITY);
    if (trace != NULL) {
        *trace = sim_trace_digest(c);
    }
    return g_strdup(sim_check_violation(check));
}

/* The decisions of a run that may abort: made in a child, sent as a text. */
static void
write_script(guint64 with_seed, SimFaults faults, guint operations, int out)
{
    g_autoptr(SimWorkload) work = sim_workload_new(with_seed, faults);
    g_autoptr(SimCluster) c = sim_script_cluster(sim_workload_n_nodes(work));
    FILE *file = fdopen(out, "w");

    for (guint done = 0;
         done < operations && sim_check_violation(sim_check(c)) == NULL;) {
        g_autoptr(SimScript) one = sim_script_new(sim_workload_n_nodes(work));
        SimDecision d = sim_workload_next(work, c);
        g_autofree char *line = NULL;

        g_array_append_val(one->decisions, d);
        line = sim_script_text(one);
        (void)fputs(line, file);
        (void)fflush(file); /* before it may abort */
        done += d.what == SIM_DO_SUBMIT || d.what == SIM_DO_SYNC;
        sim_decision_apply(&d, c);
    }
    (void)fclose(file);
}

static SimScript *
script_of(guint64 with_seed, SimFaults faults, guint operations)
{
    g_autofree char *path = NULL, *text = NULL;
    g_autoptr(GError) error = NULL;
    int file = g_file_open_tmp("sim-XXXXXX", &path, &error);
    SimScript *script;
    pid_t child;

    g_assert_no_error(error);
    child = fork();
    if (child == 0) {
        write_script(with_seed, faults, operations, file);
        _exit(0);
    }
    (void)close(file);
    (void)waitpid(child, NULL, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, &error));
    (void)unlink(path);
    script = sim_script_parse(text, &error);
    g_assert_no_error(error);
    return script;
}

static void
print_script(const SimScript *script)
{
    g_autofree char *text = sim_script_text(script);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    g_print("# the shortest script that fails alike; --sim-script runs it:\n");
    for (guint i = 0; lines[i] != NULL && lines[i][0] != '\0'; i++) {
        g_print("#   %s\n", lines[i]);
    }
}

static void
explain(guint64 with_seed,
        SimFaults faults,
        guint operations,
        const char *violation)
{
    g_autoptr(SimScript) script = NULL;
    g_autofree char *again = NULL;

    g_print("# seed %" G_GUINT64_FORMAT " fails: %s\n", with_seed, violation);
    if (shrink_option <= 0) {
        return;
    }
    script = script_of(with_seed, faults, operations);
    sim_script_shrink(script, (guint)shrink_option);
    again = sim_script_try(script);
    g_print("# %u decisions: %s\n", script->decisions->len,
            again != NULL ? again : "it does not fail as a script");
    print_script(script);
}

/* --- many seeds ----------------------------------------------------------- */

static void
run_in_child(guint64 last,
             SimFaults faults,
             guint operations,
             Progress *progress)
{
    for (; progress->seed <= last; progress->seed++) {
        g_autofree char *violation =
            run_seed(progress->seed, faults, operations, NULL, NULL, progress);

        if (violation != NULL) {
            progress->has_failed = TRUE;
            g_strlcpy(progress->violation, violation,
                      sizeof(progress->violation));
            return;
        }
    }
}

static void
note_death(Progress *progress, int status)
{
    if (status != 0 && !progress->has_failed) {
        progress->has_failed = TRUE;
        g_snprintf(
            progress->violation, sizeof(progress->violation), "crash: %s %d",
            WIFSIGNALED(status) ? "signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static void
print_progress(guint64 first, guint64 last, const Progress *p, double seconds)
{
    const struct {
        const char *what;
        guint64 count;
    } counts[] = {
        {"operations", p->operations},           {"worked", p->worked},
        {"without quorum", p->unquorate},        {"unknown", p->unknown},
        {"barriers on a majority", p->majority}, {"decisions", p->decisions}};

    g_print("# seeds %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT ":", first,
            MIN(p->seed, last));
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_print(" %" G_GUINT64_FORMAT " %s,", counts[i].count, counts[i].what);
    }
    g_print(" %.1f s, %.0f operations/s\n", seconds,
            (double)p->operations / MAX(seconds, 0.001));
}

/* From *@first up to @last, or to the first that fails; moves *@first behind
 * it. TRUE when none failed. A child does the work: it may abort. */
static gboolean
run_seeds(guint64 *first, guint64 last, SimFaults faults, guint operations)
{
    Progress *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    gint64 start = g_get_monotonic_time();
    gboolean passed;
    double seconds;
    int status = 0;
    pid_t child;

    g_assert_true(progress != MAP_FAILED);
    progress->seed = *first;
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        run_in_child(last, faults, operations, progress);
        exit(0); /* looks for leaks */
    }
    (void)waitpid(child, &status, 0);
    note_death(progress, status);
    seconds = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    print_progress(*first, last, progress, seconds);
    *first = progress->seed + 1;
    if (progress->has_failed) {
        explain(progress->seed, faults, operations, progress->violation);
    }
    passed = !progress->has_failed && progress->worked > 0;
    (void)munmap(progress, sizeof(*progress));
    return passed;
}

/* --- tests ---------------------------------------------------------------- */

static void
test_calm(void)
{
    guint64 first = seed;

    g_assert_true(run_seeds(&first, seed + 9, SIM_FAULTS_NONE, 500));
}

static void
test_faults(void)
{
    guint64 first = seed;

    g_assert_true(run_seeds(&first, seed + 99, SIM_FAULTS_ALL, 500));
}

/* The same seed does the same, decision by decision; so does its script. */
static void
test_replay(void)
{
    g_autoptr(SimScript) script = sim_script_new(3);
    g_autoptr(SimScript) parsed = NULL;
    g_autofree char *first = NULL, *second = NULL, *text = NULL, *again = NULL;
    g_autoptr(GError) error = NULL;
    Progress progress = {0};

    g_free(run_seed(seed, SIM_FAULTS_ALL, 300, script, &first, &progress));
    g_free(run_seed(seed, SIM_FAULTS_ALL, 300, NULL, &second, &progress));
    g_assert_cmpstr(first, ==, second);

    text = sim_script_text(script);
    parsed = sim_script_parse(text, &error);
    g_assert_no_error(error);
    again = sim_script_text(parsed);
    g_assert_cmpstr(text, ==, again);
}

/* (owned) Beside the sources, wherever it is started. */
static char *
scripts_path(void)
{
    const char *tests = g_getenv("G_TEST_SRCDIR");

    return tests != NULL ? g_build_filename(tests, "sim", "scripts", NULL)
                         : g_test_build_filename(G_TEST_DIST, "scripts", NULL);
}

/* Each failed once. */
static void
test_scripts(void)
{
    g_autofree char *path = scripts_path();
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) directory = g_dir_open(path, 0, &error);
    const char *name;
    guint n = 0;

    if (directory == NULL) {
        g_test_skip("not started by make check: G_TEST_SRCDIR is not set");
        return;
    }
    while ((name = g_dir_read_name(directory)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_autofree char *text = NULL, *violation = NULL;
        g_autoptr(SimScript) script = NULL;

        g_test_message("%s", name);
        g_assert_true(g_file_get_contents(file, &text, NULL, &error));
        script = sim_script_parse(text, &error);
        g_assert_no_error(error);
        violation = sim_script_try(script);
        g_assert_cmpstr(violation, ==, NULL);
        n++;
    }
    g_assert_cmpuint(n, >, 0);
}

/* --- by hand -------------------------------------------------------------- */

static int
run_script(void)
{
    g_autofree char *text = NULL, *violation = NULL;
    g_autoptr(SimScript) script = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_file_get_contents(script_option, &text, NULL, &error) ||
        (script = sim_script_parse(text, &error)) == NULL) {
        g_printerr("%s: %s\n", script_option, error->message);
        return 2;
    }
    violation = sim_script_run(script);
    g_print("%s\n", violation != NULL ? violation : "nothing is wrong");
    return violation != NULL;
}

static gboolean
run_all(guint64 first, guint64 last, SimFaults faults)
{
    gboolean passed = TRUE;

    while (first <= last) {
        if (run_seeds(&first, last, faults, (guint)ops_option)) {
            continue;
        }
        passed = FALSE;
        if (!keep_going_option) {
            break;
        }
    }
    return passed;
}

static int
run_by_hand(void)
{
    SimFaults faults = g_strcmp0(faults_option, "none") == 0 ? SIM_FAULTS_NONE
                                                             : SIM_FAULTS_ALL;
    guint64 first = (guint64)seed_option, last = first;
    char *end = NULL;

    if (seeds_option != NULL) {
        first = last = g_ascii_strtoull(seeds_option, &end, 10);
        if (*end == '-') {
            last = g_ascii_strtoull(end + 1, &end, 10);
        }
    }
    return run_all(first, last, faults) ? 0 : 1;
}

static const GOptionEntry options[] = {
    {"seeds", 0, 0, G_OPTION_ARG_STRING, &seeds_option, "Run these", "A-B"},
    {"sim-seed", 0, 0, G_OPTION_ARG_INT64, &seed_option, "Run this one", "N"},
    {"ops", 0, 0, G_OPTION_ARG_INT, &ops_option, "Operations of a seed", "N"},
    {"faults", 0, 0, G_OPTION_ARG_STRING, &faults_option, "all or none",
     "WHICH"},
    {"shrink", 0, 0, G_OPTION_ARG_INT, &shrink_option,
     "Shrink a failing run for so long; 0: do not", "SECONDS"},
    {"keep-going", 0, 0, G_OPTION_ARG_NONE, &keep_going_option,
     "Go on behind a seed that fails", NULL},
    {"sim-script", 0, 0, G_OPTION_ARG_FILENAME, &script_option,
     "Run this script", "FILE"},
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
    if (script_option != NULL) {
        return run_script();
    }
    if (seeds_option != NULL || seed_option >= 0) {
        return run_by_hand();
    }
    g_test_init(&argc, &argv, NULL);
    seed = g_random_int();
    g_test_message("first seed %" G_GUINT64_FORMAT, seed);
    g_test_add_func("/sim-random/calm", test_calm);
    g_test_add_func("/sim-random/faults", test_faults);
    g_test_add_func("/sim-random/replay", test_replay);
    g_test_add_func("/sim-random/scripts", test_scripts);
    return g_test_run();
}
