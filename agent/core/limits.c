#include "config.h"

#include "agent/core/limits.h"

enum {
    DEFAULT_MEMORY_MIB = 512,
    LARGE_MEMORY_MIB = 16384,
    LARGE_MARGIN_MIB = 128,
    DEFAULT_SHARES_V1 = 1024,
    DEFAULT_WEIGHT_V2 = 100,
    MIN_SHARES_V1 = 2,
    MAX_SHARES_V1 = 262144,
    MAX_WEIGHT_V2 = 10000,
    CPU_PERIOD_US = 100000,
    MIN_QUOTA_US = 1000,
};

static void
limit_free(gpointer data)
{
    AgentLimit *self = data;

    g_free(self->value);
    g_free(self);
}

static void add(GPtrArray *limits, const char *file, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static void
add(GPtrArray *limits, const char *file, const char *format, ...)
{
    AgentLimit *limit = g_new0(AgentLimit, 1);
    va_list args;

    limit->file = file;
    va_start(args, format);
    limit->value = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(limits, limit);
}

GPtrArray *
agent_limits_memory(const AgentGuestConf *conf,
                    AgentCgroupVersion version,
                    gboolean has_memsw)
{
    GPtrArray *limits = g_ptr_array_new_with_free_func(limit_free);
    guint64 memory =
        agent_guestconf_get_uint(conf, "memory", DEFAULT_MEMORY_MIB);
    guint64 swap = agent_guestconf_get_uint(conf, "swap", 0);
    guint64 high = memory >= LARGE_MEMORY_MIB
                       ? (memory - LARGE_MARGIN_MIB) << 20
                       : memory * 1024 * 1016;

    if (version == AGENT_CGROUP_V2) {
        add(limits, "memory.max", "%" G_GUINT64_FORMAT, memory << 20);
        add(limits, "memory.high", "%" G_GUINT64_FORMAT, high);
        add(limits, "memory.swap.max", "%" G_GUINT64_FORMAT, swap << 20);
    } else if (version == AGENT_CGROUP_V1) {
        add(limits, "memory.limit_in_bytes", "%" G_GUINT64_FORMAT,
            memory << 20);
        if (has_memsw) {
            add(limits, "memory.memsw.limit_in_bytes", "%" G_GUINT64_FORMAT,
                (memory + swap) << 20);
        }
    }
    return limits;
}

guint64
agent_limits_cpuunits(guint64 units, AgentCgroupVersion version)
{
    return version == AGENT_CGROUP_V1
               ? CLAMP(units, MIN_SHARES_V1, MAX_SHARES_V1)
               : CLAMP(units, 1, MAX_WEIGHT_V2);
}

/* The kernel refuses quotas below one millisecond. 0: no limit. */
static gint64
quota_of(const AgentGuestConf *conf)
{
    const char *limit = agent_guestconf_get(conf, "cpulimit");
    double cpus = limit != NULL ? g_ascii_strtod(limit, NULL) : 0;
    gint64 quota = (gint64)(CPU_PERIOD_US * CLAMP(cpus, 0, 8192));

    return quota > 0 ? MAX(quota, MIN_QUOTA_US) : 0;
}

static void
add_cpu_v2(GPtrArray *limits, const AgentGuestConf *conf, gboolean all)
{
    gint64 quota = quota_of(conf);
    guint64 units =
        agent_guestconf_get_uint(conf, "cpuunits", DEFAULT_WEIGHT_V2);

    if (quota > 0) {
        add(limits, "cpu.max", "%" G_GINT64_FORMAT " %d", quota, CPU_PERIOD_US);
    } else if (all) {
        add(limits, "cpu.max", "max %d", CPU_PERIOD_US);
    }
    if (all || agent_guestconf_get(conf, "cpuunits") != NULL) {
        add(limits, "cpu.weight", "%" G_GUINT64_FORMAT,
            agent_limits_cpuunits(units, AGENT_CGROUP_V2));
    }
}

static void
add_cpu_v1(GPtrArray *limits, const AgentGuestConf *conf, gboolean all)
{
    gint64 quota = quota_of(conf);
    guint64 units =
        agent_guestconf_get_uint(conf, "cpuunits", DEFAULT_SHARES_V1);

    if (quota > 0 || all) {
        add(limits, "cpu.cfs_period_us", "%d", CPU_PERIOD_US);
        add(limits, "cpu.cfs_quota_us", "%" G_GINT64_FORMAT,
            quota > 0 ? quota : -1);
    }
    add(limits, "cpu.shares", "%" G_GUINT64_FORMAT,
        agent_limits_cpuunits(units, AGENT_CGROUP_V1));
}

GPtrArray *
agent_limits_cpu(const AgentGuestConf *conf,
                 AgentCgroupVersion version,
                 gboolean all)
{
    GPtrArray *limits = g_ptr_array_new_with_free_func(limit_free);

    if (version == AGENT_CGROUP_V2) {
        add_cpu_v2(limits, conf, all);
    } else if (version == AGENT_CGROUP_V1) {
        add_cpu_v1(limits, conf, all);
    }
    return limits;
}
