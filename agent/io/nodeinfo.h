/* nodeinfo.h - what a step must know of nodes and storages, and how it talks
 * to the agent of another node.
 *
 * Owner   the caller.
 * Errors  GError, one line that names the thing and the reason.
 * Thread  any; everything here blocks.
 * Source  spec/filesystem.md 9, spec/storage.md 1 to 3.
 */
#ifndef AGENT_NODEINFO_H
#define AGENT_NODEINFO_H

#include <glib.h>

#define AGENT_NODEINFO_ERROR (agent_nodeinfo_error_quark())
GQuark agent_nodeinfo_error_quark(void);

typedef enum {
    AGENT_NODEINFO_ERROR_NODE, /* no such node, or it does not answer */
} AgentNodeInfoError;

/* --- members --- */

/* Returns: (owned) of AgentMember, all of the nodelist; or NULL. */
GPtrArray *agent_nodeinfo_members(GError **error);

/* --- volumes --- */

typedef struct {
    gboolean shared; /* every node sees the same */
    char *path;      /* NULL: not a path-based storage */
    guint32 owner;   /* of path: the guest whose volume it is; 0: nobody's */
} AgentPlace;

void agent_place_free(AgentPlace *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentPlace, agent_place_free)

/* Where a container's volume @id is, or would be, on this node. Does not look
 * whether it exists. */
AgentPlace *agent_place_find(const char *id, GError **error);

/* --- the agents of other nodes --- */

/* Returns: (owned) the command line that runs our program with @words at
 * @node; or NULL. The words must need no quoting for a shell. */
char **
agent_peer_argv(const char *node, const char *const *words, GError **error);

/* What `pve-lxc-agent query CTID` answers. */
typedef struct {
    gboolean running;
    gboolean busy;   /* a step is under way there */
    gboolean record; /* it has a hold record */
} AgentAnswer;

/* Asks @node. FALSE: no answer, which says nothing. */
gboolean agent_peer_query(const char *node,
                          guint32 ctid,
                          AgentAnswer *answer,
                          GError **error);

#endif
