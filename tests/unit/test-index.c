/* Indexes: spec/replication.md 3.2, 6.1, 6.3, 6.4. */
#include "config.h"

#include "pmxcfs/core/index.h"
#include "pmxcfs/core/tree.h"
#include "tests/unit/capture.h"

#include <string.h>

/* The payload of the captured STATE of node 3. */
#define CAPTURED_ROOT                                                          \
    "a362f0c03e14881f9679461b4aa8c85935b3058684e692dd32fb7e185f50b238"
#define CAPTURED_CONF                                                          \
    "a7e7596abbe828400377b9d2390b9bd2c494e5e57ae920520ed381790e66f618"
#define CAPTURED                                                               \
    "0300000000000000|0200000000000000"                                        \
    "00000000|c2f2016b|02000000|70000000"                                      \
    "0000000000000000|" CAPTURED_ROOT "|0200000000000000|" CAPTURED_CONF

/* 6.4 */
#define VECTOR                                                                 \
    "05000000000000000500000000000000 0200000000f153650300000098000000"        \
    "0000000000000000"                                                         \
    "98ce9a37d679dc7fa17d8b37cca3bcad7e55f1f3a7a45f71f5abd9065105f2f4"         \
    "0400000000000000"                                                         \
    "b6d47e5cf0d5590d7ac81b574d3a406352566f6cdf4b077640bcf1111e732001"         \
    "0500000000000000"                                                         \
    "e4ea6148d2d9fbddb12a19932e8c9f224290d69a9d54524a1efb8f67550b1921"

static CfsTree *
vector_tree(void)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(GBytes) hello = g_bytes_new_static("hello\n", 6);
    g_autoptr(GError) error = NULL;
    CfsTree *tree;

    g_ptr_array_add(entries, cfs_entry_new(0, 0, 5, 2, 1700000000,
                                           CFS_TYPE_DIRECTORY, "", NULL));
    g_ptr_array_add(entries, cfs_entry_new(4, 0, 4, 2, 1700000000,
                                           CFS_TYPE_DIRECTORY, "cap", NULL));
    g_ptr_array_add(entries, cfs_entry_new(5, 4, 5, 2, 1700000000,
                                           CFS_TYPE_FILE, "a", hello));
    tree = cfs_tree_new_from_entries(entries, &error);
    g_assert_no_error(error);
    return tree;
}

static void
assert_digest(const CfsIndex *index, guint64 inode, const char *expected)
{
    const guint8 *digest = cfs_index_find(index, inode);
    g_autofree char *text = NULL;

    g_assert_nonnull(digest);
    text = capture_hex(digest, CFS_DIGEST_SIZE);
    g_assert_cmpstr(text, ==, expected);
}

static void
test_captured(void)
{
    g_autoptr(GBytes) bytes = capture_bytes(CAPTURED);
    g_autoptr(CfsIndex) index = cfs_index_new(bytes);
    g_autoptr(CfsEntry) root =
        cfs_entry_new(0, 0, 3, 0, 0x6b01f2c2, CFS_TYPE_DIRECTORY, "", NULL);
    guint8 digest[CFS_DIGEST_SIZE];
    g_autofree char *text = NULL;

    g_assert_nonnull(index);
    g_assert_cmpuint(cfs_index_version(index), ==, 3);
    g_assert_cmpuint(cfs_index_mtime(index), ==, 0x6b01f2c2);
    assert_digest(index, 0, CAPTURED_ROOT);
    assert_digest(index, 2, CAPTURED_CONF);
    g_assert_null(cfs_index_find(index, 1));
    cfs_entry_digest(root, digest);
    text = capture_hex(digest, sizeof(digest));
    g_assert_cmpstr(text, ==, CAPTURED_ROOT);
}

static void
test_vector(void)
{
    g_autoptr(CfsTree) tree = vector_tree();
    g_autoptr(GBytes) bytes = cfs_tree_index(tree);
    g_autoptr(CfsIndex) index = cfs_index_new(bytes);
    guint8 sum[CFS_DIGEST_SIZE];
    g_autofree char *text = NULL;

    capture_assert(bytes, VECTOR);
    g_assert_nonnull(index);
    cfs_tree_checksum(tree, sum);
    text = capture_hex(sum, sizeof(sum));
    g_assert_cmpstr(
        text, ==,
        "a04eb9c5e4a9e29bbb3186afa67eb79697325440f2a8acd2f45cd7c0f36af562");
}

static CfsIndex *
parse_with(guint offset, guint32 value)
{
    g_autoptr(GBytes) bytes = capture_bytes(VECTOR);
    gsize size = 0;
    guint8 *copy = g_bytes_unref_to_data(g_steal_pointer(&bytes), &size);
    g_autoptr(GBytes) changed = NULL;

    value = GUINT32_TO_LE(value);
    memcpy(copy + offset, &value, sizeof(value));
    changed = g_bytes_new_take(copy, size);
    return cfs_index_new(changed);
}

/* Lies about its size or its order are no index. */
static void
test_malformed(void)
{
    static const struct {
        guint offset;
        guint32 value;
    } lies[] = {
        {24, 2},          /* records: one less */
        {24, 4},          /* one more */
        {24, 0x06666669}, /* 40 times that wraps to the right size */
        {24, 0},          {28, 0},          {28, 151},
        {28, 153},        {28, 0xffffffff}, {32, 1}, /* no root */
        {72, 0},                                     /* the root twice */
        {72, 5},                                     /* an inode twice */
        {72, 6},                                     /* not ascending */
    };
    g_autoptr(GBytes) good = capture_bytes(VECTOR);
    gsize whole = g_bytes_get_size(good);

    for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_assert_null(parse_with(lies[i].offset, lies[i].value));
    }
    for (gsize size = 0; size < whole; size++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(good, 0, size);

        g_assert_null(cfs_index_new(cut));
    }
}

static void
test_missing(void)
{
    g_autoptr(GBytes) bytes = capture_bytes(VECTOR);
    g_autoptr(CfsIndex) whole = cfs_index_new(bytes);
    g_autoptr(CfsIndex) other = parse_with(80, 1); /* of cap's digest */
    g_autoptr(GHashTable) inodes =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    guint64 cap = 4;

    cfs_index_missing(whole, whole, inodes);
    g_assert_cmpuint(g_hash_table_size(inodes), ==, 0);
    cfs_index_missing(whole, other, inodes);
    g_assert_cmpuint(g_hash_table_size(inodes), ==, 1);
    g_assert_true(g_hash_table_contains(inodes, &cap));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/index/captured", test_captured);
    g_test_add_func("/index/vector", test_vector);
    g_test_add_func("/index/malformed", test_malformed);
    g_test_add_func("/index/missing", test_missing);
    return g_test_run();
}
