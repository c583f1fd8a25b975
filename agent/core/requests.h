/* requests.h - the names and texts of requests for new containers.
 *
 *     new.conf, new-NAME.conf     asks for a container
 *     failed.conf, failed-NAME.conf  what became of one that could not be
 *
 * Owner   the caller.
 * Errors  NULL: not such a name.
 * Thread  any.
 * Source  DESIGN.md 3, "New containers".
 */
#ifndef AGENT_REQUESTS_H
#define AGENT_REQUESTS_H

#include <glib.h>

/* Returns: (owned) NAME of a request's file name, "" for new.conf; or NULL. A
 * NAME has no control character, no blank at its ends, and leaves room for the
 * name of a failed request. */
char *agent_request_name(const char *file);
/* Returns: (owned) the file name of the failed request @name. */
char *agent_request_failed_file(const char *name);
/* Returns: (owned) @content with @reason as its first comment line, in place
 * of the one that an earlier failure left. */
char *agent_request_failed_text(GBytes *content, const char *reason);

#endif
