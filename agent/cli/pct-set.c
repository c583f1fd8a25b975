/* pct set: options to a change, and the change to the container. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/cli/pct.h"
#include "agent/core/guestchange.h"
#include "agent/io/ops.h"

enum { MAX_DIGEST = 40 };

/* Several variables, each checked. */
static char *
check_env(const AgentGuestOpt *opt, const char *lines, GError **error)
{
    g_auto(GStrv) items = g_strsplit(lines, "\n", -1);

    for (char **item = items; *item != NULL; item++) {
        g_autofree char *stored = agent_guestopt_check(opt, *item, error);

        if (stored == NULL) {
            return NULL;
        }
    }
    return g_strdup(lines);
}

char *
pct_check_option(const char *key, const char *value, GError **error)
{
    const AgentGuestOpt *opt = agent_guestopt_find(key);

    return opt->flags & AGENT_OPT_REPEAT
               ? check_env(opt, value, error)
               : agent_guestopt_check(opt, value, error);
}

/* An option set to nothing is one deleted. */
static void
take_value(AgentGuestChange *change,
           const char *key,
           const char *value,
           GPtrArray *problems)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *stored =
        *value == '\0' ? g_strdup("") : pct_check_option(key, value, &error);

    if (stored != NULL) {
        agent_guestchange_set(change, key, stored);
    } else {
        g_ptr_array_add(problems,
                        g_strdup_printf("%s: %s", key, error->message));
    }
}

static void
take_values(const PctArgs *args, AgentGuestChange *change, GPtrArray *problems)
{
    const char *digest = pct_args_get(args, "digest");
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, args->options);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (agent_guestopt_find(key) != NULL) {
            take_value(change, key, value, problems);
        }
    }
    if (digest != NULL && strlen(digest) > MAX_DIGEST) {
        g_ptr_array_add(
            problems, g_strdup("digest: value may only be 40 characters long"));
    }
}

static gboolean
take_lists(const PctArgs *args, AgentGuestChange *change, GError **error)
{
    const char *deletes = pct_args_get(args, "delete");
    const char *reverts = pct_args_get(args, "revert");

    return (deletes == NULL ||
            agent_guestchange_delete(change, deletes, error)) &&
           (reverts == NULL ||
            agent_guestchange_revert(change, reverts, error)) &&
           agent_guestchange_check(change, error);
}

static int
change_guest(guint32 ctid, AgentGuestChange *change, const char *digest)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    gboolean fine = agent_ops_set(ctid, change, digest, warnings, &error);

    for (guint i = 0; i < warnings->len; i++) {
        fprintf(stderr, "%s\n", (const char *)warnings->pdata[i]);
    }
    return fine ? 0 : pct_fail(error);
}

int
pct_set(const PctArgs *args)
{
    g_autoptr(AgentGuestChange) change = agent_guestchange_new();
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    take_values(args, change, problems);
    if (problems->len > 0) {
        return pct_bad_parameters(args, problems);
    }
    ctid = pct_target(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    if (!take_lists(args, change, &error)) {
        return pct_fail(error);
    }
    if (agent_guestchange_is_empty(change)) {
        fprintf(stderr, "no options specified\n");
        return PCT_EXIT_FAILED;
    }
    return change_guest(ctid, change, pct_args_get(args, "digest"));
}
