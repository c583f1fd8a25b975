#include "config.h"

#include "pmxcfs/io/notifier.h"

#include <errno.h>
#include <linux/fuse.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmxcfs/io/notifier-private.h"

/* As many directories may be locked by parked requests before the others have
 * to wait. */
#define MAX_THREADS 64

typedef struct {
    guint64 serial;
    gsize size;
    guint8 message[];
} Job;

typedef struct {
    guint64 id;
    GQueue jobs; /* of Job */
} Lane;

/* A process of one purpose: this is its state. */
static GMutex lock; /* guards @lanes and what is in them */
static GHashTable *lanes;

static void
report(guint64 serial, int verdict)
{
    const CfsNotifierReport answer = {.serial = serial,
                                      .verdict = (guint32)verdict};

    /* When it fails the daemon is gone, and the main thread sees that. */
    (void)send(CFS_NOTIFIER_CHANNEL_FD, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void
carry_out(Job *job)
{
    ssize_t n = write(CFS_NOTIFIER_FUSE_FD, job->message, job->size);

    report(job->serial, n < 0 ? errno : 0);
    g_free(job);
}

/* Of one thread at a time; the lane is gone when it is empty. */
static void
work(gpointer data, gpointer unused)
{
    Lane *lane = data;
    Job *job;

    g_mutex_lock(&lock);
    while ((job = g_queue_pop_head(&lane->jobs)) != NULL) {
        g_mutex_unlock(&lock);
        carry_out(job);
        g_mutex_lock(&lock);
    }
    (void)g_hash_table_remove(lanes, &lane->id);
    g_mutex_unlock(&lock);
}

static void
take(GThreadPool *pool, guint64 id, Job *job)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    Lane *lane = g_hash_table_lookup(lanes, &id);

    if (lane == NULL) {
        lane = g_new0(Lane, 1);
        lane->id = id;
        g_hash_table_insert(lanes, &lane->id, lane);
        g_queue_push_tail(&lane->jobs, job);
        (void)g_thread_pool_push(pool, lane, NULL);
    } else {
        g_queue_push_tail(&lane->jobs, job);
    }
}

/* Answers all requests of the mount with an error: nobody will read them, and
 * our own threads may be waiting for some. Through the descriptor it is this
 * mount, whatever else is at its place by now. What is cached goes first, where
 * the kernel can do that: a dead mount must not look alive. */
static void
abort_mount(void)
{
    const struct fuse_out_header forget = {.len = sizeof(forget),
                                           .error = CFS_NOTIFIER_INC_EPOCH};
    g_autofree char *path =
        g_strdup_printf("/proc/self/fd/%d", CFS_NOTIFIER_MOUNT_FD);

    (void)write(CFS_NOTIFIER_FUSE_FD, &forget, sizeof(forget));
    (void)umount2(path, MNT_FORCE);
}

static void
serve(GThreadPool *pool)
{
    guint8 packet[sizeof(CfsNotifierOrder) + CFS_NOTIFIER_MAX_MESSAGE];
    CfsNotifierOrder order;

    for (;;) {
        ssize_t n = recv(CFS_NOTIFIER_CHANNEL_FD, packet, sizeof(packet), 0);
        gsize size;
        Job *job;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < (ssize_t)sizeof(order)) {
            abort_mount();
            return;
        }
        memcpy(&order, packet, sizeof(order));
        if (order.serial == 0) {
            return;
        }
        size = (gsize)n - sizeof(order);
        job = g_malloc(sizeof(*job) + size);
        job->serial = order.serial;
        job->size = size;
        memcpy(job->message, packet + sizeof(order), size);
        take(pool, order.lane, job);
    }
}

int
cfs_notifier_serve(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    GThreadPool *pool;

    /* Only the daemon's end is ours. */
    for (guint i = 0; i < G_N_ELEMENTS(ignored); i++) {
        (void)signal(ignored[i], SIG_IGN);
    }
    (void)setsid();
    (void)prctl(PR_SET_NAME, "pmxcfs-caches");
    lanes = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    pool = g_thread_pool_new(work, NULL, MAX_THREADS, FALSE, NULL);
    serve(pool);
    _exit(0); /* threads may be asleep in the kernel */
}
