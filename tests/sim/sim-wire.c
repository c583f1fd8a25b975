#include "config.h"

#include "tests/sim/sim-wire.h"

#include "pmxcfs/core/extension.h"
#include "tests/sim/sim-line.h"

#include <string.h>

/* What a STATE of the round says about its sender. */
typedef struct {
    CfsMember sender;
    guint64 version;
    guint32 mtime;
} State;

struct SimWire {
    CfsMember self;
    GArray *members;      /* of CfsMember */
    CfsEpoch epoch;       /* of the last SYNC_START it got */
    GArray *states;       /* of State */
    GHashTable *answered; /* hash of epoch: it sent a STATE */
    guint64 count;
    GHashTable *sent; /* count -> hash of the whole message */
    GHashTable *step; /* count: sent in this step */
    gboolean may_resend;
};

SimWire *
sim_wire_new(CfsMember member)
{
    SimWire *self = g_new0(SimWire, 1);

    self->self = member;
    self->members = g_array_new(FALSE, FALSE, sizeof(CfsMember));
    self->states = g_array_new(FALSE, FALSE, sizeof(State));
    self->answered =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->sent =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    self->step =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    return self;
}

void
sim_wire_free(SimWire *self)
{
    if (self == NULL) {
        return;
    }
    g_array_unref(self->members);
    g_array_unref(self->states);
    g_hash_table_unref(self->answered);
    g_hash_table_unref(self->sent);
    g_hash_table_unref(self->step);
    g_free(self);
}

/* --- what it gets --------------------------------------------------------- */

static void
note_state(SimWire *self, CfsMember sender, PveReader *reader)
{
    State state = {.sender = sender};

    for (guint i = 0; i < self->states->len; i++) {
        if (cfs_member_equal(g_array_index(self->states, State, i).sender,
                             sender)) {
            return;
        }
    }
    state.version = pve_reader_u64(reader);
    (void)pve_reader_u64(reader); /* the last inode */
    (void)pve_reader_u32(reader); /* the writer */
    state.mtime = pve_reader_u32(reader);
    g_array_append_val(self->states, state);
}

static gboolean
has_all_states(const SimWire *self)
{
    return self->states->len > 0 && self->states->len >= self->members->len;
}

static void
on_message(SimWire *self, const SimGet *get)
{
    CfsHeader header;
    PveReader reader;

    pve_reader_init_bytes(&reader, get->bytes);
    if (cfs_message_parse(&reader, CFS_PROTOCOL_DATABASE, &header) !=
        CFS_PARSE_OK) {
        return;
    }
    /* Behind the last state nobody asks again (7.3). */
    if (header.type == CFS_MESSAGE_SYNC_START && !has_all_states(self)) {
        self->epoch = header.epoch;
        g_array_set_size(self->states, 0);
    } else if (header.type == CFS_MESSAGE_STATE &&
               cfs_epoch_equal(&header.epoch, &self->epoch)) {
        note_state(self, get->sender, &reader);
    }
}

void
sim_wire_on_other(SimWire *self)
{
    self->may_resend = FALSE;
    g_hash_table_remove_all(self->step);
}

void
sim_wire_on_get(SimWire *self, const SimGet *get)
{
    sim_wire_on_other(self);
    if (get->kind == SIM_GET_MESSAGE) {
        on_message(self, get);
        return;
    }
    self->may_resend = get->has_joined;
    g_array_set_size(self->members, 0);
    g_array_append_vals(self->members, get->members->data, get->members->len);
    g_array_set_size(self->states, 0);
    memset(&self->epoch, 0, sizeof(self->epoch));
}

/* --- what it sends -------------------------------------------------------- */

/* 7.2, step 4a: again, byte for byte, once, and only when somebody joined. */
static char *
check_resent(SimWire *self, guint64 count, guint64 hash)
{
    const guint64 *before = g_hash_table_lookup(self->sent, &count);

    if (before == NULL || *before != hash) {
        return g_strdup_printf("message %" G_GUINT64_FORMAT
                               " is not what was sent under that number",
                               count);
    }
    if (!self->may_resend || g_hash_table_contains(self->step, &count)) {
        return g_strdup_printf(
            "message %" G_GUINT64_FORMAT " is sent once more", count);
    }
    return NULL;
}

static char *
check_normal(SimWire *self,
             const CfsHeader *header,
             GBytes *message,
             gboolean is_synced)
{
    gsize size = 0;
    gconstpointer bytes = g_bytes_get_data(message, &size);
    guint64 hash = sim_bytes_hash(bytes, size);
    char *problem = NULL;

    if (header->count <= self->count) {
        problem = check_resent(self, header->count, hash);
    } else if (header->count != self->count + 1) {
        problem = g_strdup("a number was left out");
    } else if (!is_synced) {
        problem = g_strdup("an own change is sent while not synced");
    }
    self->count = MAX(self->count, header->count);
    g_hash_table_replace(self->sent, g_memdup2(&header->count, 8),
                         g_memdup2(&hash, sizeof(hash)));
    g_hash_table_add(self->step, g_memdup2(&header->count, 8));
    return problem;
}

/* An APPEND is counted with the normal messages. */
static char *
check_ours(SimWire *self,
           CfsHeader *header,
           PveReader *reader,
           GBytes *message,
           gboolean is_synced)
{
    g_autoptr(CfsOp) op = NULL;

    if (g_bytes_get_size(message) < CFS_MESSAGE_STATE_SIZE) {
        return g_strdup("a message of ours that makes the reference leave");
    }
    if (header->subtype != CFS_OURS_APPEND) {
        return NULL;
    }
    op = cfs_append_message_decode(reader, &header->count);
    return op != NULL ? check_normal(self, header, message, is_synced)
                      : g_strdup("an APPEND that nobody can read");
}

static char *
check_sync_start(SimWire *self)
{
    guint32 lowest = G_MAXUINT32;

    for (guint i = 0; i < self->members->len; i++) {
        lowest = MIN(lowest, g_array_index(self->members, CfsMember, i).nodeid);
    }
    if (lowest != self->self.nodeid || self->members->len < 2) {
        return g_strdup("SYNC_START from a member that is not the lowest");
    }
    return NULL;
}

static char *
check_state(SimWire *self, const CfsHeader *header, PveReader *reader)
{
    guint64 epoch = sim_bytes_hash(&header->epoch, sizeof(header->epoch));

    if (!cfs_epoch_equal(&header->epoch, &self->epoch)) {
        return g_strdup("STATE for an epoch that is over");
    }
    if (!g_hash_table_add(self->answered, g_memdup2(&epoch, sizeof(epoch)))) {
        return g_strdup("a second STATE for one epoch");
    }
    return pve_reader_left(reader) == 0 ? g_strdup("an empty STATE") : NULL;
}

/* 7.4: version, then mtime, then the lowest member. */
static gboolean
is_newer(const State *a, const State *b)
{
    if (a->version != b->version) {
        return a->version > b->version;
    }
    if (a->mtime != b->mtime) {
        return a->mtime > b->mtime;
    }
    return cfs_member_compare(&a->sender, &b->sender) < 0;
}

static char *
check_update(SimWire *self)
{
    const State *leader;

    if (!has_all_states(self)) {
        return g_strdup("updates before all states are there");
    }
    leader = &g_array_index(self->states, State, 0);
    for (guint i = 1; i < self->states->len; i++) {
        const State *other = &g_array_index(self->states, State, i);

        leader = is_newer(other, leader) ? other : leader;
    }
    if (!cfs_member_equal(leader->sender, self->self)) {
        return g_strdup_printf("updates from %u, but %u has the newest copy",
                               self->self.nodeid, leader->sender.nodeid);
    }
    return NULL;
}

char *
sim_wire_check(SimWire *self, GBytes *message, gboolean is_synced)
{
    CfsHeader header;
    PveReader reader;

    pve_reader_init_bytes(&reader, message);
    if (cfs_message_parse(&reader, CFS_PROTOCOL_DATABASE, &header) !=
        CFS_PARSE_OK) {
        return g_strdup("a message that others cannot read");
    }
    switch (header.type) {
    case CFS_MESSAGE_NORMAL:
        return check_normal(self, &header, message, is_synced);
    case CFS_MESSAGE_OURS:
        return check_ours(self, &header, &reader, message, is_synced);
    case CFS_MESSAGE_SYNC_START:
        return check_sync_start(self);
    case CFS_MESSAGE_STATE:
        return check_state(self, &header, &reader);
    case CFS_MESSAGE_UPDATE:
    case CFS_MESSAGE_UPDATE_COMPLETE:
        return check_update(self);
    default:
        return NULL;
    }
}
