/* guestopts.h - one row per option of a container's configuration.
 *
 * The row drives the reader of the file, `pct create` and `pct set`, their
 * help, the completion, and tests/lint/options.py, which wants each option in
 * the manual.
 *
 * Owner   static tables.
 * Errors  GError in AGENT_VALUE_ERROR.
 * Thread  any.
 * Source  spec/container-config.md 5 and 6; `state` and `ostemplate` are ours,
 *         DESIGN.md 3.
 */
#ifndef AGENT_GUESTOPTS_H
#define AGENT_GUESTOPTS_H

#include "agent/core/propstring.h"

typedef enum {
    AGENT_OPT_CREATE = 1 << 0,      /* may be given to create */
    AGENT_OPT_SET = 1 << 1,         /* may be given to set */
    AGENT_OPT_LIST = 1 << 2,        /* repeated on a command line: joined */
    AGENT_OPT_SECTION = 1 << 3,     /* has a meaning in snapshots only */
    AGENT_OPT_REPEAT = 1 << 4,      /* repeated: one more value */
    AGENT_OPT_NEEDED = 1 << 5,      /* cannot be deleted */
    AGENT_OPT_CANONICAL = 1 << 6,   /* props are stored in canonical form */
    AGENT_OPT_NO_SNAPSHOT = 1 << 7, /* not copied into snapshots and back */
} AgentGuestOptFlags;

/* What becomes of a change while the container runs. */
typedef enum {
    AGENT_LIVE_FILE,    /* written at once, nothing else to do */
    AGENT_LIVE_HOT,     /* written and carried out at once */
    AGENT_LIVE_ADDED,   /* a new key or one that goes: carried out where that
                         * can be; a change: pending */
    AGENT_LIVE_PENDING, /* waits for the next start */
    AGENT_LIVE_FIXED,   /* cannot be changed */
} AgentGuestOptLive;

typedef struct {
    const char *name; /* without the number */
    guint count;      /* 0: no number; else NAME0 to NAME(count-1) */
    guint flags;
    guint live; /* AgentGuestOptLive */
    AgentValueRule rule;
    const AgentPropKey *props; /* nullable: a property string */
    const char *fallback;      /* nullable: the default, for people */
    const char *text;          /* what it does, for people */
} AgentGuestOpt;

/* Ends with a row without a name. */
const AgentGuestOpt *agent_guestopts(void);
/* Finds the row of @key ("net3"). NULL: no option. */
const AgentGuestOpt *agent_guestopt_find(const char *key);
/* As the file takes it, and as the command line does. Returns: (owned) the
 * text to store, or NULL. */
char *agent_guestopt_read(const AgentGuestOpt *opt,
                          const char *value,
                          GError **error);
char *agent_guestopt_check(const AgentGuestOpt *opt,
                           const char *value,
                           GError **error);
/* Returns: (owned) tags as they are stored: each once, joined by ';', and
 * unless kept in lower case and sorted. */
char *
agent_guestopt_tags(const char *value, gboolean keep_case, gboolean keep_order);
/* Returns: (owned) the kind of value, for help. */
char *agent_guestopt_describe(const AgentGuestOpt *opt);
/* The number behind @prefix in @key, at most @count - 1; -1: not of that kind,
 * or written with a leading zero. */
int agent_guestopt_index(const char *key, const char *prefix, guint count);

extern const AgentPropKey agent_rootfs_schema[];
extern const AgentPropKey agent_mp_schema[];
extern const AgentPropKey agent_net_schema[];
extern const AgentPropKey agent_features_schema[];
extern const AgentPropKey agent_dev_schema[];

#endif
