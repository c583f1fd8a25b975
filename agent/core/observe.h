/* observe.h - from pictures of the tree to facts about containers.
 *
 * A snapshot is one picture: which files lie where, what runs here, whether
 * the tree is quorate. Single pictures lie: a file may be half written, a
 * rename may be seen twice or not at all, and a tree that lost its files may
 * be a tree that lost its mind. The observer compares pictures and says what
 * can be relied on:
 *
 *   settled   the filesystem says that a file is whole; or its content is
 *             unchanged for 2 s, or the very same inode with the very same
 *             content was settled elsewhere (a rename)
 *   steady    two pictures in a row show the container's things in the same
 *             places; nothing may be done about one that is not
 *   deletion  the file went away between two quorate pictures of the same
 *             session, and 30 s of such pictures confirmed it. A file that
 *             is merely missing leaves an orphan.
 *
 * Owner   the observer owns its facts, which stay valid until the next
 *         update; snapshots are immutable and counted.
 * Units   microseconds, monotonic; they come with the snapshot.
 * Errors  none; what cannot be read is not settled.
 * Thread  the loop for the observer, any for a snapshot.
 * Source  DESIGN.md 3, "Wanted state".
 */
#ifndef AGENT_OBSERVE_H
#define AGENT_OBSERVE_H

#include "agent/core/guestconf.h"
#include "agent/core/holdrec.h"

#include <glib.h>

#define AGENT_SETTLE_US (2 * G_USEC_PER_SEC)
#define AGENT_DELETION_US (30 * G_USEC_PER_SEC)
#define AGENT_REUSE_US (60 * G_USEC_PER_SEC)
/* Two pictures further apart say nothing about what happened between. */
#define AGENT_CONSECUTIVE_US (5 * G_USEC_PER_SEC)

typedef enum {
    AGENT_FILE_CONF,    /* nodes/NODE/lxc/CTID.conf */
    AGENT_FILE_REQUEST, /* nodes/NODE/lxc/new[-NAME].conf */
    AGENT_FILE_HOLD,    /* nodes/NODE/lxc-holds/CTID */
    AGENT_FILE_OFFER,   /* nodes/NODE/lxc-incoming/CTID */
    AGENT_FILE_FOREIGN, /* a guest of another type; content not read */
} AgentFileKind;

typedef struct {
    AgentFileKind kind;
    char *node;
    char *name;
    guint32 ctid; /* 0 for a request */
    guint64 inode;
    gint64 size;
    gint64 mtime;
    gboolean whole;  /* the filesystem says so: nobody is in the midst of it */
    GBytes *content; /* nullable: could not be read */
} AgentFile;

AgentFile *agent_file_new(AgentFileKind kind,
                          const char *node,
                          const char *name,
                          guint32 ctid,
                          guint64 inode,
                          GBytes *content);
void agent_file_free(AgentFile *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentFile, agent_file_free)

typedef struct {
    char *name;
    gboolean online;
    char *ip; /* nullable */
} AgentMember;

void agent_member_free(AgentMember *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentMember, agent_member_free)
/* Returns: (owned) of AgentMember, the nodelist of a .members text; empty
 * when it has none, or cannot be parsed. Bounded. */
GPtrArray *agent_members_parse(const char *text, gsize size);

typedef struct {
    gint64 time_us;
    gboolean complete; /* nothing failed while looking */
    gboolean quorate;
    char *session;      /* changes when the tree may have been replaced */
    char *epoch;        /* changes with the cluster's membership */
    guint world;        /* changes when a failed step may now succeed */
    GPtrArray *files;   /* of AgentFile */
    GPtrArray *members; /* of AgentMember */
    GArray *running;    /* guint32, ascending */
    GArray *departed;   /* guint32: volumes here that were handed over */
    GHashTable *ha;     /* set of CTIDs that the HA manager has */
} AgentSnapshot;

AgentSnapshot *agent_snapshot_new(gint64 time_us);
AgentSnapshot *agent_snapshot_ref(AgentSnapshot *self);
void agent_snapshot_unref(AgentSnapshot *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentSnapshot, agent_snapshot_unref)
/* What comes from the tree is what @from has, too. */
void agent_snapshot_share_tree(AgentSnapshot *self, const AgentSnapshot *from);
/* Adds each `ct: ID` header of ha/resources.cfg to the set. */
void agent_snapshot_add_ha(AgentSnapshot *self, const char *text, gsize size);

typedef enum {
    AGENT_DELETION_NONE,
    AGENT_DELETION_SEEN,
    AGENT_DELETION_CONFIRMED,
} AgentDeletion;

/* All that is known of one container. Borrowed until the next update. */
typedef struct {
    guint32 ctid;
    guint n_files;              /* more than one: a reference peer's doing */
    const AgentFile *file;      /* nullable; any of them if several */
    const AgentGuestConf *conf; /* of a settled file, else NULL */
    gboolean settled;
    AgentDeletion deletion;
    gboolean own_present;    /* this node has a record */
    const AgentHoldRec *own; /* parsed; NULL: absent or broken */
    const char *own_problem; /* why it is broken */
    guint n_other;           /* records of other nodes */
    const char *holder;      /* one of those, nullable */
    gboolean other_transfer; /* one is not accepted yet, or unreadable */
    gboolean holder_online;
    gboolean offer_present;          /* this node has an offer out */
    const AgentHoldRec *offer;       /* parsed; NULL: absent or broken */
    const AgentHoldRec *owner_offer; /* of the file's node, if another */
    gboolean running;
    gboolean departed;
    gboolean ha;
    gboolean steady;
    guint generation; /* changes when a failed step deserves a new try */
} AgentGuest;

typedef struct {
    const AgentFile *file;
    gboolean settled;
    guint generation;
} AgentRequest;

typedef struct AgentObserver AgentObserver;

AgentObserver *agent_observer_new(const char *node);
void agent_observer_free(AgentObserver *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentObserver, agent_observer_free)

/* Takes in one picture. An incomplete one leaves no facts. */
void agent_observer_update(AgentObserver *self, AgentSnapshot *snapshot);
/* Returns: (borrowed) of AgentGuest, ascending by CTID. */
const GPtrArray *agent_observer_guests(const AgentObserver *self);
/* Returns: (borrowed) of AgentRequest, this node's, by name. */
const GPtrArray *agent_observer_requests(const AgentObserver *self);
/* Returns: (owned) "101,105": ids that lost a file or record within 60 s. */
char *agent_observer_recently_removed(const AgentObserver *self);
/* Returns: (borrowed, nullable) the last complete picture. */
const AgentSnapshot *agent_observer_snapshot(const AgentObserver *self);

#endif
