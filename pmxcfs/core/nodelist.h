/* nodelist.h - the nodes of the cluster: who is there, where, with which keys.
 *
 * Corosync's configuration says who belongs to it, the status group who is
 * online. What a node told is kept by its number, whether or not we have heard
 * of it from the configuration yet, and outlives its being there; it goes when
 * the node goes from the configuration.
 *
 * Owner   the status. What queries return is borrowed until the next change.
 * Thread  the loop.
 * Source  spec/replication.md 10.1; spec/ipc.md 3.1, 3.2; spec/filesystem.md 9.
 */
#ifndef CFS_NODELIST_H
#define CFS_NODELIST_H

#include "pmxcfs/core/kv.h"
#include "pmxcfs/core/message.h"

#include <glib.h>

typedef struct CfsNodelist CfsNodelist;

/* A node of corosync's node list. */
typedef struct {
    guint32 nodeid;
    char *name; /* owned */
} CfsNode;

CfsNode *cfs_node_new(guint32 nodeid, const char *name);
void cfs_node_free(CfsNode *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsNode, cfs_node_free)

CfsNodelist *cfs_nodelist_new(const char *own_name);
void cfs_nodelist_free(CfsNodelist *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsNodelist, cfs_nodelist_free)

/* Counts the changes of all that the members text shows; from 1. */
guint32 cfs_nodelist_version(CfsNodelist *self);

/* From cmap. @nodes: of CfsNode; copied. */
void cfs_nodelist_set_cluster(CfsNodelist *self,
                              const char *name,
                              guint32 config_version,
                              GPtrArray *nodes);
/* Who is in the status group. */
void cfs_nodelist_set_online(CfsNodelist *self,
                             const CfsMember *members,
                             guint n_members);
/* This node's, or a peer's. FALSE: it was known. */
gboolean cfs_nodelist_set_own_ip(CfsNodelist *self, const char *ip);
gboolean cfs_nodelist_set_ip(CfsNodelist *self, guint32 nodeid, const char *ip);

/* This node's keys. */
CfsKv *cfs_nodelist_own_kv(CfsNodelist *self);
/* A peer's, made when it is not there. */
CfsKv *cfs_nodelist_kv(CfsNodelist *self, guint32 nodeid);
/* NULL or "": this node's. Returns: (borrowed) or NULL when there is no such
 * node, or it never told a key. */
CfsKv *cfs_nodelist_find_kv(CfsNodelist *self, const char *name);
/* NULL: not in the configuration. */
const char *cfs_nodelist_name(CfsNodelist *self, guint32 nodeid);

/* A node is about to tell all its keys: what is not among them goes when it is
 * settled. */
void cfs_nodelist_mark(CfsNodelist *self, guint32 nodeid);
/* The members changed: who was about to will begin again. */
void cfs_nodelist_forget_marks(CfsNodelist *self);
/* It has told all. Returns: (owned, of char *, nullable) the keys that went. */
GPtrArray *cfs_nodelist_settle(CfsNodelist *self, guint32 nodeid);

/* Returns: (owned) the text of .members. */
char *cfs_nodelist_text(CfsNodelist *self, gboolean is_quorate);
/* The kvstore part of .version. */
void cfs_nodelist_append_versions(CfsNodelist *self, GString *out);

#endif
