#include "config.h"

#include "common/ipc-client.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <glib-unix.h>
#include <qb/qbipcc.h>

#include "common/paths.h"
#include "common/wire.h"

#define RETRY_MS 100
#define GRACE_MS 10000
/* Events are not coming: how often we look whether they may. */
#define RECONNECT_MS 1000
#define UNSUPPORTED_MS 60000
/* The end of a silent connection is seen only by looking. */
#define ALIVE_MS 1000
#define MESSAGES_PER_TURN 16

struct PveIpcClient {
    qb_ipcc_connection_t *connection;
    pid_t pid; /* whose connection it is: it does not outlive a fork(2) */
    guint8 *buffer;
};

G_DEFINE_QUARK(pve - ipc - error - quark, pve_ipc_error)

/* --- connecting --- */

PveIpcClient *
pve_ipc_client_new(void)
{
    PveIpcClient *self = g_new0(PveIpcClient, 1);

    self->buffer = g_malloc(PVE_IPC_MAX_MESSAGE);
    return self;
}

static void
disconnect(PveIpcClient *self)
{
    if (self->connection != NULL && self->pid == getpid()) {
        qb_ipcc_disconnect(self->connection);
    }
    self->connection = NULL;
}

void
pve_ipc_client_free(PveIpcClient *self)
{
    if (self == NULL) {
        return;
    }
    disconnect(self);
    g_free(self->buffer);
    g_free(self);
}

static gboolean
is_restarting(void)
{
    return access(PVE_RESTART_FLAG, F_OK) == 0;
}

static gboolean
try_connect(PveIpcClient *self)
{
    if (self->connection != NULL && self->pid != getpid()) {
        self->connection = NULL;
    }
    if (self->connection == NULL) {
        errno = 0;
        self->connection =
            qb_ipcc_connect(PVE_IPC_SERVICE, PVE_IPC_MAX_MESSAGE);
        self->pid = getpid();
    }
    return self->connection != NULL;
}

static gboolean
fail_connect(GError **error)
{
    g_set_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_CONNECT,
                "the cluster filesystem does not answer: %s; is pmxcfs "
                "running?",
                g_strerror(errno));
    return FALSE;
}

static gboolean
connect_patiently(PveIpcClient *self, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + GRACE_MS * 1000;
    int problem;

    while (!try_connect(self)) {
        problem = errno;
        if (!is_restarting()) {
            errno = problem;
            return fail_connect(error);
        }
        if (g_get_monotonic_time() > end_us) {
            (void)unlink(PVE_RESTART_FLAG);
            errno = problem;
            return fail_connect(error);
        }
        g_usleep(RETRY_MS * 1000);
    }
    return TRUE;
}

/* --- calls --- */

/* Returns the size of the answer in the buffer, or a negative errno. */
static ssize_t
exchange(PveIpcClient *self, gint32 id, gconstpointer payload, gsize size)
{
    struct qb_ipc_request_header header = {
        .id = id, .size = (gint32)(PVE_IPC_REQUEST_HEADER + size)};
    struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = PVE_IPC_REQUEST_HEADER},
        {.iov_base = (gpointer)payload, .iov_len = size}};

    return qb_ipcc_sendv_recv(self->connection, parts, size > 0 ? 2 : 1,
                              self->buffer, PVE_IPC_MAX_MESSAGE, -1);
}

static ssize_t
exchange_or_again(PveIpcClient *self,
                  gint32 id,
                  gconstpointer payload,
                  gsize size,
                  GError **error)
{
    ssize_t n = -ENOTCONN;

    if (size > PVE_IPC_MAX_MESSAGE - PVE_IPC_REQUEST_HEADER) {
        n = -EMSGSIZE;
    }
    for (guint i = 0; i < 2 && n < 0 && n != -EMSGSIZE; i++) {
        if (!connect_patiently(self, error)) {
            return -1;
        }
        n = exchange(self, id, payload, size);
        if (n < 0 && n != -EMSGSIZE) {
            disconnect(self);
        }
    }
    if (n < 0) {
        g_set_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_CONNECT,
                    "operation %d on the cluster filesystem's socket: %s", id,
                    g_strerror((int)-n));
    }
    return n;
}

/* Returns 0, or the daemon's errno with @error set. */
static int
check_answer(const struct qb_ipc_response_header *header,
             gint32 id,
             ssize_t size,
             GError **error)
{
    if (size < (ssize_t)PVE_IPC_ANSWER_HEADER || header->size != size ||
        header->id != id || header->error > 0) {
        g_set_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_MALFORMED,
                    "operation %d on the cluster filesystem's socket: the "
                    "answer is malformed",
                    id);
        return EPROTO;
    }
    if (header->error != 0) {
        g_set_error(error, PVE_IPC_ERROR,
                    header->error == -ECHRNG ? PVE_IPC_ERROR_UNSUPPORTED
                                             : PVE_IPC_ERROR_REFUSED,
                    "operation %d on the cluster filesystem's socket: %s", id,
                    g_strerror(-header->error));
    }
    return -header->error;
}

GBytes *
pve_ipc_call(PveIpcClient *self,
             PveIpcOperation operation,
             gconstpointer payload,
             gsize size,
             int *verdict,
             GError **error)
{
    gint32 id = (gint32)operation;
    ssize_t n = exchange_or_again(self, id, payload, size, error);
    struct qb_ipc_response_header header;
    int refusal;

    if (verdict != NULL) {
        *verdict = 0;
    }
    if (n < 0) {
        return NULL;
    }
    memcpy(&header, self->buffer, sizeof(header));
    refusal = check_answer(&header, id, n, error);
    if (refusal != 0) {
        if (verdict != NULL) {
            *verdict = refusal;
        }
        return NULL;
    }
    return g_bytes_new(self->buffer + PVE_IPC_ANSWER_HEADER,
                       (gsize)n - PVE_IPC_ANSWER_HEADER);
}

GBytes *
pve_ipc_read_file(PveIpcClient *self, const char *path, GError **error)
{
    GBytes *content = pve_ipc_call(self, PVE_IPC_GET_CONFIG, path,
                                   strlen(path) + 1, NULL, error);

    if (content == NULL) {
        g_prefix_error(error, "read %s: ", path);
    }
    return content;
}

gboolean
pve_ipc_sync(PveIpcClient *self, PveSyncLevel *level, GError **error)
{
    g_autoptr(GBytes) answer =
        pve_ipc_call(self, PVE_IPC_SYNC, NULL, 0, NULL, error);
    PveReader reader;

    if (answer == NULL) {
        return FALSE;
    }
    pve_reader_init_bytes(&reader, answer);
    *level = (PveSyncLevel)pve_reader_u32(&reader);
    return TRUE;
}

/* --- events --- */

struct PveIpcEvents {
    PveIpcClient *client;
    guint32 kinds;
    char **prefixes;
    PveIpcEventFunc callback;
    gpointer data;
    guint64 instance; /* 0: never subscribed */
    guint64 sequence;
    GMainContext *context;
    GSource *incoming; /* NULL: not connected */
    GSource *timer;
};

static void start(PveIpcEvents *self, guint delay_ms);

static void
clear_source(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void
break_off(PveIpcEvents *self, const GError *error)
{
    clear_source(&self->incoming);
    disconnect(self->client);
    self->callback(self->data, NULL, error);
    start(self, g_error_matches(error, PVE_IPC_ERROR, PVE_IPC_ERROR_UNSUPPORTED)
                    ? UNSUPPORTED_MS
                : is_restarting() ? RETRY_MS
                                  : RECONNECT_MS);
}

static gboolean
deliver(PveIpcEvents *self, const guint8 *bytes, gsize size)
{
    gsize offset = PVE_IPC_ANSWER_HEADER;

    while (offset < size) {
        PveEvent event;

        if (!pve_event_parse(bytes, size, &offset, &event)) {
            return FALSE;
        }
        self->sequence = event.sequence;
        if (event.kind < PVE_EVENT_N_KINDS) {
            self->callback(self->data, &event, NULL);
        }
    }
    return TRUE;
}

/* Returns what libqb says: negative when there is nothing more. */
static ssize_t
receive(PveIpcEvents *self)
{
    PveIpcClient *client = self->client;
    ssize_t n = qb_ipcc_event_recv(client->connection, client->buffer,
                                   PVE_IPC_MAX_MESSAGE, 0);

    if (n >= 0 && (n < (ssize_t)PVE_IPC_ANSWER_HEADER ||
                   !deliver(self, client->buffer, (gsize)n))) {
        return -EPROTO;
    }
    return n;
}

static gboolean
look(PveIpcEvents *self)
{
    g_autoptr(GError) error = NULL;
    ssize_t n = 0;

    for (guint i = 0; i < MESSAGES_PER_TURN && n >= 0; i++) {
        n = receive(self);
    }
    if (n >= 0 || n == -EAGAIN || n == -ETIMEDOUT) {
        return G_SOURCE_CONTINUE;
    }
    g_set_error(&error, PVE_IPC_ERROR, PVE_IPC_ERROR_CONNECT,
                "the cluster filesystem's events ended: %s",
                g_strerror((int)-n));
    break_off(self, error);
    return G_SOURCE_REMOVE;
}

static gboolean
on_incoming(int fd, GIOCondition condition, gpointer data)
{
    return look(data);
}

static gboolean
on_alive(gpointer data)
{
    return look(data);
}

static void
set_timer(PveIpcEvents *self, guint delay_ms, GSourceFunc function)
{
    clear_source(&self->timer);
    self->timer = g_timeout_source_new(delay_ms);
    g_source_set_callback(self->timer, function, self, NULL);
    (void)g_source_attach(self->timer, self->context);
}

static GBytes *
subscribe(PveIpcEvents *self, GError **error)
{
    g_autoptr(GByteArray) request = g_byte_array_new();
    guint n = g_strv_length(self->prefixes);

    pve_write_u32(request, self->kinds);
    pve_write_u64(request, self->instance);
    pve_write_u64(request, self->sequence);
    pve_write_u16(request, (guint16)n);
    for (guint i = 0; i < n; i++) {
        pve_write_string(request, self->prefixes[i]);
    }
    return pve_ipc_call(self->client, PVE_IPC_SUBSCRIBE, request->data,
                        request->len, NULL, error);
}

/* What was missed is not known: look at everything. */
static void
deliver_lost(PveIpcEvents *self, guint64 version)
{
    const PveEvent lost = {
        .kind = PVE_EVENT_LOST, .version = version, .path = "", .other = ""};

    self->callback(self->data, &lost, NULL);
}

static void
begin(PveIpcEvents *self, GBytes *answer)
{
    PveReader reader;
    guint64 version;
    guint32 flags;
    int fd = -1;

    pve_reader_init_bytes(&reader, answer);
    self->instance = pve_reader_u64(&reader);
    self->sequence = pve_reader_u64(&reader);
    version = pve_reader_u64(&reader);
    flags = pve_reader_u32(&reader);
    (void)qb_ipcc_fd_get(self->client->connection, &fd);
    self->incoming = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(self->incoming, G_SOURCE_FUNC(on_incoming), self,
                          NULL);
    (void)g_source_attach(self->incoming, self->context);
    set_timer(self, ALIVE_MS, on_alive);
    if ((flags & PVE_SUBSCRIBE_CONTINUED) == 0) {
        deliver_lost(self, version);
    }
}

static gboolean
on_start(gpointer data)
{
    PveIpcEvents *self = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) answer = NULL;

    if (!try_connect(self->client)) {
        (void)fail_connect(&error);
    } else {
        answer = subscribe(self, &error);
    }
    if (answer != NULL) {
        begin(self, answer);
    } else {
        break_off(self, error);
    }
    return G_SOURCE_REMOVE; /* there is another one by now */
}

static void
start(PveIpcEvents *self, guint delay_ms)
{
    set_timer(self, delay_ms, on_start);
}

PveIpcEvents *
pve_ipc_events_new(guint32 kinds,
                   const char *const *prefixes,
                   PveIpcEventFunc callback,
                   gpointer data)
{
    static const char *const everything[] = {"", NULL};
    PveIpcEvents *self = g_new0(PveIpcEvents, 1);

    self->client = pve_ipc_client_new();
    self->kinds = kinds;
    self->prefixes =
        g_strdupv((char **)(prefixes != NULL ? prefixes : everything));
    self->callback = callback;
    self->data = data;
    self->context = g_main_context_ref_thread_default();
    start(self, 0);
    return self;
}

void
pve_ipc_events_free(PveIpcEvents *self)
{
    if (self == NULL) {
        return;
    }
    clear_source(&self->incoming);
    clear_source(&self->timer);
    pve_ipc_client_free(self->client);
    g_main_context_unref(self->context);
    g_strfreev(self->prefixes);
    g_free(self);
}
