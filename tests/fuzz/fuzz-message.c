/* A whole message for a member that is synced, one that collects states and
 * one that waits for updates: it may leave, it must not fall. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/replica.h"

#include <string.h>

static const CfsMember self = {2, 20};
static const CfsMember members[] = {{1, 10}, {2, 20}};

static void
step(CfsReplica *replica, CfsEvent event)
{
    GQueue effects = G_QUEUE_INIT;

    event.time_s = 1000;
    event.clock_ms = 1000;
    cfs_replica_step(replica, &event, &effects);
    g_queue_clear_full(&effects, (GDestroyNotify)cfs_effect_free);
}

static void
hear(CfsReplica *replica, const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    CfsEvent event = {.kind = CFS_EVENT_MESSAGE};

    event.message.sender = members[0];
    event.message.bytes = bytes;
    step(replica, event);
}

static CfsReplica *
new_member(guint n_members)
{
    CfsReplica *replica =
        cfs_replica_new(cfs_tree_new(1), cfs_views_new("n2", 1));
    CfsEvent quorum = {.kind = CFS_EVENT_QUORUM, .quorate = TRUE};
    CfsEvent connected = {.kind = CFS_EVENT_CONNECTED};
    CfsEvent confchg = {.kind = CFS_EVENT_CONFCHG};

    connected.connected.self = self;
    confchg.confchg.members = n_members == 1 ? &self : members;
    confchg.confchg.n_members = n_members;
    step(replica, quorum);
    step(replica, connected);
    step(replica, confchg);
    return replica;
}

/* Both states are there and the other one is newer: waiting for updates. */
static CfsReplica *
new_waiting_member(void)
{
    static const guint8 start[32] = {1, 0, 0, 0, 1};
    CfsReplica *replica = new_member(2);
    g_autoptr(CfsTree) mine = cfs_tree_new(1), newer = cfs_tree_new(9);
    CfsTree *trees[] = {newer, mine};

    hear(replica, start, sizeof(start));
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GBytes) index = cfs_tree_index(trees[i]);
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GBytes) message = NULL;
        CfsEvent event = {.kind = CFS_EVENT_MESSAGE};
        gsize size = 0;
        gconstpointer bytes = g_bytes_get_data(index, &size);

        pve_write_bytes(out, start, sizeof(start));
        out->data[0] = CFS_MESSAGE_STATE;
        pve_write_bytes(out, bytes, size);
        message = g_bytes_new(out->data, out->len);
        event.message.sender = members[i];
        event.message.bytes = message;
        step(replica, event);
    }
    g_assert_cmpint(cfs_replica_mode(replica), ==, CFS_MODE_UPDATE);
    return replica;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsReplica) synced = new_member(1);
    g_autoptr(CfsReplica) collecting = new_member(2);
    g_autoptr(CfsReplica) waiting = new_waiting_member();

    hear(synced, data, size);
    hear(collecting, data, size);
    hear(waiting, data, size);
    return 0;
}
