/* pct-options.h - the command line of pct: one table of options a command.
 *
 * The same row that reads an option explains it and completes it.
 *
 * Owner   the caller; tables are static.
 * Errors  FALSE: the complaint and the synopsis are on stderr, exit 255.
 * Thread  the tool's only one.
 * Source  spec/pct.md 1 and 7.
 */
#ifndef AGENT_PCT_OPTIONS_H
#define AGENT_PCT_OPTIONS_H

#include "agent/core/propstring.h"

typedef enum {
    PCT_VALUE,
    PCT_BOOLEAN,
    PCT_LIST,   /* repeated: joined with ',' */
    PCT_REPEAT, /* repeated: joined with LF */
} PctOptionKind;

/* What may stand in a place of the command line, for the completion. */
typedef enum {
    PCT_ANY,
    PCT_GUEST,    /* a container of this node */
    PCT_RUNNING,  /* one that runs */
    PCT_STOPPED,  /* one that does not, and is no template */
    PCT_FREE_ID,  /* the lowest free CTID */
    PCT_TEMPLATE, /* a volume to create from */
    PCT_STORAGE,  /* one that holds containers */
    PCT_SNAPSHOT, /* of the container */
    PCT_KEYS,     /* options that the container has */
    PCT_PENDING,  /* options with pending changes */
    PCT_COMMAND,
    PCT_FORMAT, /* of output */
} PctPlace;

typedef struct {
    const char *name; /* a table ends with NULL */
    guint count;      /* 0: no number; else NAME0 to NAME(count-1) */
    PctOptionKind kind;
    const char *type;     /* "<integer> (0 - N)"; NULL: a boolean */
    const char *fallback; /* nullable: the default, for people */
    const char *text;     /* what it does */
    PctPlace place;
    const AgentPropKey *props; /* nullable: the value is a property string */
} PctOption;

typedef struct PctArgs PctArgs;

typedef struct {
    const char *name;      /* a table ends with NULL */
    const char *arguments; /* what follows the name in the synopsis */
    const char *summary;
    const PctOption *options; /* nullable */
    guint guest_flags;        /* AGENT_OPT_...: options of containers too */
    guint min_words, max_words;
    PctPlace places[3]; /* of the words */
    gboolean prints;    /* has --output-format */
    gboolean ends_group;
    int (*run)(const PctArgs *args);
} PctCommand;

struct PctArgs {
    const PctCommand *command;
    GPtrArray *words;    /* char */
    GHashTable *options; /* full name to value */
    int argc;            /* the whole command, from its name on */
    char **argv;
};

void pct_args_clear(PctArgs *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PctArgs, pct_args_clear)

/* @argv[0] is the command's name. With *@wants_help nothing is checked. */
gboolean pct_args_parse(PctArgs *self,
                        const PctCommand *command,
                        int argc,
                        char **argv,
                        gboolean *wants_help);
const char *pct_args_get(const PctArgs *self, const char *name);
gboolean
pct_args_get_bool(const PctArgs *self, const char *name, gboolean fallback);
/* "400 Parameter verification failed.", one line for each of @problems
 * ("NAME: message", sorted), the synopsis. Returns 255. */
int pct_bad_parameters(const PctArgs *args, GPtrArray *problems);
/* The same for one. */
int pct_bad_parameter(const PctArgs *args, const char *problem);

/* Returns: (owned) all options that @command takes, container options too; the
 * last one has no name. Texts are borrowed or live in @texts. */
PctOption *pct_command_options(const PctCommand *command, GPtrArray *texts);
/* The synopsis, without "USAGE:". Returns: (owned). */
char *pct_command_synopsis(const PctCommand *command);
/* Synopsis, description, arguments and options, on stdout. */
void pct_command_help(const PctCommand *command);

#endif
