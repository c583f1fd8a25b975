#include "config.h"

#include "pmxcfs/core/entry.h"
#include "pmxcfs/core/message.h"
#include "pmxcfs/core/op.h"

#include <string.h>

/* One captured message: spec/replication.md 4. */
static void
assert_bytes(CfsOp *op, guint32 time, guint64 count, const char *expected)
{
    CfsHeader header = {.type = CFS_MESSAGE_NORMAL,
                        .subtype = (guint16)op->kind,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = time,
                        .count = count};
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(CfsOp) back = NULL;
    CfsHeader parsed;
    PveReader reader;

    cfs_message_write(out, &header);
    cfs_op_encode(op, out);
    for (guint i = 0; i < out->len; i++) {
        g_string_append_printf(text, "%02x", out->data[i]);
    }
    g_assert_cmpstr(text->str, ==, expected);

    pve_reader_init(&reader, out->data, out->len);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &parsed), ==, CFS_PARSE_OK);
    g_assert_cmpuint(parsed.count, ==, count);
    back = cfs_op_decode(parsed.subtype, &reader);
    g_assert_nonnull(back);
    g_assert_cmpstr(back->path, ==, op->path);
    g_assert_cmpstr(back->to, ==, op->to);
    g_assert_cmpuint(back->offset, ==, op->offset);
    g_assert_cmpint(back->truncate, ==, op->truncate);
    g_assert_cmpmem(back->checksum, sizeof(back->checksum), op->checksum,
                    sizeof(op->checksum));
    cfs_op_free(op);
}

static void
test_captured(void)
{
    g_autoptr(GBytes) hello = g_bytes_new_static("hello\n", 6);

    assert_bytes(cfs_op_new(CFS_OP_MKDIR, "cap"), 0x6b01f2ca, 1,
                 "0000020001000000caf2016b00000000"
                 "01000000000000000000000000000000"
                 "04000000000000000000000063617000");
    assert_bytes(cfs_op_new(CFS_OP_CREATE, "cap/a.txt"), 0x6b01f2ca, 2,
                 "0000050001000000caf2016b00000000"
                 "02000000000000000000000000000000"
                 "0a00000000000000000000006361702f612e74787400");
    assert_bytes(cfs_op_new_write("cap/a.txt", hello, 0), 0x6b01f2ca, 3,
                 "0000010001000000caf2016b00000000"
                 "03000000000000000600000000000000"
                 "0a00000000000000000000006361702f612e74787400"
                 "68656c6c6f0a");
    assert_bytes(cfs_op_new_truncate("cap/a.txt", 2), 0x6b01f2cb, 1,
                 "0000010001000000cbf2016b00000000"
                 "01000000000000000000000002000000"
                 "0a00000000000000010000006361702f612e74787400");
    assert_bytes(cfs_op_new_rename("cap/a.txt", "cap/b.txt"), 0x6b01f2cb, 4,
                 "0000040001000000cbf2016b00000000"
                 "04000000000000000000000000000000"
                 "0a0000000a000000000000006361702f612e74787400"
                 "6361702f622e74787400");
    assert_bytes(cfs_op_new_mtime("cap/b.txt", 1700000000), 0x6b01f2cb, 5,
                 "0000060001000000cbf2016b00000000"
                 "05000000000000000000000000f15365"
                 "0a00000000000000000000006361702f622e74787400");
    assert_bytes(cfs_op_new(CFS_OP_DELETE, "cap/b.txt"), 0x6b01f2cb, 6,
                 "0000030001000000cbf2016b00000000"
                 "06000000000000000000000000000000"
                 "0a00000000000000000000006361702f622e74787400");
}

/* The lock of spec/replication.md 6.2. */
static CfsOp *
unlock_op(CfsOpKind kind)
{
    g_autoptr(CfsEntry) lock = cfs_entry_new(13, 12, 13, 2, 0x6b01f2cb,
                                             CFS_TYPE_DIRECTORY, "L1", NULL);
    CfsOp *op = cfs_op_new(kind, "priv/lock/L1");

    cfs_entry_checksum(lock, op->checksum);
    return op;
}

static void
test_captured_unlocks(void)
{
    assert_bytes(unlock_op(CFS_OP_UNLOCK_REQUEST), 0x6b01f2cd, 2,
                 "0000070001000000cdf2016b00000000"
                 "02000000000000007024995a61011b31"
                 "14839ea5e27d8bd1b13a1d497de611a4"
                 "a28c0bb6e845667a707269762f6c6f63"
                 "6b2f4c3100");
    assert_bytes(unlock_op(CFS_OP_UNLOCK), 0x6b01f34a, 1,
                 "00000800010000004af3016b00000000"
                 "01000000000000007024995a61011b31"
                 "14839ea5e27d8bd1b13a1d497de611a4"
                 "a28c0bb6e845667a707269762f6c6f63"
                 "6b2f4c3100");
}

/* Any cut, any surplus and a missing NUL is malformed. */
static void
test_malformed(void)
{
    g_autoptr(GBytes) data = g_bytes_new_static("xy", 2);
    g_autoptr(CfsOp) op = cfs_op_new_write("a/b", data, 7);
    g_autoptr(GByteArray) out = g_byte_array_new();
    PveReader reader;

    cfs_op_encode(op, out);
    for (gsize size = 0; size < out->len; size++) {
        pve_reader_init(&reader, out->data, size);
        g_assert_null(cfs_op_decode(CFS_OP_WRITE, &reader));
    }
    out->data[20 + 3] = 'x'; /* the path's NUL */
    pve_reader_init(&reader, out->data, out->len);
    g_assert_null(cfs_op_decode(CFS_OP_WRITE, &reader));
    pve_reader_init(&reader, out->data, out->len);
    g_assert_null(cfs_op_decode(9, &reader));
    pve_reader_init(&reader, out->data, out->len);
    g_assert_null(cfs_op_decode(0, &reader));
}

static void
test_headers(void)
{
    guint8 bytes[32] = {0};
    CfsHeader header;
    PveReader reader;

    pve_reader_init(&reader, bytes, 15);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==,
                    CFS_PARSE_MALFORMED);
    bytes[4] = 2; /* a newer protocol wins over being short */
    pve_reader_init(&reader, bytes, 16);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==,
                    CFS_PARSE_NEWER);
    bytes[4] = 0;
    pve_reader_init(&reader, bytes, 32);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==,
                    CFS_PARSE_OLDER);
    bytes[4] = 1;
    pve_reader_init(&reader, bytes, 23);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==,
                    CFS_PARSE_MALFORMED);
    bytes[0] = CFS_MESSAGE_STATE;
    pve_reader_init(&reader, bytes, 31);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==,
                    CFS_PARSE_MALFORMED);
    pve_reader_init(&reader, bytes, 32);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==, CFS_PARSE_OK);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/op/captured", test_captured);
    g_test_add_func("/op/captured-unlocks", test_captured_unlocks);
    g_test_add_func("/op/malformed", test_malformed);
    g_test_add_func("/op/headers", test_headers);
    return g_test_run();
}
