/* group.h - join, send, leave: a group with total order.
 *
 * Two kinds: corosync's closed process groups, and a group of one for a node
 * without a cluster. Both connect by themselves and connect again when the
 * connection is lost or was left, until they are freed. Nothing here calls
 * back from within cfs_group_send() or cfs_group_leave().
 *
 * Owner   the daemon.
 * Units   milliseconds.
 * Errors  none: a lost connection is an event.
 * Thread  the loop.
 * Source  spec/replication.md 1.
 */
#ifndef CFS_GROUP_H
#define CFS_GROUP_H

#include "pmxcfs/core/message.h"

#include <glib.h>

typedef struct CfsGroup CfsGroup;

/* What a group tells. connected comes before the first confchg, disconnected
 * before the next connected; messages only in between. */
typedef struct {
    /* Around each bundle of events: what came at once. */
    void (*begin)(gpointer data);
    void (*end)(gpointer data);
    void (*connected)(gpointer data, CfsMember self);
    void (*disconnected)(gpointer data);
    /* @members in the order corosync gives; borrowed. */
    void (*confchg)(gpointer data,
                    const CfsMember *members,
                    guint n_members,
                    gboolean has_joined);
    void (*message)(gpointer data, CfsMember sender, GBytes *bytes);
    gpointer data;
} CfsGroupHandler;

typedef struct {
    void (*send)(CfsGroup *self, GBytes *message);
    gboolean (*has_backlog)(CfsGroup *self);
    void (*leave)(CfsGroup *self, guint delay_ms);
    void (*free)(CfsGroup *self);
} CfsGroupMethods;

/* The head of each kind. */
struct CfsGroup {
    const CfsGroupMethods *methods;
    CfsGroupHandler handler;
};

#define CFS_GROUP_DATABASE "pve_dcdb_v1"
#define CFS_GROUP_STATUS "pve_kvstore_v1"
#define CFS_GROUP_NEVER G_MAXUINT

/* @name: literal; outlives the group. */
CfsGroup *cfs_group_cpg_new(const char *name, const CfsGroupHandler *handler);
CfsGroup *cfs_group_alone_new(const CfsGroupHandler *handler);

/* Shares @message. Dropped when there is no connection. Order is kept. */
static inline void
cfs_group_send(CfsGroup *self, GBytes *message)
{
    self->methods->send(self, message);
}

/* Something that was given to cfs_group_send() could not be sent yet. */
static inline gboolean
cfs_group_has_backlog(CfsGroup *self)
{
    return self->methods->has_backlog(self);
}

/* Leaves and connects anew after @delay_ms; CFS_GROUP_NEVER: stays out. */
static inline void
cfs_group_leave(CfsGroup *self, guint delay_ms)
{
    self->methods->leave(self, delay_ms);
}

/* Leaves. NULL is fine. */
static inline void
cfs_group_free(CfsGroup *self)
{
    if (self != NULL) {
        self->methods->free(self);
    }
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsGroup, cfs_group_free)

#endif
