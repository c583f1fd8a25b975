/* holds.h - the hold records of this node, on the cluster filesystem.
 *
 * `nodes/NODE/lxc-holds/CTID` says that NODE holds container CTID: runs it, or
 * has its local volumes. At most one record exists per container, and it moves
 * only by rename. These functions are for child processes and tools: all of
 * them block, some for as long as the cluster filesystem does.
 *
 * Whoever starts a container calls agent_holds_claim() first and starts it
 * within AGENT_HOLDS_CLAIM_VALID_S after it returned, or not at all. The caller
 * holds the container's lock (flock on its file below /run/lock/lxc).
 *
 * Owner   the caller; nothing is kept between calls.
 * Units   whole seconds, monotonic.
 * Errors  GError in AGENT_HOLDS_ERROR, or G_FILE_ERROR for the filesystem's.
 * Thread  any; blocking.
 * Source  DESIGN.md 3, "Who holds a container".
 */
#ifndef AGENT_HOLDS_H
#define AGENT_HOLDS_H

#include "agent/core/holdrec.h"

#include <glib.h>

/* How long a claim allows an activation. */
#define AGENT_HOLDS_CLAIM_VALID_S 5

#define AGENT_HOLDS_ERROR (agent_holds_error_quark())
GQuark agent_holds_error_quark(void);

typedef enum {
    AGENT_HOLDS_ERROR_NO_QUORUM, /* nothing may be claimed or changed */
    AGENT_HOLDS_ERROR_NOT_OWNER, /* no file of it here, or one elsewhere */
    AGENT_HOLDS_ERROR_HELD,      /* another node holds it */
    AGENT_HOLDS_ERROR_UNKNOWN,   /* no record anywhere: adopt it first */
    AGENT_HOLDS_ERROR_BROKEN,    /* the record cannot be parsed */
    AGENT_HOLDS_ERROR_TRANSFER,  /* its volumes are under way */
    AGENT_HOLDS_ERROR_CHANGED,   /* not what it was a moment ago */
} AgentHoldsError;

/* The activation rule: this node owns the container's file, has its only
 * record, writes this boot's id into it where it differs, syncs it, and looks
 * again. TRUE: the container may be started for AGENT_HOLDS_CLAIM_VALID_S. */
gboolean agent_holds_claim(guint32 ctid, GError **error);

/* The record of a new container, synced before its volumes are made. @volumes:
 * NULL-terminated volume ids, or NULL for none. Fails when any node has a
 * record of that CTID, ours included. */
gboolean
agent_holds_create(guint32 ctid, const char *const *volumes, GError **error);

/* Writes what this node now has of it. @volumes or @digest NULL: as before.
 * @ran: 1 or 0; -1: as before. Fails when this node has no record of it.
 * Nothing is written when nothing changes. */
gboolean agent_holds_update(guint32 ctid,
                            const char *const *volumes,
                            const char *digest,
                            int ran,
                            GError **error);

/* Notes new volumes before they are filled; NULL: none any more. Fails when
 * this node has no record of it. */
gboolean agent_holds_set_making(guint32 ctid,
                                const char *const *volumes,
                                GError **error);
/* Returns: (owned) what was noted, maybe nothing; NULL with @error. */
char **agent_holds_making(guint32 ctid, GError **error);

/* Gives the container up: its volumes are gone. No record is no error. */
gboolean agent_holds_remove(guint32 ctid, GError **error);

/* --- for the agent's own steps --- */

/* One look at all there is of a container on the cluster filesystem. */
typedef struct {
    gboolean quorate;
    guint n_files;
    char *owner;  /* node of the file; of any, if several */
    GBytes *conf; /* its content */
    gboolean own_present;
    AgentHoldRec *own;    /* NULL: absent or broken */
    char *own_problem;    /* why it is broken */
    guint n_other;        /* records of other nodes */
    char *holder;         /* one of those */
    AgentHoldRec *other;  /* its record; NULL: broken */
    AgentHoldRec *offer;  /* our own, out for it */
    AgentHoldRec *invite; /* the owner's offer, if that is another node */
} AgentHoldView;

/* Returns: (owned) the view, or NULL when the tree cannot be read. */
AgentHoldView *agent_holds_look(guint32 ctid, GError **error);
void agent_holds_view_free(AgentHoldView *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentHoldView, agent_holds_view_free)

/* Stores @record as this node's, synced. With @exclusive it must be new. */
gboolean agent_holds_store(guint32 ctid,
                           const AgentHoldRec *record,
                           gboolean exclusive,
                           GError **error);
/* Our offer for it, synced. */
gboolean agent_holds_store_offer(guint32 ctid,
                                 const AgentHoldRec *offer,
                                 GError **error);
gboolean agent_holds_drop_offer(guint32 ctid, GError **error);
/* The handover: our record becomes @node's by rename, synced. When it fails,
 * *@unknown says that the rename may have happened all the same. */
gboolean agent_holds_hand_over(guint32 ctid,
                               const char *node,
                               gboolean *unknown,
                               GError **error);

/* The one function that makes a record stable before it is relied on: fsync of
 * the file and of its directory on the mount, which is a barrier over the
 * whole tree. A directory alone will do as @path. */
gboolean agent_holds_sync(const char *path, GError **error);
/* A barrier without anything to write. */
gboolean agent_holds_barrier(GError **error);

/* Is the tree writable here right now? */
gboolean agent_holds_quorate(void);

/* Makes this node's lxc, lxc-holds and lxc-incoming. */
gboolean agent_holds_make_directories(GError **error);

/* This node's name: the kernel's host name up to the first dot. Borrowed, for
 * the life of the process. */
const char *agent_holds_node(void);

/* Returns: (owned) this boot's id, or NULL. */
char *agent_holds_boot_id(GError **error);

/* Returns: (owned) the path of @name in a directory of @node below the mount:
 * "lxc", "lxc-holds", "lxc-incoming". @name NULL: the directory. */
char *agent_holds_path(const char *node, const char *folder, const char *name);

/* renameat2(2) RENAME_NOREPLACE; where the filesystem has none, a look and a
 * plain rename. EEXIST when @to is there. */
gboolean
agent_holds_rename_new(const char *from, const char *to, GError **error);

/* Writes @text beside @path under a name with a leading dot, and renames it
 * there: readers see the old or the new content. */
gboolean agent_holds_write(const char *path,
                           const char *text,
                           gboolean exclusive,
                           GError **error);

#endif
