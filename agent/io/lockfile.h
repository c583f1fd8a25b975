/* lockfile.h - the locks of one container on this node.
 *
 * config   /run/lock/lxc/pve-config-CTID.lock, the mutex of whoever reads,
 *          changes and writes its file. Taken again by the same process it
 *          nests.
 * run      /run/lock/lxc/pve-run-CTID.lock, held by the supervisor from before
 *          it mounts anything until everything of the run is gone.
 *
 * Owner   the caller frees a lock, which releases it.
 * Errors  GError; G_FILE_ERROR_AGAIN when the time is up.
 * Thread  one; blocking.
 * Source  spec/container-config.md 1, container-runtime.md 8.4.
 */
#ifndef AGENT_LOCKFILE_H
#define AGENT_LOCKFILE_H

#include <glib.h>

typedef struct AgentLock AgentLock;

/* Waits 10 s. */
AgentLock *agent_lock_config(guint32 ctid, GError **error);
AgentLock *agent_lock_run(guint32 ctid, guint timeout_ms, GError **error);
/* The descriptor, borrowed; it closes on exec. A process that gets a copy of it
 * holds the lock too. */
int agent_lock_fd(const AgentLock *self);
void agent_lock_free(AgentLock *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentLock, agent_lock_free)

#endif
