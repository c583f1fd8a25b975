/* The payload of UPDATE: what is taken is written back to the same bytes. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/entry.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(CfsEntry) entry = NULL;
    PveReader reader;

    pve_reader_init(&reader, data, size);
    entry = cfs_entry_decode(&reader);
    if (entry == NULL) {
        return 0;
    }
    cfs_entry_encode(entry, out);
    g_assert_cmpuint(out->len, ==, size);
    g_assert_cmpint(memcmp(out->data, data, size), ==, 0);
    return 0;
}
