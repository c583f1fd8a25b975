/* pct create: options to a request, and the request to a container. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/cli/pct.h"
#include "agent/core/guestopts.h"
#include "agent/io/ops.h"
#include "common/names.h"

/* What create takes beside the options of the configuration. */
const PctOption pct_create_options[] = {
    {"bwlimit", 0, PCT_VALUE, "<number> (0 - N)", NULL,
     "Read and write at most so many KiB/s.", PCT_ANY},
    {"force", 0, PCT_BOOLEAN, NULL, "0",
     "With --restore: overwrite an existing container.", PCT_ANY},
    {"ha-managed", 0, PCT_BOOLEAN, NULL, "0",
     "Make it an HA resource afterwards.", PCT_ANY},
    {"ignore-unpack-errors", 0, PCT_BOOLEAN, NULL, "0",
     "Go on after errors of extraction.", PCT_ANY},
    {"password", 0, PCT_VALUE, "<password>", NULL, "Password of root.",
     PCT_ANY},
    {"pool", 0, PCT_VALUE, "<string>", NULL, "Pool to put it into.", PCT_ANY},
    {"restore", 0, PCT_BOOLEAN, NULL, "0", "Restore a backup.", PCT_ANY},
    {"ssh-public-keys", 0, PCT_VALUE, "<filepath>", NULL,
     "File with public keys for root.", PCT_ANY},
    {"start", 0, PCT_BOOLEAN, NULL, "0", "Start it when it is made.", PCT_ANY},
    {"storage", 0, PCT_VALUE, "<storage ID>", "local",
     "Where volumes go whose storage is not given.", PCT_STORAGE},
    {"unique", 0, PCT_BOOLEAN, NULL, "0", "With --restore: new MAC addresses.",
     PCT_ANY},
    {NULL}};

/* Those of them that mean nothing here yet: better refused than ignored. */
static const char *const refused[] = {
    "force",   "ha-managed", "ignore-unpack-errors", "password",
    "pool",    "restore",    "ssh-public-keys",      "unique",
    "bwlimit", NULL};

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
    g_autofree char *stored = pct_check_option(key, full, &error);

    if (stored == NULL) {
        g_ptr_array_add(problems,
                        g_strdup_printf("%s: %s", key, error->message));
        return;
    }
    agent_guestconf_set(conf, key, stored);
}

static AgentGuestConf *
build(const PctArgs *args, const char *storage, GPtrArray *problems)
{
    AgentGuestConf *conf = agent_guestconf_new(0);
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, args->options);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (agent_guestopt_find(key) != NULL) {
            check_option(conf, key, value, storage, problems);
        }
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
                                 "like a valid VM ID"));
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
pct_create(const PctArgs *args)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(AgentGuestConf) conf = NULL;
    AgentCreate what = {0};

    if (!check_refused(args)) {
        return PCT_EXIT_FAILED;
    }
    what.storage = pct_args_get(args, "storage");
    if (what.storage == NULL) {
        what.storage = "local";
    }
    (void)read_words(args, &what, problems);
    conf = build(args, what.storage, problems);
    if (problems->len > 0) {
        return pct_bad_parameters(args, problems);
    }
    what.conf = conf;
    return create(&what, what.ctid == 0,
                  pct_args_get_bool(args, "start", FALSE));
}
