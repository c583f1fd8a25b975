#include "config.h"

#include "agent/io/ops.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "agent/io/cgroups.h"
#include "agent/io/configs.h"
#include "agent/io/container.h"
#include "agent/io/hookscript.h"
#include "agent/io/lockfile.h"
#include "agent/io/prepare.h"
#include "agent/io/supervisor.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

enum {
    LOOK_MS = 10,
    START_TIMEOUT_MS = 180000, /* a mount may wait for another host's mark */
    CLEAN_TIMEOUT_MS = 30000,  /* of an earlier run */
    GONE_TIMEOUT_MS = 120000,
    MAX_REPORT = 4096,
};

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

/* Waits for what is left of an earlier run. */
static AgentLock *
begin_run(guint32 ctid, GError **error)
{
    AgentLock *run = agent_lock_run(ctid, CLEAN_TIMEOUT_MS, error);

    if (run != NULL && agent_ops_is_running(ctid)) {
        g_clear_pointer(&run, agent_lock_free);
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING,
                    "CT %u already running", ctid);
    }
    return run;
}

/* Hands the run lock over. Returns where the supervisor reports, or -1. */
static int
begin_start(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) run = begin_run(ctid, error);
    gint64 claimed_us;

    if (run == NULL || !agent_prepare_start(ctid, FALSE, &claimed_us, error)) {
        return -1;
    }
    return agent_supervisor_spawn(ctid, run, claimed_us, error);
}

gboolean
agent_ops_start(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(AgentGuestConf) conf = NULL;
    PVE_AUTOFD(status) = -1;

    if (lock == NULL) {
        return FALSE;
    }
    if (agent_ops_is_running(ctid)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING,
                    "CT %u already running", ctid);
        return FALSE;
    }
    status = begin_start(ctid, error);
    if (status < 0 || !wait_until_up(ctid, status, error)) {
        return FALSE;
    }
    conf = agent_configs_load(ctid, NULL);
    if (conf != NULL) {
        agent_hookscript_try(conf, "post-start");
    }
    return TRUE;
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
    if (conf != NULL) {
        agent_hookscript_try(conf, "pre-stop");
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
