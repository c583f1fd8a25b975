/* pct-options.h - the command line of pct: one table of options a command.
 *
 * Owner   the caller.
 * Errors  FALSE: the complaint and the synopsis are on stderr, exit 255.
 * Thread  the tool's only one.
 * Source  spec/pct.md 1.
 */
#ifndef AGENT_PCT_OPTIONS_H
#define AGENT_PCT_OPTIONS_H

#include <glib.h>

typedef enum {
    PCT_VALUE,
    PCT_BOOLEAN,
    PCT_LIST, /* repeated: joined with ',' */
} PctOptionKind;

typedef struct {
    const char *name; /* a table ends with NULL */
    guint count;      /* 0: no number; else NAME0 to NAME(count-1) */
    PctOptionKind kind;
} PctOption;

typedef struct {
    const char *command;
    const char *usage;        /* "pct start <vmid> [OPTIONS]" */
    const PctOption *options; /* nullable */
    guint min_words, max_words;
} PctCommand;

typedef struct {
    GPtrArray *words;    /* char */
    GHashTable *options; /* full name to value */
} PctArgs;

void pct_args_clear(PctArgs *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PctArgs, pct_args_clear)

/* @argv[0] is the command's name. */
gboolean
pct_args_parse(PctArgs *self, const PctCommand *command, int argc, char **argv);
const char *pct_args_get(const PctArgs *self, const char *name);
gboolean
pct_args_get_bool(const PctArgs *self, const char *name, gboolean fallback);
/* "400 Parameter verification failed.", one line for each of @problems
 * (sorted), the synopsis. Returns 255. */
int pct_bad_parameters(const PctCommand *command, GPtrArray *problems);

#endif
