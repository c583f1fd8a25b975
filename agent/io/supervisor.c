#include "config.h"

#include "agent/io/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "common/files.h"
#include "common/paths.h"

enum { FIRST_FREE_FD = AGENT_SUPERVISOR_LOCK_FD + 1 };

/* What the child needs, made before fork(2). */
typedef struct {
    char id[16];
    char claim[64];
    char *stderr_path;
    int status;
    int lock;
} Spawn;

/* All descriptors get their numbers; nothing else stays open. */
static gboolean
arrange_descriptors(const Spawn *self)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(self->stderr_path,
                   O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    /* Out of the way of the numbers we are about to set. */
    int status = fcntl(self->status, F_DUPFD, FIRST_FREE_FD);
    int lock = fcntl(self->lock, F_DUPFD, FIRST_FREE_FD);

    if (null < 0 || status < 0 || lock < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDOUT_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDERR_FILENO) < 0 ||
        dup2(status, AGENT_SUPERVISOR_STATUS_FD) < 0 ||
        dup2(lock, AGENT_SUPERVISOR_LOCK_FD) < 0) {
        return FALSE;
    }
    (void)close_range(FIRST_FREE_FD, ~0U, 0);
    return TRUE;
}

/* The child of the child: its parent is init, it has no terminal. */
static void __attribute__((noreturn)) exec_supervisor(Spawn *self)
{
    char *const argv[] = {(char *)AGENT_SUPERVISOR, self->id, NULL};
    char *const environment[] = {
        (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
                "/bin",
        (char *)"TERM=linux", self->claim, NULL};

    if (!arrange_descriptors(self)) {
        _exit(127);
    }
    (void)execve(AGENT_SUPERVISOR, argv, environment);
    dprintf(AGENT_SUPERVISOR_STATUS_FD, AGENT_SUPERVISOR ": %s",
            strerror(errno));
    _exit(127);
}

/* FALSE with errno. */
static gboolean
fork_twice(Spawn *self)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)setsid();
        pid = fork();
        if (pid == 0) {
            exec_supervisor(self);
        }
        _exit(pid < 0 ? 1 : 0);
    }
    if (pid < 0) {
        return FALSE;
    }
    errno = EAGAIN;
    return agent_child_wait(pid) == 0;
}

int
agent_supervisor_spawn(guint32 ctid,
                       const AgentLock *run,
                       gint64 claimed_us,
                       GError **error)
{
    g_autofree char *stderr_path =
        g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.stderr", ctid);
    Spawn self = {.stderr_path = stderr_path, .lock = agent_lock_fd(run)};
    PVE_AUTOFD(mine) = -1;
    PVE_AUTOFD(theirs) = -1;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        pve_errno_error(error, "create", "a pipe");
        return -1;
    }
    mine = ends[0];
    theirs = self.status = ends[1];
    (void)g_snprintf(self.id, sizeof(self.id), "%u", ctid);
    (void)g_snprintf(self.claim, sizeof(self.claim),
                     AGENT_SUPERVISOR_CLAIM "=%" G_GINT64_FORMAT, claimed_us);
    if (!fork_twice(&self)) {
        pve_errno_error(error, "start", AGENT_SUPERVISOR);
        return -1;
    }
    return pve_steal_fd(&mine);
}
