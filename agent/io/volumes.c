#include "config.h"

#include "agent/io/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "common/files.h"

enum { MAX_VOLUMES = 1024 };

void
agent_new_volume_free(AgentNewVolume *self)
{
    if (self != NULL) {
        g_free(self->volume);
        g_free(self);
    }
}

static const AgentStorage *
use(const AgentStorageCfg *cfg,
    const char *id,
    const char *content,
    GError **error)
{
    return agent_storagecfg_use(cfg, id, agent_holds_node(), content, error);
}

gboolean
agent_volumes_check_request(const AgentStorageCfg *cfg,
                            const char *request,
                            GError **error)
{
    g_autofree char *id = NULL;
    const AgentStorage *storage;
    guint64 mib;

    if (!agent_volume_request_parse(request, &id, &mib)) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                    "unable to parse volume ID '%s'", request);
        return FALSE;
    }
    storage = use(cfg, id, "rootdir", error);
    if (storage == NULL) {
        return FALSE;
    }
    if (!g_file_test(storage->path, G_FILE_TEST_IS_DIR)) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNUSABLE,
                    "unable to activate storage '%s' - directory '%s' does "
                    "not exist or is unreachable",
                    id, storage->path);
        return FALSE;
    }
    return TRUE;
}

/* --- making --- */

static gboolean
exists(const char *directory, char *name)
{
    g_autofree char *owned = name;
    g_autofree char *path = g_build_filename(directory, owned, NULL);
    struct stat st;

    return lstat(path, &st) == 0;
}

/* Is disk number @n of @ctid taken, in any form? */
static gboolean
is_taken(const char *directory, guint32 ctid, guint n)
{
    return exists(directory, g_strdup_printf("vm-%u-disk-%u.raw", ctid, n)) ||
           exists(directory, g_strdup_printf("base-%u-disk-%u.raw", ctid, n)) ||
           exists(directory,
                  g_strdup_printf("subvol-%u-disk-%u.subvol", ctid, n));
}

/* One volume on its way. */
typedef struct {
    const char *storage; /* id */
    const char *directory;
    guint32 ctid;
    guint64 size; /* 0: a directory */
    guint32 uid, gid;
    AgentVolumeNamedFunc named;
    gpointer data;
} Making;

static gboolean
make_subvol(const Making *self, const char *path, GError **error)
{
    if (mkdir(path, 0755) < 0) {
        return pve_errno_error(error, "create directory", path);
    }
    if (chown(path, self->uid, self->gid) < 0 || chmod(path, 0755) < 0) {
        pve_errno_error(error, "change owner of", path);
        (void)rmdir(path);
        return FALSE;
    }
    return TRUE;
}

static gboolean
make_filesystem(const Making *self, const char *path, GError **error)
{
    g_autofree char *owner =
        g_strdup_printf("root_owner=%u:%u", self->uid, self->gid);
    const char *const argv[] = {"mkfs.ext4", "-q", "-O", "mmp", "-E",
                                owner,       "--", path, NULL};

    return agent_child_run(argv, NULL, error);
}

static gboolean
make_raw(const Making *self, const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

    if (fd < 0) {
        return pve_errno_error(error, "create", path);
    }
    if (ftruncate(fd, (off_t)self->size) < 0) {
        pve_errno_error(error, "set the size of", path);
        (void)unlink(path);
        return FALSE;
    }
    printf("Formatting '%s', fmt=raw size=%" G_GUINT64_FORMAT
           " preallocation=off\n",
           path, self->size);
    fflush(stdout);
    if (!make_filesystem(self, path, error)) {
        (void)unlink(path);
        return FALSE;
    }
    return TRUE;
}

/* Number @n, as long as nobody has it. Returns: (owned), or NULL; then with
 * EXIST set it was taken just now. */
static AgentNewVolume *
make_number(const Making *self, guint n, GError **error)
{
    g_autofree char *name =
        self->size > 0
            ? g_strdup_printf("vm-%u-disk-%u.raw", self->ctid, n)
            : g_strdup_printf("subvol-%u-disk-%u.subvol", self->ctid, n);
    g_autofree char *path = g_build_filename(self->directory, name, NULL);
    g_autofree char *volume =
        g_strdup_printf("%s:%u/%s", self->storage, self->ctid, name);
    AgentNewVolume *made;

    /* First the note: whoever is killed between the two leaves a note of
     * nothing, not something that nobody knows of. */
    if (!self->named(volume, self->data, error) ||
        (self->size > 0 ? !make_raw(self, path, error)
                        : !make_subvol(self, path, error))) {
        return NULL;
    }
    made = g_new0(AgentNewVolume, 1);
    made->volume = g_steal_pointer(&volume);
    made->size_bytes = (gint64)self->size;
    return made;
}

/* Takes the first free number: whoever comes second gets EEXIST and tries the
 * next one. */
static AgentNewVolume *
make_first_free(const Making *self, GError **error)
{
    for (guint n = 0; n < MAX_VOLUMES; n++) {
        g_autoptr(GError) local = NULL;
        AgentNewVolume *made;

        if (is_taken(self->directory, self->ctid, n)) {
            continue;
        }
        made = make_number(self, n, &local);
        if (made != NULL) {
            return made;
        }
        if (!g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_EXIST)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
    }
    g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                "unable to allocate an image name for VM %u in storage '%s'",
                self->ctid, self->storage);
    return NULL;
}

/* STORAGE/images, and the container's folder in it: root's alone. */
static gboolean
make_folders(const AgentStorage *storage, const char *own, GError **error)
{
    g_autofree char *images = g_build_filename(storage->path, "images", NULL);

    return pve_mkdir_parents(images, 0755, error) &&
           pve_mkdir_parents(own, 0740, error);
}

AgentNewVolume *
agent_volumes_make(const AgentStorageCfg *cfg,
                   guint32 ctid,
                   const char *request,
                   guint32 uid,
                   guint32 gid,
                   AgentVolumeNamedFunc named,
                   gpointer data,
                   GError **error)
{
    g_autofree char *id = NULL;
    g_autofree char *directory = NULL;
    const AgentStorage *storage;
    Making making = {.ctid = ctid, .uid = uid, .gid = gid};
    guint64 mib;

    if (!agent_volumes_check_request(cfg, request, error) ||
        !agent_volume_request_parse(request, &id, &mib)) {
        return NULL;
    }
    storage = agent_storagecfg_find(cfg, id);
    directory = g_strdup_printf("%s/images/%u", storage->path, ctid);
    if (!make_folders(storage, directory, error)) {
        return NULL;
    }
    making.storage = id;
    making.directory = directory;
    making.size = mib << 20;
    making.named = named;
    making.data = data;
    return make_first_free(&making, error);
}

/* --- finding --- */

static char *
path_of(const AgentStorageCfg *cfg, const AgentVolume *volume, GError **error)
{
    const AgentStorage *storage =
        use(cfg, volume->storage, agent_volume_content(volume), error);

    return storage != NULL
               ? g_build_filename(storage->path, volume->relative, NULL)
               : NULL;
}

char *
agent_volumes_path(const AgentStorageCfg *cfg,
                   const char *volume,
                   GError **error)
{
    g_autoptr(AgentVolume) parsed = agent_volume_parse(volume, error);
    g_autofree char *path = parsed != NULL ? path_of(cfg, parsed, error) : NULL;
    struct stat st;

    if (path == NULL) {
        return NULL;
    }
    if (lstat(path, &st) < 0) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                    "volume '%s' does not exist", volume);
        return NULL;
    }
    return g_steal_pointer(&path);
}

char *
agent_volumes_template(const AgentStorageCfg *cfg,
                       const char *ostemplate,
                       GError **error)
{
    g_autoptr(AgentVolume) parsed = NULL;

    if (*ostemplate == '/') {
        if (access(ostemplate, R_OK) < 0) {
            g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                        "can't find file '%s'", ostemplate);
            return NULL;
        }
        return g_strdup(ostemplate);
    }
    parsed = agent_volume_parse(ostemplate, error);
    if (parsed == NULL) {
        return NULL;
    }
    if (parsed->kind != AGENT_VOLUME_TEMPLATE) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                    "unable to use volume %s - content type needs to be "
                    "'vztmpl'",
                    ostemplate);
        return NULL;
    }
    return agent_volumes_path(cfg, ostemplate, error);
}

/* --- freeing --- */

gboolean
agent_volumes_free(const AgentStorageCfg *cfg,
                   guint32 ctid,
                   const char *volume,
                   GError **error)
{
    g_autoptr(AgentVolume) parsed = agent_volume_parse(volume, error);
    g_autofree char *path = NULL;
    g_autofree char *directory = NULL;

    if (parsed == NULL) {
        return FALSE;
    }
    if (parsed->owner != ctid) {
        g_printerr("ignore deletion of '%s', CT %u isn't the owner!\n", volume,
                   ctid);
        return TRUE;
    }
    path = path_of(cfg, parsed, error);
    if (path == NULL) {
        return FALSE;
    }
    if (!agent_child_remove_tree(path, error)) {
        return FALSE;
    }
    /* The folder of the last volume goes too; others keep it. */
    directory = g_path_get_dirname(path);
    (void)rmdir(directory);
    return TRUE;
}
