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
 * has: contents do not wait for the lock of a directory. */
#define LANE_ALL 0u
#define LANE_INODE (G_GUINT64_CONSTANT(1) << 63)

/* A step that watchers wait for. */
typedef struct {
    guint64 step;
    gboolean is_own; /* a request of this node made it */
    guint64 serial;  /* the last message before its end */
    gint64 since_us;
} Hold;

/* A message. */
typedef struct {
    guint64 serial;
    guint64 inode; /* what may not be kept meanwhile */
    gboolean is_all;
    gboolean is_done;
    guint64 lane;
    GBytes *message;
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
    CfsMetrics *metrics;

    guint64 last_serial;
    GHashTable *pending; /* serial -> Pending, those not reported */
    GQueue in_order;     /* of Pending, owned: from the oldest of them on */
    GHashTable *busy;    /* inode -> guint: messages about it */
    guint n_all;         /* messages about everything */
    gboolean has_epoch;  /* the kernel knows CFS_NOTIFIER_INC_EPOCH */
    guint64 probe;       /* the message that finds out */

    GHashTable *missing; /* set of Missing */
    GQueue holds;        /* of Hold, oldest first */
    guint tick;
};

/* Waiting watchers -------------------------------------------------------- */

/* The oldest. */
static void
settle(CfsCaches *self)
{
    g_autofree Hold *hold = g_queue_pop_head(&self->holds);

    self->settled(self->data, hold->step);
}

/* TRUE: all messages up to @serial were reported. */
static gboolean
is_done(CfsCaches *self, guint64 serial)
{
    const Pending *oldest = g_queue_peek_head(&self->in_order);

    return oldest == NULL || oldest->serial > serial;
}

static void
settle_done(CfsCaches *self)
{
    const Hold *hold;

    while ((hold = g_queue_peek_head(&self->holds)) != NULL &&
           is_done(self, hold->serial)) {
        settle(self);
    }
}

static gboolean
on_tick(gpointer data)
{
    CfsCaches *self = data;
    gint64 now = g_get_monotonic_time();
    const Hold *hold;

    while ((hold = g_queue_peek_head(&self->holds)) != NULL &&
           now - hold->since_us > SETTLE_US) {
        settle(self);
    }
    if (self->holds.length > 0) {
        return G_SOURCE_CONTINUE;
    }
    self->tick = 0;
    return G_SOURCE_REMOVE;
}

/* All messages of @step were sent. What is older must be gone as well:
 * watchers may look anywhere. */
static void
end_step(CfsCaches *self, guint64 step, gboolean is_own)
{
    Hold *hold;

    if (step == 0) {
        return;
    }
    hold = g_new0(Hold, 1);
    hold->step = step;
    hold->is_own = is_own;
    hold->serial = self->last_serial;
    hold->since_us = g_get_monotonic_time();
    g_queue_push_tail(&self->holds, hold);
    settle_done(self);
    if (self->tick == 0 && self->holds.length > 0) {
        self->tick = g_timeout_add_seconds(TICK_S, on_tick, self);
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
    g_queue_push_tail(&self->in_order, pending);
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
    cfs_metrics_add(self->metrics, CFS_METRIC_DROPPED_NAMES, 1);
    (void)g_byte_array_append(body, (const guint8 *)&out, sizeof(out));
    (void)g_byte_array_append(body, (const guint8 *)name, out.namelen + 1);
    send_message(self, pending, FUSE_NOTIFY_INVAL_ENTRY, body);
}

static void
drop_content(CfsCaches *self, guint64 inode)
{
    Pending *pending = g_new0(Pending, 1);
    struct fuse_notify_inval_inode_out out = {.ino = self->number(inode)};
    GByteArray *body = g_byte_array_new();

    pending->inode = inode;
    pending->lane = out.ino | LANE_INODE;
    cfs_metrics_add(self->metrics, CFS_METRIC_DROPPED_CONTENTS, 1);
    (void)g_byte_array_append(body, (const guint8 *)&out, sizeof(out));
    send_message(self, pending, FUSE_NOTIFY_INVAL_INODE, body);
}

/* At once, and done. */
static void
drop_attributes(CfsCaches *self, guint64 inode)
{
    struct {
        struct fuse_out_header header;
        struct fuse_notify_inval_inode_out out;
    } message = {
        .header = {.len = sizeof(message), .error = FUSE_NOTIFY_INVAL_INODE},
        .out = {.ino = self->number(inode), .off = -1}};

    cfs_metrics_add(self->metrics, CFS_METRIC_DROPPED_ATTRIBUTES, 1);
    if (self->notifier != NULL) {
        cfs_notifier_send_now(self->notifier, &message, sizeof(message));
    }
}

static void
drop_all_names(CfsCaches *self)
{
    Pending *pending = g_new0(Pending, 1);

    pending->is_all = TRUE;
    pending->lane = LANE_ALL;
    cfs_metrics_add(self->metrics, CFS_METRIC_DROPPED_ALL, 1);
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
    (void)g_hash_table_remove(self->pending, &serial);
    count_busy(self, pending, -1);
    pending->is_done = TRUE;
    while ((pending = g_queue_peek_head(&self->in_order)) != NULL &&
           pending->is_done) {
        pending_free(g_queue_pop_head(&self->in_order));
    }
    settle_done(self);
}

static void
on_running(gpointer data, gboolean runs)
{
    CfsCaches *self = data;

    /* The first starts before cfs_notifier_new() returns. */
    if (!runs || self->notifier == NULL) {
        return;
    }
    for (GList *l = self->in_order.head; l != NULL; l = l->next) {
        const Pending *pending = l->data;

        if (!pending->is_done) {
            cfs_notifier_send(self->notifier, pending->serial, pending->lane,
                              pending->message);
        }
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
        drop_content(self, record->inode);
    } else if (held->has_attributes) {
        held->has_attributes = FALSE;
        drop_attributes(self, record->inode);
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

/* @keep_names: the kernel moves the directory itself. To make it let go of a
 * name would cut off whoever works below. */
static void
let_go_of_places(CfsCaches *self,
                 const CfsChange *change,
                 CfsInode *record,
                 gboolean keep_names)
{
    gboolean drops = record != NULL && record->held.has_name && !keep_names;

    /* One that the kernel was asked to rename may be kept by its new name. */
    if (change->before != NULL) {
        let_go_of_place(self, change->before, drops);
    }
    if (change->after != NULL) {
        let_go_of_place(self, change->after, drops);
    }
    if (record != NULL && !keep_names) {
        record->held.has_name = FALSE;
        record->held.was_named = FALSE;
    }
}

/* Also what the kernel asked for itself: whoever asked is not always the first
 * to run when the answer is there. */
static void
on_change(CfsCaches *self, const CfsChange *change, gboolean is_known)
{
    const CfsEntry *entry =
        change->before != NULL ? change->before : change->after;
    CfsInode *record = cfs_inodes_find(self->inodes, entry->inode);
    gboolean is_directory = cfs_entry_is_directory(entry);
    gboolean has_new_content = !is_directory && change->before != NULL &&
                               change->after != NULL &&
                               (change->before->data != change->after->data ||
                                change->before->size != change->after->size);

    if (is_moved(change)) {
        let_go_of_places(self, change, record, is_known && is_directory);
    }
    if (record != NULL) {
        let_go_of_inode(self, record, has_new_content);
    }
}

void
cfs_caches_on_changes(CfsCaches *self,
                      GPtrArray *changes,
                      gboolean is_known,
                      guint64 step)
{
    for (guint i = 0; i < changes->len; i++) {
        on_change(self, changes->pdata[i], is_known);
    }
    end_step(self, step, is_known);
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
    if (self->has_epoch) {
        drop_all_names(self);
    }
    drop_all_missing(self, !self->has_epoch);
    cfs_inodes_foreach(self->inodes, let_go_of_all, self);
    end_step(self, step, FALSE);
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
    self->pending = g_hash_table_new(g_int64_hash, g_int64_equal);
    self->busy =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->missing =
        g_hash_table_new_full(hash_missing, equal_missing, g_free, NULL);
    return self;
}

void
cfs_caches_set_metrics(CfsCaches *self, CfsMetrics *metrics)
{
    self->metrics = metrics;
}

void
cfs_caches_collect(CfsCaches *self)
{
    cfs_metrics_set(self->metrics, CFS_METRIC_DROPS_WAITING,
                    g_hash_table_size(self->pending));
    cfs_metrics_set(self->metrics, CFS_METRIC_CACHING,
                    (guint64)is_running(self));
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

void
cfs_caches_free(CfsCaches *self)
{
    if (self == NULL) {
        return;
    }
    cfs_caches_stop(self);
    g_queue_clear_full(&self->holds, g_free);
    g_hash_table_unref(self->pending);
    g_queue_clear_full(&self->in_order, pending_free);
    g_hash_table_unref(self->busy);
    g_hash_table_unref(self->missing);
    g_free(self);
}
