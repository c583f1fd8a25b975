/* replica.h - one member of the database group: the state machine.
 *
 * The drawing is above CfsMode, the whole story in docs/replication.md.
 *
 * The core thinks, the world acts: cfs_replica_step() takes one event and
 * appends to a queue, in order, what must be done. It has no clock, socket or
 * file; time comes with the event. Quorum and identity are events too: they
 * decide what is sent or that we leave, never how a message is applied.
 *
 * Owner   the daemon's loop (or the simulator).
 * Units   seconds since the epoch for what goes into messages; milliseconds
 *         since the host was booted for waiting.
 * Errors  verdicts in replies.
 * Thread  the loop.
 * Source  spec/replication.md 7; spec/filesystem.md 10; DESIGN.md 2.
 */
#ifndef CFS_REPLICA_H
#define CFS_REPLICA_H

#include "pmxcfs/core/extension.h"
#include "pmxcfs/core/message.h"
#include "pmxcfs/core/tree.h"
#include "pmxcfs/core/views.h"

#include <glib.h>

typedef struct CfsReplica CfsReplica;

typedef enum {
    CFS_EVENT_REQUEST,      /* somebody on this node wants a change */
    CFS_EVENT_CONNECTED,    /* the join was sent; we know who we are */
    CFS_EVENT_DISCONNECTED, /* the group is gone or was left */
    CFS_EVENT_CONFCHG,      /* the group's members */
    CFS_EVENT_MESSAGE,      /* one message, in the total order */
    CFS_EVENT_QUORUM,
    CFS_EVENT_SYNC,        /* a barrier: see CFS_EFFECT_REPLY_SYNC */
    CFS_EVENT_SYNC_CANCEL, /* nobody waits for it any more; no answer comes */
    CFS_EVENT_FLUSHED,     /* a FLUSH effect is done */
    CFS_EVENT_NODES,       /* the node list */
    CFS_EVENT_SETTLED,     /* files that their last writers here closed */
    CFS_EVENT_STORED,   /* the store's health: 0, or the errno of its failure */
    CFS_EVENT_TICK,     /* at least once a second */
    CFS_EVENT_CONTINUE, /* the turn that a CONTINUE asked for */
} CfsEventKind;

typedef struct {
    CfsEventKind kind;
    guint32 time_s;  /* wall clock */
    gint64 clock_ms; /* since boot */
    union {
        struct {
            guint64 id;      /* the caller's, never 0 */
            const CfsOp *op; /* borrowed; copied */
        } request;
        struct {
            CfsMember self;
        } connected;
        struct {
            const CfsMember *members; /* borrowed */
            guint n_members;
            gboolean has_joined; /* the joined list is not empty */
        } confchg;
        struct {
            CfsMember sender;
            GBytes *bytes; /* borrowed */
        } message;
        struct {
            gboolean quorate;
            guint n_quorum_nodes; /* whom corosync sees; 0: not known */
        };
        int store_errno;
        guint64 sync_id; /* SYNC, SYNC_CANCEL: the caller's, never 0 */
        struct {
            guint64 token; /* the effect's */
            int problem;   /* 0 or a positive errno */
        } flushed;
        guint n_nodes; /* NODES: in corosync's node list; 0: not known */
        const GArray *settled; /* SETTLED: of CfsSettled; borrowed */
    };
} CfsEvent;

typedef enum {
    CFS_EFFECT_SEND,  /* multicast to the group, in this order */
    CFS_EFFECT_STORE, /* rows to write, one transaction or merged with others */
    CFS_EFFECT_REPLY, /* answer a request */
    CFS_EFFECT_CHANGED,  /* caches must let go, then watchers may know */
    CFS_EFFECT_RELOADED, /* the whole tree was replaced: forget everything */
    CFS_EFFECT_LEAVE,    /* leave the group, connect again after a delay */
    CFS_EFFECT_FLUSH,    /* bring all that was to be stored before to the disk,
                          * then say FLUSHED; one at a time */
    CFS_EFFECT_REPLY_SYNC, /* answer a SYNC */
    CFS_EFFECT_SETTLED,    /* watchers may know that a file is whole */
    /* Work that is done in pieces, so that no step takes long: come back with
     * CFS_EVENT_CONTINUE when what was sent has left and others had their
     * turn. One at a time. */
    CFS_EFFECT_CONTINUE,
    CFS_EFFECT_CLUSTER_LOG, /* this node has to say something to all */
    /* Another copy takes the place of ours, with the next STORE: keep these. */
    CFS_EFFECT_OVERRULED,
} CfsEffectKind;

/* How far a barrier reached. */
typedef enum {
    CFS_SYNC_LEVEL_LOCAL,    /* stable on this node */
    CFS_SYNC_LEVEL_MAJORITY, /* on a strict majority of the node list */
} CfsSyncLevel;

/* An entry of ours that another copy has no place for. */
typedef struct {
    char *path;      /* owned; where it was */
    CfsEntry *entry; /* owned */
} CfsOverruled;

void cfs_overruled_free(CfsOverruled *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsOverruled, cfs_overruled_free)

typedef struct {
    CfsEffectKind kind;
    GBytes *message; /* SEND */
    struct {
        GPtrArray *puts; /* of CfsEntry; the root (inode 0) is the version */
        GArray *deletes; /* of guint64 inode; done before the puts */
        CfsTermRecord *terms;  /* for the side table, or NULL */
        guint64 terms_version; /* of the tree it belongs to */
    } store;                   /* STORE */
    struct {
        guint64 id;
        int verdict;     /* 0 or a positive errno */
        CfsEntry *entry; /* CREATE, MKDIR: what was made, else NULL */
        gboolean stored; /* TRUE: wait until every STORE before it is done */
    } reply;             /* REPLY */
    struct {
        GPtrArray *changes; /* of CfsChange: what one operation did */
        guint64 origin;     /* the request of this node that made it, or 0 */
        guint64 version;    /* of the tree with it */
        guint32 writer;     /* the node */
    } changed;              /* CHANGED */
    guint64 step;   /* CHANGED, RELOADED: for cfs_views_release(), or 0 */
    guint delay_ms; /* LEAVE; G_MAXUINT: never connect again */
    guint64 flush;  /* FLUSH: its token */
    struct {
        CfsEntry *entry; /* owned */
        char *path;      /* owned */
        guint32 node;    /* whose last writer it was */
    } settled;           /* SETTLED */
    struct {
        guint64 id;
        int verdict; /* 0; EIO: not known to be safe; or the disk's errno */
        CfsSyncLevel level;
    } reply_sync; /* REPLY_SYNC */
    struct {
        int priority; /* as in syslog(3) */
        char *text;   /* owned */
    } log;            /* CLUSTER_LOG */
    struct {
        GPtrArray *whole;   /* of CfsEntry: our copy as it was */
        GPtrArray *entries; /* of CfsOverruled; may be empty */
        CfsMember leader;   /* whose copy it is now */
    } overruled;            /* OVERRULED */
} CfsEffect;

void cfs_effect_free(CfsEffect *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsEffect, cfs_effect_free)

/*                                            confchg, alone
 *            connected        confchg         +--------------+
 *   (out) -------------> START ------> START_SYNC            |
 *     ^                    |            |   ^  |             |
 *     |                    |    all states  |  all states,   |
 *     |                    |    are there,  |  we differ     |
 *     |                    |    we are equal|  |             |
 *     |                    v            v   |  v             v
 *     |                  SYNCED <-------+   |  UPDATE ----> SYNCED
 *     |                    |                |  |   UPDATE_COMPLETE,
 *     |                    +--- confchg ----+--+   all of it is there
 *     | pause
 *   LEAVE <-- not quorate when a change comes; our copy differs (VERIFY); a
 *     ^       change we cannot interpret; an incomplete transfer; the others
 *     |       ended a round that we did not
 *   VERSION_ERROR <-- a newer protocol: a longer pause
 */
typedef enum {
    CFS_MODE_START,
    CFS_MODE_START_SYNC,
    CFS_MODE_SYNCED,
    CFS_MODE_UPDATE,
    CFS_MODE_LEAVE,
    CFS_MODE_VERSION_ERROR,
} CfsMode;

/* A line per decision; @level as in GLib. */
typedef void (*CfsTrace)(gpointer data, GLogLevelFlags level, const char *text);

/* Takes @tree and @views. */
CfsReplica *cfs_replica_new(CfsTree *tree, CfsViews *views);
void cfs_replica_free(CfsReplica *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsReplica, cfs_replica_free)
void cfs_replica_set_trace(CfsReplica *self, CfsTrace trace, gpointer data);

/* Before the first event: what the database keeps beside the tree, and the
 * version of the tree it was stored with (terms.h). */
void cfs_replica_restore_terms(CfsReplica *self,
                               const CfsTermRecord *record,
                               guint64 version);
/* Before the first event: what this member offers to the others, by default all
 * there is; 0: as a member of the reference, which knows no terms. */
void cfs_replica_set_features(CfsReplica *self, guint64 features);
const CfsTermRecord *cfs_replica_term_record(CfsReplica *self);

/* The only door. Takes one event; appends to @effects (of CfsEffect, owned by
 * the queue's owner), in order, what the world must do. */
void cfs_replica_step(CfsReplica *self, const CfsEvent *event, GQueue *effects);

/* What readers need; borrowed until the next step. */
CfsTree *cfs_replica_tree(CfsReplica *self);
CfsViews *cfs_replica_views(CfsReplica *self);
CfsMode cfs_replica_mode(CfsReplica *self);
gboolean cfs_replica_is_quorate(CfsReplica *self);

/* How long the lock directories have been held: dirlock.h. */
char *cfs_replica_save_locks(CfsReplica *self);
void
cfs_replica_restore_locks(CfsReplica *self, const char *text, gint64 clock_ms);

const char *cfs_mode_name(CfsMode mode);

#endif
