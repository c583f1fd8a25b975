/* sim-private.h - what the files of the simulated cluster share.
 *
 * sim-node.c is one node: its process, events and effects; sim-faults.c what
 * may happen to it; sim-cluster.c all of them, time, and what must hold at the
 * end. Nobody else includes this.
 */
#ifndef SIM_PRIVATE_H
#define SIM_PRIVATE_H

#include "tests/sim/sim-cluster.h"
#include "tests/sim/sim-group.h"
#include "tests/sim/sim-store.h"

#define SIM_START_TIME 1700000000u
/* As the daemon: pmxcfs/io/effects.c, group-cpg.c. */
#define SIM_PATIENCE_MS 1000
#define SIM_RECONNECT_MS 100

typedef struct {
    guint64 id;
    int verdict;
    guint64 after; /* the batch that must be committed first */
    gint64 deadline_ms;
} SimReply;

typedef struct {
    SimCluster *cluster;
    guint number;
    CfsReplica *replica; /* NULL: stopped */
    gboolean is_paused;
    SimStore *store;
    GQueue replies;          /* of SimReply: waiting for the store */
    GHashTable *waiting;     /* request ids without an answer */
    GHashTable *interrupted; /* ... whose callers are gone */
    GHashTable *syncs;       /* ... that are barriers */
    guint32 pid;
    gboolean is_connected; /* it was told so */
    gboolean is_leaving;   /* it will be told that it is no longer */
    gint64 rejoin_ms;      /* -1: it does not try to connect */
    gint64 clock_skew_ms;
    /* quorum: of the host, told, and on the way there */
    gboolean is_forced;
    gboolean last_news;
    GQueue news; /* of GINT_TO_POINTER(gboolean) */
    /* the store's trouble */
    int problem;
    int told_problem;
    gboolean is_late;
    gboolean loses_update;
    gboolean has_work;   /* its CONTINUE is under way */
    guint64 features;    /* what its next process will offer */
    guint64 flush;       /* token of the FLUSH under way, or 0 */
    guint64 flush_after; /* the batch that must be committed first */
} SimNode;

struct SimCluster {
    guint n;
    GRand *rand;
    SimDice dice;
    SimGroup *group;
    SimCheck *check;
    SimNode nodes[SIM_MAX_NODES];
    gint64 clock_ms;
    guint32 next_pid;
    guint64 next_request;
    gboolean has_lag;
    GHashTable *verdicts; /* errno -> count */
    guint n_nodes;        /* in the node list */
    guint64 n_syncs[2];   /* barriers that went well, by level */
    guint64 sent[8];      /* messages of ours, by kind */
    CfsSyncLevel level;   /* of the last barrier */
    guint64 watched;      /* a request that sim_change() waits for */
    int watched_verdict;
    guint64 trace; /* a hash of it */
    gboolean verbose;
};

/* --- sim-node.c */

void sim_node_init(SimNode *self, SimCluster *cluster, guint number);
void sim_node_clear(SimNode *self);
CfsEvent sim_node_event(SimNode *self, CfsEventKind kind);
/* Anything but a get or a request. */
void sim_node_step(SimNode *self, const CfsEvent *event);
void sim_node_start(SimNode *self, const char *saved_locks);
/* Forgets the process; the group was told. */
void sim_node_end(SimNode *self);
void sim_node_submit(SimNode *self, guint64 id, CfsOp *op);
void sim_node_submit_sync(SimNode *self, guint64 id);
void sim_node_tell_nodes(SimNode *self);
void sim_node_interrupt(SimNode *self);
gboolean sim_node_runs(const SimNode *self);
gboolean sim_node_get(SimNode *self);
gboolean sim_node_commit(SimNode *self);
gboolean sim_node_tell(SimNode *self);
gboolean sim_node_work(SimNode *self);
void sim_node_tick(SimNode *self);
/* The connection to corosync is gone. */
void sim_node_lose(SimNode *self);
/* A hash of the trace and of what is random in it. */
void sim_node_note(SimNode *self, const char *text);

/* --- sim-faults.c */

/* Tells all nodes what quorum they have now. */
void sim_faults_update_quorum(SimCluster *self);
gboolean sim_faults_has_quorum(SimCluster *self, guint node);

#endif
