/* pct.h - what the commands of pct share.
 *
 * Owner   the caller.
 * Errors  exit statuses: 0, 2 for a missing configuration file, else 255; the
 *         message is on stderr.
 * Thread  the tool's only one.
 * Source  spec/pct.md.
 */
#ifndef AGENT_PCT_H
#define AGENT_PCT_H

#include "agent/cli/pct-options.h"
#include "agent/core/guestconf.h"

enum { PCT_EXIT_FAILED = 255, PCT_EXIT_MISSING = 2 };

/* Ends with a row without a name. */
extern const PctCommand pct_commands[];

/* Prints @error. Returns the exit status that goes with it. */
int pct_fail(const GError *error);
/* Reads the first word as a CTID. 0: it is none, complained. */
guint32 pct_guest_id(const PctArgs *args);
/* The same; when the container is another node's, runs the whole command
 * there and does not return. What is odd about its file is told on stderr. */
guint32 pct_target(const PctArgs *args);
/* Reads the file of @ctid wherever it lies: enough for what only shows it.
 * @digest, nullable, is set to the owned SHA-1 of the file. Returns: (owned),
 * or NULL. */
AgentGuestConf *pct_load(guint32 ctid, char **digest, GError **error);
/* `key: value` of the table, as the command line gives it; `env` may have
 * several, on lines. Returns: (owned) the text to store, or NULL. */
char *pct_check_option(const char *key, const char *value, GError **error);

int pct_list(const PctArgs *args);
int pct_status(const PctArgs *args);
int pct_config(const PctArgs *args);
int pct_pending(const PctArgs *args);
int pct_set(const PctArgs *args);
int pct_start(const PctArgs *args);
int pct_stop(const PctArgs *args);
int pct_shutdown(const PctArgs *args);
int pct_exec(const PctArgs *args);
int pct_create(const PctArgs *args);
int pct_destroy(const PctArgs *args);
int pct_unlock(const PctArgs *args);
int pct_help(const PctArgs *args);
/* `pct bashcomplete COMMAND CURRENT PREVIOUS`, with COMP_LINE, COMP_POINT. */
int pct_complete(int argc, char **argv);

extern const PctOption pct_create_options[];
extern const PctOption pct_set_options[];
extern const PctOption pct_start_options[];
extern const PctOption pct_stop_options[];
extern const PctOption pct_shutdown_options[];
extern const PctOption pct_exec_options[];
extern const PctOption pct_destroy_options[];
extern const PctOption pct_list_options[];
extern const PctOption pct_status_options[];
extern const PctOption pct_config_options[];

#endif
