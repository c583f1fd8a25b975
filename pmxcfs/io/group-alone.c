#include "config.h"

#include "pmxcfs/io/group.h"

#include <unistd.h>

#include "pmxcfs/io/priorities.h"

/* A message comes back in a later turn of the loop, as from a real group. */
typedef struct {
    CfsGroup parent;
    GQueue messages; /* of GBytes, sent and not yet delivered */
    gboolean is_connected;
    gboolean is_leaving;
    guint delay_ms;
    guint source; /* 0: none */
} GroupAlone;

static gboolean on_turn(gpointer data);
static gboolean on_connect(gpointer data);

static void
schedule(GroupAlone *self)
{
    if (self->source == 0) {
        self->source = g_idle_add_full(CFS_PRIORITY_GROUP, on_turn, self, NULL);
    }
}

static CfsMember
this_process(void)
{
    return (CfsMember){.nodeid = 0, .pid = (guint32)getpid()};
}

static void
drop_messages(GroupAlone *self)
{
    g_queue_clear_full(&self->messages, (GDestroyNotify)g_bytes_unref);
}

static void
disconnect(GroupAlone *self)
{
    self->is_leaving = FALSE;
    self->is_connected = FALSE;
    drop_messages(self);
    self->parent.handler.disconnected(self->parent.handler.data);
    if (self->delay_ms != CFS_GROUP_NEVER) {
        self->source = g_timeout_add(self->delay_ms, on_connect, self);
    }
}

static gboolean
on_connect(gpointer data)
{
    GroupAlone *self = data;
    const CfsGroupHandler *handler = &self->parent.handler;
    CfsMember member = this_process();

    self->source = 0;
    self->is_connected = TRUE;
    handler->begin(handler->data);
    handler->connected(handler->data, member);
    handler->confchg(handler->data, &member, 1, TRUE);
    handler->end(handler->data);
    return G_SOURCE_REMOVE;
}

/* Delivers what was sent before this turn. */
static gboolean
on_turn(gpointer data)
{
    GroupAlone *self = data;
    const CfsGroupHandler *handler = &self->parent.handler;
    guint n = self->messages.length;

    self->source = 0;
    handler->begin(handler->data);
    for (; n > 0 && !self->is_leaving; n--) {
        g_autoptr(GBytes) message = g_queue_pop_head(&self->messages);

        handler->message(handler->data, this_process(), message);
    }
    handler->end(handler->data);
    if (self->is_leaving) {
        g_clear_handle_id(&self->source, g_source_remove);
        disconnect(self);
    } else if (self->messages.length > 0) {
        schedule(self);
    }
    return G_SOURCE_REMOVE;
}

static void
alone_send(CfsGroup *group, GBytes *message)
{
    GroupAlone *self = (GroupAlone *)group;

    if (self->is_connected) {
        g_queue_push_tail(&self->messages, g_bytes_ref(message));
        schedule(self);
    }
}

static gboolean
alone_has_backlog(CfsGroup *group)
{
    return FALSE;
}

static void
alone_leave(CfsGroup *group, guint delay_ms)
{
    GroupAlone *self = (GroupAlone *)group;

    if (self->is_connected) {
        self->is_leaving = TRUE;
        self->delay_ms = delay_ms;
        schedule(self);
    }
}

static void
alone_free(CfsGroup *group)
{
    GroupAlone *self = (GroupAlone *)group;

    g_clear_handle_id(&self->source, g_source_remove);
    drop_messages(self);
    g_free(self);
}

static const CfsGroupMethods alone_methods = {
    .send = alone_send,
    .has_backlog = alone_has_backlog,
    .leave = alone_leave,
    .free = alone_free,
};

CfsGroup *
cfs_group_alone_new(const CfsGroupHandler *handler)
{
    GroupAlone *self = g_new0(GroupAlone, 1);

    self->parent.methods = &alone_methods;
    self->parent.handler = *handler;
    self->source = g_idle_add_full(CFS_PRIORITY_GROUP, on_connect, self, NULL);
    return &self->parent;
}
