/* Measurements with a real rrdcached(1): files made and updated, and what
 * happens when it is not there, hangs, or starts anew. Skips without it. */
#include "config.h"

#include "pmxcfs/io/rrd.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 30

typedef struct {
    char *folder;
    char *base;
    char *socket_path;
    GPid server; /* 0: does not run */
    CfsRrd *rrd;
    guint time;
} Fixture;

static char *program;

/* --- the server ----------------------------------------------------------- */

static gboolean
is_listening(Fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean is_there;

    (void)g_strlcpy(address.sun_path, f->socket_path, sizeof(address.sun_path));
    is_there = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return is_there;
}

/* Runs the loop until @condition. */
static void
run_until(Fixture *f, gboolean (*condition)(Fixture *), const char *what)
{
    gint64 until = g_get_monotonic_time() + PATIENCE_S * G_USEC_PER_SEC;

    while (!condition(f)) {
        if (g_get_monotonic_time() > until) {
            g_error("waited %d s: %s", PATIENCE_S, what);
        }
        (void)g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
}

static void
start_server(Fixture *f)
{
    g_autofree char *listen = g_strconcat("unix:", f->socket_path, NULL);
    g_autofree char *pid_file = g_build_filename(f->folder, "pid", NULL);
    const char *argv[] = {program, "-g",    "-l", listen, "-b",
                          f->base, "-B",    "-F", "-p",   pid_file,
                          "-j",    f->base, NULL};
    g_autoptr(GError) error = NULL;

    (void)g_spawn_async(NULL, (char **)argv, NULL,
                        G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL |
                            G_SPAWN_STDERR_TO_DEV_NULL,
                        NULL, NULL, &f->server, &error);
    g_assert_no_error(error);
    run_until(f, is_listening, "rrdcached does not listen");
}

static void
stop_server(Fixture *f)
{
    if (f->server != 0) {
        (void)kill(f->server, SIGCONT);
        (void)kill(f->server, SIGKILL);
        (void)waitpid(f->server, NULL, 0);
        f->server = 0;
        (void)g_unlink(f->socket_path);
    }
}

static void
setup(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    f->folder = g_dir_make_tmp("test-rrd-XXXXXX", &error);
    g_assert_no_error(error);
    f->base = g_build_filename(f->folder, "db", NULL);
    g_assert_cmpint(g_mkdir(f->base, 0750), ==, 0);
    f->socket_path = g_build_filename(f->folder, "sock", NULL);
    f->rrd = cfs_rrd_new(f->socket_path, f->base);
    f->time = (guint)(g_get_real_time() / G_USEC_PER_SEC);
}

static void
remove_tree(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *below = g_build_filename(path, name, NULL);

        remove_tree(below);
    }
    g_clear_pointer(&dir, g_dir_close);
    (void)g_remove(path);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_rrd_free(f->rrd);
    stop_server(f);
    remove_tree(f->folder);
    g_free(f->folder);
    g_free(f->base);
    g_free(f->socket_path);
}

/* --- what it holds -------------------------------------------------------- */

/* Returns: (owned) the answer to one command, by a connection of its own. */
static char *
ask(Fixture *f, const char *command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *text = g_strconcat(command, "\nQUIT\n", NULL);
    GString *answer = g_string_new(NULL);
    char buffer[4096];
    ssize_t n;

    (void)g_strlcpy(address.sun_path, f->socket_path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, (int)strlen(text));
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        g_string_append_len(answer, buffer, n);
    }
    (void)close(fd);
    return g_string_free(answer, FALSE);
}

/* LAST would round it. */
static gint64
last_time(Fixture *f, const char *path)
{
    g_autofree char *flush = g_strdup_printf("FLUSH %s/%s", f->base, path);
    g_autofree char *command = g_strdup_printf("INFO %s/%s", f->base, path);
    g_autofree char *answer = NULL;
    /* `last_update 1 TIME`: 1 is the kind of the value. */
    const char *text;

    g_free(ask(f, flush));
    answer = ask(f, command);
    text = strstr(answer, "last_update 1 ");
    return text != NULL ? g_ascii_strtoll(text + 14, NULL, 10) : -1;
}

static goffset
size_of(Fixture *f, const char *path)
{
    g_autofree char *whole = g_build_filename(f->base, path, NULL);
    struct stat st;

    return stat(whole, &st) == 0 ? st.st_size : -1;
}

static void
add_storage(Fixture *f)
{
    g_autofree char *value = g_strdup_printf("%u:10:5", f->time);

    cfs_rrd_add(f->rrd, "pve-storage-9.0/n1/local", value);
}

static gboolean
has_storage(Fixture *f)
{
    return last_time(f, "pve-storage-9.0/n1/local") == f->time;
}

/* A connection that was refused is tried again after a while. */
static gboolean
takes_storage(Fixture *f)
{
    f->time++;
    add_storage(f);
    for (guint i = 0; i < 100; i++) {
        (void)g_main_context_iteration(NULL, FALSE);
    }
    return has_storage(f);
}

/* --- tests ---------------------------------------------------------------- */

static gboolean
has_all(Fixture *f)
{
    return last_time(f, "pve-node-9.0/n1") == f->time &&
           last_time(f, "pve-vm-9.0/101") == f->time && has_storage(f);
}

/* The sizes of spec/ipc.md 6.2 say that sources and archives are the same. */
static void
test_files(Fixture *f, gconstpointer unused)
{
    g_autofree char *node = g_strdup_printf(
        "9:c:%u:0.5:4:0.1:0.01:1000:500:0:0:2000:1000:100:200", f->time);
    g_autofree char *guest = g_strdup_printf(
        "60:name:running:0:%u:1:0.5:512:100:1000:500:1:2:3:4", f->time);
    g_autofree char *info = NULL;
    struct stat st;

    start_server(f);
    cfs_rrd_add(f->rrd, "pve2-node/n1", node);
    cfs_rrd_add(f->rrd, "pve2.3-vm/101", guest);
    cfs_rrd_add(f->rrd, "pve-storage-9.0/n1/local", "1:\nQUIT");
    cfs_rrd_add(f->rrd, "pve-storage-9.0/../../x", "1:1:1");
    add_storage(f);
    run_until(f, has_all, "no value arrives");
    if (sizeof(gpointer) == 8) {
        g_assert_cmpint(size_of(f, "pve-node-9.0/n1"), ==, 1504296);
        g_assert_cmpint(size_of(f, "pve-vm-9.0/101"), ==, 1346072);
        g_assert_cmpint(size_of(f, "pve-storage-9.0/n1/local"), ==, 159392);
    }
    info = g_build_filename(f->base, "pve-vm-9.0", NULL);
    g_assert_cmpint(stat(info, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0750);
}

/* Nothing is there; then it is; then another one is. */
static void
test_absent_and_anew(Fixture *f, gconstpointer unused)
{
    for (guint i = 0; i < 1000; i++) {
        add_storage(f);
    }
    start_server(f);
    run_until(f, takes_storage, "no value arrives after the start");
    stop_server(f);
    add_storage(f);
    start_server(f);
    run_until(f, takes_storage, "no value arrives after the restart");
}

/* It hangs: nobody waits for it, and what is kept for it has a bound. */
static void
test_hangs(Fixture *f, gconstpointer unused)
{
    gint64 start_us, took_us;

    start_server(f);
    add_storage(f);
    run_until(f, has_storage, "no value arrives");
    (void)kill(f->server, SIGSTOP);
    start_us = g_get_monotonic_time();
    for (guint i = 0; i < 50000; i++) {
        f->time++;
        add_storage(f);
        (void)g_main_context_iteration(NULL, FALSE);
    }
    took_us = g_get_monotonic_time() - start_us;
    g_test_message("50000 values took %d ms", (int)(took_us / 1000));
    g_assert_cmpint(took_us, <, 20 * G_USEC_PER_SEC);
    (void)kill(f->server, SIGCONT);
    run_until(f, has_storage, "the newest value does not arrive");
}

#define ADD(name, function)                                                    \
    g_test_add("/rrd/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    program = g_find_program_in_path("rrdcached");
    if (program == NULL) {
        g_print("1..0 # SKIP no rrdcached\n");
        return 0;
    }
    ADD("files", test_files);
    ADD("absent-and-anew", test_absent_and_anew);
    ADD("hangs", test_hangs);
    return g_test_run();
}
