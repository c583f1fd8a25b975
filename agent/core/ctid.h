/* ctid.h - the next free number.
 *
 * Owner   the caller.
 * Errors  0 when there is none.
 * Thread  any.
 * Source  spec/container-config.md 1 (Next free id), DESIGN.md 3.
 */
#ifndef AGENT_CTID_H
#define AGENT_CTID_H

#include <glib.h>

#define AGENT_CTID_LOWER 100u
#define AGENT_CTID_UPPER 1000000u /* exclusive */

/* Returns: (owned) an empty set of ids. */
GHashTable *agent_ctid_set_new(void);
void agent_ctid_set_add(GHashTable *taken, guint32 ctid);
/* Adds each id of .vmlist (spec/filesystem.md 9). FALSE: not its format. */
gboolean
agent_ctid_set_add_vmlist(GHashTable *taken, const char *text, gsize size);
/* The lowest id in [@lower, @upper) that @taken has not; 0: none left. */
guint32 agent_ctid_next(GHashTable *taken, guint32 lower, guint32 upper);
/* The range of `next-id: lower=..,upper=..` in the text of datacenter.cfg;
 * defaults for what is not there or makes no sense. */
void agent_ctid_range(const char *datacenter,
                      gsize size,
                      guint32 *lower,
                      guint32 *upper);

#endif
