/* Events as a program sees them: the client library against a running daemon.
 * test-ipc.py runs it, as ipc-conform.
 *
 * `ipc-events watch [PREFIX...]` prints what comes, a line each, until killed;
 * `ipc-events call` makes one call, as a client does that waits for a restart,
 * and says how it went. */
#include "config.h"

#include "common/files.h"
#include "common/ipc-client.h"
#include "common/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include <qb/qbipcc.h>

#define TIMEOUT_US (60 * G_USEC_PER_SEC)
#define DIRECTORY "/etc/pve/events"

static const char *const names[] = {
    "created", "changed", "deleted", "renamed", "settled", "reloaded", "quorum",
    "members", "guests",  "status",  "log",     "sync",    "lost"};

/* --- what came --- */

typedef struct {
    PveIpcEvents *events;
    GString *told; /* a line each */
    guint64 last;
    guint n;
    guint n_lost;
    GMainContext *context;
} Listener;

static void
on_event(gpointer data, const PveEvent *event, const GError *error)
{
    Listener *self = data;

    if (event == NULL) {
        g_string_append_printf(self->told, "error %d\n", error->code);
        return;
    }
    if (event->kind == PVE_EVENT_LOST) {
        self->n_lost++;
    } else {
        g_assert_cmpuint(event->sequence, >, self->last);
        self->n++;
    }
    self->last = MAX(self->last, event->sequence);
    g_string_append_printf(self->told, "%s %s%s%s\n", names[event->kind],
                           event->path, *event->other != '\0' ? " " : "",
                           event->other);
}

static gboolean
on_timeout(gpointer data)
{
    g_error("what was waited for did not come; what came: %s",
            ((Listener *)data)->told->str);
    return G_SOURCE_REMOVE;
}

static void
wait_until(Listener *self,
           gboolean (*is_there)(Listener *, gconstpointer),
           gconstpointer what)
{
    guint timer = g_timeout_add(TIMEOUT_US / 1000, on_timeout, self);

    while (!is_there(self, what)) {
        (void)g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timer);
}

static gboolean
has_line(Listener *self, gconstpointer what)
{
    g_autofree char *line = g_strconcat(what, "\n", NULL);
    const char *at = strstr(self->told->str, line);

    return at != NULL && (at == self->told->str || at[-1] == '\n');
}

static void
listen_to(Listener *self, guint32 kinds, const char *const *prefixes)
{
    memset(self, 0, sizeof(*self));
    self->told = g_string_new(NULL);
    self->events = pve_ipc_events_new(kinds, prefixes, on_event, self);
    wait_until(self, has_line, "lost ");
    g_string_truncate(self->told, 0);
}

static void
stop(Listener *self)
{
    pve_ipc_events_free(self->events);
    (void)g_string_free(self->told, TRUE);
}

static void
put(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(DIRECTORY, name, NULL);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    g_assert_cmpint(fd, >=, 0);
    g_assert_true(pve_write_all(fd, text, strlen(text)));
}

/* --- tests --- */

static void
test_tree(void)
{
    static const char *const prefixes[] = {"events", NULL};
    Listener l;

    listen_to(&l, PVE_EVENT_TREE & ~PVE_EVENT_BIT(PVE_EVENT_SETTLED), prefixes);
    put("a", "x");
    g_assert_cmpint(g_rename(DIRECTORY "/a", DIRECTORY "/b"), ==, 0);
    g_assert_cmpint(g_unlink(DIRECTORY "/b"), ==, 0);
    wait_until(&l, has_line, "deleted events/b");
    g_assert_cmpstr(l.told->str, ==,
                    "created events/a\nchanged events/a\n"
                    "renamed events/a events/b\ndeleted events/b\n");
    stop(&l);
}

/* Once, when the last of two writers has closed it; not for what is renamed at
 * once. */
static void
test_settled(void)
{
    static const char *const prefixes[] = {"events", NULL};
    PVE_AUTOFD(other) = -1;
    Listener l;

    listen_to(&l, PVE_EVENT_BIT(PVE_EVENT_SETTLED), prefixes);
    put("whole", "x");
    wait_until(&l, has_line, "settled events/whole");
    g_string_truncate(l.told, 0);

    other = open(DIRECTORY "/whole", O_WRONLY | O_CLOEXEC);
    put("whole", "y"); /* the other may go on */
    put("second", "x");
    wait_until(&l, has_line, "settled events/second");
    g_assert_cmpint(pwrite(other, "z", 1, 0), ==, 1);
    pve_autofd_clear(&other);
    other = -1;
    wait_until(&l, has_line, "settled events/whole");
    g_assert_cmpstr(l.told->str, ==,
                    "settled events/second\nsettled events/whole\n");
    stop(&l);
}

/* What is copied within the mount is written, too. */
static void
test_copy_settles(void)
{
    static const char *const prefixes[] = {"events", NULL};
    PVE_AUTOFD(from) = -1;
    PVE_AUTOFD(to) = -1;
    Listener l;

    put("origin", "x");
    from = open(DIRECTORY "/origin", O_RDONLY | O_CLOEXEC);
    listen_to(&l, PVE_EVENT_BIT(PVE_EVENT_SETTLED), prefixes);
    to = open(DIRECTORY "/copy", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(copy_file_range(from, NULL, to, NULL, 1, 0), ==, 1);
    pve_autofd_clear(&to);
    to = -1;
    wait_until(&l, has_line, "settled events/copy");
    stop(&l);
}

static void
test_others(void)
{
    g_autoptr(PveIpcClient) client = pve_ipc_client_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) answer = NULL;
    char key[259] = "kv/events";
    Listener l;

    listen_to(&l, PVE_EVENT_ALL, NULL);
    key[256] = 'v';
    answer = pve_ipc_call(client, PVE_IPC_SET_STATUS, key, 257, NULL, &error);
    g_assert_no_error(error);
    wait_until(&l, has_line, "status kv/events ipcl");
    g_bytes_unref(answer);
    answer = pve_ipc_call(client, PVE_IPC_LOG, "\6\5\4root\0tag\0hi", 15, NULL,
                          &error);
    g_assert_no_error(error);
    wait_until(&l, has_line, "log ");
    g_assert_cmpint(g_mkdir_with_parents("/etc/pve/nodes/ipcl/lxc", 0755), ==,
                    0);
    g_assert_true(g_file_set_contents("/etc/pve/nodes/ipcl/lxc/177.conf",
                                      "a: b\n", -1, NULL));
    wait_until(&l, has_line, "guests ");
    g_assert_cmpint(g_unlink("/etc/pve/nodes/ipcl/lxc/177.conf"), ==, 0);
    stop(&l);
}

static void
test_sync(void)
{
    g_autoptr(PveIpcClient) client = pve_ipc_client_new();
    g_autoptr(GError) error = NULL;
    PveSyncLevel level = PVE_SYNC_MAJORITY;

    put("synced", "x");
    g_assert_true(pve_ipc_sync(client, &level, &error));
    g_assert_no_error(error);
    g_assert_cmpint(level, ==, PVE_SYNC_LOCAL);
}

static void
test_refusals(void)
{
    g_autoptr(PveIpcClient) client = pve_ipc_client_new();
    g_autoptr(GError) error = NULL;
    int verdict = 0;

    g_assert_null(
        pve_ipc_call(client, (PveIpcOperation)9, NULL, 0, &verdict, &error));
    g_assert_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_UNSUPPORTED);
    g_assert_cmpint(verdict, ==, ECHRNG);
    g_clear_error(&error);
    g_assert_null(pve_ipc_read_file(client, "no/such", &error));
    g_assert_error(error, PVE_IPC_ERROR, PVE_IPC_ERROR_REFUSED);
}

/* Not only at the beginning. */
static gboolean
has_lost(Listener *self, gconstpointer unused)
{
    return self->n_lost > 1;
}

/* Who does not read is told, costs nobody anything, and goes on from there. */
static void
test_slow_watcher(void)
{
    static const char *const prefixes[] = {"events", NULL};
#ifdef CFS_IPC_SHM
    enum { CHANGES = 60000 }; /* the ring that is shared holds many */
#else
    enum { CHANGES = 20000 };
#endif
    Listener slow, quick;
    PVE_AUTOFD(fd) = -1;

    listen_to(&slow, PVE_EVENT_TREE, prefixes);
    listen_to(&quick, PVE_EVENT_TREE, prefixes);
    put("slow", "x");
    fd = open(DIRECTORY "/slow", O_WRONLY | O_CLOEXEC);
    for (guint i = 0; i < CHANGES; i++) {
        g_assert_cmpint(pwrite(fd, "y", 1, 0), ==, 1);
    }
    /* Neither was read from meanwhile. */
    wait_until(&slow, has_lost, NULL);
    wait_until(&quick, has_lost, NULL);
    put("end", "x");
    wait_until(&slow, has_line, "changed events/end");
    wait_until(&quick, has_line, "changed events/end");
    g_assert_cmpuint(slow.n, <, CHANGES);
    stop(&slow);
    stop(&quick);
}

static guint64
daemon_bytes(void)
{
    g_autofree char *pid = NULL;
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    const char *at;

    g_assert_true(
        g_file_get_contents("/run/pve-cluster.pid", &pid, NULL, NULL));
    path = g_strdup_printf("/proc/%d/status", atoi(pid));
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, "VmRSS:");
    return g_ascii_strtoull(at + 6 + strspn(at + 6, " \t"), NULL, 10) * 1024;
}

/* 200 of them: each sees each change in order, or is told that it lost. */
static void
test_many_watchers(void)
{
    static const char *const prefixes[] = {"events", NULL};
    enum { WATCHERS = 200, CHANGES = 2000 };
    g_autofree Listener *all = g_new(Listener, WATCHERS);
    PVE_AUTOFD(fd) = -1;
    guint64 before;

    for (guint i = 0; i < WATCHERS; i++) {
        listen_to(&all[i], PVE_EVENT_BIT(PVE_EVENT_CHANGED), prefixes);
    }
    put("many", "x");
    before = daemon_bytes();
    fd = open(DIRECTORY "/many", O_WRONLY | O_CLOEXEC);
    for (guint i = 1; i < CHANGES; i++) {
        g_assert_cmpint(pwrite(fd, "y", 1, 0), ==, 1);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
    }
    put("last", "x");
    for (guint i = 0; i < WATCHERS; i++) {
        wait_until(&all[i], has_line, "changed events/last");
        /* What it was told at the beginning does not count. */
        g_assert_true(all[i].n == CHANGES + 1 || all[i].n_lost > 1);
        stop(&all[i]);
    }
    g_assert_cmpuint(daemon_bytes(), <, before + (64u << 20));
}

/* --- by hand --- */

static void
print_event(gpointer data, const PveEvent *event, const GError *error)
{
    if (event == NULL) {
        g_print("error %s\n", error->message);
    } else {
        g_print("%s %s%s%s\n", names[event->kind], event->path,
                *event->other != '\0' ? " " : "", event->other);
    }
}

static int
call_patiently(void)
{
    g_autoptr(PveIpcClient) client = pve_ipc_client_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) answer = NULL;

    g_print("begins\n");
    answer = pve_ipc_call(client, PVE_IPC_FS_VERSION, NULL, 0, NULL, &error);
    g_print("%s\n", answer != NULL ? "answered" : error->message);
    return answer != NULL ? 0 : 1;
}

int
main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "call") == 0) {
        return call_patiently();
    }
    if (argc >= 2 && strcmp(argv[1], "watch") == 0) {
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        g_autoptr(PveIpcEvents) events = pve_ipc_events_new(
            PVE_EVENT_ALL,
            argc > 2 ? (const char *const *)(gpointer)(argv + 2) : NULL,
            print_event, NULL);

        g_assert_nonnull(events);
        g_main_loop_run(loop);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(g_mkdir_with_parents(DIRECTORY, 0755), ==, 0);
    g_test_add_func("/ipc-events/tree", test_tree);
    g_test_add_func("/ipc-events/settled", test_settled);
    g_test_add_func("/ipc-events/copy-settles", test_copy_settles);
    g_test_add_func("/ipc-events/others", test_others);
    g_test_add_func("/ipc-events/sync", test_sync);
    g_test_add_func("/ipc-events/refusals", test_refusals);
    g_test_add_func("/ipc-events/slow-watcher", test_slow_watcher);
    g_test_add_func("/ipc-events/many-watchers", test_many_watchers);
    return g_test_run();
}
