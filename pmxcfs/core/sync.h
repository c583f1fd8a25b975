/* sync.h - one attempt of the members to become equal.
 *
 * Collects what each member has, then decides alike on every member who leads,
 * who is equal to the leader, and what the leader must send. It decides; the
 * replica acts.
 *
 * Owner   the replica. What queries return is borrowed until the next change.
 * Errors  results of cfs_sync_add_state().
 * Thread  the loop.
 * Source  spec/replication.md 7.2 to 7.5.
 */
#ifndef CFS_SYNC_H
#define CFS_SYNC_H

#include "pmxcfs/core/index.h"
#include "pmxcfs/core/message.h"

#include <glib.h>

typedef struct CfsSync CfsSync;

typedef enum {
    CFS_SYNC_WAITING,   /* more states are to come */
    CFS_SYNC_COMPLETE,  /* this was the last */
    CFS_SYNC_REFUSED,   /* no member, or its second state; not kept */
    CFS_SYNC_MALFORMED, /* the last, and none of them is an index */
} CfsSyncResult;

/* Which members cfs_sync_describe() names. */
typedef enum {
    CFS_SYNC_ALL,
    CFS_SYNC_SYNCED,
    CFS_SYNC_SILENT,     /* their states are not there */
    CFS_SYNC_UNREADABLE, /* their states are no indexes */
} CfsSyncWho;

CfsSync *cfs_sync_new(void);
void cfs_sync_free(CfsSync *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsSync, cfs_sync_free)

/* A new membership: forgets states, leader and who is synced. */
void
cfs_sync_set_members(CfsSync *self, const CfsMember *members, guint n_members);
gboolean cfs_sync_is_member(CfsSync *self, CfsMember member);
guint cfs_sync_n_members(CfsSync *self);
/* How many members are lower than this one. */
guint cfs_sync_rank(CfsSync *self, CfsMember member);
/* G_MAXUINT32 when there are none. */
guint32 cfs_sync_lowest_nodeid(CfsSync *self);

/* Returns: (owned) of CfsMember, by node id, then pid. */
GArray *cfs_sync_members(CfsSync *self);

/* Starts collecting anew, for another epoch of the same members. */
void cfs_sync_forget_states(CfsSync *self);
/* After CFS_SYNC_COMPLETE leader and synced members are decided. A member whose
 * state is no index has nothing: it cannot lead, and must get everything. */
CfsSyncResult
cfs_sync_add_state(CfsSync *self, CfsMember sender, GBytes *state);

/* Collects alone: states of a group without a leader can be anything. */
CfsSyncResult cfs_sync_collect(CfsSync *self, CfsMember sender, GBytes *state);
/* Returns: (owned, of GBytes borrowed until the states go) by member. */
GPtrArray *cfs_sync_states(CfsSync *self);

CfsMember cfs_sync_leader(CfsSync *self);
const CfsIndex *cfs_sync_leader_index(CfsSync *self);
gboolean cfs_sync_is_synced(CfsSync *self, CfsMember member);
void cfs_sync_set_all_synced(CfsSync *self);
/* Returns: (owned set of guint64 *) the inodes that some member must get. */
GHashTable *cfs_sync_missing(CfsSync *self);
/* Frees what only deciding needed. */
void cfs_sync_done(CfsSync *self);
/* "1/729, 2/730": (owned) those members; "": none. Unreadable ones until
 * cfs_sync_done(). */
char *cfs_sync_describe(CfsSync *self, CfsSyncWho who);

#endif
