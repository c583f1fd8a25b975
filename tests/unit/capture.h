/* capture.h - bytes as spec/replication.md prints what it captured.
 *
 * Hex digits; blanks and bars between them are for the eye.
 */
#ifndef TESTS_CAPTURE_H
#define TESTS_CAPTURE_H

#include <glib.h>

/* Returns: (owned) the bytes of @hex. */
static inline GBytes *
capture_bytes(const char *hex)
{
    GByteArray *out = g_byte_array_new();

    while (*hex != '\0') {
        guint8 byte;

        if (!g_ascii_isxdigit(*hex)) {
            hex++;
            continue;
        }
        byte = (guint8)(g_ascii_xdigit_value(hex[0]) << 4 |
                        g_ascii_xdigit_value(hex[1]));
        g_byte_array_append(out, &byte, 1);
        hex += 2;
    }
    return g_byte_array_free_to_bytes(out);
}

/* Returns: (owned) @bytes in hex, for a readable comparison. */
static inline char *
capture_hex(gconstpointer bytes, gsize size)
{
    const guint8 *p = bytes;
    GString *out = g_string_new(NULL);

    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(out, "%02x", p[i]);
    }
    return g_string_free(out, FALSE);
}

static inline void
capture_assert(GBytes *found, const char *expected)
{
    g_autoptr(GBytes) bytes = capture_bytes(expected);
    gsize size = 0;
    gconstpointer data = g_bytes_get_data(found, &size);
    g_autofree char *a = capture_hex(data, size);
    g_autofree char *b = NULL;

    data = g_bytes_get_data(bytes, &size);
    b = capture_hex(data, size);
    g_assert_cmpstr(a, ==, b);
}

#endif
