/* pct - manages the containers of this node, and by way of their owners those
 * of the others. */
#include "config.h"

#include "agent/cli/pct.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/guestopts.h"
#include "agent/core/observe.h"
#include "agent/io/configs.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/log.h"
#include "common/names.h"
#include "common/paths.h"
#include "common/subcommand.h"

enum { MAX_MEMBERS_BYTES = 1024 * 1024 };

int
pct_fail(const GError *error)
{
    fprintf(stderr, "%s\n", error->message);
    return g_error_matches(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_MISSING)
               ? PCT_EXIT_MISSING
               : PCT_EXIT_FAILED;
}

/* Returns: (owned) the address of @node, or NULL. *@online: is it there? */
static char *
address_of(const char *node, gboolean *online)
{
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/.members", MAX_MEMBERS_BYTES, NULL);
    g_autoptr(GPtrArray) members = NULL;

    if (bytes == NULL) {
        return NULL;
    }
    members = agent_members_parse(g_bytes_get_data(bytes, NULL),
                                  g_bytes_get_size(bytes));
    for (guint i = 0; i < members->len; i++) {
        const AgentMember *member = members->pdata[i];

        if (strcmp(member->name, node) == 0) {
            *online = member->online;
            return g_strdup(member->ip);
        }
    }
    return NULL;
}

/* What a remote shell has to be given. */
static char *
remote_command(int argc, char **argv)
{
    GString *text = g_string_new(PVE_BINDIR "/pct");

    for (int i = 0; i < argc; i++) {
        g_autofree char *quoted = g_shell_quote(argv[i]);

        g_string_append_printf(text, " %s", quoted);
    }
    return g_string_free(text, FALSE);
}

/* Becomes the same command on @node: its exit status is ours. */
static void __attribute__((noreturn))
run_on(const char *node, int argc, char **argv)
{
    gboolean online = TRUE;
    g_autofree char *ip = address_of(node, &online);
    g_autofree char *command = remote_command(argc, argv);
    g_autofree char *alias = g_strdup_printf("HostKeyAlias=%s", node);
    g_autofree char *target = g_strdup_printf("root@%s", ip);
    gboolean has_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    char *const words[] = {(char *)"ssh",  (char *)"-e",
                           (char *)"none", (char *)(has_terminal ? "-t" : "-T"),
                           (char *)"-o",   (char *)"BatchMode=yes",
                           (char *)"-o",   alias,
                           target,         (char *)"--",
                           command,        NULL};

    if (ip == NULL) {
        fprintf(stderr,
                "the container is on node '%s', which has no address "
                "in " PVE_MOUNT_DIR "/.members\n",
                node);
        exit(PCT_EXIT_FAILED);
    }
    if (!online) {
        fprintf(stderr,
                "the container is on node '%s', which is offline: start that "
                "node, or see 'Who holds it' in the guide to containers\n",
                node);
        exit(PCT_EXIT_FAILED);
    }
    (void)execvp("ssh", words);
    fprintf(stderr, "ssh: %s\n", g_strerror(errno));
    exit(PCT_EXIT_FAILED);
}

guint32
pct_guest_id(const PctArgs *args)
{
    guint32 ctid = pve_ctid_parse(args->words->pdata[0]);

    if (ctid == 0) {
        (void)pct_bad_parameter(args, "vmid: invalid format - value does not "
                                      "look like a valid VM ID");
    }
    return ctid;
}

/* Once a process: what is said of a file does not change. */
static void
tell_diagnostics(guint32 ctid)
{
    g_autoptr(GBytes) bytes = agent_configs_read(ctid, NULL);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(AgentGuestConf) conf = NULL;

    if (bytes == NULL) {
        return;
    }
    conf = agent_guestconf_parse(ctid, g_bytes_get_data(bytes, NULL),
                                 g_bytes_get_size(bytes), lines);
    for (guint i = 0; i < lines->len; i++) {
        fprintf(stderr, "%s\n", (const char *)lines->pdata[i]);
    }
}

guint32
pct_target(const PctArgs *args)
{
    guint32 ctid = pct_guest_id(args);
    g_autofree char *path = NULL;
    g_autofree char *owner = NULL;

    if (ctid == 0) {
        return 0;
    }
    path = agent_configs_path(NULL, ctid);
    if (access(path, F_OK) == 0) {
        tell_diagnostics(ctid);
        return ctid;
    }
    owner = agent_configs_owner(ctid);
    if (owner != NULL && strcmp(owner, agent_holds_node()) != 0) {
        run_on(owner, args->argc, args->argv);
    }
    return ctid;
}

/* --- the commands, in the order of the synopsis --- */

const PctOption pct_set_options[] = {
    {"delete", 0, PCT_LIST, "<option list>", NULL, "Options to remove.",
     PCT_KEYS},
    {"digest", 0, PCT_VALUE, "<string>", NULL,
     "SHA-1 of the file as it was seen; fail if it has changed since.",
     PCT_ANY},
    {"revert", 0, PCT_LIST, "<option list>", NULL,
     "Pending changes to give up.", PCT_PENDING},
    {NULL}};

static const PctOption help_options[] = {
    {"verbose", 0, PCT_BOOLEAN, NULL, "1", "More than the synopsis.", PCT_ANY},
    {NULL}};

const PctCommand pct_commands[] = {
    {.name = "create",
     .arguments = "[<vmid>] <ostemplate> [OPTIONS]",
     .summary = "Create a container. Without an id, or with 'next', the lowest "
                "free one is chosen.",
     .options = pct_create_options,
     .guest_flags = AGENT_OPT_CREATE,
     .min_words = 1,
     .max_words = 2,
     .places = {PCT_FREE_ID, PCT_TEMPLATE},
     .run = pct_create},
    {.name = "destroy",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Destroy the container and its volumes.",
     .options = pct_destroy_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_STOPPED},
     .run = pct_destroy},
    {.name = "list",
     .arguments = "[OPTIONS]",
     .summary = "List the containers of this node, or of all.",
     .options = pct_list_options,
     .prints = TRUE,
     .run = pct_list},
    {.name = "pending",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Show the configuration with changes that wait for the next "
                "start.",
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_GUEST},
     .prints = TRUE,
     .ends_group = TRUE,
     .run = pct_pending},
    {.name = "config",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Show the configuration, as it will be with pending changes.",
     .options = pct_config_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_GUEST},
     .prints = TRUE,
     .run = pct_config},
    {.name = "set",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Change options of the container: all that are given, or none. "
                "What cannot be changed while it runs is pending until its "
                "next start.",
     .options = pct_set_options,
     .guest_flags = AGENT_OPT_SET,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_GUEST},
     .ends_group = TRUE,
     .run = pct_set},
    {.name = "shutdown",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Ask the container to shut down, and wait until it has.",
     .options = pct_shutdown_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_RUNNING},
     .run = pct_shutdown},
    {.name = "start",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Start the container.",
     .options = pct_start_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_STOPPED},
     .run = pct_start},
    {.name = "stop",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Stop the container at once.",
     .options = pct_stop_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_RUNNING},
     .ends_group = TRUE,
     .run = pct_stop},
    {.name = "exec",
     .arguments = "<vmid> [<extra-args>] [OPTIONS]",
     .summary = "Run a command in the container; its options after '--'. The "
                "exit status is the command's.",
     .options = pct_exec_options,
     .min_words = 1,
     .max_words = G_MAXUINT,
     .places = {PCT_RUNNING},
     .run = pct_exec},
    {.name = "status",
     .arguments = "<vmid> [OPTIONS]",
     .summary = "Show whether the container runs.",
     .options = pct_status_options,
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_GUEST},
     .prints = TRUE,
     .run = pct_status},
    {.name = "unlock",
     .arguments = "<vmid>",
     .summary = "Remove the lock that an interrupted command left.",
     .min_words = 1,
     .max_words = 1,
     .places = {PCT_GUEST},
     .ends_group = TRUE,
     .run = pct_unlock},
    {.name = "help",
     .arguments = "[<extra-args>] [OPTIONS]",
     .summary = "Explain a command, or all.",
     .options = help_options,
     .max_words = 1,
     .places = {PCT_COMMAND},
     .run = pct_help},
    {NULL}};

/* --- finding one --- */

static void
print_usage(FILE *out)
{
    fprintf(out, "USAGE: pct <COMMAND> [ARGS] [OPTIONS]\n\n");
    for (const PctCommand *row = pct_commands; row->name != NULL; row++) {
        g_autofree char *synopsis = pct_command_synopsis(row);

        fprintf(out, "       %s\n%s", synopsis, row->ends_group ? "\n" : "");
    }
}

/* NULL: complained. */
static const PctCommand *
find_command(const char *word)
{
    PveSubcommand rows[G_N_ELEMENTS(pct_commands)] = {0};
    gboolean ambiguous = FALSE;
    const PveSubcommand *found;

    for (guint i = 0; pct_commands[i].name != NULL; i++) {
        rows[i].name = pct_commands[i].name;
    }
    found = pve_subcommand_find(rows, word, &ambiguous);
    if (found == NULL) {
        fprintf(stderr, "ERROR: %s command 'pct %s'\n",
                ambiguous ? "incomplete" : "unknown", word);
        print_usage(stderr);
        return NULL;
    }
    return &pct_commands[found - rows];
}

int
pct_help(const PctArgs *args)
{
    gboolean verbose = pct_args_get_bool(args, "verbose", TRUE);
    const PctCommand *command;

    if (args->words->len == 0) {
        if (!verbose) {
            print_usage(stdout);
        }
        for (command = pct_commands; verbose && command->name != NULL;
             command++) {
            pct_command_help(command);
        }
        return 0;
    }
    command = find_command(args->words->pdata[0]);
    if (command == NULL) {
        return PCT_EXIT_FAILED;
    }
    if (verbose) {
        pct_command_help(command);
    } else {
        g_autofree char *synopsis = pct_command_synopsis(command);

        printf("USAGE: %s\n", synopsis);
    }
    return 0;
}

static int
run_command(int argc, char **argv)
{
    const PctCommand *command = find_command(argv[0]);
    g_auto(PctArgs) args = {0};
    gboolean wants_help;

    if (command == NULL ||
        !pct_args_parse(&args, command, argc, argv, &wants_help)) {
        return PCT_EXIT_FAILED;
    }
    if (wants_help) {
        pct_command_help(command);
        return 0;
    }
    return command->run(&args);
}

/* Words that are no commands. -1: it is none. */
static int
run_word(int argc, char **argv)
{
    if (argc < 2) {
        fputs("ERROR: no command specified\n", stderr);
        print_usage(stderr);
        return PCT_EXIT_FAILED;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("pct %s\n", PACKAGE_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "bashcomplete") == 0) {
        return pct_complete(argc - 1, argv + 1);
    }
    return strcmp(argv[1], "verifyapi") == 0 ? 0 : -1;
}

int
main(int argc, char **argv)
{
    int status;

    (void)setlocale(LC_ALL, "");
    pve_log_init("pct", TRUE, TRUE);
    status = run_word(argc, argv);
    if (status >= 0) {
        return status;
    }
    if (geteuid() != 0 && strcmp(argv[1], "help") != 0) {
        fprintf(stderr, "please run as root\n");
        return PCT_EXIT_FAILED;
    }
    (void)umask(022);
    (void)g_setenv("PATH", "/sbin:/bin:/usr/sbin:/usr/bin", TRUE);
    return run_command(argc - 1, argv + 1);
}
