/* sim-store.h - a database in memory that may fail or lose its tail.
 *
 * Batches wait until they are committed, one after another. The end of the
 * process forgets those that were not; the end of the host also a tail of
 * those that were not flushed since.
 *
 * Owner   the cluster. Thread: one.
 */
#ifndef SIM_STORE_H
#define SIM_STORE_H

#include "pmxcfs/core/replica.h"
#include "tests/sim/sim-dice.h"

#include <glib.h>

typedef struct SimStore SimStore;

SimStore *sim_store_new(void);
void sim_store_free(SimStore *self);

/* Keeps the rows of a STORE effect. Returns the batch's number, from 1. */
guint64 sim_store_submit(SimStore *self, const CfsEffect *effect);
/* Commits the oldest batch. FALSE: there is none. */
gboolean sim_store_commit(SimStore *self);
guint64 sim_store_committed(SimStore *self);
guint64 sim_store_submitted(SimStore *self);
/* What is committed survives the end of the host. */
void sim_store_flush(SimStore *self);
/* sim_entry_hash() of all that would survive. */
guint64 sim_store_flushed_hash(SimStore *self);
/* The process ends. */
void sim_store_crash(SimStore *self);
/* The host ends: some of what was not flushed is lost, the newest first. */
void sim_store_power_off(SimStore *self, SimDice *dice);
/* What is committed beside the tree. FALSE: nothing. */
gboolean
sim_store_terms(SimStore *self, CfsTermRecord *record, guint64 *version);
/* Forgets everything: a node whose disk is new. */
void sim_store_wipe(SimStore *self);
/* Puts @entries, of CfsEntry, into an empty one. */
void sim_store_fill(SimStore *self, GPtrArray *entries);
/* Returns: (owned array of CfsEntry) what is committed. */
GPtrArray *sim_store_load(SimStore *self);

#endif
