/* ipc-client.h - a program's end of the local socket.
 *
 * Calls wait for their answer, so they belong into a thread that may wait, or
 * into a tool. A connection is made when it is first needed, and made again
 * when it broke: a call is then repeated once, so it may be carried out twice.
 * While the daemon restarts (its flag is there) connecting is tried for 10 s.
 *
 * Events come to a client of their own, on a main context, and go on over a
 * restart of the daemon; where it does not know what was missed, one of kind
 * PVE_EVENT_LOST says so, also at the very beginning: then look at everything.
 * A daemon without events (ECHRNG) is told by PVE_IPC_ERROR_UNSUPPORTED.
 *
 * Owner   the caller.
 * Errors  PVE_IPC_ERROR; the message names the operation and the reason.
 * Units   milliseconds.
 * Thread  one at a time per client.
 * Source  spec/ipc.md 1.3, 2; docs/ipc.md.
 */
#ifndef PVE_IPC_CLIENT_H
#define PVE_IPC_CLIENT_H

#include "common/ipc-event.h"

#include <glib.h>

#define PVE_IPC_ERROR (pve_ipc_error_quark())
GQuark pve_ipc_error_quark(void);

typedef enum {
    PVE_IPC_ERROR_CONNECT,     /* nobody is there, or lets us in */
    PVE_IPC_ERROR_REFUSED,     /* the daemon answers with an errno */
    PVE_IPC_ERROR_UNSUPPORTED, /* ... that it does not know the operation */
    PVE_IPC_ERROR_MALFORMED,   /* what it answers makes no sense */
} PveIpcError;

typedef struct PveIpcClient PveIpcClient;

PveIpcClient *pve_ipc_client_new(void);
void pve_ipc_client_free(PveIpcClient *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PveIpcClient, pve_ipc_client_free)

/* Returns: (owned) the payload of the answer, maybe empty; NULL with @error
 * set. @verdict: (out, nullable) the daemon's errno, 0 when it gave none. */
GBytes *pve_ipc_call(PveIpcClient *self,
                     PveIpcOperation operation,
                     gconstpointer payload,
                     gsize size,
                     int *verdict,
                     GError **error);
/* Returns: (owned) the content of a file, as GET_CONFIG: up to
 * PVE_IPC_MAX_PAYLOAD bytes. */
GBytes *pve_ipc_read_file(PveIpcClient *self, const char *path, GError **error);
/* A barrier: all that this node had applied is on stable storage. */
gboolean pve_ipc_sync(PveIpcClient *self, PveSyncLevel *level, GError **error);

/* --- events --- */

typedef struct PveIpcEvents PveIpcEvents;
/* @event: NULL when the connection broke, or could not be made: @error
 * (borrowed) says why; it is tried again. Must not free the events. */
typedef void (*PveIpcEventFunc)(gpointer data,
                                const PveEvent *event,
                                const GError *error);

/* Subscribes, in the thread's default main context. @kinds: as
 * PVE_EVENT_BIT(); @prefixes: (nullable: all) NULL-terminated. */
PveIpcEvents *pve_ipc_events_new(guint32 kinds,
                                 const char *const *prefixes,
                                 PveIpcEventFunc callback,
                                 gpointer data);
void pve_ipc_events_free(PveIpcEvents *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PveIpcEvents, pve_ipc_events_free)

#endif
