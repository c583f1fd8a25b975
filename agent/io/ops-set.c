/* The operation of ops.h that changes options. */
#include "config.h"

#include <string.h>

#include "agent/io/apply.h"
#include "agent/io/configs.h"
#include "agent/io/lockfile.h"
#include "agent/io/ops.h"
#include "agent/io/settle.h"

/* Each value as it looks from this host. */
static gboolean
settle_all(AgentGuestChange *change, guint32 ctid, GError **error)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) keys = agent_guestchange_keys(change);

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *stored = agent_settle(
            cfg, ctid, *key, agent_guestchange_get(change, *key), error);

        if (stored == NULL) {
            return FALSE;
        }
        agent_guestchange_set(change, *key, stored);
    }
    return TRUE;
}

/* --- the file --- */

static gboolean
check_digest(GBytes *bytes, const char *digest, GError **error)
{
    g_autofree char *now = g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, bytes);

    return digest == NULL || *digest == '\0' || strcmp(digest, now) == 0 ||
           agent_ops_fail(error,
                          "detected modified configuration - file changed by "
                          "other user? Try again.");
}

static gboolean
run_steps(AgentApply *apply,
          const GPtrArray *steps,
          gboolean is_running,
          GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);

    for (guint i = 0; i < steps->len; i++) {
        const AgentGuestStep *step = steps->pdata[i];
        g_autoptr(GError) local = NULL;

        if (agent_apply_step(apply, step, &local)) {
            continue;
        }
        g_string_append_printf(
            problems,
            is_running ? "%s%s: unable to hotplug %s: %s"
                       : "%s%s: unable to apply pending change %s : %s",
            problems->len > 0 ? "\n" : "", step->key, step->key,
            local->message);
    }
    return problems->len == 0 || agent_ops_fail(error, "%s", problems->str);
}

gboolean
agent_ops_set(guint32 ctid,
              AgentGuestChange *change,
              const char *digest,
              GPtrArray *warnings,
              GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GPtrArray) steps = NULL;
    g_autoptr(AgentApply) apply = NULL;
    gboolean is_running;

    if (lock == NULL || !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    bytes = agent_configs_read(ctid, error);
    if (bytes == NULL) {
        return FALSE;
    }
    conf = agent_guestconf_parse(ctid, g_bytes_get_data(bytes, NULL),
                                 g_bytes_get_size(bytes), NULL);
    is_running = agent_ops_is_running(ctid);
    apply = agent_apply_new(conf, is_running);
    if (!agent_configs_check_lock(conf, NULL, error) ||
        !check_digest(bytes, digest, error) ||
        !agent_guestchange_check(change, error) ||
        !settle_all(change, ctid, error) ||
        !agent_guestchange_queue(change, conf, warnings, error)) {
        return FALSE;
    }
    steps = agent_guestchange_steps(change, conf, is_running);
    return run_steps(apply, steps, is_running, error) &&
           agent_apply_store(apply, error);
}
