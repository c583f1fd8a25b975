#include "config.h"

#include "pmxcfs/core/entry.h"
#include "tests/unit/capture.h"

#include <string.h>

static void
assert_digest(CfsEntry *entry, const char *expected)
{
    guint8 sum[CFS_DIGEST_SIZE];
    g_autofree char *text = NULL;

    cfs_entry_digest(entry, sum);
    text = capture_hex(sum, sizeof(sum));
    g_assert_cmpstr(text, ==, expected);
}

/* The vectors of spec/filesystem.md 3 (b) and spec/replication.md 6.2. */
static void
test_digests(void)
{
    g_autoptr(GBytes) hello = g_bytes_new_static("hello", 5);
    g_autoptr(CfsEntry) file =
        cfs_entry_new(2, 0, 3, 0, 1234, CFS_TYPE_FILE, "f", hello);
    g_autoptr(CfsEntry) root =
        cfs_entry_new(0, 0, 3, 0, 1234, CFS_TYPE_DIRECTORY, "", NULL);
    g_autoptr(CfsEntry) lock = cfs_entry_new(13, 12, 13, 2, 0x6b01f2cb,
                                             CFS_TYPE_DIRECTORY, "L1", NULL);
    guint8 sum[CFS_DIGEST_SIZE];
    g_autofree char *text = NULL;

    assert_digest(
        file,
        "482525eb79f767544200e7222e23ae1039bbcb3290d4a2f768295880a06eaf56");
    assert_digest(
        root,
        "0364030e78bf047e9ab0a5047f0c756bb79d244b04b9f929ac07613250f563de");
    cfs_entry_checksum(lock, sum);
    text = capture_hex(sum, sizeof(sum));
    g_assert_cmpstr(
        text, ==,
        "7024995a61011b3114839ea5e27d8bd1b13a1d497de611a4a28c0bb6e845667a");
}

/* The captured UPDATE of a root, spec/replication.md 3.2. */
static void
test_update_bytes(void)
{
    g_autoptr(CfsEntry) root =
        cfs_entry_new(0, 0, 3, 0, 0x6b01f2c2, CFS_TYPE_DIRECTORY, "", NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *text = NULL;

    cfs_entry_encode(root, out);
    text = capture_hex(out->data, out->len);
    g_assert_cmpstr(text, ==,
                    "0000000000000000"
                    "0000000000000000"
                    "0300000000000000"
                    "00000000"
                    "c2f2016b"
                    "00000000"
                    "01000000"
                    "04"
                    "00");
}

/* The captured UPDATE of /corosync.conf, as far as it is shown: the content
 * goes on for 677 bytes. */
static void
test_update_of_file(void)
{
    static const char shown[] = "totem {\n";
    g_autoptr(GBytes) head = capture_bytes("0000000000000000|0200000000000000"
                                           "0300000000000000|00000000|c2f2016b"
                                           "a5020000|0e000000|08|636f726f73796e"
                                           "632e636f6e6600|746f74656d207b0a");
    g_autoptr(GByteArray) in = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(CfsEntry) entry = NULL;
    PveReader reader;

    g_byte_array_append(in, g_bytes_get_data(head, NULL),
                        (guint)g_bytes_get_size(head));
    for (guint i = (guint)strlen(shown); i < 677; i++) {
        pve_write_u8(in, 'x');
    }
    g_assert_cmpuint(in->len, ==, 764 - 32);
    pve_reader_init(&reader, in->data, in->len);
    entry = cfs_entry_decode(&reader);
    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->inode, ==, 2);
    g_assert_cmpuint(entry->parent, ==, 0);
    g_assert_cmpuint(entry->version, ==, 3);
    g_assert_cmpuint(entry->writer, ==, 0);
    g_assert_cmpuint(entry->mtime, ==, 0x6b01f2c2);
    g_assert_cmpuint(entry->size, ==, 677);
    g_assert_cmpuint(entry->type, ==, CFS_TYPE_FILE);
    g_assert_cmpstr(entry->name, ==, "corosync.conf");
    g_assert_cmpint(
        memcmp(g_bytes_get_data(entry->data, NULL), shown, strlen(shown)), ==,
        0);
    cfs_entry_encode(entry, out);
    g_assert_cmpmem(out->data, out->len, in->data, in->len);
}

static void
test_update_round_trip(void)
{
    g_autoptr(GBytes) data = g_bytes_new_static("a\0b", 3);
    g_autoptr(CfsEntry) file =
        cfs_entry_new(7, 5, 9, 2, 11, CFS_TYPE_FILE, "name", data);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(CfsEntry) back = NULL;
    PveReader reader;

    cfs_entry_encode(file, out);
    pve_reader_init(&reader, out->data, out->len);
    back = cfs_entry_decode(&reader);
    g_assert_nonnull(back);
    g_assert_cmpuint(back->inode, ==, 7);
    g_assert_cmpuint(back->parent, ==, 5);
    g_assert_cmpuint(back->version, ==, 9);
    g_assert_cmpuint(back->size, ==, 3);
    g_assert_cmpstr(back->name, ==, "name");
    g_assert_true(g_bytes_equal(back->data, data));

    /* Every cut is refused, and so is what follows the end. */
    for (gsize size = 0; size < out->len; size++) {
        pve_reader_init(&reader, out->data, size);
        g_assert_null(cfs_entry_decode(&reader));
    }
    pve_write_u8(out, 0);
    pve_reader_init(&reader, out->data, out->len);
    g_assert_null(cfs_entry_decode(&reader));
}

static void
test_read(void)
{
    g_autoptr(GBytes) data = g_bytes_new_static("hello", 5);
    g_autoptr(CfsEntry) file =
        cfs_entry_new(2, 0, 3, 0, 0, CFS_TYPE_FILE, "f", data);
    g_autoptr(CfsEntry) zeros =
        cfs_entry_new_sized(2, 0, 3, 0, 0, 4, CFS_TYPE_FILE, "f", NULL);
    guint8 out[8];

    g_assert_cmpuint(cfs_entry_read(file, 1, 8, out), ==, 4);
    g_assert_cmpint(memcmp(out, "ello", 4), ==, 0);
    g_assert_cmpuint(cfs_entry_read(file, 5, 8, out), ==, 0);
    g_assert_cmpuint(cfs_entry_read(file, G_MAXUINT64, 8, out), ==, 0);
    /* A size without content, which old members can make, reads as zeros. */
    g_assert_cmpuint(cfs_entry_read(zeros, 1, 8, out), ==, 3);
    g_assert_cmpint(memcmp(out, "\0\0\0", 3), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/entry/digests", test_digests);
    g_test_add_func("/entry/update-bytes", test_update_bytes);
    g_test_add_func("/entry/update-of-file", test_update_of_file);
    g_test_add_func("/entry/update-round-trip", test_update_round_trip);
    g_test_add_func("/entry/read", test_read);
    return g_test_run();
}
