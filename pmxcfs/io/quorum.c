#define G_LOG_DOMAIN "quorum"
#include "config.h"

#include "pmxcfs/io/quorum.h"

#include <corosync/corotypes.h>
#include <corosync/quorum.h>

#include "pmxcfs/core/core-error.h"
#include "pmxcfs/io/connector.h"
#include "pmxcfs/io/priorities.h"

#define EVENTS_PER_TURN 64
#define RECONNECT_MS 100

struct CfsQuorum {
    CfsConnector *connector;
    guint64 handle;
    gboolean is_connected;
    gboolean quorate;
    guint n_nodes;
    CfsQuorumChanged on_changed;
    gpointer data;
};

static void
set_quorate(CfsQuorum *self, gboolean quorate, guint n_nodes)
{
    if (quorate != self->quorate || n_nodes != self->n_nodes) {
        self->quorate = quorate;
        self->n_nodes = n_nodes;
        self->on_changed(self->data, quorate, n_nodes);
    }
}

static void
on_notification(quorum_handle_t handle,
                guint32 quorate,
                guint64 ring,
                guint32 n_members,
                guint32 *members)
{
    const void *context = NULL;

    if (quorum_context_get(handle, &context) == CS_OK && context != NULL) {
        set_quorate((CfsQuorum *)context, quorate != 0, n_members);
    }
}

static gboolean
quorum_open(gpointer unused, CfsConnection *out, GError **error)
{
    quorum_callbacks_t callbacks = {.quorum_notify_fn = on_notification};
    const char *what = "quorum_initialize";
    quorum_handle_t handle = 0;
    guint32 type = QUORUM_FREE;
    cs_error_t code = quorum_initialize(&handle, &callbacks, &type);

    if (code != CS_OK) {
        return cfs_connector_fail(error, what, code);
    }
    if (type != QUORUM_SET) {
        (void)quorum_finalize(handle);
        g_set_error(error, CFS_ERROR, CFS_ERROR_GROUP,
                    "corosync has no quorum provider: its configuration needs "
                    "'provider: corosync_votequorum' in section quorum");
        return FALSE;
    }
    what = "quorum_fd_get";
    code = quorum_fd_get(handle, &out->fd);
    if (code == CS_OK) {
        what = "quorum_trackstart";
        code = quorum_trackstart(handle, CS_TRACK_CURRENT | CS_TRACK_CHANGES);
    }
    if (code != CS_OK) {
        (void)quorum_finalize(handle);
        return cfs_connector_fail(error, what, code);
    }
    out->handle = handle;
    return TRUE;
}

static void
quorum_close(const CfsConnection *connection)
{
    (void)quorum_finalize(connection->handle);
}

static const CfsConnectorClass quorum_class = {
    .socket_name = "quorum",
    .open = quorum_open,
    .close = quorum_close,
    .priority = CFS_PRIORITY_QUORUM,
};

static void
lose_connection(CfsQuorum *self)
{
    g_warning("the connection to corosync is lost");
    self->is_connected = FALSE;
    cfs_connector_close(self->connector);
    cfs_connector_open(self->connector, RECONNECT_MS);
    set_quorate(self, FALSE, 0);
}

static void
on_ready(gpointer data, gboolean is_gone)
{
    CfsQuorum *self = data;
    cs_error_t code = CS_OK;

    for (guint i = 0; i < EVENTS_PER_TURN && code == CS_OK; i++) {
        code = quorum_dispatch(self->handle, CS_DISPATCH_ONE_NONBLOCKING);
    }
    if ((code != CS_OK && code != CS_ERR_TRY_AGAIN) || is_gone) {
        lose_connection(self);
    }
}

static void
on_open(gpointer data, const CfsConnection *connection)
{
    CfsQuorum *self = data;

    self->handle = connection->handle;
    self->is_connected = TRUE;
    (void)quorum_context_set(self->handle, self);
}

void
cfs_quorum_dispatch(CfsQuorum *self)
{
    if (self->is_connected) {
        on_ready(self, FALSE);
    }
}

CfsQuorum *
cfs_quorum_new(CfsQuorumChanged on_changed, gpointer data)
{
    CfsQuorum *self = g_new0(CfsQuorum, 1);
    CfsConnectorHandler handler = {
        .on_open = on_open, .on_ready = on_ready, .data = self};

    self->on_changed = on_changed;
    self->data = data;
    self->connector = cfs_connector_new(&quorum_class, NULL, &handler);
    cfs_connector_open(self->connector, 0);
    return self;
}

void
cfs_quorum_free(CfsQuorum *self)
{
    if (self != NULL) {
        cfs_connector_free(self->connector, 0);
        g_free(self);
    }
}
