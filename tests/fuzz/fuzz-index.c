/* The payload of STATE, compared with itself and with another. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/index.h"
#include "pmxcfs/core/tree.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(CfsIndex) index = cfs_index_new(bytes);
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GBytes) other_bytes = NULL;
    g_autoptr(CfsIndex) other = NULL;
    g_autoptr(GHashTable) inodes = NULL;

    if (index == NULL) {
        return 0;
    }
    tree = cfs_tree_new(1);
    other_bytes = cfs_tree_index(tree);
    other = cfs_index_new(other_bytes);
    inodes = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    cfs_index_missing(index, index, inodes);
    g_assert_cmpuint(g_hash_table_size(inodes), ==, 0);
    cfs_index_missing(index, other, inodes);
    cfs_index_missing(other, index, inodes);
    g_assert_nonnull(cfs_index_find(index, 0));
    (void)cfs_index_find(index, G_MAXUINT64);
    return 0;
}
