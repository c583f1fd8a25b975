/* Every kind of bad content of spec/filesystem.md 1.6, and those it does not
 * name: what is kept, what is set aside, and in which words. */
#include "config.h"

#include "pmxcfs/core/repair.h"

#include <string.h>

#include "pmxcfs/core/tree.h"

enum { DIR_ = CFS_TYPE_DIRECTORY, FILE_ = CFS_TYPE_FILE };

typedef struct {
    guint64 inode, parent, version;
    guint8 type;
    const char *name;
    const char *data;
} Row;

static void
add(GPtrArray *rows, const Row *row)
{
    g_autoptr(GBytes) data =
        row->data != NULL ? g_bytes_new_static(row->data, strlen(row->data))
                          : NULL;

    g_ptr_array_add(rows,
                    cfs_row_new(row->inode, row->parent, row->version, 1, 77,
                                row->type, row->name, strlen(row->name), data));
}

/* "2 a; 3 a/b" : the paths a tree of them has. */
static char *
list_paths(CfsRepair *repair)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CfsTree) tree =
        cfs_tree_new_from_entries(repair->entries, &error);
    g_autoptr(GPtrArray) entries = NULL;
    GString *out = g_string_new(NULL);

    g_assert_no_error(error);
    entries = cfs_tree_entries(tree);
    for (guint i = 1; i < entries->len; i++) {
        const CfsEntry *entry = entries->pdata[i];
        g_autofree char *path = cfs_tree_path(tree, entry->inode);

        g_assert_nonnull(path);
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT " %s",
                               i > 1 ? "; " : "", entry->inode, path);
    }
    return g_string_free(out, FALSE);
}

static void
reverse(GPtrArray *rows)
{
    for (guint i = 0, k = rows->len; i + 1 < k; i++) {
        gpointer row = rows->pdata[--k];

        rows->pdata[k] = rows->pdata[i];
        rows->pdata[i] = row;
    }
}

typedef struct {
    const char *title;
    Row rows[8];
    const char *paths;
    const char *decisions[4];
} Case;

#define RECORD                                                                 \
    {                                                                          \
        0, 0, 50, FILE_, "__version__", NULL                                   \
    }

static const Case cases[] = {
    {"nothing wrong",
     {RECORD, {3, 2, 4, FILE_, "b", "x"}, {2, 0, 2, DIR_, "a", NULL}},
     "2 a; 3 a/b",
     {NULL}},
    {"missing parent",
     {RECORD,
      {3, 9, 4, FILE_, "b", "x"},
      {4, 9, 4, DIR_, "c", NULL},
      {5, 4, 5, FILE_, "d", NULL}},
     "",
     {"set aside: missing directory inode (inode = 0000000000000003, "
      "parent = 0000000000000009, version = 4, name = 'b')",
      "set aside: missing directory inode (inode = 0000000000000004, "
      "parent = 0000000000000009, version = 4, name = 'c')",
      "set aside: its directory is set aside or cannot be reached from the "
      "root (inode = 0000000000000005, parent = 0000000000000004, "
      "version = 5, name = 'd')"}},
    {"duplicate name",
     {RECORD,
      {2, 0, 9, FILE_, "f", "new"},
      {3, 0, 8, FILE_, "f", "old"},
      {4, 0, 9, FILE_, "f", "late"}},
     "2 f",
     {"set aside: found entry with duplicate name, inode 0000000000000002 has "
      "version 9 (inode = 0000000000000003, parent = 0000000000000000, "
      "version = 8, name = 'f')",
      "set aside: found entry with duplicate name, inode 0000000000000002 has "
      "version 9 (inode = 0000000000000004, parent = 0000000000000000, "
      "version = 9, name = 'f')"}},
    {"unknown type",
     {RECORD,
      {2, 0, 2, 5, "odd", NULL},
      {3, 0, 3, 5, "folder", "x"},
      {4, 3, 4, FILE_, "in", NULL}},
     "3 folder; 4 folder/in",
     {"taken as the directory of the rows in it: inode has unknown type 5 "
      "(inode = 0000000000000003, parent = 0000000000000000, version = 3, "
      "name = 'folder')",
      "set aside: inode has unknown type 5 (inode = 0000000000000002, "
      "parent = 0000000000000000, version = 2, name = 'odd')"}},
    {"directory with data",
     {RECORD, {2, 0, 2, DIR_, "d", "x"}, {3, 2, 3, FILE_, "f", NULL}},
     "2 d; 3 d/f",
     {"kept without its data: directory inode contains data (inode = "
      "0000000000000002, parent = 0000000000000000, version = 2, name = 'd')"}},
    {"no name",
     {RECORD, {2, 0, 2, FILE_, "", NULL}},
     "",
     {"set aside: inode has no name (inode = 0000000000000002, parent = "
      "0000000000000000, version = 2, name = '')"}},
    {"names no path can hold",
     {RECORD,
      {2, 0, 2, FILE_, "a/b", NULL},
      {3, 0, 3, DIR_, "..", NULL},
      {4, 0, 4, DIR_, ".", NULL}},
     "",
     {"set aside: inode has a name that no path can hold (inode = "
      "0000000000000002, parent = 0000000000000000, version = 2, name = 'a/b')",
      "set aside: inode has a name that no path can hold (inode = "
      "0000000000000003, parent = 0000000000000000, version = 3, name = '..')",
      "set aside: inode has a name that no path can hold (inode = "
      "0000000000000004, parent = 0000000000000000, version = 4, name = "
      "'.')"}},
    {"wrong root name",
     {{0, 0, 50, FILE_, "other", NULL}, {2, 0, 2, FILE_, "f", NULL}},
     "2 f",
     {"kept as the version record: root inode has unexpected name (inode = "
      "0000000000000000, parent = 0000000000000000, version = 50, name = "
      "'other')"}},
    {"no version record",
     {{2, 0, 7, FILE_, "f", NULL}},
     "2 f",
     {"no version record: counting goes on at 7"}},
    {"parent is a file",
     {RECORD, {2, 0, 2, FILE_, "f", NULL}, {3, 2, 3, FILE_, "g", NULL}},
     "2 f",
     {"set aside: parent is not a directory (inode = 0000000000000003, parent "
      "= 0000000000000002, version = 3, name = 'g')"}},
    {"a ring",
     {RECORD,
      {2, 3, 2, DIR_, "a", NULL},
      {3, 2, 3, DIR_, "b", NULL},
      {4, 4, 4, DIR_, "self", NULL}},
     "",
     {"set aside: its directory is set aside or cannot be reached from the "
      "root (inode = 0000000000000002, parent = 0000000000000003, version = 2, "
      "name = 'a')",
      "set aside: its directory is set aside or cannot be reached from the "
      "root (inode = 0000000000000003, parent = 0000000000000002, version = 3, "
      "name = 'b')",
      "set aside: its directory is set aside or cannot be reached from the "
      "root (inode = 0000000000000004, parent = 0000000000000004, version = 4, "
      "name = 'self')"}},
    {"duplicate VMID",
     {RECORD,
      {2, 0, 2, DIR_, "nodes", NULL},
      {3, 2, 3, DIR_, "n1", NULL},
      {4, 3, 4, DIR_, "lxc", NULL},
      {5, 3, 5, DIR_, "qemu-server", NULL},
      {6, 4, 9, FILE_, "100.conf", "x"},
      {7, 5, 8, FILE_, "100.conf", "y"}},
     "2 nodes; 3 nodes/n1; 4 nodes/n1/lxc; 5 nodes/n1/qemu-server; "
     "6 nodes/n1/lxc/100.conf",
     {"set aside: detected duplicate VMID 100, 'nodes/n1/lxc/100.conf' has "
      "version 9 (inode = 0000000000000007, parent = 0000000000000005, "
      "version = 8, name = '100.conf')"}},
    {"a file where guests belong",
     {RECORD,
      {2, 0, 2, DIR_, "nodes", NULL},
      {3, 2, 3, DIR_, "n1", NULL},
      {4, 3, 4, FILE_, "lxc", NULL}},
     "2 nodes; 3 nodes/n1",
     {"set aside: a regular file where the guests' directory belongs (inode = "
      "0000000000000004, parent = 0000000000000003, version = 4, name = "
      "'lxc')"}},
    {"numbers out of reach",
     {RECORD,
      {G_MAXUINT64, 0, 2, FILE_, "f", NULL},
      {2, 0, G_MAXUINT64, FILE_, "g", NULL}},
     "",
     {"set aside: inode or version that no tree can reach (inode = "
      "0000000000000002, parent = 0000000000000000, version = "
      "18446744073709551615, name = 'g')",
      "set aside: inode or version that no tree can reach (inode = "
      "FFFFFFFFFFFFFFFF, parent = 0000000000000000, version = 2, name = "
      "'f')"}},
    {"nothing at all", {{0}}, "", {"no version record: counting goes on at 1"}},
};

static void
assert_case(const Case *c, GPtrArray *rows)
{
    g_autoptr(CfsRepair) repair = cfs_repair_rows(rows);
    g_autofree char *paths = list_paths(repair);
    guint n = 0;

    g_assert_cmpstr(paths, ==, c->paths);
    for (guint i = 0; i < repair->decisions->len; i++) {
        g_assert_cmpstr(repair->decisions->pdata[i], ==, c->decisions[i]);
    }
    while (n < G_N_ELEMENTS(c->decisions) && c->decisions[n] != NULL) {
        n++;
    }
    g_assert_cmpuint(repair->decisions->len, ==, n);
}

static void
test_case(gconstpointer data)
{
    const Case *c = data;
    g_autoptr(GPtrArray) rows = cfs_rows_new();

    for (guint i = 0; i < G_N_ELEMENTS(c->rows) && c->rows[i].name != NULL;
         i++) {
        add(rows, &c->rows[i]);
    }
    assert_case(c, rows);
    /* The same rows in another order: the same decisions. */
    reverse(rows);
    assert_case(c, rows);
}

static void
test_nul_in_name(void)
{
    g_autoptr(GPtrArray) rows = cfs_rows_new();
    g_autoptr(CfsRepair) repair = NULL;
    const Row record = RECORD;

    add(rows, &record);
    g_ptr_array_add(rows, cfs_row_new(2, 0, 2, 0, 0, FILE_, "a\0b", 3, NULL));
    repair = cfs_repair_rows(rows);
    g_assert_cmpuint(repair->entries->len, ==, 1);
    g_assert_cmpuint(repair->n_set_aside, ==, 1);
    g_assert_cmpstr(repair->decisions->pdata[0], ==,
                    "set aside: inode has a name with a NUL (inode = "
                    "0000000000000002, parent = 0000000000000000, "
                    "version = 2, name = 'a')");
}

static CfsTree *
tree_of(CfsRepair *repair)
{
    g_autoptr(GError) error = NULL;
    CfsTree *tree = cfs_tree_new_from_entries(repair->entries, &error);

    g_assert_no_error(error);
    return tree;
}

static int
create(CfsTree *tree, const char *path)
{
    g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_CREATE, path);

    return cfs_tree_apply(tree, op, 2, 1234, NULL);
}

/* W20: alone, the version goes above everything that is there. */
static void
test_raise(void)
{
    static const Row rows[] = {{0, 0, 3, FILE_, "__version__", NULL},
                               {20, 0, 30, FILE_, "f", NULL}};
    g_autoptr(GPtrArray) all = cfs_rows_new();
    g_autoptr(CfsRepair) repair = NULL;
    g_autoptr(CfsTree) tree = NULL;

    add(all, &rows[0]);
    add(all, &rows[1]);
    repair = cfs_repair_rows(all);
    g_assert_cmpuint(repair->decisions->len, ==, 0);
    cfs_repair_raise(repair);
    g_assert_cmpuint(repair->decisions->len, ==, 1);
    cfs_repair_raise(repair);
    g_assert_cmpuint(repair->decisions->len, ==, 1);
    tree = tree_of(repair);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, 30);
}

/* With the lowest claim nothing is given out twice either. */
static void
test_lower(void)
{
    static const Row rows[] = {
        RECORD, {5, 0, 40, FILE_, "f", "x"}, {30, 0, 30, FILE_, "g", NULL}};
    g_autoptr(GPtrArray) all = cfs_rows_new();
    g_autoptr(CfsRepair) repair = NULL;
    g_autoptr(CfsTree) tree = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        add(all, &rows[i]);
    }
    repair = cfs_repair_rows(all);
    cfs_repair_lower(repair);
    tree = tree_of(repair);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, CFS_CLAIM_VERSION);
    g_assert_cmpint(create(tree, "f"), !=, 0);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, CFS_CLAIM_VERSION);
    g_assert_cmpint(create(tree, "h"), ==, 0);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, 41);
    g_assert_cmpuint(cfs_tree_lookup(tree, "h")->inode, ==, 41);
    g_assert_cmpint(create(tree, "i"), ==, 0);
    g_assert_cmpuint(cfs_tree_lookup(tree, "i")->inode, ==, 42);

    g_clear_pointer(&repair, cfs_repair_free);
    repair = cfs_repair_rows((g_ptr_array_set_size(all, 1), all));
    cfs_repair_lower(repair);
    g_assert_cmpuint(((CfsEntry *)repair->entries->pdata[0])->version, ==,
                     CFS_CLAIM_NOTHING);
}

/* A peer's tree whose record was lost once: no entry is overwritten. */
static void
test_number_taken(void)
{
    static const Row rows[] = {{0, 0, 8, FILE_, "__version__", NULL},
                               {9, 0, 9, DIR_, "d", NULL},
                               {10, 9, 12, FILE_, "f", "x"}};
    g_autoptr(GPtrArray) all = cfs_rows_new();
    g_autoptr(CfsRepair) repair = NULL;
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(CfsOp) write = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        add(all, &rows[i]);
    }
    repair = cfs_repair_rows(all);
    tree = tree_of(repair);
    write = cfs_op_new_truncate("d/f", 0);
    g_assert_cmpint(cfs_tree_apply(tree, write, 1, 1, NULL), ==, 0);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, 9);
    g_assert_cmpint(create(tree, "d/g"), ==, 0);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, 11);
    g_assert_cmpuint(cfs_tree_lookup(tree, "d/g")->inode, ==, 11);
    g_assert_nonnull(cfs_tree_lookup(tree, "d/f"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdelimit(
            g_strconcat("/repair/", cases[i].title, NULL), " ", '-');

        g_test_add_data_func(path, &cases[i], test_case);
    }
    g_test_add_func("/repair/nul-in-name", test_nul_in_name);
    g_test_add_func("/repair/raise", test_raise);
    g_test_add_func("/repair/lower", test_lower);
    g_test_add_func("/repair/number-taken", test_number_taken);
    return g_test_run();
}
