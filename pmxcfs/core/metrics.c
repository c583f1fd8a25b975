#include "config.h"

#include "pmxcfs/core/metrics.h"

#include <string.h>

struct CfsMetrics {
    guint64 values[CFS_METRIC_COUNT];
    CfsTiming timings[CFS_TIMING_COUNT];
    GHashTable *clocks; /* node id -> gint64, by which it is ahead */
    CfsMetricsCollect collect;
    gpointer data;
};

/* A family has one line of help and of type, and a line per label. */
typedef struct {
    const char *family;
    const char *label; /* NULL: the only one */
    const char *type;  /* NULL: as above */
    const char *help;
} Row;

#define FUSE(kind)                                                             \
    {                                                                          \
        "pmxcfs_fuse_requests_total", "kind=\"" kind "\"", NULL, NULL          \
    }
#define MODE(mode)                                                             \
    {                                                                          \
        "pmxcfs_sync_state", "state=\"" mode "\"", NULL, NULL                  \
    }

static const Row rows[CFS_METRIC_COUNT] = {
    [CFS_METRIC_FUSE_LOOKUP] = {"pmxcfs_fuse_requests_total", "kind=\"lookup\"",
                                "counter", "Requests of the kernel."},
    [CFS_METRIC_FUSE_FORGET] = FUSE("forget"),
    [CFS_METRIC_FUSE_GETATTR] = FUSE("getattr"),
    [CFS_METRIC_FUSE_SETATTR] = FUSE("setattr"),
    [CFS_METRIC_FUSE_READLINK] = FUSE("readlink"),
    [CFS_METRIC_FUSE_MAKE] = FUSE("make"),
    [CFS_METRIC_FUSE_REMOVE] = FUSE("remove"),
    [CFS_METRIC_FUSE_RENAME] = FUSE("rename"),
    [CFS_METRIC_FUSE_CREATE] = FUSE("create"),
    [CFS_METRIC_FUSE_OPEN] = FUSE("open"),
    [CFS_METRIC_FUSE_READ] = FUSE("read"),
    [CFS_METRIC_FUSE_WRITE] = FUSE("write"),
    [CFS_METRIC_FUSE_CLOSE] = FUSE("close"),
    [CFS_METRIC_FUSE_FSYNC] = FUSE("fsync"),
    [CFS_METRIC_FUSE_READDIR] = FUSE("readdir"),
    [CFS_METRIC_FUSE_STATFS] = FUSE("statfs"),
    [CFS_METRIC_FUSE_INTERRUPT] = FUSE("interrupt"),
    [CFS_METRIC_FUSE_OTHER] = FUSE("other"),
    [CFS_METRIC_CHANGES_REFUSED] = {"pmxcfs_changes_refused_total", NULL,
                                    "counter",
                                    "Changes that this node was asked for and "
                                    "that ended with an error."},
    [CFS_METRIC_CHANGES_APPLIED] = {"pmxcfs_changes_applied_total", NULL,
                                    "counter",
                                    "Changes of the tree, from any node."},
    [CFS_METRIC_REQUESTS_WAITING] = {"pmxcfs_requests_waiting", NULL, "gauge",
                                     "Requests of the kernel without an "
                                     "answer yet."},
    [CFS_METRIC_STORE_WAITING] = {"pmxcfs_answers_waiting_for_disk", NULL,
                                  "gauge",
                                  "Changes that are applied and wait for "
                                  "their commit."},
    [CFS_METRIC_MESSAGES_SENT] = {"pmxcfs_messages_total", "direction=\"sent\"",
                                  "counter", "Messages of the database group."},
    [CFS_METRIC_MESSAGES_RECEIVED] = {"pmxcfs_messages_total",
                                      "direction=\"received\"", NULL, NULL},
    [CFS_METRIC_MESSAGE_BYTES_SENT] = {"pmxcfs_message_bytes_total",
                                       "direction=\"sent\"", "counter",
                                       "Bytes of these messages."},
    [CFS_METRIC_MESSAGE_BYTES_RECEIVED] = {"pmxcfs_message_bytes_total",
                                           "direction=\"received\"", NULL,
                                           NULL},
    [CFS_METRIC_QUORATE] = {"pmxcfs_quorate", NULL, "gauge",
                            "1: this node has quorum."},
    [CFS_METRIC_MODE_START] = {"pmxcfs_sync_state", "state=\"start\"", "gauge",
                               "1: what the member is doing; synced is well."},
    [CFS_METRIC_MODE_START_SYNC] = MODE("start-sync"),
    [CFS_METRIC_MODE_SYNCED] = MODE("synced"),
    [CFS_METRIC_MODE_UPDATE] = MODE("update"),
    [CFS_METRIC_MODE_LEAVE] = MODE("leave"),
    [CFS_METRIC_MODE_VERSION_ERROR] = MODE("version-error"),
    [CFS_METRIC_TREE_VERSION] = {"pmxcfs_tree_version", NULL, "gauge",
                                 "Version of the tree: equal on all members."},
    [CFS_METRIC_TREE_ENTRIES] = {"pmxcfs_tree_entries", NULL, "gauge",
                                 "Files and directories."},
    [CFS_METRIC_TREE_BYTES] = {"pmxcfs_tree_bytes", NULL, "gauge",
                               "Bytes in the files."},
    [CFS_METRIC_COMMITS] = {"pmxcfs_commits_total", NULL, "counter",
                            "Transactions of the database."},
    [CFS_METRIC_COMMITS_FAILED] = {"pmxcfs_commits_failed_total", NULL,
                                   "counter",
                                   "Attempts that failed; they are repeated."},
    [CFS_METRIC_ROWS_WRITTEN] = {"pmxcfs_rows_written_total", NULL, "counter",
                                 "Rows put or deleted."},
    [CFS_METRIC_LOG_BYTES_WRITTEN] = {"pmxcfs_log_bytes_written_total", NULL,
                                      "counter",
                                      "Bytes written to the log of changes "
                                      "(config.db-wal)."},
    [CFS_METRIC_CHECKPOINTS] = {"pmxcfs_checkpoints_total", NULL, "counter",
                                "How often the log was brought into the "
                                "database."},
    [CFS_METRIC_DURABLE] = {"pmxcfs_durable", NULL, "gauge",
                            "0: the disk cannot follow, changes are answered "
                            "from memory or fail."},
    [CFS_METRIC_DROPPED_NAMES] = {"pmxcfs_cache_invalidations_total",
                                  "what=\"name\"", "counter",
                                  "What the kernel was told to forget."},
    [CFS_METRIC_DROPPED_ATTRIBUTES] = {"pmxcfs_cache_invalidations_total",
                                       "what=\"attributes\"", NULL, NULL},
    [CFS_METRIC_DROPPED_CONTENTS] = {"pmxcfs_cache_invalidations_total",
                                     "what=\"content\"", NULL, NULL},
    [CFS_METRIC_DROPPED_ALL] = {"pmxcfs_cache_invalidations_total",
                                "what=\"all names\"", NULL, NULL},
    [CFS_METRIC_DROPS_WAITING] = {"pmxcfs_cache_invalidations_waiting", NULL,
                                  "gauge",
                                  "Those that the kernel has not carried out "
                                  "yet."},
    [CFS_METRIC_CACHING] = {"pmxcfs_caching", NULL, "gauge",
                            "1: the kernel may keep what it is told."},
    [CFS_METRIC_INODES_KNOWN] = {"pmxcfs_inodes_known", NULL, "gauge",
                                 "Entries that the kernel knows."},
    [CFS_METRIC_HANDLES_OPEN] = {"pmxcfs_handles_open", NULL, "gauge",
                                 "Open files and directories."},
    [CFS_METRIC_MEMORY] = {"process_resident_memory_bytes", NULL, "gauge",
                           "Memory of the daemon."},
    [CFS_METRIC_DISK_BYTES_WRITTEN] = {"process_disk_written_bytes_total", NULL,
                                       "counter",
                                       "Bytes that went, or will go, to a disk "
                                       "for the daemon."},
    [CFS_METRIC_START_TIME] = {"process_start_time_seconds", NULL, "gauge",
                               "When the daemon was started, since the "
                               "epoch."},
    [CFS_METRIC_BUILD] = {"pmxcfs_build_info",
                          "version=\"" PACKAGE_VERSION "\"", "gauge",
                          "The running version."},
};

#define CHANGE(operation)                                                      \
    {                                                                          \
        "pmxcfs_change_seconds", "operation=\"" operation "\"", NULL, NULL     \
    }

static const Row timing_rows[CFS_TIMING_COUNT] = {
    [CFS_TIMING_CREATE] = {"pmxcfs_change_seconds", "operation=\"create\"",
                           "histogram",
                           "From the kernel's request to our answer."},
    [CFS_TIMING_MKDIR] = CHANGE("mkdir"),
    [CFS_TIMING_DELETE] = CHANGE("delete"),
    [CFS_TIMING_RENAME] = CHANGE("rename"),
    [CFS_TIMING_WRITE] = CHANGE("write"),
    [CFS_TIMING_TRUNCATE] = CHANGE("truncate"),
    [CFS_TIMING_MTIME] = CHANGE("mtime"),
    [CFS_TIMING_FSYNC] = {"pmxcfs_fsync_seconds", NULL, "histogram",
                          "From fsync(2) to our answer."},
    [CFS_TIMING_COMMIT] = {"pmxcfs_commit_seconds", NULL, "histogram",
                           "One transaction of the database."},
};

/* Upper ends; the last bucket has none. */
static const struct {
    gint64 us;
    const char *text;
} bounds[CFS_TIMING_BUCKETS - 1] = {
    {50, "0.00005"},  {100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},
    {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"},
    {1000000, "1"},   {10000000, "10"},
};

void
cfs_timing_add(CfsTiming *self, gint64 took_us)
{
    guint i = 0;

    while (i < G_N_ELEMENTS(bounds) && took_us > bounds[i].us) {
        i++;
    }
    self->counts[i]++;
    self->sum_us += (guint64)MAX(took_us, 0);
}

CfsMetrics *
cfs_metrics_new(void)
{
    CfsMetrics *self = g_new0(CfsMetrics, 1);

    self->clocks = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->values[CFS_METRIC_BUILD] = 1;
    return self;
}

void
cfs_metrics_free(CfsMetrics *self)
{
    if (self != NULL) {
        g_hash_table_unref(self->clocks);
        g_free(self);
    }
}

void
cfs_metrics_set_collect(CfsMetrics *self,
                        CfsMetricsCollect collect,
                        gpointer data)
{
    self->collect = collect;
    self->data = data;
}

void
cfs_metrics_add(CfsMetrics *self, CfsMetric metric, guint64 by)
{
    if (self != NULL) {
        self->values[metric] += by;
    }
}

void
cfs_metrics_set(CfsMetrics *self, CfsMetric metric, guint64 value)
{
    if (self != NULL) {
        self->values[metric] = value;
    }
}

void
cfs_metrics_observe(CfsMetrics *self, CfsTimingKind kind, gint64 took_us)
{
    if (self != NULL) {
        cfs_timing_add(&self->timings[kind], took_us);
    }
}

void
cfs_metrics_set_timing(CfsMetrics *self,
                       CfsTimingKind kind,
                       const CfsTiming *timing)
{
    if (self != NULL) {
        self->timings[kind] = *timing;
    }
}

void
cfs_metrics_set_clock(CfsMetrics *self, guint32 nodeid, gint64 ahead_s)
{
    gint64 *value;

    if (self == NULL) {
        return;
    }
    value = g_hash_table_lookup(self->clocks, GUINT_TO_POINTER(nodeid));
    if (value == NULL) {
        value = g_new0(gint64, 1);
        g_hash_table_insert(self->clocks, GUINT_TO_POINTER(nodeid), value);
    }
    *value = ahead_s;
}

/* The text ---------------------------------------------------------------- */

static void
append_head(GString *text, const Row *row)
{
    if (row->type != NULL) {
        g_string_append_printf(text, "# HELP %s %s\n# TYPE %s %s\n",
                               row->family, row->help, row->family, row->type);
    }
}

static void
append_value(GString *text, const Row *row, guint64 value)
{
    append_head(text, row);
    g_string_append(text, row->family);
    if (row->label != NULL) {
        g_string_append_printf(text, "{%s}", row->label);
    }
    g_string_append_printf(text, " %" G_GUINT64_FORMAT "\n", value);
}

static void
append_bucket(GString *text, const Row *row, const char *bound, guint64 count)
{
    g_string_append_printf(text,
                           "%s_bucket{%s%sle=\"%s\"} %" G_GUINT64_FORMAT "\n",
                           row->family, row->label != NULL ? row->label : "",
                           row->label != NULL ? "," : "", bound, count);
}

static void
append_timing(GString *text, const Row *row, const CfsTiming *timing)
{
    g_autofree char *label =
        row->label != NULL ? g_strdup_printf("{%s}", row->label) : g_strdup("");
    guint64 count = 0;

    append_head(text, row);
    for (guint i = 0; i < G_N_ELEMENTS(bounds); i++) {
        count += timing->counts[i];
        append_bucket(text, row, bounds[i].text, count);
    }
    count += timing->counts[CFS_TIMING_BUCKETS - 1];
    append_bucket(text, row, "+Inf", count);
    g_string_append_printf(
        text, "%s_sum%s %" G_GUINT64_FORMAT ".%06" G_GUINT64_FORMAT "\n",
        row->family, label, timing->sum_us / 1000000, timing->sum_us % 1000000);
    g_string_append_printf(text, "%s_count%s %" G_GUINT64_FORMAT "\n",
                           row->family, label, count);
}

static void
append_clocks(GString *text, GHashTable *clocks)
{
    static const Row row = {"pmxcfs_clock_ahead_seconds", NULL, "gauge",
                            "By how much a member's clock was ahead of this "
                            "node's when its last message came."};
    GHashTableIter iter;
    gpointer id, value;

    append_head(text, &row);
    g_hash_table_iter_init(&iter, clocks);
    while (g_hash_table_iter_next(&iter, &id, &value)) {
        g_string_append_printf(text, "%s{nodeid=\"%u\"} %" G_GINT64_FORMAT "\n",
                               row.family, GPOINTER_TO_UINT(id),
                               *(gint64 *)value);
    }
}

char *
cfs_metrics_text(CfsMetrics *self)
{
    GString *text = g_string_new(NULL);

    if (self->collect != NULL) {
        self->collect(self->data, self);
    }
    for (guint i = 0; i < CFS_METRIC_COUNT; i++) {
        append_value(text, &rows[i], self->values[i]);
    }
    append_clocks(text, self->clocks);
    for (guint i = 0; i < CFS_TIMING_COUNT; i++) {
        append_timing(text, &timing_rows[i], &self->timings[i]);
    }
    return g_string_free(text, FALSE);
}
