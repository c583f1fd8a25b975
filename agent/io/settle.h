/* settle.h - an option's value as it looks from this host.
 *
 * What the option's own rule cannot know: whether a device, a bridge, a volume
 * or a time zone is there, and how this cluster writes tags and MAC addresses.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR or AGENT_STORAGE_ERROR.
 * Thread  one; blocking.
 * Source  spec/container-config.md 5 to 7 and 10.
 */
#ifndef AGENT_SETTLE_H
#define AGENT_SETTLE_H

#include "agent/core/guestopts.h"
#include "agent/core/storagecfg.h"

/* @value, of container @ctid (0: a new one), as agent_guestopt_check() gave it.
 * Returns: (owned) the text to store, or NULL. */
char *agent_settle(const AgentStorageCfg *cfg,
                   guint32 ctid,
                   const char *key,
                   const char *value,
                   GError **error);

#endif
