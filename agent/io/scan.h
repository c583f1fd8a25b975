/* scan.h - a source of snapshots.
 *
 * Reading /etc/pve can block for as long as the cluster filesystem does, so a
 * worker thread looks and hands immutable snapshots to the loop. While the
 * filesystem hangs no snapshot comes, and the agent does nothing. The tree is
 * read over the filesystem's socket, at once when it says that something
 * changed (treewatch.h). While there is no socket the source looks at the mount
 * every interval: names and attributes each time, contents only of what
 * changed. What runs on this machine is looked at every interval.
 *
 * Owner   the source owns its thread, which ends by itself after free.
 * Units   milliseconds.
 * Errors  none: a snapshot that could not be completed says so.
 * Thread  the loop; the callback runs there.
 * Source  DESIGN.md 3.
 */
#ifndef AGENT_SCAN_H
#define AGENT_SCAN_H

#include "agent/core/observe.h"
#include "common/ipc-client.h"

typedef struct AgentSource AgentSource;

/* @snapshot is borrowed: take a reference to keep it. */
typedef void (*AgentSourceFunc)(AgentSnapshot *snapshot, gpointer data);

AgentSource *
agent_source_new(guint interval_ms, AgentSourceFunc callback, gpointer data);
/* Something changed here: look now. */
void agent_source_kick(AgentSource *self);
/* No callback comes after this. */
void agent_source_free(AgentSource *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentSource, agent_source_free)

/* For treewatch.c: what nodes/NODE/FOLDER/NAME is. FALSE: nothing of ours. */
gboolean agent_scan_classify(const char *folder,
                             const char *name,
                             AgentFileKind *kind,
                             guint32 *ctid);
/* Adds members, storages and what the HA manager has, as the socket says. */
gboolean agent_scan_add_cluster(AgentSnapshot *now,
                                PveIpcClient *client,
                                GBytes *members,
                                GError **error);

/* Lists running containers; set once before the first source is made. */
typedef GArray *(*AgentRunningFunc)(void);
void agent_source_set_running_func(AgentRunningFunc running);

#endif
