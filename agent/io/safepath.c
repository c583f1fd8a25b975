#include "config.h"

#include "agent/io/safepath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/io/ops.h"
#include "common/files.h"

enum { MAX_RACES = 100 };

/* EAGAIN: a rename or mount elsewhere disturbed the walk. */
static int
open_at(int root, const char *path, int flags, mode_t mode, guint64 resolve)
{
    struct open_how how = {.flags = (guint64)(flags | O_CLOEXEC),
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = resolve};
    long fd = -1;

    for (guint i = 0; i < MAX_RACES; i++) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN) {
            break;
        }
    }
    return (int)fd;
}

int
agent_safe_open(int root, const char *path, int flags, mode_t mode)
{
    return open_at(root, path, flags, mode,
                   RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int
agent_safe_open_regular(int root, const char *path, int flags)
{
    PVE_AUTOFD(place) = agent_safe_open(root, path, O_PATH, 0);
    g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", place);
    struct stat st;

    if (place < 0 || fstat(place, &st) < 0) {
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return open(self, flags | O_CLOEXEC | O_NOCTTY);
}

char *
agent_safe_read(int root, const char *path, gsize max, gsize *size)
{
    PVE_AUTOFD(fd) = agent_safe_open_regular(root, path, O_RDONLY);
    g_autofree char *text = g_malloc0(max + 1);
    gsize n = 0;

    if (fd < 0) {
        return NULL;
    }
    while (n < max) {
        ssize_t piece = read(fd, text + n, max - n);

        if (piece < 0 && errno != EINTR) {
            return NULL;
        }
        if (piece == 0) {
            break;
        }
        n += piece > 0 ? (gsize)piece : 0;
    }
    if (size != NULL) {
        *size = n;
    }
    return g_steal_pointer(&text);
}

static int
walk_error(GError **error, const char *path)
{
    if (errno == ELOOP || errno == ENOTDIR) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "symlink encountered at: %s", path);
    } else {
        pve_errno_error(error, "cannot open directory", path);
    }
    return -1;
}

/* One step: opens @name in @parent, making it when it is not there. */
static int
step(int parent, const char *name, uid_t uid, gid_t gid)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
    const guint64 resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    int fd = open_at(parent, name, flags, 0, resolve);

    if (fd >= 0 || errno != ENOENT) {
        return fd;
    }
    if (mkdirat(parent, name, 0755) == 0) {
        if (fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0) {
            return -1;
        }
    } else if (errno != EEXIST) {
        return -1;
    }
    return open_at(parent, name, flags, 0, resolve);
}

int
agent_safe_make_directory(
    int root, const char *path, uid_t uid, gid_t gid, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    PVE_AUTOFD(fd) = fcntl(root, F_DUPFD_CLOEXEC, 3);

    if (fd < 0) {
        return walk_error(error, path);
    }
    for (char **part = parts; *part != NULL; part++) {
        int next;

        if (**part == '\0') {
            continue;
        }
        if (strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0) {
            errno = EINVAL;
            return walk_error(error, path);
        }
        next = step(fd, *part, uid, gid);
        if (next < 0) {
            return walk_error(error, path);
        }
        (void)close(fd);
        fd = next;
    }
    return pve_steal_fd(&fd);
}

int
agent_safe_open_host(const char *path, GError **error)
{
    int fd = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0,
                     RESOLVE_NO_SYMLINKS);

    if (fd < 0 && errno == ENOENT) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "directory '%s' does not exist", path);
        return -1;
    }
    return fd < 0 ? walk_error(error, path) : fd;
}

gboolean
agent_safe_replace(int root,
                   const char *directory,
                   const char *name,
                   const char *text,
                   uid_t uid,
                   gid_t gid,
                   GError **error)
{
    g_autofree char *temporary =
        g_strdup_printf("%s.tmp.%d", name, (int)getpid());
    PVE_AUTOFD(dir) =
        agent_safe_open(root, directory, O_RDONLY | O_DIRECTORY, 0);
    PVE_AUTOFD(fd) = -1;

    if (dir < 0) {
        return pve_errno_error(error, "open", directory);
    }
    (void)unlinkat(dir, temporary, 0);
    fd = openat(dir, temporary,
                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 || !pve_write_all(fd, text, strlen(text)) ||
        fchown(fd, uid, gid) < 0 || fchmod(fd, 0644) < 0 ||
        renameat(dir, temporary, dir, name) < 0) {
        pve_errno_error(error, "write", name);
        (void)unlinkat(dir, temporary, 0);
        return FALSE;
    }
    return TRUE;
}
