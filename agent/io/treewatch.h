/* treewatch.h - the cluster's tree over the filesystem's socket.
 *
 * Hears of changes instead of looking for them, and reads them as they were at
 * one version: a picture is never torn. Knows at once which files are whole:
 * renamed into place, or closed by their last writer, and not changed since.
 *
 * Owner   the worker of a source.
 * Errors  FALSE: there is no socket, or it broke; look at the mount.
 * Thread  the worker; calls wait for the filesystem as a mount does.
 * Source  docs/ipc.md; DESIGN.md 3.
 */
#ifndef AGENT_TREEWATCH_H
#define AGENT_TREEWATCH_H

#include "agent/core/observe.h"

#include <glib.h>

typedef struct AgentTreeWatch AgentTreeWatch;

/* Listens in the thread's default context. */
AgentTreeWatch *agent_treewatch_new(void);
void agent_treewatch_free(AgentTreeWatch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentTreeWatch, agent_treewatch_free)

/* Something has changed since the last picture. */
gboolean agent_treewatch_is_dirty(AgentTreeWatch *self);
/* Fills in what comes from the tree: files, members, session. */
gboolean agent_treewatch_fill(AgentTreeWatch *self, AgentSnapshot *now);

#endif
