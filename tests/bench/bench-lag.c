/* bench-lag.c - how old is what one node shows of another node's changes?
 *
 *   bench-lag stat|lookup|readdir DIR_THERE DIR_HERE SECONDS
 *
 * Both are the same directory, as two nodes see it. It is changed there; here
 * it was looked at right before, so that the kernel may know the old state.
 * Measured is the time from the end of the change until it is seen here.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/samples.h"

#define WARM_LOOKS 3
#define POLL_US 50
#define GIVE_UP_NS 20000000000

typedef struct {
    const char *there;
    const char *here;
    guint counter;
} Lag;

typedef struct {
    const char *name;
    void (*change)(Lag *lag);
    gboolean (*is_seen)(Lag *lag);
} Kind;

static void
write_file(const char *path, gsize size)
{
    g_autofree char *bytes = g_malloc0(size);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd) < 0) {
        bench_die("write", path);
    }
}

/* The size counts the changes. */
static void
grow(Lag *lag)
{
    g_autofree char *path = g_build_filename(lag->there, "grows", NULL);

    write_file(path, lag->counter);
}

static gboolean
has_grown(Lag *lag)
{
    g_autofree char *path = g_build_filename(lag->here, "grows", NULL);
    struct stat st;

    return stat(path, &st) == 0 && st.st_size == (off_t)lag->counter;
}

static char *
new_name(Lag *lag, const char *directory)
{
    return g_strdup_printf("%s/new-%u", directory, lag->counter);
}

static void
add_name(Lag *lag)
{
    g_autofree char *path = new_name(lag, lag->there);

    write_file(path, 1);
}

static gboolean
has_name(Lag *lag)
{
    g_autofree char *path = new_name(lag, lag->here);
    struct stat st;

    return stat(path, &st) == 0;
}

static gboolean
lists_name(Lag *lag)
{
    g_autofree char *path = new_name(lag, lag->here);
    const char *wanted = strrchr(path, '/') + 1;
    DIR *directory = opendir(lag->here);
    struct dirent *item;
    gboolean found = FALSE;

    if (directory == NULL) {
        return FALSE;
    }
    while (!found && (item = readdir(directory)) != NULL) {
        found = strcmp(item->d_name, wanted) == 0;
    }
    (void)closedir(directory);
    return found;
}

/* A directory with all the names ever made would measure its length. */
static void
remove_name(Lag *lag)
{
    g_autofree char *path = new_name(lag, lag->there);

    (void)unlink(path);
}

static const Kind kinds[] = {
    {"stat", grow, has_grown},
    {"lookup", add_name, has_name},
    {"readdir", add_name, lists_name},
};

static gint64
measure(const Kind *kind, Lag *lag)
{
    gint64 changed, seen;

    lag->counter++;
    for (guint i = 0; i < WARM_LOOKS; i++) {
        (void)kind->is_seen(lag);
    }
    kind->change(lag);
    changed = seen = bench_now_ns();
    while (!kind->is_seen(lag)) {
        seen = bench_now_ns();
        if (seen - changed > GIVE_UP_NS) {
            errno = ETIMEDOUT;
            bench_die("not seen:", kind->name);
        }
        bench_sleep_until(seen + POLL_US * 1000);
    }
    if (kind->change == add_name) {
        remove_name(lag);
    }
    return seen - changed;
}

static const Kind *
find_kind(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    fprintf(stderr, "'%s' is no kind of look\n", name);
    exit(EXIT_FAILURE);
}

int
main(int argc, char **argv)
{
    g_autoptr(GArray) samples = g_array_new(FALSE, FALSE, sizeof(gint64));
    const Kind *kind;
    gint64 began, until;
    Lag lag = {0};

    if (argc != 5) {
        fprintf(stderr, "bench-lag KIND DIR_THERE DIR_HERE SECONDS\n");
        return EXIT_FAILURE;
    }
    kind = find_kind(argv[1]);
    lag.there = argv[2];
    lag.here = argv[3];
    began = bench_now_ns();
    until = began + (gint64)(g_ascii_strtod(argv[4], NULL) * 1e9);
    while (bench_now_ns() < until) {
        gint64 took = measure(kind, &lag);

        g_array_append_val(samples, took);
    }
    bench_print(samples, bench_now_ns() - began);
    return EXIT_SUCCESS;
}
