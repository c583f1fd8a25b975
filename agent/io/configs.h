/* configs.h - the files of containers, on the cluster filesystem.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR (ops.h) or G_FILE_ERROR.
 * Thread  any; blocking. Callers that change a file hold its mutex
 *         (lockfile.h).
 * Source  spec/container-config.md 1.
 */
#ifndef AGENT_CONFIGS_H
#define AGENT_CONFIGS_H

#include "agent/core/datacenter.h"
#include "agent/core/guestconf.h"
#include "agent/core/storagecfg.h"

/* Returns: (owned) nodes/NODE/lxc/CTID.conf below the mount. @node NULL: this
 * node. */
char *agent_configs_path(const char *node, guint32 ctid);
/* "cluster not ready - no quorum?" */
gboolean agent_configs_check_quorum(GError **error);
/* Returns: (owned), or NULL; code MISSING when this node has no such file. */
GBytes *agent_configs_read(guint32 ctid, GError **error);
AgentGuestConf *agent_configs_load(guint32 ctid, GError **error);
/* Replaces the file; refuses values that would become lines of their own. */
gboolean agent_configs_store(const AgentGuestConf *conf, GError **error);
/* Creates the file with `lock: create` and nothing else. *@ctid 0: the lowest
 * free id of the cluster's range. Code EXISTS when it is taken. */
gboolean agent_configs_reserve(guint32 *ctid, GError **error);
gboolean agent_configs_remove(guint32 ctid, GError **error);
/* Returns: (owned) the node whose directory has the file of @ctid, or NULL. */
char *agent_configs_owner(guint32 ctid);
/* Returns: (owned) guint32 ids of @node's files, ascending. */
GArray *agent_configs_list(const char *node);
/* Returns: (owned) names of all nodes, sorted. */
char **agent_configs_nodes(void);
/* Returns: (owned) what storage.cfg says now. */
AgentStorageCfg *agent_configs_storages(void);
/* Fills @datacenter with what datacenter.cfg says now. */
void agent_configs_datacenter(AgentDatacenter *datacenter);
/* Fails with LOCKED unless `lock` is absent or is @except (nullable). */
gboolean agent_configs_check_lock(const AgentGuestConf *conf,
                                  const char *except,
                                  GError **error);
/* Fails with BROKEN when nobody may act on the file. */
gboolean agent_configs_check_broken(const AgentGuestConf *conf, GError **error);

#endif
