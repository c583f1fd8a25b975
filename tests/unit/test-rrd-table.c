#include "config.h"

#include "pmxcfs/core/rrd-table.h"

#include <errno.h>
#include <string.h>

static int
set(CfsRrdTable *table, const char *key, const char *text, guint32 now)
{
    g_autoptr(GBytes) value = g_bytes_new(text, strlen(text) + 1);

    return cfs_rrd_table_set(table, key, value, now);
}

/* The captured dump of spec/ipc.md 11, and a second one. */
static void
test_dump(void)
{
    g_autoptr(CfsRrdTable) table = cfs_rrd_table_new();
    gboolean is_new = FALSE;

    g_assert_cmpstr(cfs_rrd_table_dump(table, 100, &is_new), ==, "");
    g_assert_true(is_new);
    (void)set(table, "pve-storage-9.0/ipcl/local", "1795285758:10:5", 101);
    /* Not yet 2 s old: the same text. */
    g_assert_cmpstr(cfs_rrd_table_dump(table, 101, &is_new), ==, "");
    g_assert_false(is_new);
    (void)set(table, "pve-node-9.0/n1", "0:\n1", 102);
    g_assert_cmpstr(cfs_rrd_table_dump(table, 102, &is_new), ==,
                    "pve-node-9.0/n1:0: 1\n"
                    "pve-storage-9.0/ipcl/local:1795285758:10:5\n");
    g_assert_true(is_new);
    /* A clock that was set back does not freeze it. */
    (void)set(table, "pve-node-9.0/n1", "1", 50);
    g_assert_nonnull(
        strstr(cfs_rrd_table_dump(table, 50, NULL), "pve-node-9.0/n1:1\n"));
}

static void
test_expiry(void)
{
    g_autoptr(CfsRrdTable) table = cfs_rrd_table_new();

    (void)set(table, "a", "1", 1000);
    (void)set(table, "b", "1", 1001);
    g_assert_cmpstr(cfs_rrd_table_dump(table, 1300, NULL), ==, "a:1\nb:1\n");
    g_assert_cmpstr(cfs_rrd_table_get(table, "a"), ==, "1");
    g_assert_cmpstr(cfs_rrd_table_dump(table, 1302, NULL), ==, "");
}

static void
test_values(void)
{
    g_autoptr(CfsRrdTable) table = cfs_rrd_table_new();
    g_autofree char *longest = g_strnfill(CFS_RRD_MAX_VALUE - 1, 'x');
    g_autofree char *longer = g_strnfill(CFS_RRD_MAX_VALUE, 'x');
    g_autoptr(GBytes) none = g_bytes_new(NULL, 0);
    g_autoptr(GBytes) open = g_bytes_new("1", 1);

    g_assert_cmpint(set(table, "a", longest, 1), ==, 0);
    g_assert_cmpint(set(table, "a", longer, 1), ==, EINVAL);
    g_assert_cmpint(cfs_rrd_table_set(table, "a", none, 1), ==, EINVAL);
    g_assert_cmpint(cfs_rrd_table_set(table, "a", open, 1), ==, EINVAL);
    g_assert_cmpstr(cfs_rrd_table_get(table, "a"), ==, longest);
}

/* A peer that invents keys fills the table, and no more; old ones make room. */
static void
test_bounds(void)
{
    g_autoptr(CfsRrdTable) table = cfs_rrd_table_new();

    for (guint i = 0; i < CFS_RRD_MAX_ENTRIES; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);

        g_assert_cmpint(set(table, key, "1", i < 10 ? 1 : 1000), ==, 0);
    }
    g_assert_cmpint(set(table, "x", "1", 301), ==, ENOSPC);
    g_assert_cmpint(set(table, "x", "1", 302), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rrd-table/dump", test_dump);
    g_test_add_func("/rrd-table/expiry", test_expiry);
    g_test_add_func("/rrd-table/values", test_values);
    g_test_add_func("/rrd-table/bounds", test_bounds);
    return g_test_run();
}
