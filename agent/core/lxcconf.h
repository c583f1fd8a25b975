/* lxcconf.h - the low-level LXC configuration of a container.
 *
 * A function of the container's configuration and of facts about the host.
 * Generated at every start, never edited.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_GUESTCONF_ERROR. What is skipped is a warning.
 * Thread  any.
 * Source  spec/container-runtime.md 1.2, 2 and 3.
 */
#ifndef AGENT_LXCCONF_H
#define AGENT_LXCCONF_H

#include "agent/core/limits.h"

/* What a path of the host is. */
typedef struct {
    int problem; /* errno; 0: it is there */
    char type;   /* 'b' or 'c'; 0: no device */
    guint major, minor;
} AgentNode;

typedef struct {
    AgentCgroupVersion memory, cpu, cpuset;
    gboolean has_memsw;          /* v1 only: swap is accounted */
    const char *const *includes; /* file names in /usr/share/lxc/config */
    GHashTable *bridge_mtus;     /* name to GUINT_TO_POINTER(mtu) */
    GHashTable *nodes;           /* path to AgentNode, for devN */
    const char *cpus;            /* nullable: chosen for `cores` */
    const char *script_up;       /* plugs an interface into its bridge */
    const char *mknod_proxy;     /* nullable: socket of the mknod proxy */
    /* Does the library know this key, or family of keys? */
    gboolean (*knows_key)(const char *key);
} AgentLxcFacts;

/* Returns: (owned) the text of /var/lib/lxc/CTID/config, or NULL. @warnings,
 * nullable, gets owned lines. */
char *agent_lxcconf_generate(const AgentGuestConf *conf,
                             const AgentLxcFacts *facts,
                             GPtrArray *warnings,
                             GError **error);
/* Adds an owned line to @warnings for each thing that @net asks for and that
 * has no effect here. */
void agent_lxcconf_warn_net(const AgentNet *net, GPtrArray *warnings);
/* Returns: (owned) the directory of device nodes for @ctid, on a file system
 * that its monitor's mount namespace alone has. */
char *agent_lxcconf_passthrough(guint32 ctid);
/* Returns: (owned) the seccomp policy, @common being the text of the common
 * one; NULL when the container uses that unchanged. @has_proxy: somebody
 * answers for feature mknod. */
char *agent_lxcconf_seccomp(const AgentGuestConf *conf,
                            const char *common,
                            gboolean has_proxy);

#endif
