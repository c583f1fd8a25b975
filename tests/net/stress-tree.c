/* stress-tree.c - random valid operations on a directory that others use too.
 *
 *   stress-tree DIR SEED SECONDS
 *
 * DIR and the directories in it, and DIR/../priv/lock, are shared by as many
 * of these as are started. Each operation may be refused for what another has
 * done meanwhile, for nothing else. Prints how many were done.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define N_FILES 24
#define N_DIRECTORIES 4
#define N_LOCKS 3
#define MAX_BYTES 20000

static char bytes[MAX_BYTES];
static unsigned long long state;

static unsigned
chance(unsigned below)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 33) % below;
}

static const char *
any_file(char *out)
{
    unsigned place = chance(N_DIRECTORIES + 1);

    if (place == 0) {
        (void)sprintf(out, "f%u", chance(N_FILES));
    } else {
        (void)sprintf(out, "d%u/f%u", place - 1, chance(N_FILES));
    }
    return out;
}

static const char *
any_directory(char *out)
{
    (void)sprintf(out, "d%u", chance(N_DIRECTORIES));
    return out;
}

static const char *
any_lock(char *out)
{
    (void)sprintf(out, "../priv/lock/stress%u", chance(N_LOCKS));
    return out;
}

/* What the others may have done to us. */
static int
is_fair(int error)
{
    return error == ENOENT || error == EEXIST || error == ENOTEMPTY ||
           error == ENOTDIR || error == EISDIR || error == ESTALE;
}

static int
check(int result, int also)
{
    if (result >= 0 || is_fair(errno) || errno == also) {
        return 0;
    }
    return errno;
}

static int
write_with(const char *name, int flags)
{
    int fd = open(name, flags, 0640);
    int problem = check(fd, 0);

    if (fd < 0) {
        return problem;
    }
    for (unsigned n = chance(3); n > 0 && problem == 0; n--) {
        problem = check((int)write(fd, bytes, chance(MAX_BYTES)), EFBIG);
    }
    (void)close(fd);
    return problem;
}

static int
do_create(void)
{
    char name[64];

    return write_with(any_file(name), O_WRONLY | O_CREAT | O_EXCL);
}

static int
do_rewrite(void)
{
    char name[64];

    return write_with(any_file(name), O_WRONLY | O_CREAT | O_TRUNC);
}

static int
do_append(void)
{
    char name[64];

    return write_with(any_file(name), O_WRONLY | O_APPEND);
}

static int
do_rename(void)
{
    char from[64], to[64];

    return check(rename(any_file(from), any_file(to)), 0);
}

static int
do_truncate(void)
{
    char name[64];

    return check(truncate(any_file(name), (off_t)chance(MAX_BYTES)), 0);
}

static int
do_unlink(void)
{
    char name[64];

    return check(unlink(any_file(name)), 0);
}

/* Its last content must be there until it is closed. */
static int
do_unlink_open(void)
{
    char name[64], before[64], after[64];
    int fd = open(any_file(name), O_RDONLY);
    ssize_t n, m;

    if (fd < 0) {
        return check(fd, 0);
    }
    (void)unlink(name);
    n = pread(fd, before, sizeof(before), 0);
    m = pread(fd, after, sizeof(after), 0);
    (void)close(fd);
    /* Another may have renamed it away first and write it still. */
    return n < 0 ? check(-1, 0) : m < 0 ? errno : 0;
}

static int
do_mkdir(void)
{
    char name[64];

    return check(mkdir(any_directory(name), 0755), 0);
}

static int
do_rmdir(void)
{
    char name[64];

    return check(rmdir(any_directory(name)), 0);
}

static int
do_utime(void)
{
    char name[64];

    return check(utimensat(AT_FDCWD, any_file(name), NULL, 0), 0);
}

static int
do_lock(void)
{
    char name[64];

    return check(mkdir(any_lock(name), 0755), 0);
}

static int
do_renew(void)
{
    char name[64];

    return check(utimensat(AT_FDCWD, any_lock(name), NULL, 0), EACCES);
}

static int
do_unlock(void)
{
    char name[64];

    return check(rmdir(any_lock(name)), 0);
}

static int
do_look(void)
{
    char name[64], in[256];
    struct stat st;
    int fd;

    (void)stat(any_file(name), &st);
    fd = open(any_file(name), O_RDONLY);
    if (fd >= 0) {
        while (read(fd, in, sizeof(in)) > 0) {
        }
        (void)close(fd);
    }
    return 0;
}

static const struct {
    const char *name;
    int (*function)(void);
} operations[] = {
    {"create", do_create},    {"rewrite", do_rewrite},
    {"append", do_append},    {"rename", do_rename},
    {"rename", do_rename},    {"truncate", do_truncate},
    {"unlink", do_unlink},    {"unlink open", do_unlink_open},
    {"mkdir", do_mkdir},      {"rmdir", do_rmdir},
    {"utime", do_utime},      {"lock", do_lock},
    {"renew lock", do_renew}, {"unlock", do_unlock},
    {"look", do_look},        {"look", do_look},
};

int
main(int argc, char **argv)
{
    time_t end;
    unsigned n = 0;

    if (argc != 4 || chdir(argv[1]) < 0) {
        (void)fprintf(stderr, "stress-tree DIR SEED SECONDS\n");
        return 2;
    }
    state = strtoull(argv[2], NULL, 10) * 2654435761u + 1;
    (void)memset(bytes, 'a' + (int)chance(26), sizeof(bytes));
    end = time(NULL) + (time_t)strtoul(argv[3], NULL, 10);
    while (time(NULL) < end) {
        unsigned i = chance(sizeof(operations) / sizeof(operations[0]));
        int problem = operations[i].function();

        if (problem != 0) {
            (void)fprintf(stderr, "%s: %s\n", operations[i].name,
                          strerror(problem));
            return 1;
        }
        n++;
    }
    (void)printf("%u\n", n);
    return 0;
}
