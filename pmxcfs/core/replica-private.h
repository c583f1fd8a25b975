/* replica-private.h - what the files of the replica share.
 *
 * replica.c is the door, the membership and the way out; replica-op.c the
 * changes of this node and the messages that carry them; replica-sync.c how
 * members find out who is equal; replica-transfer.c how the others become so.
 * Nobody else includes this.
 */
#ifndef CFS_REPLICA_PRIVATE_H
#define CFS_REPLICA_PRIVATE_H

#include "pmxcfs/core/dirlock.h"
#include "pmxcfs/core/replica.h"
#include "pmxcfs/core/sync.h"
#include "pmxcfs/core/terms.h"
#include "pmxcfs/core/treesum.h"

/* A change of this node that was not sent yet. */
typedef struct {
    guint64 id;
    CfsOp *op;
    gint64 since_ms;
} Held;

/* A normal message that waits for the end of a synchronisation. */
typedef struct {
    CfsMember sender;
    guint32 time;
    guint64 count;
    CfsOp *op;
    GBytes *bytes; /* the whole message, to send it again */
} Queued;

/* Who waits for stable storage: replica-barrier.c. */
typedef struct {
    GQueue waiting;        /* of Barrier, by version */
    GHashTable *acks;      /* node id -> guint64: stable there, this epoch */
    GHashTable *founders;  /* node id -> the term it has on disk */
    gint64 founding_ms;    /* when we last said so */
    GHashTable *failed;    /* set of node ids whose disk said no */
    gboolean is_asked;     /* a FLUSH of ours has no answer yet */
    guint64 asked_version; /* of the tree then */
    guint64 acked_sure;    /* acknowledged, and seen by the group */
    /* Of this node's own flush. */
    guint64 last_flush; /* token */
    guint64 flushing;   /* token; 0: none */
    guint64 flush_version;
    CfsEpoch flush_epoch;
    gboolean flush_is_acked; /* when done, say so */
    gboolean flush_is_noted; /* ... with the version, in the record */
    gboolean flush_again;
    gboolean ack_wanted; /* of the next */
} CfsBarriers;
/* Verification (spec 8): replica-verify.c. */
typedef struct {
    guint64 request_id;  /* of the last that we sent */
    gboolean is_unseen;  /* it was not delivered to us yet */
    gboolean is_allowed; /* nobody is in UPDATE any more */
    gint64 hourly_ms;    /* when the next is due; 0: not known yet */
    gint64 due_ms;       /* the one after a sync; 0: none */

    gboolean is_saved; /* a request of this epoch, and: */
    guint64 id;
    CfsMember requester;
    CfsTreeSum *running; /* NULL: @sum is done */
    guint8 sum[CFS_DIGEST_SIZE];
    gboolean has_theirs; /* the requester's came before ours was done */
    guint8 theirs[CFS_DIGEST_SIZE];

    gboolean has_accuser; /* whose word made us leave; nothing differed since */
    gboolean was_told;    /* that it is not heard any more */
    CfsMember accuser;
} Verify;

struct CfsReplica {
    CfsTree *tree;
    CfsViews *views;
    CfsDirlock *locks;
    CfsSync *sync;
    CfsTerms *terms;
    CfsBarriers barriers;
    gboolean is_refused; /* our copy is that of a foreign cluster */
    CfsMode mode;
    CfsTrace trace;
    gpointer trace_data;

    CfsMember self;
    gboolean quorate;
    guint n_quorum_nodes;
    gint64 changed_ms; /* when members or quorum changed last */
    int store_errno;
    CfsEpoch epoch;
    guint32 epoch_counter;
    guint64 count; /* of the last normal message sent */

    GHashTable *in_flight; /* count -> request id, both guint64 */
    GQueue held;           /* of Held */
    GQueue early;          /* of Queued, by count: spec queue 1 */
    GQueue late;           /* of Queued, in order: the list L of spec 7.7 */
    GHashTable *updates;   /* inode -> CfsEntry, in UPDATE */
    GPtrArray *hashing;    /* entries to hash before we send our state */
    guint n_hashed;        /* of them */
    GPtrArray *outgoing;   /* entries to send as the leader; NULL: none */
    guint n_sent;          /* of them */
    Verify verify;
    gboolean is_continuing; /* a CONTINUE is under way */

    gint64 phantom_ms;    /* when we saw one first; 0: there is none */
    guint64 phantom;      /* its inode */
    gint64 repaired_ms;   /* when we sent a repair; 0: not yet */
    gint64 round_ms;      /* when START_SYNC or UPDATE began */
    gint64 told_ms;       /* when we said last that it takes long */
    gboolean is_doubtful; /* the others ended the round, we did not */
    gboolean has_refused; /* said so in this configuration */
    guint n_refused;      /* transfers in a row, of: */
    CfsMember refused;
    guint n_unknown;      /* changes that we could not interpret, lately */
    gint64 unknown_ms;    /* the last of them */

    guint leaves; /* in a row */
    gint64 synced_since_ms;

    /* Of the step under way. */
    const CfsEvent *event;
    GQueue *effects;
};

/* --- replica.c */

void cfs_replica_held_free(gpointer data);
void cfs_replica_queued_free(gpointer data);
/* inode -> CfsEntry. */
GHashTable *cfs_replica_new_updates(void);
void cfs_replica_trace(CfsReplica *self,
                       GLogLevelFlags level,
                       const char *format,
                       ...) G_GNUC_PRINTF(3, 4);
CfsEffect *cfs_replica_emit(CfsReplica *self, CfsEffectKind kind);
void cfs_replica_reply(CfsReplica *self, guint64 id, int verdict);
void cfs_replica_send_bytes(CfsReplica *self, GBytes *message);
void cfs_replica_send_state_message(CfsReplica *self,
                                    guint16 type,
                                    GByteArray *payload);
void cfs_replica_send_op(CfsReplica *self, const CfsOp *op, guint64 id);
guint64 cfs_replica_take_request(CfsReplica *self, guint64 count);
void cfs_replica_fail_held(CfsReplica *self, int verdict);
void cfs_replica_forget_group(CfsReplica *self);
void cfs_replica_leave(CfsReplica *self, const char *reason);
void
cfs_replica_leave_for(CfsReplica *self, const char *reason, guint delay_ms);
/* The message under way is dropped: nobody can have applied it. */
void cfs_replica_refuse(CfsReplica *self, const char *why);
void cfs_replica_log_to_cluster(CfsReplica *self, const char *text);
void cfs_replica_stop_for_version(CfsReplica *self);

/* --- replica-op.c */

void cfs_replica_apply_op(CfsReplica *self,
                          CfsMember sender,
                          guint32 time,
                          guint64 count,
                          const CfsOp *op);
void cfs_replica_flush_early(CfsReplica *self);
void cfs_replica_flush_late(CfsReplica *self);
void cfs_replica_on_normal(CfsReplica *self,
                           const CfsHeader *header,
                           PveReader *reader);
void cfs_replica_on_append(CfsReplica *self,
                           const CfsHeader *header,
                           PveReader *reader);
/* Others are about to join, perhaps with a newer copy: nothing begins. */
gboolean cfs_replica_awaits_peers(CfsReplica *self);
void cfs_replica_on_request(CfsReplica *self);
void cfs_replica_submit_held(CfsReplica *self);
void cfs_replica_repair_phantoms(CfsReplica *self);
void cfs_replica_on_tick(CfsReplica *self);
void cfs_replica_on_quorum(CfsReplica *self);

/* --- replica-sync.c */

void cfs_replica_enter_synced(CfsReplica *self);
void cfs_replica_send_index(CfsReplica *self);
void cfs_replica_watch_round(CfsReplica *self);
void cfs_replica_continue_state(CfsReplica *self);
void cfs_replica_on_sync_start(CfsReplica *self,
                               const CfsHeader *header,
                               PveReader *reader);
void cfs_replica_on_state(CfsReplica *self,
                          const CfsHeader *header,
                          PveReader *reader);

/* --- replica-terms.c */

/* An empty STORE. */
CfsEffect *cfs_replica_emit_store(CfsReplica *self);
/* Adds the record to what is stored, alone or with other rows. */
void cfs_replica_attach_terms(CfsReplica *self, CfsEffect *store);
void cfs_replica_store_terms(CfsReplica *self);
void cfs_replica_send_term(CfsReplica *self);
/* After each TERM or STATE: perhaps it was the last. */
void cfs_replica_check_terms(CfsReplica *self);
/* The leader's copy, at @version, is everyone's. TRUE: store the record. */
gboolean
cfs_replica_settle_terms(CfsReplica *self, CfsMember leader, guint64 version);
void cfs_replica_settle_alone(CfsReplica *self);
void cfs_replica_on_nodes(CfsReplica *self);

/* --- replica-settled.c */

void cfs_replica_on_closed(CfsReplica *self);
void cfs_replica_on_settled(CfsReplica *self,
                            const CfsHeader *header,
                            PveReader *reader);
void cfs_replica_on_ours(CfsReplica *self,
                         const CfsHeader *header,
                         PveReader *reader);

/* --- replica-barrier.c */

void cfs_barriers_init(CfsBarriers *self);
void cfs_barriers_clear(CfsBarriers *self);
void cfs_replica_on_sync_request(CfsReplica *self);
void cfs_replica_on_sync_cancel(CfsReplica *self);
void cfs_replica_on_flushed(CfsReplica *self);
void cfs_replica_on_flush(CfsReplica *self,
                          const CfsHeader *header,
                          PveReader *reader);
void cfs_replica_on_ack(CfsReplica *self,
                        const CfsHeader *header,
                        PveReader *reader);
/* Answers all that wait. */
void cfs_replica_fail_barriers(CfsReplica *self, int verdict);
/* A change of members: all must be asked again, once synced. */
void cfs_replica_reset_barriers(CfsReplica *self);
/* ... and what we acknowledged reached nobody, where it did not reach us. */
void cfs_replica_limit_acked(CfsReplica *self);
void cfs_replica_resume_barriers(CfsReplica *self);
void cfs_replica_reconsider_barriers(CfsReplica *self);
void cfs_replica_expire_barriers(CfsReplica *self);

/* --- replica-transfer.c */

void cfs_replica_send_updates(CfsReplica *self);
void cfs_replica_continue_updates(CfsReplica *self);
void cfs_replica_drop_updates(CfsReplica *self);
void cfs_replica_on_update(CfsReplica *self,
                           const CfsHeader *header,
                           PveReader *reader);
void cfs_replica_on_update_complete(CfsReplica *self,
                                    const CfsHeader *header,
                                    PveReader *reader);

/* --- replica-overruled.c */

/* Before our tree is replaced; @gone: inodes that the leader lacks. */
void cfs_replica_keep_overruled(CfsReplica *self, const GArray *gone);

/* --- replica-verify.c */

void cfs_replica_verify_forget(CfsReplica *self);
void cfs_replica_verify_allow(CfsReplica *self);
void cfs_replica_verify_on_tick(CfsReplica *self);
gboolean cfs_replica_verify_has_work(CfsReplica *self);
void cfs_replica_verify_continue(CfsReplica *self);
void cfs_replica_on_verify_request(CfsReplica *self,
                                   const CfsHeader *header,
                                   PveReader *reader);
void cfs_replica_on_verify(CfsReplica *self,
                           const CfsHeader *header,
                           PveReader *reader);

#endif
