/* ipc-ops.h - what the local socket answers: a table, one row per operation.
 *
 * A request is judged and answered here, from bytes to bytes; who asks comes
 * with it. Nothing in it needs quorum, and nothing waits.
 *
 * Owner   the caller.
 * Errors  verdicts: 0 or a positive errno; then there is no payload.
 * Thread  the loop.
 * Source  spec/ipc.md 2, 3.
 */
#ifndef CFS_IPC_OPS_H
#define CFS_IPC_OPS_H

#include "pmxcfs/core/ipc-session.h"
#include "pmxcfs/core/replica.h"

#include <glib.h>

/* Who asks, and what answers. All borrowed. */
typedef struct {
    CfsReplica *replica;
    CfsIpcSession *session;
    gboolean is_read_only;
    guint32 pid;    /* of the client */
    guint32 time_s; /* now */
    gint64 clock_ms;
} CfsIpcContext;

/* @payload: a private copy of what follows the header, with a NUL behind its
 * @size bytes. *@answer: (owned) the payload of the answer, NULL: none; it
 * always fits into a message. */
int cfs_ipc_answer(const CfsIpcContext *context,
                   gint32 id,
                   guint8 *payload,
                   gsize size,
                   GBytes **answer);

#endif
