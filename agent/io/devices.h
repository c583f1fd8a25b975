/* devices.h - the nodes of devN, where liblxc takes them from.
 *
 * They lie on a tmpfs in the mount namespace of the container's monitor: of the
 * host's user namespace, so that an unprivileged container can use them.
 *
 * Owner   the process; what is mounted goes with its namespace.
 * Errors  GError in AGENT_OPS_ERROR or G_FILE_ERROR.
 * Thread  one; the hot functions fork.
 * Source  spec/container-runtime.md 5.5 and 9.
 */
#ifndef AGENT_DEVICES_H
#define AGENT_DEVICES_H

#include "agent/core/guestconf.h"

/* Makes all nodes. The caller is in a mount namespace of its own. */
gboolean agent_devices_make(const AgentGuestConf *conf, GError **error);

/* Could @key of @conf come into a running container? Without device rules of
 * version 1 only into an unprivileged one, which has none, and only whole. */
gboolean agent_devices_can_add(const AgentGuestConf *conf, const char *key);
/* Puts it there, rules and all; and takes it out again. */
gboolean
agent_devices_add(const AgentGuestConf *conf, const char *key, GError **error);
gboolean agent_devices_remove(const AgentGuestConf *conf,
                              const char *key,
                              GError **error);

#endif
