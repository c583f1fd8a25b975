/* Any rows make a tree, in which everything can be reached and written. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/repair.h"
#include "pmxcfs/core/tree.h"

#include <string.h>

/* Few numbers and names, so that rows meet. */
static const char *const names[] = {"a",     "b",
                                    "nodes", "n1",
                                    "lxc",   "qemu-server",
                                    "..",    "100.conf",
                                    "",      "__version__",
                                    "a/b",   "101.conf",
                                    "lxc",   "corosync.conf"};

static void
add_row(GPtrArray *rows, PveReader *reader)
{
    guint8 inode = pve_reader_u8(reader), parent = pve_reader_u8(reader);
    guint8 version = pve_reader_u8(reader), kind = pve_reader_u8(reader);
    const char *name = names[(kind >> 3) % G_N_ELEMENTS(names)];
    guint8 type = (kind & 1) != 0   ? CFS_TYPE_DIRECTORY
                  : (kind & 6) == 6 ? 5
                                    : CFS_TYPE_FILE;
    g_autoptr(GBytes) data =
        (kind & 2) != 0 ? g_bytes_new_static("x", 1) : NULL;
    guint64 high = inode > 250 ? G_MAXUINT64 - 255 : 0;

    g_ptr_array_add(rows, cfs_row_new(high + inode, parent, version, 1, 2, type,
                                      name, strlen(name), data));
}

static void
check_tree(CfsTree *tree)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = entries->pdata[i];
        g_autofree char *path = cfs_tree_path(tree, entry->inode);

        g_assert_nonnull(path);
        g_assert_true(cfs_tree_lookup(tree, path) == entry);
    }
    if (cfs_tree_lookup(tree, "new") == NULL) {
        g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_CREATE, "new");

        g_assert_cmpint(cfs_tree_apply(tree, op, 1, 1, NULL), ==, 0);
        g_assert_cmpuint(cfs_tree_n_entries(tree), ==, entries->len + 1);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) rows = cfs_rows_new();
    g_autoptr(CfsRepair) repair = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(CfsTree) tree = NULL;
    PveReader reader;
    gboolean is_lowered = size > 0 && (data[0] & 1) != 0;

    pve_reader_init(&reader, data, size);
    while (pve_reader_left(&reader) >= 4 && rows->len < 64) {
        add_row(rows, &reader);
    }
    repair = cfs_repair_rows(rows);
    if (is_lowered) {
        cfs_repair_lower(repair);
    } else {
        cfs_repair_raise(repair);
    }
    tree = cfs_tree_new_from_entries(repair->entries, &error);
    g_assert_no_error(error);
    check_tree(tree);
    return 0;
}
