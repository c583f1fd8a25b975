/* sim-shrink.h - a failing run, and what is left of it when all that does not
 * matter is taken out.
 *
 * Each attempt runs in a process of its own, so that an abort of the core is a
 * failure like others. Attempts that fail in another way than the first do not
 * count.
 *
 * Owner   the caller. Thread: one, and children.
 * Source  delta debugging (Zeller, Hildebrandt 2002).
 */
#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H

#include "tests/sim/sim-script.h"

#include <glib.h>

/* Runs it in a child. Returns: (owned) the violation, "crash: signal N", or
 * NULL. */
char *sim_script_try(const SimScript *self);
/* Removes decisions while the run still fails alike, at most for @seconds. */
void sim_script_shrink(SimScript *self, guint seconds);

#endif
