/* pct create: options to a request, and the request to a container. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/cli/pct.h"
#include "agent/core/guestopts.h"
#include "agent/io/ops.h"
#include "common/names.h"

/* What create takes beside the options of the configuration. */
static const PctOption own_options[] = {
    {"bwlimit", 0, PCT_VALUE},
    {"env", 0, PCT_VALUE},
    {"force", 0, PCT_BOOLEAN},
    {"ha-managed", 0, PCT_BOOLEAN},
    {"ignore-unpack-errors", 0, PCT_BOOLEAN},
    {"password", 0, PCT_VALUE},
    {"pool", 0, PCT_VALUE},
    {"restore", 0, PCT_BOOLEAN},
    {"ssh-public-keys", 0, PCT_VALUE},
    {"start", 0, PCT_BOOLEAN},
    {"storage", 0, PCT_VALUE},
    {"unique", 0, PCT_BOOLEAN},
};

/* Those of them that mean nothing here yet: better refused than ignored. */
static const char *const refused[] = {
    "force",   "ha-managed", "ignore-unpack-errors", "password",
    "pool",    "restore",    "ssh-public-keys",      "unique",
    "bwlimit", NULL};

static PctCommand command = {
    "create", "pct create <vmid> <ostemplate> [OPTIONS]", NULL, 1, 2};

/* Returns: (owned) one table of both. */
static PctOption *
all_options(void)
{
    GArray *all = g_array_new(TRUE, TRUE, sizeof(PctOption));

    g_array_append_vals(all, own_options, G_N_ELEMENTS(own_options));
    for (const AgentGuestOpt *opt = agent_guestopts(); opt->name != NULL;
         opt++) {
        PctOption row = {opt->name, opt->count,
                         opt->flags & AGENT_OPT_LIST             ? PCT_LIST
                         : opt->rule.type == AGENT_VALUE_BOOLEAN ? PCT_BOOLEAN
                                                                 : PCT_VALUE};

        if (opt->flags & AGENT_OPT_CREATE) {
            g_array_append_val(all, row);
        }
    }
    return (PctOption *)(gpointer)g_array_free(all, FALSE);
}

/* `8` and `8,ro=1` mean 8 GiB on the storage of --storage. Returns: (owned). */
static char *
with_storage(const char *key, const char *value, const char *storage)
{
    gboolean is_mount =
        strcmp(key, "rootfs") == 0 || agent_guestopt_index(key, "mp", 256) >= 0;
    gsize n = strspn(value, "0123456789.");

    if (is_mount && n > 0 && (value[n] == '\0' || value[n] == ',')) {
        return g_strdup_printf("%s:%s", storage, value);
    }
    return g_strdup(value);
}

/* Nothing of what `create` writes may wait for a later format error. */
static void
check_option(AgentGuestConf *conf,
             const char *key,
             const char *value,
             const char *storage,
             GPtrArray *problems)
{
    g_autofree char *full = with_storage(key, value, storage);
    g_autoptr(GError) error = NULL;
    g_autofree char *stored = agent_guestconf_check(key, full, &error);

    if (stored == NULL) {
        g_ptr_array_add(problems,
                        g_strdup_printf("%s: %s", key, error->message));
        return;
    }
    agent_guestconf_set(conf, key, stored);
}

/* VAR=value, without control characters except TAB. */
static gboolean
is_variable(const char *text)
{
    gsize n = 0;

    while (g_ascii_isalnum(text[n]) || text[n] == '_') {
        n++;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (g_ascii_iscntrl(*p) && *p != '\t') {
            return FALSE;
        }
    }
    return n > 0 && text[n] == '=';
}

static AgentGuestConf *
build(const PctArgs *args, const char *storage, GPtrArray *problems)
{
    AgentGuestConf *conf = agent_guestconf_new(0);
    const char *env = pct_args_get(args, "env");
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, args->options);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (agent_guestopt_find(key) != NULL) {
            check_option(conf, key, value, storage, problems);
        }
    }
    if (env != NULL && !is_variable(env)) {
        g_ptr_array_add(
            problems, g_strdup("env: value does not match the regex pattern"));
    } else if (env != NULL) {
        agent_guestconf_add_env(conf, env);
    }
    return conf;
}

/* The words: [<vmid>|next] <ostemplate>. */
static gboolean
read_words(const PctArgs *args, AgentCreate *what, GPtrArray *problems)
{
    const char *id = args->words->len > 1 ? args->words->pdata[0] : "next";

    /* An id alone: the template was forgotten. */
    if (args->words->len == 1 && pve_ctid_parse(args->words->pdata[0]) != 0) {
        g_ptr_array_add(problems, g_strdup("ostemplate: property is missing "
                                           "and it is not optional"));
        return FALSE;
    }
    what->ostemplate = args->words->pdata[args->words->len - 1];
    what->ctid = strcmp(id, "next") == 0 ? 0 : pve_ctid_parse(id);
    if (what->ctid == 0 && strcmp(id, "next") != 0) {
        g_ptr_array_add(problems,
                        g_strdup("vmid: invalid format - value does not look "
                                 "like a valid VM ID\n"));
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_refused(const PctArgs *args)
{
    for (guint i = 0; refused[i] != NULL; i++) {
        if (pct_args_get(args, refused[i]) != NULL) {
            fprintf(stderr, "option '--%s' is not supported\n", refused[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static int
create(AgentCreate *what, gboolean is_chosen, gboolean start)
{
    g_autoptr(GError) error = NULL;

    if (!agent_ops_create(what, &error)) {
        return pct_fail(error);
    }
    if (is_chosen) {
        printf("created CT %u\n", what->ctid);
    }
    /* With `state: started` the agent may have been faster. */
    if (start && !agent_ops_start(what->ctid, &error) &&
        !g_error_matches(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING)) {
        return pct_fail(error);
    }
    return 0;
}

int
pct_create(int argc, char **argv)
{
    g_auto(PctArgs) args = {0};
    g_autofree PctOption *options = all_options();
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(AgentGuestConf) conf = NULL;
    AgentCreate what = {0};

    command.options = options;
    if (!pct_args_parse(&args, &command, argc, argv) || !check_refused(&args)) {
        return PCT_EXIT_FAILED;
    }
    what.storage = pct_args_get(&args, "storage");
    if (what.storage == NULL) {
        what.storage = "local";
    }
    (void)read_words(&args, &what, problems);
    conf = build(&args, what.storage, problems);
    if (problems->len > 0) {
        return pct_bad_parameters(&command, problems);
    }
    what.conf = conf;
    return create(&what, what.ctid == 0,
                  pct_args_get_bool(&args, "start", FALSE));
}
