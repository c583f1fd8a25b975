#include "config.h"

#include "pmxcfs/cli/look.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"

#define MAX_OUTPUT (4u << 20)
#define REAP_STEP_US 5000
#define REAP_PATIENCE_US 500000

/* Before exec: what a terminal sends to us alone is ours. */
static void
become_quiet(gpointer unused)
{
    (void)dup2(STDOUT_FILENO, STDERR_FILENO);
}

static void
add_admin_path(void)
{
    const char *path = g_getenv("PATH");
    g_autofree char *longer = g_strconcat(path != NULL ? path : "/usr/bin:/bin",
                                          ":/usr/sbin:/sbin", NULL);

    if (path == NULL || strstr(path, "/usr/sbin") == NULL) {
        (void)g_setenv("PATH", longer, TRUE);
    }
}

/* FALSE: the deadline came first. */
static gboolean
read_until(int fd, gint64 deadline_us, GString *output)
{
    char buffer[65536];

    for (;;) {
        gint64 left_us = deadline_us - g_get_monotonic_time();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (left_us <= 0 || output->len > MAX_OUTPUT) {
            return FALSE;
        }
        if (poll(&poll_fd, 1, (int)(left_us / 1000) + 1) <= 0) {
            continue;
        }
        n = read(fd, buffer, sizeof(buffer));
        if (n <= 0) {
            return TRUE;
        }
        g_string_append_len(output, buffer, n);
    }
}

/* FALSE: it does not end; whoever is our heir gets it. */
static gboolean
reap(GPid pid, int *status)
{
    int raw = 0;

    for (guint i = 0; i < REAP_PATIENCE_US / REAP_STEP_US; i++) {
        if (waitpid(pid, &raw, WNOHANG) == pid) {
            *status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128;
            return TRUE;
        }
        g_usleep(REAP_STEP_US);
    }
    return FALSE;
}

CfsRun
cfs_look_run(const char *const *argv,
             guint timeout_ms,
             char **output,
             int *status)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    GString *text = g_string_new(NULL);
    CfsRun result = CFS_RUN_DONE;
    PVE_AUTOFD(out) = -1;
    GPid pid = 0;

    add_admin_path();
    *output = NULL;
    *status = -1;
    if (!g_spawn_async_with_pipes(
            "/", (char **)argv, NULL,
            G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, become_quiet, NULL,
            &pid, NULL, &out, NULL, NULL)) {
        (void)g_string_free(text, TRUE);
        return CFS_RUN_FAILED;
    }
    if (!read_until(out, deadline_us, text)) {
        (void)kill(pid, SIGKILL);
        result = CFS_RUN_TIMEOUT;
    }
    if (!reap(pid, status) && result == CFS_RUN_DONE) {
        (void)kill(pid, SIGKILL);
        result = CFS_RUN_TIMEOUT;
    }
    g_spawn_close_pid(pid);
    *output = g_string_free(text, FALSE);
    return result;
}
