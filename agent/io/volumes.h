/* volumes.h - volumes on directory storages: where, make, free.
 *
 * Owner   the caller.
 * Errors  GError in AGENT_STORAGE_ERROR, AGENT_OPS_ERROR or G_FILE_ERROR.
 * Thread  one; blocking, forks.
 * Source  spec/storage.md 2 to 5.
 */
#ifndef AGENT_VOLUMES_H
#define AGENT_VOLUMES_H

#include "agent/core/storagecfg.h"

typedef struct {
    char *volume;      /* the id */
    gint64 size_bytes; /* 0 for a directory */
} AgentNewVolume;

void agent_new_volume_free(AgentNewVolume *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentNewVolume, agent_new_volume_free)

/* Checks what `STORAGE:GiB` needs, before anything is made. */
gboolean agent_volumes_check_request(const AgentStorageCfg *cfg,
                                     const char *request,
                                     GError **error);
/* Nobody has the name, and a new volume is about to get it: the caller notes
 * it, alone, in place of one noted before that was not made. FALSE with @error:
 * it is not made. */
typedef gboolean (*AgentVolumeNamedFunc)(const char *volume,
                                         gpointer data,
                                         GError **error);
/* Makes the volume that @request asks for, its root owned by @uid:@gid.
 * Returns: (owned), or NULL and nothing is left. */
AgentNewVolume *agent_volumes_make(const AgentStorageCfg *cfg,
                                   guint32 ctid,
                                   const char *request,
                                   guint32 uid,
                                   guint32 gid,
                                   AgentVolumeNamedFunc named,
                                   gpointer data,
                                   GError **error);
/* Returns: (owned) the absolute path of @volume, which exists; or NULL. */
char *agent_volumes_path(const AgentStorageCfg *cfg,
                         const char *volume,
                         GError **error);
/* Removes @volume when it belongs to @ctid; another's is left alone with a
 * warning. Gone already is no error. */
gboolean agent_volumes_free(const AgentStorageCfg *cfg,
                            guint32 ctid,
                            const char *volume,
                            GError **error);
/* The path of a template: a `vztmpl` volume id or a host path. Returns:
 * (owned), or NULL. */
char *agent_volumes_template(const AgentStorageCfg *cfg,
                             const char *ostemplate,
                             GError **error);

#endif
