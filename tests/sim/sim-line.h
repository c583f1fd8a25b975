/* sim-line.h - every tree that any node ever had, and what it came from.
 *
 * A tree is known by a 64-bit hash of all it holds. What a node applies makes a
 * child of its line; what it loads or gets from another must be known. So
 * "nothing is lost" becomes: that line is an ancestor of this one.
 *
 * Owner   the check; lines live as long as the book.
 * Thread  one.
 */
#ifndef SIM_LINE_H
#define SIM_LINE_H

#include "pmxcfs/core/entry.h"

#include <glib.h>

typedef struct SimLines SimLines;

typedef struct SimLine {
    guint64 hash;
    guint64 content; /* the same without the root */
    guint64 version; /* of the root */
    guint depth;
    const struct SimLine *parent; /* NULL: the first */
    const struct SimLine *jump;   /* further up */
} SimLine;

SimLines *sim_lines_new(void);
void sim_lines_free(SimLines *self);
/* NULL: no node ever had it. */
const SimLine *sim_lines_find(SimLines *self, guint64 hash);
/* What is there, or a new child of @parent. */
const SimLine *sim_lines_add(SimLines *self,
                             guint64 hash,
                             guint64 content,
                             guint64 version,
                             const SimLine *parent);
/* Does @self contain all that @other does: was it there, or the same content?
 */
gboolean sim_line_contains(const SimLine *self, const SimLine *other);

/* One entry's share in the hash of its tree: all are added up. */
guint64 sim_entry_hash(const CfsEntry *entry);
guint64 sim_bytes_hash(gconstpointer bytes, gsize size);

#endif
