/* plan.h - what to do next about one container: a pure function.
 *
 * Facts in, one step out. A plan is one step long on purpose: each step
 * changes the world, and the agent looks again before the next. The rules are
 * an ordered table; the first that matches decides. DESIGN.md 3 is the law,
 * the comment over each rule quotes it.
 *
 * Owner   the caller; names in the facts are borrowed during the call.
 * Units   none.
 * Errors  none: what cannot be done is a report.
 * Thread  any.
 * Source  DESIGN.md 3.
 */
#ifndef AGENT_PLAN_H
#define AGENT_PLAN_H

#include "agent/core/observe.h"

#include <glib.h>

typedef enum {
    AGENT_VERB_NONE,
    AGENT_VERB_CLAIM,       /* write a record for what runs here */
    AGENT_VERB_ADOPT,       /* ask every node, then write a record */
    AGENT_VERB_WITHDRAW,    /* remove a record that was only an adoption */
    AGENT_VERB_RECORD,      /* bring the record up to date */
    AGENT_VERB_MATERIALIZE, /* make what the file asks for */
    AGENT_VERB_START,
    AGENT_VERB_SHUTDOWN,
    AGENT_VERB_KILL,        /* runs here without right */
    AGENT_VERB_RETIRE,      /* shut down; its file was deleted */
    AGENT_VERB_STRAND,      /* shut down; its file is elsewhere, not ours */
    AGENT_VERB_OFFER,       /* invite the holder to send */
    AGENT_VERB_DROP_OFFER,  /* it came, or went elsewhere */
    AGENT_VERB_MIGRATE_OUT, /* stop, copy, hand over */
    AGENT_VERB_ACCEPT,      /* put volumes that came into place */
    AGENT_VERB_CLEAN,       /* delete volumes that were handed over */
    AGENT_VERB_ALLOCATE,    /* give a request its CTID */
} AgentVerb;

typedef enum {
    AGENT_OWNER_NONE,
    AGENT_OWNER_SELF,
    AGENT_OWNER_OTHER,
    AGENT_OWNER_MANY,
} AgentOwner;

typedef enum {
    AGENT_WISH_NONE, /* no state key: left to pct and onboot */
    AGENT_WISH_STARTED,
    AGENT_WISH_STOPPED,
} AgentWish;

typedef enum {
    AGENT_HANDS_ON,
    AGENT_HANDS_OFF_LOCK,
    AGENT_HANDS_OFF_TEMPLATE,
    AGENT_HANDS_OFF_HA,
    AGENT_HANDS_OFF_CREATE, /* `lock: create` of an unfinished request */
} AgentHands;

typedef struct {
    gboolean quorate;
    gboolean steady;
    /* the file */
    AgentOwner owner;
    const char *owner_name; /* when it is another */
    gboolean owner_online;
    gboolean settled;
    const char *broken; /* "line N: reason", or NULL */
    AgentHands hands;
    AgentWish wish;
    gboolean to_make; /* asks for volumes or a template */
    AgentDeletion deletion;
    /* records */
    gboolean own;
    const char *own_problem; /* it is there, but broken */
    gboolean own_adopting;
    gboolean own_request;
    gboolean own_boot; /* its boot id is this boot's */
    gboolean own_ran;
    gboolean own_transfer;  /* handed over to us, not yet accepted */
    gboolean own_resume;    /* it ran elsewhere and shall run again */
    gboolean volumes_known; /* the record lists volumes */
    gboolean volumes_match; /* and they are those of the file */
    guint n_other;
    const char *holder;
    gboolean holder_online;
    gboolean other_transfer; /* it has not accepted what was sent */
    /* offers */
    gboolean offer;       /* ours is out */
    gboolean offer_valid; /* and of this boot */
    gboolean owner_offer; /* the owner's is out */
    /* this machine */
    gboolean running;
    gboolean departed;
} AgentFacts;

typedef struct {
    AgentVerb verb;
    const char *rule; /* which row decided; static */
    char *report;     /* owned, nullable: what people should know */
} AgentPlan;

void agent_plan_clear(AgentPlan *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AgentPlan, agent_plan_clear)

/* Boils an observation down to facts. */
void agent_facts_from_guest(AgentFacts *facts,
                            const AgentGuest *guest,
                            const AgentSnapshot *snapshot,
                            const char *node,
                            const char *boot_id);
/* The only door. Fills @plan. */
void agent_plan_guest(const AgentFacts *facts, AgentPlan *plan);

/* "start", "migrate-out" ...: the word of a step's command line. */
const char *agent_verb_name(AgentVerb verb);
/* AGENT_VERB_NONE when @name is none. */
AgentVerb agent_verb_parse(const char *name);

/* --- back-off: how long to leave a step that failed --- */

typedef struct {
    guint failures;
    guint generation;
    gint64 not_before_us;
} AgentBackoff;

/* May a step be tried now? A new @generation forgets all failures. */
gboolean
agent_backoff_allows(AgentBackoff *self, guint generation, gint64 now_us);
/* 1 s, doubling to 5 min. */
void agent_backoff_failed(AgentBackoff *self, gint64 now_us);
void agent_backoff_reset(AgentBackoff *self);

#endif
