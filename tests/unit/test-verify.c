/* Verification, and the captured bytes as a real member sends them:
 * spec/replication.md 3.2, 8. */
#include "config.h"

#include "tests/unit/capture.h"
#include "tests/unit/lone-member.h"

#include <string.h>

#define HEAD(type, time) #type "00000001000000" #time "00000000"
#define EPOCH "04000000caf2016b01000000d9020000"

static const CfsMember members[] = {{1, 729}, {3, 1488}};

static CfsTree *
new_tree(const char *text)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));
    CfsTree *tree;

    g_ptr_array_add(entries, cfs_entry_new(0, 0, 3, 0, 0x6b01f2c2,
                                           CFS_TYPE_DIRECTORY, "", NULL));
    g_ptr_array_add(entries, cfs_entry_new(2, 0, 3, 0, 0x6b01f2c2,
                                           CFS_TYPE_FILE, "f", data));
    tree = cfs_tree_new_from_entries(entries, NULL);
    g_assert_nonnull(tree);
    return tree;
}

static GBytes *
state_of(CfsTree *tree, const CfsEpoch *epoch)
{
    g_autoptr(GBytes) index = cfs_tree_index(tree);

    return lone_member_message(CFS_MESSAGE_STATE, 0, epoch, 0, index);
}

/* Delivers what @m sent, to itself. Returns: (owned) it. */
static GBytes *
loop_back(LoneMember *m, CfsMember self)
{
    g_autoptr(GBytes) bytes = lone_member_take_sent(m);

    g_assert_nonnull(bytes);
    lone_member_hear(m, self, bytes);
    return g_steal_pointer(&bytes);
}

static CfsEpoch
epoch_of(GBytes *message)
{
    CfsHeader header;
    PveReader reader;

    pve_reader_init_bytes(&reader, message);
    g_assert_cmpint(cfs_message_parse(&reader, 1, &header), ==, CFS_PARSE_OK);
    return header.epoch;
}

/* The lowest member, in its fourth configuration: as captured. */
static LoneMember *
new_lowest(void)
{
    LoneMember *m = lone_member_new(members[0], new_tree("x"));

    lone_member_set_time(m, 0x6b01f2ca);
    for (guint i = 0; i < 3; i++) {
        lone_member_confchg(m, members, 1);
    }
    lone_member_confchg(m, members, 2);
    return m;
}

/* All equal, and our own UPDATE_COMPLETE delivered. */
static CfsEpoch
sync_equal(LoneMember *m)
{
    g_autoptr(GBytes) start = loop_back(m, members[0]);
    CfsEpoch epoch = epoch_of(start);
    G_GNUC_UNUSED g_autoptr(GBytes) own = loop_back(m, members[0]);
    g_autoptr(GBytes) state =
        state_of(cfs_replica_tree(lone_member_replica(m)), &epoch);
    g_autoptr(GBytes) complete = NULL;

    lone_member_hear(m, members[1], state);
    complete = loop_back(m, members[0]);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
    return epoch;
}

static void
test_captured_bytes(void)
{
    g_autoptr(LoneMember) m = new_lowest();
    g_autoptr(GBytes) start = loop_back(m, members[0]);
    CfsEpoch epoch = epoch_of(start);
    g_autoptr(GBytes) own = loop_back(m, members[0]);
    g_autoptr(CfsTree) empty = cfs_tree_new(5);
    g_autoptr(GBytes) state = state_of(empty, &epoch);
    g_autoptr(GBytes) root = NULL, file = NULL, complete = NULL;
    g_autoptr(GBytes) request = NULL;

    capture_assert(start, HEAD(01, caf2016b) EPOCH);
    g_assert_cmpuint(g_bytes_get_size(own), ==, 144);
    lone_member_hear(m, members[1], state);
    root = loop_back(m, members[0]);
    capture_assert(root,
                   HEAD(03, caf2016b) EPOCH "0000000000000000|0000000000000000"
                                            "0300000000000000|00000000|c2f2016b"
                                            "00000000|01000000|04|00");
    file = loop_back(m, members[0]);
    complete = loop_back(m, members[0]);
    capture_assert(complete, HEAD(04, caf2016b) EPOCH);
    lone_member_set_time(m, 0x6b020141);
    lone_member_wait(m, 4000);
    g_assert_null(lone_member_take_sent(m));
    lone_member_wait(m, 1500); /* some seconds after the synchronisation */
    request = loop_back(m, members[0]);
    capture_assert(request, HEAD(05, 4101026b) EPOCH "0100000000000000");
}

/* As the requester: our answer is the sum of the tree as it was then. */
static void
test_requester(void)
{
    g_autoptr(LoneMember) m = new_lowest();
    g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_MKDIR, "later");
    g_autoptr(GBytes) change = lone_member_normal(op, 1);
    g_autoptr(GBytes) request = NULL, answer = NULL;
    g_autofree char *expected = NULL, *text = NULL;
    guint8 sum[CFS_DIGEST_SIZE];

    sync_equal(m);
    lone_member_set_time(m, 0x6b020141);
    lone_member_wait(m, 5000);
    lone_member_hold_work(m);
    cfs_tree_checksum(cfs_replica_tree(lone_member_replica(m)), sum);
    request = loop_back(m, members[0]);
    lone_member_hear(m, members[1], change);
    while (lone_member_work(m)) {
    }
    text = capture_hex(sum, sizeof(sum));
    expected =
        g_strconcat(HEAD(06, 4101026b) EPOCH "0100000000000000", text, NULL);
    answer = loop_back(m, members[0]);
    capture_assert(answer, expected);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
}

/* Each hour, the first an hour after the start; not while one is unseen. */
static void
test_hourly(void)
{
    g_autoptr(LoneMember) m = new_lowest();
    g_autoptr(GBytes) request = NULL, second = NULL;

    sync_equal(m);
    lone_member_wait(m, 5000);
    g_bytes_unref(loop_back(m, members[0]));
    lone_member_forget_sent(m);
    lone_member_wait(m, 3590 * 1000);
    g_assert_null(lone_member_take_sent(m));
    lone_member_wait(m, 10 * 1000);
    request = lone_member_take_sent(m);
    g_assert_nonnull(request);
    lone_member_wait(m, 3600 * 1000);
    g_assert_null(lone_member_take_sent(m)); /* the last was not seen */
    lone_member_hear(m, members[0], request);
    lone_member_forget_sent(m);
    lone_member_wait(m, 3600 * 1000);
    second = lone_member_take_sent(m);
    g_assert_nonnull(second);
}

/* Somebody may still be in UPDATE: no request. */
static void
test_not_before_complete(void)
{
    g_autoptr(LoneMember) m = new_lowest();
    g_autoptr(GBytes) start = loop_back(m, members[0]);
    CfsEpoch epoch = epoch_of(start);
    G_GNUC_UNUSED g_autoptr(GBytes) own = loop_back(m, members[0]);
    g_autoptr(GBytes) state =
        state_of(cfs_replica_tree(lone_member_replica(m)), &epoch);
    g_autoptr(GBytes) complete = NULL, request = NULL;

    lone_member_hear(m, members[1], state);
    complete = lone_member_take_sent(m);
    lone_member_wait(m, 4000 * 1000);
    g_assert_null(lone_member_take_sent(m));
    lone_member_hear(m, members[0], complete);
    lone_member_wait(m, 5000);
    request = lone_member_take_sent(m);
    g_assert_nonnull(request);
}

/* --- the other side: member 3 is ours, member 1 asks ------------------------
 */

typedef struct {
    LoneMember *m;
    CfsEpoch epoch;
} Follower;

static void
follow(Follower *f)
{
    CfsEpoch epoch = {4, 5, 1, 729};
    g_autoptr(GBytes) start =
        lone_member_message(CFS_MESSAGE_SYNC_START, 0, &epoch, 0, NULL);
    g_autoptr(GBytes) complete =
        lone_member_message(CFS_MESSAGE_UPDATE_COMPLETE, 0, &epoch, 0, NULL);
    g_autoptr(GBytes) own = NULL;

    f->epoch = epoch;
    lone_member_confchg(f->m, members, 2);
    lone_member_hear(f->m, members[0], start);
    own = loop_back(f->m, members[1]);
    lone_member_hear(f->m, members[0], own);
    lone_member_hear(f->m, members[0], complete);
    g_assert_cmpint(lone_member_mode(f->m), ==, CFS_MODE_SYNCED);
}

static void
ask(Follower *f, CfsMember who, guint64 id)
{
    guint64 le = GUINT64_TO_LE(id);
    g_autoptr(GBytes) payload = g_bytes_new(&le, sizeof(le));
    g_autoptr(GBytes) message = lone_member_message(CFS_MESSAGE_VERIFY_REQUEST,
                                                    0, &f->epoch, 0, payload);

    lone_member_hear(f->m, who, message);
}

/* @wrong: another sum than that of @tree. */
static void
tell_sum_of(
    Follower *f, CfsMember who, guint64 id, CfsTree *tree, gboolean wrong)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) payload = NULL, message = NULL;
    guint8 sum[CFS_DIGEST_SIZE];

    cfs_tree_checksum(tree, sum);
    sum[0] ^= wrong ? 1 : 0;
    pve_write_u64(out, id);
    pve_write_bytes(out, sum, sizeof(sum));
    payload = g_bytes_new(out->data, out->len);
    message = lone_member_message(CFS_MESSAGE_VERIFY, 0, &f->epoch, 0, payload);
    lone_member_hear(f->m, who, message);
}

static void
tell(Follower *f, CfsMember who, guint64 id, gboolean wrong)
{
    tell_sum_of(f, who, id, cfs_replica_tree(lone_member_replica(f->m)), wrong);
}

static Follower
new_follower(void)
{
    Follower f = {lone_member_new(members[1], new_tree("x")), {0}};

    follow(&f);
    return f;
}

static void
test_equal(void)
{
    Follower f = new_follower();

    ask(&f, members[0], 1);
    tell(&f, members[0], 1, FALSE);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_SYNCED);
    g_assert_null(lone_member_take_sent(f.m));
    lone_member_free(f.m);
}

/* 14.24: a wrong checksum makes us leave; also where ours is done later. */
static void
test_different(void)
{
    for (guint late = 0; late < 2; late++) {
        Follower f = new_follower();

        if (late != 0) {
            lone_member_hold_work(f.m);
        }
        ask(&f, members[0], 1);
        tell(&f, members[0], 1, TRUE);
        g_assert_cmpuint(lone_member_n_left(f.m), ==, 1 - late);
        while (lone_member_work(f.m)) {
        }
        g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_LEAVE);
        g_assert_cmpuint(lone_member_n_left(f.m), ==, 1);
        g_assert_cmpuint(lone_member_n_logged(f.m), ==, 1);
        lone_member_free(f.m);
    }
}

/* What nobody asked, another's answer, a change of members, a bad length:
 * nothing happens. */
static void
test_ignored(void)
{
    Follower f = new_follower();
    guint8 bytes[41] = {1};

    tell(&f, members[0], 1, TRUE);
    ask(&f, members[0], 1);
    tell(&f, members[0], 2, TRUE);
    tell(&f, members[1], 1, TRUE);
    for (gsize size = 0; size <= sizeof(bytes); size++) {
        g_autoptr(GBytes) payload = g_bytes_new(bytes, size);
        g_autoptr(GBytes) answer =
            lone_member_message(CFS_MESSAGE_VERIFY, 0, &f.epoch, 0, payload);
        g_autoptr(GBytes) question = lone_member_message(
            CFS_MESSAGE_VERIFY_REQUEST, 0, &f.epoch, 0, payload);

        if (size != 40) {
            lone_member_hear(f.m, members[0], answer);
        }
        if (size != 8) {
            lone_member_hear(f.m, members[0], question);
        }
    }
    follow(&f); /* the saved checksum is of the old configuration */
    tell(&f, members[0], 1, TRUE);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_SYNCED);
    g_assert_cmpuint(lone_member_n_left(f.m), ==, 0);
    lone_member_free(f.m);
}

/* While collecting states and in UPDATE the reference leaves; we ignore it. */
static void
test_ignored_before_synced(void)
{
    Follower f = {lone_member_new(members[1], new_tree("x")), {4, 5, 1, 729}};
    g_autoptr(CfsTree) newer = new_tree("y");
    g_autoptr(GBytes) start =
        lone_member_message(CFS_MESSAGE_SYNC_START, 0, &f.epoch, 0, NULL);
    g_autoptr(GBytes) state = NULL, own = NULL;
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_MKDIR, "d");

    g_assert_cmpint(cfs_tree_apply(newer, op, 1, 9, changes), ==, 0);
    state = state_of(newer, &f.epoch);
    lone_member_confchg(f.m, members, 2);
    lone_member_hear(f.m, members[0], start);
    ask(&f, members[0], 1);
    tell(&f, members[0], 1, TRUE);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_START_SYNC);
    own = loop_back(f.m, members[1]);
    lone_member_hear(f.m, members[0], state);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_UPDATE);
    ask(&f, members[0], 2);
    tell(&f, members[0], 2, TRUE);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_UPDATE);
    lone_member_free(f.m);
}

/* Back from a wrong checksum, and the indexes were equal: then it is the
 * other's sum that is wrong, and it cannot keep us out. */
static void
test_false_alarm(void)
{
    Follower f = new_follower();

    ask(&f, members[0], 1);
    tell(&f, members[0], 1, TRUE);
    g_assert_cmpuint(lone_member_n_left(f.m), ==, 1);
    for (guint64 id = 2; id < 5; id++) {
        if (id == 2) {
            lone_member_disconnect(f.m);
            lone_member_connect(f.m);
            follow(&f);
        }
        ask(&f, members[0], id);
        tell(&f, members[0], id, TRUE);
        g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_SYNCED);
    }
    g_assert_cmpuint(lone_member_n_left(f.m), ==, 1);
    g_assert_cmpuint(lone_member_n_logged(f.m), ==, 2);
    lone_member_free(f.m);
}

/* A byte of our memory turned: the digests we remember do not know of it, and
 * so the index would be equal. After the verification it is not, and the leader
 * repairs what is wrong. */
static void
test_memory_turned(void)
{
    CfsTree *tree = new_tree("x");
    const CfsEntry *file = cfs_tree_lookup(tree, "f");
    CfsEpoch epoch = {4, 5, 1, 729};
    g_autoptr(CfsTree) good = new_tree("x");
    g_autoptr(GBytes) start =
        lone_member_message(CFS_MESSAGE_SYNC_START, 0, &epoch, 0, NULL);
    g_autoptr(GBytes) complete =
        lone_member_message(CFS_MESSAGE_UPDATE_COMPLETE, 0, &epoch, 0, NULL);
    g_autoptr(GBytes) state = state_of(good, &epoch);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) payload = NULL, update = NULL;
    Follower f = {lone_member_new(members[1], tree), {0}};

    follow(&f);
    ((char *)g_bytes_get_data(file->data, NULL))[0] = 'y';
    ask(&f, members[0], 1);
    tell_sum_of(&f, members[0], 1, good, FALSE);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_LEAVE);
    lone_member_disconnect(f.m);
    lone_member_connect(f.m);
    lone_member_confchg(f.m, members, 2);
    lone_member_hear(f.m, members[0], start);
    g_bytes_unref(loop_back(f.m, members[1]));
    lone_member_hear(f.m, members[0], state);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_UPDATE);
    cfs_entry_encode(cfs_tree_lookup(good, "f"), out);
    payload = g_bytes_new(out->data, out->len);
    update = lone_member_message(CFS_MESSAGE_UPDATE, 0, &epoch, 0, payload);
    lone_member_hear(f.m, members[0], update);
    lone_member_hear(f.m, members[0], complete);
    g_assert_cmpint(lone_member_mode(f.m), ==, CFS_MODE_SYNCED);
    file = cfs_tree_lookup(cfs_replica_tree(lone_member_replica(f.m)), "f");
    g_assert_cmpmem(g_bytes_get_data(file->data, NULL), 1, "x", 1);
    lone_member_free(f.m);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/verify/captured-bytes", test_captured_bytes);
    g_test_add_func("/verify/requester", test_requester);
    g_test_add_func("/verify/hourly", test_hourly);
    g_test_add_func("/verify/not-before-complete", test_not_before_complete);
    g_test_add_func("/verify/equal", test_equal);
    g_test_add_func("/verify/different", test_different);
    g_test_add_func("/verify/ignored", test_ignored);
    g_test_add_func("/verify/ignored-before-synced",
                    test_ignored_before_synced);
    g_test_add_func("/verify/false-alarm", test_false_alarm);
    g_test_add_func("/verify/memory-turned", test_memory_turned);
    return g_test_run();
}
