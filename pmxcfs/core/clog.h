/* clog.h - the cluster log: a ring of entries, in the bytes members exchange.
 *
 * Old entries are overwritten by new ones. Each node's entries are numbered;
 * one that is not newer than the last of its node is a duplicate and ignored.
 *
 * Owner   the views.
 * Units   bytes; whole seconds since the epoch.
 * Thread  the loop.
 * Source  spec/replication.md 10.4, 10.5; spec/filesystem.md 9.
 */
#ifndef CFS_CLOG_H
#define CFS_CLOG_H

#include <glib.h>

#define CFS_CLOG_SIZE 131072u
#define CFS_CLOG_MAX_ENTRY 4096u

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

/* Logs on this node. Returns: (owned) the payload of a LOG message. */
GBytes *cfs_clog_add(CfsClog *self, const CfsClogEntry *entry);
/* Takes the payload of a LOG message. FALSE: malformed, or a duplicate. */
gboolean cfs_clog_insert(CfsClog *self, GBytes *payload);

/* Returns: (owned) JSON, newest first, at most @max entries; @user: only those
 * of that user, NULL: all. */
char *cfs_clog_text(CfsClog *self, guint max, const char *user);
/* Returns: (owned) the payload of a STATE: the ring as it is. */
GBytes *cfs_clog_ring(CfsClog *self);

/* Returns: (owned) @message as it is logged: ASCII alone. */
char *cfs_clog_escape(const char *message);

#endif
