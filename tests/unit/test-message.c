/* The headers of every captured message: spec/replication.md 3.2, 4. */
#include "config.h"

#include "pmxcfs/core/index.h"
#include "pmxcfs/core/message.h"
#include "tests/unit/capture.h"

#define EPOCH "04000000|caf2016b|01000000|d9020000"

typedef struct {
    const char *hex; /* all but the payload */
    CfsHeader header;
} Capture;

#define STATE_HEADER(kind, seconds)                                            \
    {                                                                          \
        .type = (kind), .protocol = 1, .time = (seconds), .epoch = {           \
            4,                                                                 \
            0x6b01f2ca,                                                        \
            1,                                                                 \
            729                                                                \
        }                                                                      \
    }
#define NORMAL_HEADER(kind, seconds, number)                                   \
    {                                                                          \
        .subtype = (kind), .protocol = 1, .time = (seconds), .count = (number) \
    }

static const Capture captures[] = {
    {"0100|0000|01000000|caf2016b|00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_SYNC_START, 0x6b01f2ca)},
    {"0200 0000 01000000 caf2016b 00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_STATE, 0x6b01f2ca)},
    {"0300 0000 01000000 caf2016b 00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_UPDATE, 0x6b01f2ca)},
    {"0400 0000 01000000 caf2016b 00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_UPDATE_COMPLETE, 0x6b01f2ca)},
    {"0500 0000 01000000 4101026b 00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_VERIFY_REQUEST, 0x6b020141)},
    {"0600 0000 01000000 4101026b 00000000" EPOCH,
     STATE_HEADER(CFS_MESSAGE_VERIFY, 0x6b020141)},
    {"0000|0200|01000000|caf2016b|00000000|0100000000000000",
     NORMAL_HEADER(2, 0x6b01f2ca, 1)},
    {"0000 0700 01000000 cdf2016b 00000000 0200000000000000",
     NORMAL_HEADER(7, 0x6b01f2cd, 2)},
    {"0000 0800 01000000 4af3016b 00000000 0100000000000000",
     NORMAL_HEADER(8, 0x6b01f34a, 1)},
};

static void
assert_headers_equal(const CfsHeader *a, const CfsHeader *b)
{
    g_assert_cmpuint(a->type, ==, b->type);
    g_assert_cmpuint(a->subtype, ==, b->subtype);
    g_assert_cmpuint(a->protocol, ==, b->protocol);
    g_assert_cmpuint(a->time, ==, b->time);
    g_assert_cmpuint(a->count, ==, b->count);
    g_assert_true(cfs_epoch_equal(&a->epoch, &b->epoch));
}

static void
test_captured(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(captures); i++) {
        g_autoptr(GBytes) bytes = capture_bytes(captures[i].hex);
        GByteArray *out = g_byte_array_new();
        g_autoptr(GBytes) written = NULL;
        CfsHeader parsed;
        PveReader reader;

        pve_reader_init_bytes(&reader, bytes);
        g_assert_cmpint(
            cfs_message_parse(&reader, CFS_PROTOCOL_DATABASE, &parsed), ==,
            CFS_PARSE_OK);
        g_assert_true(pve_reader_done(&reader));
        assert_headers_equal(&parsed, &captures[i].header);
        cfs_message_write(out, &captures[i].header);
        written = g_byte_array_free_to_bytes(out);
        capture_assert(written, captures[i].hex);
    }
}

/* Ascending by node id, then pid, as unsigned numbers: the table of members. */
static void
test_order_of_members(void)
{
    GArray *members = g_array_new(FALSE, FALSE, sizeof(CfsMember));
    const CfsMember given[] = {
        {0x80000001u, 1}, {3, 9}, {3, 0x80000000u}, {1, 5}};

    g_array_append_vals(members, given, G_N_ELEMENTS(given));
    g_array_sort(members, cfs_member_compare);
    g_assert_cmpuint(g_array_index(members, CfsMember, 0).nodeid, ==, 1);
    g_assert_cmpuint(g_array_index(members, CfsMember, 1).pid, ==, 9);
    g_assert_cmpuint(g_array_index(members, CfsMember, 3).nodeid, ==,
                     0x80000001u);
    g_array_unref(members);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/message/captured", test_captured);
    g_test_add_func("/message/order-of-members", test_order_of_members);
    return g_test_run();
}
