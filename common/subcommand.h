/* subcommand.h - one table of subcommands per tool.
 *
 * Command names may be shortened to a unique prefix (spec/pct.md 1).
 *
 * Owner   the tables are static and outlive the call.
 * Thread  the tool's only one.
 */
#ifndef PVE_SUBCOMMAND_H
#define PVE_SUBCOMMAND_H

#include <glib.h>

typedef struct {
    const char *name;
    const char *usage; /* what follows "TOOL NAME ", "" for nothing */
    const char *summary;
    /* @argv[0] is the command's name; returns the exit status. */
    int (*run)(int argc, char **argv);
} PveSubcommand;

/* Finds the command that @word names or begins. NULL: none, or, with
 * @ambiguous set, more than one. @table ends with a row without a name. */
const PveSubcommand *pve_subcommand_find(const PveSubcommand *table,
                                         const char *word,
                                         gboolean *ambiguous);
/* Runs argv[1] with the rest. Unknown or missing: usage on stderr, 255. Also
 * answers help, -h, --help and --version. */
int pve_subcommand_main(const char *tool,
                        const PveSubcommand *table,
                        int argc,
                        char **argv);

#endif
