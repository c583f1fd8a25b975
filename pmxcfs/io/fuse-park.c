#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>

/* An interrupted request may still finish: any signal with a handler
 * interrupts, and most changes take no millisecond. */
#define INTERRUPT_GRACE_MS 250
/* Directories can be locked for long; what is told then is older. */
#define SETTLE_PATIENCE_MS 100

void
cfs_fuse_parked_free(gpointer data)
{
    CfsFuseParked *parked = data;

    g_clear_handle_id(&parked->interrupt_timer, g_source_remove);
    if (parked->impatience != 0) {
        (void)g_queue_remove(&parked->self->awaiting, parked);
    }
    g_clear_handle_id(&parked->impatience, g_source_remove);
    g_clear_pointer(&parked->changes, g_ptr_array_unref);
    g_free(parked->name);
    g_free(parked);
}

static void
count_answer(CfsFuse *self, const CfsFuseParked *parked, int verdict)
{
    if (parked->since_us != 0) {
        cfs_metrics_observe(self->metrics, parked->timing,
                            g_get_monotonic_time() - parked->since_us);
        cfs_metrics_add(self->metrics, CFS_METRIC_CHANGES_REFUSED,
                        verdict != 0);
    }
}

void
cfs_fuse_unpark(CfsFuse *self, guint64 id, int verdict, CfsEntry *entry)
{
    CfsFuseParked *parked = g_hash_table_lookup(self->parked, &id);

    if (parked == NULL) {
        return; /* it was interrupted */
    }
    (void)g_hash_table_steal(self->parked, &id);
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    count_answer(self, parked, verdict);
    if (verdict != 0 && parked->changes != NULL) {
        /* Done, but not on disk: the kernel hears that it was not done. */
        cfs_caches_on_changes(self->caches, parked->changes, FALSE, 0);
    }
    parked->finish(self, parked, verdict, entry);
    cfs_fuse_parked_free(parked);
}

static gboolean
on_grace_over(gpointer data)
{
    CfsFuseParked *parked = data;
    CfsFuse *self = parked->self;
    guint64 id = parked->id;

    parked->interrupt_timer = 0;
    if (parked->changes != NULL) {
        return G_SOURCE_REMOVE; /* it is done: the answer comes with the disk */
    }
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    cfs_fuse_reply_verdict(parked->req, EINTR);
    if (parked->sync != 0) {
        cfs_effects_sync_cancel(self->effects, parked->sync);
    }
    (void)g_hash_table_remove(self->parked, &id);
    return G_SOURCE_REMOVE;
}

/* libfuse holds locks of the request: no answer from here. */
static void
on_interrupt(fuse_req_t req, void *data)
{
    CfsFuseParked *parked = data;

    if (parked->interrupt_timer == 0) {
        parked->interrupt_timer =
            g_timeout_add(INTERRUPT_GRACE_MS, on_grace_over, parked);
    }
}

CfsFuseParked *
cfs_fuse_park(CfsFuse *self, fuse_req_t req, CfsFuseFinish finish)
{
    CfsFuseParked *parked = g_new0(CfsFuseParked, 1);

    parked->self = self;
    parked->id = ++self->last_id;
    parked->req = req;
    parked->finish = finish;
    return parked;
}

static CfsTimingKind
timing_of(const CfsOp *op)
{
    switch (op->kind) {
    case CFS_OP_CREATE:
        return CFS_TIMING_CREATE;
    case CFS_OP_MKDIR:
        return CFS_TIMING_MKDIR;
    case CFS_OP_DELETE:
        return CFS_TIMING_DELETE;
    case CFS_OP_RENAME:
        return CFS_TIMING_RENAME;
    case CFS_OP_MTIME:
        return CFS_TIMING_MTIME;
    default:
        return op->truncate ? CFS_TIMING_TRUNCATE : CFS_TIMING_WRITE;
    }
}

void
cfs_fuse_submit(CfsFuse *self, CfsFuseParked *parked, const CfsOp *op)
{
    guint64 id = parked->id;

    parked->timing = timing_of(op);
    parked->since_us = g_get_monotonic_time();
    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    cfs_effects_request(self->effects, id, op);
}

static void
on_synced(gpointer data, guint64 id, int verdict, CfsSyncLevel level)
{
    cfs_fuse_unpark(data, id, verdict, NULL);
}

void
cfs_fuse_submit_flush(CfsFuse *self, CfsFuseParked *parked)
{
    guint64 id = parked->id, token;

    parked->timing = CFS_TIMING_FSYNC;
    parked->since_us = g_get_monotonic_time();
    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    token = cfs_effects_sync(self->effects, on_synced, self, id);
    parked = g_hash_table_lookup(self->parked, &id);
    if (parked != NULL) { /* not answered yet */
        parked->sync = token;
    }
}

static gboolean
on_impatient(gpointer data)
{
    CfsFuseParked *parked = data;

    cfs_fuse_unpark(parked->self, parked->id, 0, NULL);
    return G_SOURCE_REMOVE;
}

void
cfs_fuse_await_settled(CfsFuse *self, CfsFuseParked *parked)
{
    parked->step = cfs_caches_own_step(self->caches);
    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    if (parked->step == 0) {
        cfs_fuse_unpark(self, parked->id, 0, NULL);
        return;
    }
    parked->impatience =
        g_timeout_add(SETTLE_PATIENCE_MS, on_impatient, parked);
    g_queue_push_tail(&self->awaiting, parked);
}

void
cfs_fuse_on_settled(CfsFuse *self)
{
    CfsFuseParked *first;

    while ((first = g_queue_peek_head(&self->awaiting)) != NULL &&
           !cfs_caches_has_own_step(self->caches, first->step)) {
        cfs_fuse_unpark(self, first->id, 0, NULL);
    }
}

/* Several nodes append: the kernel has put the bytes where the file ended for
 * it, which may be in the midst of another's. */
static gboolean
went_elsewhere(const CfsFuseParked *parked, GPtrArray *changes)
{
    const CfsChange *change =
        changes->len > 0 ? g_ptr_array_index(changes, 0) : NULL;

    return parked->is_append && (change == NULL || change->before == NULL ||
                                 (off_t)change->before->size != parked->end);
}

gboolean
cfs_fuse_note_applied(CfsFuse *self, guint64 id, GPtrArray *changes)
{
    CfsFuseParked *parked = g_hash_table_lookup(self->parked, &id);

    if (parked == NULL) {
        return FALSE;
    }
    g_clear_pointer(&parked->changes, g_ptr_array_unref);
    parked->changes = g_ptr_array_ref(changes);
    return !went_elsewhere(parked, changes);
}

void
cfs_fuse_refuse_parked(CfsFuse *self, int verdict)
{
    g_autoptr(GList) all = g_hash_table_get_values(self->parked);

    for (GList *l = all; l != NULL; l = l->next) {
        CfsFuseParked *parked = l->data;

        fuse_req_interrupt_func(parked->req, NULL, NULL);
        cfs_fuse_reply_verdict(parked->req, verdict);
    }
    g_hash_table_remove_all(self->parked);
}
