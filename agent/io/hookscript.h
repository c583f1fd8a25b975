/* hookscript.h - the script of option `hookscript`, called around a run.
 *
 *     pre-start   volumes and configuration are ready; a failure stops the
 * start post-start  it runs pre-stop    before a stop or shutdown that was
 * asked for post-stop   after every run, a failed start too, but not before a
 * reboot from inside
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR: "hookscript error for ID on PHASE: why".
 * Thread  one; blocks for as long as the script does.
 * Source  spec/container-runtime.md 7.2.
 */
#ifndef AGENT_HOOKSCRIPT_H
#define AGENT_HOOKSCRIPT_H

#include "agent/core/guestconf.h"
#include "agent/core/storagecfg.h"

/* Returns: (owned) the path of @volume, an executable snippet; or NULL. */
char *agent_hookscript_path(const AgentStorageCfg *cfg,
                            const char *volume,
                            GError **error);
/* Calls it, its output is ours. A container without one: TRUE. */
gboolean agent_hookscript_run(const AgentGuestConf *conf,
                              const char *phase,
                              GError **error);
/* The same where a failure is only told. */
void agent_hookscript_try(const AgentGuestConf *conf, const char *phase);

#endif
