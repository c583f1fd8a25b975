/* test-notifier.c - the helper process, before a socket in place of a kernel.
 *
 * The helper is another copy of this program, as it is of the daemon.
 */
#include "config.h"

#include "pmxcfs/io/notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    CfsNotifier *notifier;
    int fuse;   /* the helper writes into it */
    int kernel; /* ... and we read it here */
    int mount;
    guint n_started, n_lost;
    GArray *done; /* of guint64 serials */
    int verdict;  /* the last */
} Fixture;

static void
on_done(gpointer data, guint64 serial, int verdict)
{
    Fixture *f = data;

    g_array_append_val(f->done, serial);
    f->verdict = verdict;
}

static void
on_running(gpointer data, gboolean is_running)
{
    Fixture *f = data;

    if (is_running) {
        f->n_started++;
    } else {
        f->n_lost++;
    }
}

static void
start(Fixture *f)
{
    const CfsNotifierHandler handler = {
        .done = on_done, .running = on_running, .data = f};

    f->done = g_array_new(FALSE, FALSE, sizeof(guint64));
    f->mount = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(f->mount, >=, 0);
    f->notifier = cfs_notifier_new(f->fuse, f->mount, &handler);
    g_assert_true(cfs_notifier_is_running(f->notifier));
}

static void
setup(Fixture *f, gconstpointer unused)
{
    int ends[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends),
                    ==, 0);
    f->fuse = ends[0];
    f->kernel = ends[1];
    start(f);
}

static void
setup_full(Fixture *f, gconstpointer unused)
{
    f->fuse = open("/dev/full", O_WRONLY | O_CLOEXEC);
    f->kernel = -1;
    start(f);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_notifier_free(f->notifier);
    (void)close(f->fuse);
    (void)close(f->kernel);
    (void)close(f->mount);
    g_array_unref(f->done);
}

static void
send_text(Fixture *f, guint64 serial, guint64 lane, const char *text)
{
    g_autoptr(GBytes) message = g_bytes_new(text, strlen(text));

    cfs_notifier_send(f->notifier, serial, lane, message);
}

static void
expect(Fixture *f, const char *text)
{
    char buffer[CFS_NOTIFIER_MAX_MESSAGE];
    ssize_t n = recv(f->kernel, buffer, sizeof(buffer), 0);

    g_assert_cmpint(n, >=, 0);
    g_assert_cmpmem(buffer, (gsize)n, text, strlen(text));
}

#define WAIT_FOR(condition)                                                    \
    while (!(condition)) {                                                     \
        g_main_context_iteration(NULL, TRUE);                                  \
    }

static void
test_one_lane_keeps_its_order(Fixture *f, gconstpointer unused)
{
    for (guint64 i = 1; i <= 200; i++) {
        g_autofree char *text = g_strdup_printf("message %u", (guint)i);

        send_text(f, i, 42, text);
    }
    for (guint64 i = 1; i <= 200; i++) {
        g_autofree char *text = g_strdup_printf("message %u", (guint)i);

        expect(f, text);
    }
    WAIT_FOR(f->done->len == 200);
    for (guint i = 0; i < 200; i++) {
        g_assert_cmpuint(g_array_index(f->done, guint64, i), ==, i + 1);
    }
    g_assert_cmpint(f->verdict, ==, 0);
}

/* More than the channel holds: the daemon does not wait. */
static void
test_nothing_is_lost_on_the_way(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = g_strnfill(CFS_NOTIFIER_MAX_MESSAGE, 'x');
    guint n = 2000, got = 0;

    for (guint64 i = 1; i <= n; i++) {
        send_text(f, i, i % 7, text);
    }
    while (f->done->len < n || got < n) {
        while (recv(f->kernel, text, CFS_NOTIFIER_MAX_MESSAGE, MSG_DONTWAIT) >
               0) {
            got++;
        }
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpuint(f->done->len, ==, n);
    g_assert_cmpuint(got, ==, n);
}

static void
test_verdicts_come_back(Fixture *f, gconstpointer unused)
{
    send_text(f, 9, 1, "refused");
    WAIT_FOR(f->done->len == 1);
    g_assert_cmpint(f->verdict, ==, ENOSPC);
}

/* Without the helper. */
static void
test_now_is_now(Fixture *f, gconstpointer unused)
{
    cfs_notifier_send_now(f->notifier, "attributes", 10);
    expect(f, "attributes");
}

/* The youngest child. */
static pid_t
helper_pid(void)
{
    g_autofree char *path =
        g_strdup_printf("/proc/self/task/%d/children", getpid());
    g_autofree char *text = NULL;
    const char *last;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return 0;
    }
    last = strrchr(g_strchomp(text), ' ');
    return (pid_t)atoi(last != NULL ? last : text);
}

static void
test_a_dead_helper_is_replaced(Fixture *f, gconstpointer unused)
{
    pid_t pid = helper_pid();

    if (pid <= 0) {
        g_test_skip("this kernel does not name children");
        return;
    }
    g_test_expect_message("fuse", G_LOG_LEVEL_WARNING, "*is gone*");
    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    WAIT_FOR(f->n_lost == 1);
    g_test_assert_expected_messages();
    g_assert_false(cfs_notifier_is_running(f->notifier));
    WAIT_FOR(f->n_started == 2);
    send_text(f, 1, 1, "to the new one");
    expect(f, "to the new one");
    WAIT_FOR(f->done->len == 1);
}

int
main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], CFS_NOTIFIER_OPTION) == 0) {
        return cfs_notifier_serve();
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add("/notifier/order", Fixture, NULL, setup,
               test_one_lane_keeps_its_order, teardown);
    g_test_add("/notifier/many", Fixture, NULL, setup,
               test_nothing_is_lost_on_the_way, teardown);
    g_test_add("/notifier/verdict", Fixture, NULL, setup_full,
               test_verdicts_come_back, teardown);
    g_test_add("/notifier/now", Fixture, NULL, setup, test_now_is_now,
               teardown);
    g_test_add("/notifier/replaced", Fixture, NULL, setup,
               test_a_dead_helper_is_replaced, teardown);
    return g_test_run();
}
