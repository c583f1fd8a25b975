/* bench-events.c - what watchers hear on one node.
 *
 *   bench-events latency PID DIR_THERE SECONDS
 *   bench-events watchers PID COUNT
 *
 * PID is the first process of the node on which to listen. The first changes
 * a file as another node sees it, and measures the time from the end of the
 * change until its event is here. The second listens COUNT times until stdin
 * ends, and says "ready" first, how many events each got at the end.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc-client.h"
#include "tests/bench/samples.h"

typedef struct {
    PveIpcEvents *events;
    guint64 n;
    guint n_lost;
    gint64 seen_ns;
} Watcher;

static void
on_event(gpointer data, const PveEvent *event, const GError *error)
{
    Watcher *self = data;

    if (event == NULL) {
        errno = ECONNRESET;
        bench_die("events:", error->message);
    }
    if (event->kind == PVE_EVENT_LOST) {
        self->n_lost++;
    } else {
        self->n++;
        self->seen_ns = bench_now_ns();
    }
}

/* Listens to changes of files. */
static void
begin(Watcher *self)
{
    memset(self, 0, sizeof(*self));
    self->events = pve_ipc_events_new(PVE_EVENT_BIT(PVE_EVENT_CHANGED), NULL,
                                      on_event, self);
    while (self->n_lost == 0) {
        (void)g_main_context_iteration(NULL, TRUE);
    }
}

static void
enter(const char *pid, const char *kind)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/ns/%s", pid, kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || setns(fd, 0) < 0) {
        bench_die("enter", path);
    }
    (void)close(fd);
}

static void
enter_node(const char *pid)
{
    g_autofree char *copy = g_strdup(pid);

    enter(copy, "net"); /* the socket */
    enter(copy, "mnt"); /* libqb's files in /dev/shm; /proc is another now */
}

static int
measure_latency(const char *pid, const char *directory, double seconds)
{
    g_autoptr(GArray) samples = g_array_new(FALSE, FALSE, sizeof(gint64));
    int there = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    gint64 began, until;
    Watcher watcher;
    int fd;

    fd = there >= 0
             ? openat(there, "heard", O_WRONLY | O_CREAT | O_CLOEXEC, 0640)
             : -1;
    if (fd < 0) {
        bench_die("make a file in", directory);
    }
    enter_node(pid);
    begin(&watcher);
    began = bench_now_ns();
    until = began + (gint64)(seconds * 1e9);
    while (bench_now_ns() < until) {
        guint64 before = watcher.n;
        gint64 changed, took;

        if (pwrite(fd, "x", 1, 0) != 1) {
            bench_die("write", "heard");
        }
        changed = bench_now_ns();
        while (watcher.n == before) {
            (void)g_main_context_iteration(NULL, TRUE);
        }
        took = MAX(watcher.seen_ns - changed, 0);
        g_array_append_val(samples, took);
        bench_sleep_until(bench_now_ns() + 2000000);
    }
    bench_print(samples, bench_now_ns() - began);
    return EXIT_SUCCESS;
}

static gboolean
on_end(int fd, GIOCondition condition, gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static int
listen_often(const char *pid, guint count)
{
    g_autofree Watcher *all = g_new(Watcher, count);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    guint64 least = G_MAXUINT64, most = 0;
    guint n_lost = 0;

    enter_node(pid);
    for (guint i = 0; i < count; i++) {
        begin(&all[i]);
    }
    printf("ready\n");
    (void)fflush(stdout);
    (void)g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_end, loop);
    g_main_loop_run(loop);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    for (guint i = 0; i < count; i++) {
        least = MIN(least, all[i].n);
        most = MAX(most, all[i].n);
        n_lost += all[i].n_lost - 1;
    }
    printf("{\"least\": %" G_GUINT64_FORMAT ", \"most\": %" G_GUINT64_FORMAT
           ", \"lost\": %u}\n",
           least, most, n_lost);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "latency") == 0) {
        return measure_latency(argv[2], argv[3], g_ascii_strtod(argv[4], NULL));
    }
    if (argc == 4 && strcmp(argv[1], "watchers") == 0) {
        return listen_often(argv[2],
                            (guint)g_ascii_strtoull(argv[3], NULL, 10));
    }
    fprintf(stderr, "bench-events latency PID DIR_THERE SECONDS\n"
                    "bench-events watchers PID COUNT\n");
    return EXIT_FAILURE;
}
