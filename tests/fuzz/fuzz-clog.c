/* A ring of another member, and the same bytes as one entry: what is taken is
 * shown as JSON, fits into a ring of our own, and is the same after it. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/clog.h"
#include "tests/fuzz/json-scan.h"

static void
check(CfsClog *log)
{
    g_autoptr(CfsClog) again = cfs_clog_new("n2");
    g_autoptr(GBytes) ring = cfs_clog_ring(log);
    g_autoptr(GPtrArray) rings = g_ptr_array_new();
    g_autofree char *text = cfs_clog_text(log, G_MAXUINT, NULL);
    g_autofree char *copy = NULL;
    gboolean is_one = cfs_clog_length(log) <= 1;

    g_assert_true(json_scan(text));
    g_assert_cmpuint(g_bytes_get_size(ring), <=, CFS_CLOG_SIZE);
    g_ptr_array_add(rings, ring);
    g_assert_cmpuint(cfs_clog_merge(again, rings), ==, 0);
    g_assert_cmpuint(cfs_clog_length(again), ==, cfs_clog_length(log));
    copy = cfs_clog_text(again, G_MAXUINT, NULL);
    /* A merge sorts; one entry has one order. */
    g_assert_true(!is_one || strcmp(text, copy) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autoptr(CfsClog) merged = cfs_clog_new("n1");
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GPtrArray) rings = g_ptr_array_new();

    if (cfs_clog_insert(log, bytes)) {
        g_assert_false(cfs_clog_insert(log, bytes));
    }
    check(log);
    g_ptr_array_add(rings, bytes);
    (void)cfs_clog_merge(merged, rings);
    check(merged);
    return 0;
}
