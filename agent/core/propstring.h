/* propstring.h - values of options and the keys inside them.
 *
 * A rule says what a value may be; a schema is a table of keys with a rule
 * each, for texts like `local:0,size=4G,ro=1`.
 *
 * Owner   the caller; schemas are static.
 * Errors  GError in AGENT_VALUE_ERROR; the messages are
 *         those of the spec, without the option's name.
 * Thread  any.
 * Source  spec/container-config.md 2.1 and 4; spec/pct.md 2, help.
 */
#ifndef AGENT_PROPSTRING_H
#define AGENT_PROPSTRING_H

#include <glib.h>

#define AGENT_VALUE_ERROR (agent_value_error_quark())
GQuark agent_value_error_quark(void);

typedef enum {
    AGENT_VALUE_ERROR_BAD,
} AgentValueError;

typedef enum {
    AGENT_VALUE_STRING,
    AGENT_VALUE_BOOLEAN,
    AGENT_VALUE_INTEGER,
    AGENT_VALUE_NUMBER,
    AGENT_VALUE_SIZE,
} AgentValueType;

/* NULL when @value is fine, else the (owned) message. */
typedef char *(*AgentFormatFunc)(const char *value);

/* Does the whole of @value match? */
typedef gboolean (*AgentPatternFunc)(const char *value);

typedef struct {
    AgentValueType type;
    gboolean has_range;
    gint64 min, max;
    const char *const *choices; /* nullable: NULL-terminated, in order */
    guint max_length;           /* 0: no limit */
    AgentFormatFunc format;     /* nullable */
    AgentPatternFunc pattern;   /* nullable */
    const char *hint;           /* nullable: what help calls a string */
} AgentValueRule;

typedef struct {
    const char *name; /* a table ends with NULL */
    AgentValueRule rule;
    gboolean is_mandatory;
    gboolean is_default;  /* may stand without "name=" */
    const char *fallback; /* nullable: the default, for people */
    const char *text;     /* what it does, for people */
} AgentPropKey;

/* The rule of the file: type and format only, no ranges, lengths or
 * enumerations. Returns: (owned) the text as stored, or NULL. */
char *
agent_value_read(const AgentValueRule *rule, const char *value, GError **error);
/* All of the rule, and no control character but TAB; what a format says is
 * prefixed with "invalid format - ". Returns: (owned) the text as stored, or
 * NULL. */
char *agent_value_check(const AgentValueRule *rule,
                        const char *value,
                        GError **error);
/* "1 on yes true": 1; "0 off no false": 0; else -1. */
int agent_value_boolean(const char *text);
/* `4G` to bytes; FALSE: no size. */
gboolean agent_size_parse(const char *text, gint64 *bytes);
/* Returns: (owned) the largest exact unit; 0 is "0T". */
char *agent_size_format(gint64 bytes);

/* Returns: (owned) key to value, both owned texts, checked and normalised; or
 * NULL with "format error" and a line for each bad key. */
GHashTable *
agent_props_parse(const AgentPropKey *schema, const char *text, GError **error);
/* Returns: (owned) the canonical text: default key, mandatory keys, others by
 * name. */
char *agent_props_format(const AgentPropKey *schema, GHashTable *props);
/* Returns: (owned) the items of a list, NULL-terminated (spec 4, Lists). */
char **agent_list_split(const char *text);
/* No control character, TAB excepted: nothing in it ends a line of a file. */
gboolean agent_text_is_plain(const char *text);
/* Returns: (owned) what help says of a value of this kind: "<boolean>",
 * "<integer> (16 - N)", "<shell | console | tty>". */
char *agent_value_describe(const AgentValueRule *rule);
/* Returns: (owned) the same of a property string:
 * "[volume=]<volume> ,mp=<path> [,ro=<boolean>]". */
char *agent_props_describe(const AgentPropKey *schema);

#endif
