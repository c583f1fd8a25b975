/* A member in a group that does what the bytes say: members come and go, states
 * and updates good and bad, changes, verifications, time. It may leave, it must
 * not fall, nor answer a request twice. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/extension.h"
#include "tests/unit/lone-member.h"

#include <string.h>

#define MAX_ACTIONS 200u
#define N_TREES 3u

static const CfsMember members[] = {{1, 10}, {2, 20}, {3, 30}, {4, 40}};

enum { US = 1 };

typedef struct {
    PveReader reader;
    LoneMember *m;
    CfsEpoch epoch; /* of the last round that was begun */
    CfsTree *trees[N_TREES];
    GQueue sent; /* of GBytes: what it sent and has not heard itself */
} World;

static void
apply(CfsTree *tree, CfsOp *op, guint32 time)
{
    (void)cfs_tree_apply(tree, op, 1, time, NULL);
    cfs_op_free(op);
}

/* Each grew out of the one before. */
static CfsTree *
make_tree(guint which)
{
    CfsTree *tree = cfs_tree_new(5);
    g_autoptr(GBytes) text = g_bytes_new_static("text", 4);

    apply(tree, cfs_op_new(CFS_OP_CREATE, "f"), 6);
    if (which > 0) {
        apply(tree, cfs_op_new_write("f", text, 0), 7);
        apply(tree, cfs_op_new(CFS_OP_MKDIR, "d"), 8);
        apply(tree, cfs_op_new(CFS_OP_CREATE, "empty"), 8);
    }
    if (which > 1) {
        apply(tree, cfs_op_new_truncate("empty", 3), 9); /* 12.1 */
        apply(tree, cfs_op_new(CFS_OP_DELETE, "f"), 9);
    }
    return tree;
}

static CfsTree *
pick_tree(World *world)
{
    return world->trees[pve_reader_u8(&world->reader) % N_TREES];
}

static CfsMember
pick_member(World *world)
{
    return members[pve_reader_u8(&world->reader) % G_N_ELEMENTS(members)];
}

/* Returns: (owned) some of the bytes. */
static GBytes *
pick_bytes(World *world)
{
    gsize size = pve_reader_u8(&world->reader);
    const guint8 *bytes;

    size = MIN(size, pve_reader_left(&world->reader));
    bytes = pve_reader_take(&world->reader, size);
    return g_bytes_new(bytes, bytes != NULL ? size : 0);
}

static void
collect_sent(World *world)
{
    GBytes *bytes;

    while ((bytes = lone_member_take_sent(world->m)) != NULL) {
        g_queue_push_tail(&world->sent, bytes);
    }
}

static void
hear(World *world, CfsMember sender, GBytes *bytes)
{
    g_autoptr(GBytes) message = bytes;

    lone_member_hear(world->m, sender, message);
}

static void
hear_payload(World *world, guint16 type, GByteArray *out)
{
    g_autoptr(GByteArray) array = out;
    g_autoptr(GBytes) payload = g_bytes_new(array->data, array->len);

    hear(world, pick_member(world),
         lone_member_message(type, 0, &world->epoch, 0, payload));
}

/* --- actions ---------------------------------------------------------------
 */

static void
raw_message(World *world)
{
    CfsMember sender = pick_member(world);

    hear(world, sender, pick_bytes(world));
}

static void
typed_message(World *world)
{
    guint16 type = pve_reader_u8(&world->reader);
    g_autoptr(GBytes) payload = pick_bytes(world);

    hear(world, pick_member(world),
         lone_member_message(type, pve_reader_u8(&world->reader) % 12,
                             &world->epoch, 3, payload));
}

static void
begin_round(World *world)
{
    CfsMember sender = pick_member(world);

    world->epoch =
        (CfsEpoch){pve_reader_u8(&world->reader), 7, sender.nodeid, sender.pid};
    hear(
        world, sender,
        lone_member_message(CFS_MESSAGE_SYNC_START, 0, &world->epoch, 0, NULL));
}

static void
tell_state(World *world)
{
    g_autoptr(GBytes) index = cfs_tree_index(pick_tree(world));

    hear(world, pick_member(world),
         lone_member_message(CFS_MESSAGE_STATE, 0, &world->epoch, 0, index));
}

static void
send_update(World *world)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(pick_tree(world));
    guint which = pve_reader_u8(&world->reader) % entries->len;
    GByteArray *out = g_byte_array_new();

    cfs_entry_encode(entries->pdata[which], out);
    hear_payload(world, CFS_MESSAGE_UPDATE, out);
}

static void
send_all_updates(World *world)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(pick_tree(world));
    CfsMember sender = pick_member(world);

    for (guint i = 0; i < entries->len; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GBytes) payload = NULL;

        cfs_entry_encode(entries->pdata[i], out);
        payload = g_bytes_new(out->data, out->len);
        hear(world, sender,
             lone_member_message(CFS_MESSAGE_UPDATE, 0, &world->epoch, 0,
                                 payload));
    }
    hear(world, sender,
         lone_member_message(CFS_MESSAGE_UPDATE_COMPLETE, 0, &world->epoch, 0,
                             NULL));
}

static void
ask_for_sum(World *world)
{
    GByteArray *out = g_byte_array_new();

    pve_write_u64(out, pve_reader_u8(&world->reader));
    hear_payload(world, CFS_MESSAGE_VERIFY_REQUEST, out);
}

static void
tell_sum(World *world)
{
    GByteArray *out = g_byte_array_new();
    guint8 sum[CFS_DIGEST_SIZE];

    cfs_tree_checksum(pick_tree(world), sum);
    pve_write_u64(out, pve_reader_u8(&world->reader));
    pve_write_bytes(out, sum, sizeof(sum));
    hear_payload(world, CFS_MESSAGE_VERIFY, out);
}

static CfsOp *
pick_op(World *world)
{
    static const char *const paths[] = {
        "f", "d", "d/x", "empty", "nodes/n/lxc/100.conf", "priv/lock/l"};
    guint8 choice = pve_reader_u8(&world->reader);
    const char *path =
        paths[pve_reader_u8(&world->reader) % G_N_ELEMENTS(paths)];
    g_autoptr(GBytes) data = NULL;

    switch (choice % 7) {
    case 0:
        data = pick_bytes(world);
        return cfs_op_new_write(path, data, choice / 7);
    case 1:
        return cfs_op_new_truncate(path, choice / 7);
    case 2:
        return cfs_op_new_rename(path, paths[choice / 7 % 6]);
    case 3:
        return cfs_op_new_mtime(path, choice / 7);
    case 4:
        return cfs_op_new(CFS_OP_DELETE, path);
    case 5:
        return cfs_op_new(CFS_OP_MKDIR, path);
    default:
        return cfs_op_new(CFS_OP_CREATE, path);
    }
}

static void
others_change(World *world)
{
    CfsMember sender = pick_member(world);
    guint64 count = pve_reader_u8(&world->reader);
    g_autoptr(CfsOp) op = pick_op(world);

    hear(world, sender, lone_member_normal(op, count));
}

static void
own_change(World *world)
{
    (void)lone_member_request(world->m, pick_op(world));
}

static void
hear_itself(World *world)
{
    GBytes *bytes;

    collect_sent(world);
    bytes = g_queue_pop_head(&world->sent);
    if (bytes == NULL) {
        return;
    }
    if (((const guint8 *)g_bytes_get_data(bytes, NULL))[0] ==
        CFS_MESSAGE_SYNC_START) {
        memcpy(&world->epoch,
               (const guint8 *)g_bytes_get_data(bytes, NULL) + 16,
               sizeof(world->epoch));
    }
    hear(world, members[US], bytes);
}

static void
change_members(World *world)
{
    guint8 mask = pve_reader_u8(&world->reader);
    CfsMember list[G_N_ELEMENTS(members)];
    guint n = 0;

    for (guint i = 0; i < G_N_ELEMENTS(members); i++) {
        if ((mask & 1u << i) != 0) {
            list[n++] = members[i];
        }
    }
    lone_member_confchg(world->m, list, n);
}

static void
pass_time(World *world)
{
    lone_member_wait(world->m, pve_reader_u8(&world->reader) * 1000);
}

static void
change_quorum(World *world)
{
    lone_member_set_quorate(world->m, pve_reader_u8(&world->reader) % 2 == 0);
}

static void
connect_anew(World *world)
{
    lone_member_disconnect(world->m);
    g_queue_clear_full(&world->sent, (GDestroyNotify)g_bytes_unref);
    lone_member_forget_sent(world->m);
    lone_member_connect(world->m);
}

static void
work(World *world)
{
    (void)lone_member_work(world->m);
}

/* Of the kind that the reference drops. */
static void
ours_message(World *world)
{
    static const CfsEpoch no_epoch;
    g_autoptr(GBytes) payload = pick_bytes(world);

    hear(world, pick_member(world),
         lone_member_message(CFS_MESSAGE_OURS,
                             pve_reader_u8(&world->reader) % 6, &no_epoch, 0,
                             payload));
}

static void
tell_term(World *world)
{
    CfsTree *tree = pick_tree(world);
    CfsTermMessage term = {.epoch = world->epoch,
                           .features = CFS_FEATURES_ALL,
                           .version = cfs_tree_root(tree)->version,
                           .mtime = cfs_tree_root(tree)->mtime};
    guint8 n_history = pve_reader_u8(&world->reader) % 4;

    term.n_nodes = pve_reader_u8(&world->reader) % 5;
    term.record.term = pve_reader_u8(&world->reader);
    term.record.seen = pve_reader_u8(&world->reader);
    term.record.acked = pve_reader_u8(&world->reader) % 8;
    term.record.cluster_id = pve_reader_u8(&world->reader) % 3;
    g_snprintf(term.name, sizeof(term.name), "%s",
               term.record.cluster_id == 2 ? "other" : "");
    term.record.n_history = n_history;
    for (guint i = 0; i < n_history; i++) {
        term.record.history[i] = (CfsTermStart){i + 1, i + 1, 1};
    }
    hear(world, pick_member(world), cfs_term_message_encode(&term, 9));
}

static void
acknowledge(World *world)
{
    CfsAckMessage ack = {.epoch = world->epoch,
                         .term = pve_reader_u8(&world->reader),
                         .version = pve_reader_u8(&world->reader)};
    CfsFlushMessage flush = {world->epoch, ack.term};

    hear(world, pick_member(world),
         ack.version % 2 == 0 ? cfs_ack_message_encode(&ack, 9)
                              : cfs_flush_message_encode(&flush, 9));
}

static void
barrier(World *world)
{
    (void)lone_member_sync(world->m);
}

static void
flushed(World *world)
{
    (void)lone_member_flushed(world->m, pve_reader_u8(&world->reader) % 2);
}

static void (*const actions[])(World *) = {
    raw_message,      typed_message, begin_round,   tell_state,   send_update,
    ask_for_sum,      tell_sum,      others_change, own_change,   hear_itself,
    change_members,   pass_time,     change_quorum, connect_anew, work,
    send_all_updates, ours_message,  tell_term,     acknowledge,  barrier,
    flushed,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    World world = {.epoch = {1, 7, 1, 10}};
    guint8 options;

    pve_reader_init(&world.reader, data, size);
    options = pve_reader_u8(&world.reader);
    for (guint i = 0; i < N_TREES; i++) {
        world.trees[i] = make_tree(i);
    }
    world.m = lone_member_new(members[US], make_tree(options % N_TREES));
    if ((options & 64) != 0) {
        lone_member_speak(world.m, options / 3 % 5);
    }
    if (options >= 128) {
        lone_member_hold_work(world.m);
    }
    for (guint i = 0; i < MAX_ACTIONS && pve_reader_left(&world.reader) > 0;
         i++) {
        guint8 action = pve_reader_u8(&world.reader);

        actions[action % G_N_ELEMENTS(actions)](&world);
    }
    g_queue_clear_full(&world.sent, (GDestroyNotify)g_bytes_unref);
    lone_member_free(world.m);
    for (guint i = 0; i < N_TREES; i++) {
        cfs_tree_free(world.trees[i]);
    }
    return 0;
}
