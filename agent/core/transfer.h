/* transfer.h - the lines before a volume that is on its way to its new node.
 *
 *     pve-lxc-transfer 1
 *     volume: STORAGE:NAME
 *     (an empty line; then what tar made)
 *
 * Owner   the caller owns returned texts.
 * Errors  NULL: no such header.
 * Thread  any.
 * Source  DESIGN.md 3, "Migration by mv".
 */
#ifndef AGENT_TRANSFER_H
#define AGENT_TRANSFER_H

#include <glib.h>

#define AGENT_TRANSFER_HEADER_MAX 4096u

/* Returns: (owned) the header of @volume. */
char *agent_transfer_header(const char *volume);
/* Is @text, what has been read so far, a whole header? */
gboolean agent_transfer_header_is_whole(const char *text, gsize size);
/* Returns: (owned) the volume id of a whole header, or NULL. */
char *agent_transfer_header_parse(const char *text, gsize size);

#endif
