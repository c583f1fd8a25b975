#include "config.h"

#include "pmxcfs/core/metrics.h"

#include <string.h>

#define LINE                                                                   \
    "^([a-z_]+?)(_bucket|_sum|_count)?(\\{[a-z]+=\"[^\"\\\\]*\""               \
    "(,le=\"[0-9.+Inf]+\")?\\})? ([0-9]+(\\.[0-9]+)?)$"

static gboolean
has_line(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    return g_strv_contains((const char *const *)lines, line);
}

/* What Prometheus insists on: a family is in one piece, with its help and its
 * type before it; no line comes twice. */
static void
test_format(void)
{
    g_autoptr(CfsMetrics) metrics = cfs_metrics_new();
    g_autofree char *text = cfs_metrics_text(metrics);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) families =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GRegex) pattern = g_regex_new(LINE, 0, 0, NULL);
    g_autofree char *family = g_strdup("");
    guint n = 0;

    g_assert_true(g_str_has_suffix(text, "\n"));
    for (guint i = 0; lines[i + 1] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 4);
        g_autoptr(GMatchInfo) match = NULL;
        g_autofree char *name = NULL;

        g_assert_true(g_hash_table_add(seen, lines[i]));
        if (g_str_has_prefix(lines[i], "# HELP ")) {
            g_free(family);
            family = g_strdup(words[2]);
            g_assert_cmpuint(strlen(words[3]), >, 5);
            g_assert_true(g_hash_table_add(families, g_strdup(family)));
            continue;
        }
        if (g_str_has_prefix(lines[i], "# TYPE ")) {
            g_assert_cmpstr(words[2], ==, family);
            continue;
        }
        g_assert_true(g_regex_match(pattern, lines[i], 0, &match));
        name = g_match_info_fetch(match, 1);
        g_assert_true(g_str_has_prefix(lines[i], family));
        g_assert_true(g_str_has_prefix(family, name));
        n++;
    }
    g_assert_cmpuint(
        n, ==, CFS_METRIC_COUNT + CFS_TIMING_COUNT * (CFS_TIMING_BUCKETS + 2));
}

static void
test_values(void)
{
    g_autoptr(CfsMetrics) metrics = cfs_metrics_new();
    g_autofree char *text = NULL;

    cfs_metrics_add(metrics, CFS_METRIC_FUSE_READ, 2);
    cfs_metrics_add(metrics, CFS_METRIC_FUSE_READ, 3);
    cfs_metrics_set(metrics, CFS_METRIC_TREE_VERSION, G_MAXUINT64);
    cfs_metrics_set(metrics, CFS_METRIC_QUORATE, 1);
    cfs_metrics_set_clock(metrics, 2, 7);
    cfs_metrics_set_clock(metrics, 2, -3600);
    text = cfs_metrics_text(metrics);
    g_assert_true(
        has_line(text, "pmxcfs_fuse_requests_total{kind=\"read\"} 5"));
    g_assert_true(has_line(text, "pmxcfs_tree_version 18446744073709551615"));
    g_assert_true(has_line(text, "pmxcfs_quorate 1"));
    g_assert_true(has_line(text, "pmxcfs_commits_total 0"));
    g_assert_true(
        has_line(text, "pmxcfs_clock_ahead_seconds{nodeid=\"2\"} -3600"));
    /* Nobody need look before counting. */
    cfs_metrics_set_clock(NULL, 1, 1);
    cfs_metrics_add(NULL, CFS_METRIC_FUSE_READ, 1);
    cfs_metrics_set(NULL, CFS_METRIC_FUSE_READ, 1);
    cfs_metrics_observe(NULL, CFS_TIMING_WRITE, 1);
}

/* Buckets are cumulative; a bound belongs to its bucket. */
static void
test_histogram(void)
{
    g_autoptr(CfsMetrics) metrics = cfs_metrics_new();
    static const gint64 took_us[] = {0, 50, 51, 1000, 1001, 99000000, -5};
    CfsTiming timing = {0};
    g_autofree char *text = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(took_us); i++) {
        cfs_metrics_observe(metrics, CFS_TIMING_RENAME, took_us[i]);
    }
    cfs_timing_add(&timing, 1500000);
    cfs_metrics_set_timing(metrics, CFS_TIMING_COMMIT, &timing);
    text = cfs_metrics_text(metrics);
#define RENAME(le) "pmxcfs_change_seconds_bucket{operation=\"rename\",le=\"" le
    g_assert_true(has_line(text, RENAME("0.00005\"} 3")));
    g_assert_true(has_line(text, RENAME("0.0001\"} 4")));
    g_assert_true(has_line(text, RENAME("0.001\"} 5")));
    g_assert_true(has_line(text, RENAME("0.0025\"} 6")));
    g_assert_true(has_line(text, RENAME("10\"} 6")));
    g_assert_true(has_line(text, RENAME("+Inf\"} 7")));
    g_assert_true(has_line(
        text, "pmxcfs_change_seconds_sum{operation=\"rename\"} 99.002102"));
    g_assert_true(
        has_line(text, "pmxcfs_change_seconds_count{operation=\"rename\"} 7"));
    g_assert_true(has_line(text, "pmxcfs_commit_seconds_sum 1.500000"));
    g_assert_true(has_line(text, "pmxcfs_commit_seconds_bucket{le=\"1\"} 0"));
    g_assert_true(has_line(text, "pmxcfs_commit_seconds_bucket{le=\"10\"} 1"));
}

static void
on_collect(gpointer data, CfsMetrics *metrics)
{
    cfs_metrics_set(metrics, CFS_METRIC_MEMORY, ++*(guint64 *)data);
}

static void
test_collected_when_read(void)
{
    g_autoptr(CfsMetrics) metrics = cfs_metrics_new();
    guint64 n = 0;

    cfs_metrics_set_collect(metrics, on_collect, &n);
    for (guint i = 1; i < 3; i++) {
        g_autofree char *text = cfs_metrics_text(metrics);
        g_autofree char *line =
            g_strdup_printf("process_resident_memory_bytes %u", i);

        g_assert_true(has_line(text, line));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metrics/format", test_format);
    g_test_add_func("/metrics/values", test_values);
    g_test_add_func("/metrics/histogram", test_histogram);
    g_test_add_func("/metrics/collect", test_collected_when_read);
    return g_test_run();
}
