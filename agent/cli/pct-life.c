/* pct start, stop, shutdown, exec, destroy, unlock. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "agent/cli/pct.h"
#include "agent/io/configs.h"
#include "agent/io/container.h"
#include "agent/io/lockfile.h"
#include "agent/io/ops.h"

enum { DEFAULT_SHUTDOWN_S = 60 };

/* Keeps an existing `state:` in step, before the act: the agent must not see
 * the old wish beside the new fact. FALSE with @error. *@before (owned,
 * nullable) is what it was. */
static gboolean
set_state(guint32 ctid, const char *state, char **before, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(AgentGuestConf) conf =
        lock != NULL ? agent_configs_load(ctid, error) : NULL;
    const char *now;

    if (conf == NULL) {
        return FALSE;
    }
    now = agent_guestconf_get(conf, "state");
    if (now == NULL || strcmp(now, state) == 0) {
        return TRUE;
    }
    if (!agent_configs_check_broken(conf, error) ||
        !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    *before = g_strdup(now);
    agent_guestconf_set(conf, "state", state);
    return agent_configs_store(conf, error);
}

/* What failed is no longer wanted: the wish is as it was before. */
static void
put_state_back(guint32 ctid, const char *before)
{
    g_autofree char *ignored = NULL;
    g_autoptr(GError) error = NULL;

    if (before != NULL && !set_state(ctid, before, &ignored, &error)) {
        fprintf(stderr, "cannot restore 'state: %s': %s\n", before,
                error->message);
    }
}

/* --- start --- */

const PctOption pct_start_options[] = {
    {"debug", 0, PCT_BOOLEAN, NULL, "0", "Start with a detailed log.", PCT_ANY},
    {"skiplock", 0, PCT_BOOLEAN, NULL, "0", "Ignore locks.", PCT_ANY},
    {NULL}};

static int
unsupported(const PctArgs *args, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (pct_args_get_bool(args, *names, FALSE)) {
            fprintf(stderr, "option '--%s' is not supported\n", *names);
            return PCT_EXIT_FAILED;
        }
    }
    return 0;
}

int
pct_start(const PctArgs *args)
{
    static const char *const missing[] = {"debug", "skiplock", NULL};
    g_autofree char *before = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    if (unsupported(args, missing) != 0) {
        return PCT_EXIT_FAILED;
    }
    ctid = pct_target(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    if (agent_ops_is_running(ctid)) {
        fprintf(stderr, "CT %u already running\n", ctid);
        return PCT_EXIT_FAILED;
    }
    if (!set_state(ctid, "started", &before, &error)) {
        return pct_fail(error);
    }
    /* With `state: started` the agent may have been faster: that is fine. */
    if (agent_ops_start(ctid, &error) ||
        (before != NULL &&
         g_error_matches(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING))) {
        return 0;
    }
    put_state_back(ctid, before);
    return pct_fail(error);
}

/* --- stop and shutdown --- */

const PctOption pct_stop_options[] = {
    {"overrule-shutdown", 0, PCT_BOOLEAN, NULL, "0",
     "Abort a shutdown that is under way.", PCT_ANY},
    {"skiplock", 0, PCT_BOOLEAN, NULL, "0", "Ignore locks.", PCT_ANY},
    {NULL}};
const PctOption pct_shutdown_options[] = {
    {"forceStop", 0, PCT_BOOLEAN, NULL, "0", "Stop it when the time is up.",
     PCT_ANY},
    {"timeout", 0, PCT_VALUE, "<integer> (0 - N)", "60",
     "Wait at most this many seconds.", PCT_ANY},
    {NULL}};

/* @timeout_s negative: kill at once. */
static int
end_run(guint32 ctid, gint64 timeout_s, gboolean force)
{
    g_autofree char *before = NULL;
    g_autoptr(GError) error = NULL;
    gboolean fine;

    if (!agent_ops_is_running(ctid)) {
        g_autoptr(AgentGuestConf) conf = agent_configs_load(ctid, &error);

        if (conf == NULL) {
            return pct_fail(error);
        }
        fprintf(stderr, "CT %u not running\n", ctid);
        return PCT_EXIT_FAILED;
    }
    if (!set_state(ctid, "stopped", &before, &error)) {
        return pct_fail(error);
    }
    fine = timeout_s < 0
               ? agent_ops_stop(ctid, &error)
               : agent_ops_shutdown(ctid, (guint)timeout_s, force, &error);
    if (fine ||
        (before != NULL && g_error_matches(error, AGENT_OPS_ERROR,
                                           AGENT_OPS_ERROR_NOT_RUNNING))) {
        return 0;
    }
    put_state_back(ctid, before);
    return pct_fail(error);
}

int
pct_stop(const PctArgs *args)
{
    static const char *const missing[] = {"overrule-shutdown", "skiplock",
                                          NULL};
    guint32 ctid;

    if (unsupported(args, missing) != 0) {
        return PCT_EXIT_FAILED;
    }
    ctid = pct_target(args);
    return ctid != 0 ? end_run(ctid, -1, FALSE) : PCT_EXIT_FAILED;
}

int
pct_shutdown(const PctArgs *args)
{
    guint64 timeout_s = DEFAULT_SHUTDOWN_S;
    const char *text;
    guint32 ctid;

    text = pct_args_get(args, "timeout");
    if (text != NULL && !g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT32,
                                                    &timeout_s, NULL)) {
        g_autofree char *problem = g_strdup_printf(
            "timeout: type check ('integer') failed - got '%s'", text);

        return pct_bad_parameter(args, problem);
    }
    ctid = pct_target(args);
    return ctid != 0 ? end_run(ctid, (gint64)timeout_s,
                               pct_args_get_bool(args, "forceStop", FALSE))
                     : PCT_EXIT_FAILED;
}

/* --- exec --- */

const PctOption pct_exec_options[] = {
    {"keep-env", 0, PCT_BOOLEAN, NULL, "1",
     "Pass this environment on to the command.", PCT_ANY},
    {NULL}};

int
pct_exec(const PctArgs *args)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    ctid = pct_target(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    if (!agent_ops_is_running(ctid)) {
        conf = agent_configs_load(ctid, &error);
        if (conf == NULL) {
            return pct_fail(error);
        }
        fprintf(stderr, "container '%u' not running!\n", ctid);
        return PCT_EXIT_FAILED;
    }
    if (args->words->len < 2) {
        fprintf(stderr, "missing command\n");
        return PCT_EXIT_FAILED;
    }
    g_ptr_array_add(args->words, NULL);
    return agent_container_attach(ctid, (char **)args->words->pdata + 1,
                                  pct_args_get_bool(args, "keep-env", TRUE));
}

/* --- destroy --- */

const PctOption pct_destroy_options[] = {
    {"destroy-unreferenced-disks", 0, PCT_BOOLEAN, NULL, "0",
     "Free also volumes of this id that the file does not name.", PCT_ANY},
    {"force", 0, PCT_BOOLEAN, NULL, "0", "Stop it first.", PCT_ANY},
    {"purge", 0, PCT_BOOLEAN, NULL, "0",
     "Remove it also from jobs and other configuration.", PCT_ANY},
    {NULL}};

/* A lock outlives the command that set it, when that was killed. */
static void
hint_at_unlock(guint32 ctid, const GError *error)
{
    if (g_error_matches(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_LOCKED)) {
        fprintf(stderr,
                "If the command that set the lock is dead: 'pct unlock %u', "
                "then 'pct destroy %u'.\n",
                ctid, ctid);
    }
}

int
pct_destroy(const PctArgs *args)
{
    static const char *const missing[] = {"destroy-unreferenced-disks", "purge",
                                          NULL};
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    if (unsupported(args, missing) != 0) {
        return PCT_EXIT_FAILED;
    }
    ctid = pct_target(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    if (!agent_ops_destroy(ctid, pct_args_get_bool(args, "force", FALSE),
                           &error)) {
        int status = pct_fail(error);

        hint_at_unlock(ctid, error);
        return status;
    }
    return 0;
}

/* --- unlock --- */

int
pct_unlock(const PctArgs *args)
{
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    ctid = pct_target(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    if (!agent_ops_unlock(ctid, &error)) {
        return pct_fail(error);
    }
    syslog(LOG_INFO, "executed 'pct unlock %u'", ctid);
    return 0;
}
