/* prepare.h - everything before a container's monitor runs.
 *
 * Used by whoever starts a container, and by its supervisor for a restart that
 * came from inside.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR.
 * Thread  one; blocking.
 * Source  spec/container-runtime.md 4.1.
 */
#ifndef AGENT_PREPARE_H
#define AGENT_PREPARE_H

#include "agent/core/guestconf.h"

/* Files in /run/pve of one container. */
char *agent_prepare_log_path(guint32 ctid);    /* of liblxc */
char *agent_prepare_reason_path(guint32 ctid); /* what a hook complained of */

/* Removes what an earlier run left: interfaces and cgroups. */
gboolean agent_prepare_clean(guint32 ctid, GError **error);
/* Quorum, file, template, lock, pending changes, missing MACs, leftovers; then
 * /var/lib/lxc/CTID/config and rules.seccomp, tested; unless @is_reboot, from
 * inside, the hook script; last the claim, which is valid for 5 s from
 * *@claimed_us (monotonic) on. The caller holds the config mutex and the run
 * lock. */
gboolean agent_prepare_start(guint32 ctid,
                             gboolean is_reboot,
                             gint64 *claimed_us,
                             GError **error);
/* Is a claim of that time too old to act on? Then @error says so. */
gboolean agent_prepare_check_claim(gint64 claimed_us, GError **error);
/* Returns: (owned) a new address with our prefix. */
char *agent_prepare_mac(void);
/* Gives each netN without an address a new one. TRUE when one got it. */
gboolean agent_prepare_macs(AgentGuestConf *conf);

#endif
