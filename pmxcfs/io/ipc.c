#define G_LOG_DOMAIN "ipcs"
#include "config.h"

#include "pmxcfs/io/ipc-private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/ipc-proto.h"
#include "common/wire.h"
#include "pmxcfs/core/ipc-ops.h"
#include "pmxcfs/io/ipc-loop.h"
#include "pmxcfs/io/ipc-sweep.h"

#define RETRY_NAME_MS 1000
#define RETRY_SEND_MS 20
#define EXPIRY_MS 10000
#define MAX_UNSENT 16u
/* Root finds a place, whoever else is there. */
#define MAX_READ_ONLY 1024u

#ifdef CFS_IPC_SHM
#define TRANSPORT QB_IPC_SHM
#else
#define TRANSPORT QB_IPC_SOCKET
#endif

/* An answer that its client has no room for. */
typedef struct {
    gint32 id;
    gint32 error;
    GBytes *payload; /* nullable */
} Unsent;

static CfsIpc *
ipc_of(qb_ipcs_connection_t *connection)
{
    return qb_ipcs_connection_service_context_get(connection);
}

static void
unsent_free(gpointer data)
{
    Unsent *unsent = data;

    g_clear_pointer(&unsent->payload, g_bytes_unref);
    g_free(unsent);
}

/* --- answers --- */

static gboolean
on_drop(gpointer data)
{
    CfsIpcClient *client = data;

    client->drop = 0;
    qb_ipcs_disconnect(client->connection); /* the client is freed in it */
    return G_SOURCE_REMOVE;
}

void
cfs_ipc_client_drop(CfsIpcClient *client, const char *reason)
{
    if (client->drop == 0) {
        g_debug("client %u is dropped: %s", client->pid, reason);
        client->drop = g_idle_add(on_drop, client);
    }
}

/* Returns 0, or -EAGAIN when the client has no room. */
static int
send_answer(CfsIpcClient *client, gint32 id, gint32 error, GBytes *payload)
{
    int result = cfs_ipc_channel_answer(client->channel, id, error, payload);

    if (result == -EMSGSIZE && payload != NULL) {
        result = cfs_ipc_channel_answer(client->channel, id, -EMSGSIZE, NULL);
    }
    if (result != 0 && result != -EAGAIN) {
        cfs_ipc_client_drop(client, g_strerror(-result));
        return 0;
    }
    return result;
}

static gboolean on_retry(gpointer data);

static void
wait_for_room(CfsIpcClient *client)
{
    cfs_ipc_channel_pause(client->channel, TRUE);
    if (!cfs_ipc_channel_tells_room(client->channel) && client->retry == 0) {
        client->retry = g_timeout_add(RETRY_SEND_MS, on_retry, client);
    }
}

static void
send_unsent(CfsIpcClient *client)
{
    Unsent *first;

    while ((first = g_queue_peek_head(&client->unsent)) != NULL) {
        if (send_answer(client, first->id, first->error, first->payload) != 0) {
            return;
        }
        unsent_free(g_queue_pop_head(&client->unsent));
    }
    cfs_ipc_channel_pause(client->channel, FALSE);
}

static gboolean
on_retry(gpointer data)
{
    CfsIpcClient *client = data;

    send_unsent(client);
    if (client->unsent.length > 0) {
        return G_SOURCE_CONTINUE;
    }
    client->retry = 0;
    return G_SOURCE_REMOVE;
}

void
cfs_ipc_client_answer(CfsIpcClient *client,
                      gint32 id,
                      int verdict,
                      GBytes *payload)
{
    Unsent *unsent;

    if (client->unsent.length == 0 &&
        send_answer(client, id, -verdict, payload) == 0) {
        return;
    }
    if (client->unsent.length >= MAX_UNSENT) {
        cfs_ipc_client_drop(client, "it does not read its answers");
        return;
    }
    unsent = g_new0(Unsent, 1);
    unsent->id = id;
    unsent->error = -verdict;
    unsent->payload = payload != NULL ? g_bytes_ref(payload) : NULL;
    g_queue_push_tail(&client->unsent, unsent);
    wait_for_room(client);
}

/* --- requests --- */

/* Who waits for a barrier. */
typedef struct {
    CfsIpcClient *client;
    guint64 token;   /* to take it back */
    guint64 version; /* what it covers */
} Sync;

static void
on_synced(gpointer data, guint64 id, int verdict, CfsSyncLevel level)
{
    CfsIpc *self = data;
    const Sync *sync = g_hash_table_lookup(self->syncs, &id);
    g_autoptr(GBytes) answer = NULL;
    GByteArray *bytes;
    CfsIpcClient *client;

    g_assert(sync != NULL); /* who does not wait has taken it back */
    bytes = g_byte_array_new();
    pve_write_u32(bytes, level == CFS_SYNC_LEVEL_MAJORITY ? PVE_SYNC_MAJORITY
                                                          : PVE_SYNC_LOCAL);
    pve_write_u32(bytes, 0);
    pve_write_u64(bytes, sync->version);
    answer = g_byte_array_free_to_bytes(bytes);
    client = sync->client;
    (void)g_hash_table_remove(self->syncs, &id);
    cfs_ipc_client_answer(client, PVE_IPC_SYNC, verdict,
                          verdict == 0 ? answer : NULL);
}

static gboolean
is_of(gpointer key, gpointer value, gpointer data)
{
    return ((const Sync *)value)->client == data;
}

/* The only operation whose answer comes later. */
static void
run_sync(CfsIpcClient *client, gsize size)
{
    CfsIpc *self = client->ipc;
    guint64 id = ++self->last_sync, token;
    Sync *sync;

    if (size != 0) {
        cfs_ipc_client_answer(client, PVE_IPC_SYNC, EINVAL, NULL);
        return;
    }
    if (g_hash_table_find(self->syncs, is_of, client) != NULL) {
        cfs_ipc_client_answer(client, PVE_IPC_SYNC, EBUSY, NULL);
        return;
    }
    sync = g_new0(Sync, 1);
    sync->client = client;
    sync->version = cfs_tree_root(cfs_replica_tree(self->replica))->version;
    g_hash_table_insert(self->syncs, g_memdup2(&id, sizeof(id)), sync);
    token = cfs_effects_sync(self->effects, on_synced, self, id);
    sync = g_hash_table_lookup(self->syncs, &id);
    if (sync != NULL) { /* not answered yet */
        sync->token = token;
    }
}

static void
take_back_syncs(CfsIpcClient *client)
{
    CfsIpc *self = client->ipc;
    const Sync *sync = g_hash_table_find(self->syncs, is_of, client);

    if (sync != NULL) {
        cfs_effects_sync_cancel(self->effects, sync->token);
        (void)g_hash_table_foreach_remove(self->syncs, is_of, client);
    }
}

static void
run_request(CfsIpcClient *client, gint32 id, guint8 *payload, gsize size)
{
    const CfsIpcContext context = {.replica = client->ipc->replica,
                                   .session = client->session,
                                   .is_read_only = client->is_read_only,
                                   .pid = client->pid,
                                   .time_s = (guint32)time(NULL),
                                   .clock_ms = cfs_effects_clock_ms()};
    g_autoptr(GBytes) answer = NULL;
    int verdict = 0;

    if (id == PVE_IPC_SYNC) {
        run_sync(client, size);
        return;
    }
    if (id == PVE_IPC_SUBSCRIBE) {
        verdict = cfs_ipc_watch_prepare(client);
    }
    if (verdict == 0) {
        verdict = cfs_ipc_answer(&context, id, payload, size, &answer);
    }
    cfs_ipc_client_answer(client, id, verdict, answer);
    if (id == PVE_IPC_SUBSCRIBE && verdict == 0) {
        cfs_ipc_watch_begin(client);
    }
}

/* @data stays the client's when it is shared memory: copied, then looked at;
 * the header is read once. */
static int32_t
on_request(qb_ipcs_connection_t *connection, void *data, size_t claimed)
{
    CfsIpcClient *client =
        g_hash_table_lookup(ipc_of(connection)->clients, connection);
    struct qb_ipc_request_header header;
    g_autofree guint8 *payload = NULL;
    gsize size;

    if (client == NULL || client->channel == NULL || client->drop != 0) {
        return 0;
    }
    memcpy(&header, data, sizeof(header));
    if (header.size < (gint32)PVE_IPC_REQUEST_HEADER ||
        header.size > (gint32)PVE_IPC_MAX_MESSAGE) {
        cfs_ipc_client_answer(client, header.id, EINVAL, NULL);
        return 0;
    }
    size = (gsize)header.size - PVE_IPC_REQUEST_HEADER;
    payload = g_malloc(size + 1);
    memcpy(payload, (const guint8 *)data + PVE_IPC_REQUEST_HEADER, size);
    payload[size] = '\0';
    run_request(client, header.id, payload, size);
    return 0;
}

static void
discard(int fd)
{
    guint8 byte;

    (void)recv(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* libqb reads as much as the header says. */
static gboolean
on_datagram(gpointer connection, int fd)
{
    struct qb_ipc_request_header header = {0};
    ssize_t size = recv(fd, &header, sizeof(header),
                        MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_NOSIGNAL);
    CfsIpcClient *client =
        g_hash_table_lookup(ipc_of(connection)->clients, connection);

    if (size < 0) {
        return FALSE;
    }
    if (client == NULL || client->channel == NULL || client->drop != 0) {
        discard(fd);
        return FALSE;
    }
    if (size < (ssize_t)sizeof(header) || header.size != size ||
        size > (ssize_t)PVE_IPC_MAX_MESSAGE) {
        discard(fd);
        cfs_ipc_client_answer(client, header.id, EINVAL, NULL);
        return FALSE;
    }
    return TRUE;
}

static void
on_writable(gpointer connection, int fd)
{
    CfsIpcClient *client =
        g_hash_table_lookup(ipc_of(connection)->clients, connection);

    if (client != NULL && client->channel != NULL) {
        send_unsent(client);
    }
}

/* --- clients --- */

static void
client_free(gpointer data)
{
    CfsIpcClient *client = data;

    if (client->is_read_only) {
        client->ipc->n_read_only--;
    }
    cfs_ipc_watch_forget(client);
    take_back_syncs(client);
    cfs_ipc_session_free(client->session);
    g_clear_handle_id(&client->retry, g_source_remove);
    g_clear_handle_id(&client->drop, g_source_remove);
    g_queue_clear_full(&client->unsent, unsent_free);
    cfs_ipc_channel_free(client->channel);
    g_free(client);
}

static int32_t
on_accept(qb_ipcs_connection_t *connection, uid_t uid, gid_t gid)
{
    CfsIpc *self = ipc_of(connection);
    CfsIpcClient *client;
    gboolean is_root = uid == 0 && gid == 0;

    if (!is_root && gid != self->group) {
        g_message("connection from bad user %u! - rejected", uid);
        return -EACCES;
    }
    if (!is_root && self->n_read_only >= MAX_READ_ONLY) {
        g_warning("more than %u clients of group %u, one is rejected",
                  MAX_READ_ONLY, self->group);
        return -EAGAIN;
    }
    client = g_new0(CfsIpcClient, 1);
    client->ipc = self;
    client->connection = connection;
    client->is_read_only = !is_root;
    if (client->is_read_only) {
        self->n_read_only++;
    }
    g_hash_table_insert(self->clients, connection, client);
    return 0;
}

static void
on_created(qb_ipcs_connection_t *connection)
{
    CfsIpcClient *client =
        g_hash_table_lookup(ipc_of(connection)->clients, connection);
    struct qb_ipcs_connection_stats stats = {0};

    (void)qb_ipcs_connection_stats_get(connection, &stats, FALSE);
    client->pid = (guint32)stats.client_pid;
    client->channel = cfs_ipc_channel_new(connection);
    client->session =
        cfs_ipc_session_new(&client->ipc->shared, client->is_read_only);
}

/* The descriptors are closed already, or were never open. */
static int32_t
on_closed(qb_ipcs_connection_t *connection)
{
    (void)g_hash_table_remove(ipc_of(connection)->clients, connection);
    return 0;
}

static void
on_destroyed(qb_ipcs_connection_t *connection)
{
    (void)on_closed(connection);
}

/* --- the service --- */

static gboolean
publish(CfsIpc *self)
{
    struct qb_ipcs_service_handlers handlers = {
        .connection_accept = on_accept,
        .connection_created = on_created,
        .msg_process = on_request,
        .connection_closed = on_closed,
        .connection_destroyed = on_destroyed};
    const CfsIpcLoopHandler handler = {.on_datagram = on_datagram,
                                       .on_writable = on_writable,
                                       .group = self->group};
    int result;

    cfs_ipc_loop_start(&handler);
    self->service = qb_ipcs_create(PVE_IPC_SERVICE, PVE_IPC_SERVICE_ID,
                                   TRANSPORT, &handlers);
    g_assert(self->service != NULL); /* there was memory for it */
    qb_ipcs_service_context_set(self->service, self);
    qb_ipcs_poll_handlers_set(self->service, &cfs_ipc_loop_handlers);
    qb_ipcs_enforce_buffer_size(self->service, PVE_IPC_MAX_MESSAGE);
    /* One request per turn, so that each datagram is seen before libqb. */
    qb_ipcs_request_rate_limit(self->service, QB_IPCS_RATE_SLOW);
    result = qb_ipcs_run(self->service);
    if (result < 0) {
        self->service = NULL; /* it was freed */
        cfs_ipc_loop_stop();
        if (!self->is_told) {
            g_warning("the local socket '%s' cannot be served: %s; trying "
                      "again each second",
                      PVE_IPC_SERVICE, g_strerror(-result));
        }
        self->is_told = TRUE;
    } else if (self->is_told) {
        g_message("the local socket '%s' is served now", PVE_IPC_SERVICE);
    }
    return result >= 0;
}

static gboolean
on_retry_name(gpointer data)
{
    CfsIpc *self = data;

    if (!publish(self)) {
        return G_SOURCE_CONTINUE;
    }
    self->retry = 0;
    return G_SOURCE_REMOVE;
}

static gboolean
on_expiry(gpointer data)
{
    CfsIpc *self = data;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->clients);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CfsIpcClient *client = value;

        if (client->session != NULL) {
            cfs_ipc_session_expire(client->session, cfs_effects_clock_ms());
        }
    }
    return G_SOURCE_CONTINUE;
}

CfsIpc *
cfs_ipc_new(CfsEffects *effects, gid_t group, guint64 instance)
{
    CfsIpc *self = g_new0(CfsIpc, 1);

    self->effects = effects;
    self->replica = cfs_effects_replica(effects);
    self->group = group;
    self->clients = g_hash_table_new_full(NULL, NULL, NULL, client_free);
    self->syncs =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    self->expiry = g_timeout_add(EXPIRY_MS, on_expiry, self);
    cfs_ipc_watch_init(self, instance);
    cfs_ipc_sweep("/dev/shm");
    if (!publish(self)) {
        self->retry = g_timeout_add(RETRY_NAME_MS, on_retry_name, self);
    }
    return self;
}

void
cfs_ipc_free(CfsIpc *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_handle_id(&self->retry, g_source_remove);
    if (self->service != NULL) {
        qb_ipcs_destroy(self->service);
        cfs_ipc_loop_stop();
    }
    g_hash_table_unref(self->clients);
    g_hash_table_unref(self->syncs);
    g_source_remove(self->expiry);
    cfs_ipc_watch_clear(self);
    g_free(self);
}
