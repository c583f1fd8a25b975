/* sim-workload.h - which decision comes next, by a seed.
 *
 * Each seed has a temper of its own: how many nodes, which faults and how
 * often, who is slow, how long messages are under way. Runs that do a few
 * things often find more than runs that do everything a little ("swarm
 * testing").
 *
 * Owner   the caller. Thread: one.
 */
#ifndef SIM_WORKLOAD_H
#define SIM_WORKLOAD_H

#include "tests/sim/sim-script.h"

#include <glib.h>

typedef enum {
    SIM_FAULTS_NONE,
    SIM_FAULTS_ALL,
} SimFaults;

typedef struct SimWorkload SimWorkload;

SimWorkload *sim_workload_new(guint64 seed, SimFaults faults);
void sim_workload_free(SimWorkload *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimWorkload, sim_workload_free)

guint sim_workload_n_nodes(const SimWorkload *self);
/* What comes next in @cluster; the first ones start it. */
SimDecision sim_workload_next(SimWorkload *self, SimCluster *cluster);

#endif
