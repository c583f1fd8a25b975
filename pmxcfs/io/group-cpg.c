#define G_LOG_DOMAIN "dcdb"
#include "config.h"

#include "pmxcfs/io/group.h"

#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pmxcfs/io/connector.h"
#include "pmxcfs/io/priorities.h"

/* Bounds one turn, so that requests get theirs. */
#define EVENTS_PER_TURN 256
#define BYTES_PER_TURN (1u << 20)
#define RESEND_MS 2
#define RECONNECT_MS 100
#define STOP_PATIENCE_MS 1000

typedef struct {
    CfsGroup parent;
    const char *name;
    CfsConnector *connector;
    CfsConnection connection;
    gboolean is_connected;
    guint leave_source; /* the connection ends in the next turn */
    guint leave_delay_ms;
    GQueue unsent; /* of GBytes */
    guint resend_timer;
    gsize received; /* bytes in this turn */
} GroupCpg;

/* In the worker ----------------------------------------------------------- */

static void on_deliver(cpg_handle_t handle,
                       const struct cpg_name *name,
                       guint32 nodeid,
                       guint32 pid,
                       void *bytes,
                       size_t size);
static void on_confchg(cpg_handle_t handle,
                       const struct cpg_name *name,
                       const struct cpg_address *members,
                       size_t n_members,
                       const struct cpg_address *left,
                       size_t n_left,
                       const struct cpg_address *joined,
                       size_t n_joined);

static cs_error_t
join(cpg_handle_t handle, const char *name)
{
    struct cpg_name group = {0};

    /* The length counts the NUL; without it one joins another group, alone. */
    group.length = (guint32)strlen(name) + 1;
    g_assert(group.length <= CPG_MAX_NAME_LENGTH);
    memcpy(group.value, name, group.length);
    return cpg_join(handle, &group);
}

/* A handle that left a group cannot join again (CS_ERR_EXIST), hence a fresh
 * one each time. What arrives meanwhile waits in libqb's buffer. */
static gboolean
cpg_open(gpointer argument, CfsConnection *out, GError **error)
{
    const char *name = argument, *what = "cpg_initialize";
    cpg_callbacks_t callbacks = {.cpg_deliver_fn = on_deliver,
                                 .cpg_confchg_fn = on_confchg};
    cpg_handle_t handle = 0;
    cs_error_t code = cpg_initialize(&handle, &callbacks);

    if (code != CS_OK) {
        return cfs_connector_fail(error, what, code);
    }
    what = "cpg_local_get";
    code = cpg_local_get(handle, &out->nodeid);
    if (code == CS_OK) {
        what = "cpg_fd_get";
        code = cpg_fd_get(handle, &out->fd);
    }
    if (code == CS_OK) {
        what = "cpg_join";
        code = join(handle, name);
    }
    if (code != CS_OK) {
        (void)cpg_finalize(handle);
        return cfs_connector_fail(error, what, code);
    }
    out->handle = handle;
    return TRUE;
}

static void
cpg_close(const CfsConnection *connection)
{
    /* Finalising leaves the group. */
    (void)cpg_finalize(connection->handle);
}

static const CfsConnectorClass cpg_class = {
    .socket_name = "cpg",
    .open = cpg_open,
    .close = cpg_close,
    .priority = CFS_PRIORITY_GROUP,
};

/* Ending a connection ----------------------------------------------------- */

static void
drop_unsent(GroupCpg *self)
{
    g_clear_handle_id(&self->resend_timer, g_source_remove);
    g_queue_clear_full(&self->unsent, (GDestroyNotify)g_bytes_unref);
}

static gboolean
on_leave(gpointer data)
{
    GroupCpg *self = data;

    self->leave_source = 0;
    self->is_connected = FALSE;
    drop_unsent(self);
    cfs_connector_close(self->connector);
    if (self->leave_delay_ms != CFS_GROUP_NEVER) {
        cfs_connector_open(self->connector, self->leave_delay_ms);
    }
    self->parent.handler.disconnected(self->parent.handler.data);
    return G_SOURCE_REMOVE;
}

/* In a later turn: the caller may be deep in an effect of this connection's
 * events. From now on nothing of it is heard. */
static void
schedule_leave(GroupCpg *self, guint delay_ms)
{
    if (self->leave_source == 0) {
        self->leave_delay_ms = delay_ms;
        self->leave_source =
            g_idle_add_full(CFS_PRIORITY_GROUP, on_leave, self, NULL);
    }
}

static gboolean
is_listening(GroupCpg *self)
{
    return self->is_connected && self->leave_source == 0;
}

static const char *
domain_of(GroupCpg *self)
{
    return strcmp(self->name, CFS_GROUP_STATUS) == 0 ? "status" : G_LOG_DOMAIN;
}

static void
lose_connection(GroupCpg *self, const char *what, cs_error_t code)
{
    if (is_listening(self)) {
        g_log(domain_of(self), G_LOG_LEVEL_WARNING,
              "%s failed: error %d: the connection to corosync is lost", what,
              (int)code);
        schedule_leave(self, RECONNECT_MS);
    }
}

/* Sending ----------------------------------------------------------------- */

/* TRUE when it is on its way or never will be. */
static gboolean
try_send(GroupCpg *self, GBytes *message)
{
    struct iovec piece;
    cs_error_t code;
    gsize size;

    piece.iov_base = (void *)g_bytes_get_data(message, &size);
    piece.iov_len = size;
    code =
        cpg_mcast_joined(self->connection.handle, CPG_TYPE_AGREED, &piece, 1);
    switch (code) {
    case CS_OK:
        return TRUE;
    case CS_ERR_TRY_AGAIN:
    case CS_ERR_INTERRUPT: /* between two fragments: the whole again */
        return FALSE;
    default:
        lose_connection(self, "cpg_mcast_joined", code);
        return TRUE;
    }
}

static gboolean
on_resend(gpointer data)
{
    GroupCpg *self = data;

    while (is_listening(self) && self->unsent.length > 0) {
        g_autoptr(GBytes) message = NULL;

        if (!try_send(self, g_queue_peek_head(&self->unsent))) {
            return G_SOURCE_CONTINUE;
        }
        message = g_queue_pop_head(&self->unsent);
    }
    self->resend_timer = 0;
    return G_SOURCE_REMOVE;
}

static void
cpg_send(CfsGroup *group, GBytes *message)
{
    GroupCpg *self = (GroupCpg *)group;

    if (!is_listening(self)) {
        return;
    }
    if (self->unsent.length == 0 && try_send(self, message)) {
        return;
    }
    g_queue_push_tail(&self->unsent, g_bytes_ref(message));
    if (self->resend_timer == 0) {
        self->resend_timer = g_timeout_add_full(CFS_PRIORITY_GROUP, RESEND_MS,
                                                on_resend, self, NULL);
    }
}

static gboolean
cpg_has_backlog(CfsGroup *group)
{
    return ((GroupCpg *)group)->unsent.length > 0;
}

/* Receiving --------------------------------------------------------------- */

static GroupCpg *
group_of(cpg_handle_t handle)
{
    void *context = NULL;

    if (cpg_context_get(handle, &context) != CS_OK) {
        return NULL;
    }
    return context;
}

static void
on_deliver(cpg_handle_t handle,
           const struct cpg_name *name,
           guint32 nodeid,
           guint32 pid,
           void *bytes,
           size_t size)
{
    GroupCpg *self = group_of(handle);
    const CfsGroupHandler *handler;
    g_autoptr(GBytes) message = NULL;

    if (self == NULL || !is_listening(self)) {
        return;
    }
    handler = &self->parent.handler;
    self->received += size;
    message = g_bytes_new(bytes, size);
    handler->message(handler->data, (CfsMember){.nodeid = nodeid, .pid = pid},
                     message);
}

static void
on_confchg(cpg_handle_t handle,
           const struct cpg_name *name,
           const struct cpg_address *members,
           size_t n_members,
           const struct cpg_address *left,
           size_t n_left,
           const struct cpg_address *joined,
           size_t n_joined)
{
    GroupCpg *self = group_of(handle);
    const CfsGroupHandler *handler;
    g_autofree CfsMember *list = g_new0(CfsMember, n_members + 1);

    if (self == NULL || !is_listening(self)) {
        return;
    }
    for (size_t i = 0; i < n_members; i++) {
        list[i] =
            (CfsMember){.nodeid = members[i].nodeid, .pid = members[i].pid};
    }
    handler = &self->parent.handler;
    handler->confchg(handler->data, list, (guint)n_members, n_joined > 0);
}

static cs_error_t
dispatch_events(GroupCpg *self)
{
    cs_error_t code = CS_OK;

    self->received = 0;
    for (guint i = 0; i < EVENTS_PER_TURN && self->received < BYTES_PER_TURN &&
                      is_listening(self) && code == CS_OK;
         i++) {
        code =
            cpg_dispatch(self->connection.handle, CS_DISPATCH_ONE_NONBLOCKING);
    }
    return code;
}

static void
on_ready(gpointer data, gboolean is_gone)
{
    GroupCpg *self = data;
    const CfsGroupHandler *handler = &self->parent.handler;
    cs_error_t code;

    handler->begin(handler->data);
    code = dispatch_events(self);
    handler->end(handler->data);
    if (code != CS_OK && code != CS_ERR_TRY_AGAIN) {
        lose_connection(self, "cpg_dispatch", code);
    } else if (is_gone) {
        lose_connection(self, "cpg_dispatch", CS_ERR_LIBRARY);
    }
}

static void
on_open(gpointer data, const CfsConnection *connection)
{
    GroupCpg *self = data;
    const CfsGroupHandler *handler = &self->parent.handler;

    self->connection = *connection;
    self->is_connected = TRUE;
    (void)cpg_context_set(connection->handle, self);
    handler->connected(handler->data, (CfsMember){.nodeid = connection->nodeid,
                                                  .pid = (guint32)getpid()});
}

/* The group --------------------------------------------------------------- */

static void
cpg_leave_group(CfsGroup *group, guint delay_ms)
{
    GroupCpg *self = (GroupCpg *)group;

    if (is_listening(self)) {
        schedule_leave(self, delay_ms);
    }
}

static void
cpg_free(CfsGroup *group)
{
    GroupCpg *self = (GroupCpg *)group;

    g_clear_handle_id(&self->leave_source, g_source_remove);
    drop_unsent(self);
    cfs_connector_free(self->connector, STOP_PATIENCE_MS);
    g_free(self);
}

static const CfsGroupMethods cpg_methods = {
    .send = cpg_send,
    .has_backlog = cpg_has_backlog,
    .leave = cpg_leave_group,
    .free = cpg_free,
};

CfsGroup *
cfs_group_cpg_new(const char *name, const CfsGroupHandler *handler)
{
    GroupCpg *self = g_new0(GroupCpg, 1);
    CfsConnectorHandler connector_handler = {
        .on_open = on_open, .on_ready = on_ready, .data = self};

    self->parent.methods = &cpg_methods;
    self->parent.handler = *handler;
    self->name = name;
    self->connector =
        cfs_connector_new(&cpg_class, (gpointer)name, &connector_handler);
    cfs_connector_open(self->connector, 0);
    return &self->parent;
}
