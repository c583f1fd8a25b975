/* guestopts.h - one row per option of a container's configuration.
 *
 * Owner   static tables.
 * Errors  GError in AGENT_VALUE_ERROR.
 * Thread  any.
 * Source  spec/container-config.md 5 and 6.
 */
#ifndef AGENT_GUESTOPTS_H
#define AGENT_GUESTOPTS_H

#include "agent/core/propstring.h"

typedef enum {
    AGENT_OPT_CREATE = 1 << 0,  /* may be given to create */
    AGENT_OPT_SET = 1 << 1,     /* may be given to set */
    AGENT_OPT_LIST = 1 << 2,    /* repeated on a command line: joined by ',' */
    AGENT_OPT_SECTION = 1 << 3, /* has a meaning in snapshots only */
} AgentGuestOptFlags;

typedef struct {
    const char *name; /* without the number */
    guint count;      /* 0: no number; else NAME0 to NAME(count-1) */
    guint flags;
    AgentValueRule rule;
    const AgentPropKey *props; /* nullable: a property string */
    gboolean is_canonical;     /* props are stored in canonical form */
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
/* The number behind @prefix in @key, at most @count - 1; -1: not of that kind,
 * or written with a leading zero. */
int agent_guestopt_index(const char *key, const char *prefix, guint count);

extern const AgentPropKey agent_rootfs_schema[];
extern const AgentPropKey agent_mp_schema[];
extern const AgentPropKey agent_net_schema[];
extern const AgentPropKey agent_features_schema[];

#endif
