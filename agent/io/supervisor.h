/* supervisor.h - how a starter and a container's supervisor meet.
 *
 * The starter takes the run lock and the claim, and hands both over: the lock
 * as a descriptor, the claim's time in the environment.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR.
 * Thread  one; forks.
 * Source  spec/container-runtime.md 13.2.
 */
#ifndef AGENT_SUPERVISOR_H
#define AGENT_SUPERVISOR_H

#include "agent/io/lockfile.h"

#define AGENT_SUPERVISOR PVE_LIBEXECDIR "/pve-lxc-supervise"
/* Its descriptors: why a start failed goes to the first one. */
#define AGENT_SUPERVISOR_STATUS_FD 3
#define AGENT_SUPERVISOR_LOCK_FD 4
/* Monotonic microseconds. */
#define AGENT_SUPERVISOR_CLAIM "PVE_LXC_CLAIMED_US"

/* Starts the supervisor of @ctid, which becomes nobody's child. Returns the
 * end to read its report from, or -1. */
int agent_supervisor_spawn(guint32 ctid,
                           const AgentLock *run,
                           gint64 claimed_us,
                           GError **error);

#endif
