#include "config.h"

#include "pmxcfs/core/tree.h"

#include <errno.h>
#include <string.h>

typedef struct {
    CfsTree *tree;
    GPtrArray *changes;
    guint32 writer;
    guint32 time;
} Fixture;

static void
setup(Fixture *f, gconstpointer unused)
{
    f->tree = cfs_tree_new(1000);
    f->changes = cfs_changes_new();
    f->writer = 1;
    f->time = 2000;
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_tree_free(f->tree);
    g_ptr_array_unref(f->changes);
}

static int
apply(Fixture *f, CfsOp *op)
{
    int verdict;

    g_ptr_array_set_size(f->changes, 0);
    verdict = cfs_tree_apply(f->tree, op, f->writer, f->time, f->changes);
    cfs_op_free(op);
    return verdict;
}

static int
do_mkdir(Fixture *f, const char *path)
{
    return apply(f, cfs_op_new(CFS_OP_MKDIR, path));
}

static int
do_create(Fixture *f, const char *path)
{
    return apply(f, cfs_op_new(CFS_OP_CREATE, path));
}

static int
do_write(Fixture *f, const char *path, const char *text, guint32 offset)
{
    g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));

    return apply(f, cfs_op_new_write(path, data, offset));
}

static int
do_truncate(Fixture *f, const char *path, guint32 size)
{
    return apply(f, cfs_op_new_truncate(path, size));
}

static int
do_delete(Fixture *f, const char *path)
{
    return apply(f, cfs_op_new(CFS_OP_DELETE, path));
}

static int
do_rename(Fixture *f, const char *from, const char *to)
{
    return apply(f, cfs_op_new_rename(from, to));
}

static int
do_mtime(Fixture *f, const char *path, guint32 mtime)
{
    return apply(f, cfs_op_new_mtime(path, mtime));
}

static guint64
version(Fixture *f)
{
    return cfs_tree_root(f->tree)->version;
}

static void
assert_content(Fixture *f, const char *path, const char *text, gsize size)
{
    const CfsEntry *entry = cfs_tree_lookup(f->tree, path);
    guint8 out[64];

    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->size, ==, size);
    g_assert_cmpuint(cfs_entry_read(entry, 0, sizeof(out), out), ==, size);
    g_assert_cmpint(memcmp(out, text, size), ==, 0);
}

static char *
hex_of(GBytes *bytes)
{
    GString *out = g_string_new(NULL);
    gsize size = 0;
    const guint8 *p = g_bytes_get_data(bytes, &size);

    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(out, "%02x", p[i]);
    }
    return g_string_free(out, FALSE);
}

/* spec/filesystem.md 3: test vector (a). */
static void
test_vector_many(void)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(GBytes) zeros = g_bytes_new_take(g_malloc0(32768), 32768);
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GBytes) index = NULL;
    g_autofree char *sum = NULL;

    g_ptr_array_add(entries, cfs_entry_new(0, 0, 201, 0, 1234,
                                           CFS_TYPE_DIRECTORY, "", NULL));
    for (guint i = 0; i < 100; i++) {
        g_autofree char *name = g_strdup_printf("testfile%u", i);

        g_ptr_array_add(entries, cfs_entry_new(2 + 2 * i, 0, 3 + 2 * i, 0, 1234,
                                               CFS_TYPE_FILE, name, zeros));
    }
    tree = cfs_tree_new_from_entries(entries, NULL);
    g_assert_nonnull(tree);
    index = cfs_tree_index(tree);
    g_assert_cmpuint(g_bytes_get_size(index), ==, 4072);
    sum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, index);
    g_assert_cmpstr(
        sum, ==,
        "913fd95015af9d93f10dd51ba2a7bb11351bcfe040be21e95fcba834adc3ec10");
}

/* spec/replication.md 6.4. */
static void
test_vector_cap(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(GBytes) hello = g_bytes_new_static("hello\n", 6);
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GBytes) index = NULL, sum_bytes = NULL;
    g_autofree char *text = NULL, *sum_text = NULL;
    guint8 sum[CFS_DIGEST_SIZE];

    g_ptr_array_add(entries, cfs_entry_new(5, 4, 5, 2, 1700000000,
                                           CFS_TYPE_FILE, "a", hello));
    g_ptr_array_add(entries, cfs_entry_new(4, 0, 4, 2, 1700000000,
                                           CFS_TYPE_DIRECTORY, "cap", NULL));
    g_ptr_array_add(entries, cfs_entry_new(0, 0, 5, 2, 1700000000,
                                           CFS_TYPE_DIRECTORY, "", NULL));
    tree = cfs_tree_new_from_entries(entries, NULL);
    g_assert_nonnull(tree);
    index = cfs_tree_index(tree);
    text = hex_of(index);
    g_assert_cmpstr(
        text, ==,
        "05000000000000000500000000000000"
        "0200000000f153650300000098000000"
        "0000000000000000"
        "98ce9a37d679dc7fa17d8b37cca3bcad7e55f1f3a7a45f71f5abd9065105f2f4"
        "0400000000000000"
        "b6d47e5cf0d5590d7ac81b574d3a406352566f6cdf4b077640bcf1111e732001"
        "0500000000000000"
        "e4ea6148d2d9fbddb12a19932e8c9f224290d69a9d54524a1efb8f67550b1921");
    cfs_tree_checksum(tree, sum);
    sum_bytes = g_bytes_new(sum, sizeof(sum));
    sum_text = hex_of(sum_bytes);
    g_assert_cmpstr(
        sum_text, ==,
        "a04eb9c5e4a9e29bbb3186afa67eb79697325440f2a8acd2f45cd7c0f36af562");
}

/* The sequence of spec/filesystem.md 2.3, step by step. */
static void
test_version_sequence(Fixture *f, gconstpointer unused)
{
    g_assert_cmpuint(version(f), ==, 1);
    g_assert_cmpint(do_mkdir(f, "dd"), ==, 0);
    g_assert_cmpuint(version(f), ==, 2);
    g_assert_cmpint(do_create(f, "dd/new"), ==, 0);
    g_assert_cmpint(do_mtime(f, "dd/new", 1500), ==, 0);
    g_assert_cmpuint(cfs_tree_root(f->tree)->mtime, ==, 1500);
    g_assert_cmpint(do_create(f, "dd/f"), ==, 0);
    g_assert_cmpint(do_write(f, "dd/f", "hello", 0), ==, 0);
    g_assert_cmpuint(version(f), ==, 6);
    g_assert_cmpuint(cfs_tree_lookup(f->tree, "dd/f")->inode, ==, 5);
    g_assert_cmpint(do_truncate(f, "dd/f", 0), ==, 0);
    g_assert_cmpint(do_write(f, "dd/f", "hi", 0), ==, 0);
    g_assert_cmpint(do_write(f, "dd/f", "!", 2), ==, 0);
    g_assert_cmpint(do_truncate(f, "dd/f", 3), ==, 0);
    assert_content(f, "dd/f", "hi!", 3);
    g_assert_cmpint(do_rename(f, "dd/f", "dd/g"), ==, 0);
    g_assert_cmpuint(version(f), ==, 11);
    g_assert_cmpuint(cfs_tree_lookup(f->tree, "dd/g")->inode, ==, 5);
    g_assert_cmpint(do_rename(f, "dd/g", "dd/new"), ==, 0);
    g_assert_cmpuint(f->changes->len, ==, 2); /* the old target is gone */
    g_assert_cmpuint(cfs_tree_lookup(f->tree, "dd/new")->inode, ==, 5);
    g_assert_null(cfs_tree_get(f->tree, 3));
    g_assert_cmpint(do_mtime(f, "dd/new", 77), ==, 0);
    g_assert_cmpint(do_mkdir(f, "ee"), ==, 0);
    g_assert_cmpint(do_rename(f, "dd/new", "ee/new"), ==, 0);
    g_assert_cmpint(do_delete(f, "dd"), ==, 0);
    g_assert_cmpint(do_delete(f, "ee/new"), ==, 0);
    g_assert_cmpuint(version(f), ==, 17);
    /* A directory's own version does not follow its content. */
    g_assert_cmpuint(cfs_tree_lookup(f->tree, "ee")->version, ==, 14);
}

/* spec/filesystem.md 2.4, spec/replication.md 5.2: what is refused, and that
 * a refusal changes nothing. */
static void
test_refusals(Fixture *f, gconstpointer unused)
{
    guint64 before;

    g_assert_cmpint(do_mkdir(f, "d"), ==, 0);
    g_assert_cmpint(do_create(f, "d/f"), ==, 0);
    g_assert_cmpint(do_create(f, "file"), ==, 0);
    before = version(f);

    g_assert_cmpint(do_create(f, "no/f"), ==, ENOENT);
    g_assert_cmpint(do_create(f, "file/f"), ==, ENOTDIR);
    g_assert_cmpint(do_create(f, "file/x/f"), ==, ENOENT);
    g_assert_cmpint(do_create(f, "d/.."), ==, EACCES);
    g_assert_cmpint(do_create(f, ""), ==, EACCES);
    g_assert_cmpint(do_create(f, NULL), ==, EINVAL);
    g_assert_cmpint(do_create(f, "d"), ==, ENOTDIR);
    g_assert_cmpint(do_create(f, "file"), ==, EEXIST);
    g_assert_cmpint(do_mkdir(f, "file"), ==, EEXIST);
    g_assert_cmpint(do_mkdir(f, "d/"), ==, EEXIST);
    g_assert_cmpint(do_write(f, "none", "x", 0), ==, ENOENT);
    g_assert_cmpint(do_write(f, "d", "x", 0), ==, ENOTDIR);
    g_assert_cmpint(do_write(f, "file", "x", CFS_MAX_FILE_BYTES), ==, EFBIG);
    g_assert_cmpint(do_truncate(f, "file", G_MAXUINT32), ==, EFBIG);
    g_assert_cmpint(do_delete(f, "none"), ==, ENOENT);
    g_assert_cmpint(do_delete(f, NULL), ==, ENOENT);
    g_assert_cmpint(do_delete(f, ""), ==, EACCES);
    g_assert_cmpint(do_delete(f, "d"), ==, ENOTEMPTY);
    g_assert_cmpint(do_mtime(f, "none", 1), ==, ENOENT);
    g_assert_cmpint(do_mtime(f, "/", 1), ==, EACCES);
    g_assert_cmpint(do_rename(f, "none", "x"), ==, ENOENT);
    g_assert_cmpint(do_rename(f, "", "x"), ==, EACCES);
    g_assert_cmpint(do_rename(f, "file", "d"), ==, ENOTEMPTY);
    g_assert_cmpint(do_rename(f, "file", "no/x"), ==, ENOENT);
    g_assert_cmpint(do_rename(f, "file", "d/f/x"), ==, ENOTDIR);
    g_assert_cmpint(do_rename(f, "d", "e"), ==, ENOTEMPTY);
    g_assert_cmpint(do_rename(f, "file", NULL), ==, EINVAL);
    g_assert_cmpint(do_rename(f, "file", ""), ==, ENOTEMPTY);

    g_assert_cmpuint(version(f), ==, before);
    g_assert_cmpuint(f->changes->len, ==, 0);
}

/* spec/replication.md 12.3: the target of a rename that fails is gone. */
static void
test_failed_rename_loses_target(Fixture *f, gconstpointer unused)
{
    guint64 before;

    g_assert_cmpint(do_mkdir(f, "full"), ==, 0);
    g_assert_cmpint(do_create(f, "full/f"), ==, 0);
    g_assert_cmpint(do_mkdir(f, "empty"), ==, 0);
    before = version(f);
    g_assert_cmpint(do_rename(f, "full", "empty"), ==, ENOTEMPTY);
    g_assert_null(cfs_tree_lookup(f->tree, "empty"));
    g_assert_cmpuint(f->changes->len, ==, 1);
    g_assert_cmpuint(version(f), ==, before);
}

/* spec/replication.md 5.3, a row each. */
static void
test_content(Fixture *f, gconstpointer unused)
{
    const CfsEntry *entry;

    g_assert_cmpint(do_create(f, "f"), ==, 0);
    g_assert_cmpint(do_write(f, "f", "ab", 3), ==, 0);
    assert_content(f, "f", "\0\0\0ab", 5);
    g_assert_cmpint(do_write(f, "f", "X", 0), ==, 0);
    assert_content(f, "f", "X\0\0ab", 5);
    g_assert_cmpint(do_write(f, "f", "12345", 0), ==, 0);
    assert_content(f, "f", "12345", 5);
    g_assert_cmpint(do_write(f, "f", "z", 6), ==, 0);
    assert_content(f, "f", "12345\0z", 7);
    g_assert_cmpint(do_truncate(f, "f", 2), ==, 0);
    assert_content(f, "f", "12", 2);
    g_assert_cmpint(do_truncate(f, "f", 4), ==, 0);
    assert_content(f, "f", "12\0\0", 4);
    g_assert_cmpuint(cfs_tree_total_bytes(f->tree), ==, 4);
    g_assert_cmpint(do_truncate(f, "f", 0), ==, 0);
    g_assert_null(cfs_tree_lookup(f->tree, "f")->data);

    /* The quirk: a size without content, until something is written. */
    g_assert_cmpint(do_truncate(f, "f", 9), ==, 0);
    entry = cfs_tree_lookup(f->tree, "f");
    g_assert_cmpuint(entry->size, ==, 9);
    g_assert_null(entry->data);
    g_assert_cmpint(do_write(f, "f", "q", 1), ==, 0);
    assert_content(f, "f", "\0q", 2);
    g_assert_cmpuint(cfs_tree_total_bytes(f->tree), ==, 2);
}

static void
test_paths(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = NULL;

    g_assert_cmpint(do_mkdir(f, "a"), ==, 0);
    g_assert_cmpint(do_mkdir(f, "a//b/"), ==, 0);
    g_assert_cmpint(do_create(f, "/a/b/c"), ==, 0);
    g_assert_nonnull(cfs_tree_lookup(f->tree, "a/b/c"));
    g_assert_true(cfs_tree_lookup(f->tree, ".") == cfs_tree_root(f->tree));
    g_assert_true(cfs_tree_lookup(f->tree, "/") == cfs_tree_root(f->tree));
    g_assert_null(cfs_tree_lookup(f->tree, "a/./b"));
    g_assert_null(cfs_tree_lookup(f->tree, "a/../a"));
    path = cfs_tree_path(f->tree, cfs_tree_lookup(f->tree, "a/b/c")->inode);
    g_assert_cmpstr(path, ==, "a/b/c");
}

/* spec/filesystem.md 7: with 200 at n1/lxc. */
static void
test_guests(Fixture *f, gconstpointer unused)
{
    CfsGuests *guests = cfs_tree_guests(f->tree);
    guint32 list_version;

    static const char *const folders[] = {"nodes",
                                          "nodes/n1",
                                          "nodes/n2",
                                          "nodes/n1/lxc",
                                          "nodes/n2/lxc",
                                          "nodes/n1/qemu-server",
                                          "nodes/n1/priv",
                                          "nodes/bad_node",
                                          "nodes/bad_node/lxc",
                                          "nodes/n2/qemu-server"};

    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_assert_cmpint(do_mkdir(f, folders[i]), ==, 0);
    }
    g_assert_cmpint(do_create(f, "nodes/n1/lxc/200.conf"), ==, 0);
    g_assert_cmpint(do_create(f, "nodes/n2/lxc/200.conf"), ==, EEXIST);
    g_assert_cmpint(do_create(f, "nodes/n1/qemu-server/200.conf"), ==, EEXIST);
    g_assert_cmpint(do_create(f, "nodes/bad_node/lxc/200.conf"), ==, 0);
    g_assert_cmpint(do_create(f, "nodes/n1/priv/200.conf"), ==, 0);
    g_assert_cmpint(do_create(f, "x"), ==, 0);
    g_assert_cmpint(do_rename(f, "x", "nodes/n2/lxc/200.conf"), ==, EEXIST);
    list_version = cfs_guests_version(guests);
    g_assert_cmpint(do_rename(f, "x", "nodes/n1/lxc/200.conf"), ==, 0);
    g_assert_cmpuint(cfs_guests_version(guests), ==, list_version + 1);
    g_assert_cmpint(
        do_rename(f, "nodes/n1/lxc/200.conf", "nodes/n2/lxc/200.conf"), ==, 0);
    g_assert_cmpuint(cfs_guests_version(guests), ==, list_version + 3);
    g_assert_cmpint(
        do_rename(f, "nodes/n2/lxc/200.conf", "nodes/n2/qemu-server/200.conf"),
        ==, 0);
    g_assert_cmpint(do_create(f, "nodes/n1/lxc/200.conf"), ==, EEXIST);
    g_assert_cmpint(do_rename(f, "nodes/n2/qemu-server/200.conf", "away"), ==,
                    0);
    g_assert_cmpint(do_create(f, "nodes/n1/lxc/200.conf"), ==, 0);
    g_assert_cmpint(do_rename(f, "away", "nodes/n2/lxc/200.conf"), ==, EEXIST);
    g_assert_cmpint(do_delete(f, "nodes/n1/lxc/200.conf"), ==, 0);
    g_assert_cmpint(do_rename(f, "away", "nodes/n2/lxc/200.conf"), ==, 0);
}

/* spec/filesystem.md 8: who may renew a lock. */
static void
test_locks(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsOp) unlock = cfs_op_new(CFS_OP_UNLOCK, "priv/lock/L");

    g_assert_cmpint(do_mkdir(f, "priv"), ==, 0);
    g_assert_cmpint(do_mkdir(f, "priv/lock"), ==, 0);
    g_assert_cmpint(do_mkdir(f, "priv/lock/L"), ==, 0);
    g_assert_cmpint(do_rename(f, "priv/lock/L", "M"), ==, EACCES);
    g_assert_cmpint(do_mtime(f, "priv/lock/L", 2001), ==, 0);
    g_assert_cmpint(do_mtime(f, "priv/lock/L", 2000), ==, EACCES);
    f->writer = 2;
    g_assert_cmpint(do_mtime(f, "priv/lock/L", 2002), ==, EACCES);

    /* UNLOCK with another checksum is ignored, with the right one deletes. */
    g_assert_cmpint(cfs_tree_apply(f->tree, unlock, 1, 2100, f->changes), ==,
                    0);
    g_assert_nonnull(cfs_tree_lookup(f->tree, "priv/lock/L"));
    cfs_entry_checksum(cfs_tree_lookup(f->tree, "priv/lock/L"),
                       unlock->checksum);
    g_assert_cmpint(cfs_tree_apply(f->tree, unlock, 1, 2100, f->changes), ==,
                    0);
    g_assert_null(cfs_tree_lookup(f->tree, "priv/lock/L"));
}

static CfsTree *
tree_of(guint n, CfsEntry **entries, GError **error)
{
    g_autoptr(GPtrArray) array =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);

    for (guint i = 0; i < n; i++) {
        g_ptr_array_add(array, entries[i]);
    }
    return cfs_tree_new_from_entries(array, error);
}

static void
test_bad_content(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) no_parent = NULL, twice = NULL, file_parent = NULL;
    CfsEntry *orphan[] = {
        cfs_entry_new(2, 9, 2, 0, 0, CFS_TYPE_FILE, "a", NULL)};
    CfsEntry *same[] = {cfs_entry_new(2, 0, 2, 0, 0, CFS_TYPE_FILE, "a", NULL),
                        cfs_entry_new(3, 0, 3, 0, 0, CFS_TYPE_FILE, "a", NULL)};
    CfsEntry *inside[] = {
        cfs_entry_new(2, 0, 2, 0, 0, CFS_TYPE_FILE, "a", NULL),
        cfs_entry_new(3, 2, 3, 0, 0, CFS_TYPE_FILE, "b", NULL)};

    g_assert_null(tree_of(1, orphan, &no_parent));
    g_assert_nonnull(strstr(no_parent->message, "missing directory inode"));
    g_assert_null(tree_of(2, same, &twice));
    g_assert_nonnull(strstr(twice->message, "duplicate name"));
    g_assert_null(tree_of(2, inside, &file_parent));
    g_assert_nonnull(strstr(file_parent->message, "not a directory"));
}

/* W20: without a version record counting goes on behind what exists; a ring
 * of directories is kept, unreachable and harmless. */
static void
test_odd_content(Fixture *f, gconstpointer unused)
{
    CfsEntry *entries[] = {
        cfs_entry_new(7, 0, 3, 0, 0, CFS_TYPE_FILE, "a", NULL),
        cfs_entry_new(8, 9, 3, 0, 0, CFS_TYPE_DIRECTORY, "x", NULL),
        cfs_entry_new(9, 8, 3, 0, 0, CFS_TYPE_DIRECTORY, "y", NULL)};
    g_autoptr(CfsTree) tree = tree_of(3, entries, NULL);

    g_assert_nonnull(tree);
    g_assert_cmpuint(cfs_tree_root(tree)->version, ==, 9);
    g_assert_null(cfs_tree_path(tree, 8));
}

#define ADD(name, function)                                                    \
    g_test_add("/tree/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tree/vector-many", test_vector_many);
    ADD("vector-cap", test_vector_cap);
    ADD("version-sequence", test_version_sequence);
    ADD("refusals", test_refusals);
    ADD("failed-rename-loses-target", test_failed_rename_loses_target);
    ADD("content", test_content);
    ADD("paths", test_paths);
    ADD("guests", test_guests);
    ADD("locks", test_locks);
    ADD("bad-content", test_bad_content);
    ADD("odd-content", test_odd_content);
    return g_test_run();
}
