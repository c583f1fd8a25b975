#define G_LOG_DOMAIN "status"
#include "config.h"

#include "pmxcfs/io/rrd.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "pmxcfs/core/rrd-file.h"

#define MAX_WAITING 8192u
#define MAX_IN_FLIGHT 64u
#define MAX_ANSWER 65536u
#define MAX_DIRECTORIES 1024u
#define RECONNECT_US (2 * G_USEC_PER_SEC)
#define COMPLAIN_US (600 * G_USEC_PER_SEC)

/* A command: an update, or the file for it. */
typedef struct {
    CfsRrdUpdate *update;
    gboolean is_create;
    gboolean is_second; /* its file was made just now */
} Command;

typedef struct {
    CfsRrd *owner; /* NULL: it is gone */
    char *directory;
    char *below; /* must be there already */
} Job;

struct CfsRrd {
    const char *socket_path;
    const char *base;
    int fd; /* -1: not connected */
    guint watch;
    gboolean is_writing; /* the watch waits for room, too */
    gint64 next_connect_us;
    gint64 next_directory_us;
    gint64 next_complaint_us;
    GQueue waiting;   /* of Command */
    GQueue in_flight; /* of Command, in the order of their answers */
    GString *out;     /* not yet written */
    GString *in;      /* not yet read to the end of a line */
    guint skip;       /* lines that belong to the answer before */
    GHashTable *made; /* set of directories that are there, or about to */
    GPtrArray *jobs;  /* of Job */
};

static void pump(CfsRrd *self);

static void
command_free(gpointer data)
{
    Command *self = data;

    cfs_rrd_update_free(self->update);
    g_free(self);
}

/* Directories -------------------------------------------------------------- */

static void
job_free(Job *job)
{
    g_free(job->directory);
    g_free(job->below);
    g_free(job);
}

/* In a thread. The base is rrdcached's: without it there is none. */
static void
make_directory(GTask *task,
               gpointer source,
               gpointer data,
               GCancellable *cancellable)
{
    const Job *job = data;
    struct stat st;

    g_task_return_boolean(task,
                          stat(job->below, &st) == 0 && S_ISDIR(st.st_mode) &&
                              g_mkdir_with_parents(job->directory, 0750) == 0);
}

static void
on_directory(GObject *source, GAsyncResult *result, gpointer data)
{
    Job *job = data;
    CfsRrd *self = job->owner;
    gboolean is_made = g_task_propagate_boolean(G_TASK(result), NULL);

    if (self != NULL) {
        (void)g_ptr_array_remove_fast(self->jobs, job);
        if (!is_made) {
            self->next_directory_us = g_get_monotonic_time() + RECONNECT_US;
            g_hash_table_remove(self->made, job->directory);
        }
        pump(self);
    }
    job_free(job);
}

/* Returns: (owned) */
static char *
directory_of(CfsRrd *self, const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);

    return g_build_filename(self->base, parent, NULL);
}

static void
ensure_directory(CfsRrd *self, const char *path)
{
    g_autofree char *directory = directory_of(self, path);
    g_autoptr(GTask) task = NULL;
    Job *job;

    if (g_get_monotonic_time() < self->next_directory_us ||
        g_hash_table_size(self->made) >= MAX_DIRECTORIES ||
        !g_hash_table_add(self->made, g_strdup(directory))) {
        return;
    }
    job = g_new0(Job, 1);
    job->owner = self;
    job->directory = g_steal_pointer(&directory);
    job->below = g_strdup(self->base);
    g_ptr_array_add(self->jobs, job);
    task = g_task_new(NULL, NULL, on_directory, job);
    g_task_set_task_data(task, job, NULL);
    g_task_run_in_thread(task, make_directory);
}

/* The connection ----------------------------------------------------------- */

static void
disconnect(CfsRrd *self)
{
    g_clear_handle_id(&self->watch, g_source_remove);
    if (self->fd >= 0) {
        (void)close(self->fd);
        self->fd = -1;
    }
    self->is_writing = FALSE;
    self->skip = 0;
    g_string_truncate(self->out, 0);
    g_string_truncate(self->in, 0);
    g_queue_clear_full(&self->in_flight, command_free);
}

static void
lose(CfsRrd *self, const char *reason)
{
    g_message("the connection to rrdcached is lost: %s", reason);
    disconnect(self);
}

/* One that has no room for us answers EAGAIN: it is there, later. */
static gboolean
connect_now(CfsRrd *self)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    PVE_AUTOFD(fd) =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_assert(strlen(self->socket_path) < sizeof(address.sun_path));
    strcpy(address.sun_path, self->socket_path);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        return FALSE;
    }
    self->fd = pve_steal_fd(&fd);
    g_message("measurements are kept by rrdcached at %s", self->socket_path);
    return TRUE;
}

static gboolean
is_connected(CfsRrd *self)
{
    gint64 now_us = g_get_monotonic_time();

    if (self->fd >= 0) {
        return TRUE;
    }
    if (now_us < self->next_connect_us) {
        return FALSE;
    }
    self->next_connect_us = now_us + RECONNECT_US;
    return connect_now(self);
}

/* Answers ------------------------------------------------------------------ */

/* Once in a while: a thousand files can have one problem. */
static void
complain(CfsRrd *self, const Command *command, const char *text)
{
    gint64 now_us = g_get_monotonic_time();

    if (now_us >= self->next_complaint_us) {
        self->next_complaint_us = now_us + COMPLAIN_US;
        g_warning("rrdcached: %s: %s", command->update->path, text);
    } else {
        g_debug("rrdcached: %s: %s", command->update->path, text);
    }
}

/* Returns: (owned) a command for the same measurement. */
static Command *
command_again(const Command *from, gboolean is_create)
{
    Command *command = g_new0(Command, 1);

    command->update = g_new0(CfsRrdUpdate, 1);
    command->update->kind = from->update->kind;
    command->update->path = g_strdup(from->update->path);
    command->update->values = g_strdup(from->update->values);
    command->is_create = is_create;
    command->is_second = TRUE;
    return command;
}

/* It may have gone: it is made again. */
static void
forget_directory(CfsRrd *self, const char *path)
{
    g_autofree char *directory = directory_of(self, path);

    g_hash_table_remove(self->made, directory);
}

/* Of several updates that miss the file each makes it; but the first finds it
 * there, and that is no error. */
static void
on_failure(CfsRrd *self, const Command *command, const char *text)
{
    if (!command->is_create && !command->is_second &&
        g_str_has_prefix(text, "No such file")) {
        g_queue_push_head(&self->waiting, command_again(command, FALSE));
        g_queue_push_head(&self->waiting, command_again(command, TRUE));
    } else if (command->is_create && strstr(text, "File exists") == NULL) {
        complain(self, command, text);
        forget_directory(self, command->update->path);
    } else {
        g_debug("rrdcached: %s: %s", command->update->path, text);
    }
}

/* An answer begins with a number: how many lines follow, negative for an
 * error. Some errors have a second line, which does not. */
static void
on_line(CfsRrd *self, const char *line)
{
    Command *command;
    char *text = NULL;
    gint64 number = g_ascii_strtoll(line, &text, 10);

    if (self->skip > 0) {
        self->skip--;
        return;
    }
    if (text == line || self->in_flight.length == 0) {
        return;
    }
    command = g_queue_pop_head(&self->in_flight);
    if (number < 0) {
        on_failure(self, command, text + (*text == ' '));
    } else {
        self->skip = (guint)MIN(number, G_MAXINT32);
    }
    command_free(command);
}

/* FALSE: the connection is lost. */
static gboolean
read_answers(CfsRrd *self)
{
    char buffer[4096], *end;
    ssize_t n = read(self->fd, buffer, sizeof(buffer));

    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return TRUE;
        }
        lose(self, n == 0 ? "it was closed" : g_strerror(errno));
        return FALSE;
    }
    g_string_append_len(self->in, buffer, n);
    while ((end = memchr(self->in->str, '\n', self->in->len)) != NULL) {
        *end = '\0';
        on_line(self, self->in->str);
        g_string_erase(self->in, 0, end + 1 - self->in->str);
    }
    if (self->in->len > MAX_ANSWER) {
        lose(self, "it answers without end");
        return FALSE;
    }
    return TRUE;
}

/* Sending ------------------------------------------------------------------ */

/* Files begin with the day: so do the reference's. */
static gint64
midnight(void)
{
    time_t now = time(NULL);
    struct tm day;

    (void)localtime_r(&now, &day);
    day.tm_hour = day.tm_min = day.tm_sec = 0;
    day.tm_isdst = -1;
    return (gint64)mktime(&day);
}

static void
append_command(CfsRrd *self, const Command *command)
{
    const CfsRrdUpdate *update = command->update;

    if (command->is_create) {
        g_autofree char *definition = cfs_rrd_definition(update->kind);

        g_string_append_printf(
            self->out, "CREATE %s/%s -s %u -b %" G_GINT64_FORMAT " -O %s\n",
            self->base, update->path, CFS_RRD_STEP_S, midnight(), definition);
    } else {
        g_string_append_printf(self->out, "UPDATE %s/%s %s\n", self->base,
                               update->path, update->values);
    }
}

static gboolean on_ready(int fd, GIOCondition condition, gpointer data);

static void
watch(CfsRrd *self)
{
    gboolean is_writing = self->out->len > 0;

    if (self->watch != 0 && self->is_writing == is_writing) {
        return;
    }
    g_clear_handle_id(&self->watch, g_source_remove);
    self->is_writing = is_writing;
    self->watch = g_unix_fd_add(self->fd, G_IO_IN | (is_writing ? G_IO_OUT : 0),
                                on_ready, self);
}

static void
write_out(CfsRrd *self)
{
    ssize_t n = 0;

    if (self->out->len > 0) {
        n = send(self->fd, self->out->str, self->out->len, MSG_NOSIGNAL);
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        lose(self, g_strerror(errno));
        return;
    }
    if (n > 0) {
        g_string_erase(self->out, 0, n);
    }
    watch(self);
}

static gboolean
on_ready(int fd, GIOCondition condition, gpointer data)
{
    CfsRrd *self = data;

    if (read_answers(self)) {
        pump(self);
    }
    return G_SOURCE_CONTINUE;
}

/* Sends as much as may be under way. */
static void
pump(CfsRrd *self)
{
    if (self->jobs->len > 0 || (self->waiting.length == 0 && self->fd < 0)) {
        return;
    }
    if (!is_connected(self)) {
        g_queue_clear_full(&self->waiting, command_free);
        return;
    }
    while (self->waiting.length > 0 && self->in_flight.length < MAX_IN_FLIGHT) {
        Command *command = g_queue_pop_head(&self->waiting);

        append_command(self, command);
        g_queue_push_tail(&self->in_flight, command);
    }
    write_out(self);
}

void
cfs_rrd_add(gpointer data, const char *key, const char *value)
{
    CfsRrd *self = data;
    CfsRrdUpdate *update = cfs_rrd_update_new(key, value);
    Command *command;

    if (update == NULL) {
        g_debug("RRD update error: unknown/wrong key %s", key);
        return;
    }
    command = g_new0(Command, 1);
    command->update = update;
    g_queue_push_tail(&self->waiting, command);
    while (self->waiting.length > MAX_WAITING) {
        command_free(g_queue_pop_head(&self->waiting));
    }
    ensure_directory(self, update->path);
    pump(self);
}

CfsRrd *
cfs_rrd_new(const char *socket_path, const char *base)
{
    CfsRrd *self = g_new0(CfsRrd, 1);

    self->socket_path = socket_path;
    self->base = base;
    self->fd = -1;
    self->out = g_string_new(NULL);
    self->in = g_string_new(NULL);
    self->made = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->jobs = g_ptr_array_new();
    g_queue_init(&self->waiting);
    g_queue_init(&self->in_flight);
    return self;
}

void
cfs_rrd_free(CfsRrd *self)
{
    if (self == NULL) {
        return;
    }
    disconnect(self);
    for (guint i = 0; i < self->jobs->len; i++) {
        ((Job *)self->jobs->pdata[i])->owner = NULL;
    }
    g_ptr_array_unref(self->jobs);
    g_queue_clear_full(&self->waiting, command_free);
    g_hash_table_unref(self->made);
    g_string_free(self->in, TRUE);
    g_string_free(self->out, TRUE);
    g_free(self);
}
