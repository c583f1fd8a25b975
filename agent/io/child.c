#include "config.h"

#include "agent/io/child.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/io/ops.h"
#include "common/files.h"

enum { MAX_RESULT_BYTES = 65536, MAX_REASON_BYTES = 1000 };

gboolean
agent_child_run(const char *const *argv, char **output, GError **error)
{
    g_autofree char *complaint = NULL;
    g_autoptr(GError) local = NULL;
    gsize n;
    int status = 0;

    if (!g_spawn_sync(NULL, (char **)argv, NULL,
                      output != NULL
                          ? G_SPAWN_SEARCH_PATH
                          : G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                      NULL, NULL, output, &complaint, &status, error)) {
        return FALSE;
    }
    if (g_spawn_check_wait_status(status, &local)) {
        return TRUE;
    }
    g_strstrip(complaint);
    n = strlen(complaint);
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "%s failed: %s%s%s", argv[0], local->message, n > 0 ? ": " : "",
                n > MAX_REASON_BYTES ? complaint + n - MAX_REASON_BYTES
                                     : complaint);
    return FALSE;
}

gboolean
agent_child_remove_tree(const char *path, GError **error)
{
    const char *const argv[] = {"rm", "-rf", "--one-file-system",
                                "--", path,  NULL};

    return agent_child_run(argv, NULL, error);
}

int
agent_child_wait(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return status;
}

void
agent_child_close_fds(void)
{
    (void)close_range(3, ~0U, 0);
}

/* In the child: the answer is a letter and a text. */
static void __attribute__((noreturn))
answer(int fd, AgentChildFunc function, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *result = NULL;
    g_autofree char *text = NULL;
    gboolean fine = function(data, &result, &error);

    text = fine ? g_strconcat("+", result, NULL)
                : g_strconcat("-", error->message, NULL);
    fine = pve_write_all(fd, text, strlen(text));
    _exit(fine ? 0 : 1);
}

static char *
read_answer(int fd)
{
    g_autoptr(GString) all = g_string_new(NULL);
    char piece[4096];
    ssize_t n;

    while ((n = read(fd, piece, sizeof(piece))) != 0) {
        if (n < 0 && errno != EINTR) {
            break;
        }
        if (n > 0 && all->len < MAX_RESULT_BYTES) {
            g_string_append_len(all, piece, n);
        }
    }
    return g_string_free(g_steal_pointer(&all), FALSE);
}

gboolean
agent_child_call(AgentChildFunc function,
                 gpointer data,
                 char **result,
                 GError **error)
{
    g_autofree char *text = NULL;
    int ends[2];
    int status;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return pve_errno_error(error, "create", "a pipe");
    }
    pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        answer(ends[1], function, data);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return pve_errno_error(error, "fork", "a child");
    }
    text = read_answer(ends[0]);
    (void)close(ends[0]);
    status = agent_child_wait(pid);
    if (*text == '\0') {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "a child process died (wait status 0x%x)", (guint)status);
        return FALSE;
    }
    if (*text == '-') {
        g_set_error_literal(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                            text + 1);
        return FALSE;
    }
    if (result != NULL) {
        *result = g_strdup(text + 1);
    }
    return TRUE;
}
