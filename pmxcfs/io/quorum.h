/* quorum.h - corosync's word on whether this partition may decide.
 *
 * Without a connection there is no quorum. Connects by itself, again and
 * again.
 *
 * Owner   the daemon.
 * Thread  the loop.
 * Source  spec/filesystem.md 10; spec/replication.md 9.
 */
#ifndef CFS_QUORUM_H
#define CFS_QUORUM_H

#include <glib.h>

typedef struct CfsQuorum CfsQuorum;

/* Called on each change; not quorate at first, and no node is seen. */
typedef void (*CfsQuorumChanged)(gpointer data,
                                 gboolean quorate,
                                 guint n_nodes);

CfsQuorum *cfs_quorum_new(CfsQuorumChanged on_changed, gpointer data);
/* Reads what corosync has told already: the group asks before it passes a
 * change of membership on. */
void cfs_quorum_dispatch(CfsQuorum *self);
void cfs_quorum_free(CfsQuorum *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsQuorum, cfs_quorum_free)

#endif
