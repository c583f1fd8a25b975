/* storagecfg.h - storage.cfg, read only, and where its volumes lie.
 *
 * Sections of types that we cannot use yet are read and known by name, so that
 * a message can say so.
 *
 * Owner   the caller; a storage is borrowed from its configuration.
 * Errors  GError in AGENT_STORAGE_ERROR.
 * Thread  any.
 * Source  spec/storage.md 1 to 3.
 */
#ifndef AGENT_STORAGECFG_H
#define AGENT_STORAGECFG_H

#include <glib.h>

#define AGENT_STORAGE_ERROR (agent_storage_error_quark())
GQuark agent_storage_error_quark(void);

typedef enum {
    AGENT_STORAGE_ERROR_UNKNOWN,
    AGENT_STORAGE_ERROR_UNUSABLE,
    AGENT_STORAGE_ERROR_VOLUME,
} AgentStorageError;

typedef struct {
    char *id;
    char *type;
    char *path;     /* nullable */
    char **content; /* owned list */
    char **nodes;   /* nullable: everywhere */
    gboolean is_disabled;
    gboolean is_shared;
} AgentStorage;

typedef enum {
    AGENT_VOLUME_SUBVOL,   /* a directory */
    AGENT_VOLUME_RAW,      /* an image file */
    AGENT_VOLUME_TEMPLATE, /* vztmpl/FILE */
    AGENT_VOLUME_SNIPPET,  /* snippets/FILE */
    AGENT_VOLUME_BACKUP,   /* backup/FILE */
} AgentVolumeKind;

/* STORAGE:NAME, taken apart. */
typedef struct {
    char *storage;
    char *name;
    char *relative; /* below the storage's path */
    guint32 owner;  /* 0: no guest's */
    AgentVolumeKind kind;
} AgentVolume;

typedef struct AgentStorageCfg AgentStorageCfg;

/* Parses the text of storage.cfg. Never fails; @diagnostics, nullable, gets an
 * owned line for each thing that is ignored. `local` is always there. */
AgentStorageCfg *
agent_storagecfg_parse(const char *text, gsize size, GPtrArray *diagnostics);
void agent_storagecfg_free(AgentStorageCfg *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentStorageCfg, agent_storagecfg_free)
const AgentStorage *agent_storagecfg_find(const AgentStorageCfg *self,
                                          const char *id);
/* Returns: (owned) the ids of all storages, sorted, NULL-terminated. */
char **agent_storagecfg_ids(const AgentStorageCfg *self);
gboolean agent_storage_has_content(const AgentStorage *self,
                                   const char *content);
/* Finds the storage and checks that @node may use it for @content. */
const AgentStorage *agent_storagecfg_use(const AgentStorageCfg *self,
                                         const char *id,
                                         const char *node,
                                         const char *content,
                                         GError **error);

/* Takes a volume id of the directory types apart. Returns: (owned). */
AgentVolume *agent_volume_parse(const char *volume, GError **error);
void agent_volume_free(AgentVolume *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentVolume, agent_volume_free)
/* The content type that a storage needs for it. */
const char *agent_volume_content(const AgentVolume *self);
/* MiB of `STORAGE:GiB`, rounded down; and its storage. FALSE: no request. */
gboolean
agent_volume_request_parse(const char *request, char **storage, guint64 *mib);

#endif
