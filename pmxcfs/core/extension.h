/* extension.h - the messages of ours that no reference peer has: their bytes.
 *
 * Type 7 with an epoch of zeros and at least 32 bytes: the reference drops it
 * silently in every mode. The subtype says which:
 *
 *   TERM    what a member's copy is, before its STATE
 *   FLUSH   asks everyone to say when all they have is on stable storage
 *   ACK     says so
 *   APPEND  data that goes to wherever a file ends when its turn comes
 *   SETTLED says which files their last writers have closed
 *
 * A payload is u16 layout, u16 size of the fixed part, the fixed part, then
 * what varies. A later version of ours may append to the fixed part and behind
 * the end; a receiver ignores what it does not know.
 *
 *   TERM    epoch[16] features u64, version u64, mtime u32, n_nodes u32,
 *           term u64, seen u64, acked u64, cluster_id u64, name_size u32,
 *           n_history u32, content[32] || name, with NUL ||
 *           (term, version, tag) u64 each
 *   FLUSH   epoch[16] term u64
 *   ACK     epoch[16] term u64, version u64, error u32
 *   APPEND  count u64, data_size u32, path_size u32 || path, with NUL || data
 *   SETTLED n u32 || (inode, version of the entry) u64 each
 *
 * Owner   the caller.
 * Errors  FALSE or NULL: malformed, or of a layout we do not know; dropped.
 * Thread  any.
 * Source  spec/replication.md 11; docs/replication.md.
 */
#ifndef CFS_EXTENSION_H
#define CFS_EXTENSION_H

#include "pmxcfs/core/message.h"
#include "pmxcfs/core/op.h"

#include <glib.h>

/* The header's type, and its subtypes. */
#define CFS_MESSAGE_OURS 7u
enum {
    CFS_OURS_TERM = 1,
    CFS_OURS_FLUSH = 2,
    CFS_OURS_ACK = 3,
    CFS_OURS_APPEND = 4,
    CFS_OURS_SETTLED = 5,
};

/* What a member understands, as bits. */
#define CFS_FEATURE_TERMS (G_GUINT64_CONSTANT(1) << 0)
#define CFS_FEATURE_APPEND (G_GUINT64_CONSTANT(1) << 1)
#define CFS_FEATURES_ALL (CFS_FEATURE_TERMS | CFS_FEATURE_APPEND)

#define CFS_TERM_HISTORY 32u
#define CFS_MAX_SETTLED 1024u /* of one message */
#define CFS_CLUSTER_NAME_SIZE 256u

/* The beginning of a term: at which version, and a hash of the epoch. For
 * people, to see where two copies parted. */
typedef struct {
    guint64 term;
    guint64 version;
    guint64 tag;
} CfsTermStart;

/* What a copy says of itself, beside the tree; terms.h. */
typedef struct {
    guint64 term;       /* 0: none ever */
    guint64 seen;       /* the highest number known to have been used */
    guint64 acked;      /* in this term, up to this version; 0: nothing */
    guint64 cluster_id; /* 0: none */
    guint n_history;
    CfsTermStart history[CFS_TERM_HISTORY]; /* the oldest first */
} CfsTermRecord;

typedef struct {
    CfsEpoch epoch;
    guint64 features;
    guint64 version; /* of the root, as is mtime */
    guint32 mtime;
    guint32 n_nodes;                  /* in the node list; 0: not known */
    char name[CFS_CLUSTER_NAME_SIZE]; /* of the cluster; "": not known */
    /* SHA-256 of the index behind its root: what is there, whatever the root
     * counts. */
    guint8 content[CFS_DIGEST_SIZE];
    CfsTermRecord record;
} CfsTermMessage;

typedef struct {
    CfsEpoch epoch;
    guint64 term;
} CfsFlushMessage;

typedef struct {
    CfsEpoch epoch;
    guint64 term;
    guint64 version;
    guint32 error; /* 0, or the positive errno: nothing is stable there */
} CfsAckMessage;

/* A file, as its last writer left it. */
typedef struct {
    guint64 inode;
    guint64 version;
} CfsSettled;

/* Each: (owned) a whole message, header included. */
GBytes *cfs_term_message_encode(const CfsTermMessage *self, guint32 time);
GBytes *cfs_flush_message_encode(const CfsFlushMessage *self, guint32 time);
GBytes *cfs_ack_message_encode(const CfsAckMessage *self, guint32 time);
GBytes *cfs_append_message_encode(const CfsOp *op, guint64 count, guint32 time);
/* @files: of CfsSettled, at most CFS_MAX_SETTLED. */
GBytes *cfs_settled_message_encode(const GArray *files, guint32 time);

/* Each reads what follows the header. */
gboolean cfs_term_message_decode(PveReader *reader, CfsTermMessage *out);
gboolean cfs_flush_message_decode(PveReader *reader, CfsFlushMessage *out);
gboolean cfs_ack_message_decode(PveReader *reader, CfsAckMessage *out);
/* Returns: (owned) a CFS_OP_WRITE with is_append, or NULL. */
CfsOp *cfs_append_message_decode(PveReader *reader, guint64 *count);
/* Returns: (owned) of CfsSettled, or NULL. */
GArray *cfs_settled_message_decode(PveReader *reader);

/* The content of a STATE; zeros where it is too short for one. */
void cfs_term_content(GBytes *index, guint8 content[CFS_DIGEST_SIZE]);

/* The history alone, as the side table of the database keeps it. */
void cfs_term_history_write(GByteArray *out, const CfsTermRecord *record);
/* FALSE, and an empty history, for anything else. */
gboolean cfs_term_history_read(PveReader *reader, CfsTermRecord *record);

#endif
