/* install.h - a template's archive becomes a container's tree.
 *
 * The archive is hostile: for an unprivileged container it is unpacked as that
 * container's root in a user namespace of its own; for any container in a
 * mount namespace where everything but the tree is read-only.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR.
 * Thread  one; forks, blocks for minutes.
 * Source  spec/pct.md 3 (create), guest-setup.md 2 and 3.
 */
#ifndef AGENT_INSTALL_H
#define AGENT_INSTALL_H

#include "agent/core/guestconf.h"
#include "agent/core/storagecfg.h"

/* Is @path an archive that we can unpack? By its content, before anything is
 * allocated. Returns: (borrowed, static) tar's option for its compression. */
const char *agent_install_identify(const char *path, GError **error);

typedef struct {
    char *ostype;
    char *arch;
} AgentInstalled;

void agent_installed_clear(AgentInstalled *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AgentInstalled, agent_installed_clear)

/* Mounts the volumes of @conf apart from everybody, unpacks @archive into them,
 * prepares the tree for its first start, flushes it, and tells what it is. */
gboolean agent_install(const AgentGuestConf *conf,
                       const AgentStorageCfg *cfg,
                       const char *archive,
                       AgentInstalled *found,
                       GError **error);

#endif
