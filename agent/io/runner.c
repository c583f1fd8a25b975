#include "config.h"

#include "agent/io/runner.h"

#include "agent/io/steps.h"
#include "common/files.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    AgentRunner *runner;
    char *key;
    int pidfd;
    int reason_fd;
    guint source;
} Child;

struct AgentRunner {
    guint max_parallel;
    AgentRunnerFunc done;
    gpointer data;
    char *program;
    GHashTable *children; /* key -> Child */
};

static void
child_free(gpointer data)
{
    Child *self = data;

    if (self->source != 0) {
        g_source_remove(self->source);
    }
    pve_autofd_clear(&self->pidfd);
    pve_autofd_clear(&self->reason_fd);
    g_free(self->key);
    g_free(self);
}

AgentRunner *
agent_runner_new(guint max_parallel, AgentRunnerFunc done, gpointer data)
{
    g_autoptr(GError) error = NULL;
    AgentRunner *self = g_new0(AgentRunner, 1);

    self->max_parallel = max_parallel;
    self->done = done;
    self->data = data;
    /* Resolved once: an upgrade replaces the file under the running one. */
    self->program = g_file_read_link("/proc/self/exe", &error);
    if (self->program == NULL) {
        g_error("/proc/self/exe: %s", error->message);
    }
    self->children =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, child_free);
    return self;
}

void
agent_runner_free(AgentRunner *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->children);
    g_free(self->program);
    g_free(self);
}

gboolean
agent_runner_is_busy(const AgentRunner *self, const char *key)
{
    return g_hash_table_contains(self->children, key);
}

static char *
read_reason(int fd)
{
    char text[AGENT_STEP_REASON_MAX + 1];
    ssize_t size = pread(fd, text, AGENT_STEP_REASON_MAX, 0);

    if (size <= 0) {
        return g_strdup("no reason given");
    }
    text[size] = '\0';
    return g_strdup(g_strstrip(text));
}

static gboolean
on_exit_of_child(int fd, GIOCondition condition, gpointer data)
{
    Child *child = data;
    AgentRunner *self = child->runner;
    siginfo_t info = {0};
    g_autofree char *key = NULL;
    g_autofree char *reason = NULL;
    int status;

    if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 ||
        info.si_pid == 0) {
        return G_SOURCE_CONTINUE;
    }
    status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    key = g_strdup(child->key);
    reason = info.si_code == CLD_EXITED
                 ? read_reason(child->reason_fd)
                 : g_strdup_printf("the step was killed by signal %d",
                                   info.si_status);
    child->source = 0;
    g_hash_table_remove(self->children, key);
    self->done(key, status, reason, self->data);
    return G_SOURCE_REMOVE;
}

static char **
build_argv(const AgentRunner *self, const char *const *words)
{
    GPtrArray *argv = g_ptr_array_new();

    g_ptr_array_add(argv, g_strdup(self->program));
    for (guint i = 0; words[i] != NULL; i++) {
        g_ptr_array_add(argv, g_strdup(words[i]));
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

static gboolean
launch(AgentRunner *self, Child *child, char **argv, GError **error)
{
    const int target = AGENT_STEP_REASON_FD;
    GPid pid = 0;

    child->reason_fd = memfd_create("reason", MFD_CLOEXEC);
    if (child->reason_fd < 0) {
        return pve_errno_error(error, "create", "a file in memory");
    }
    if (!g_spawn_async_with_pipes_and_fds(
            NULL, (const char *const *)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD,
            NULL, NULL, -1, -1, -1, &child->reason_fd, &target, 1, &pid, NULL,
            NULL, NULL, error)) {
        return FALSE;
    }
    child->pidfd = pidfd_open(pid, 0);
    if (child->pidfd < 0) {
        return pve_errno_error(error, "watch", argv[0]);
    }
    child->source =
        g_unix_fd_add(child->pidfd, G_IO_IN, on_exit_of_child, child);
    return TRUE;
}

gboolean
agent_runner_start(AgentRunner *self, const char *key, const char *const *words)
{
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;
    Child *child;

    if (agent_runner_is_busy(self, key) ||
        g_hash_table_size(self->children) >= self->max_parallel) {
        return FALSE;
    }
    child = g_new0(Child, 1);
    child->runner = self;
    child->key = g_strdup(key);
    child->pidfd = -1;
    child->reason_fd = -1;
    argv = build_argv(self, words);
    if (!launch(self, child, argv, &error)) {
        g_warning("cannot start a step for %s: %s", key, error->message);
        child_free(child);
        return FALSE;
    }
    g_hash_table_insert(self->children, child->key, child);
    return TRUE;
}
