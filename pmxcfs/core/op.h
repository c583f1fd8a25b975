/* op.h - one operation on the tree and its bytes.
 *
 * Owner   the caller; an operation owns its strings and shares its data.
 * Units   bytes; whole seconds.
 * Errors  cfs_op_decode() gives NULL for what the protocol calls malformed.
 * Thread  any.
 * Source  spec/replication.md 4.
 */
#ifndef CFS_OP_H
#define CFS_OP_H

#include "common/wire.h"

#include <glib.h>

#define CFS_DIGEST_SIZE 32

typedef enum {
    CFS_OP_WRITE = 1,
    CFS_OP_MKDIR = 2,
    CFS_OP_DELETE = 3,
    CFS_OP_RENAME = 4,
    CFS_OP_CREATE = 5,
    CFS_OP_MTIME = 6,
    CFS_OP_UNLOCK_REQUEST = 7,
    CFS_OP_UNLOCK = 8,
} CfsOpKind;

typedef struct {
    CfsOpKind kind;
    char *path;     /* relative to the mount, no leading slash; NULL: none */
    char *to;       /* RENAME, else NULL */
    GBytes *data;   /* WRITE, else NULL */
    guint32 offset; /* WRITE: where, or the new size; MTIME: the new mtime */
    gboolean truncate;
    gboolean is_append; /* WRITE: at the end; travels by extension.h */
    guint8 checksum[CFS_DIGEST_SIZE]; /* UNLOCK_REQUEST, UNLOCK */
} CfsOp;

CfsOp *cfs_op_new(CfsOpKind kind, const char *path);
CfsOp *cfs_op_new_rename(const char *from, const char *to);
/* Shares @data. */
CfsOp *cfs_op_new_write(const char *path, GBytes *data, guint32 offset);
/* At wherever the file ends when it is applied. Shares @data. */
CfsOp *cfs_op_new_append(const char *path, GBytes *data);
CfsOp *cfs_op_new_truncate(const char *path, guint32 size);
CfsOp *cfs_op_new_mtime(const char *path, guint32 mtime);
/* A deep copy that shares the data. */
CfsOp *cfs_op_copy(const CfsOp *self);
void cfs_op_free(CfsOp *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsOp, cfs_op_free)

/* At least the bytes that cfs_op_encode() appends. */
guint cfs_op_size(const CfsOp *self);
/* Appends what follows the header of a normal message. */
void cfs_op_encode(const CfsOp *self, GByteArray *out);
/* FALSE: a kind that a later version may have added. */
gboolean cfs_op_is_known(guint16 subtype);
/* Reads all that is left in @reader. Returns: (owned) the operation, or NULL
 * when it is malformed or of an unknown kind. */
CfsOp *cfs_op_decode(guint16 subtype, PveReader *reader);

#endif
