#include "config.h"

#include "common/subcommand.h"

#include <stdio.h>
#include <string.h>

enum { EXIT_USAGE = 255 };

const PveSubcommand *
pve_subcommand_find(const PveSubcommand *table,
                    const char *word,
                    gboolean *ambiguous)
{
    const PveSubcommand *found = NULL;
    guint hits = 0;

    for (const PveSubcommand *row = table; row->name != NULL; row++) {
        if (strcmp(row->name, word) == 0) {
            *ambiguous = FALSE;
            return row;
        }
        if (g_str_has_prefix(row->name, word)) {
            found = row;
            hits++;
        }
    }
    *ambiguous = hits > 1;
    return hits == 1 ? found : NULL;
}

static void
print_usage(FILE *out, const char *tool, const PveSubcommand *table)
{
    fprintf(out, "USAGE: %s <COMMAND> [ARGS] [OPTIONS]\n\n", tool);
    for (const PveSubcommand *row = table; row->name != NULL; row++) {
        fprintf(out, "       %s %s %s\n", tool, row->name, row->usage);
    }
}

static int
help(const char *tool, const PveSubcommand *table, const char *word)
{
    gboolean ambiguous = FALSE;
    const PveSubcommand *row;

    if (word == NULL) {
        print_usage(stdout, tool, table);
        return 0;
    }
    row = pve_subcommand_find(table, word, &ambiguous);
    if (row == NULL) {
        fprintf(stderr, "ERROR: unknown command '%s %s'\n", tool, word);
        print_usage(stderr, tool, table);
        return EXIT_USAGE;
    }
    printf("USAGE: %s %s %s\n\n  %s\n", tool, row->name, row->usage,
           row->summary);
    return 0;
}

int
pve_subcommand_main(const char *tool,
                    const PveSubcommand *table,
                    int argc,
                    char **argv)
{
    gboolean ambiguous = FALSE;
    const PveSubcommand *row;

    if (argc < 2) {
        fputs("ERROR: no command specified\n", stderr);
        print_usage(stderr, tool, table);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        return help(tool, table, argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", tool, PACKAGE_VERSION);
        return 0;
    }
    row = pve_subcommand_find(table, argv[1], &ambiguous);
    if (row == NULL) {
        fprintf(stderr, "ERROR: %s command '%s %s'\n",
                ambiguous ? "incomplete" : "unknown", tool, argv[1]);
        print_usage(stderr, tool, table);
        return EXIT_USAGE;
    }
    return row->run(argc - 1, argv + 1);
}
