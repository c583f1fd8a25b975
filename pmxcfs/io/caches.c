#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/caches.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include "pmxcfs/io/notifier.h"

#define LONG_S 10.0
#define MISSING_S 1.0
#define LONG_US ((gint64)LONG_S * G_USEC_PER_SEC)
/* Whatever is not reported: then all timeouts are over. */
#define SETTLE_US (LONG_US + G_USEC_PER_SEC)
#define TICK_S 1
/* Names that were asked for in vain; more is a program that guesses. */
#define MAX_MISSING 4096u

/* The lane of what belongs to no directory, and a bit that no number of ours
 * has: attributes and contents do not wait for the lock of a directory. */
#define LANE_ALL 0u
#define LANE_INODE (G_GUINT64_CONSTANT(1) << 63)

/* A step that watchers wait for. */
typedef struct {
    guint64 step;
    gboolean is_own; /* a request of this node made it */
    guint n_pending;
    gint64 since_us;
} Hold;

/* A message that was not reported yet. */
typedef struct {
    guint64 serial;
    guint64 inode; /* what may not be kept meanwhile */
    gboolean is_all;
    guint64 lane;
    GBytes *message;
    Hold *hold; /* NULL: nobody waits */
} Pending;

typedef struct {
    guint64 parent;
    gboolean is_told; /* the kernel keeps it */
    char name[];
} Missing;

struct CfsCaches {
    CfsInodes *inodes;
    CfsCachesNumber number;
    CfsCachesSettled settled;
    gpointer data;
    CfsNotifier *notifier;

    guint64 last_serial;
    GHashTable *pending; /* serial -> Pending */
    GHashTable *busy;    /* inode -> guint: messages about it */
    guint n_all;         /* messages about everything */
    gboolean has_epoch;  /* the kernel knows CFS_NOTIFIER_INC_EPOCH */
    guint64 probe;       /* the message that finds out */

    GHashTable *missing; /* set of Missing */
    GQueue holds;        /* of Hold, oldest first; not those given up */
    guint tick;
    Hold *hold; /* of the step at work */
};

/* Waiting watchers -------------------------------------------------------- */

static void
settle(CfsCaches *self, Hold *hold)
{
    guint64 step = hold->step;

    hold->step = 0;
    if (step != 0) {
        (void)g_queue_remove(&self->holds, hold);
        self->settled(self->data, step);
    }
}

static void
unhold(CfsCaches *self, Hold *hold)
{
    if (--hold->n_pending == 0) {
        settle(self, hold);
        g_free(hold);
    }
}

static gboolean
on_tick(gpointer data)
{
    CfsCaches *self = data;
    gint64 now = g_get_monotonic_time();
    Hold *hold;

    while ((hold = g_queue_peek_head(&self->holds)) != NULL &&
           now - hold->since_us > SETTLE_US) {
        settle(self, hold);
    }
    if (self->holds.length > 0) {
        return G_SOURCE_CONTINUE;
    }
    self->tick = 0;
    return G_SOURCE_REMOVE;
}

/* What is sent until end_step() must be done before @step is settled. */
static void
begin_step(CfsCaches *self, guint64 step, gboolean is_own)
{
    g_assert(self->hold == NULL);
    if (step == 0) {
        return;
    }
    self->hold = g_new0(Hold, 1);
    self->hold->step = step;
    self->hold->is_own = is_own;
    self->hold->n_pending = 1;
    self->hold->since_us = g_get_monotonic_time();
    g_queue_push_tail(&self->holds, self->hold);
    if (self->tick == 0) {
        self->tick = g_timeout_add_seconds(TICK_S, on_tick, self);
    }
}

static void
end_step(CfsCaches *self)
{
    Hold *hold = self->hold;

    self->hold = NULL;
    if (hold != NULL) {
        unhold(self, hold);
    }
}

/* Messages ---------------------------------------------------------------- */

static void
pending_free(gpointer data)
{
    Pending *self = data;

    g_bytes_unref(self->message);
    g_free(self);
}

static void
count_busy(CfsCaches *self, const Pending *pending, int by)
{
    gpointer n;

    if (pending->is_all) {
        self->n_all += (guint)by;
        return;
    }
    n = g_hash_table_lookup(self->busy, &pending->inode);
    n = GUINT_TO_POINTER(GPOINTER_TO_UINT(n) + (guint)by);
    if (n == NULL) {
        (void)g_hash_table_remove(self->busy, &pending->inode);
    } else {
        g_hash_table_insert(self->busy,
                            g_memdup2(&pending->inode, sizeof(guint64)), n);
    }
}

static gboolean
is_running(CfsCaches *self)
{
    return self->notifier != NULL && cfs_notifier_is_running(self->notifier);
}

static gboolean
can_keep(CfsCaches *self, guint64 inode)
{
    return is_running(self) && self->n_all == 0 &&
           !g_hash_table_contains(self->busy, &inode);
}

/* @body: (takes) what follows the header. Without a notifier it waits. */
static void
send_message(CfsCaches *self, Pending *pending, int code, GByteArray *body)
{
    struct fuse_out_header header = {
        .len = (guint32)(sizeof(header) + body->len), .error = code};

    (void)g_byte_array_prepend(body, (const guint8 *)&header, sizeof(header));
    pending->serial = ++self->last_serial;
    pending->message = g_byte_array_free_to_bytes(body);
    pending->hold = self->hold;
    if (self->hold != NULL) {
        self->hold->n_pending++;
    }
    g_hash_table_insert(self->pending, &pending->serial, pending);
    count_busy(self, pending, 1);
    if (is_running(self)) {
        cfs_notifier_send(self->notifier, pending->serial, pending->lane,
                          pending->message);
    }
}

static void
drop_name(CfsCaches *self, guint64 parent, const char *name)
{
    Pending *pending = g_new0(Pending, 1);
    struct fuse_notify_inval_entry_out out = {.parent = self->number(parent),
                                              .namelen = (guint32)strlen(name)};
    GByteArray *body = g_byte_array_new();

    pending->inode = parent;
    pending->lane = out.parent;
    (void)g_byte_array_append(body, (const guint8 *)&out, sizeof(out));
    (void)g_byte_array_append(body, (const guint8 *)name, out.namelen + 1);
    send_message(self, pending, FUSE_NOTIFY_INVAL_ENTRY, body);
}

static void
drop_inode(CfsCaches *self, guint64 inode, gboolean with_content)
{
    Pending *pending = g_new0(Pending, 1);
    struct fuse_notify_inval_inode_out out = {.ino = self->number(inode),
                                              .off = with_content ? 0 : -1};
    GByteArray *body = g_byte_array_new();

    pending->inode = inode;
    pending->lane = out.ino | LANE_INODE;
    (void)g_byte_array_append(body, (const guint8 *)&out, sizeof(out));
    send_message(self, pending, FUSE_NOTIFY_INVAL_INODE, body);
}

static void
drop_all_names(CfsCaches *self)
{
    Pending *pending = g_new0(Pending, 1);

    pending->is_all = TRUE;
    pending->lane = LANE_ALL;
    send_message(self, pending, CFS_NOTIFIER_INC_EPOCH, g_byte_array_new());
}

static void
on_done(gpointer data, guint64 serial, int verdict)
{
    CfsCaches *self = data;
    Pending *pending = g_hash_table_lookup(self->pending, &serial);

    if (pending == NULL) {
        return;
    }
    if (serial == self->probe) {
        self->has_epoch = verdict == 0;
        g_debug("the kernel %s at once", verdict == 0
                                             ? "can forget all names"
                                             : "cannot forget all names");
    } else if (verdict != 0 && verdict != ENOENT && verdict != ENOTDIR) {
        g_debug("the kernel did not let go: %s", g_strerror(verdict));
    }
    (void)g_hash_table_steal(self->pending, &serial);
    count_busy(self, pending, -1);
    if (pending->hold != NULL) {
        unhold(self, pending->hold);
    }
    pending_free(pending);
}

static int
compare_serials(gconstpointer a, gconstpointer b)
{
    const Pending *x = a, *y = b;

    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static void
on_running(gpointer data, gboolean runs)
{
    CfsCaches *self = data;
    g_autoptr(GList) all = NULL;

    /* The first starts before cfs_notifier_new() returns. */
    if (!runs || self->notifier == NULL) {
        return;
    }
    all = g_list_sort(g_hash_table_get_values(self->pending), compare_serials);
    for (GList *l = all; l != NULL; l = l->next) {
        const Pending *pending = l->data;

        cfs_notifier_send(self->notifier, pending->serial, pending->lane,
                          pending->message);
    }
    g_message("the kernel caches again");
}

/* Missing names ----------------------------------------------------------- */

static guint
hash_missing(gconstpointer key)
{
    const Missing *missing = key;

    return g_str_hash(missing->name) ^ g_int64_hash(&missing->parent);
}

static gboolean
equal_missing(gconstpointer a, gconstpointer b)
{
    const Missing *x = a, *y = b;

    return x->parent == y->parent && strcmp(x->name, y->name) == 0;
}

static Missing *
missing_new(guint64 parent, const char *name)
{
    gsize size = strlen(name) + 1;
    Missing *missing = g_malloc0(sizeof(*missing) + size);

    missing->parent = parent;
    memcpy(missing->name, name, size);
    return missing;
}

/* The name exists now. */
static void
drop_missing(CfsCaches *self, guint64 parent, const char *name)
{
    g_autofree Missing *key = NULL;
    const Missing *missing;

    if (g_hash_table_size(self->missing) == 0) {
        return;
    }
    key = missing_new(parent, name);
    missing = g_hash_table_lookup(self->missing, key);
    if (missing != NULL && missing->is_told) {
        drop_name(self, parent, name);
    }
    if (missing != NULL) {
        (void)g_hash_table_remove(self->missing, key);
    }
}

static void
drop_all_missing(CfsCaches *self, gboolean by_name)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, self->missing);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Missing *missing = key;

        if (by_name && missing->is_told) {
            drop_name(self, missing->parent, missing->name);
        }
    }
    g_hash_table_remove_all(self->missing);
}

/* Answers ----------------------------------------------------------------- */

double
cfs_caches_tell_name(CfsCaches *self,
                     guint64 parent,
                     CfsInode *record,
                     double *attributes)
{
    gboolean was_named = record->held.was_named;

    record->held.was_named = TRUE;
    *attributes = was_named ? cfs_caches_tell_attributes(self, record) : 0;
    if (!was_named || !can_keep(self, parent)) {
        return 0;
    }
    record->held.has_name = TRUE;
    return LONG_S;
}

double
cfs_caches_tell_missing(CfsCaches *self, guint64 parent, const char *name)
{
    g_autofree Missing *key = NULL;
    Missing *missing;

    if (!can_keep(self, parent)) {
        return 0;
    }
    key = missing_new(parent, name);
    missing = g_hash_table_lookup(self->missing, key);
    if (missing != NULL) {
        missing->is_told = TRUE;
        return MISSING_S;
    }
    if (g_hash_table_size(self->missing) >= MAX_MISSING) {
        drop_all_missing(self, TRUE);
    }
    (void)g_hash_table_add(self->missing, g_steal_pointer(&key));
    return 0;
}

void
cfs_caches_tell_first(CfsInode *record)
{
    record->held.was_named = TRUE;
}

double
cfs_caches_tell_attributes(CfsCaches *self, CfsInode *record)
{
    if (!can_keep(self, record->inode)) {
        return 0;
    }
    record->held.has_attributes = TRUE;
    return LONG_S;
}

/* Every LONG_S the content is dropped: races that we do not know end then. */
gboolean
cfs_caches_tell_open(CfsCaches *self, CfsInode *record, gboolean *keep)
{
    gint64 now = g_get_monotonic_time();

    *keep = record->held.has_content && can_keep(self, record->inode) &&
            now - record->held.content_since_us < LONG_US;
    if (!*keep) {
        record->held.content_since_us = now;
    }
    return is_running(self);
}

void
cfs_caches_tell_content(CfsInode *record)
{
    record->held.has_content = TRUE;
}

/* Events ------------------------------------------------------------------ */

/* By its record: the kernel knows the inode. */
static void
let_go_of_inode(CfsCaches *self, CfsInode *record, gboolean with_content)
{
    CfsHeld *held = &record->held;

    if (held->has_content && with_content) {
        held->has_content = FALSE;
        held->has_attributes = FALSE;
        drop_inode(self, record->inode, TRUE);
    } else if (held->has_attributes) {
        held->has_attributes = FALSE;
        drop_inode(self, record->inode, FALSE);
    }
}

static void
let_go_of_listing(CfsCaches *self, guint64 directory)
{
    CfsInode *record = cfs_inodes_find(self->inodes, directory);

    if (record != NULL && record->held.has_content) {
        let_go_of_inode(self, record, TRUE);
    }
}

static gboolean
is_moved(const CfsChange *change)
{
    return change->before == NULL || change->after == NULL ||
           change->before->parent != change->after->parent ||
           strcmp(change->before->name, change->after->name) != 0;
}

/* @entry: as it is, or was, in its place. @was_kept: its name may be. */
static void
let_go_of_place(CfsCaches *self, const CfsEntry *entry, gboolean was_kept)
{
    if (was_kept) {
        drop_name(self, entry->parent, entry->name);
    }
    drop_missing(self, entry->parent, entry->name);
    let_go_of_listing(self, entry->parent);
}

static void
let_go_of_places(CfsCaches *self, const CfsChange *change, CfsInode *record)
{
    gboolean was_kept = record != NULL && record->held.has_name;

    /* One that the kernel was asked to rename may be kept by its new name. */
    if (change->before != NULL) {
        let_go_of_place(self, change->before, was_kept);
    }
    if (change->after != NULL) {
        let_go_of_place(self, change->after, was_kept);
    }
    if (record != NULL) {
        record->held.has_name = FALSE;
        record->held.was_named = FALSE;
    }
}

static void
on_change(CfsCaches *self, const CfsChange *change, gboolean is_known)
{
    const CfsEntry *entry =
        change->before != NULL ? change->before : change->after;
    CfsInode *record = cfs_inodes_find(self->inodes, entry->inode);
    gboolean is_file = !cfs_entry_is_directory(entry);
    gboolean has_new_content = is_file && change->before != NULL &&
                               change->after != NULL &&
                               (change->before->data != change->after->data ||
                                change->before->size != change->after->size);

    if (is_moved(change) && !is_known) {
        let_go_of_places(self, change, record);
    }
    if (record != NULL &&
        (!is_known || (has_new_content && record->held.has_content))) {
        let_go_of_inode(self, record, has_new_content);
    }
}

void
cfs_caches_on_changes(CfsCaches *self,
                      GPtrArray *changes,
                      gboolean is_known,
                      guint64 step)
{
    begin_step(self, step, is_known);
    for (guint i = 0; i < changes->len; i++) {
        /* Whoever waits for the step can be faster than the one who asked for
         * the change: then the kernel does not know yet. */
        on_change(self, changes->pdata[i], is_known && step == 0);
    }
    end_step(self);
}

static void
let_go_of_all(gpointer data, CfsInode *record)
{
    CfsCaches *self = data;

    if (record->held.has_name && !self->has_epoch && record->entry != NULL) {
        drop_name(self, record->entry->parent, record->entry->name);
    }
    record->held.has_name = FALSE;
    record->held.was_named = FALSE;
    let_go_of_inode(self, record, TRUE);
}

void
cfs_caches_on_reloaded(CfsCaches *self, guint64 step)
{
    begin_step(self, step, FALSE);
    if (self->has_epoch) {
        drop_all_names(self);
    }
    drop_all_missing(self, !self->has_epoch);
    cfs_inodes_foreach(self->inodes, let_go_of_all, self);
    end_step(self);
}

guint64
cfs_caches_own_step(CfsCaches *self)
{
    for (GList *l = self->holds.tail; l != NULL; l = l->prev) {
        const Hold *hold = l->data;

        if (hold->is_own) {
            return hold->step;
        }
    }
    return 0;
}

gboolean
cfs_caches_has_own_step(CfsCaches *self, guint64 step)
{
    for (GList *l = self->holds.head; l != NULL; l = l->next) {
        const Hold *hold = l->data;

        if (hold->is_own) {
            return hold->step <= step;
        }
    }
    return FALSE;
}

static void
let_go_of_mode(gpointer data, CfsInode *record)
{
    let_go_of_inode(data, record, FALSE);
}

void
cfs_caches_on_quorum(CfsCaches *self)
{
    cfs_inodes_foreach(self->inodes, let_go_of_mode, self);
}

/* Life -------------------------------------------------------------------- */

CfsCaches *
cfs_caches_new(CfsInodes *inodes,
               CfsCachesNumber number,
               CfsCachesSettled settled,
               gpointer data)
{
    CfsCaches *self = g_new0(CfsCaches, 1);

    self->inodes = inodes;
    self->number = number;
    self->settled = settled;
    self->data = data;
    self->pending =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, pending_free);
    self->busy =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->missing =
        g_hash_table_new_full(hash_missing, equal_missing, g_free, NULL);
    return self;
}

void
cfs_caches_start(CfsCaches *self, int fuse, int mount)
{
    const CfsNotifierHandler handler = {
        .done = on_done, .running = on_running, .data = self};

    self->notifier = cfs_notifier_new(fuse, mount, &handler);
    /* Whether the kernel knows it is told by what it says. */
    drop_all_names(self);
    self->probe = self->last_serial;
}

void
cfs_caches_stop(CfsCaches *self)
{
    g_clear_handle_id(&self->tick, g_source_remove);
    g_clear_pointer(&self->notifier, cfs_notifier_free);
}

/* Those that messages hold go with the last of them. */
static void
free_pending(CfsCaches *self)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->pending);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Pending *pending = value;

        if (pending->hold != NULL && --pending->hold->n_pending == 0) {
            g_free(pending->hold);
        }
    }
    g_hash_table_unref(self->pending);
}

void
cfs_caches_free(CfsCaches *self)
{
    if (self == NULL) {
        return;
    }
    cfs_caches_stop(self);
    g_queue_clear(&self->holds);
    free_pending(self);
    g_hash_table_unref(self->busy);
    g_hash_table_unref(self->missing);
    g_free(self);
}
