#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/notifier.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/files.h"
#include "common/sources.h"
#include "pmxcfs/io/notifier-private.h"
#include "pmxcfs/io/priorities.h"

#define REPORTS_PER_TURN 64
/* One that dies sooner is not replaced at once. */
#define SHORT_LIFE_US (5 * G_USEC_PER_SEC)
#define RETRY_S 1

typedef struct {
    CfsNotifierOrder order;
    GBytes *message;
} Unsent;

struct CfsNotifier {
    CfsNotifierHandler handler;
    int fuse;
    int mount;
    int channel; /* -1: no helper */
    GPid pid;
    guint child_watch;
    guint readable;
    guint writable; /* 0: nothing waits */
    guint retry;
    gint64 started_us;
    GQueue unsent; /* of Unsent */
};

static void start(CfsNotifier *self);

static void
unsent_free(gpointer data)
{
    Unsent *self = data;

    g_bytes_unref(self->message);
    g_free(self);
}

static gboolean
on_retry(gpointer data)
{
    CfsNotifier *self = data;

    self->retry = 0;
    start(self);
    return G_SOURCE_REMOVE;
}

static void
forget_helper(CfsNotifier *self)
{
    g_clear_handle_id(&self->readable, g_source_remove);
    g_clear_handle_id(&self->writable, g_source_remove);
    g_queue_clear_full(&self->unsent, unsent_free);
    pve_autofd_clear(&self->channel);
    self->channel = -1;
}

/* Its threads may be asleep in the kernel for long after it was killed: the
 * channel tells first. */
static void
on_lost(CfsNotifier *self)
{
    gboolean is_short =
        g_get_monotonic_time() - self->started_us < SHORT_LIFE_US;

    if (self->channel < 0) {
        return;
    }
    g_warning("the process that keeps the kernel's caches right is gone: "
              "nothing is cached until another runs");
    forget_helper(self);
    self->handler.running(self->handler.data, FALSE);
    if (is_short) {
        self->retry = g_timeout_add_seconds(RETRY_S, on_retry, self);
    } else {
        start(self);
    }
}

/* Reaping is all there is to do. */
static void
on_ended(GPid pid, gint status, gpointer unused)
{
    g_spawn_close_pid(pid);
}

static gboolean
on_readable(int fd, GIOCondition condition, gpointer data)
{
    CfsNotifier *self = data;
    CfsNotifierReport report;

    for (guint i = 0; i < REPORTS_PER_TURN && self->channel == fd; i++) {
        ssize_t n = recv(fd, &report, sizeof(report), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n != sizeof(report)) {
            self->readable = 0;
            on_lost(self);
            return G_SOURCE_REMOVE;
        }
        self->handler.done(self->handler.data, report.serial,
                           (int)report.verdict);
    }
    return G_SOURCE_CONTINUE;
}

/* FALSE: the channel is full. A broken one shows on the reading side. */
static gboolean
try_send(CfsNotifier *self, const CfsNotifierOrder *order, GBytes *message)
{
    struct iovec parts[] = {
        {.iov_base = (gpointer)order, .iov_len = sizeof(*order)},
        {.iov_base = (gpointer)g_bytes_get_data(message, NULL),
         .iov_len = g_bytes_get_size(message)},
    };
    struct msghdr packet = {.msg_iov = parts,
                            .msg_iovlen = G_N_ELEMENTS(parts)};

    return sendmsg(self->channel, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
           (errno != EAGAIN && errno != EINTR && errno != ENOBUFS);
}

static gboolean
on_writable(int fd, GIOCondition condition, gpointer data)
{
    CfsNotifier *self = data;
    Unsent *first;

    while ((first = g_queue_peek_head(&self->unsent)) != NULL) {
        if (!try_send(self, &first->order, first->message)) {
            return G_SOURCE_CONTINUE;
        }
        unsent_free(g_queue_pop_head(&self->unsent));
    }
    self->writable = 0;
    return G_SOURCE_REMOVE;
}

static guint
watch(CfsNotifier *self, GIOCondition condition, GUnixFDSourceFunc function)
{
    /* Before requests: a report lets answers be cached again. */
    return pve_fd_watch(self->channel, condition, CFS_PRIORITY_STORE, function,
                        self);
}

void
cfs_notifier_send(CfsNotifier *self,
                  guint64 serial,
                  guint64 lane,
                  GBytes *message)
{
    CfsNotifierOrder order = {.serial = serial, .lane = lane};
    Unsent *unsent;

    g_assert(serial != 0 && self->channel >= 0);
    g_assert(g_bytes_get_size(message) <= CFS_NOTIFIER_MAX_MESSAGE);
    if (self->unsent.length == 0 && try_send(self, &order, message)) {
        return;
    }
    unsent = g_new0(Unsent, 1);
    unsent->order = order;
    unsent->message = g_bytes_ref(message);
    g_queue_push_tail(&self->unsent, unsent);
    if (self->writable == 0) {
        self->writable = watch(self, G_IO_OUT, on_writable);
    }
}

void
cfs_notifier_send_now(CfsNotifier *self, gconstpointer message, gsize size)
{
    /* ENOENT: the kernel has forgotten the inode. */
    (void)write(self->fuse, message, size);
}

static gboolean
spawn(CfsNotifier *self, int channel, GError **error)
{
    static const char *const argv[] = {"/proc/self/exe", "pmxcfs-caches",
                                       CFS_NOTIFIER_OPTION, NULL};
    const int ours[] = {channel, self->fuse, self->mount};
    const int theirs[] = {CFS_NOTIFIER_CHANNEL_FD, CFS_NOTIFIER_FUSE_FD,
                          CFS_NOTIFIER_MOUNT_FD};

    return g_spawn_async_with_pipes_and_fds(
        "/", argv, NULL,
        G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_FILE_AND_ARGV_ZERO |
            G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
        NULL, NULL, -1, -1, -1, ours, theirs, G_N_ELEMENTS(ours), &self->pid,
        NULL, NULL, NULL, error);
}

static void
start(CfsNotifier *self)
{
    g_autoptr(GError) error = NULL;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        g_warning("no channel to the process that keeps the kernel's caches "
                  "right: %s",
                  g_strerror(errno));
        self->retry = g_timeout_add_seconds(RETRY_S, on_retry, self);
        return;
    }
    if (!spawn(self, ends[1], &error)) {
        g_warning("nothing is cached: %s", error->message);
        (void)close(ends[0]);
        (void)close(ends[1]);
        self->retry = g_timeout_add_seconds(RETRY_S, on_retry, self);
        return;
    }
    (void)close(ends[1]);
    (void)g_child_watch_add(self->pid, on_ended, NULL);
    self->channel = ends[0];
    self->started_us = g_get_monotonic_time();
    self->readable = watch(self, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable);
    self->handler.running(self->handler.data, TRUE);
}

CfsNotifier *
cfs_notifier_new(int fuse, int mount, const CfsNotifierHandler *handler)
{
    CfsNotifier *self = g_new0(CfsNotifier, 1);

    self->handler = *handler;
    self->fuse = fuse;
    self->mount = mount;
    self->channel = -1;
    start(self);
    return self;
}

void
cfs_notifier_free(CfsNotifier *self)
{
    const CfsNotifierOrder end = {0};
    g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);

    if (self == NULL) {
        return;
    }
    if (self->channel >= 0) {
        (void)try_send(self, &end, nothing);
    }
    g_clear_handle_id(&self->retry, g_source_remove);
    forget_helper(self);
    g_free(self);
}

gboolean
cfs_notifier_is_running(CfsNotifier *self)
{
    return self->channel >= 0;
}
