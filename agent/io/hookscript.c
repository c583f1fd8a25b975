#include "config.h"

#include "agent/io/hookscript.h"

#include <stdio.h>
#include <unistd.h>

#include "agent/io/configs.h"
#include "agent/io/ops.h"
#include "agent/io/volumes.h"

/* @what and @why stand around the volume. */
static char *
refuse(GError **error, const char *what, const char *volume, const char *why)
{
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED, "%s'%s' %s",
                what, volume, why);
    return NULL;
}

char *
agent_hookscript_path(const AgentStorageCfg *cfg,
                      const char *volume,
                      GError **error)
{
    g_autoptr(AgentVolume) parsed = agent_volume_parse(volume, error);
    g_autofree char *path = NULL;

    if (parsed == NULL) {
        return NULL;
    }
    if (parsed->kind != AGENT_VOLUME_SNIPPET) {
        return refuse(error, "", volume, "is not in the snippets directory");
    }
    path = agent_volumes_path(cfg, volume, NULL);
    if (path == NULL) {
        return refuse(error, "script ", volume, "does not exist");
    }
    if (access(path, X_OK) < 0) {
        return refuse(error, "script ", volume, "is not executable");
    }
    return g_steal_pointer(&path);
}

static gboolean
call(const char *path, guint32 ctid, const char *phase, GError **error)
{
    g_autofree char *id = g_strdup_printf("%u", ctid);
    char *const argv[] = {(char *)path, id, (char *)phase, NULL};
    int status = 0;

    /* What we have printed stands before what it prints. */
    fflush(stdout);
    return g_spawn_sync("/", (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL,
                        NULL, NULL, &status, error) &&
           g_spawn_check_wait_status(status, error);
}

gboolean
agent_hookscript_run(const AgentGuestConf *conf,
                     const char *phase,
                     GError **error)
{
    const char *volume = agent_guestconf_get(conf, "hookscript");
    guint32 ctid = agent_guestconf_ctid(conf);
    g_autoptr(AgentStorageCfg) cfg = NULL;
    g_autoptr(GError) local = NULL;
    g_autofree char *path = NULL;

    if (volume == NULL) {
        return TRUE;
    }
    cfg = agent_configs_storages();
    path = agent_hookscript_path(cfg, volume, &local);
    if (path != NULL && call(path, ctid, phase, &local)) {
        return TRUE;
    }
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "hookscript error for %u on %s: %s", ctid, phase,
                local->message);
    return FALSE;
}

void
agent_hookscript_try(const AgentGuestConf *conf, const char *phase)
{
    g_autoptr(GError) error = NULL;

    if (!agent_hookscript_run(conf, phase, &error)) {
        g_printerr("WARN: %s\n", error->message);
    }
}
