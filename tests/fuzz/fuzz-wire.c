/* The reader itself: the first half of the input says what to read from the
 * second. It never gives more than there is, and fails for good. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/wire.h"

#include <string.h>

static void
read_one(PveReader *reader, guint8 what)
{
    const guint8 *bytes;
    const char *text;
    guint8 copy[256];

    switch (what % 6) {
    case 0:
        (void)pve_reader_u8(reader);
        break;
    case 1:
        (void)pve_reader_u16(reader);
        break;
    case 2:
        (void)pve_reader_u32(reader);
        break;
    case 3:
        (void)pve_reader_u64(reader);
        break;
    case 4:
        bytes = pve_reader_take(reader, what);
        if (bytes != NULL) {
            memcpy(copy, bytes, what);
        }
        break;
    default:
        text = pve_reader_string(reader, what);
        g_assert_true(text == NULL || strlen(text) + 1 == what);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gsize half = size / 2;
    PveReader reader;

    pve_reader_init(&reader, data + half, size - half);
    for (gsize i = 0; i < half; i++) {
        gboolean was_ok = pve_reader_ok(&reader);
        gsize left = pve_reader_left(&reader);

        read_one(&reader, data[i]);
        g_assert_true(was_ok || !pve_reader_ok(&reader));
        g_assert_cmpuint(pve_reader_left(&reader), <=, left);
    }
    return 0;
}
