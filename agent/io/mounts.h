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
/* Returns a detached mount of what @mount names, with its options set; or -1.
 * Its loop device lives as long as this process or a mount of it. */
int agent_mounts_open(const AgentGuestConf *conf,
                      const AgentMount *mount,
                      const AgentStorageCfg *cfg,
                      GError **error);
/* The directory mounted as @to takes owner and mode of @from. */
gboolean agent_mounts_keep_attributes(int from, int to);
/* Returns: (owned) /var/lib/lxc/CTID/rootfs. */
char *agent_mounts_rootfs(guint32 ctid);

#endif
