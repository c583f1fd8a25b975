#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>

/* An interrupted request may still finish: any signal with a handler
 * interrupts, and most changes take no millisecond. */
#define INTERRUPT_GRACE_MS 250

void
cfs_fuse_parked_free(gpointer data)
{
    CfsFuseParked *parked = data;

    g_clear_handle_id(&parked->interrupt_timer, g_source_remove);
    g_free(parked->name);
    g_free(parked);
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
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    cfs_fuse_reply_verdict(parked->req, EINTR);
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

void
cfs_fuse_submit(CfsFuse *self, CfsFuseParked *parked, const CfsOp *op)
{
    guint64 id = parked->id;

    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    cfs_effects_request(self->effects, id, op);
}

static void
on_flushed(gpointer data, guint64 id, int verdict)
{
    cfs_fuse_unpark(data, id, verdict, NULL);
}

void
cfs_fuse_submit_flush(CfsFuse *self, CfsFuseParked *parked)
{
    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    cfs_effects_flush(self->effects, on_flushed, self, parked->id);
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
