/* apply.h - carries out pending changes of a container's options.
 *
 * Of a stopped container a change is an entry that moves; only volumes are made
 * and freed. Of a running one the kernel is told, too. Each step that fails is
 * undone by itself; all of them can be undone until the file is stored.
 *
 * Owner   the caller, who holds the config mutex.
 * Errors  GError in AGENT_OPS_ERROR, AGENT_STORAGE_ERROR or G_FILE_ERROR.
 * Thread  one; blocking.
 * Source  spec/container-config.md 13.2, 13.3; container-runtime.md 9.
 */
#ifndef AGENT_APPLY_H
#define AGENT_APPLY_H

#include "agent/core/guestchange.h"

typedef struct AgentApply AgentApply;

/* @conf, as the file has it, is borrowed and changed step by step. */
AgentApply *agent_apply_new(AgentGuestConf *conf, gboolean is_running);
/* Without agent_apply_store() before it, everything done is undone. */
void agent_apply_free(AgentApply *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentApply, agent_apply_free)

/* Carries out and commits @step, or leaves it pending where a running
 * container cannot take it. FALSE: it failed, and is pending as before. */
gboolean
agent_apply_step(AgentApply *self, const AgentGuestStep *step, GError **error);
/* Frees what deleted unusedN named, brings the hold record up to date where
 * the volumes changed, and writes the file. */
gboolean agent_apply_store(AgentApply *self, GError **error);

/* All pending entries of a container that is about to start; the file is
 * written when something changed. What fails is told on stderr and stays. */
gboolean agent_apply_pending(AgentGuestConf *conf, GError **error);

#endif
