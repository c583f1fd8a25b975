/* diagnosis.h - from what was found on a node to what is wrong with it.
 *
 * The causes come first; what only follows from one of them is left out, so
 * that the reader mends one thing at a time. No files, no commands: those who
 * look fill in CfsFacts, and what they could not find out stays UNKNOWN.
 *
 * Owner   the caller. Strings of facts may be NULL.
 * Units   bytes; seconds.
 * Thread  any.
 * Source  spec/filesystem.md 1, 10, 11; DESIGN.md 2.
 */
#ifndef CFS_DIAGNOSIS_H
#define CFS_DIAGNOSIS_H

#include <glib.h>

typedef enum { CFS_FACT_UNKNOWN, CFS_FACT_NO, CFS_FACT_YES } CfsFact;

typedef enum {
    CFS_MOUNT_UNKNOWN,
    CFS_MOUNT_NONE,
    CFS_MOUNT_FOREIGN, /* something that is no pmxcfs */
    CFS_MOUNT_DEAD,    /* its daemon is gone */
    CFS_MOUNT_HANGS,   /* it is there, and does not answer */
    CFS_MOUNT_SERVED,
} CfsMountState;

typedef enum {
    CFS_HOSTS_UNKNOWN,
    CFS_HOSTS_FINE,
    CFS_HOSTS_MISSING,  /* the own name has no address */
    CFS_HOSTS_LOOPBACK, /* ... none but of this host alone */
    CFS_HOSTS_FOREIGN,  /* ... one that no interface here has */
} CfsHostsState;

/* A node of corosync's list. */
typedef struct {
    guint32 id;
    char *name;
    CfsFact is_linked; /* a link to it is up */
    CfsFact is_online; /* its filesystem is a member */
    CfsFact has_clock; /* ... and told its time */
    gint64 clock_ahead_s;
} CfsNodeFacts;

typedef struct {
    char *node_name; /* of the kernel */
    CfsMountState mount;
    char *mount_type;
    CfsFact is_daemon_running;
    CfsFact is_daemon_stopped; /* by a signal */
    CfsFact is_writable;
    CfsFact is_cluster;
    CfsFact is_quorate;
    char *sync_state;
    CfsFact is_durable;
    char *daemon_version, *tool_version;

    CfsFact is_corosync_running;
    CfsFact does_corosync_answer;
    guint32 own_id;                               /* 0: unknown */
    GPtrArray *nodes;                             /* of CfsNodeFacts */
    guint64 conf_version_host, conf_version_tree; /* 0: unknown */

    CfsHostsState hosts;
    char *address;    /* of the own name */
    gint64 disk_free; /* -1: unknown */
    CfsFact is_database_good;
    char *database_problem;
} CfsFacts;

typedef struct {
    const char *cause;   /* a word for programs */
    gboolean is_warning; /* it works, for now */
    char *text;
    char *advice;
} CfsFinding;

CfsFacts *cfs_facts_new(void);
void cfs_facts_free(CfsFacts *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsFacts, cfs_facts_free)
/* Returns: (borrowed) what is known of the node; made when it is new. */
CfsNodeFacts *cfs_facts_node(CfsFacts *self, guint32 id);

/* Returns: (owned array of CfsFinding) the worst first; empty: all is well. */
GPtrArray *cfs_diagnose(const CfsFacts *facts);
/* In a word: "absent", "read-only", "stale", "writable", "unknown". */
const char *cfs_facts_verdict(const CfsFacts *facts);

#endif
