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

/* Prints @error. Returns the exit status that goes with it. */
int pct_fail(const GError *error);
/* Parses the first word as a CTID. When the container is another node's, runs
 * the whole command there and does not return. 0: no CTID, complained. */
guint32 pct_target(const PctCommand *command,
                   const PctArgs *args,
                   int argc,
                   char **argv);

int pct_list(int argc, char **argv);
int pct_status(int argc, char **argv);
int pct_config(int argc, char **argv);
int pct_start(int argc, char **argv);
int pct_stop(int argc, char **argv);
int pct_shutdown(int argc, char **argv);
int pct_exec(int argc, char **argv);
int pct_create(int argc, char **argv);
int pct_destroy(int argc, char **argv);
int pct_unlock(int argc, char **argv);

#endif
