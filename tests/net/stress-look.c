/* stress-look.c - is an answer ever older than what .version has told?
 *
 *   stress-look write DIR ME OF SECONDS   takes turns with OF others
 *   stress-look check DIR                 until the writers are done
 *   stress-look grow FILE COUNT           one byte after the other
 *   stress-look see FILE COUNT            when each of them is seen
 *
 * In turn k a writer changes files in DIR in every way, and then writes k to
 * storage.cfg, in place: each turn counts it by one in .version. A checker
 * that is told k must see all of turn k, whatever it has seen, and cached,
 * before. `grow` and `see` print times of one clock in microseconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANNOUNCE "/etc/pve/storage.cfg"
#define COUNTER "\"storage.cfg\": "
#define DONE 900000000L
/* A turn removes what this many turns before it made. */
#define KEPT 3

static void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *format, ...)
{
    int error = errno;
    va_list arguments;

    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, " (%s)\n", strerror(error));
    exit(1);
}

static void
rest(long us)
{
    const struct timespec time = {.tv_nsec = us * 1000};

    (void)nanosleep(&time, NULL);
}

static long
now_us(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static long
number_of(int fd)
{
    char text[16] = "";

    return pread(fd, text, 10, 0) == 10 ? atol(text) : -1;
}

/* -1: it is not there. */
static long
number_in(const char *path, int flags)
{
    int fd = open(path, flags);
    long number = fd >= 0 ? number_of(fd) : -1;

    if (fd >= 0) {
        (void)close(fd);
    }
    return number;
}

/* Past all caches: a writer's descriptor. */
static long
truth(void)
{
    return number_in(ANNOUNCE, O_RDWR);
}

static void
put_number(const char *path, long number, int flags)
{
    char text[32];
    int fd = open(path, O_WRONLY | flags, 0640);

    (void)snprintf(text, sizeof(text), "%010ld", number);
    if (fd < 0 || pwrite(fd, text, 10, 0) != 10) {
        fail("write %s", path);
    }
    (void)close(fd);
}

static const char *
sequence(char *out, long k)
{
    (void)sprintf(out, "seq-%ld", k);
    return out;
}

/* Writers ----------------------------------------------------------------- */

static void
turn(long k, long me)
{
    char name[32], temporary[32];
    int fd;

    (void)sprintf(temporary, "tmp-%ld", me);
    put_number(temporary, k, O_CREAT | O_EXCL);
    if (rename(temporary, "file") < 0) {
        fail("rename");
    }
    put_number(sequence(name, k), k, O_CREAT | O_EXCL);
    if (k > KEPT && unlink(sequence(name, k - KEPT)) < 0) {
        fail("unlink %s", name);
    }
    fd = open("size", O_WRONLY | O_CREAT | O_APPEND, 0640);
    if (fd < 0 || write(fd, "x", 1) != 1) {
        fail("append");
    }
    (void)close(fd);
    put_number(ANNOUNCE, k, 0);
}

static int
write_turns(long me, long of, long seconds)
{
    long end = now_us() + seconds * 1000000, k;

    while ((k = truth()) < DONE) {
        if ((k + 1) % of != me) {
            rest(100);
        } else if (now_us() > end) {
            put_number(ANNOUNCE, DONE, 0);
        } else {
            turn(k + 1, me);
        }
    }
    return 0;
}

/* The checker ------------------------------------------------------------- */

static long
told(void)
{
    char text[16384];
    int fd = open("/etc/pve/.version", O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    const char *at;

    if (n < 0) {
        fail("read .version");
    }
    (void)close(fd);
    text[n] = '\0';
    at = strstr(text, COUNTER);
    if (at == NULL) {
        fail("no counter in .version");
    }
    return atol(at + strlen(COUNTER));
}

static int
is_there(long k)
{
    char name[32];
    struct stat st;

    return stat(sequence(name, k), &st) == 0;
}

/* What was made in turn k may be missing only when it was removed. */
static void
check_made(int is_seen, long k, const char *how)
{
    long at;

    if (!is_seen && k > 0 && (at = truth()) < k + KEPT - 1) {
        fail("told of %ld, seq-%ld is not %s, at %ld", k, k, how, at);
    }
}

static void
check_names(long k)
{
    check_made(is_there(k), k, "there");
    if (k > KEPT && is_there(k - KEPT)) {
        fail("told of %ld, seq-%ld is still there", k, k - KEPT);
    }
    /* The kernel shall remember that they are missing. */
    for (int i = 0; i < 4; i++) {
        (void)is_there(k + 1 + i / 2);
    }
}

static void
check_listing(DIR *directory, long k)
{
    const struct dirent *entry;
    int has_new = 0, has_old = 0;
    char fresh[32], old[32];

    (void)sequence(fresh, k);
    (void)sequence(old, k - KEPT);
    while ((entry = readdir(directory)) != NULL) {
        has_new |= strcmp(entry->d_name, fresh) == 0;
        has_old |= strcmp(entry->d_name, old) == 0;
    }
    check_made(has_new, k, "listed");
    if (has_old) {
        fail("told of %ld, %s is still listed", k, old);
    }
}

static void
check_contents(long k, int announce, int size)
{
    struct stat st;
    long number;

    if ((number = number_of(announce)) < k) {
        fail("told of %ld, an open file has %ld", k, number);
    }
    if ((number = number_in(ANNOUNCE, O_RDONLY)) < k) {
        fail("told of %ld, a file has %ld", k, number);
    }
    if ((number = number_in("file", O_RDONLY)) < k) {
        fail("told of %ld, a replaced file has %ld", k, number);
    }
    if (stat("size", &st) < 0 || st.st_size < k) {
        fail("told of %ld, the size is %ld", k, (long)st.st_size);
    }
    if (fstat(size, &st) < 0 || st.st_size < k) {
        fail("told of %ld, the size of an open file is %ld", k,
             (long)st.st_size);
    }
    if (lseek(size, 0, SEEK_END) < k) {
        fail("told of %ld, the end of an open file is before", k);
    }
}

/* Each look at most once a turn. */
static int
check_turns(void)
{
    long base = told() - truth(), k, last = 0, n = 0, base_file;
    int announce = open(ANNOUNCE, O_RDONLY);
    int size = open("size", O_RDONLY), old = open("file", O_RDONLY);
    DIR *directory;

    if (announce < 0 || size < 0 || old < 0) {
        fail("open");
    }
    base_file = number_of(old);
    (void)printf("ready\n");
    (void)fflush(stdout);
    while (truth() < DONE) {
        k = told() - base;
        if (k < last) {
            fail("told of %ld after %ld", k, last);
        }
        last = k;
        if (truth() >= DONE) {
            break; /* the last turn announces nothing that was made */
        }
        check_names(k);
        check_contents(k, announce, size);
        directory = opendir(".");
        if (directory == NULL) {
            fail("opendir");
        }
        check_listing(directory, k);
        (void)closedir(directory);
        n++;
        rest(300);
    }
    if (number_of(old) != base_file) {
        fail("a replaced file that was open has %ld", number_of(old));
    }
    (void)printf("%ld %ld\n", last, n);
    return 0;
}

/* Times ------------------------------------------------------------------- */

static int
grow(const char *path, long count)
{
    int fd = open(path, O_WRONLY | O_APPEND);

    for (long i = 0; i < count; i++) {
        if (write(fd, "x", 1) != 1) {
            fail("append to %s", path);
        }
        (void)printf("%ld\n", now_us());
        rest(2000);
    }
    return 0;
}

static int
see(const char *path, long count)
{
    struct stat st = {0};
    long seen = 0;

    if (stat(path, &st) < 0) {
        fail("stat %s", path);
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    while (seen < count) {
        if (stat(path, &st) < 0) {
            fail("stat %s", path);
        }
        for (; seen < st.st_size; seen++) {
            (void)printf("%ld\n", now_us());
        }
        rest(50);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "grow") == 0) {
        return grow(argv[2], atol(argv[3]));
    }
    if (argc == 4 && strcmp(argv[1], "see") == 0) {
        return see(argv[2], atol(argv[3]));
    }
    if (argc >= 3 && chdir(argv[2]) < 0) {
        fail("chdir %s", argv[2]);
    }
    if (argc == 6 && strcmp(argv[1], "write") == 0) {
        return write_turns(atol(argv[3]), atol(argv[4]), atol(argv[5]));
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        return check_turns();
    }
    (void)fprintf(stderr, "see the head of stress-look.c\n");
    return 2;
}
