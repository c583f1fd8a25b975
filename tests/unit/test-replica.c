/* What a member takes from others: spec/replication.md 7.3, row by row, each
 * kind of message with each defect in each mode. The reference leaves the group
 * for many of them; we do it only where our own copy is in doubt (DESIGN.md,
 * promise 7). Whatever came: the round then goes on to its good end. */
#include "config.h"

#include "tests/unit/lone-member.h"

#include <errno.h>
#include <string.h>

static const CfsMember members[] = {{1, 10}, {2, 20}, {3, 30}};
static const CfsMember stranger = {4, 40};
static const CfsEpoch epoch = {7, 7, 1, 10};
static const CfsEpoch other_epoch = {6, 7, 1, 10};
static const CfsEpoch no_epoch = {0};

enum { US = 1, LEADER = 0, THIRD = 2 };

/* --- what is in the world --------------------------------------------------
 */

static void
apply(CfsTree *tree, CfsOp *op, guint32 time)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();

    g_assert_cmpint(cfs_tree_apply(tree, op, 1, time, changes), ==, 0);
    cfs_op_free(op);
}

static CfsTree *
old_tree(void)
{
    CfsTree *tree = cfs_tree_new(5);
    g_autoptr(GBytes) text = g_bytes_new_static("old", 3);

    apply(tree, cfs_op_new(CFS_OP_CREATE, "kept"), 6);
    apply(tree, cfs_op_new(CFS_OP_CREATE, "gone"), 6);
    apply(tree, cfs_op_new(CFS_OP_CREATE, "changed"), 6);
    apply(tree, cfs_op_new_write("changed", text, 0), 6);
    return tree;
}

static CfsTree *
new_tree(void)
{
    CfsTree *tree = old_tree();
    g_autoptr(GBytes) text = g_bytes_new_static("new", 3);

    apply(tree, cfs_op_new(CFS_OP_DELETE, "gone"), 7);
    apply(tree, cfs_op_new_write("changed", text, 0), 8);
    apply(tree, cfs_op_new(CFS_OP_MKDIR, "dir"), 9);
    return tree;
}

static GBytes *
make_state(CfsTree *tree)
{
    g_autoptr(GBytes) index = cfs_tree_index(tree);

    return lone_member_message(CFS_MESSAGE_STATE, 0, &epoch, 0, index);
}

static GBytes *
make_bare(guint16 type)
{
    return lone_member_message(type, 0, &epoch, 0, NULL);
}

static GBytes *
make_update(const CfsEntry *entry)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) payload = NULL;

    cfs_entry_encode(entry, out);
    payload = g_bytes_new(out->data, out->len);
    return lone_member_message(CFS_MESSAGE_UPDATE, 0, &epoch, 0, payload);
}

static void
hear(LoneMember *m, guint who, GBytes *bytes)
{
    g_autoptr(GBytes) message = bytes;

    lone_member_hear(m, members[who], message);
}

/* --- to a mode, and on from it ---------------------------------------------
 */

static void
begin_round(LoneMember *m)
{
    g_autoptr(GBytes) own = NULL;

    lone_member_confchg(m, members, 3);
    hear(m, LEADER, make_bare(CFS_MESSAGE_SYNC_START));
    own = lone_member_take_sent(m);
    g_assert_nonnull(own);
    lone_member_hear(m, members[US], own);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_START_SYNC);
}

/* The others' states: member 1 leads, 3 is its equal. */
static void
hear_states(LoneMember *m)
{
    g_autoptr(CfsTree) tree = new_tree();

    hear(m, LEADER, make_state(tree));
    hear(m, THIRD, make_state(tree));
}

static LoneMember *
member_in(CfsMode mode)
{
    LoneMember *m = lone_member_new(
        members[US], mode == CFS_MODE_SYNCED ? new_tree() : old_tree());

    begin_round(m);
    if (mode != CFS_MODE_START_SYNC) {
        hear_states(m);
    }
    g_assert_cmpint(lone_member_mode(m), ==, mode);
    lone_member_forget_sent(m);
    return m;
}

static void
hear_updates(LoneMember *m)
{
    g_autoptr(CfsTree) tree = new_tree();
    g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);

    for (guint i = entries->len; i > 0; i--) { /* children first */
        hear(m, LEADER, make_update(entries->pdata[i - 1]));
    }
}

static void
assert_equals_leader(LoneMember *m)
{
    g_autoptr(CfsTree) tree = new_tree();
    g_autoptr(GBytes) expected = cfs_tree_index(tree);
    g_autoptr(GBytes) found =
        cfs_tree_index(cfs_replica_tree(lone_member_replica(m)));

    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
    g_assert_true(g_bytes_equal(found, expected));
}

static void
finish_round(LoneMember *m)
{
    if (lone_member_mode(m) == CFS_MODE_START_SYNC) {
        hear_states(m);
    }
    if (lone_member_mode(m) == CFS_MODE_UPDATE) {
        hear_updates(m);
    }
    hear(m, LEADER, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
    assert_equals_leader(m);
}

/* --- defects ---------------------------------------------------------------
 */

static GBytes *
cut_to(guint16 type, gsize size)
{
    g_autoptr(GBytes) whole = make_bare(type);

    return g_bytes_new_from_bytes(whole, 0, size);
}

static GBytes *
short_base(void)
{
    return cut_to(CFS_MESSAGE_STATE, 15);
}

static GBytes *
nothing(void)
{
    return g_bytes_new_static("", 0);
}

static GBytes *
short_normal(void)
{
    return cut_to(CFS_MESSAGE_NORMAL, 23);
}

static GBytes *
short_start(void)
{
    return cut_to(CFS_MESSAGE_SYNC_START, 31);
}

static GBytes *
short_state(void)
{
    return cut_to(CFS_MESSAGE_STATE, 31);
}

static GBytes *
with_protocol(guint8 protocol)
{
    g_autoptr(GBytes) whole = make_bare(CFS_MESSAGE_UPDATE_COMPLETE);
    gsize size = 0;
    guint8 *bytes = g_bytes_unref_to_data(g_steal_pointer(&whole), &size);

    bytes[4] = protocol;
    return g_bytes_new_take(bytes, size);
}

static GBytes *
older_protocol(void)
{
    return with_protocol(0);
}

static GBytes *
newer_protocol(void)
{
    return with_protocol(2);
}

static GBytes *
malformed_op(void)
{
    g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_MKDIR, "d");
    g_autoptr(GBytes) whole = lone_member_normal(op, 1);

    return g_bytes_new_from_bytes(whole, 0, g_bytes_get_size(whole) - 1);
}

static GBytes *
unknown_op(void)
{
    return lone_member_message(CFS_MESSAGE_NORMAL, 9, NULL, 1, NULL);
}

/* The first EEXIST on all: it changes nothing, wherever it is applied. */
static GBytes *
vain_op(void)
{
    g_autoptr(CfsOp) op = cfs_op_new(CFS_OP_CREATE, "kept");

    return lone_member_normal(op, 1);
}

static GBytes *
start_again(void)
{
    return make_bare(CFS_MESSAGE_SYNC_START);
}

static GBytes *
own_state_again(void)
{
    g_autoptr(CfsTree) tree = old_tree();

    return make_state(tree);
}

static GBytes *
old_state(void)
{
    return lone_member_message(CFS_MESSAGE_STATE, 0, &other_epoch, 0, NULL);
}

static GBytes *
old_update(void)
{
    return lone_member_message(CFS_MESSAGE_UPDATE, 0, &other_epoch, 0, NULL);
}

static GBytes *
old_complete(void)
{
    return lone_member_message(CFS_MESSAGE_UPDATE_COMPLETE, 0, &other_epoch, 0,
                               NULL);
}

static GBytes *
malformed_update(void)
{
    g_autoptr(GBytes) payload = g_bytes_new_static("\0\0\0\0", 4);

    return lone_member_message(CFS_MESSAGE_UPDATE, 0, &epoch, 0, payload);
}

static GBytes *
foreign_update(guint64 inode, const char *name, const char *text)
{
    g_autoptr(GBytes) data = g_bytes_new_static(text, strlen(text));
    g_autoptr(CfsEntry) entry =
        cfs_entry_new(inode, 0, 6, 1, 8, CFS_TYPE_FILE, name, data);

    return make_update(entry);
}

static GBytes *
update_of_unknown_entry(void)
{
    return foreign_update(99, "x", "x");
}

static GBytes *
update_with_other_content(void)
{
    return foreign_update(4, "changed", "NEW");
}

static GBytes *
update_with_slash(void)
{
    return foreign_update(4, "a/../b", "new");
}

static GBytes *
good_update(void)
{
    return foreign_update(4, "changed", "new");
}

static GBytes *
complete(void)
{
    return make_bare(CFS_MESSAGE_UPDATE_COMPLETE);
}

static GBytes *
unknown_type(void)
{
    return make_bare(9);
}

static GBytes *
silent_type(void)
{
    return lone_member_message(9, 1, &no_epoch, 0, NULL);
}

/* --- the table -------------------------------------------------------------
 */

typedef enum {
    DROP,  /* nothing happens, nothing is sent */
    STATE, /* taken; our state goes out */
    LEAVE, /* and join again soon */
    AWAY,  /* a longer pause: the others speak a newer protocol */
    TAKE,  /* no outward sign */
} Outcome;

typedef struct {
    const char *name;
    GBytes *(*make)(void);
    const CfsMember *sender;
    Outcome start_sync, update, synced;
} Row;

static const Row rows[] = {
    {"no bytes", nothing, &members[0], DROP, DROP, DROP},
    {"half a header", short_base, &members[0], DROP, DROP, DROP},
    {"normal, short", short_normal, &members[0], DROP, DROP, DROP},
    {"SYNC_START, short", short_start, &members[0], DROP, DROP, DROP},
    {"STATE, short", short_state, &members[0], DROP, DROP, DROP},
    {"an older protocol", older_protocol, &members[0], DROP, DROP, DROP},
    {"a newer protocol", newer_protocol, &members[0], AWAY, AWAY, AWAY},
    {"normal, malformed", malformed_op, &members[0], DROP, DROP, DROP},
    {"normal, unknown kind", unknown_op, &members[0], LEAVE, LEAVE, LEAVE},
    {"normal, of a non-member", vain_op, &stranger, DROP, TAKE, TAKE},
    {"normal", vain_op, &members[0], TAKE, TAKE, TAKE},
    {"SYNC_START, again", start_again, &members[0], STATE, DROP, DROP},
    {"SYNC_START, wrong member", start_again, &members[2], STATE, DROP, DROP},
    {"STATE, again", own_state_again, &members[1], DROP, DROP, DROP},
    {"STATE, of a non-member", own_state_again, &stranger, DROP, DROP, DROP},
    {"STATE, of an old epoch", old_state, &members[0], DROP, DROP, DROP},
    {"UPDATE, malformed", malformed_update, &members[0], DROP, DROP, DROP},
    {"UPDATE, unknown", update_of_unknown_entry, &members[0], DROP, DROP, DROP},
    {"UPDATE, wrong content", update_with_other_content, &members[0], DROP,
     DROP, DROP},
    {"UPDATE, wrong name", update_with_slash, &members[0], DROP, DROP, DROP},
    {"UPDATE, twice", good_update, &members[0], DROP, TAKE, DROP},
    {"UPDATE, not of the leader", good_update, &members[2], DROP, TAKE, DROP},
    {"UPDATE, of an old epoch", old_update, &members[0], DROP, DROP, DROP},
    {"UPDATE_COMPLETE, wrong member", complete, &members[2], DROP, TAKE, TAKE},
    {"UPDATE_COMPLETE, too early", complete, &members[0], DROP, LEAVE, TAKE},
    {"UPDATE_COMPLETE, old epoch", old_complete, &members[0], DROP, DROP, DROP},
    {"unknown type", unknown_type, &members[0], DROP, DROP, DROP},
    {"unknown type, no epoch", silent_type, &members[0], DROP, DROP, DROP},
};

/* Our state was asked for anew: all states are collected again. */
static void
answer_again(LoneMember *m)
{
    g_autoptr(GBytes) own = lone_member_take_sent(m);

    g_assert_nonnull(own);
    lone_member_hear(m, members[US], own);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_START_SYNC);
    finish_round(m);
}

static void
assert_away(LoneMember *m, CfsMode mode, guint pause_ms)
{
    g_assert_cmpint(lone_member_mode(m), ==, mode);
    g_assert_cmpuint(lone_member_n_left(m), ==, 1);
    g_assert_cmpuint(lone_member_rejoin_ms(m), ==, pause_ms);
    lone_member_disconnect(m);
    lone_member_connect(m);
    begin_round(m);
    finish_round(m);
}

static void
check(const Row *row, CfsMode mode, Outcome expected)
{
    g_autoptr(LoneMember) m = member_in(mode);
    g_autoptr(GBytes) message = row->make();

    g_test_message("%s in %s", row->name, cfs_mode_name(mode));
    for (guint i = 0; i < 2 && lone_member_n_left(m) == 0; i++) {
        lone_member_hear(m, *row->sender, message); /* and repeated */
        if (expected == STATE) {
            break;
        }
    }
    switch (expected) {
    case STATE:
        answer_again(m);
        return;
    case LEAVE:
        assert_away(m, CFS_MODE_LEAVE, 100);
        return;
    case AWAY:
        assert_away(m, CFS_MODE_VERSION_ERROR, 60000);
        return;
    case DROP:
    case TAKE:
        break;
    }
    g_assert_cmpint(lone_member_mode(m), ==, mode);
    g_assert_null(lone_member_take_sent(m));
    g_assert_cmpuint(lone_member_n_left(m), ==, 0);
    finish_round(m);
}

static void
test_table(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        check(&rows[i], CFS_MODE_START_SYNC, rows[i].start_sync);
        check(&rows[i], CFS_MODE_UPDATE, rows[i].update);
        check(&rows[i], CFS_MODE_SYNCED, rows[i].synced);
    }
}

/* --- single stories --------------------------------------------------------
 */

/* A member that always sends a state that is no index: the rest goes on. */
static void
test_unreadable_state(void)
{
    static const char *const payloads[] = {"", "x",
                                           "0123456789abcdef0123456789abcdef"};

    for (guint i = 0; i < G_N_ELEMENTS(payloads); i++) {
        g_autoptr(LoneMember) m = member_in(CFS_MODE_START_SYNC);
        g_autoptr(CfsTree) tree = new_tree();
        g_autoptr(GBytes) payload =
            g_bytes_new_static(payloads[i], strlen(payloads[i]));

        hear(m, THIRD,
             lone_member_message(CFS_MESSAGE_STATE, 0, &epoch, 0, payload));
        hear(m, LEADER, make_state(tree));
        g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_UPDATE);
        finish_round(m);
    }
}

/* As the leader we send such a member all there is. */
static void
test_unreadable_follower(void)
{
    g_autoptr(LoneMember) m = lone_member_new(members[US], new_tree());
    g_autoptr(CfsTree) tree = new_tree();
    g_autoptr(CfsTree) old = old_tree();
    guint n = 0;

    begin_round(m);
    hear(m, LEADER, make_state(old));
    hear(m, THIRD, make_bare(CFS_MESSAGE_STATE));
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
    for (GBytes *sent; (sent = lone_member_take_sent(m)) != NULL; n++) {
        g_bytes_unref(sent);
    }
    g_assert_cmpuint(n, ==, cfs_tree_n_entries(tree) + 1);
}

/* An incomplete transfer: the pause doubles each time, and ends. */
static void
test_back_off(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_UPDATE);
    guint pause_ms = 100;

    for (guint i = 1; i < 12; i++) {
        hear(m, LEADER, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
        g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_LEAVE);
        g_assert_cmpuint(lone_member_n_left(m), ==, i);
        g_assert_cmpuint(lone_member_rejoin_ms(m), ==, pause_ms);
        pause_ms = MIN(pause_ms * 2, 100 << 8);
        lone_member_disconnect(m);
        lone_member_connect(m);
        begin_round(m);
        hear_states(m);
    }
    g_assert_cmpuint(lone_member_n_logged(m), ==, 1);
    finish_round(m);
    lone_member_wait(m, 61000);
    hear(m, LEADER, unknown_op());
    g_assert_cmpuint(lone_member_rejoin_ms(m), ==, 100);
}

/* Who goes on with changes of an unknown kind does not keep us out. */
static void
test_unknown_again(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_SYNCED);

    for (guint i = 1; i <= 3; i++) {
        hear(m, LEADER, unknown_op());
        g_assert_cmpuint(lone_member_n_left(m), ==, i);
        lone_member_disconnect(m);
        lone_member_connect(m);
        begin_round(m);
        finish_round(m);
    }
    hear(m, LEADER, unknown_op());
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
}

/* The others ended a round that we did not: after a while that is our fault. */
static void
test_doubtful_round(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_START_SYNC);

    lone_member_wait(m, 20000);
    g_assert_cmpuint(lone_member_n_left(m), ==, 0);
    begin_round(m);
    hear(m, LEADER, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
    lone_member_wait(m, 4000);
    g_assert_cmpuint(lone_member_n_left(m), ==, 0);
    lone_member_wait(m, 2000);
    g_assert_cmpuint(lone_member_n_left(m), ==, 1);
}

static CfsOp *
mkdir_op(const char *path)
{
    return cfs_op_new(CFS_OP_MKDIR, path);
}

static void
hear_mkdir(LoneMember *m, guint who, const char *path, guint64 count)
{
    g_autoptr(CfsOp) op = mkdir_op(path);

    hear(m, who, lone_member_normal(op, count));
}

static guint64
inode_of(LoneMember *m, const char *path)
{
    const CfsEntry *entry =
        cfs_tree_lookup(cfs_replica_tree(lone_member_replica(m)), path);

    g_assert_nonnull(entry);
    return entry->inode;
}

/* 14.22, and 7.7: in UPDATE the order is that of the synced members: queued
 * ones of synced senders by count, then all as they come, then queued ones of
 * the others. A false end of updates makes these last ones come earlier. */
static void
test_order_in_update(void)
{
    for (guint false_end = 0; false_end < 2; false_end++) {
        g_autoptr(LoneMember) m = member_in(CFS_MODE_START_SYNC);

        hear_mkdir(m, US, "own-early", 1);
        hear_mkdir(m, LEADER, "synced-9", 9);
        hear_mkdir(m, THIRD, "synced-4", 4);
        hear_states(m);
        hear_mkdir(m, THIRD, "then-1", 11);
        if (false_end != 0) {
            hear(m, THIRD, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
        }
        hear_mkdir(m, US, "then-2", 2);
        hear_updates(m);
        hear(m, LEADER, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
        g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
        g_assert_cmpuint(inode_of(m, "synced-4"), ==, 9);
        g_assert_cmpuint(inode_of(m, "synced-9"), ==, 10);
        g_assert_cmpuint(inode_of(m, "then-1"), ==, 11);
        g_assert_cmpuint(inode_of(m, "own-early"), ==, false_end ? 12 : 13);
        g_assert_cmpuint(inode_of(m, "then-2"), ==, false_end ? 13 : 12);
    }
}

/* Our own changes wait from the change of members until we are synced. */
static void
test_own_changes_wait(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_UPDATE);
    guint64 id = lone_member_request(m, mkdir_op("mine"));
    g_autoptr(GBytes) sent = NULL;

    g_assert_null(lone_member_take_sent(m));
    finish_round(m);
    sent = lone_member_take_sent(m);
    g_assert_nonnull(sent);
    g_assert_cmpint(lone_member_verdict(m, id), ==, -1);
    lone_member_hear(m, members[US], sent);
    g_assert_cmpint(lone_member_verdict(m, id), ==, 0);
}

/* 7.2 step 4a: who joins does not know the queue, so each sends its own part
 * again, byte for byte. */
static void
test_resend(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_SYNCED);
    guint64 id = lone_member_request(m, mkdir_op("mine"));
    g_autoptr(GBytes) first = lone_member_take_sent(m);
    g_autoptr(GBytes) again = NULL;

    g_assert_nonnull(first);
    lone_member_confchg(m, members, 3);
    lone_member_hear(m, members[US], first);
    hear_mkdir(m, LEADER, "theirs", 5);
    lone_member_confchg(m, members, 3);
    again = lone_member_take_sent(m);
    g_assert_nonnull(again);
    g_assert_true(g_bytes_equal(first, again));
    g_assert_null(lone_member_take_sent(m));
    hear(m, LEADER, make_bare(CFS_MESSAGE_SYNC_START));
    lone_member_hear(m, members[US], again);
    {
        g_autoptr(GBytes) state = lone_member_take_sent(m);

        lone_member_hear(m, members[US], state);
    }
    hear_states(m);
    hear(m, LEADER, make_bare(CFS_MESSAGE_UPDATE_COMPLETE));
    g_assert_cmpint(lone_member_verdict(m, id), ==, 0);
    g_assert_cmpuint(inode_of(m, "mine"), ==, 9);
}

/* 14.7: delivered when quorum was lost: applied nowhere here, and resync. */
static void
test_not_quorate(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_SYNCED);
    guint64 id = lone_member_request(m, mkdir_op("mine"));
    g_autoptr(GBytes) sent = lone_member_take_sent(m);

    lone_member_set_quorate(m, FALSE);
    lone_member_hear(m, members[US], sent);
    g_assert_cmpint(lone_member_verdict(m, id), ==, EACCES);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_LEAVE);
    g_assert_cmpint(
        lone_member_verdict(m, lone_member_request(m, mkdir_op("more"))), ==,
        EACCES);
}

/* A cut heals: corosync has two of three again, the other daemon is not in the
 * group yet and may have the newer copy. Neither a change nor an fsync is done
 * on ours alone, unless it does not come. */
static void
test_peers_are_awaited(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_SYNCED);
    g_autoptr(GBytes) sent = NULL;
    guint64 change, barrier;

    lone_member_forget_sent(m);
    lone_member_see(m, 3, 2);
    lone_member_confchg(m, &members[US], 1);
    g_assert_cmpint(lone_member_mode(m), ==, CFS_MODE_SYNCED);
    change = lone_member_request(m, mkdir_op("mine"));
    barrier = lone_member_sync(m);
    lone_member_wait(m, 4000);
    g_assert_null(lone_member_take_sent(m));
    g_assert_false(lone_member_flushed(m, 0));
    lone_member_wait(m, 2000);
    sent = lone_member_take_sent(m);
    g_assert_nonnull(sent);
    lone_member_hear(m, members[US], sent);
    g_assert_cmpint(lone_member_verdict(m, change), ==, 0);
    g_assert_true(lone_member_flushed(m, 0));
    g_assert_cmpint(lone_member_verdict(m, barrier), ==, 0);
}

/* Who is the only one that corosync sees has nobody to wait for. */
static void
test_nobody_is_awaited(void)
{
    g_autoptr(LoneMember) m = member_in(CFS_MODE_SYNCED);
    g_autoptr(GBytes) sent = NULL;

    lone_member_forget_sent(m);
    lone_member_see(m, 2, 1);
    lone_member_confchg(m, &members[US], 1);
    (void)lone_member_request(m, mkdir_op("mine"));
    sent = lone_member_take_sent(m);
    g_assert_nonnull(sent);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/replica/acceptance", test_table);
    g_test_add_func("/replica/unreadable-state", test_unreadable_state);
    g_test_add_func("/replica/unreadable-follower", test_unreadable_follower);
    g_test_add_func("/replica/back-off", test_back_off);
    g_test_add_func("/replica/unknown-again", test_unknown_again);
    g_test_add_func("/replica/doubtful-round", test_doubtful_round);
    g_test_add_func("/replica/order-in-update", test_order_in_update);
    g_test_add_func("/replica/own-changes-wait", test_own_changes_wait);
    g_test_add_func("/replica/resend", test_resend);
    g_test_add_func("/replica/not-quorate", test_not_quorate);
    g_test_add_func("/replica/peers-are-awaited", test_peers_are_awaited);
    g_test_add_func("/replica/nobody-is-awaited", test_nobody_is_awaited);
    return g_test_run();
}
