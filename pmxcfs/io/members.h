/* members.h - the node list and the cluster's name, from corosync's cmap.
 *
 * What was known stays while corosync is away. Reads everything anew whenever
 * a node or the version of the configuration changes.
 *
 * Owner   the daemon.
 * Thread  the loop.
 * Source  spec/filesystem.md 9 (.members).
 */
#ifndef CFS_MEMBERS_H
#define CFS_MEMBERS_H

#include <glib.h>

typedef struct CfsMembers CfsMembers;

/* @nodes: of CfsNode, borrowed; in the order of the configuration. */
typedef void (*CfsMembersChanged)(gpointer data,
                                  const char *cluster_name,
                                  guint32 config_version,
                                  GPtrArray *nodes);

CfsMembers *cfs_members_new(CfsMembersChanged on_changed, gpointer data);
void cfs_members_free(CfsMembers *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsMembers, cfs_members_free)

#endif
