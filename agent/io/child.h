/* child.h - child processes, spawned with argv or forked for one function.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_OPS_ERROR; the last lines that the child wrote on
 *         stderr are in the message.
 * Thread  one: agent_child_call() forks without exec, so the process must have
 *         no other threads. Blocking.
 */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <glib.h>
#include <sys/types.h>

/* Runs @argv to its end; stdin is empty. @output, nullable, gets what it wrote
 * on stdout (owned). FALSE unless it exits with 0. */
gboolean
agent_child_run(const char *const *argv, char **output, GError **error);

/* Runs in the child. TRUE, with @result (owned, nullable) for the parent; or
 * FALSE with an error for it. */
typedef gboolean (*AgentChildFunc)(gpointer data,
                                   char **result,
                                   GError **error);

/* Forks, calls @function there and waits. @result, nullable, gets the child's
 * text. A child that dies gives an error that says so. */
gboolean agent_child_call(AgentChildFunc function,
                          gpointer data,
                          char **result,
                          GError **error);
/* waitpid(2) for one child, EINTR or not. */
int agent_child_wait(pid_t pid);
/* Closes all descriptors above 2. */
void agent_child_close_fds(void);

/* Removes @path and all below it, through no link and into no other mount,
 * however deep and hostile it is. Gone already is no error. */
gboolean agent_child_remove_tree(const char *path, GError **error);

#endif
