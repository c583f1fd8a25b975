#include "config.h"

#include "pmxcfs/io/ipc-channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/ipc-proto.h"
#include "pmxcfs/io/ipc-loop.h"

/* The kernel counts what it needs beside the bytes, too. */
#define ANSWER_BUFFER (PVE_IPC_MAX_MESSAGE + 65536)
/* What a watcher that does not read may cost us. */
#define EVENT_BUFFER 131072
/* libqb makes the socket of events right after that of requests: it has the
 * next number that was free. */
#define NEARBY_FDS 16384

struct CfsIpcChannel {
    qb_ipcs_connection_t *connection;
    int fd;        /* requests and answers; -1: shared memory */
    int events_fd; /* -1: not opened */
    gboolean is_connected;
};

CfsIpcChannel *
cfs_ipc_channel_new(qb_ipcs_connection_t *connection)
{
    CfsIpcChannel *self = g_new0(CfsIpcChannel, 1);

    self->connection = connection;
    self->fd = cfs_ipc_loop_channel(connection);
    self->events_fd = -1;
    return self;
}

void
cfs_ipc_channel_free(CfsIpcChannel *self)
{
    g_free(self);
}

/* libqb's names are BASE-request, BASE-response, BASE-event-tx, BASE-event.
 * TRUE: @fd is bound to BASE-@from; @address becomes BASE-@to. */
static gboolean
sibling(int fd, const char *from, const char *to, struct sockaddr_un *address)
{
    socklen_t size = sizeof(*address);
    char *name = address->sun_path + 1; /* abstract */
    gsize length, cut = strlen(from);

    memset(address, 0, sizeof(*address));
    if (getsockname(fd, (struct sockaddr *)address, &size) < 0 ||
        address->sun_family != AF_UNIX || address->sun_path[0] != '\0') {
        return FALSE;
    }
    length = strnlen(name, sizeof(address->sun_path) - 1);
    if (length < cut || memcmp(name + length - cut, from, cut) != 0 ||
        length - cut + strlen(to) >= sizeof(address->sun_path) - 1) {
        return FALSE;
    }
    memset(name + length - cut, 0, cut);
    memcpy(name + length - cut, to, strlen(to));
    return TRUE;
}

static int
connect_to(int fd, const struct sockaddr_un *address, int buffer)
{
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) <
        0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    }
    return 0;
}

static int
connect_answers(CfsIpcChannel *self)
{
    struct sockaddr_un address;
    int result;

    if (self->is_connected) {
        return 0;
    }
    if (!sibling(self->fd, "-request", "-response", &address)) {
        return -ENOTCONN;
    }
    result = connect_to(self->fd, &address, ANSWER_BUFFER);
    self->is_connected = result == 0;
    return result;
}

/* --- sending --- */

typedef struct {
    struct qb_ipc_response_header header;
    struct iovec parts[2];
    gsize size;
} Message;

static void
message_init(
    Message *self, gint32 id, gint32 error, gconstpointer payload, gsize size)
{
    memset(self, 0, sizeof(*self));
    self->size = PVE_IPC_ANSWER_HEADER + size;
    self->header.id = id;
    self->header.size = (gint32)self->size;
    self->header.error = error;
    self->parts[0].iov_base = &self->header;
    self->parts[0].iov_len = PVE_IPC_ANSWER_HEADER;
    self->parts[1].iov_base = (gpointer)payload;
    self->parts[1].iov_len = size;
}

static int
send_message(int fd, Message *message)
{
    const struct msghdr header = {.msg_iov = message->parts,
                                  .msg_iovlen =
                                      message->parts[1].iov_len > 0 ? 2 : 1};
    ssize_t n;

    do {
        n = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        return 0;
    }
    return errno == ENOBUFS ? -EAGAIN : -errno;
}

static int
result_of(ssize_t sent)
{
    if (sent >= 0) {
        return 0;
    }
    return sent == -ETIMEDOUT || sent == -ENOBUFS ? -EAGAIN : (int)sent;
}

int
cfs_ipc_channel_answer(CfsIpcChannel *self,
                       gint32 id,
                       gint32 error,
                       GBytes *payload)
{
    Message message;
    gconstpointer bytes = NULL;
    gsize size = 0;
    int result;

    if (payload != NULL) {
        bytes = g_bytes_get_data(payload, &size);
    }
    message_init(&message, id, error, bytes, size);
    if (self->fd < 0) {
        return result_of(qb_ipcs_response_sendv(self->connection, message.parts,
                                                size > 0 ? 2 : 1));
    }
    result = connect_answers(self);
    return result == 0 ? send_message(self->fd, &message) : result;
}

/* --- events --- */

/* Returns: (borrowed) libqb's, bound to the name that events come from. */
static int
find_events_fd(const struct sockaddr_un *source, int fd)
{
    struct sockaddr_un address;

    for (int i = fd + 1; i <= fd + NEARBY_FDS; i++) {
        socklen_t size = sizeof(address);

        memset(&address, 0, sizeof(address));
        if (getsockname(i, (struct sockaddr *)&address, &size) == 0 &&
            memcmp(&address, source, sizeof(address)) == 0) {
            return i;
        }
    }
    return -1;
}

int
cfs_ipc_channel_open_events(CfsIpcChannel *self)
{
    struct sockaddr_un source, target;
    int fd, result;

    if (self->fd < 0 || self->events_fd >= 0) {
        return 0;
    }
    if (!sibling(self->fd, "-request", "-event-tx", &source) ||
        !sibling(self->fd, "-request", "-event", &target)) {
        return -ENOTCONN;
    }
    fd = find_events_fd(&source, self->fd);
    if (fd < 0) {
        return -ENOTSUP;
    }
    result = connect_to(fd, &target, EVENT_BUFFER);
    if (result == 0) {
        self->events_fd = fd;
    }
    return result;
}

int
cfs_ipc_channel_event(CfsIpcChannel *self,
                      gint32 id,
                      gconstpointer payload,
                      gsize size)
{
    Message message;

    message_init(&message, id, 0, payload, size);
    if (self->fd < 0) {
        return result_of(qb_ipcs_event_sendv(self->connection, message.parts,
                                             size > 0 ? 2 : 1));
    }
    return send_message(self->events_fd, &message);
}

/* --- pauses --- */

void
cfs_ipc_channel_pause(CfsIpcChannel *self, gboolean is_paused)
{
    if (self->fd >= 0) {
        cfs_ipc_loop_pause(self->fd, is_paused);
    }
}

gboolean
cfs_ipc_channel_tells_room(CfsIpcChannel *self)
{
    return self->fd >= 0;
}
