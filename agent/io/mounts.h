/* mounts.h - the file systems of one container, put together.
 *
 * Everything happens in a mount namespace of the calling process: nothing is
 * seen on the host, and all of it goes with the namespace.
 *
 * Owner   the process. Loop devices stay attached until it ends, even where
 *         the container unmounts its copy: a freed one could be given to
 *         another's image.
 * Errors  GError; the message names the mount point.
 * Thread  one: it changes the process' mount namespace.
 * Source  spec/container-runtime.md 5, storage.md 5.1.
 */
#ifndef AGENT_MOUNTS_H
#define AGENT_MOUNTS_H

#include "agent/core/guestconf.h"
#include "agent/core/storagecfg.h"

/* A new mount namespace, into which the host's changes still come, but from
 * which none goes back. */
gboolean agent_mounts_unshare(GError **error);
/* Mounts rootfs and mount points, parents before what lies in them, below
 * /var/lib/lxc/CTID/rootfs. */
gboolean agent_mounts_attach(const AgentGuestConf *conf,
                             const AgentStorageCfg *cfg,
                             GError **error);
/* Returns: (owned) /var/lib/lxc/CTID/rootfs. */
char *agent_mounts_rootfs(guint32 ctid);

#endif
