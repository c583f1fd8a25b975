/* ipc-private.h - what the rooms of the local socket share.
 *
 * ipc.c is the service: it lets clients in, reads requests, sends answers.
 * Nobody else includes this.
 */
#ifndef CFS_IPC_PRIVATE_H
#define CFS_IPC_PRIVATE_H

#include "pmxcfs/io/ipc-channel.h"
#include "pmxcfs/io/ipc.h"

struct CfsIpc {
    CfsEffects *effects;
    CfsReplica *replica;
    gid_t group;
    qb_ipcs_service_t *service; /* NULL: not yet */
    guint retry;                /* timer: the name is taken */
    gboolean is_told;           /* ... and the log knows */
    GHashTable *clients; /* qb_ipcs_connection_t -> CfsIpcClient, owned */
    guint n_read_only;
};

typedef struct {
    CfsIpc *ipc;
    qb_ipcs_connection_t *connection;
    CfsIpcChannel *channel; /* NULL: libqb is not done with the greeting */
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

#endif
