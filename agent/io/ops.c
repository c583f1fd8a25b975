#include "config.h"

#include "agent/io/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/io/cgroups.h"
#include "agent/io/child.h"
#include "agent/io/configs.h"
#include "agent/io/container.h"
#include "agent/io/holds.h"
#include "agent/io/lockfile.h"
#include "agent/io/prepare.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

enum {
    STATUS_FD = 3, /* of the supervisor: it reports a failed start there */
    LOOK_MS = 10,
    START_TIMEOUT_MS = 180000, /* a mount may wait for another host's mark */
    GONE_TIMEOUT_MS = 120000,
    MAX_REPORT = 4096,
};

#define SUPERVISOR PVE_LIBEXECDIR "/pve-lxc-supervise"

/* --- what runs --- */

/* The id in "... @/var/lib/lxc/100/command"; 0: another socket. */
static guint32
id_of_line(const char *line)
{
    static const char prefix[] = "@" PVE_LXC_DIR "/";
    const char *name = strstr(line, prefix);
    const char *slash;
    g_autofree char *id = NULL;

    if (name == NULL) {
        return 0;
    }
    name += strlen(prefix);
    slash = strchr(name, '/');
    if (slash == NULL || strcmp(slash, "/command") != 0) {
        return 0;
    }
    id = g_strndup(name, (gsize)(slash - name));
    return pve_ctid_parse(id);
}

static gint
by_id(gconstpointer a, gconstpointer b)
{
    guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;

    return (x > y) - (x < y);
}

GArray *
agent_ops_running(void)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(GBytes) bytes = pve_file_read("/proc/net/unix", 0, NULL);
    g_auto(GStrv) lines = NULL;

    if (bytes == NULL) {
        return ids;
    }
    lines = g_strsplit(g_bytes_get_data(bytes, NULL), "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        guint32 ctid = id_of_line(*line);

        if (ctid != 0) {
            g_array_append_val(ids, ctid);
        }
    }
    /* A connected socket has the name too. */
    g_array_sort(ids, by_id);
    for (guint i = ids->len; i-- > 1;) {
        if (g_array_index(ids, guint32, i) ==
            g_array_index(ids, guint32, i - 1)) {
            g_array_remove_index(ids, i);
        }
    }
    return ids;
}

gboolean
agent_ops_is_running(guint32 ctid)
{
    g_autoptr(GArray) ids = agent_ops_running();

    return g_array_binary_search(ids, &ctid, by_id, NULL);
}

/* --- start --- */

/* The child of the child: its parent is init, it has no terminal, and only
 * three descriptors and the one to report on. */
static void __attribute__((noreturn))
exec_supervisor(guint32 ctid, int status, const char *stderr_path)
{
    char id[16];
    char *const argv[] = {(char *)SUPERVISOR, id, NULL};
    char *const environment[] = {
        (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
                "/bin",
        (char *)"TERM=linux", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(stderr_path,
                   O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);

    /* Out of the way of the numbers we are about to set. */
    status = fcntl(status, F_DUPFD, STATUS_FD + 1);
    if (null < 0 || status < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDOUT_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDERR_FILENO) < 0 ||
        dup2(status, STATUS_FD) < 0) {
        _exit(127);
    }
    agent_child_close_fds(STATUS_FD);
    (void)g_snprintf(id, sizeof(id), "%u", ctid);
    (void)execve(SUPERVISOR, argv, environment);
    dprintf(STATUS_FD, SUPERVISOR ": %s", strerror(errno));
    _exit(127);
}

/* Returns the end to read its report from, or -1. */
static int
spawn_supervisor(guint32 ctid, GError **error)
{
    g_autofree char *stderr_path =
        g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.stderr", ctid);
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        pve_errno_error(error, "create", "a pipe");
        return -1;
    }
    pid = fork();
    if (pid == 0) {
        (void)setsid();
        pid = fork();
        if (pid == 0) {
            exec_supervisor(ctid, ends[1], stderr_path);
        }
        _exit(pid < 0 ? 1 : 0);
    }
    (void)close(ends[1]);
    if (pid < 0 || agent_child_wait(pid) != 0) {
        (void)close(ends[0]);
        pve_errno_error(error, "start", SUPERVISOR);
        return -1;
    }
    return ends[0];
}

/* Reads what is there. Returns FALSE at the end. */
static gboolean
read_report(int fd, GString *report)
{
    char piece[1024];
    ssize_t n = read(fd, piece, sizeof(piece));

    if (n > 0 && report->len < MAX_REPORT) {
        g_string_append_len(report, piece, n);
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static gboolean
start_failed(guint32 ctid, const char *reason, GError **error)
{
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "startup for container '%u' failed: %s", ctid,
                *reason != '\0' ? reason : "its supervisor died");
    return FALSE;
}

/* Until init is executed, or the supervisor says why not. */
static gboolean
wait_until_up(guint32 ctid, int status, GError **error)
{
    gint64 end = g_get_monotonic_time() + START_TIMEOUT_MS * 1000LL;
    g_autoptr(GString) report = g_string_new(NULL);
    struct pollfd wait = {.fd = status, .events = POLLIN};

    while (g_get_monotonic_time() < end) {
        if (poll(&wait, 1, LOOK_MS) > 0) {
            if (!read_report(status, report)) {
                return start_failed(ctid, report->str, error);
            }
        } else if (agent_ops_is_running(ctid) && agent_container_is_up(ctid)) {
            return TRUE;
        }
    }
    return start_failed(ctid, "it is still starting, see its log in /run/pve",
                        error);
}

gboolean
agent_ops_start(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    PVE_AUTOFD(status) = -1;

    if (lock == NULL) {
        return FALSE;
    }
    if (agent_ops_is_running(ctid)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING,
                    "CT %u already running", ctid);
        return FALSE;
    }
    if (!agent_prepare_start(ctid, error)) {
        return FALSE;
    }
    status = spawn_supervisor(ctid, error);
    return status >= 0 && wait_until_up(ctid, status, error);
}

/* --- stop --- */

/* The supervisor gives the lock back when nothing of the run is left. */
static gboolean
wait_until_gone(guint32 ctid, GError **error)
{
    gint64 end = g_get_monotonic_time() + GONE_TIMEOUT_MS * 1000LL;
    g_autoptr(AgentLock) run = NULL;

    while (agent_ops_is_running(ctid) && g_get_monotonic_time() < end) {
        g_usleep(LOOK_MS * 1000);
    }
    run = agent_lock_run(
        ctid, (guint)MAX(0, (end - g_get_monotonic_time()) / 1000), NULL);
    if (run == NULL || agent_ops_is_running(ctid)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_TIMEOUT,
                    "container did not stop");
        return FALSE;
    }
    return TRUE;
}

/* What stop and shutdown check first. Returns the mutex. */
static AgentLock *
begin_stop(guint32 ctid, const char *allowed_lock, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(AgentGuestConf) conf = NULL;

    if (lock == NULL) {
        return NULL;
    }
    if (!agent_ops_is_running(ctid)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_NOT_RUNNING,
                    "CT %u not running", ctid);
        return NULL;
    }
    /* One that runs without a file of ours here must be stoppable. */
    conf = agent_configs_load(ctid, NULL);
    if (conf != NULL && !agent_configs_check_lock(conf, allowed_lock, error)) {
        return NULL;
    }
    agent_cgroups_thaw(ctid);
    return g_steal_pointer(&lock);
}

static gboolean
kill_and_wait(guint32 ctid, GError **error)
{
    if (!agent_container_kill(ctid) && agent_ops_is_running(ctid)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "the monitor of CT %u does not take commands", ctid);
        return FALSE;
    }
    return wait_until_gone(ctid, error);
}

gboolean
agent_ops_stop(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) lock = begin_stop(ctid, "mounted", error);

    return lock != NULL && kill_and_wait(ctid, error);
}

gboolean
agent_ops_shutdown(guint32 ctid,
                   guint timeout_s,
                   gboolean force,
                   GError **error)
{
    g_autoptr(AgentLock) lock = begin_stop(ctid, NULL, error);

    if (lock == NULL) {
        return FALSE;
    }
    if (agent_container_shutdown(ctid, timeout_s) ||
        !agent_ops_is_running(ctid)) {
        return wait_until_gone(ctid, error);
    }
    if (force) {
        return kill_and_wait(ctid, error);
    }
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_TIMEOUT,
                "container did not stop");
    return FALSE;
}
