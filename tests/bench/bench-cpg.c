/* bench-cpg.c - the yardstick: bare messages through corosync's group.
 *
 *   bench-cpg GROUP SIZE IN_FLIGHT SECONDS
 *
 * Keeps IN_FLIGHT messages of its own on their way and measures how long each
 * takes to come back, in total order.
 */
#include "config.h"

#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/samples.h"

typedef struct {
    cpg_handle_t handle;
    guint32 nodeid;
    gboolean is_member;
    guint in_flight;
    GArray *samples;
    GByteArray *message; /* begins with the time it was sent at */
} Bench;

static Bench bench;

static void
check(cs_error_t code, const char *what)
{
    if (code != CS_OK) {
        fprintf(stderr, "%s: error %d\n", what, (int)code);
        exit(EXIT_FAILURE);
    }
}

static void
on_deliver(cpg_handle_t handle,
           const struct cpg_name *group,
           guint32 nodeid,
           guint32 pid,
           void *bytes,
           size_t size)
{
    gint64 sent, took;

    if (nodeid != bench.nodeid || pid != (guint32)getpid() ||
        size < sizeof(sent)) {
        return;
    }
    memcpy(&sent, bytes, sizeof(sent));
    took = bench_now_ns() - sent;
    g_array_append_val(bench.samples, took);
    bench.in_flight--;
}

static void
on_confchg(cpg_handle_t handle,
           const struct cpg_name *group,
           const struct cpg_address *members,
           size_t n_members,
           const struct cpg_address *left,
           size_t n_left,
           const struct cpg_address *joined,
           size_t n_joined)
{
    bench.is_member = TRUE;
}

static void
join(const char *name)
{
    cpg_callbacks_t callbacks = {.cpg_deliver_fn = on_deliver,
                                 .cpg_confchg_fn = on_confchg};
    struct cpg_name group = {.length = (guint32)strlen(name)};

    memcpy(group.value, name, MIN(group.length, CPG_MAX_NAME_LENGTH));
    check(cpg_initialize(&bench.handle, &callbacks), "cpg_initialize");
    check(cpg_local_get(bench.handle, &bench.nodeid), "cpg_local_get");
    check(cpg_join(bench.handle, &group), "cpg_join");
}

/* Waits until something came. */
static void
dispatch(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    if (poll(&poll_fd, 1, 1000) > 0) {
        check(cpg_dispatch(bench.handle, CS_DISPATCH_ALL), "cpg_dispatch");
    }
}

static void
fill(guint max)
{
    struct iovec piece = {.iov_base = bench.message->data,
                          .iov_len = bench.message->len};

    while (bench.in_flight < max) {
        gint64 now = bench_now_ns();
        cs_error_t code;

        memcpy(bench.message->data, &now, sizeof(now));
        code = cpg_mcast_joined(bench.handle, CPG_TYPE_AGREED, &piece, 1);
        if (code == CS_ERR_TRY_AGAIN) {
            return;
        }
        check(code, "cpg_mcast_joined");
        bench.in_flight++;
    }
}

int
main(int argc, char **argv)
{
    gint64 began, until;
    guint size, max;
    int fd = -1;

    if (argc != 5) {
        fprintf(stderr, "bench-cpg GROUP SIZE IN_FLIGHT SECONDS\n");
        return EXIT_FAILURE;
    }
    size = (guint)MAX(atoi(argv[2]), (int)sizeof(gint64));
    max = (guint)MAX(atoi(argv[3]), 1);
    bench.samples = g_array_new(FALSE, FALSE, sizeof(gint64));
    bench.message = g_byte_array_new();
    g_byte_array_set_size(bench.message, size);
    memset(bench.message->data, 'x', size);
    join(argv[1]);
    check(cpg_fd_get(bench.handle, &fd), "cpg_fd_get");
    while (!bench.is_member) {
        dispatch(fd);
    }
    began = bench_now_ns();
    until = began + (gint64)(g_ascii_strtod(argv[4], NULL) * 1e9);
    while (bench_now_ns() < until) {
        fill(max);
        dispatch(fd);
    }
    bench_print(bench.samples, bench_now_ns() - began);
    (void)cpg_finalize(bench.handle);
    return EXIT_SUCCESS;
}
