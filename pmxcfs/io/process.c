#define G_LOG_DOMAIN "main"
#include "config.h"

#include "pmxcfs/io/process.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/paths.h"
#include "pmxcfs/core/core-error.h"

#define LOCK_ATTEMPTS 10
#define EXIT_FAILED 255

static gboolean
is_loopback(const char *ip)
{
    return g_str_has_prefix(ip, "127.") || strcmp(ip, "::1") == 0;
}

char *
cfs_process_resolve(const char *name, GError **error)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    char text[NI_MAXHOST], *ip = NULL;

    if (getaddrinfo(name, NULL, &hints, &all) == 0) {
        for (struct addrinfo *i = all; i != NULL && ip == NULL;
             i = i->ai_next) {
            if (getnameinfo(i->ai_addr, i->ai_addrlen, text, sizeof(text), NULL,
                            0, NI_NUMERICHOST) == 0 &&
                !is_loopback(text)) {
                ip = g_strdup(text);
            }
        }
        freeaddrinfo(all);
    }
    if (ip == NULL) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONFIG,
                    "Unable to resolve node name '%s' to a non-loopback IP "
                    "address - missing entry in '/etc/hosts' or DNS?",
                    name);
    }
    return ip;
}

gboolean
cfs_process_make_directories(gid_t group, GError **error)
{
    if (!pve_mkdir_parents(PVE_STATE_DIR, 0750, error) ||
        !pve_mkdir_parents(PVE_RUN_DIR, 0750, error)) {
        return FALSE;
    }
    if (chown(PVE_RUN_DIR, 0, group) < 0) {
        return pve_errno_error(error, "change the owner of", PVE_RUN_DIR);
    }
    return TRUE;
}

int
cfs_process_lock(GError **error)
{
    PVE_AUTOFD(fd) = open(PVE_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0) {
        pve_errno_error(error, "open", PVE_LOCK_FILE);
        return -1;
    }
    for (guint i = 0; i <= LOCK_ATTEMPTS; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return pve_steal_fd(&fd);
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            break;
        }
        if (i == 0) {
            g_message("unable to acquire pmxcfs lock - trying again");
        }
        if (i < LOCK_ATTEMPTS) {
            /* The loop does not run yet: here we may wait. */
            g_usleep(G_USEC_PER_SEC);
            errno = EWOULDBLOCK;
        }
    }
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "unable to acquire pmxcfs lock: %s", g_strerror(errno));
    return -1;
}

/* The child answers by one byte, or by ending. What it serves is looked at
 * too: that waits until it answers, or fails when it is dead. */
static G_GNUC_NORETURN void
wait_for_child(int fd, const char *probe)
{
    struct stat st;
    ssize_t n;
    char byte;

    do {
        n = read(fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1 && lstat(probe, &st) == 0) {
        _exit(EXIT_SUCCESS);
    }
    _exit(EXIT_FAILED);
}

int
cfs_process_fork(const char *probe)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        g_critical("pipe: %s", g_strerror(errno));
        exit(EXIT_FAILED);
    }
    pid = fork();
    if (pid < 0) {
        g_critical("fork: %s", g_strerror(errno));
        exit(EXIT_FAILED);
    }
    if (pid > 0) {
        (void)close(ends[1]);
        wait_for_child(ends[0], probe);
    }
    (void)close(ends[0]);
    (void)setsid();
    (void)chdir("/");
    return ends[1];
}

void
cfs_process_started(int parent)
{
    PVE_AUTOFD(null) = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++) {
        (void)dup2(null, fd);
    }
    (void)pve_write_all(parent, "R", 1);
    (void)close(parent);
}

/* The number behind @key in a file of /proc, or 0. */
static guint64
proc_number(const char *path, const char *key)
{
    g_autoptr(GBytes) text = pve_file_read(path, 1 << 16, NULL);
    const char *found =
        text != NULL ? strstr(g_bytes_get_data(text, NULL), key) : NULL;

    return found != NULL ? g_ascii_strtoull(found + strlen(key), NULL, 10) : 0;
}

void
cfs_process_collect(CfsMetrics *metrics)
{
    cfs_metrics_set(metrics, CFS_METRIC_MEMORY,
                    1024 * proc_number("/proc/self/status", "VmRSS:"));
    cfs_metrics_set(metrics, CFS_METRIC_DISK_BYTES_WRITTEN,
                    proc_number("/proc/self/io", "\nwrite_bytes:"));
}

gboolean
cfs_process_write_pid(GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());

    return pve_file_replace(PVE_PID_FILE, text, strlen(text), 0644, error);
}

void
cfs_process_remove_pid(void)
{
    (void)unlink(PVE_PID_FILE);
}

guint32
cfs_process_start_time(void)
{
    g_autoptr(GBytes) before = pve_file_read(PVE_START_TIME, 32, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    guint64 now = (guint64)time(NULL);

    if (before != NULL) {
        guint64 last =
            g_ascii_strtoull(g_bytes_get_data(before, NULL), NULL, 10);

        now = CLAMP(last + 1, now, G_MAXUINT32);
    }
    text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", now);
    if (!pve_file_replace(PVE_START_TIME, text, strlen(text), 0644, &error)) {
        g_warning("%s", error->message);
    }
    return (guint32)now;
}

void
cfs_process_raise_restart_flag(gid_t group)
{
    PVE_AUTOFD(fd) =
        open(PVE_RESTART_FLAG, O_WRONLY | O_CREAT | O_CLOEXEC, 0440);

    if (fd < 0 || fchown(fd, 0, group) < 0 || fchmod(fd, 0440) < 0) {
        g_warning("%s: %s", PVE_RESTART_FLAG, g_strerror(errno));
    }
}

void
cfs_process_lower_restart_flag(void)
{
    (void)unlink(PVE_RESTART_FLAG);
}
