#include "config.h"

#include "common/wire.h"

static void
test_round_trip(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    PveReader reader;

    pve_write_u8(out, 0x01);
    pve_write_u16(out, 0x0302);
    pve_write_u32(out, 0x07060504);
    pve_write_u64(out, G_GUINT64_CONSTANT(0x0f0e0d0c0b0a0908));
    pve_write_string(out, "abc");
    for (guint i = 0; i < 14; i++) {
        g_assert_cmpuint(out->data[i], ==, i + 1);
    }
    pve_reader_init(&reader, out->data, out->len);
    g_assert_cmpuint(pve_reader_u8(&reader), ==, 0x01);
    g_assert_cmpuint(pve_reader_u16(&reader), ==, 0x0302);
    g_assert_cmpuint(pve_reader_u32(&reader), ==, 0x07060504);
    g_assert_cmpuint(pve_reader_u64(&reader), ==,
                     G_GUINT64_CONSTANT(0x0f0e0d0c0b0a0908));
    g_assert_cmpuint(pve_reader_left(&reader), ==, 4);
    g_assert_cmpstr(pve_reader_string(&reader, 4), ==, "abc");
    g_assert_true(pve_reader_done(&reader));
}

static void
test_past_the_end(void)
{
    const guint8 bytes[] = {1, 2, 3};
    PveReader reader;

    pve_reader_init(&reader, bytes, sizeof(bytes));
    g_assert_cmpuint(pve_reader_u32(&reader), ==, 0);
    g_assert_false(pve_reader_ok(&reader));
    /* Once failed, always failed: even what would fit gives nothing. */
    g_assert_cmpuint(pve_reader_u8(&reader), ==, 0);
    g_assert_cmpuint(pve_reader_left(&reader), ==, 0);
    g_assert_null(pve_reader_take(&reader, 0));
}

static void
test_take_huge(void)
{
    const guint8 bytes[] = {1, 2, 3};
    PveReader reader;

    pve_reader_init(&reader, bytes, sizeof(bytes));
    (void)pve_reader_u8(&reader);
    g_assert_null(pve_reader_take(&reader, G_MAXSIZE));
    g_assert_false(pve_reader_ok(&reader));
}

static void
test_strings(void)
{
    PveReader reader;

    pve_reader_init(&reader, "ab", 2); /* no NUL */
    g_assert_null(pve_reader_string(&reader, 2));
    pve_reader_init(&reader, "a\0b", 4); /* a NUL inside */
    g_assert_null(pve_reader_string(&reader, 4));
    pve_reader_init(&reader, "", 1);
    g_assert_cmpstr(pve_reader_string(&reader, 1), ==, "");
    pve_reader_init(&reader, NULL, 0);
    g_assert_null(pve_reader_string(&reader, 0));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/round-trip", test_round_trip);
    g_test_add_func("/wire/past-the-end", test_past_the_end);
    g_test_add_func("/wire/take-huge", test_take_huge);
    g_test_add_func("/wire/strings", test_strings);
    return g_test_run();
}
