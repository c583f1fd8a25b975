/* rrd-table.h - the newest measurement of each thing in the cluster.
 *
 * One table for all nodes: the last writer wins, whichever node it is. What is
 * not renewed for CFS_RRD_EXPIRY_S is dropped when the table is shown.
 *
 * Owner   the status.
 * Units   seconds, of this host's clock; bytes.
 * Errors  verdicts.
 * Thread  the loop.
 * Source  spec/replication.md 10.2; spec/ipc.md 3.9, 6.1.
 */
#ifndef CFS_RRD_TABLE_H
#define CFS_RRD_TABLE_H

#include <glib.h>

#define CFS_RRD_EXPIRY_S 300u
#define CFS_RRD_CACHE_S 2u
#define CFS_RRD_MAX_VALUE 4095u /* with its NUL */
#define CFS_RRD_MAX_ENTRIES 65536u

typedef struct CfsRrdTable CfsRrdTable;

CfsRrdTable *cfs_rrd_table_new(void);
void cfs_rrd_table_free(CfsRrdTable *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRrdTable, cfs_rrd_table_free)

/* @key: without `rrd/`. Verdict: EINVAL for a value that is empty, too long or
 * not a string with its NUL; ENOSPC. */
int cfs_rrd_table_set(CfsRrdTable *self,
                      const char *key,
                      GBytes *value,
                      guint32 now);
/* Returns: (borrowed until the next set or dump) the value, or NULL. */
const char *cfs_rrd_table_get(CfsRrdTable *self, const char *key);
/* A line `key:value` for each. Made anew when the last is 2 s old. @is_new:
 * (out, nullable) it was made just now, and not before.
 * Returns: (borrowed until the next dump) */
const char *
cfs_rrd_table_dump(CfsRrdTable *self, guint32 now, gboolean *is_new);

#endif
