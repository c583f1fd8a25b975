/* metrics.h - what is counted, as Prometheus reads it.
 *
 * A number is counted where it happens, for the price of an addition; what can
 * be looked up at any time is looked up when somebody reads the text.
 *
 * Owner   the daemon. NULL in place of the metrics counts nothing.
 * Units   bytes; microseconds in, seconds in the text.
 * Thread  the loop.
 * Source  prometheus.io: text exposition format 0.0.4.
 */
#ifndef CFS_METRICS_H
#define CFS_METRICS_H

#include <glib.h>

typedef struct CfsMetrics CfsMetrics;

/* Counters and gauges; their names are in the table of metrics.c. */
typedef enum {
    CFS_METRIC_FUSE_LOOKUP,
    CFS_METRIC_FUSE_FORGET,
    CFS_METRIC_FUSE_GETATTR,
    CFS_METRIC_FUSE_SETATTR,
    CFS_METRIC_FUSE_READLINK,
    CFS_METRIC_FUSE_MAKE,
    CFS_METRIC_FUSE_REMOVE,
    CFS_METRIC_FUSE_RENAME,
    CFS_METRIC_FUSE_CREATE,
    CFS_METRIC_FUSE_OPEN,
    CFS_METRIC_FUSE_READ,
    CFS_METRIC_FUSE_WRITE,
    CFS_METRIC_FUSE_CLOSE,
    CFS_METRIC_FUSE_FSYNC,
    CFS_METRIC_FUSE_READDIR,
    CFS_METRIC_FUSE_STATFS,
    CFS_METRIC_FUSE_INTERRUPT,
    CFS_METRIC_FUSE_OTHER,
    CFS_METRIC_CHANGES_REFUSED,
    CFS_METRIC_CHANGES_APPLIED,
    CFS_METRIC_REQUESTS_WAITING,
    CFS_METRIC_STORE_WAITING,
    CFS_METRIC_MESSAGES_SENT,
    CFS_METRIC_MESSAGES_RECEIVED,
    CFS_METRIC_MESSAGE_BYTES_SENT,
    CFS_METRIC_MESSAGE_BYTES_RECEIVED,
    CFS_METRIC_QUORATE,
    CFS_METRIC_MODE_START,
    CFS_METRIC_MODE_START_SYNC,
    CFS_METRIC_MODE_SYNCED,
    CFS_METRIC_MODE_UPDATE,
    CFS_METRIC_MODE_LEAVE,
    CFS_METRIC_MODE_VERSION_ERROR,
    CFS_METRIC_TREE_VERSION,
    CFS_METRIC_TREE_ENTRIES,
    CFS_METRIC_TREE_BYTES,
    CFS_METRIC_COMMITS,
    CFS_METRIC_COMMITS_FAILED,
    CFS_METRIC_ROWS_WRITTEN,
    CFS_METRIC_LOG_BYTES_WRITTEN,
    CFS_METRIC_CHECKPOINTS,
    CFS_METRIC_DURABLE,
    CFS_METRIC_DROPPED_NAMES,
    CFS_METRIC_DROPPED_ATTRIBUTES,
    CFS_METRIC_DROPPED_CONTENTS,
    CFS_METRIC_DROPPED_ALL,
    CFS_METRIC_DROPS_WAITING,
    CFS_METRIC_CACHING,
    CFS_METRIC_INODES_KNOWN,
    CFS_METRIC_HANDLES_OPEN,
    CFS_METRIC_MEMORY,
    CFS_METRIC_DISK_BYTES_WRITTEN,
    CFS_METRIC_START_TIME,
    CFS_METRIC_BUILD,
    CFS_METRIC_COUNT,
} CfsMetric;

/* Histograms. */
typedef enum {
    CFS_TIMING_CREATE,
    CFS_TIMING_MKDIR,
    CFS_TIMING_DELETE,
    CFS_TIMING_RENAME,
    CFS_TIMING_WRITE,
    CFS_TIMING_TRUNCATE,
    CFS_TIMING_MTIME,
    CFS_TIMING_FSYNC,
    CFS_TIMING_COMMIT,
    CFS_TIMING_COUNT,
} CfsTimingKind;

#define CFS_TIMING_BUCKETS 15u

/* Open: a thread of its own may fill one. */
typedef struct {
    guint64 counts[CFS_TIMING_BUCKETS]; /* each of its own bucket only */
    guint64 sum_us;
} CfsTiming;

void cfs_timing_add(CfsTiming *self, gint64 took_us);

/* Looks up what is looked up when it is read. */
typedef void (*CfsMetricsCollect)(gpointer data, CfsMetrics *self);

CfsMetrics *cfs_metrics_new(void);
void cfs_metrics_free(CfsMetrics *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsMetrics, cfs_metrics_free)
void cfs_metrics_set_collect(CfsMetrics *self,
                             CfsMetricsCollect collect,
                             gpointer data);

void cfs_metrics_add(CfsMetrics *self, CfsMetric metric, guint64 by);
void cfs_metrics_set(CfsMetrics *self, CfsMetric metric, guint64 value);
void cfs_metrics_observe(CfsMetrics *self, CfsTimingKind kind, gint64 took_us);
void cfs_metrics_set_timing(CfsMetrics *self,
                            CfsTimingKind kind,
                            const CfsTiming *timing);

/* By how much the clock of a member was ahead of ours, or behind (negative),
 * when its last message came. */
void cfs_metrics_set_clock(CfsMetrics *self, guint32 nodeid, gint64 ahead_s);

/* Returns: (owned) all of them. */
char *cfs_metrics_text(CfsMetrics *self);

#endif
