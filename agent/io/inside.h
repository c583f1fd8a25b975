/* inside.h - the namespaces of a container that runs, for child processes.
 *
 * Owner   the caller clears it.
 * Errors  GError in AGENT_OPS_ERROR, or FALSE with errno.
 * Thread  one: entering changes the process for good.
 * Source  spec/container-runtime.md 9.
 */
#ifndef AGENT_INSIDE_H
#define AGENT_INSIDE_H

#include "agent/core/guestconf.h"

typedef struct {
    int monitor; /* mount namespace of the container's monitor */
    int mounts;  /* that of the container */
    int user;    /* its user namespace; -1: the host's */
} AgentInside;

#define AGENT_INSIDE_NONE                                                      \
    {                                                                          \
        .monitor = -1, .mounts = -1, .user = -1                                \
    }

gboolean agent_inside_open(AgentInside *self,
                           const AgentGuestConf *conf,
                           GError **error);
void agent_inside_clear(AgentInside *self);
/* Becomes root of the container in a copy of the monitor's mounts that belongs
 * to the container: their flags are locked, and what is made is its own.
 * FALSE with errno. */
gboolean agent_inside_enter_locked(const AgentInside *self);

#endif
