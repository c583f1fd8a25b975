/* A piece of a listing of the tree. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/ipc-listing.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) piece = g_bytes_new(data, size);
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)pve_ipc_entry_free);
    guint32 next;

    if (pve_ipc_list_parse(piece, entries, &next)) {
        for (guint i = 0; i < entries->len; i++) {
            const PveIpcEntry *entry = entries->pdata[i];

            g_assert_nonnull(entry->path);
            g_assert_true(entry->content == NULL ||
                          g_bytes_get_size(entry->content) == entry->size);
        }
    }
    return 0;
}
