/* runner.h - the daemon's children: a few at a time, one per key.
 *
 * Each is our own program with other words, watched by pidfd. A child that is
 * still at it when the daemon ends goes on by itself.
 *
 * Owner   the runner.
 * Errors  a status and a reason, handed to the callback.
 * Thread  the loop.
 */
#ifndef AGENT_RUNNER_H
#define AGENT_RUNNER_H

#include <glib.h>

typedef struct AgentRunner AgentRunner;

/* @status: the exit status, or 128 + the signal. @reason: never NULL. */
typedef void (*AgentRunnerFunc)(const char *key,
                                int status,
                                const char *reason,
                                gpointer data);

AgentRunner *
agent_runner_new(guint max_parallel, AgentRunnerFunc done, gpointer data);
/* Forgets the children; they go on. */
void agent_runner_free(AgentRunner *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentRunner, agent_runner_free)

gboolean agent_runner_is_busy(const AgentRunner *self, const char *key);
/* Starts our program with @words. FALSE: busy with @key, or no child is free,
 * or it cannot be started (then that was logged). */
gboolean agent_runner_start(AgentRunner *self,
                            const char *key,
                            const char *const *words);

#endif
