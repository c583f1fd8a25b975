/* cgroups.h - the cgroups of containers, by path.
 *
 * Which controller is where is read once per call, hybrid hosts included.
 *
 * Owner   the caller.
 * Errors  GError in G_FILE_ERROR.
 * Thread  any; blocking.
 * Source  spec/container-runtime.md 3, 10.4.
 */
#ifndef AGENT_CGROUPS_H
#define AGENT_CGROUPS_H

#include "agent/core/limits.h"

#include <sys/types.h>

AgentCgroupVersion agent_cgroups_version(const char *controller);
/* Does the v1 memory controller count swap? */
gboolean agent_cgroups_has_memsw(void);
/* Removes what an earlier run left of lxc/CTID and lxc.monitor/CTID in all
 * hierarchies. Waits a moment for dying processes; never kills. */
gboolean agent_cgroups_clean(guint32 ctid, GError **error);
/* Thaws the container in both freezers. Nothing there: nothing to do. */
void agent_cgroups_thaw(guint32 ctid);
/* Writes memory, swap, cpulimit and cpuunits of @conf to the limits of the
 * running container. What a controller that is not there would limit is left
 * out. */
gboolean agent_cgroups_limit(const AgentGuestConf *conf, GError **error);
/* Lets the running container read and, unless @deny_write, write a device.
 * Only version 1 has files for that; elsewhere nothing is done. */
gboolean agent_cgroups_allow_device(
    guint32 ctid, char type, dev_t device, gboolean deny_write, GError **error);
/* Gives the running container @count CPUs, 0 for all. */
gboolean agent_cgroups_set_cpus(guint32 ctid, guint64 count, GError **error);
/* Returns: (owned) @count of the usable CPUs, chosen at random, as a list of
 * ranges; NULL when there are not more than that. */
char *agent_cgroups_pick_cpus(guint64 count);

#endif
