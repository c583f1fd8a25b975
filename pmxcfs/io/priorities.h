/* priorities.h - who goes first when several sources of the loop are ready.
 *
 * Quorum before the group: a change delivered after quorum was lost must find
 * that known. The group before requests: requests make messages, so the other
 * way round the queue between them would grow. What was stored beside the
 * group: the answers must not wait until all other nodes are silent. Each
 * source does a bounded amount of work per turn.
 */
#ifndef CFS_PRIORITIES_H
#define CFS_PRIORITIES_H

#include <glib.h>

#define CFS_PRIORITY_QUORUM (G_PRIORITY_DEFAULT - 30)
#define CFS_PRIORITY_GROUP (G_PRIORITY_DEFAULT - 20)
#define CFS_PRIORITY_STORE CFS_PRIORITY_GROUP
#define CFS_PRIORITY_FUSE G_PRIORITY_DEFAULT
#define CFS_PRIORITY_IPC CFS_PRIORITY_FUSE
/* Work in pieces takes turns with requests. */
#define CFS_PRIORITY_WORK CFS_PRIORITY_FUSE

#endif
