/* nemesis-client.c - one client of ./nemesis: does and records operations.
 *
 *   nemesis-client DIR ID SEED PAUSE_US OBJECTS
 *
 * Works on DIR (/etc/pve/nemesis) with others on all nodes until its stdin is
 * closed, one operation after the other, and writes two lines for each to
 * stdout: when it begins, and when it is over. Times are microseconds of
 * CLOCK_MONOTONIC, which all nodes on one host share. It is not ended by a
 * signal: that would free an operation that hangs.
 *
 *   b TIME OPERATION OBJECT [ARGUMENT]
 *   e TIME ok|maybe|no ERRNO [VALUE]
 *
 * `maybe`: an error of a change that may have been done all the same; `no`:
 * it has not been, because we did not even ask. OBJECTS counts the registers,
 * tokens and journals to share, as "40,20,6". Values are ID-NUMBER, padded to
 * VALUE_BYTES, and never used twice.
 *
 *   read, write, swap   reg/N    content; in place; renamed into place
 *   list, move          tok/N    the one name in a directory; renamed to next
 *   claim, drop         ex/N     O_EXCL create, unlink; N is the round
 *   lock, unlock        ../priv/lock/nemesis-N   mkdir + fsync, rmdir
 *   append, journal     log/N    O_APPEND; size and hash of the content
 *   sync                .        fsync of what was just changed
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VALUE_BYTES 16
#define VALUE_FORMAT "%-15.15s\n"
#define NAME_BYTES 64
#define SHARED_LOCKS 3
/* A round of claims has a name of its own, so has a lock for a while: what an
 * unknown outcome leaves behind is in nobody's way for long. */
#define CLAIM_ROUND_US 50000
#define LOCK_ROUND_US 20000000

static struct {
    const char *directory;
    const char *id;
    unsigned long long chance;
    unsigned n_registers, n_tokens, n_journals;
    long last_value;
    int base; /* the directory, opened anew for each operation */
} client;

static int
is_told_to_end(void)
{
    struct pollfd in = {.fd = STDIN_FILENO};

    return poll(&in, 1, 0) > 0;
}

static unsigned
chance(unsigned below)
{
    client.chance =
        client.chance * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(client.chance >> 33) % below;
}

static long
now_us(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void
pause_us(long us)
{
    const struct timespec time = {us / 1000000, us % 1000000 * 1000};

    (void)nanosleep(&time, NULL);
}

/* The record ----------------------------------------------------------------
 */

/* A line at once: what hangs or is killed has a begin without an end. */
static void __attribute__((format(printf, 1, 2)))
record(const char *format, ...)
{
    char line[512];
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)n) != n) {
        _exit(1); /* nobody keeps the record any more */
    }
}

static void
begin(const char *operation, const char *object, const char *argument)
{
    record("b %ld %s %s%s%s\n", now_us(), operation, object,
           argument[0] != '\0' ? " " : "", argument);
}

static void
end(const char *outcome, int error, const char *value)
{
    record("e %ld %s %d%s%s\n", now_us(), outcome, error,
           value[0] != '\0' ? " " : "", value);
}

/* A change: what an error says of it is not to be trusted. */
static int
end_change(int result)
{
    int error = result < 0 ? errno : 0;

    end(error == 0 ? "ok" : "maybe", error, "");
    return error;
}

static int
end_unasked(void)
{
    int error = errno;

    end("no", error, "");
    return error;
}

static const char *
next_value(char out[NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "%s-%ld", client.id, ++client.last_value);
    return out;
}

/* Finding ------------------------------------------------------------------
 */

/* Where no mount is there is no such directory either, and nothing below. */
static int
open_base(void)
{
    client.base = open(client.directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return client.base;
}

static int
open_in(const char *name, int flags)
{
    int fd;

    if (open_base() < 0) {
        return -1;
    }
    fd = openat(client.base, name, flags | O_CLOEXEC, 0640);
    if (fd < 0) {
        int error = errno;

        (void)close(client.base);
        errno = error;
        return -1;
    }
    (void)close(client.base);
    return fd;
}

static void
pick(char out[NAME_BYTES], const char *kind, unsigned n)
{
    (void)snprintf(out, NAME_BYTES, "%s/%u", kind, chance(n));
}

/* What the disk shall keep of all that this node has done until now. */
static void
sync_with(int fd)
{
    begin("sync", ".", "");
    (void)end_change(fsync(fd));
}

/* Registers ----------------------------------------------------------------
 */

static void
do_read(void)
{
    char object[NAME_BYTES], value[4 * VALUE_BYTES];
    ssize_t n;
    int fd;

    pick(object, "reg", client.n_registers);
    begin("read", object, "");
    fd = open_in(object, O_RDONLY);
    if (fd < 0) {
        (void)end_unasked();
        return;
    }
    n = pread(fd, value, sizeof(value) - 1, 0);
    if (n < 0) {
        (void)end_unasked();
    } else {
        value[n] = '\0';
        for (char *at = value; *at != '\0'; at++) {
            *at = *at == ' ' || *at == '\n' ? '\0' : *at;
        }
        end("ok", 0, n == VALUE_BYTES ? value : "(torn)");
    }
    (void)close(fd);
}

static void
fill(char bytes[NAME_BYTES], const char *value)
{
    (void)snprintf(bytes, NAME_BYTES, VALUE_FORMAT, value);
}

static void
do_write(void)
{
    char object[NAME_BYTES], value[NAME_BYTES], bytes[NAME_BYTES];
    int fd;

    pick(object, "reg", client.n_registers);
    fill(bytes, next_value(value));
    begin("write", object, value);
    fd = open_in(object, O_WRONLY);
    if (fd < 0) {
        (void)end_unasked();
        return;
    }
    if (end_change((int)pwrite(fd, bytes, VALUE_BYTES, 0)) == 0 &&
        chance(2) == 0) {
        sync_with(fd);
    }
    (void)close(fd);
}

static int
make_temporary(const char *name, const char *value)
{
    char bytes[NAME_BYTES];
    int fd = open_in(name, O_WRONLY | O_CREAT | O_EXCL);

    fill(bytes, value);
    if (fd >= 0 && pwrite(fd, bytes, VALUE_BYTES, 0) != VALUE_BYTES) {
        int error = errno;

        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void
do_swap(void)
{
    char object[NAME_BYTES], value[NAME_BYTES], temporary[2 * NAME_BYTES];
    int fd;

    pick(object, "reg", client.n_registers);
    (void)snprintf(temporary, sizeof(temporary), "tmp/%s", next_value(value));
    begin("swap", object, value);
    fd = make_temporary(temporary, value);
    if (fd < 0 || open_base() < 0) {
        (void)end_unasked();
    } else {
        int result = renameat(client.base, temporary, client.base, object);

        if (end_change(result) == 0 && chance(2) == 0) {
            sync_with(fd);
        }
        (void)close(client.base);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* Tokens -------------------------------------------------------------------
 */

/* All names in it, "," between them. */
static int
list_names(const char *object, char *out, size_t size)
{
    int fd = open_in(object, O_RDONLY | O_DIRECTORY);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;

    out[0] = '\0';
    if (directory == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return -1;
    }
    errno = 0;
    while ((entry = readdir(directory)) != NULL) {
        size_t used = strlen(out);

        if (entry->d_name[0] != '.') {
            (void)snprintf(out + used, size - used, "%s%s", used > 0 ? "," : "",
                           entry->d_name);
        }
    }
    if (errno != 0) {
        int error = errno;

        (void)closedir(directory);
        errno = error;
        return -1;
    }
    (void)closedir(directory);
    return 0;
}

static int
look_for_token(const char *object, char *names, size_t size)
{
    begin("list", object, "");
    if (list_names(object, names, size) < 0) {
        (void)end_unasked();
        return -1;
    }
    end("ok", 0, names[0] != '\0' ? names : "(none)");
    return names[0] != '\0' && strchr(names, ',') == NULL ? 0 : -1;
}

static void
do_list(void)
{
    char object[NAME_BYTES], names[256];

    pick(object, "tok", client.n_tokens);
    (void)look_for_token(object, names, sizeof(names));
}

static void
do_move(void)
{
    char object[NAME_BYTES], old[100], value[NAME_BYTES], argument[256];
    char from[256], to[256];

    pick(object, "tok", client.n_tokens);
    if (look_for_token(object, old, sizeof(old)) < 0) {
        return;
    }
    (void)snprintf(argument, sizeof(argument), "%s %s", old, next_value(value));
    (void)snprintf(from, sizeof(from), "%s/%s", object, old);
    (void)snprintf(to, sizeof(to), "%s/%s", object, value);
    begin("move", object, argument);
    if (open_base() < 0) {
        (void)end_unasked();
        return;
    }
    if (end_change(renameat(client.base, from, client.base, to)) == 0 &&
        chance(2) == 0) {
        int fd = open_in(object, O_RDONLY | O_DIRECTORY);

        if (fd >= 0) {
            sync_with(fd);
            (void)close(fd);
        }
    }
    (void)close(client.base);
}

/* Claims and locks ---------------------------------------------------------
 */

static void
drop(const char *object)
{
    begin("drop", object, "");
    if (open_base() < 0) {
        (void)end_unasked();
        return;
    }
    (void)end_change(unlinkat(client.base, object, 0));
    (void)close(client.base);
}

static void
do_claim(void)
{
    char object[NAME_BYTES];
    int fd;

    (void)snprintf(object, sizeof(object), "ex/%ld", now_us() / CLAIM_ROUND_US);
    begin("claim", object, "");
    if (open_base() < 0) {
        (void)end_unasked();
        return;
    }
    fd = openat(client.base, object, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                0640);
    if (end_change(fd) == 0) {
        if (chance(2) == 0) {
            sync_with(fd);
        }
        (void)close(fd);
        if (chance(4) != 0) {
            pause_us(2 * CLAIM_ROUND_US);
            drop(object);
        }
    }
    (void)close(client.base);
}

/* Holds it only once a majority has it on disk. */
static void
hold_lock(const char *object)
{
    int fd = open_in(object, O_RDONLY | O_DIRECTORY);

    if (fd < 0) {
        return;
    }
    begin("sync", ".", object);
    (void)end_change(fsync(fd));
    (void)close(fd);
    pause_us((long)chance(50000));
    begin("unlock", object, "");
    if (open_base() < 0) {
        (void)end_unasked();
        return;
    }
    (void)end_change(unlinkat(client.base, object, AT_REMOVEDIR));
    (void)close(client.base);
}

static void
do_lock(void)
{
    char object[NAME_BYTES];

    (void)snprintf(object, sizeof(object), "../priv/lock/nemesis-%ld-%u",
                   now_us() / LOCK_ROUND_US, chance(SHARED_LOCKS));
    begin("lock", object, "");
    if (open_base() < 0) {
        (void)end_unasked();
        return;
    }
    if (end_change(mkdirat(client.base, object, 0755)) == 0) {
        (void)close(client.base);
        hold_lock(object);
        return;
    }
    (void)close(client.base);
}

/* Journals -----------------------------------------------------------------
 */

static void
do_append(void)
{
    char object[NAME_BYTES], value[NAME_BYTES], bytes[NAME_BYTES];
    int fd;

    if (client.n_journals == 0) {
        return;
    }
    pick(object, "log", client.n_journals);
    fill(bytes, next_value(value));
    begin("append", object, value);
    fd = open_in(object, O_WRONLY | O_APPEND);
    if (fd < 0) {
        (void)end_unasked();
        return;
    }
    if (end_change((int)write(fd, bytes, VALUE_BYTES)) == 0 && chance(2) == 0) {
        sync_with(fd);
    }
    (void)close(fd);
}

/* Fowler, Noll, Vo: 1a with 64 bits. */
static uint64_t
hash_more(uint64_t hash, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3ULL;
    }
    return hash;
}

static void
do_journal(void)
{
    static char bytes[1 << 20];
    char object[NAME_BYTES], text[NAME_BYTES];
    uint64_t hash = 0xcbf29ce484222325ULL;
    off_t at = 0;
    ssize_t n;
    int fd;

    if (client.n_journals == 0) {
        return;
    }
    pick(object, "log", client.n_journals);
    begin("journal", object, "");
    fd = open_in(object, O_RDONLY);
    if (fd < 0) {
        (void)end_unasked();
        return;
    }
    while ((n = pread(fd, bytes, sizeof(bytes), at)) > 0) {
        hash = hash_more(hash, bytes, (size_t)n);
        at += n;
    }
    (void)snprintf(text, sizeof(text), "%ld:%016llx", (long)at,
                   (unsigned long long)hash);
    if (n < 0) {
        (void)end_unasked();
    } else {
        end("ok", 0, text);
    }
    (void)close(fd);
}

/* The mix ------------------------------------------------------------------
 */

static const struct {
    unsigned weight;
    void (*function)(void);
} mix[] = {
    {30, do_read}, {14, do_write}, {12, do_swap},
    {10, do_list}, {14, do_move},  {8, do_claim},
    {4, do_lock},  {6, do_append}, {2, do_journal},
};

static void
do_any(void)
{
    unsigned total = 0, n;

    for (size_t i = 0; i < sizeof(mix) / sizeof(mix[0]); i++) {
        total += mix[i].weight;
    }
    n = chance(total);
    for (size_t i = 0; i < sizeof(mix) / sizeof(mix[0]); i++) {
        if (n < mix[i].weight) {
            mix[i].function();
            return;
        }
        n -= mix[i].weight;
    }
}

int
main(int argc, char **argv)
{
    long mean_us;

    if (argc != 6 || sscanf(argv[5], "%u,%u,%u", &client.n_registers,
                            &client.n_tokens, &client.n_journals) != 3) {
        (void)fprintf(stderr, "see the head of nemesis-client.c\n");
        return 2;
    }
    client.directory = argv[1];
    client.id = argv[2];
    client.chance = strtoull(argv[3], NULL, 10) * 2654435761u + 1;
    mean_us = atol(argv[4]);
    while (!is_told_to_end()) {
        do_any();
        /* Now and then a burst: what is close together finds most. */
        if (chance(8) != 0 && mean_us > 0) {
            pause_us((long)chance((unsigned)(2 * mean_us)));
        }
    }
    return 0;
}
