/* hotmount.h - mount points of a container that runs.
 *
 *     child: monitor's mount namespace: mount and stage
 *     child: container's user namespace, a mount namespace of its own there
 *            (which locks the flags: read-only stays read-only), clone,
 *            container's mount namespace, walk to the target, move
 *
 * The staged mount stays: a loop device that the container could free might
 * be given to another's image.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR or G_FILE_ERROR.
 * Thread  one; forks.
 * Source  spec/container-runtime.md 5.2, 5.3 and 9.
 */
#ifndef AGENT_HOTMOUNT_H
#define AGENT_HOTMOUNT_H

#include "agent/core/guestconf.h"

/* Mounts @key of @conf into the running container. */
gboolean
agent_hotmount_add(const AgentGuestConf *conf, const char *key, GError **error);
/* Takes it out; FALSE when something in there uses it. */
gboolean agent_hotmount_remove(const AgentGuestConf *conf,
                               const char *key,
                               GError **error);

#endif
