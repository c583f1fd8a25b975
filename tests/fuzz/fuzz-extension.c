/* The payload of a message of ours, behind one byte for its subtype, or a
 * history of the side table behind a zero. What is understood must survive
 * being written and read again. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/extension.h"

#include <string.h>

/* Behind the header of a message that we wrote. */
static void
open_again(GBytes *bytes, PveReader *reader)
{
    pve_reader_init_bytes(reader, bytes);
    (void)pve_reader_take(reader, CFS_MESSAGE_STATE_SIZE);
}

static void
try_term(PveReader *reader)
{
    g_autoptr(GBytes) bytes = NULL;
    CfsTermMessage term, again;

    if (cfs_term_message_decode(reader, &term)) {
        bytes = cfs_term_message_encode(&term, 1);
        open_again(bytes, reader);
        g_assert_true(cfs_term_message_decode(reader, &again));
        g_assert_cmpmem(&term, sizeof(term), &again, sizeof(again));
    }
}

static void
try_flush(PveReader *reader)
{
    g_autoptr(GBytes) bytes = NULL;
    CfsFlushMessage flush, again;

    if (cfs_flush_message_decode(reader, &flush)) {
        bytes = cfs_flush_message_encode(&flush, 1);
        open_again(bytes, reader);
        g_assert_true(cfs_flush_message_decode(reader, &again));
        g_assert_cmpuint(flush.term, ==, again.term);
    }
}

static void
try_ack(PveReader *reader)
{
    g_autoptr(GBytes) bytes = NULL;
    CfsAckMessage ack, again;

    if (cfs_ack_message_decode(reader, &ack)) {
        bytes = cfs_ack_message_encode(&ack, 1);
        open_again(bytes, reader);
        g_assert_true(cfs_ack_message_decode(reader, &again));
        g_assert_cmpuint(ack.version, ==, again.version);
        g_assert_cmpuint(ack.error, ==, again.error);
    }
}

static void
try_append(PveReader *reader)
{
    guint64 count = 0, count_again = 0;
    g_autoptr(CfsOp) op = cfs_append_message_decode(reader, &count);
    g_autoptr(CfsOp) again = NULL;
    g_autoptr(GBytes) bytes = NULL;

    if (op != NULL) {
        bytes = cfs_append_message_encode(op, count, 1);
        open_again(bytes, reader);
        again = cfs_append_message_decode(reader, &count_again);
        g_assert_nonnull(again);
        g_assert_cmpuint(count, ==, count_again);
        g_assert_cmpstr(op->path, ==, again->path);
    }
}

static void
try_settled(PveReader *reader)
{
    g_autoptr(GArray) files = cfs_settled_message_decode(reader);
    g_autoptr(GArray) again = NULL;
    g_autoptr(GBytes) bytes = NULL;

    if (files != NULL) {
        bytes = cfs_settled_message_encode(files, 1);
        open_again(bytes, reader);
        again = cfs_settled_message_decode(reader);
        g_assert_nonnull(again);
        g_assert_cmpmem(files->data, files->len * sizeof(CfsSettled),
                        again->data, again->len * sizeof(CfsSettled));
    }
}

static void
try_history(PveReader *reader)
{
    CfsTermRecord record = {0}, again = {0};
    g_autoptr(GByteArray) out = g_byte_array_new();

    if (cfs_term_history_read(reader, &record)) {
        cfs_term_history_write(out, &record);
        pve_reader_init(reader, out->data, out->len);
        g_assert_true(cfs_term_history_read(reader, &again));
        g_assert_cmpuint(record.n_history, ==, again.n_history);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const try[])(PveReader *) = {
        try_history, try_term, try_flush, try_ack, try_append, try_settled,
    };
    PveReader reader;

    if (size < 1) {
        return 0;
    }
    pve_reader_init(&reader, data + 1, size - 1);
    try[data[0] % G_N_ELEMENTS(try)](&reader);
    return 0;
}
