/* allocate.h - a request becomes a container.
 *
 * Owner   the caller.
 * Errors  GError, one line for people. A request that cannot be carried out is
 *         renamed to failed-NAME.conf; that is an error too, but the last one.
 * Thread  one; everything here blocks, some of it for minutes.
 * Source  DESIGN.md 3, "New containers".
 */
#ifndef AGENT_ALLOCATE_H
#define AGENT_ALLOCATE_H

#include <glib.h>

/* Gives the request @file (a name in this node's lxc/) the lowest free CTID,
 * writes its hold record, and makes what it asks for. @not: ids that are not
 * free although nothing is seen of them, "101,105". */
gboolean agent_allocate(const char *file, const char *not_free, GError **error);
/* Goes on with a request that has its CTID and its record already. The caller
 * holds the container's step lock. */
gboolean agent_allocate_finish(guint32 ctid, GError **error);

#endif
