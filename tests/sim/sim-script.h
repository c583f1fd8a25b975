/* sim-script.h - a run as a list of decisions that can be kept, cut and pasted.
 *
 * A line is a decision: what, which node, and what it needs to be repeated.
 *
 *     nodes 3
 *     start 0
 *     submit 1 create a/x
 *     submit 1 write a/x 0 20 w      offset, size, the byte it is made of
 *     order 1 2                      its host sends two messages
 *     get 0 4                        it hears four
 *     split 01|2 77                  77: the dice for what chance decides
 *
 * A decision that makes no sense where it stands does nothing, so lines can be
 * left out. Text behind # is for the reader.
 *
 * Owner   the caller. Errors: a GError that names the line. Thread: one.
 */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include "tests/sim/sim-cluster.h"

#include <glib.h>

typedef enum {
    SIM_DO_ORDER,     /* number: how many */
    SIM_DO_GET,       /* the same */
    SIM_DO_COMMIT,    /* the same */
    SIM_DO_TELL,      /* the same */
    SIM_DO_WORK,      /* the same */
    SIM_DO_RUN,       /* until nothing happens by itself */
    SIM_DO_SUBMIT,    /* an operation */
    SIM_DO_SYNC,      /* a barrier */
    SIM_DO_INTERRUPT, /* its oldest caller */
    SIM_DO_ADVANCE,   /* number: ms */
    SIM_DO_START,
    SIM_DO_KILL,
    SIM_DO_STOP,
    SIM_DO_POWER, /* off */
    SIM_DO_WIPE,
    SIM_DO_PAUSE,
    SIM_DO_CONTINUE,
    SIM_DO_DOWN, /* its corosync */
    SIM_DO_UP,
    SIM_DO_SPLIT, /* path: the sides */
    SIM_DO_HEAL,
    SIM_DO_FORCE, /* quorum for its side */
    SIM_DO_FLAP,  /* quorum */
    SIM_DO_STORE, /* number: its errno */
    SIM_DO_FLUSH,
    SIM_DO_CLOCK,  /* number: ms after the others' */
    SIM_DO_LOSE,   /* an update */
    SIM_DO_INJECT, /* a bad message */
    SIM_DO_OLD,    /* its next process keeps no terms */
    SIM_N_DOS
} SimDo;

typedef struct {
    SimDo what;
    guint node;
    gint64 number;
    guint64 dice;
    /* SUBMIT; strings are interned. */
    CfsOpKind op;
    const char *path;
    const char *to;
    guint32 offset; /* or size of a truncate, or time */
    guint32 size;
    gboolean truncate;
    gboolean append;
    char fill;
} SimDecision;

typedef struct {
    guint n_nodes;
    GArray *decisions; /* of SimDecision */
} SimScript;

SimScript *sim_script_new(guint n_nodes);
void sim_script_free(SimScript *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimScript, sim_script_free)

/* Returns: (owned) the script, or NULL with @error set. */
SimScript *sim_script_parse(const char *text, GError **error);
/* Returns: (owned) the text. */
char *sim_script_text(const SimScript *self);

/* A cluster as scripts have it: stopped, quorum lags, violations are kept. */
SimCluster *sim_script_cluster(guint n_nodes);
void sim_decision_apply(const SimDecision *self, SimCluster *cluster);
/* All of it, then the end of all faults. Returns: (owned) the violation, or
 * NULL. */
char *sim_script_run(const SimScript *self);

#endif
