#include "config.h"

#include "pmxcfs/core/replica-private.h"

#include <string.h>

/* How often the lowest node asks, counted from the start of the daemon. */
#define VERIFY_PERIOD_MS (3600 * 1000)
/* ... and how long after a synchronisation. */
#define VERIFY_AFTER_SYNC_MS 5000
/* Of content, in one step of the loop: about 2 ms. */
#define VERIFY_SLICE_BYTES (256u << 10)

/* A verification (spec 8):
 *
 *   lowest node      VERIFY_REQUEST --> every member: sum of its tree, here
 *   that node's sum  VERIFY ----------> every member: the same as mine?
 *                                         no: leave, come back, be repaired
 *
 * The sum is that of the tree at the place of the request in the total order;
 * computing it takes its time, so VERIFY may come before our own is done.
 */

void
cfs_replica_verify_forget(CfsReplica *self)
{
    self->verify.is_saved = FALSE;
    self->verify.has_theirs = FALSE;
    self->verify.is_unseen = FALSE;
    self->verify.is_allowed = FALSE;
    self->verify.due_ms = 0;
    g_clear_pointer(&self->verify.running, cfs_tree_sum_free);
}

/* UPDATE_COMPLETE of the leader was delivered: what we send from now on finds
 * nobody in UPDATE. */
void
cfs_replica_verify_allow(CfsReplica *self)
{
    if (!self->verify.is_allowed) {
        self->verify.is_allowed = TRUE;
        self->verify.due_ms = self->event->clock_ms + VERIFY_AFTER_SYNC_MS;
    }
}

static void
send_request(CfsReplica *self)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (self->verify.is_unseen) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "delay verify request %016" G_GINT64_MODIFIER "X",
                          self->verify.request_id);
        return;
    }
    self->verify.is_unseen = TRUE;
    pve_write_u64(payload, ++self->verify.request_id);
    cfs_replica_send_state_message(self, CFS_MESSAGE_VERIFY_REQUEST, payload);
}

static gboolean
may_request(CfsReplica *self)
{
    return self->mode == CFS_MODE_SYNCED && self->verify.is_allowed &&
           cfs_sync_n_members(self->sync) > 1 &&
           cfs_sync_lowest_nodeid(self->sync) == self->self.nodeid;
}

void
cfs_replica_verify_on_tick(CfsReplica *self)
{
    gint64 now = self->event->clock_ms;
    gboolean is_due = self->verify.due_ms > 0 && now >= self->verify.due_ms;

    if (self->verify.hourly_ms == 0) {
        self->verify.hourly_ms = now + VERIFY_PERIOD_MS;
    }
    if (now >= self->verify.hourly_ms) {
        self->verify.hourly_ms = now + VERIFY_PERIOD_MS;
        is_due = TRUE;
    }
    if (!is_due) {
        return;
    }
    if (may_request(self)) {
        send_request(self);
    }
    if (now >= self->verify.due_ms) {
        self->verify.due_ms = 0;
    }
}

static guint64
shown(const guint8 sum[CFS_DIGEST_SIZE])
{
    guint64 value;

    memcpy(&value, sum, sizeof(value));
    return GUINT64_FROM_LE(value);
}

/* A member whose word made us leave once already, and then had nothing to
 * repair, is itself in the wrong: the indexes were equal. */
static gboolean
is_false_alarm(CfsReplica *self)
{
    return self->verify.has_accuser &&
           cfs_member_equal(self->verify.accuser, self->verify.requester);
}

static void
on_difference(CfsReplica *self)
{
    CfsMember accuser = self->verify.requester;
    g_autofree char *text = NULL;

    cfs_replica_trace(self, G_LOG_LEVEL_WARNING,
                      "wrong checksum %016" G_GINT64_MODIFIER
                      "X != %016" G_GINT64_MODIFIER "X - restarting",
                      shown(self->verify.theirs), shown(self->verify.sum));
    if (is_false_alarm(self)) {
        text = g_strdup_printf(
            "verification: member %u/%u says again that the copy of this "
            "node differs, which was found equal to its own; it is not heard "
            "until its pmxcfs is restarted",
            accuser.nodeid, accuser.pid);
        cfs_replica_trace(self, G_LOG_LEVEL_WARNING, "%s", text);
        if (!self->verify.was_told) {
            self->verify.was_told = TRUE;
            cfs_replica_log_to_cluster(self, text);
        }
        return;
    }
    text = g_strdup_printf("verification: the copy of this node (%u/%u) "
                           "differs from that of %u/%u; it leaves and takes "
                           "what differs anew",
                           self->self.nodeid, self->self.pid, accuser.nodeid,
                           accuser.pid);
    cfs_replica_log_to_cluster(self, text);
    self->verify.has_accuser = TRUE;
    self->verify.was_told = FALSE;
    self->verify.accuser = accuser;
    /* What we remember of our entries may be what is wrong. */
    cfs_tree_forget_digests(self->tree);
    cfs_replica_leave(self, "our copy is not that of the others");
}

/* Both sums are there. */
static void
compare(CfsReplica *self)
{
    self->verify.is_saved = FALSE;
    self->verify.has_theirs = FALSE;
    if (memcmp(self->verify.sum, self->verify.theirs, CFS_DIGEST_SIZE) == 0) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "data verification successful");
        if (is_false_alarm(self)) {
            self->verify.has_accuser = FALSE;
        }
        return;
    }
    on_difference(self);
}

static void
send_sum(CfsReplica *self)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    pve_write_u64(payload, self->verify.id);
    pve_write_bytes(payload, self->verify.sum, CFS_DIGEST_SIZE);
    cfs_replica_send_state_message(self, CFS_MESSAGE_VERIFY, payload);
}

gboolean
cfs_replica_verify_has_work(CfsReplica *self)
{
    return self->verify.running != NULL;
}

void
cfs_replica_verify_continue(CfsReplica *self)
{
    if (!cfs_tree_sum_run(self->verify.running, VERIFY_SLICE_BYTES)) {
        return;
    }
    cfs_tree_sum_get(self->verify.running, self->verify.sum);
    g_clear_pointer(&self->verify.running, cfs_tree_sum_free);
    if (self->mode != CFS_MODE_SYNCED) {
        return;
    }
    if (cfs_member_equal(self->verify.requester, self->self)) {
        send_sum(self);
    }
    if (self->verify.has_theirs) {
        compare(self);
    }
}

/* Who asks is not checked, as with the reference: it is only a question. */
void
cfs_replica_on_verify_request(CfsReplica *self,
                              const CfsHeader *header,
                              PveReader *reader)
{
    CfsMember sender = self->event->message.sender;
    guint64 id = pve_reader_u64(reader);

    if (self->mode != CFS_MODE_SYNCED || !pve_reader_done(reader)) {
        return;
    }
    if (cfs_member_equal(sender, self->self)) {
        self->verify.is_unseen = FALSE;
    }
    self->verify.is_saved = TRUE;
    self->verify.has_theirs = FALSE;
    self->verify.id = id;
    self->verify.requester = sender;
    g_clear_pointer(&self->verify.running, cfs_tree_sum_free);
    self->verify.running = cfs_tree_sum_new(self->tree);
}

void
cfs_replica_on_verify(CfsReplica *self,
                      const CfsHeader *header,
                      PveReader *reader)
{
    CfsMember sender = self->event->message.sender;
    guint64 id = pve_reader_u64(reader);
    const guint8 *sum = pve_reader_take(reader, CFS_DIGEST_SIZE);

    if (self->mode != CFS_MODE_SYNCED || !pve_reader_done(reader)) {
        return;
    }
    if (!self->verify.is_saved || self->verify.has_theirs ||
        id != self->verify.id ||
        !cfs_member_equal(sender, self->verify.requester)) {
        cfs_replica_trace(self, G_LOG_LEVEL_MESSAGE,
                          "skip verification - no checksum saved");
        return;
    }
    memcpy(self->verify.theirs, sum, CFS_DIGEST_SIZE);
    self->verify.has_theirs = TRUE;
    if (self->verify.running == NULL) {
        compare(self);
    }
}
