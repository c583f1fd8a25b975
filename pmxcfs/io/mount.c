#define G_LOG_DOMAIN "main"
#include "config.h"

#include "pmxcfs/io/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "pmxcfs/core/core-error.h"

#define MOUNT_TABLE "/proc/self/mountinfo"
/* Each start after a kill could have left one. */
#define MAX_DEAD_MOUNTS 64
#define PROBE_MS 2000

/* Returns: (owned) type of the topmost mount at @path, NULL: none is there or
 * @error is set. The table lists later mounts later. */
static char *
topmost_type(const char *path, GError **error)
{
    g_autoptr(GBytes) table = pve_file_read(MOUNT_TABLE, 0, error);
    g_auto(GStrv) lines = NULL;
    char *type = NULL;

    if (table == NULL) {
        return NULL;
    }
    lines = g_strsplit(g_bytes_get_data(table, NULL), "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        /* id parent major:minor root PATH options [tags] - TYPE ... */
        g_auto(GStrv) words = g_strsplit(lines[i], " ", -1);
        const char *dash = strstr(lines[i], " - ");

        if (g_strv_length(words) > 6 && dash != NULL &&
            strcmp(words[4], path) == 0) {
            g_free(type);
            type = g_strndup(dash + 3, strcspn(dash + 3, " "));
        }
    }
    return type;
}

static gboolean
is_fuse(const char *type)
{
    return type != NULL &&
           (strcmp(type, "fuse") == 0 || g_str_has_prefix(type, "fuse."));
}

/* A dead one either says so or, when something still holds its descriptor,
 * never answers: so a child asks. It is freed with the mount. */
static gboolean
is_dead(const char *path)
{
    struct pollfd ended = {.events = POLLIN};
    PVE_AUTOFD(child) = -1;
    siginfo_t status = {0};
    pid_t pid = fork();

    if (pid == 0) {
        struct statx st;
        /* What the kernel has cached outlives the daemon. */
        int result =
            statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC,
                  STATX_BASIC_STATS, &st);

        _exit(result < 0 && (errno == ENOTCONN || errno == ECONNABORTED));
    }
    if (pid < 0) {
        g_warning("fork: %s", g_strerror(errno));
        return FALSE;
    }
    child = (int)syscall(SYS_pidfd_open, pid, 0);
    ended.fd = child;
    if (child >= 0 && poll(&ended, 1, PROBE_MS) == 0) {
        (void)kill(pid, SIGKILL);
        g_message("nobody has answered at %s for %d ms", path, PROBE_MS);
        return TRUE;
    }
    (void)waitid(P_PID, (id_t)pid, &status, WEXITED);
    return status.si_status != 0;
}

static gboolean
free_dead_mounts(const char *path, GError **error)
{
    for (guint i = 0; i < MAX_DEAD_MOUNTS; i++) {
        g_autoptr(GError) problem = NULL;
        g_autofree char *type = topmost_type(path, &problem);

        if (problem != NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return FALSE;
        }
        if (!is_fuse(type)) {
            return TRUE;
        }
        if (!is_dead(path)) {
            g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                        "another filesystem of type '%s' is mounted at %s and "
                        "alive: stop it or unmount it first",
                        type, path);
            return FALSE;
        }
        g_message("replacing the dead mount at %s", path);
        if (umount2(path, MNT_FORCE | MNT_DETACH) < 0) {
            return pve_errno_error(error, "unmount", path);
        }
    }
    g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                "too many dead mounts at %s: unmount them by hand", path);
    return FALSE;
}

static void
warn_of_content(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name = dir != NULL ? g_dir_read_name(dir) : NULL;

    if (name != NULL) {
        g_warning("%s is not empty: '%s' and all else there is hidden while "
                  "the cluster filesystem is mounted",
                  path, name);
    }
}

gboolean
cfs_mount_prepare(const char *path, GError **error)
{
    if (!free_dead_mounts(path, error) ||
        !pve_mkdir_parents(path, 0750, error)) {
        return FALSE;
    }
    warn_of_content(path);
    return TRUE;
}

int
cfs_mount(const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    g_autofree char *options = NULL;

    if (fd < 0) {
        pve_errno_error(error, "open", "/dev/fuse");
        return -1;
    }
    options = g_strdup_printf("fd=%d,rootmode=40000,user_id=0,group_id=0,"
                              "default_permissions,allow_other",
                              fd);
    if (mount("/dev/fuse", path, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
        pve_errno_error(error, "mount", path);
        return -1;
    }
    return pve_steal_fd(&fd);
}

gboolean
cfs_unmount(const char *path, GError **error)
{
    if (umount2(path, UMOUNT_NOFOLLOW) == 0 ||
        umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) == 0) {
        return TRUE;
    }
    return pve_errno_error(error, "unmount", path);
}
