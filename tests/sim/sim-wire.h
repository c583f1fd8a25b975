/* sim-wire.h - what a member may put on the wire.
 *
 * The rules of spec/replication.md 13 that members of the reference rely on,
 * held against every message that one process sends. It sees what that process
 * got, as far as it got it.
 *
 * Owner   the check. Errors: a text, owned by the caller; NULL: all is well.
 * Thread  one.
 */
#ifndef SIM_WIRE_H
#define SIM_WIRE_H

#include "pmxcfs/core/replica.h"
#include "tests/sim/sim-group.h"

#include <glib.h>

typedef struct SimWire SimWire;

SimWire *sim_wire_new(CfsMember self);
void sim_wire_free(SimWire *self);

/* Before the step: what the process gets. */
void sim_wire_on_get(SimWire *self, const SimGet *get);
/* Before the step of anything else. */
void sim_wire_on_other(SimWire *self);
/* A message that step sent; @is_synced: SYNCED before or after it. */
char *sim_wire_check(SimWire *self, GBytes *message, gboolean is_synced);

#endif
