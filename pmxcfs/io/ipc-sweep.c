#include "config.h"

#include "pmxcfs/io/ipc-sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/ipc-proto.h"

/* qb-DAEMON-CLIENT-FD-XXXXXX. Returns: DAEMON, or 0. */
static pid_t
daemon_of(const char *name)
{
    char *end = NULL;
    long pid;

    if (!g_str_has_prefix(name, "qb-") || !g_ascii_isdigit(name[3])) {
        return 0;
    }
    errno = 0;
    pid = strtol(name + 3, &end, 10);
    return errno == 0 && *end == '-' && pid > 0 && pid <= G_MAXINT ? (pid_t)pid
                                                                   : 0;
}

/* We have just begun: what has our number is of another. */
static gboolean
is_dead(pid_t pid)
{
    return pid == getpid() || (kill(pid, 0) < 0 && errno == ESRCH);
}

static gboolean
is_of_service(const char *name)
{
    return g_str_has_prefix(name, "qb-") &&
           strstr(name, "-" PVE_IPC_SERVICE) != NULL;
}

static void
sweep_one(int parent, const char *name)
{
    PVE_AUTOFD(fd) =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int copy = fd >= 0 ? dup(fd) : -1;
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    const struct dirent *entry;
    gboolean is_ours = FALSE;

    if (directory == NULL) {
        if (copy >= 0) {
            (void)close(copy);
        }
        return;
    }
    while ((entry = readdir(directory)) != NULL) {
        if (is_of_service(entry->d_name)) {
            is_ours = TRUE;
            (void)unlinkat(fd, entry->d_name, 0);
        }
    }
    (void)closedir(directory);
    if (is_ours) {
        (void)unlinkat(parent, name, AT_REMOVEDIR);
    }
}

void
cfs_ipc_sweep(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;

    if (directory == NULL) {
        return;
    }
    while ((entry = readdir(directory)) != NULL) {
        pid_t pid = daemon_of(entry->d_name);

        if (pid != 0 && is_dead(pid)) {
            sweep_one(dirfd(directory), entry->d_name);
        }
    }
    (void)closedir(directory);
}
