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

/* Returns: (owned) the address of @node, or NULL. */
static char *
address_of(const char *node)
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
    g_autofree char *ip = address_of(node);
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
    (void)execvp("ssh", words);
    fprintf(stderr, "ssh: %s\n", g_strerror(errno));
    exit(PCT_EXIT_FAILED);
}

guint32
pct_target(const PctCommand *command,
           const PctArgs *args,
           int argc,
           char **argv)
{
    const char *word = args->words->pdata[0];
    guint32 ctid = pve_ctid_parse(word);
    g_autofree char *path = NULL;
    g_autofree char *owner = NULL;

    if (ctid == 0) {
        g_autoptr(GPtrArray) problems = g_ptr_array_new();

        g_ptr_array_add(problems,
                        (gpointer) "vmid: invalid format - value does "
                                   "not look like a valid VM ID\n");
        (void)pct_bad_parameters(command, problems);
        return 0;
    }
    path = agent_configs_path(NULL, ctid);
    if (access(path, F_OK) == 0) {
        return ctid;
    }
    owner = agent_configs_owner(ctid);
    if (owner != NULL && strcmp(owner, agent_holds_node()) != 0) {
        run_on(owner, argc, argv);
    }
    return ctid;
}

static const PveSubcommand commands[] = {
    {"create", "[<vmid>] <ostemplate> [OPTIONS]",
     "Create a container; without an id, or with 'next', the lowest free one "
     "is chosen.",
     pct_create},
    {"destroy", "<vmid> [OPTIONS]", "Destroy the container and its volumes.",
     pct_destroy},
    {"list", "[OPTIONS]", "List the containers of this node, or --all.",
     pct_list},
    {"config", "<vmid> [OPTIONS]", "Show the configuration.", pct_config},
    {"shutdown", "<vmid> [OPTIONS]", "Shut the container down.", pct_shutdown},
    {"start", "<vmid> [OPTIONS]", "Start the container.", pct_start},
    {"stop", "<vmid> [OPTIONS]", "Stop the container at once.", pct_stop},
    {"exec", "<vmid> [<extra-args>] [OPTIONS]",
     "Run a command in the container.", pct_exec},
    {"status", "<vmid> [OPTIONS]", "Show whether the container runs.",
     pct_status},
    {"unlock", "<vmid>", "Remove the lock that an interrupted command left.",
     pct_unlock},
    {NULL}};

int
main(int argc, char **argv)
{
    (void)setlocale(LC_ALL, "");
    pve_log_init("pct", TRUE, TRUE);
    if (geteuid() != 0) {
        fprintf(stderr, "please run as root\n");
        return PCT_EXIT_FAILED;
    }
    (void)umask(022);
    (void)g_setenv("PATH", "/sbin:/bin:/usr/sbin:/usr/bin", TRUE);
    return pve_subcommand_main("pct", commands, argc, argv);
}
