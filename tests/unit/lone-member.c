#include "config.h"

#include "tests/unit/lone-member.h"

#include "pmxcfs/core/extension.h"

struct LoneMember {
    CfsMember self;
    CfsReplica *replica;
    guint32 time_s;
    gint64 clock_ms;
    GQueue sent;          /* of GBytes */
    GHashTable *verdicts; /* id -> verdict */
    guint64 n_requests;
    guint n_left;
    guint rejoin_ms;
    guint n_logged;
    gboolean holds_work;
    gboolean has_work;
    gboolean is_flushing;
    guint64 flush; /* its token */
};

static void
run_effect(LoneMember *self, const CfsEffect *effect)
{
    switch (effect->kind) {
    case CFS_EFFECT_SEND:
        g_queue_push_tail(&self->sent, g_bytes_ref(effect->message));
        break;
    case CFS_EFFECT_REPLY:
        g_assert_true(g_hash_table_insert(
            self->verdicts, GSIZE_TO_POINTER((gsize)effect->reply.id),
            GINT_TO_POINTER(effect->reply.verdict)));
        break;
    case CFS_EFFECT_LEAVE:
        self->n_left++;
        self->rejoin_ms = effect->delay_ms;
        break;
    case CFS_EFFECT_CONTINUE:
        g_assert_false(self->has_work);
        self->has_work = TRUE;
        break;
    case CFS_EFFECT_FLUSH:
        g_assert_false(self->is_flushing);
        self->is_flushing = TRUE;
        self->flush = effect->flush;
        break;
    case CFS_EFFECT_REPLY_SYNC:
        g_assert_true(g_hash_table_insert(
            self->verdicts, GSIZE_TO_POINTER((gsize)effect->reply_sync.id),
            GINT_TO_POINTER(effect->reply_sync.verdict)));
        break;
    case CFS_EFFECT_CLUSTER_LOG:
        self->n_logged++;
        break;
    default:
        break;
    }
}

static void
step(LoneMember *self, CfsEvent *event)
{
    GQueue effects = G_QUEUE_INIT;
    CfsEffect *effect;

    event->time_s = self->time_s;
    event->clock_ms = self->clock_ms;
    cfs_replica_step(self->replica, event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        run_effect(self, effect);
        cfs_effect_free(effect);
    }
    while (!self->holds_work && lone_member_work(self)) {
    }
}

gboolean
lone_member_work(LoneMember *self)
{
    CfsEvent event = {.kind = CFS_EVENT_CONTINUE};

    if (!self->has_work) {
        return FALSE;
    }
    self->has_work = FALSE;
    step(self, &event);
    return TRUE;
}

void
lone_member_hold_work(LoneMember *self)
{
    self->holds_work = TRUE;
}

LoneMember *
lone_member_new(CfsMember member, CfsTree *tree)
{
    LoneMember *self = g_new0(LoneMember, 1);

    self->self = member;
    self->replica = cfs_replica_new(tree, cfs_views_new("n", 1));
    /* Its peers are of the reference: no message of ours in between. */
    cfs_replica_set_features(self->replica, 0);
    self->time_s = 1000;
    self->clock_ms = 1000;
    self->verdicts = g_hash_table_new(NULL, NULL);
    g_queue_init(&self->sent);
    lone_member_set_quorate(self, TRUE);
    lone_member_connect(self);
    return self;
}

void
lone_member_free(LoneMember *self)
{
    lone_member_forget_sent(self);
    g_hash_table_unref(self->verdicts);
    cfs_replica_free(self->replica);
    g_free(self);
}

CfsReplica *
lone_member_replica(LoneMember *self)
{
    return self->replica;
}

CfsMode
lone_member_mode(LoneMember *self)
{
    return cfs_replica_mode(self->replica);
}

void
lone_member_set_time(LoneMember *self, guint32 time_s)
{
    self->time_s = time_s;
}

void
lone_member_wait(LoneMember *self, gint64 ms)
{
    CfsEvent event = {.kind = CFS_EVENT_TICK};

    self->clock_ms += ms;
    step(self, &event);
}

void
lone_member_set_quorate(LoneMember *self, gboolean quorate)
{
    CfsEvent event = {.kind = CFS_EVENT_QUORUM, .quorate = quorate};

    step(self, &event);
}

void
lone_member_see(LoneMember *self, guint n_listed, guint n_seen)
{
    CfsEvent nodes = {.kind = CFS_EVENT_NODES, .n_nodes = n_listed};
    CfsEvent quorum = {
        .kind = CFS_EVENT_QUORUM, .quorate = TRUE, .n_quorum_nodes = n_seen};

    step(self, &nodes);
    step(self, &quorum);
}

void
lone_member_connect(LoneMember *self)
{
    CfsEvent event = {.kind = CFS_EVENT_CONNECTED};

    event.connected.self = self->self;
    step(self, &event);
}

void
lone_member_disconnect(LoneMember *self)
{
    CfsEvent event = {.kind = CFS_EVENT_DISCONNECTED};

    step(self, &event);
}

void
lone_member_confchg(LoneMember *self, const CfsMember *members, guint n_members)
{
    CfsEvent event = {.kind = CFS_EVENT_CONFCHG};

    event.confchg.members = members;
    event.confchg.n_members = n_members;
    event.confchg.has_joined = TRUE;
    step(self, &event);
}

void
lone_member_hear(LoneMember *self, CfsMember sender, GBytes *bytes)
{
    CfsEvent event = {.kind = CFS_EVENT_MESSAGE};

    event.message.sender = sender;
    event.message.bytes = bytes;
    step(self, &event);
}

void
lone_member_speak(LoneMember *self, guint n_nodes)
{
    CfsEvent event = {.kind = CFS_EVENT_NODES, .n_nodes = n_nodes};

    cfs_replica_set_features(self->replica, CFS_FEATURES_ALL);
    step(self, &event);
}

gboolean
lone_member_flushed(LoneMember *self, int problem)
{
    CfsEvent event = {.kind = CFS_EVENT_FLUSHED};

    if (!self->is_flushing) {
        return FALSE;
    }
    self->is_flushing = FALSE;
    event.flushed.token = self->flush;
    event.flushed.problem = problem;
    step(self, &event);
    return TRUE;
}

guint64
lone_member_request(LoneMember *self, CfsOp *op)
{
    CfsEvent event = {.kind = CFS_EVENT_REQUEST};

    event.request.id = ++self->n_requests;
    event.request.op = op;
    step(self, &event);
    cfs_op_free(op);
    return self->n_requests;
}

guint64
lone_member_sync(LoneMember *self)
{
    CfsEvent event = {.kind = CFS_EVENT_SYNC};

    event.sync_id = ++self->n_requests;
    step(self, &event);
    return self->n_requests;
}

GBytes *
lone_member_take_sent(LoneMember *self)
{
    return g_queue_pop_head(&self->sent);
}

void
lone_member_forget_sent(LoneMember *self)
{
    g_queue_clear_full(&self->sent, (GDestroyNotify)g_bytes_unref);
}

guint
lone_member_n_left(LoneMember *self)
{
    return self->n_left;
}

guint
lone_member_rejoin_ms(LoneMember *self)
{
    return self->rejoin_ms;
}

int
lone_member_verdict(LoneMember *self, guint64 id)
{
    gpointer verdict = NULL;

    return g_hash_table_lookup_extended(
               self->verdicts, GSIZE_TO_POINTER((gsize)id), NULL, &verdict)
               ? GPOINTER_TO_INT(verdict)
               : -1;
}

guint
lone_member_n_logged(LoneMember *self)
{
    return self->n_logged;
}

GBytes *
lone_member_message(guint16 type,
                    guint16 subtype,
                    const CfsEpoch *epoch,
                    guint64 count,
                    GBytes *payload)
{
    CfsHeader header = {.type = type,
                        .subtype = subtype,
                        .protocol = CFS_PROTOCOL_DATABASE,
                        .time = 1000,
                        .count = count};
    GByteArray *out = g_byte_array_new();
    gsize size = 0;
    gconstpointer bytes =
        payload != NULL ? g_bytes_get_data(payload, &size) : NULL;

    if (epoch != NULL) {
        header.epoch = *epoch;
    }
    cfs_message_write(out, &header);
    pve_write_bytes(out, bytes, size);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
lone_member_normal(const CfsOp *op, guint64 count)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) payload = NULL;

    cfs_op_encode(op, out);
    payload = g_byte_array_free_to_bytes(out);
    return lone_member_message(CFS_MESSAGE_NORMAL, (guint16)op->kind, NULL,
                               count, payload);
}
