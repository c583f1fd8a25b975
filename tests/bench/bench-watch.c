/* bench-watch.c - how long does something not work?
 *
 *   bench-watch reads FILE     the longest time between two good reads
 *   bench-watch writes FILE    ... between two good writes
 *   bench-watch rejoin FILE    from quorum, once it comes, to a good write
 *
 * The first two go on until stdin ends; each says "ready" first.
 */
#include "config.h"

#include <corosync/corotypes.h>
#include <corosync/quorum.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/samples.h"

#define POLL_US 1000

static void
pause_a_little(void)
{
    bench_sleep_until(bench_now_ns() + POLL_US * 1000);
}

static gboolean
can_read(const char *path)
{
    char buffer[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean good = fd >= 0 && read(fd, buffer, sizeof(buffer)) > 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

static gboolean
can_write(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    gboolean good = fd >= 0 && pwrite(fd, "here\n", 5, 0) == 5;

    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

static gboolean
stdin_ended(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, 0) > 0;
}

static void
say_ready(void)
{
    printf("ready\n");
    (void)fflush(stdout);
}

static void
watch_gap(gboolean (*works)(const char *path), const char *path)
{
    gint64 last = bench_now_ns(), longest = 0;

    say_ready();
    while (!stdin_ended()) {
        if (works(path)) {
            gint64 now = bench_now_ns();

            longest = MAX(longest, now - last);
            last = now;
        }
        pause_a_little();
    }
    longest = MAX(longest, bench_now_ns() - last);
    printf("{\"gap\": %.6f}\n", (double)longest / 1e6);
}

static gboolean
is_quorate(quorum_handle_t handle)
{
    int quorate = 0;

    return quorum_getquorate(handle, &quorate) == CS_OK && quorate != 0;
}

static void
watch_rejoin(const char *path)
{
    quorum_callbacks_t callbacks = {0};
    quorum_handle_t handle;
    guint32 type;
    gint64 quorate;

    if (quorum_initialize(&handle, &callbacks, &type) != CS_OK) {
        fprintf(stderr, "corosync does not answer\n");
        exit(EXIT_FAILURE);
    }
    say_ready();
    while (!is_quorate(handle)) {
        pause_a_little();
    }
    quorate = bench_now_ns();
    while (!can_write(path)) {
        pause_a_little();
    }
    printf("{\"gap\": %.6f}\n", (double)(bench_now_ns() - quorate) / 1e6);
    (void)quorum_finalize(handle);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "reads") == 0) {
        watch_gap(can_read, argv[2]);
    } else if (argc == 3 && strcmp(argv[1], "writes") == 0) {
        watch_gap(can_write, argv[2]);
    } else if (argc == 3 && strcmp(argv[1], "rejoin") == 0) {
        watch_rejoin(argv[2]);
    } else {
        fprintf(stderr, "bench-watch reads|writes|rejoin FILE\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
