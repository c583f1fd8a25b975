/* ipc-session.h - what one client of the local socket holds: its place among
 * the events, and trees as they were.
 *
 * A session has few snapshots, all sessions together not many, and one that is
 * not used for a while goes: what they hold is memory.
 *
 * Owner   the socket server, one per connection.
 * Errors  verdicts.
 * Units   milliseconds since the host was booted.
 * Thread  the loop.
 * Source  docs/ipc.md.
 */
#ifndef CFS_IPC_SESSION_H
#define CFS_IPC_SESSION_H

#include "pmxcfs/core/watch.h"

#include <glib.h>

#define CFS_IPC_SNAPSHOTS 2u
#define CFS_IPC_ALL_SNAPSHOTS 16u
#define CFS_IPC_SNAPSHOT_MS 60000

/* What all sessions share. */
typedef struct {
    CfsReplica *replica; /* borrowed */
    CfsWatch *watch;     /* borrowed */
    guint n_snapshots;
} CfsIpcShared;

typedef struct CfsIpcSession CfsIpcSession;

/* @shared: borrowed. */
CfsIpcSession *cfs_ipc_session_new(CfsIpcShared *shared, gboolean is_read_only);
void cfs_ipc_session_free(CfsIpcSession *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsIpcSession, cfs_ipc_session_free)

/* NULL: it has not subscribed. */
CfsWatcher *cfs_ipc_session_watcher(CfsIpcSession *self);
/* Lets go what was not used for long. */
void cfs_ipc_session_expire(CfsIpcSession *self, gint64 clock_ms);

/* The operations. @payload: borrowed, all of it. *@answer: (owned). */
int cfs_ipc_session_subscribe(CfsIpcSession *self,
                              PveReader *payload,
                              GBytes **answer);
int cfs_ipc_session_snapshot(CfsIpcSession *self,
                             PveReader *payload,
                             gint64 clock_ms,
                             GBytes **answer);
int cfs_ipc_session_list(CfsIpcSession *self,
                         PveReader *payload,
                         gint64 clock_ms,
                         GBytes **answer);
int cfs_ipc_session_read(CfsIpcSession *self,
                         PveReader *payload,
                         gint64 clock_ms,
                         GBytes **answer);
int cfs_ipc_session_release(CfsIpcSession *self,
                            PveReader *payload,
                            GBytes **answer);

#endif
