/* container.h - the one door to liblxc.
 *
 * liblxc forks and blocks: the daemon calls this from child processes only.
 *
 * Owner   the caller; nothing is kept between calls.
 * Errors  GError in AGENT_OPS_ERROR.
 * Thread  one.
 * Source  spec/container-runtime.md 12.
 */
#ifndef AGENT_CONTAINER_H
#define AGENT_CONTAINER_H

#include <glib.h>
#include <sys/types.h>

/* Does the library know this key, or family of keys? */
gboolean agent_container_knows_key(const char *key);
/* Loads the text at @path into a scratch object, in a child: a key that the
 * library refuses fails here, and not at the start. */
gboolean agent_container_check(guint32 ctid, const char *path, GError **error);
/* Has the container's init been executed? */
gboolean agent_container_is_up(guint32 ctid);
/* The pid of its init; -1: not running. */
pid_t agent_container_init_pid(guint32 ctid);
/* Kills it. TRUE when the command was taken. */
gboolean agent_container_kill(guint32 ctid);
/* Asks it to end, waits at most @timeout_s. TRUE when it ended. */
gboolean agent_container_shutdown(guint32 ctid, guint timeout_s);
/* Runs @argv in it, with our stdin, stdout and stderr. Returns the exit status
 * as a shell gives it; 255 when it could not be attached to. Descriptors above
 * 2 are closed. */
int agent_container_attach(guint32 ctid, char **argv, gboolean keep_env);

/* How a run ended. */
typedef enum {
    AGENT_RUN_FAILED, /* did not get as far as init */
    AGENT_RUN_ENDED,  /* poweroff, kill, exit */
    AGENT_RUN_REBOOT, /* from inside */
} AgentRunEnd;

/* Runs it to its end in this process, which becomes its monitor. @post_stop is
 * the program that makes liblxc give up on a reboot. @init, nullable: words of
 * init's command. @log_file gets liblxc's log. */
AgentRunEnd agent_container_run(guint32 ctid,
                                const char *post_stop,
                                char **init,
                                const char *log_file,
                                gboolean is_debug);
/* Returns: (owned) what the log at @path says went wrong; never empty. */
char *agent_container_log_reason(const char *path);

#endif
