/* limits.h - memory and CPU options as the cgroup files that carry them.
 *
 * Owner   the caller.
 * Units   options in MiB and CPUs; files in bytes and microseconds.
 * Errors  none: what the kernel would refuse is brought into its range.
 * Thread  any.
 * Source  spec/container-runtime.md 3.2, spec/container-config.md 16.
 */
#ifndef AGENT_LIMITS_H
#define AGENT_LIMITS_H

#include "agent/core/guestconf.h"

typedef enum {
    AGENT_CGROUP_NONE,
    AGENT_CGROUP_V1,
    AGENT_CGROUP_V2,
} AgentCgroupVersion;

typedef struct {
    const char *file; /* "memory.max" */
    char *value;
} AgentLimit;

/* Returns: (owned) of AgentLimit, for options `memory` and `swap`. Without
 * @has_memsw the v1 controller does not count swap. */
GPtrArray *agent_limits_memory(const AgentGuestConf *conf,
                               AgentCgroupVersion version,
                               gboolean has_memsw);
/* For `cpulimit` and `cpuunits`. With @all also what is not limited: to undo
 * what was set before. */
GPtrArray *agent_limits_cpu(const AgentGuestConf *conf,
                            AgentCgroupVersion version,
                            gboolean all);
/* The value of `cpuunits` as the kernel takes it. */
guint64 agent_limits_cpuunits(guint64 units, AgentCgroupVersion version);

#endif
