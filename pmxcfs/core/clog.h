/* clog.h - the cluster log: the newest entries of all nodes.
 *
 * Kept in the order they came; the oldest go when CFS_CLOG_KEEP bytes are
 * full. An entry is known by its time, node and number: one that is there
 * already is a duplicate and ignored. Members exchange entries as LOG messages
 * and whole logs as a ring, and merge the rings of all.
 *
 * Unlike the reference we do take an entry that is older than the newest of
 * its node: after a node's clock was set back nothing of it is lost.
 *
 * Owner   the status.
 * Units   bytes; whole seconds since the epoch.
 * Thread  the loop.
 * Source  spec/replication.md 10.4, 10.5; spec/ipc.md 7; spec/filesystem.md 9.
 */
#ifndef CFS_CLOG_H
#define CFS_CLOG_H

#include <glib.h>

/* The reference's ring, and how much of it a reader there sees. */
#define CFS_CLOG_SIZE 131072u
#define CFS_CLOG_MAX_ENTRY 4096u
#define CFS_CLOG_MAX_RING (1u << 20)
#define CFS_CLOG_KEEP (CFS_CLOG_SIZE - 8u - CFS_CLOG_MAX_ENTRY)

typedef struct CfsClog CfsClog;

/* syslog(3)'s priorities are the log's. */
typedef struct {
    guint32 time;
    guint32 pid; /* of who logs */
    guint8 priority;
    const char *user;
    const char *tag;
    const char *message; /* any bytes */
} CfsClogEntry;

CfsClog *cfs_clog_new(const char *node_name);
void cfs_clog_free(CfsClog *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsClog, cfs_clog_free)

/* Numbers of this node's entries go on from @uid. They name an entry together
 * with the node: one that begins with the time of the start is not used twice.
 * Without it they begin with 1. */
void cfs_clog_set_next_uid(CfsClog *self, guint32 uid);

/* Logs on this node. Returns: (owned) the payload of a LOG message. */
GBytes *cfs_clog_add(CfsClog *self, const CfsClogEntry *entry);
/* Takes the payload of a LOG message. FALSE: malformed, or a duplicate. */
gboolean cfs_clog_insert(CfsClog *self, GBytes *payload);

/* Returns: (owned) the payload of a STATE: a ring that holds all, in ascending
 * order of time, node and number, and has no room to spare. */
GBytes *cfs_clog_ring(CfsClog *self);
/* Becomes the newest entries of @rings (of GBytes; NULL: none) and our own.
 * Returns how many of the rings were none, or damaged: what could be read of
 * those is taken. */
guint cfs_clog_merge(CfsClog *self, GPtrArray *rings);

/* Returns: (owned) JSON, newest first, at most @max entries; @user: only those
 * of that user, NULL: all. */
char *cfs_clog_text(CfsClog *self, guint max, const char *user);
guint cfs_clog_length(CfsClog *self);

/* Returns: (owned) @message as it is logged: ASCII alone. */
char *cfs_clog_escape(const char *message);

#endif
