/* guest-props.h - single properties out of guests' configurations, as JSON.
 *
 * Only what stands before the first section counts; of a key that is there
 * more than once the last one. A value is never blank.
 *
 * Owner   the caller.
 * Thread  the loop.
 * Source  spec/ipc.md 3.10, 4.
 */
#ifndef CFS_GUEST_PROPS_H
#define CFS_GUEST_PROPS_H

#include "pmxcfs/core/tree.h"

#include <glib.h>

/* Returns: (owned) the value of @name in @text, or NULL. */
char *cfs_guest_prop_find(const char *text, gsize size, const char *name);

/* @vmid: 0 for all guests. @names: NULL-terminated, in the order of the
 * answer. Returns: (owned) the text of the answer. */
char *
cfs_guest_props_json(CfsTree *tree, guint32 vmid, const char *const *names);

#endif
