#include "config.h"

#include "agent/io/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/files.h"
#include "common/paths.h"

enum { CONFIG_TIMEOUT_MS = 10000, RETRY_MS = 20 };

struct AgentLock {
    char *path;
    int fd;
    guint depth; /* how often this process took it */
};

/* Locks this process holds, by path: a mutex that nests is one object. */
static GHashTable *held;

static AgentLock *
lock_new(const char *path, int fd)
{
    AgentLock *self = g_new0(AgentLock, 1);

    self->path = g_strdup(path);
    self->fd = fd;
    self->depth = 1;
    return self;
}

void
agent_lock_free(AgentLock *self)
{
    if (self == NULL || --self->depth > 0) {
        return;
    }
    g_hash_table_remove(held, self->path);
    (void)close(self->fd);
    g_free(self->path);
    g_free(self);
}

int
agent_lock_fd(const AgentLock *self)
{
    return self->fd;
}

/* flock(2) has no time limit: we ask again. */
static gboolean
wait_for(int fd, guint timeout_ms, gboolean is_told)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    gboolean was_told = FALSE;

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return FALSE;
        }
        if (g_get_monotonic_time() >= end) {
            errno = EAGAIN;
            return FALSE;
        }
        if (is_told && !was_told) {
            fputs("trying to acquire lock...", stderr);
            was_told = TRUE;
        }
        g_usleep(RETRY_MS * 1000);
    }
    if (was_told) {
        fputs(" OK\n", stderr);
    }
    return TRUE;
}

static AgentLock *
take(const char *path, guint timeout_ms, gboolean is_told, GError **error)
{
    AgentLock *self = held != NULL ? g_hash_table_lookup(held, path) : NULL;
    PVE_AUTOFD(fd) = -1;

    if (self != NULL) {
        self->depth++;
        return self;
    }
    if (!pve_mkdir_parents(PVE_LXC_LOCK_DIR, 0755, error)) {
        return NULL;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        pve_errno_error(error, "open", path);
        return NULL;
    }
    if (!wait_for(fd, timeout_ms, is_told)) {
        if (errno == EAGAIN) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                        "can't lock file '%s' - got timeout", path);
        } else {
            pve_errno_error(error, "lock", path);
        }
        return NULL;
    }
    self = lock_new(path, pve_steal_fd(&fd));
    if (held == NULL) {
        held = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_insert(held, self->path, self);
    return self;
}

AgentLock *
agent_lock_config(guint32 ctid, GError **error)
{
    g_autofree char *path =
        g_strdup_printf(PVE_LXC_LOCK_DIR "/pve-config-%u.lock", ctid);

    return take(path, CONFIG_TIMEOUT_MS, TRUE, error);
}

AgentLock *
agent_lock_run(guint32 ctid, guint timeout_ms, GError **error)
{
    g_autofree char *path =
        g_strdup_printf(PVE_LXC_LOCK_DIR "/pve-run-%u.lock", ctid);

    return take(path, timeout_ms, FALSE, error);
}
