#include "config.h"

#include "agent/io/inside.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/io/container.h"
#include "agent/io/ops.h"
#include "common/files.h"

void
agent_inside_clear(AgentInside *self)
{
    pve_autofd_clear(&self->monitor);
    pve_autofd_clear(&self->mounts);
    pve_autofd_clear(&self->user);
}

/* 0: it is gone. */
static pid_t
parent_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autoptr(GBytes) bytes = pve_file_read(path, 0, NULL);
    /* The name in parentheses may have any character. */
    const char *end =
        bytes != NULL ? strrchr(g_bytes_get_data(bytes, NULL), ')') : NULL;
    int parent = 0;

    return end != NULL && sscanf(end, ") %*c %d", &parent) == 1 ? parent : 0;
}

static int
namespace_of(pid_t pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/%s", (int)pid, name);

    return open(path, O_RDONLY | O_CLOEXEC);
}

/* A pid may have been given to another process while we looked: the same init
 * before and after was there all the time. */
gboolean
agent_inside_open(AgentInside *self, const AgentGuestConf *conf, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);
    gboolean is_unprivileged = agent_guestconf_is_unprivileged(conf);
    pid_t init = agent_container_init_pid(ctid);
    pid_t monitor = init > 0 ? parent_of(init) : 0;

    if (monitor > 1) {
        self->monitor = namespace_of(monitor, "mnt");
        self->mounts = namespace_of(init, "mnt");
        self->user = is_unprivileged ? namespace_of(init, "user") : -1;
    }
    return (self->monitor >= 0 && self->mounts >= 0 &&
            (!is_unprivileged || self->user >= 0) &&
            agent_container_init_pid(ctid) == init &&
            parent_of(init) == monitor) ||
           agent_ops_fail(error, "cannot enter the running container");
}

/* Root of the container can do no more than that root could. */
static gboolean
become_root(const AgentInside *self)
{
    return self->user < 0 ||
           (setns(self->user, CLONE_NEWUSER) == 0 && setgroups(0, NULL) == 0 &&
            setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
}

gboolean
agent_inside_enter_locked(const AgentInside *self)
{
    return setns(self->monitor, CLONE_NEWNS) == 0 && become_root(self) &&
           unshare(CLONE_NEWNS) == 0;
}
