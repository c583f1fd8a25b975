#define G_LOG_DOMAIN "ipcs"
#include "config.h"

#include "pmxcfs/io/ipc-private.h"

#include <errno.h>

#include "common/ipc-proto.h"
#include "pmxcfs/io/priorities.h"

#define MAX_EVENTS 16384u
#define MAX_EVENT_BYTES (8u << 20)
/* Watchers get one part in so many of the loop's time: who changes something
 * must not wait for who looks on. */
#define SHARE 20
#define MAX_PAUSE_US 50000
/* One that has no room is tried again. */
#define RETRY_US 20000
#define MESSAGES_PER_TURN 8u

/* What was last told. */
struct CfsIpcTold {
    gboolean is_quorate;
    gboolean is_synced;
    guint32 members;
    guint32 guests;
};

/* --- sending --- */

/* One message, made for one watcher; others may be like it. */
struct CfsIpcMessage {
    const CfsWatcher *made_for; /* NULL: nothing yet in this turn */
    guint64 from;
    guint64 place; /* 0: there is nothing */
    GByteArray *bytes;
};

static void
make_message(CfsIpcMessage *message, CfsWatcher *watcher)
{
    guint64 from = cfs_watcher_place(watcher);

    if (message->made_for != NULL && message->from == from &&
        cfs_watcher_is_like(message->made_for, watcher)) {
        return;
    }
    g_byte_array_set_size(message->bytes, 0);
    message->made_for = watcher;
    message->from = from;
    message->place =
        cfs_watcher_next(watcher, message->bytes, PVE_IPC_EVENTS_MAX);
}

/* FALSE: there is more, or no room. */
static gboolean
send_events(CfsIpcClient *client, CfsIpcMessage *messages)
{
    CfsWatcher *watcher = cfs_ipc_session_watcher(client->session);

    for (guint i = 0; i < MESSAGES_PER_TURN; i++) {
        CfsIpcMessage *message = &messages[i];
        int result;

        make_message(message, watcher);
        if (message->place == 0) {
            return TRUE;
        }
        result =
            cfs_ipc_channel_event(client->channel, PVE_IPC_EVENTS,
                                  message->bytes->data, message->bytes->len);
        if (result == -EAGAIN) {
            return FALSE;
        }
        if (result != 0) {
            cfs_ipc_client_drop(client, g_strerror(-result));
            return TRUE;
        }
        cfs_watcher_move(watcher, message->place);
    }
    return FALSE;
}

static gboolean
on_flush(GSource *source, GSourceFunc callback, gpointer data)
{
    CfsIpc *self = data;
    gint64 begin_us = g_get_monotonic_time(), end_us;
    gboolean is_done = TRUE;

    for (guint i = 0; i < MESSAGES_PER_TURN; i++) {
        self->messages[i].made_for = NULL;
    }
    for (guint i = 0; i < self->watchers->len; i++) {
        if (!send_events(self->watchers->pdata[i], self->messages)) {
            is_done = FALSE;
        }
    }
    end_us = g_get_monotonic_time();
    self->flush_after_us =
        end_us + MIN((end_us - begin_us) * SHARE, MAX_PAUSE_US);
    g_source_set_ready_time(
        source, is_done ? -1 : MAX(self->flush_after_us, end_us + RETRY_US));
    return G_SOURCE_CONTINUE;
}

static gboolean
never_called(gpointer data)
{
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs flush_class = {.dispatch = on_flush};

static void
wake(CfsIpc *self)
{
    gint64 ready_us = g_source_get_ready_time(self->flush);

    if (self->watchers->len > 0 &&
        (ready_us < 0 || ready_us > self->flush_after_us)) {
        g_source_set_ready_time(self->flush, self->flush_after_us);
    }
}

/* --- what happens --- */

static guint64
version_of(CfsIpc *self)
{
    return cfs_tree_root(cfs_replica_tree(self->replica))->version;
}

static guint16
flags_of(CfsIpc *self)
{
    gboolean is_synced = cfs_replica_mode(self->replica) == CFS_MODE_SYNCED;
    gboolean is_quorate = cfs_replica_is_quorate(self->replica);

    return (guint16)((is_synced ? PVE_EVENT_SYNCED : 0) |
                     (is_quorate ? PVE_EVENT_QUORATE : 0));
}

static void
note(CfsIpc *self, PveEventKind kind, guint32 value)
{
    cfs_watch_note(self->shared.watch, kind, version_of(self), value, NULL,
                   NULL);
}

void
cfs_ipc_on_applied(CfsIpc *self, const CfsEffect *effect)
{
    cfs_watch_on_changed(self->shared.watch, effect, flags_of(self));
    wake(self);
}

void
cfs_ipc_on_settled(CfsIpc *self, const CfsEffect *effect)
{
    const CfsEntry *entry = effect->settled.entry;

    cfs_watch_on_settled(self->shared.watch, entry, effect->settled.path,
                         effect->settled.node, entry->version, flags_of(self));
    wake(self);
}

void
cfs_ipc_on_reloaded(CfsIpc *self)
{
    note(self, PVE_EVENT_RELOADED, 0);
    wake(self);
}

static CfsIpcTold
look(CfsIpc *self)
{
    return (CfsIpcTold){
        .is_quorate = cfs_replica_is_quorate(self->replica),
        .is_synced = cfs_replica_mode(self->replica) == CFS_MODE_SYNCED,
        .members = cfs_nodelist_version(cfs_status_nodelist(
            cfs_views_status(cfs_replica_views(self->replica)))),
        .guests = cfs_guests_version(
            cfs_tree_guests(cfs_replica_tree(self->replica)))};
}

void
cfs_ipc_on_turn(CfsIpc *self)
{
    const CfsIpcTold now = look(self), *told = self->told;
    guint64 last = cfs_watch_last(self->shared.watch);

    if (now.is_quorate != told->is_quorate) {
        note(self, PVE_EVENT_QUORUM, now.is_quorate ? 1 : 0);
    }
    if (now.is_synced != told->is_synced) {
        note(self, PVE_EVENT_SYNC, now.is_synced ? 1 : 0);
    }
    if (now.members != told->members) {
        note(self, PVE_EVENT_MEMBERS, now.members);
    }
    if (now.guests != told->guests) {
        note(self, PVE_EVENT_GUESTS, now.guests);
    }
    *self->told = now;
    if (cfs_watch_last(self->shared.watch) != last) {
        wake(self);
    }
}

void
cfs_ipc_on_status(CfsIpc *self, const CfsStatusEffect *effect)
{
    switch (effect->what) {
    case CFS_STATUS_CHANGED_KEY:
        cfs_watch_note(self->shared.watch, PVE_EVENT_STATUS, version_of(self),
                       0, effect->key, effect->node);
        break;
    case CFS_STATUS_CHANGED_LOG:
        note(self, PVE_EVENT_LOG, 0);
        break;
    case CFS_STATUS_CHANGED_NODES:
        cfs_ipc_on_turn(self); /* the counter of members has grown */
        break;
    }
    wake(self);
}

/* --- clients --- */

int
cfs_ipc_watch_prepare(CfsIpcClient *client)
{
    int result = cfs_ipc_channel_open_events(client->channel);

    return result != 0 ? -result : 0;
}

void
cfs_ipc_watch_begin(CfsIpcClient *client)
{
    CfsIpc *self = client->ipc;

    if (!g_ptr_array_find(self->watchers, client, NULL)) {
        g_ptr_array_add(self->watchers, client);
    }
    wake(self);
}

void
cfs_ipc_watch_forget(CfsIpcClient *client)
{
    (void)g_ptr_array_remove_fast(client->ipc->watchers, client);
}

void
cfs_ipc_watch_init(CfsIpc *self, guint64 instance)
{
    self->shared.replica = self->replica;
    self->shared.watch = cfs_watch_new(instance, MAX_EVENTS, MAX_EVENT_BYTES);
    self->watchers = g_ptr_array_new();
    self->messages = g_new0(CfsIpcMessage, MESSAGES_PER_TURN);
    for (guint i = 0; i < MESSAGES_PER_TURN; i++) {
        self->messages[i].bytes = g_byte_array_new();
    }
    self->told = g_new(CfsIpcTold, 1);
    *self->told = look(self);
    self->flush = g_source_new(&flush_class, sizeof(GSource));
    g_source_set_priority(self->flush, CFS_PRIORITY_GROUP);
    g_source_set_callback(self->flush, never_called, self, NULL);
    (void)g_source_attach(self->flush, NULL);
}

void
cfs_ipc_watch_clear(CfsIpc *self)
{
    g_source_destroy(self->flush);
    g_source_unref(self->flush);
    g_ptr_array_unref(self->watchers);
    for (guint i = 0; i < MESSAGES_PER_TURN; i++) {
        g_byte_array_unref(self->messages[i].bytes);
    }
    g_free(self->messages);
    g_free(self->told);
    cfs_watch_free(self->shared.watch);
}
