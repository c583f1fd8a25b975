#include "config.h"

#include "tests/sim/sim-reference.h"

#include <errno.h>
#include <string.h>

enum { INDEX_HEADER = 32, INDEX_RECORD = 40 };

typedef struct {
    CfsMember id; /* first: sorted by it */
    GBytes *state;
    gboolean synced;
} Member;

typedef struct {
    CfsMember sender;
    guint64 count;
    GBytes *bytes;
} Queued;

/* How long a lock has been held, as this member saw it (5.4). */
typedef struct {
    guint8 sum[CFS_DIGEST_SIZE];
    guint32 since_s;
} Lock;

#define LOCK_TIMEOUT_S 120u

struct SimReference {
    CfsMember self;
    CfsTree *tree;
    SimReferenceMode mode;
    guint32 time_s;
    gboolean quorate;
    gboolean is_sticky; /* a commit failed once */
    CfsEpoch epoch;
    guint32 epoch_counter;
    guint64 count;
    GArray *members; /* of Member, sorted */
    guint leader;
    GQueue one, two;     /* of Queued */
    GHashTable *updates; /* inode -> CfsEntry */
    GQueue sent;         /* of GBytes */
    GHashTable *waiting; /* count -> request */
    GHashTable *verdicts;
    guint64 n_requests;
    guint64 verify_id, saved_id;
    gboolean is_saved;
    guint8 saved[CFS_DIGEST_SIZE];
    guint n_verified, n_updated, n_sent;
    GHashTable *locks; /* path -> Lock */
};

/* --- small parts ---------------------------------------------------------- */

static void
member_clear(gpointer data)
{
    g_clear_pointer(&((Member *)data)->state, g_bytes_unref);
}

static void
queued_free(gpointer data)
{
    Queued *item = data;

    g_bytes_unref(item->bytes);
    g_free(item);
}

SimReference *
sim_reference_new(CfsMember member, CfsTree *tree)
{
    SimReference *self = g_new0(SimReference, 1);

    self->self = member;
    self->tree = tree;
    self->members = g_array_new(FALSE, TRUE, sizeof(Member));
    g_array_set_clear_func(self->members, member_clear);
    self->updates = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                          (GDestroyNotify)cfs_entry_unref);
    self->waiting = g_hash_table_new(NULL, NULL);
    self->locks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->verdicts = g_hash_table_new(NULL, NULL);
    g_queue_init(&self->one);
    g_queue_init(&self->two);
    g_queue_init(&self->sent);
    return self;
}

void
sim_reference_free(SimReference *self)
{
    if (self == NULL) {
        return;
    }
    g_queue_clear_full(&self->one, queued_free);
    g_queue_clear_full(&self->two, queued_free);
    g_queue_clear_full(&self->sent, (GDestroyNotify)g_bytes_unref);
    g_hash_table_unref(self->waiting);
    g_hash_table_unref(self->locks);
    g_hash_table_unref(self->verdicts);
    g_hash_table_unref(self->updates);
    g_array_unref(self->members);
    cfs_tree_free(self->tree);
    g_free(self);
}

static Member *
member_at(SimReference *self, guint i)
{
    return &g_array_index(self->members, Member, i);
}

static Member *
find(SimReference *self, CfsMember id)
{
    for (guint i = 0; i < self->members->len; i++) {
        if (cfs_member_equal(member_at(self, i)->id, id)) {
            return member_at(self, i);
        }
    }
    return NULL;
}

/* The error modes only get worse. */
static void
leave(SimReference *self, SimReferenceMode mode)
{
    if (self->mode < mode) {
        self->mode = mode;
    }
}

static gboolean
is_out(SimReference *self)
{
    return self->mode >= SIM_REFERENCE_LEAVE;
}

static void
answer(SimReference *self, guint64 count, int verdict)
{
    gpointer key = GSIZE_TO_POINTER((gsize)count);
    gpointer request = g_hash_table_lookup(self->waiting, key);

    if (request != NULL) {
        g_hash_table_remove(self->waiting, key);
        g_hash_table_insert(self->verdicts, request, GINT_TO_POINTER(verdict));
    }
}

static void
answer_all(SimReference *self, int verdict)
{
    g_autoptr(GList) counts = g_hash_table_get_keys(self->waiting);

    for (GList *l = counts; l != NULL; l = l->next) {
        answer(self, GPOINTER_TO_SIZE(l->data), verdict);
    }
}

static void
send(SimReference *self, const CfsHeader *header, GByteArray *payload)
{
    GByteArray *out = g_byte_array_new();

    cfs_message_write(out, header);
    if (payload != NULL) {
        pve_write_bytes(out, payload->data, payload->len);
    }
    g_queue_push_tail(&self->sent, g_byte_array_free_to_bytes(out));
}

static void
send_state_message(SimReference *self, guint16 type, GByteArray *payload)
{
    CfsHeader header = {.type = type,
                        .protocol = 1,
                        .time = self->time_s,
                        .epoch = self->epoch};

    send(self, &header, payload);
}

static void
send_normal(SimReference *self, const CfsOp *op, gpointer request)
{
    CfsHeader header = {.subtype = (guint16)op->kind,
                        .protocol = 1,
                        .time = self->time_s,
                        .count = ++self->count};
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (request != NULL) {
        g_hash_table_insert(self->waiting,
                            GSIZE_TO_POINTER((gsize)header.count), request);
    }
    cfs_op_encode(op, payload);
    send(self, &header, payload);
}

/* --- locks -----------------------------------------------------------------
 */

/* Returns: (borrowed) the lock directory at @path, or NULL. */
static const CfsEntry *
find_lock(SimReference *self, const char *path)
{
    const CfsEntry *entry = cfs_tree_lookup(self->tree, path);

    return entry != NULL && cfs_entry_is_directory(entry) &&
                   g_str_has_prefix(path, "priv/lock/")
               ? entry
               : NULL;
}

/* Seconds; a lock that is new or changed begins now. */
static guint32
age_of(SimReference *self, const char *path, const CfsEntry *entry)
{
    Lock *lock = g_hash_table_lookup(self->locks, path);
    guint8 sum[CFS_DIGEST_SIZE];

    cfs_entry_checksum(entry, sum);
    if (lock == NULL || memcmp(lock->sum, sum, sizeof(sum)) != 0) {
        lock = g_new0(Lock, 1);
        memcpy(lock->sum, sum, sizeof(sum));
        lock->since_s = self->time_s;
        g_hash_table_replace(self->locks, g_strdup(path), lock);
    }
    return self->time_s - lock->since_s;
}

static void
look_at_lock(SimReference *self, const CfsOp *op)
{
    const CfsEntry *entry = op->path != NULL ? find_lock(self, op->path) : NULL;
    guint8 sum[CFS_DIGEST_SIZE];
    g_autoptr(CfsOp) unlock = NULL;

    if (entry == NULL) {
        return;
    }
    if (op->kind != CFS_OP_UNLOCK_REQUEST) {
        (void)age_of(self, op->path, entry);
        return;
    }
    cfs_entry_checksum(entry, sum);
    if (memcmp(sum, op->checksum, sizeof(sum)) != 0 ||
        age_of(self, op->path, entry) <= LOCK_TIMEOUT_S ||
        member_at(self, 0)->id.nodeid != self->self.nodeid) {
        return;
    }
    unlock = cfs_op_copy(op);
    unlock->kind = CFS_OP_UNLOCK;
    send_normal(self, unlock, NULL);
}

/* utime(0) asks first. */
static void
ask_for_unlock(SimReference *self, const CfsOp *op)
{
    const CfsEntry *entry =
        op->kind == CFS_OP_MTIME && op->offset == 0 && op->path != NULL
            ? find_lock(self, op->path)
            : NULL;
    g_autoptr(CfsOp) request = NULL;

    if (entry != NULL) {
        request = cfs_op_new(CFS_OP_UNLOCK_REQUEST, op->path);
        cfs_entry_checksum(entry, request->checksum);
        send_normal(self, request, NULL);
    }
}

/* --- normal messages ------------------------------------------------------ */

static void
apply(SimReference *self, CfsMember sender, GBytes *bytes)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    g_autoptr(CfsOp) op = NULL;
    CfsHeader header;
    PveReader reader;
    guint64 count;
    int verdict;

    pve_reader_init_bytes(&reader, bytes);
    (void)cfs_message_parse(&reader, 1, &header);
    count = cfs_member_equal(sender, self->self) ? header.count : 0;
    if (self->is_sticky) {
        answer(self, count, EIO);
        leave(self, SIM_REFERENCE_ERROR);
        return;
    }
    op = cfs_op_decode(header.subtype, &reader);
    if (op == NULL || !self->quorate) {
        answer(self, count, EPERM);
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    verdict =
        cfs_tree_apply(self->tree, op, sender.nodeid, header.time, changes);
    answer(self, count, verdict);
    look_at_lock(self, op);
}

static int
compare_counts(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Queued *x = a, *y = b;

    return x->count <= y->count ? -1 : 1;
}

static void
flush_one(SimReference *self)
{
    GQueue all = self->one;
    Queued *item;

    g_queue_init(&self->one);
    while ((item = g_queue_pop_head(&all)) != NULL) {
        const Member *member = find(self, item->sender);

        if (self->mode == SIM_REFERENCE_SYNCED && member != NULL &&
            !member->synced) {
            g_queue_push_tail(&self->one, item);
            continue;
        }
        if (self->mode == SIM_REFERENCE_SYNCED && member != NULL) {
            apply(self, item->sender, item->bytes);
        }
        queued_free(item);
    }
}

static void
on_normal(SimReference *self, CfsMember sender, guint64 count, GBytes *bytes)
{
    const Member *member = find(self, sender);
    Queued *item;

    if (self->mode == SIM_REFERENCE_SYNCED) {
        apply(self, sender, bytes);
        return;
    }
    if (member == NULL) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    item = g_new0(Queued, 1);
    item->sender = sender;
    item->count = count;
    item->bytes = g_bytes_ref(bytes);
    if (self->mode == SIM_REFERENCE_UPDATE && member->synced) {
        g_queue_push_tail(&self->two, item);
    } else {
        g_queue_insert_sorted(&self->one, item, compare_counts, NULL);
    }
}

guint64
sim_reference_submit(SimReference *self, CfsOp *op)
{
    gpointer request = GSIZE_TO_POINTER((gsize)++self->n_requests);
    int refusal = !self->quorate ? EACCES : is_out(self) ? EBUSY : 0;

    if (refusal != 0) {
        g_hash_table_insert(self->verdicts, request, GINT_TO_POINTER(refusal));
        cfs_op_free(op);
        return self->n_requests;
    }
    ask_for_unlock(self, op);
    send_normal(self, op, request);
    cfs_op_free(op);
    return self->n_requests;
}

int
sim_reference_verdict(SimReference *self, guint64 request)
{
    gpointer verdict = NULL;

    return g_hash_table_lookup_extended(
               self->verdicts, GSIZE_TO_POINTER((gsize)request), NULL, &verdict)
               ? GPOINTER_TO_INT(verdict)
               : -1;
}

/* --- states ----------------------------------------------------------------
 */

static guint64
u64_at(GBytes *bytes, gsize offset)
{
    const guint8 *data = g_bytes_get_data(bytes, NULL);
    guint64 value;

    memcpy(&value, data + offset, sizeof(value));
    return GUINT64_FROM_LE(value);
}

static guint32
u32_at(GBytes *bytes, gsize offset)
{
    const guint8 *data = g_bytes_get_data(bytes, NULL);
    guint32 value;

    memcpy(&value, data + offset, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static gboolean
is_index(GBytes *state)
{
    gsize size = g_bytes_get_size(state);

    return size >= INDEX_HEADER && u32_at(state, 28) == size;
}

/* By version, time of the root, and the order of the members. */
static void
choose_leader(SimReference *self)
{
    self->leader = 0;
    for (guint i = 1; i < self->members->len; i++) {
        GBytes *best = member_at(self, self->leader)->state;
        GBytes *here = member_at(self, i)->state;

        if (u64_at(here, 0) > u64_at(best, 0) ||
            (u64_at(here, 0) == u64_at(best, 0) &&
             u32_at(here, 20) > u32_at(best, 20))) {
            self->leader = i;
        }
    }
}

static gboolean
has_record(GBytes *state, const guint8 *record)
{
    const guint8 *data = g_bytes_get_data(state, NULL);
    gsize size = g_bytes_get_size(state);

    for (gsize at = INDEX_HEADER; at + INDEX_RECORD <= size;
         at += INDEX_RECORD) {
        if (memcmp(data + at, record, INDEX_RECORD) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean
is_missing(SimReference *self, CfsEntry *entry)
{
    guint8 record[INDEX_RECORD];
    guint64 inode = GUINT64_TO_LE(entry->inode);

    memcpy(record, &inode, sizeof(inode));
    cfs_entry_digest(entry, record + sizeof(inode));
    for (guint i = 0; i < self->members->len; i++) {
        if (!has_record(member_at(self, i)->state, record)) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
send_updates(SimReference *self)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self->tree);

    self->n_sent = 0;
    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = entries->pdata[i];
        g_autoptr(GByteArray) payload = g_byte_array_new();

        if (!is_missing(self, entry)) {
            continue;
        }
        if (entry->size > 0 && entry->data == NULL) {
            self->mode = SIM_REFERENCE_DEAD;
            return;
        }
        cfs_entry_encode(entry, payload);
        send_state_message(self, CFS_MESSAGE_UPDATE, payload);
        self->n_sent++;
    }
    send_state_message(self, CFS_MESSAGE_UPDATE_COMPLETE, NULL);
}

static void
enter_update(SimReference *self)
{
    GQueue all = self->one;
    Queued *item;

    self->mode = SIM_REFERENCE_UPDATE;
    self->n_updated++;
    g_queue_init(&self->one);
    while ((item = g_queue_pop_head(&all)) != NULL) {
        const Member *member = find(self, item->sender);

        g_queue_push_tail(
            member != NULL && member->synced ? &self->two : &self->one, item);
    }
}

static void
on_all_states(SimReference *self)
{
    const Member *me = find(self, self->self);
    GBytes *best;

    g_assert(me != NULL); /* no membership without us gives states */
    for (guint i = 0; i < self->members->len; i++) {
        if (!is_index(member_at(self, i)->state)) {
            leave(self, SIM_REFERENCE_LEAVE);
            return;
        }
    }
    choose_leader(self);
    best = member_at(self, self->leader)->state;
    for (guint i = 0; i < self->members->len; i++) {
        member_at(self, i)->synced =
            g_bytes_equal(member_at(self, i)->state, best);
    }
    if (cfs_member_equal(member_at(self, self->leader)->id, self->self)) {
        send_updates(self);
    }
    if (is_out(self)) {
        return;
    }
    if (me->synced) {
        self->mode = SIM_REFERENCE_SYNCED;
        flush_one(self);
    } else {
        enter_update(self);
    }
}

static void
on_sync_start(SimReference *self, const CfsHeader *header)
{
    g_autoptr(GBytes) index = NULL;
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (self->mode == SIM_REFERENCE_SYNCED) {
        return;
    }
    if (self->mode != SIM_REFERENCE_START_SYNC) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    self->epoch = header->epoch;
    for (guint i = 0; i < self->members->len; i++) {
        member_clear(member_at(self, i));
    }
    index = cfs_tree_index(self->tree);
    pve_write_bytes(payload, g_bytes_get_data(index, NULL),
                    g_bytes_get_size(index));
    send_state_message(self, CFS_MESSAGE_STATE, payload);
}

static void
on_state(SimReference *self, CfsMember sender, GBytes *payload)
{
    Member *member = find(self, sender);

    if (self->mode == SIM_REFERENCE_SYNCED) {
        return;
    }
    if (self->mode != SIM_REFERENCE_START_SYNC || member == NULL ||
        member->state != NULL) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    if (g_bytes_get_size(payload) == 0) {
        return; /* never counted: the round hangs */
    }
    member->state = g_bytes_ref(payload);
    for (guint i = 0; i < self->members->len; i++) {
        if (member_at(self, i)->state == NULL) {
            return;
        }
    }
    on_all_states(self);
}

/* --- updates ---------------------------------------------------------------
 */

static void
on_update(SimReference *self, PveReader *reader)
{
    CfsEntry *entry;

    if (self->mode == SIM_REFERENCE_SYNCED) {
        return;
    }
    entry =
        self->mode == SIM_REFERENCE_UPDATE ? cfs_entry_decode(reader) : NULL;
    if (entry == NULL) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    g_hash_table_replace(self->updates, &entry->inode, entry);
}

static gboolean
has_inode(GBytes *state, guint64 inode)
{
    gsize size = g_bytes_get_size(state);

    for (gsize at = INDEX_HEADER; at + INDEX_RECORD <= size;
         at += INDEX_RECORD) {
        if (u64_at(state, at) == inode) {
            return TRUE;
        }
    }
    return FALSE;
}

/* Returns: (owned) the new tree, or NULL: it is not the leader's. */
static CfsTree *
build(SimReference *self, GBytes *leaders)
{
    g_autoptr(GPtrArray) ours = cfs_tree_entries(self->tree);
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GBytes) index = NULL;
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < ours->len; i++) {
        CfsEntry *entry = ours->pdata[i];

        if (has_inode(leaders, entry->inode) &&
            !g_hash_table_contains(self->updates, &entry->inode)) {
            g_ptr_array_add(entries, cfs_entry_ref(entry));
        }
    }
    g_hash_table_iter_init(&iter, self->updates);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(entries, cfs_entry_ref(value));
    }
    tree = cfs_tree_new_from_entries(entries, NULL);
    if (tree == NULL) {
        return NULL;
    }
    index = cfs_tree_index(tree);
    return g_bytes_equal(index, leaders) ? g_steal_pointer(&tree) : NULL;
}

static void
set_all_synced(SimReference *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        member_at(self, i)->synced = TRUE;
    }
}

static void
commit(SimReference *self)
{
    CfsTree *tree = build(self, member_at(self, self->leader)->state);
    Queued *item;

    g_hash_table_remove_all(self->updates);
    if (tree == NULL) {
        self->is_sticky = TRUE;
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    cfs_tree_free(self->tree);
    self->tree = tree;
    g_hash_table_remove_all(self->locks); /* they begin anew */
    set_all_synced(self);
    self->mode = SIM_REFERENCE_SYNCED;
    while ((item = g_queue_pop_head(&self->two)) != NULL) {
        if (self->mode == SIM_REFERENCE_SYNCED) {
            apply(self, item->sender, item->bytes);
        }
        queued_free(item);
    }
    flush_one(self);
}

static void
on_update_complete(SimReference *self)
{
    if (self->mode == SIM_REFERENCE_UPDATE) {
        commit(self);
    } else if (self->mode == SIM_REFERENCE_SYNCED) {
        set_all_synced(self);
        flush_one(self);
    } else {
        leave(self, SIM_REFERENCE_LEAVE);
    }
}

/* --- verification -----------------------------------------------------------
 */

void
sim_reference_verify(SimReference *self)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (self->mode != SIM_REFERENCE_SYNCED || self->members->len < 2 ||
        member_at(self, 0)->id.nodeid != self->self.nodeid) {
        return;
    }
    pve_write_u64(payload, ++self->verify_id);
    send_state_message(self, CFS_MESSAGE_VERIFY_REQUEST, payload);
}

static void
on_verify_request(SimReference *self, CfsMember sender, PveReader *reader)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (self->mode != SIM_REFERENCE_SYNCED) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    self->saved_id = pve_reader_u64(reader);
    self->is_saved = TRUE;
    cfs_tree_checksum(self->tree, self->saved);
    if (cfs_member_equal(sender, self->self)) {
        pve_write_u64(payload, self->saved_id);
        pve_write_bytes(payload, self->saved, CFS_DIGEST_SIZE);
        send_state_message(self, CFS_MESSAGE_VERIFY, payload);
    }
}

static void
on_verify(SimReference *self, PveReader *reader)
{
    guint64 id = pve_reader_u64(reader);
    const guint8 *sum = pve_reader_take(reader, CFS_DIGEST_SIZE);

    if (self->mode != SIM_REFERENCE_SYNCED || !pve_reader_done(reader)) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    if (!self->is_saved || id != self->saved_id) {
        return;
    }
    if (memcmp(sum, self->saved, CFS_DIGEST_SIZE) != 0) {
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    }
    self->n_verified++;
}

/* --- the doors --------------------------------------------------------------
 */

static void
on_state_message(SimReference *self,
                 CfsMember sender,
                 const CfsHeader *header,
                 PveReader *reader,
                 GBytes *bytes)
{
    g_autoptr(GBytes) payload = g_bytes_new_from_bytes(
        bytes, CFS_MESSAGE_STATE_SIZE,
        g_bytes_get_size(bytes) - CFS_MESSAGE_STATE_SIZE);

    switch (header->type) {
    case CFS_MESSAGE_SYNC_START:
        on_sync_start(self, header);
        break;
    case CFS_MESSAGE_STATE:
        on_state(self, sender, payload);
        break;
    case CFS_MESSAGE_UPDATE:
        on_update(self, reader);
        break;
    case CFS_MESSAGE_UPDATE_COMPLETE:
        on_update_complete(self);
        break;
    case CFS_MESSAGE_VERIFY_REQUEST:
        on_verify_request(self, sender, reader);
        break;
    case CFS_MESSAGE_VERIFY:
        on_verify(self, reader);
        break;
    default:
        if (self->mode != SIM_REFERENCE_SYNCED) {
            leave(self, SIM_REFERENCE_LEAVE);
        }
    }
}

void
sim_reference_hear(SimReference *self, CfsMember sender, GBytes *bytes)
{
    CfsHeader header;
    PveReader reader;

    if (is_out(self)) {
        return;
    }
    pve_reader_init_bytes(&reader, bytes);
    switch (cfs_message_parse(&reader, 1, &header)) {
    case CFS_PARSE_OK:
        break;
    case CFS_PARSE_OLDER:
        return;
    case CFS_PARSE_MALFORMED:
        leave(self, SIM_REFERENCE_LEAVE);
        return;
    case CFS_PARSE_NEWER:
        leave(self, SIM_REFERENCE_VERSION_ERROR);
        return;
    }
    if (header.type == CFS_MESSAGE_NORMAL) {
        on_normal(self, sender, header.count, bytes);
    } else if (header.type == CFS_MESSAGE_SYNC_START ||
               cfs_epoch_equal(&header.epoch, &self->epoch)) {
        on_state_message(self, sender, &header, &reader, bytes);
    }
}

static void
new_round(SimReference *self, const CfsMember *members, guint n_members)
{
    g_hash_table_remove_all(self->updates);
    g_array_set_size(self->members, 0);
    for (guint i = 0; i < n_members; i++) {
        Member member = {.id = members[i]};

        g_array_append_val(self->members, member);
    }
    g_array_sort(self->members, cfs_member_compare);
}

/* Step 4a of 7.2. */
static void
resend(SimReference *self)
{
    Queued *item;

    while ((item = g_queue_pop_head(&self->one)) != NULL) {
        if (cfs_member_equal(item->sender, self->self)) {
            g_queue_push_tail(&self->sent, g_bytes_ref(item->bytes));
        }
        queued_free(item);
    }
}

void
sim_reference_confchg(SimReference *self,
                      const CfsMember *members,
                      guint n_members,
                      gboolean has_joined)
{
    self->epoch = (CfsEpoch){++self->epoch_counter, self->time_s,
                             self->self.nodeid, self->self.pid};
    self->is_saved = FALSE;
    g_queue_clear_full(&self->two, queued_free);
    if (is_out(self)) {
        return;
    }
    new_round(self, members, n_members);
    if (find(self, self->self) == NULL) {
        if (self->mode != SIM_REFERENCE_START) {
            leave(self, SIM_REFERENCE_LEAVE);
        }
        return;
    }
    if (n_members == 1) {
        self->mode = SIM_REFERENCE_SYNCED;
        set_all_synced(self);
        flush_one(self);
        return;
    }
    if (has_joined) {
        resend(self);
    }
    self->mode = SIM_REFERENCE_START_SYNC;
    if (member_at(self, 0)->id.nodeid == self->self.nodeid) {
        send_state_message(self, CFS_MESSAGE_SYNC_START, NULL);
    }
}

void
sim_reference_start(SimReference *self)
{
    g_queue_clear_full(&self->one, queued_free);
    g_queue_clear_full(&self->two, queued_free);
    g_queue_clear_full(&self->sent, (GDestroyNotify)g_bytes_unref);
    g_queue_init(&self->sent);
    answer_all(self, EBUSY);
    if (self->mode == SIM_REFERENCE_LEAVE) {
        self->mode = SIM_REFERENCE_START;
    }
}

SimReferenceMode
sim_reference_mode(SimReference *self)
{
    return self->mode;
}

CfsTree *
sim_reference_tree(SimReference *self)
{
    return self->tree;
}

void
sim_reference_set_time(SimReference *self, guint32 time_s)
{
    self->time_s = time_s;
}

void
sim_reference_set_quorate(SimReference *self, gboolean quorate)
{
    self->quorate = quorate;
}

GBytes *
sim_reference_take_sent(SimReference *self)
{
    return g_queue_pop_head(&self->sent);
}

guint
sim_reference_n_verified(SimReference *self)
{
    return self->n_verified;
}

guint
sim_reference_n_updated(SimReference *self)
{
    return self->n_updated;
}

guint
sim_reference_n_sent(SimReference *self)
{
    return self->n_sent;
}
