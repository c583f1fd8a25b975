/* ipc-private.h - what the rooms of the local socket share.
 *
 * ipc.c is the service: it lets clients in, reads requests, sends answers;
 * ipc-watch.c sends events.
 * Nobody else includes this.
 */
#ifndef CFS_IPC_PRIVATE_H
#define CFS_IPC_PRIVATE_H

#include "pmxcfs/core/ipc-session.h"
#include "pmxcfs/io/ipc-channel.h"
#include "pmxcfs/io/ipc.h"

typedef struct CfsIpcTold CfsIpcTold;
typedef struct CfsIpcMessage CfsIpcMessage;

struct CfsIpc {
    CfsEffects *effects;
    CfsReplica *replica;
    gid_t group;
    qb_ipcs_service_t *service; /* NULL: not yet */
    guint retry;                /* timer: the name is taken */
    gboolean is_told;           /* ... and the log knows */
    GHashTable *clients; /* qb_ipcs_connection_t -> CfsIpcClient, owned */
    guint n_read_only;
    CfsIpcShared shared;
    guint64 last_sync;
    GHashTable *syncs; /* id -> Sync of ipc.c: who waits for a barrier */
    guint expiry;      /* timer */

    GPtrArray *watchers; /* of CfsIpcClient that subscribed */
    GSource *flush;      /* sends events */
    gint64 flush_after_us;
    CfsIpcMessage *messages;
    CfsIpcTold *told;
};

typedef struct {
    CfsIpc *ipc;
    qb_ipcs_connection_t *connection;
    CfsIpcChannel *channel; /* NULL: libqb is not done with the greeting */
    CfsIpcSession *session;
    gboolean is_read_only;
    guint32 pid;
    GQueue unsent; /* of Unsent: answers that wait for room */
    guint retry;   /* timer, where nothing tells us of room */
    guint drop;    /* idle source */
} CfsIpcClient;

/* Header and payload (nullable). */
void cfs_ipc_client_answer(CfsIpcClient *client,
                           gint32 id,
                           int verdict,
                           GBytes *payload);

/* Soon: libqb may be at work on the connection. */
void cfs_ipc_client_drop(CfsIpcClient *client, const char *reason);

/* --- ipc-watch.c */

void cfs_ipc_watch_init(CfsIpc *self, guint64 instance);
void cfs_ipc_watch_clear(CfsIpc *self);
/* Returns 0 or a positive errno: events cannot be sent. */
int cfs_ipc_watch_prepare(CfsIpcClient *client);
void cfs_ipc_watch_begin(CfsIpcClient *client);
void cfs_ipc_watch_forget(CfsIpcClient *client);

#endif
