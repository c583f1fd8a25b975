/* status.h - one member of the status group: what nodes tell each other.
 *
 * Keys and values of each node, addresses, measurements and the cluster log.
 * Nothing of it is on disk and nothing needs quorum. A node changes its own
 * part at once and tells the others; in each synchronisation the members merge
 * their logs and tell all their keys again, so nobody leads and nobody waits
 * for updates:
 *
 *            confchg: others, too                    all states are there
 *   START -------------------------> START_SYNC ---------------------> SYNCED
 *     |  ^                              ^   |                          |   ^
 *     |  | the group is gone            |   | confchg: alone           |   |
 *     |  +--- from anywhere             |   +--------------------------|---+
 *     |                                 +------- confchg: others, too -+   |
 *     +--------------------------- confchg: alone -------------------------+
 *   OUT: we left, for a while: a newer protocol, or we are no member
 *
 * As the replica (replica.h) it thinks only: cfs_status_step() takes one event
 * and appends effects. What this node sets and logs is kept until a FLUSH event
 * sends it, the newest value of each key once; the wake hook asks for one.
 *
 * Owner   the daemon's loop (or the simulator). What queries return is
 *         borrowed until the next call that changes something, or owned as
 *         said.
 * Units   seconds since the epoch; milliseconds since boot for waiting; bytes.
 * Errors  verdicts: 0 or a positive errno.
 * Thread  the loop.
 * Source  spec/replication.md 7.1 to 7.4, 10; spec/ipc.md 3.4, 3.5, 3.7 to
 *         3.9, 5 to 7.
 */
#ifndef CFS_STATUS_H
#define CFS_STATUS_H

#include "pmxcfs/core/message.h"
#include "pmxcfs/core/nodelist.h"

#include <glib.h>

typedef struct CfsStatus CfsStatus;

typedef enum {
    CFS_STATUS_START,      /* no membership yet, or no group at all */
    CFS_STATUS_START_SYNC, /* collecting states */
    CFS_STATUS_SYNCED,
    CFS_STATUS_OUT, /* we left */
} CfsStatusMode;

typedef enum {
    CFS_STATUS_CONNECTED,    /* the join was sent; we know who we are */
    CFS_STATUS_DISCONNECTED, /* the group is gone or was left */
    CFS_STATUS_CONFCHG,      /* the group's members */
    CFS_STATUS_MESSAGE,      /* one message, in the total order */
    CFS_STATUS_FLUSH,        /* something may wait; at least each second */
} CfsStatusEventKind;

typedef struct {
    CfsStatusEventKind kind;
    guint32 time_s;  /* wall clock */
    gint64 clock_ms; /* since boot */
    union {
        CfsMember self; /* CONNECTED */
        struct {
            const CfsMember *members; /* borrowed */
            guint n_members;
            gboolean has_joined; /* the joined list is not empty */
        } confchg;
        struct {
            CfsMember sender;
            GBytes *bytes; /* borrowed */
        } message;
        gboolean is_busy; /* FLUSH: the group has no room now */
    };
} CfsStatusEvent;

typedef enum {
    CFS_STATUS_EFFECT_SEND,    /* multicast to the group, in this order */
    CFS_STATUS_EFFECT_LEAVE,   /* leave, connect again after a delay */
    CFS_STATUS_EFFECT_ARCHIVE, /* a measurement for the history */
    CFS_STATUS_EFFECT_CHANGED, /* for who watches */
} CfsStatusEffectKind;

typedef enum {
    CFS_STATUS_CHANGED_KEY,   /* a key of a node was set or is gone */
    CFS_STATUS_CHANGED_NODES, /* who is there, online, where */
    CFS_STATUS_CHANGED_LOG,
} CfsStatusWhat;

typedef struct {
    CfsStatusEffectKind kind;
    GBytes *message;    /* SEND */
    guint delay_ms;     /* LEAVE */
    char *key;          /* ARCHIVE: without `rrd/`; CHANGED_KEY */
    char *value;        /* ARCHIVE */
    CfsStatusWhat what; /* CHANGED */
    char *node;         /* CHANGED_KEY: whose; NULL: of no known name */
} CfsStatusEffect;

void cfs_status_effect_free(CfsStatusEffect *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsStatusEffect, cfs_status_effect_free)

/* A line per decision; @level as in GLib. */
typedef void (*CfsStatusTrace)(gpointer data,
                               GLogLevelFlags level,
                               const char *text);
/* Something waits: send a FLUSH, from the loop and not from in here. */
typedef void (*CfsStatusWake)(gpointer data);

CfsStatus *cfs_status_new(const char *node_name);
void cfs_status_free(CfsStatus *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsStatus, cfs_status_free)
void cfs_status_set_trace(CfsStatus *self, CfsStatusTrace trace, gpointer data);
void cfs_status_set_wake(CfsStatus *self, CfsStatusWake wake, gpointer data);
/* The next entry of the log: cfs_clog_set_next_uid(). */
void cfs_status_set_next_uid(CfsStatus *self, guint32 uid);

/* The only door of the world. Appends to @effects, of CfsStatusEffect. */
void
cfs_status_step(CfsStatus *self, const CfsStatusEvent *event, GQueue *effects);

CfsStatusMode cfs_status_mode(CfsStatus *self);

/* --- for this node's clients ----------------------------------------------
 * All at once, also without a cluster. */

/* Sets a key of this node: `rrd/KEY` a measurement, `nodeip` its address, any
 * other its key/value table, where an empty @value deletes. Verdict: EFBIG;
 * EINVAL for a name that breaks others' JSON, or a value of the two kinds that
 * is not a string with its NUL; ENOSPC. */
int
cfs_status_set(CfsStatus *self, const char *key, GBytes *value, guint32 now);
/* @node: NULL or "": this one. Returns: (borrowed) NULL when there is none. */
GBytes *cfs_status_get(CfsStatus *self, const char *node, const char *key);
/* Logs on this node, for all. @priority: syslog(3)'s; from 8 on nothing is
 * logged. @pid: of who logs. */
void cfs_status_log(CfsStatus *self,
                    guint priority,
                    const char *ident,
                    const char *tag,
                    guint32 pid,
                    const char *message,
                    guint32 now);
/* Returns: (owned) JSON, newest first, at most @max entries (0: 50), those of
 * @user; NULL or "": of all. */
char *cfs_status_clog_json(CfsStatus *self, guint max, const char *user);
/* Returns: (borrowed until the next dump) a line for each measurement of the
 * last 300 s. @now 0: the time of the last event. @is_new: (out, nullable)
 * made just now, not within 2 s before. */
const char *cfs_status_rrd_dump(CfsStatus *self, guint32 now, gboolean *is_new);

/* --- what the daemon knows ------------------------------------------------ */

/* From cmap. @nodes: of CfsNode; copied. */
void cfs_status_set_cluster(CfsStatus *self,
                            const char *name,
                            guint32 config_version,
                            GPtrArray *nodes);
/* Borrowed, to look at. */
CfsNodelist *cfs_status_nodelist(CfsStatus *self);
/* Names of this node's keys that peers may hold, a line each, (owned); and
 * what an earlier process of this node left: those that are not set again go
 * from peers at the next synchronisation. */
char *cfs_status_save_keys(CfsStatus *self);
void cfs_status_restore_keys(CfsStatus *self, const char *text);

#endif
