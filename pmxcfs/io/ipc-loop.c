#define G_LOG_DOMAIN "ipcs"
#include "config.h"

#include "pmxcfs/io/ipc-loop.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/ipc-proto.h"
#include "pmxcfs/io/priorities.h"

#define GREETING_MS 5000
#define MAX_STRANGERS 16u
/* What is not for clients: database, mount, corosync, helpers. */
#define SPARE_FDS 128u
#define FDS_PER_CLIENT 3u
#define MAX_FDS 16384u
#define RESUME_MS 100
/* What a client may ask for: libqb gives each a buffer of that size. */
#define MAX_ASKED (4 * PVE_IPC_MAX_MESSAGE)

typedef enum { LISTENER, GREETING, CHANNEL, LIFELINE } Kind;

typedef struct {
    GSource source; /* first: it is one */
    Kind kind;
    int fd;
    gpointer tag;
    GIOCondition events;
    gboolean is_stranger;
    gpointer data; /* libqb's; the connection, of channel and lifeline */
    qb_ipcs_dispatch_fn_t function;
} Watch;

/* libqb's functions have no pointer for us. */
static struct {
    gboolean is_running;
    CfsIpcLoopHandler handler;
    GHashTable *watches; /* fd -> Watch, referenced */
    Watch *dispatching;
    guint n_strangers;
    guint max_watches;
    guint resume; /* timer: the listener sleeps */
} loop;

static Watch *
find(int fd)
{
    return loop.watches != NULL
               ? g_hash_table_lookup(loop.watches, GINT_TO_POINTER(fd))
               : NULL;
}

static void
set_events(Watch *watch, GIOCondition events)
{
    g_source_modify_unix_fd(&watch->source, watch->tag, events);
}

/* --- the source --- */

/* There may be no descriptor for one more: clients wait in the backlog. */
static gboolean
is_full(void)
{
    return g_hash_table_size(loop.watches) >= loop.max_watches;
}

static gboolean
on_resume(gpointer data)
{
    Watch *listener = data;

    if (is_full()) {
        return G_SOURCE_CONTINUE;
    }
    loop.resume = 0;
    set_events(listener, listener->events);
    return G_SOURCE_REMOVE;
}

static gboolean
may_accept(Watch *listener)
{
    if (!is_full()) {
        return TRUE;
    }
    if (loop.resume == 0) {
        g_warning("too many local clients, new ones have to wait");
        set_events(listener, 0);
        loop.resume = g_timeout_add(RESUME_MS, on_resume, listener);
    }
    return FALSE;
}

/* libqb allocates what a greeting asks for. It is sent in one piece. */
static gboolean
is_greeting_sane(Watch *watch)
{
    struct {
        struct qb_ipc_request_header header;
        guint32 max_size;
    } __attribute__((aligned(8))) greeting;
    ssize_t n = recv(watch->fd, &greeting, sizeof(greeting),
                     MSG_PEEK | MSG_DONTWAIT | MSG_NOSIGNAL);

    return n <= 0 || (n == sizeof(greeting) && greeting.max_size <= MAX_ASKED);
}

/* That a client is gone is seen at its lifeline. */
static void
clear_error(int fd)
{
    int value;
    socklen_t size = sizeof(value);

    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size);
}

/* Whether libqb shall see what is there. */
static gboolean
is_welcome(Watch *watch, GIOCondition *ready)
{
    switch (watch->kind) {
    case LISTENER:
        return may_accept(watch);
    case GREETING:
        if (*ready == 0 || !is_greeting_sane(watch)) {
            (void)shutdown(watch->fd, SHUT_RDWR);
            *ready = G_IO_HUP;
        }
        return TRUE;
    case CHANNEL:
        if ((*ready & (G_IO_IN | G_IO_OUT)) == 0) {
            clear_error(watch->fd);
            return FALSE;
        }
        if ((*ready & G_IO_OUT) != 0) {
            loop.handler.on_writable(watch->data, watch->fd);
            return FALSE;
        }
        return loop.handler.on_datagram(watch->data, watch->fd);
    case LIFELINE:
        return TRUE;
    }
    return FALSE;
}

static gboolean
on_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    Watch *watch = (Watch *)source;
    GIOCondition ready = g_source_query_unix_fd(source, watch->tag);
    Watch *outer = loop.dispatching;

    g_source_ref(source);
    if (watch->kind == GREETING) {
        g_source_set_ready_time(source, -1);
    }
    /* libqb does not know this one: it means the same to it. */
    if ((ready & G_IO_ERR) != 0 && watch->kind != CHANNEL) {
        ready |= G_IO_HUP;
    }
    if (is_welcome(watch, &ready)) {
        loop.dispatching = watch;
        if (watch->function(watch->fd, (int32_t)ready, watch->data) < 0 &&
            find(watch->fd) == watch) {
            (void)g_hash_table_remove(loop.watches, GINT_TO_POINTER(watch->fd));
        }
        loop.dispatching = outer;
    }
    g_source_unref(source);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_class = {.dispatch = on_dispatch};

/* --- libqb's side --- */

static Kind
kind_of(int fd)
{
    int value = 0;
    socklen_t size = sizeof(value);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 &&
        value == SOCK_DGRAM) {
        return CHANNEL;
    }
    if (loop.dispatching == NULL) {
        return LISTENER;
    }
    return loop.dispatching->kind == LISTENER ? GREETING : LIFELINE;
}

static gboolean
is_stranger(int fd)
{
    struct ucred peer = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t size = sizeof(peer);

    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer.uid != 0 && peer.gid != loop.handler.group;
}

static void
watch_free(gpointer data)
{
    Watch *watch = data;

    if (watch->is_stranger) {
        loop.n_strangers--;
    }
    g_source_destroy(&watch->source);
    g_source_unref(&watch->source);
}

static int32_t
dispatch_add(enum qb_loop_priority priority,
             int32_t fd,
             int32_t events,
             void *data,
             qb_ipcs_dispatch_fn_t function)
{
    Kind kind = kind_of(fd);
    gboolean stranger = kind == GREETING && is_stranger(fd);
    Watch *watch;

    if (stranger && loop.n_strangers >= MAX_STRANGERS) {
        return -EMFILE;
    }
    watch = (Watch *)g_source_new(&source_class, sizeof(*watch));
    watch->kind = kind;
    watch->fd = fd;
    watch->is_stranger = stranger;
    watch->data = data;
    watch->function = function;
    watch->events = (GIOCondition)(events & (POLLIN | POLLPRI | POLLOUT)) |
                    G_IO_HUP | G_IO_ERR;
    if (stranger) {
        loop.n_strangers++;
    }
    if (kind == GREETING) {
        g_source_set_ready_time(&watch->source,
                                g_get_monotonic_time() + GREETING_MS * 1000);
    }
    watch->tag = g_source_add_unix_fd(&watch->source, fd, watch->events);
    g_source_set_priority(&watch->source, CFS_PRIORITY_IPC);
    /* It does not; saves three system calls each time. */
    g_source_set_can_recurse(&watch->source, TRUE);
    (void)g_source_attach(&watch->source, NULL);
    g_hash_table_replace(loop.watches, GINT_TO_POINTER(fd), watch);
    return 0;
}

static int32_t
dispatch_mod(enum qb_loop_priority priority,
             int32_t fd,
             int32_t events,
             void *data,
             qb_ipcs_dispatch_fn_t function)
{
    Watch *watch = find(fd);

    if (watch == NULL) {
        return -ENOENT;
    }
    watch->data = data;
    watch->function = function;
    watch->events = (GIOCondition)(events & (POLLIN | POLLPRI | POLLOUT)) |
                    G_IO_HUP | G_IO_ERR;
    set_events(watch, watch->events);
    return 0;
}

static int32_t
dispatch_del(int32_t fd)
{
    return loop.watches != NULL &&
                   g_hash_table_remove(loop.watches, GINT_TO_POINTER(fd))
               ? 0
               : -ENOENT;
}

struct qb_ipcs_poll_handlers cfs_ipc_loop_handlers = {
    .dispatch_add = dispatch_add,
    .dispatch_mod = dispatch_mod,
    .dispatch_del = dispatch_del,
};

/* --- ours --- */

/* As many descriptors as we may have; the usual soft limit is for programs
 * that select(2). */
static guint
raise_limit(void)
{
    struct rlimit limit = {.rlim_cur = 1024};
    rlim_t had;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return (guint)limit.rlim_cur;
    }
    had = limit.rlim_cur;
    limit.rlim_cur = MAX(had, MIN(limit.rlim_max, MAX_FDS));
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        limit.rlim_cur = had;
    }
    return (guint)MIN(limit.rlim_cur, MAX_FDS);
}

void
cfs_ipc_loop_start(const CfsIpcLoopHandler *handler)
{
    guint max_fds = raise_limit();

    g_assert(!loop.is_running);
    loop.is_running = TRUE;
    loop.handler = *handler;
    loop.watches = g_hash_table_new_full(NULL, NULL, NULL, watch_free);
    /* Two of three descriptors of a client are watched. */
    loop.max_watches =
        (MAX(max_fds, 2 * SPARE_FDS) - SPARE_FDS) / FDS_PER_CLIENT * 2;
}

void
cfs_ipc_loop_stop(void)
{
    GHashTableIter iter;
    gpointer value;

    g_assert(loop.is_running);
    g_clear_handle_id(&loop.resume, g_source_remove);
    /* Who has not yet said hello is not libqb's connection. */
    g_hash_table_iter_init(&iter, loop.watches);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Watch *watch = value;

        if (watch->kind == GREETING) {
            g_source_ref(&watch->source);
            (void)shutdown(watch->fd, SHUT_RDWR);
            (void)watch->function(watch->fd, POLLHUP, watch->data);
            g_source_unref(&watch->source);
            g_hash_table_iter_init(&iter, loop.watches);
        }
    }
    g_clear_pointer(&loop.watches, g_hash_table_unref);
    loop.is_running = FALSE;
}

int
cfs_ipc_loop_channel(gpointer connection)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, loop.watches);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Watch *watch = value;

        if (watch->kind == CHANNEL && watch->data == connection) {
            return watch->fd;
        }
    }
    return -1;
}

void
cfs_ipc_loop_pause(int fd, gboolean is_paused)
{
    Watch *watch = find(fd);

    if (watch != NULL) {
        set_events(watch, is_paused ? G_IO_OUT | G_IO_ERR : watch->events);
    }
}
