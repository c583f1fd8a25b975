#define G_LOG_DOMAIN "main"
#include "config.h"

#include "pmxcfs/io/connector.h"

#include <corosync/corotypes.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/files.h"
#include "common/sources.h"
#include "pmxcfs/core/core-error.h"

#define PROBE_MS 100
/* With this file libqb does without abstract sockets (qb_ipcc_connect(3)). */
#define QB_FILE_SOCKETS "/etc/libqb/force-filesystem-sockets"

struct CfsConnector {
    gatomicrefcount refs; /* jobs of the worker hold some */
    const CfsConnectorClass *class;
    gpointer argument;
    CfsConnectorHandler handler;
    guint64 attempt; /* an answer to an older one is nobody's */
    guint timer;     /* of the next probe */
    guint watch;     /* of the descriptor */
    gboolean is_open;
    gboolean was_told; /* that it does not work */
    CfsConnection connection;
};

typedef enum { JOB_OPEN, JOB_CLOSE, JOB_MARK } JobKind;

/* What the worker does, and its answer. */
typedef struct {
    JobKind kind;
    CfsConnector *connector; /* owned reference; NULL for a mark */
    guint64 attempt;
    CfsConnection connection;
    GError *error;
    GMainContext *context;
    struct Mark *mark;
} Job;

/* Shared by the waiter, which may lose patience, and the worker. */
typedef struct Mark {
    gatomicrefcount refs;
    GMutex mutex;
    GCond cond;
    gboolean is_done;
} Mark;

gboolean
cfs_connector_fail(GError **error, const char *what, int code)
{
    g_set_error(
        error, CFS_ERROR, CFS_ERROR_GROUP, "%s failed: error %d%s", what, code,
        code == CS_ERR_LIBRARY ? " (failed to connect to corosync)" : "");
    return FALSE;
}

static CfsConnector *
connector_ref(CfsConnector *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

static void
connector_unref(CfsConnector *self)
{
    if (g_atomic_ref_count_dec(&self->refs)) {
        g_free(self);
    }
}

static void
mark_unref(Mark *mark)
{
    if (g_atomic_ref_count_dec(&mark->refs)) {
        g_mutex_clear(&mark->mutex);
        g_cond_clear(&mark->cond);
        g_free(mark);
    }
}

static void
job_free(gpointer data)
{
    Job *job = data;

    g_clear_error(&job->error);
    g_clear_pointer(&job->connector, connector_unref);
    g_clear_pointer(&job->context, g_main_context_unref);
    g_clear_pointer(&job->mark, mark_unref);
    g_free(job);
}

/* The worker -------------------------------------------------------------- */

static gboolean on_opened(gpointer data);

static void
send_answer(Job *job)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, job->connector->class->priority);
    g_source_set_callback(source, on_opened, job, job_free);
    (void)g_source_attach(source, job->context);
    g_source_unref(source);
}

static void
run_job(gpointer data, gpointer unused)
{
    Job *job = data;

    switch (job->kind) {
    case JOB_OPEN:
        (void)job->connector->class->open(job->connector->argument,
                                          &job->connection, &job->error);
        send_answer(job);
        return;
    case JOB_CLOSE:
        job->connector->class->close(&job->connection);
        break;
    case JOB_MARK:
        g_mutex_lock(&job->mark->mutex);
        job->mark->is_done = TRUE;
        g_cond_signal(&job->mark->cond);
        g_mutex_unlock(&job->mark->mutex);
        break;
    }
    job_free(job);
}

/* One thread for all connectors, made when it is first needed and never
 * ended: it may hang in a call. */
static void
push_job(Job *job)
{
    static GThreadPool *pool;

    if (pool == NULL) {
        pool = g_thread_pool_new(run_job, NULL, 1, TRUE, NULL);
    }
    (void)g_thread_pool_push(pool, job, NULL);
}

static Job *
job_new(CfsConnector *self, JobKind kind)
{
    Job *job = g_new0(Job, 1);

    job->kind = kind;
    if (self != NULL) {
        job->connector = connector_ref(self);
        job->attempt = self->attempt;
    }
    job->context = g_main_context_ref_thread_default();
    return job;
}

static void
push_close(CfsConnector *self, const CfsConnection *connection)
{
    Job *job = job_new(self, JOB_CLOSE);

    job->connection = *connection;
    push_job(job);
}

/* The loop ---------------------------------------------------------------- */

/* Is anybody listening? Connecting here costs corosync next to nothing, and
 * unlike the library's call it never waits. */
static gboolean
has_service(const char *name)
{
    PVE_AUTOFD(fd) =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (access(QB_FILE_SOCKETS, F_OK) == 0) {
        return TRUE; /* it can be in several places: let the library look */
    }
    g_assert(strlen(name) < sizeof(address.sun_path) - 1);
    /* An abstract name: a NUL, the name, NULs to the end. */
    memcpy(address.sun_path + 1, name, strlen(name));
    return fd >= 0 &&
           (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
            errno == EAGAIN);
}

static gboolean
on_probe(gpointer data)
{
    CfsConnector *self = data;

    if (!has_service(self->class->socket_name)) {
        if (!self->was_told) {
            self->was_told = TRUE;
            g_message("corosync's service '%s' is not there yet: waiting",
                      self->class->socket_name);
        }
        return G_SOURCE_CONTINUE;
    }
    self->timer = 0;
    push_job(job_new(self, JOB_OPEN));
    return G_SOURCE_REMOVE;
}

static gboolean
on_first_probe(gpointer data)
{
    CfsConnector *self = data;

    self->timer = 0;
    if (on_probe(self)) {
        self->timer = g_timeout_add(PROBE_MS, on_probe, self);
    }
    return G_SOURCE_REMOVE;
}

static gboolean
on_readable(int fd, GIOCondition condition, gpointer data)
{
    CfsConnector *self = data;

    self->handler.on_ready(self->handler.data,
                           (condition & (G_IO_HUP | G_IO_ERR | G_IO_NVAL)) !=
                               0);
    return G_SOURCE_CONTINUE;
}

static void
take_connection(CfsConnector *self, const CfsConnection *connection)
{
    self->connection = *connection;
    self->is_open = TRUE;
    self->was_told = FALSE;
    self->watch =
        pve_fd_watch(connection->fd, G_IO_IN | G_IO_HUP | G_IO_ERR | G_IO_NVAL,
                     self->class->priority, on_readable, self);
    self->handler.on_open(self->handler.data, connection);
}

/* The worker's answer. */
static gboolean
on_opened(gpointer data)
{
    Job *job = data;
    CfsConnector *self = job->connector;

    if (job->attempt != self->attempt) {
        if (job->error == NULL) {
            if (self->class->free_content != NULL) {
                self->class->free_content(job->connection.content);
            }
            push_close(self, &job->connection);
        }
    } else if (job->error == NULL) {
        take_connection(self, &job->connection);
    } else {
        if (!self->was_told) {
            self->was_told = TRUE;
            g_warning("corosync's service '%s': %s; trying again",
                      self->class->socket_name, job->error->message);
        }
        self->timer = g_timeout_add(PROBE_MS, on_probe, self);
    }
    return G_SOURCE_REMOVE;
}

void
cfs_connector_open(CfsConnector *self, guint delay_ms)
{
    g_assert(!self->is_open && self->timer == 0);
    self->attempt++;
    self->timer = g_timeout_add(delay_ms, on_first_probe, self);
}

void
cfs_connector_close(CfsConnector *self)
{
    self->attempt++;
    g_clear_handle_id(&self->timer, g_source_remove);
    g_clear_handle_id(&self->watch, g_source_remove);
    if (self->is_open) {
        self->is_open = FALSE;
        push_close(self, &self->connection);
    }
}

static void
wait_for_worker(guint patience_ms)
{
    gint64 until = g_get_monotonic_time() + (gint64)patience_ms * 1000;
    Mark *mark = g_new0(Mark, 1);
    Job *job = job_new(NULL, JOB_MARK);

    g_atomic_ref_count_init(&mark->refs);
    g_mutex_init(&mark->mutex);
    g_cond_init(&mark->cond);
    g_atomic_ref_count_inc(&mark->refs);
    job->mark = mark;
    push_job(job);
    g_mutex_lock(&mark->mutex);
    while (!mark->is_done &&
           g_cond_wait_until(&mark->cond, &mark->mutex, until)) {
    }
    g_mutex_unlock(&mark->mutex);
    mark_unref(mark);
}

CfsConnector *
cfs_connector_new(const CfsConnectorClass *class,
                  gpointer argument,
                  const CfsConnectorHandler *handler)
{
    CfsConnector *self = g_new0(CfsConnector, 1);

    g_atomic_ref_count_init(&self->refs);
    self->class = class;
    self->argument = argument;
    self->handler = *handler;
    return self;
}

void
cfs_connector_free(CfsConnector *self, guint patience_ms)
{
    cfs_connector_close(self);
    if (patience_ms > 0) {
        wait_for_worker(patience_ms);
    }
    connector_unref(self);
}
