/* idmap.h - lists of id ranges, and whether they contradict each other.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_GUESTCONF_ERROR.
 * Thread  any.
 * Source  spec/container-config.md 6.1 and 8.
 */
#ifndef AGENT_IDMAP_H
#define AGENT_IDMAP_H

#include <glib.h>

/* @items: "u SEP 0 SEP 100000 SEP 65536", NULL-terminated. FALSE when one
 * cannot be read ("failed to parse idmap: ITEM"), or maps an id that another
 * one maps. */
gboolean agent_idmap_check(const char *const *items,
                           const char *separator,
                           GError **error);

#endif
