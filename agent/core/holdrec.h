/* holdrec.h - the text of a hold record, and of a transfer offer.
 *
 * `nodes/NODE/lxc-holds/CTID` and `nodes/NODE/lxc-incoming/CTID`: one
 * `key: value` a line. Keys that we do not know are kept, so that a newer
 * agent's record survives an older one. A record that cannot be parsed is
 * still a record: its existence says who holds the container.
 *
 *     boot-id     the holder's boot when it last claimed (both files)
 *     ran         1: it runs, or ran when it was handed over
 *     volumes     comma list of volume ids, sorted
 *     digest      SHA-1 hex of the configuration last applied
 *     transfer    id of a transfer under way, or just handed over (both)
 *     from        node that sent it, while `transfer` is there
 *     request     name of the request this container is made for
 *     resume      1: it ran under the last holder and shall run again here
 *     adopting    1: claimed without a handover, not yet looked again
 *     making      comma list of new volumes that no file may name yet: what an
 *                 aborted creation leaves
 *
 * Owner   the caller; the struct owns its strings.
 * Errors  GError in AGENT_HOLDREC_ERROR, naming line and reason.
 * Thread  any, one at a time per object.
 * Source  DESIGN.md 3, "Who holds a container".
 */
#ifndef AGENT_HOLDREC_H
#define AGENT_HOLDREC_H

#include <glib.h>

#define AGENT_HOLDREC_MAX_BYTES 65536u
#define AGENT_TRANSFER_ID_LENGTH 32u

#define AGENT_HOLDREC_ERROR (agent_holdrec_error_quark())
GQuark agent_holdrec_error_quark(void);

typedef enum {
    AGENT_HOLDREC_ERROR_SYNTAX,
} AgentHoldRecError;

typedef struct {
    char *boot_id;
    gboolean ran;
    char **volumes; /* sorted; NULL: not recorded yet */
    char *digest;   /* nullable */
    char *transfer; /* nullable */
    char *from;     /* nullable */
    char *request;  /* nullable */
    gboolean resume;
    gboolean adopting;
    char **making;      /* nullable */
    GPtrArray *unknown; /* whole lines */
} AgentHoldRec;

AgentHoldRec *agent_holdrec_new(const char *boot_id);
AgentHoldRec *agent_holdrec_parse(GBytes *text, GError **error);
/* Returns: (owned) the text; parsing it gives an equal record. */
char *agent_holdrec_serialize(const AgentHoldRec *self);
void agent_holdrec_free(AgentHoldRec *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentHoldRec, agent_holdrec_free)

/* Copies the list, sorts it, drops repetitions. */
void agent_holdrec_set_volumes(AgentHoldRec *self, const char *const *volumes);
/* The same for `making`; NULL or empty: none. */
void agent_holdrec_set_making(AgentHoldRec *self, const char *const *volumes);
/* Are these exactly the recorded volumes? Order does not matter. A record
 * without the key matches nothing. */
gboolean agent_holdrec_has_volumes(const AgentHoldRec *self,
                                   const char *const *volumes);

/* It is in the directory of @node: did it come by a handover that @node has not
 * accepted? What a holder wrote of a transfer that it sends itself says nothing
 * against what it has. */
gboolean agent_holdrec_is_arriving(const AgentHoldRec *self, const char *node);

gboolean agent_transfer_id_is_valid(const char *text);
gboolean agent_boot_id_is_valid(const char *text);

#endif
