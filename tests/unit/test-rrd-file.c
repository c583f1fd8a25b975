#include "config.h"

#include "pmxcfs/core/rrd-file.h"

#include <string.h>

/* Values as spec/ipc.md 6.3 captured them, and what else senders send. NULL:
 * refused. */
static const struct {
    const char *key;
    const char *value;
    const char *path;
    const char *values;
} rows[] = {
    {"pve2-node/ipcl",
     "99:c:1795285786:0.5:4:0.1:0.01:1000:500:0:0:2000:1000:100:200",
     "pve-node-9.0/ipcl",
     "1795285786:0.5:4:0.1:0.01:1000:500:0:0:2000:1000:100:200"
     ":U:U:U:U:U:U:U"},
    {"pve-node-9.0/ipcl",
     "99::1795285786:0.5:4:0.1:0.01:1000:500:0:0:2000:1000:100:200:300:0:1:2:3:"
     "4:5",
     "pve-node-9.0/ipcl",
     "1795285786:0.5:4:0.1:0.01:1000:500:0:0:2000:1000:100:200:300:0:1:2:3:4:"
     "5"},
    {"pve2.3-vm/101",
     "60:my vm\n:running:0:1795285786:1:0.5:512:100:1000:500:1:2:3:4",
     "pve-vm-9.0/101",
     "1795285786:1:0.5:512:100:1000:500:1:2:3:4:U:U:U:U:U:U:U"},
    {"pve2-storage/ipcl/local", "1795285758:10:5", "pve-storage-9.0/ipcl/local",
     "1795285758:10:5"},
    /* Newer ones: what we do not know goes, and no more than that. */
    {"pve-storage-9.1/n/s", "1:10:500", "pve-storage-9.0/n/s", "1:10:500"},
    {"pve-storage-10.0/n/s", "1:10:500:7:8", "pve-storage-9.0/n/s", "1:10:500"},
    /* Too little. */
    {"pve-storage-9.0/n/s", "1:10", NULL, NULL},
    {"pve-storage-9.0/n/s", "", NULL, NULL},
    {"pve-node-9.0/n", "1", NULL, NULL},
    {"pve-node-9.0/n", "1:2:", NULL, NULL},
    {"pve-storage-9.0/n/s", "U:1:2", NULL, NULL},
    /* Nothing may become another command, or another file. */
    {"pve-storage-9.0/n/s", "1:1:1\nQUIT", NULL, NULL},
    {"pve-storage-9.0/n/s", "1:1:1 2:2:2", NULL, NULL},
    {"pve-storage-9.0/n/s", "1:1:$(x)", NULL, NULL},
    {"pve-storage-9.0/n/..", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/../s", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n/a b", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n/a\nb", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n/a\\b", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n/", "1:1:1", NULL, NULL},
    {"pve-storage-9.0//s", "1:1:1", NULL, NULL},
    {"pve-storage-9.0/n/s/t", "1:1:1", NULL, NULL},
    {"pve2-storage/", "1:1:1", NULL, NULL},
    {"pve-storage-9.0", "1:1:1", NULL, NULL},
    {"other/n", "1:1:1", NULL, NULL},
    {"", "", NULL, NULL},
};

static void
test_updates(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(CfsRrdUpdate) update =
            cfs_rrd_update_new(rows[i].key, rows[i].value);

        if (rows[i].path == NULL) {
            g_assert_null(update);
            continue;
        }
        g_assert_nonnull(update);
        g_assert_cmpstr(update->path, ==, rows[i].path);
        g_assert_cmpstr(update->values, ==, rows[i].values);
        g_assert_true(
            g_str_has_prefix(update->path, cfs_rrd_directory(update->kind)));
    }
}

static void
test_definitions(void)
{
    g_autofree char *node = cfs_rrd_definition(CFS_RRD_NODE);
    g_autofree char *guest = cfs_rrd_definition(CFS_RRD_GUEST);
    g_autofree char *storage = cfs_rrd_definition(CFS_RRD_STORAGE);

    g_assert_cmpstr(
        storage, ==,
        "DS:total:GAUGE:120:0:U DS:used:GAUGE:120:0:U"
        " RRA:AVERAGE:0.5:1:1440 RRA:AVERAGE:0.5:30:1440"
        " RRA:AVERAGE:0.5:360:1440 RRA:AVERAGE:0.5:10080:570"
        " RRA:MAX:0.5:1:1440 RRA:MAX:0.5:30:1440 RRA:MAX:0.5:360:1440"
        " RRA:MAX:0.5:10080:570");
    g_assert_nonnull(strstr(node, "DS:rootused:GAUGE:120:0:U "
                                  "DS:netin:DERIVE:120:0:U "));
    g_assert_nonnull(strstr(guest, "DS:diskwrite:DERIVE:120:0:U "
                                   "DS:memhost:GAUGE:120:0:U "));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rrd-file/updates", test_updates);
    g_test_add_func("/rrd-file/definitions", test_definitions);
    return g_test_run();
}
