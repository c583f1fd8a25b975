/* rawkeys.h - which lxc.* lines a container's file may have.
 *
 * Owner   the caller clears a verdict.
 * Errors  none.
 * Thread  any.
 * Source  spec/container-config.md 8.
 */
#ifndef AGENT_RAWKEYS_H
#define AGENT_RAWKEYS_H

#include <glib.h>

typedef enum {
    AGENT_RAW_FINE,
    AGENT_RAW_LIMIT,   /* lxc.limit.*: today lxc.prlimit.* */
    AGENT_RAW_CGROUP,  /* lxc.cgroup.*: deprecated */
    AGENT_RAW_RENAMED, /* a name from before LXC 3 */
    AGENT_RAW_REFUSED, /* not for files of containers */
} AgentRawVerdict;

typedef struct {
    AgentRawVerdict verdict;
    /* Owned. RENAMED and LIMIT: today's name; REFUSED: why, nullable. */
    char *name;
} AgentRawKey;

void agent_rawkey_clear(AgentRawKey *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AgentRawKey, agent_rawkey_clear)

void agent_rawkey_judge(const char *key, AgentRawKey *result);
/* Returns: (owned) today's name of @key. */
char *agent_rawkey_current(const char *key);

#endif
