/* bench-files.c - one kind of file operation, again and again, by several
 * processes at once.
 *
 *   bench-files KIND DIR [--workers N] [--seconds S] [--size BYTES]
 *               [--start-at NS]
 *
 * Each process has a directory of its own below DIR: the kernel holds the lock
 * of a directory while a name is made in it, and we measure the filesystem.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/samples.h"

#define MAX_SAMPLES (1u << 20)
#define MAX_BYTES (1u << 20)
#define PAGE_BYTES 4096

typedef struct {
    const char *directory;
    char *temporary; /* in its directory, as are the next two */
    char *file;
    char *bytes;
    gsize size;
    int fd;        /* of file, where the kind keeps it open */
    guint counter; /* operations so far */
} Work;

/* What a worker leaves behind: in memory shared with its parent. */
typedef struct {
    guint count;
    gint64 began, ended;
    gint64 samples[MAX_SAMPLES];
} Result;

typedef struct {
    const char *name;
    void (*prepare)(Work *work);
    void (*once)(Work *work);
} Kind;

static void
check(gboolean good, const char *what, const char *object)
{
    if (!good) {
        bench_die(what, object);
    }
}

/* Kinds ------------------------------------------------------------------- */

static int
make_file(Work *work, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

    check(fd >= 0, "create", path);
    check(write(fd, work->bytes, work->size) == (ssize_t)work->size, "write",
          path);
    return fd;
}

static void
prepare_file(Work *work)
{
    check(close(make_file(work, work->file)) == 0, "close", work->file);
}

static void
prepare_open_file(Work *work)
{
    work->fd = make_file(work, work->file);
}

/* As every careful program changes a file. */
static void
rewrite_once(Work *work)
{
    check(close(make_file(work, work->temporary)) == 0, "close",
          work->temporary);
    check(rename(work->temporary, work->file) == 0, "rename", work->file);
}

static void
write_once(Work *work)
{
    memset(work->bytes, 'a' + (int)(work->counter % 26), work->size);
    check(pwrite(work->fd, work->bytes, work->size, 0) == (ssize_t)work->size,
          "write", work->file);
}

static void
fsync_once(Work *work)
{
    write_once(work);
    check(fdatasync(work->fd) == 0, "fdatasync", work->file);
}

/* As a shell's > does it. */
static void
truncate_once(Work *work)
{
    check(close(make_file(work, work->file)) == 0, "close", work->file);
}

static void
read_once(Work *work)
{
    static char buffer[MAX_BYTES];
    int fd = open(work->file, O_RDONLY | O_CLOEXEC);

    check(fd >= 0, "open", work->file);
    check(read(fd, buffer, sizeof(buffer)) == (ssize_t)work->size, "read",
          work->file);
    check(close(fd) == 0, "close", work->file);
}

static void
stat_once(Work *work)
{
    struct stat st;

    check(stat(work->file, &st) == 0, "stat", work->file);
}

static void
create_once(Work *work)
{
    g_autofree char *path =
        g_strdup_printf("%s/f%u", work->directory, work->counter);

    check(close(make_file(work, path)) == 0, "close", path);
}

static void
prepare_nothing(Work *work)
{
}

static const Kind kinds[] = {
    {"rewrite", prepare_file, rewrite_once},
    {"write", prepare_open_file, write_once},
    {"fsync", prepare_open_file, fsync_once},
    {"truncate", prepare_file, truncate_once},
    {"read", prepare_file, read_once},
    {"stat", prepare_file, stat_once},
    {"create", prepare_nothing, create_once},
};

static const Kind *
find_kind(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    fprintf(stderr, "'%s' is no kind of operation\n", name);
    exit(EXIT_FAILURE);
}

/* Workers ----------------------------------------------------------------- */

typedef struct {
    const Kind *kind;
    char *directory;
    gint workers;
    gint count; /* 0: as long as it lasts */
    gint64 size;
    double seconds;
    gint64 start_at;
} Options;

static void
work_init(Work *work, const Options *options, guint number)
{
    *work = (Work){.fd = -1, .size = (gsize)options->size};
    /* Process ids alone are not enough: nodes have their own. */
    work->directory = g_strdup_printf("%s/%s-%d-%u", options->directory,
                                      g_get_host_name(), getpid(), number);
    work->temporary = g_strdup_printf("%s/file.tmp", work->directory);
    work->file = g_strdup_printf("%s/file", work->directory);
    /* Aligned, as cp(1) has it: else the kernel cuts off odd ends. */
    work->bytes = g_aligned_alloc(1, work->size, PAGE_BYTES);
    memset(work->bytes, 'x', work->size);
    check(mkdir(work->directory, 0755) == 0, "mkdir", work->directory);
}

static void
remove_files(const Work *work, const Options *options)
{
    g_autoptr(GDir) directory = g_dir_open(work->directory, 0, NULL);
    const char *name;

    while (directory != NULL && (name = g_dir_read_name(directory)) != NULL) {
        g_autofree char *path = g_build_filename(work->directory, name, NULL);

        (void)unlink(path);
    }
    (void)rmdir(work->directory);
}

static gboolean
is_over(const Options *options, const Work *work, gint64 until)
{
    if (options->count > 0) {
        return work->counter >= (guint)options->count;
    }
    return bench_now_ns() >= until;
}

static void
run_worker(const Options *options, guint number, Result *result, int ready)
{
    Work work;
    gint64 until;

    work_init(&work, options, number);
    options->kind->prepare(&work);
    /* All begin when the last one is prepared. */
    check(close(ready) == 0, "close", "pipe");
    bench_sleep_until(options->start_at);
    result->began = bench_now_ns();
    until = result->began + (gint64)(options->seconds * 1e9);
    while (!is_over(options, &work, until)) {
        gint64 before = bench_now_ns();

        options->kind->once(&work);
        result->samples[result->count] = bench_now_ns() - before;
        result->count = MIN(result->count + 1, MAX_SAMPLES - 1);
        work.counter++;
    }
    result->ended = bench_now_ns();
    if (options->kind->once != create_once) {
        remove_files(&work, options);
    }
}

static Result *
share_results(guint workers)
{
    Result *results =
        mmap(NULL, workers * sizeof(Result), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    check(results != MAP_FAILED, "mmap", "results");
    return results;
}

static void
start_workers(const Options *options, Result *results)
{
    char byte;
    int ready[2];

    check(pipe2(ready, O_CLOEXEC) == 0, "pipe", "");
    for (guint i = 0; i < (guint)options->workers; i++) {
        pid_t child = fork();

        check(child >= 0, "fork", "worker");
        if (child == 0) {
            (void)close(ready[0]);
            run_worker(options, i, &results[i], ready[1]);
            _exit(EXIT_SUCCESS);
        }
    }
    (void)close(ready[1]);
    (void)read(ready[0], &byte, 1);
    (void)close(ready[0]);
}

static gboolean
wait_workers(void)
{
    gboolean good = TRUE;
    int status;

    while (wait(&status) > 0 || errno == EINTR) {
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    return good;
}

static void
print_results(const Result *results, guint workers)
{
    g_autoptr(GArray) samples = g_array_new(FALSE, FALSE, sizeof(gint64));
    gint64 began = G_MAXINT64, ended = 0;

    for (guint i = 0; i < workers; i++) {
        g_array_append_vals(samples, results[i].samples, results[i].count);
        began = MIN(began, results[i].began);
        ended = MAX(ended, results[i].ended);
    }
    bench_print(samples, ended - began);
}

static void
parse_options(Options *options, int argc, char **argv)
{
    GOptionEntry entries[] = {
        {"workers", 0, 0, G_OPTION_ARG_INT, &options->workers, "", "N"},
        {"count", 0, 0, G_OPTION_ARG_INT, &options->count, "", "N"},
        {"seconds", 0, 0, G_OPTION_ARG_DOUBLE, &options->seconds, "", "S"},
        {"size", 0, 0, G_OPTION_ARG_INT64, &options->size, "", "BYTES"},
        {"start-at", 0, 0, G_OPTION_ARG_INT64, &options->start_at, "", "NS"},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("KIND DIR");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 3 ||
        options->workers < 1 || options->size < 0 ||
        options->size > MAX_BYTES) {
        fprintf(stderr, "bench-files KIND DIR [OPTION...]%s%s\n",
                error != NULL ? ": " : "", error != NULL ? error->message : "");
        exit(EXIT_FAILURE);
    }
    options->kind = find_kind(argv[1]);
    options->directory = argv[2];
}

int
main(int argc, char **argv)
{
    Options options = {.workers = 1, .seconds = 3, .size = 700};
    Result *results;

    parse_options(&options, argc, argv);
    results = share_results((guint)options.workers);
    start_workers(&options, results);
    if (!wait_workers()) {
        return EXIT_FAILURE;
    }
    print_results(results, (guint)options.workers);
    return EXIT_SUCCESS;
}
