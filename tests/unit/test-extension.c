#include "config.h"

#include "pmxcfs/core/extension.h"

#include <string.h>

static const CfsEpoch epoch = {4, 0x6b01f2ca, 1, 729};

static char *
hex(GBytes *bytes)
{
    gsize size = 0;
    const guint8 *p = g_bytes_get_data(bytes, &size);
    GString *out = g_string_new(NULL);

    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(out, "%02x", p[i]);
    }
    return g_string_free(out, FALSE);
}

/* Sets @reader behind the header, which must be what a reference peer drops in
 * silence: type 7, protocol 1, an epoch of zeros, at least 32 bytes. */
static void
open_message(GBytes *bytes, guint16 subtype, PveReader *reader)
{
    const CfsEpoch zero = {0};
    CfsHeader header;

    g_assert_cmpuint(g_bytes_get_size(bytes), >=, 32);
    pve_reader_init_bytes(reader, bytes);
    g_assert_cmpint(cfs_message_parse(reader, 1, &header), ==, CFS_PARSE_OK);
    g_assert_cmpuint(header.type, ==, 7);
    g_assert_cmpuint(header.subtype, ==, subtype);
    g_assert_cmpuint(header.protocol, ==, 1);
    g_assert_true(cfs_epoch_equal(&header.epoch, &zero));
}

static CfsTermMessage
example_term(void)
{
    CfsTermMessage term = {.epoch = epoch,
                           .features = CFS_FEATURES_ALL,
                           .version = 0x105,
                           .mtime = 0x6b01f2c2,
                           .n_nodes = 3,
                           .name = "lab"};

    term.record.term = 7;
    term.record.seen = 8;
    term.record.acked = 0x103;
    term.record.cluster_id = G_GUINT64_CONSTANT(0x1122334455667788);
    memset(term.content, 0xee, sizeof(term.content));
    term.record.n_history = 1;
    term.record.history[0] = (CfsTermStart){7, 0x100, 0xabcd};
    return term;
}

static void
test_term(void)
{
    const CfsTermMessage term = example_term();
    g_autoptr(GBytes) bytes = cfs_term_message_encode(&term, 0x6b01f2cb);
    g_autofree char *text = hex(bytes);
    CfsTermMessage back;
    PveReader reader;

    g_assert_cmpstr(text, ==,
                    "0700010001000000cbf2016b00000000"
                    "00000000000000000000000000000000"
                    "01007000"
                    "04000000caf2016b01000000d9020000"
                    "03000000000000000501000000000000"
                    "c2f2016b03000000"
                    "07000000000000000800000000000000"
                    "03010000000000008877665544332211"
                    "0400000001000000"
                    "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
                    "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
                    "6c616200"
                    "07000000000000000001000000000000"
                    "cdab000000000000");
    open_message(bytes, CFS_OURS_TERM, &reader);
    g_assert_true(cfs_term_message_decode(&reader, &back));
    g_assert_cmpmem(&back, sizeof(back), &term, sizeof(term));
}

static void
test_flush(void)
{
    const CfsFlushMessage flush = {.epoch = epoch, .term = 7};
    g_autoptr(GBytes) bytes = cfs_flush_message_encode(&flush, 0x6b01f2cb);
    g_autofree char *text = hex(bytes);
    CfsFlushMessage back;
    PveReader reader;

    g_assert_cmpstr(text, ==,
                    "0700020001000000cbf2016b00000000"
                    "00000000000000000000000000000000"
                    "01001800"
                    "04000000caf2016b01000000d9020000"
                    "0700000000000000");
    open_message(bytes, CFS_OURS_FLUSH, &reader);
    g_assert_true(cfs_flush_message_decode(&reader, &back));
    g_assert_cmpuint(back.term, ==, 7);
    g_assert_true(cfs_epoch_equal(&back.epoch, &epoch));
}

static void
test_ack(void)
{
    const CfsAckMessage ack = {
        .epoch = epoch, .term = 7, .version = 0x105, .error = 28};
    g_autoptr(GBytes) bytes = cfs_ack_message_encode(&ack, 0x6b01f2cb);
    g_autofree char *text = hex(bytes);
    CfsAckMessage back;
    PveReader reader;

    g_assert_cmpstr(text, ==,
                    "0700030001000000cbf2016b00000000"
                    "00000000000000000000000000000000"
                    "01002400"
                    "04000000caf2016b01000000d9020000"
                    "07000000000000000501000000000000"
                    "1c000000");
    open_message(bytes, CFS_OURS_ACK, &reader);
    g_assert_true(cfs_ack_message_decode(&reader, &back));
    g_assert_cmpuint(back.version, ==, 0x105);
    g_assert_cmpuint(back.error, ==, 28);
}

static void
test_append(void)
{
    g_autoptr(GBytes) line = g_bytes_new_static("hello\n", 6);
    g_autoptr(CfsOp) op = cfs_op_new_append("cap/a", line);
    g_autoptr(GBytes) bytes = cfs_append_message_encode(op, 9, 0x6b01f2cb);
    g_autofree char *text = hex(bytes);
    g_autoptr(CfsOp) back = NULL;
    guint64 count = 0;
    PveReader reader;

    g_assert_cmpstr(text, ==,
                    "0700040001000000cbf2016b00000000"
                    "00000000000000000000000000000000"
                    "01001000"
                    "09000000000000000600000006000000"
                    "6361702f6100"
                    "68656c6c6f0a");
    open_message(bytes, CFS_OURS_APPEND, &reader);
    back = cfs_append_message_decode(&reader, &count);
    g_assert_nonnull(back);
    g_assert_cmpuint(count, ==, 9);
    g_assert_true(back->is_append);
    g_assert_cmpstr(back->path, ==, "cap/a");
    g_assert_true(g_bytes_equal(back->data, line));
}

/* A later version of ours: a longer fixed part, more behind the end. */
static void
test_longer(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    CfsFlushMessage back;
    PveReader reader;

    pve_write_u16(out, 1);
    pve_write_u16(out, 32);
    for (guint i = 0; i < 4; i++) {
        pve_write_u32(out, i);
    }
    pve_write_u64(out, 7);
    pve_write_u64(out, 99);
    pve_write_u64(out, 98);
    pve_reader_init(&reader, out->data, out->len);
    g_assert_true(cfs_flush_message_decode(&reader, &back));
    g_assert_cmpuint(back.term, ==, 7);

    out->data[0] = 2; /* another layout: not ours to understand */
    pve_reader_init(&reader, out->data, out->len);
    g_assert_false(cfs_flush_message_decode(&reader, &back));
}

/* Cut at every byte: never understood, never read beyond. */
static void
test_cut(void)
{
    CfsTermMessage term = example_term();
    g_autoptr(GBytes) whole = cfs_term_message_encode(&term, 1);
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(whole, &size);

    for (gsize n = CFS_MESSAGE_STATE_SIZE; n < size; n++) {
        g_autofree guint8 *copy = g_memdup2(bytes + CFS_MESSAGE_STATE_SIZE,
                                            MAX(n - CFS_MESSAGE_STATE_SIZE, 1));
        CfsTermMessage back;
        PveReader reader;

        pve_reader_init(&reader, copy, n - CFS_MESSAGE_STATE_SIZE);
        g_assert_false(cfs_term_message_decode(&reader, &back));
    }
}

static void
assert_refused(const CfsTermMessage *term)
{
    g_autoptr(GBytes) bytes = cfs_term_message_encode(term, 1);
    CfsTermMessage back;
    PveReader reader;

    open_message(bytes, CFS_OURS_TERM, &reader);
    g_assert_false(cfs_term_message_decode(&reader, &back));
}

/* What no database can hold, nobody has. */
static void
test_numbers(void)
{
    CfsTermMessage term = example_term();

    term.record.term = G_MAXUINT64;
    assert_refused(&term);
    term = example_term();
    term.record.seen = (guint64)G_MAXINT64 + 1;
    assert_refused(&term);
    term = example_term();
    term.version = G_MAXUINT64;
    assert_refused(&term);
    term = example_term();
    term.record.acked = G_MAXUINT64;
    assert_refused(&term);
}

static void
test_history(void)
{
    CfsTermRecord record = example_term().record, back = {0};
    g_autoptr(GByteArray) out = g_byte_array_new();
    PveReader reader;

    cfs_term_history_write(out, &record);
    pve_reader_init(&reader, out->data, out->len);
    g_assert_true(cfs_term_history_read(&reader, &back));
    g_assert_cmpuint(back.n_history, ==, 1);
    g_assert_cmpuint(back.history[0].tag, ==, 0xabcd);

    pve_write_u8(out, 0); /* half an entry */
    pve_reader_init(&reader, out->data, out->len);
    g_assert_false(cfs_term_history_read(&reader, &back));
    g_assert_cmpuint(back.n_history, ==, 0);

    g_byte_array_set_size(out, 24 * (CFS_TERM_HISTORY + 1));
    memset(out->data, 0, out->len);
    pve_reader_init(&reader, out->data, out->len);
    g_assert_false(cfs_term_history_read(&reader, &back));
}

static void
test_settled(void)
{
    g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(CfsSettled));
    g_autoptr(GArray) read = NULL;
    g_autoptr(GBytes) bytes = NULL;
    const CfsSettled file = {.inode = 7, .version = 0x105};
    PveReader reader;
    g_autofree char *text = NULL;

    g_array_append_val(files, file);
    bytes = cfs_settled_message_encode(files, 0x6b01f2c2);
    text = hex(bytes);
    g_assert_true(g_str_has_suffix(text, "0100"
                                         "0400"
                                         "01000000"
                                         "0700000000000000"
                                         "0501000000000000"));
    open_message(bytes, CFS_OURS_SETTLED, &reader);
    read = cfs_settled_message_decode(&reader);
    g_assert_nonnull(read);
    g_assert_cmpuint(read->len, ==, 1);
    g_assert_cmpuint(g_array_index(read, CfsSettled, 0).inode, ==, 7);
    g_assert_cmpuint(g_array_index(read, CfsSettled, 0).version, ==, 0x105);

    /* Cut short; more than there may be. */
    open_message(bytes, CFS_OURS_SETTLED, &reader);
    reader.size--;
    g_assert_null(cfs_settled_message_decode(&reader));
    pve_reader_init(&reader, "\1\0\4\0\1\4\0\0", 8);
    g_assert_null(cfs_settled_message_decode(&reader));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/extension/term", test_term);
    g_test_add_func("/extension/flush", test_flush);
    g_test_add_func("/extension/ack", test_ack);
    g_test_add_func("/extension/append", test_append);
    g_test_add_func("/extension/longer", test_longer);
    g_test_add_func("/extension/cut", test_cut);
    g_test_add_func("/extension/numbers", test_numbers);
    g_test_add_func("/extension/history", test_history);
    g_test_add_func("/extension/settled", test_settled);
    return g_test_run();
}
