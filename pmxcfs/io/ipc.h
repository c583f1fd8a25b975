/* ipc.h - the local socket: libqb's service "pve2".
 *
 * Root may do everything, group www-data may read what is not private, nobody
 * else is let in. A request is copied before it is looked at; core/ipc-ops.h
 * says what the answer is. A client that does not read its answers is not
 * read from, and dropped when it goes on asking; nobody waits for it.
 *
 * Owner   the daemon.
 * Errors  logged; a name that is taken is tried again each second.
 * Thread  the loop.
 * Source  spec/ipc.md 1, 2.
 */
#ifndef CFS_IPC_H
#define CFS_IPC_H

#include "pmxcfs/io/effects.h"

#include <glib.h>
#include <sys/types.h>

typedef struct CfsIpc CfsIpc;

/* Borrows @effects. @group: of www-data. @instance: differs from that of every
 * start before. */
CfsIpc *cfs_ipc_new(CfsEffects *effects, gid_t group, guint64 instance);
void cfs_ipc_free(CfsIpc *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsIpc, cfs_ipc_free)

/* For who subscribed. A change, all files anew, or anything that the replica
 * or its views may show differently now. */
void cfs_ipc_on_applied(CfsIpc *self, const CfsEffect *effect);
void cfs_ipc_on_settled(CfsIpc *self, const CfsEffect *effect);
void cfs_ipc_on_reloaded(CfsIpc *self);
void cfs_ipc_on_turn(CfsIpc *self);
/* @effect: of the kind CHANGED. */
void cfs_ipc_on_status(CfsIpc *self, const CfsStatusEffect *effect);

#endif
