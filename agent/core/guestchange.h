/* guestchange.h - a change of a container's options, from the words of a
 * command to the sections of its file.
 *
 *     asked for --queue--> [pve:pending] --commit--> main section
 *
 * Queueing checks and moves what is wanted into the pending section. The steps
 * then say, in order, which entries may leave it now; who carries out a step
 * commits it. What cannot be carried out now stays pending for the next start.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_GUESTCONF_ERROR, texts of the spec.
 * Thread  any, one at a time per object.
 * Source  spec/container-config.md 13, 15.
 */
#ifndef AGENT_GUESTCHANGE_H
#define AGENT_GUESTCHANGE_H

#include "agent/core/guestconf.h"
#include "agent/core/guestopts.h"

typedef struct AgentGuestChange AgentGuestChange;

AgentGuestChange *agent_guestchange_new(void);
void agent_guestchange_free(AgentGuestChange *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentGuestChange, agent_guestchange_free)

/* @stored: as agent_guestopt_check() gave it; `env` joined with LF. The empty
 * text is a deletion. */
void agent_guestchange_set(AgentGuestChange *self,
                           const char *key,
                           const char *stored);
/* Lists of options; "unknown option 'X'". */
gboolean agent_guestchange_delete(AgentGuestChange *self,
                                  const char *list,
                                  GError **error);
gboolean agent_guestchange_revert(AgentGuestChange *self,
                                  const char *list,
                                  GError **error);
gboolean agent_guestchange_is_empty(const AgentGuestChange *self);
/* The same option set, deleted or reverted in one change. */
gboolean agent_guestchange_check(const AgentGuestChange *self, GError **error);
/* Returns: (borrowed) what @key shall be, or NULL. */
const char *agent_guestchange_get(const AgentGuestChange *self,
                                  const char *key);
/* Returns: (owned) the options to be set, sorted, NULL-terminated. */
char **agent_guestchange_keys(const AgentGuestChange *self);

/* Checks all of it against @conf and moves it into the pending section; on
 * failure @conf is of no more use. @warnings, nullable, gets owned lines. */
gboolean agent_guestchange_queue(const AgentGuestChange *self,
                                 AgentGuestConf *conf,
                                 GPtrArray *warnings,
                                 GError **error);

/* Do the mount points and interfaces of a whole configuration, a new one's,
 * contradict each other? FALSE with @error. */
gboolean agent_guestchange_check_whole(const AgentGuestConf *conf,
                                       GError **error);

typedef struct {
    char *key;
    gboolean is_deletion;
    char *value;            /* NULL: a deletion */
    AgentGuestOptLive live; /* FILE: nothing to carry out */
} AgentGuestStep;

/* Returns: (owned) of AgentGuestStep, in the order of application: the entries
 * that @self touched, or with NULL all. Of a running container only those that
 * may be applied at once: what is filed only, then deletions, then values. */
GPtrArray *agent_guestchange_steps(const AgentGuestChange *self,
                                   const AgentGuestConf *conf,
                                   gboolean is_running);
/* The step has been carried out: its entry moves from pending to main. The
 * volume of a mount point that goes or is replaced becomes unusedN, unless
 * something else names it. */
gboolean agent_guestchange_commit(AgentGuestConf *conf,
                                  const AgentGuestStep *step,
                                  GError **error);
/* Drops pending values that are in effect, and deletions of what is not set. */
void agent_guestchange_tidy(AgentGuestConf *conf);

#endif
