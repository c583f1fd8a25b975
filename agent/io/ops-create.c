/* The operations of ops.h that make and unmake containers. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/guestopts.h"
#include "agent/core/lxcconf.h"
#include "agent/io/configs.h"
#include "agent/io/holds.h"
#include "agent/io/install.h"
#include "agent/io/lockfile.h"
#include "agent/io/ops.h"
#include "agent/io/prepare.h"
#include "agent/io/settle.h"
#include "agent/io/volumes.h"
#include "common/files.h"
#include "common/paths.h"

#define DEFAULT_ROOTFS "local:4"
#define DEFAULT_MIB "512"

enum { MAX_CONFIG_BYTES = 1024 * 1024 };

/* One request on its way. */
typedef struct {
    guint32 ctid;
    AgentGuestConf *conf; /* what the file will be */
    AgentStorageCfg *cfg;
    char *archive;   /* nullable: nothing to unpack */
    GPtrArray *made; /* char, ids of new volumes */
    gboolean has_new_record;
} Request;

static void
request_clear(Request *self)
{
    agent_guestconf_free(self->conf);
    agent_storagecfg_free(self->cfg);
    g_free(self->archive);
    g_clear_pointer(&self->made, g_ptr_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Request, request_clear)

gboolean
agent_ops_is_request(const AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, NULL);

    if (agent_guestconf_get(conf, "ostemplate") != NULL) {
        return TRUE;
    }
    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        const AgentMount *mount = mounts->pdata[i];

        if (mount->kind == AGENT_MOUNT_REQUEST) {
            return TRUE;
        }
    }
    return FALSE;
}

/* --- before anything is made --- */

static gboolean
check_mounts(const Request *self, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(self->conf, error);

    if (mounts == NULL) {
        return FALSE;
    }
    if (agent_guestconf_get(self->conf, "rootfs") == NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "mount points configured, but 'rootfs' not set - "
                    "aborting");
        return FALSE;
    }
    for (guint i = 0; i < mounts->len; i++) {
        const AgentMount *mount = mounts->pdata[i];

        if (mount->kind == AGENT_MOUNT_REQUEST &&
            !agent_volumes_check_request(self->cfg, mount->volume, error)) {
            return FALSE;
        }
        if (self->archive != NULL && mount->kind != AGENT_MOUNT_REQUEST &&
            strcmp(mount->key, "rootfs") == 0) {
            g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                        "rootfs: a template goes into a new volume only, "
                        "'%s' is none; use STORAGE:GiB",
                        mount->volume);
            return FALSE;
        }
    }
    return TRUE;
}

/* Fills in what a new container has when its file does not say. */
static void
set_defaults(AgentGuestConf *conf)
{
    static const struct {
        const char *key, *value;
    } defaults[] = {
        {"memory", DEFAULT_MIB},
        {"swap", DEFAULT_MIB},
        {"unprivileged", "1"},
    };
    g_autofree char *hostname = agent_guestconf_hostname(conf);

    agent_guestconf_set(conf, "hostname", hostname);
    for (guint i = 0; i < G_N_ELEMENTS(defaults); i++) {
        if (agent_guestconf_get(conf, defaults[i].key) == NULL) {
            agent_guestconf_set(conf, defaults[i].key, defaults[i].value);
        }
    }
}

static gboolean
request_init(Request *self, GError **error)
{
    const char *ostemplate = agent_guestconf_get(self->conf, "ostemplate");

    self->cfg = agent_configs_storages();
    self->made = g_ptr_array_new_with_free_func(g_free);
    if (ostemplate != NULL) {
        self->archive = agent_volumes_template(self->cfg, ostemplate, error);
        if (self->archive == NULL ||
            agent_install_identify(self->archive, error) == NULL) {
            return FALSE;
        }
        if (agent_guestconf_get(self->conf, "rootfs") == NULL &&
            agent_guestconf_get(self->conf, "mp0") == NULL) {
            agent_guestconf_set(self->conf, "rootfs", DEFAULT_ROOTFS);
        }
        set_defaults(self->conf);
    }
    return check_mounts(self, error);
}

/* --- making --- */

/* Notes it, and what was made before, in the record: should we die now, destroy
 * knows what to free. */
static gboolean
note_volume(const char *volume, gpointer data, GError **error)
{
    Request *self = data;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    for (guint i = 0; i < self->made->len; i++) {
        g_ptr_array_add(ids, self->made->pdata[i]);
    }
    g_ptr_array_add(ids, (gpointer)volume);
    g_ptr_array_add(ids, NULL);
    return agent_holds_set_making(self->ctid, (const char *const *)ids->pdata,
                                  error);
}

static gboolean
make_volume(Request *self, AgentMount *mount, GError **error)
{
    g_autoptr(AgentNewVolume) made = NULL;
    g_autofree char *text = NULL;
    guint32 uid, gid;

    agent_guestconf_root_ids(self->conf, &uid, &gid);
    made = agent_volumes_make(self->cfg, self->ctid, mount->volume, uid, gid,
                              note_volume, self, error);
    if (made == NULL) {
        g_prefix_error(error, "%s: ", mount->key);
        return FALSE;
    }
    g_ptr_array_add(self->made, g_strdup(made->volume));
    g_free(mount->volume);
    mount->volume = g_strdup(made->volume);
    mount->size_bytes = made->size_bytes;
    text = agent_mount_format(mount);
    agent_guestconf_set(self->conf, mount->key, text);
    return TRUE;
}

static gboolean
make_volumes(Request *self, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(self->conf, error);

    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        AgentMount *mount = mounts->pdata[i];

        if (mount->kind == AGENT_MOUNT_REQUEST &&
            !make_volume(self, mount, error)) {
            return FALSE;
        }
    }
    return mounts != NULL;
}

static void
take_type(AgentGuestConf *conf, const char *found)
{
    const char *given = agent_guestconf_get(conf, "ostype");

    if (g_strcmp0(given, "unmanaged") == 0) {
        return;
    }
    if (found == NULL) {
        if (given == NULL) {
            g_printerr("WARN: unable to detect OS distribution, falling back "
                       "to 'unmanaged'\n");
            agent_guestconf_set(conf, "ostype", "unmanaged");
        }
        return;
    }
    if (given != NULL && strcmp(given, found) != 0) {
        g_printerr("WARN: got unexpected ostype (%s != %s)\n", found, given);
    }
    agent_guestconf_set(conf, "ostype", found);
}

static void
take_arch(AgentGuestConf *conf, const char *found)
{
    if (agent_guestconf_get(conf, "arch") != NULL) {
        return;
    }
    if (found == NULL) {
        g_printerr("WARN: unable to detect the architecture.\nFalling back to "
                   "amd64.\nUse `pct set VMID --arch ARCH` to change.\n");
        found = "amd64";
    } else {
        printf("Detected container architecture: %s\n", found);
    }
    agent_guestconf_set(conf, "arch", found);
}

static gboolean
unpack(Request *self, GError **error)
{
    g_auto(AgentInstalled) found = {0};

    if (self->archive == NULL) {
        return TRUE;
    }
    if (!agent_install(self->conf, self->cfg, self->archive, &found, error)) {
        return FALSE;
    }
    take_type(self->conf, found.ostype);
    take_arch(self->conf, found.arch);
    return TRUE;
}

gboolean
agent_ops_free_noted(const AgentGuestConf *conf,
                     const AgentStorageCfg *cfg,
                     GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);
    g_auto(GStrv) noted = agent_holds_making(ctid, error);
    g_auto(GStrv) used = agent_guestconf_volumes(conf);

    for (char **id = noted; id != NULL && *id != NULL; id++) {
        if (!g_strv_contains((const char *const *)used, *id) &&
            !agent_volumes_free(cfg, ctid, *id, error)) {
            return FALSE;
        }
    }
    return noted != NULL;
}

/* An earlier try at this request did not get to its end. */
static gboolean
free_leftovers(const Request *self, GError **error)
{
    return agent_ops_free_noted(self->conf, self->cfg, error) &&
           agent_holds_set_making(self->ctid, NULL, error);
}

/* The record comes before the volumes: who finds one without the other knows
 * whose they are. */
static gboolean
open_record(Request *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (agent_holds_update(self->ctid, NULL, NULL, -1, &local)) {
        return free_leftovers(self, error);
    }
    if (!g_error_matches(local, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_UNKNOWN)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_clear_error(&local);
    if (agent_holds_create(self->ctid, NULL, &local)) {
        return self->has_new_record = TRUE;
    }
    /* It may be there all the same when only its sync failed. */
    self->has_new_record =
        !g_error_matches(local, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_HELD) &&
        !g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_EXIST);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* The file may have been moved or removed while we unpacked. */
static gboolean
write_result(Request *self, GError **error)
{
    g_autoptr(AgentGuestConf) now = agent_configs_load(self->ctid, error);
    g_auto(GStrv) volumes = NULL;

    if (now == NULL) {
        return FALSE;
    }
    if (g_strcmp0(agent_guestconf_lock(now), "create") != 0) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "detected modified configuration - file changed by other "
                    "user? Try again.");
        return FALSE;
    }
    agent_guestconf_unset(self->conf, "ostemplate");
    agent_guestconf_unset(self->conf, "lock");
    if (!agent_guestconf_get_bool(self->conf, "unprivileged", FALSE)) {
        agent_guestconf_unset(self->conf, "unprivileged");
    }
    (void)agent_prepare_macs(self->conf);
    volumes = agent_guestconf_volumes(self->conf);
    if (!agent_holds_update(self->ctid, (const char *const *)volumes, NULL, -1,
                            error) ||
        !agent_configs_store(self->conf, error)) {
        return FALSE;
    }
    /* It is made: a note that stays is dropped by the next record. */
    (void)agent_holds_set_making(self->ctid, NULL, NULL);
    return TRUE;
}

static gboolean
mark_locked(const Request *self, GError **error)
{
    g_autoptr(AgentGuestConf) now = agent_configs_load(self->ctid, error);

    if (now == NULL) {
        return FALSE;
    }
    agent_guestconf_set(now, "lock", "create");
    return agent_configs_store(now, error);
}

static void
undo_record(const Request *self)
{
    g_autoptr(GError) error = NULL;

    if (self->has_new_record
            ? !agent_holds_remove(self->ctid, &error)
            : !agent_holds_set_making(self->ctid, NULL, &error)) {
        g_warning("CT %u: %s", self->ctid, error->message);
    }
}

static void
undo(Request *self)
{
    gboolean fine = TRUE;

    for (guint i = self->made->len; i-- > 0;) {
        g_autoptr(GError) error = NULL;

        if (!agent_volumes_free(self->cfg, self->ctid, self->made->pdata[i],
                                &error)) {
            g_warning("CT %u: %s", self->ctid, error->message);
            fine = FALSE;
        }
    }
    if (fine) {
        undo_record(self);
    }
}

static gboolean
carry_out(Request *self, GError **error)
{
    if (!open_record(self, error)) {
        if (self->has_new_record) {
            undo_record(self);
        }
        return FALSE;
    }
    if (make_volumes(self, error) && unpack(self, error) &&
        write_result(self, error)) {
        return TRUE;
    }
    undo(self);
    return FALSE;
}

/* Puts the file back as it was, unless it is gone from here meanwhile. */
static void
put_back(guint32 ctid, GBytes *before)
{
    g_autofree char *path = agent_configs_path(NULL, ctid);
    g_autoptr(GError) error = NULL;
    gsize size;
    gconstpointer bytes = g_bytes_get_data(before, &size);

    if (access(path, F_OK) == 0 &&
        !pve_file_replace(path, bytes, size, 0640, &error)) {
        g_warning("CT %u: %s", ctid, error->message);
    }
}

gboolean
agent_ops_materialize(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autofree char *path = agent_configs_path(NULL, ctid);
    g_autoptr(GBytes) before = NULL;
    g_auto(Request) self = {.ctid = ctid};

    if (lock == NULL || !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    self.conf = agent_configs_load(ctid, error);
    if (self.conf == NULL || !agent_configs_check_broken(self.conf, error)) {
        return FALSE;
    }
    if (!agent_ops_is_request(self.conf)) {
        return TRUE;
    }
    if (!agent_configs_check_lock(self.conf, "create", error) ||
        !request_init(&self, error)) {
        return FALSE;
    }
    before = pve_file_read(path, MAX_CONFIG_BYTES, error);
    if (before == NULL || !mark_locked(&self, error)) {
        return FALSE;
    }
    if (!carry_out(&self, error)) {
        put_back(ctid, before);
        return FALSE;
    }
    return TRUE;
}

static void
remove_directory(guint32 ctid)
{
    static const char *const files[] = {"config", "rules.seccomp", NULL};
    static const char *const traces[] = {"log", "stderr", "warnings", NULL};
    g_autofree char *directory = g_strdup_printf(PVE_LXC_DIR "/%u", ctid);
    g_autofree char *rootfs = g_build_filename(directory, "rootfs", NULL);
    g_autofree char *devices = agent_lxcconf_passthrough(ctid);

    for (guint i = 0; files[i] != NULL; i++) {
        g_autofree char *path = g_build_filename(directory, files[i], NULL);

        (void)unlink(path);
    }
    for (guint i = 0; traces[i] != NULL; i++) {
        g_autofree char *path =
            g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.%s", ctid, traces[i]);

        (void)unlink(path);
    }
    /* Only what is empty: data that somebody put there is not ours. */
    (void)rmdir(rootfs);
    (void)rmdir(devices);
    (void)rmdir(directory);
}

/* --- create --- */

/* Mount points are looked at where they are made. */
static gboolean
settle_options(AgentGuestConf *conf, GError **error)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) keys = agent_guestconf_keys(conf);

    for (char **key = keys; *key != NULL; key++) {
        gboolean is_mount = strcmp(*key, "rootfs") == 0 ||
                            agent_guestopt_index(*key, "mp", 256) >= 0;
        g_autofree char *stored =
            is_mount ? NULL
                     : agent_settle(cfg, 0, *key,
                                    agent_guestconf_get(conf, *key), error);

        if (stored != NULL) {
            agent_guestconf_set(conf, *key, stored);
        } else if (!is_mount) {
            return FALSE;
        }
    }
    return TRUE;
}

/* All that can be refused before an id is taken. */
static gboolean
check_create(const AgentCreate *what, AgentGuestConf **conf, GError **error)
{
    g_auto(Request)
        trial = {.ctid = what->ctid, .conf = agent_guestconf_copy(what->conf)};

    agent_guestconf_set(trial.conf, "ostemplate", what->ostemplate);
    if (agent_guestconf_get(trial.conf, "rootfs") == NULL &&
        agent_guestconf_get(trial.conf, "mp0") == NULL) {
        g_autofree char *rootfs = g_strdup_printf("%s:4", what->storage);

        agent_guestconf_set(trial.conf, "rootfs", rootfs);
    }
    if (!agent_guestchange_check_whole(trial.conf, error) ||
        !settle_options(trial.conf, error)) {
        return FALSE;
    }
    *conf = agent_guestconf_copy(trial.conf);
    return agent_configs_check_quorum(error) && request_init(&trial, error);
}

static gboolean
store_request(guint32 ctid, const AgentGuestConf *conf, GError **error)
{
    g_autofree char *text = agent_guestconf_serialize(conf);
    g_autoptr(AgentGuestConf) own =
        agent_guestconf_parse(ctid, text, strlen(text), NULL);

    agent_guestconf_set(own, "lock", "create");
    return agent_configs_store(own, error);
}

/* With volumes that could not be freed the file stays, for destroy. */
static void
remove_request(guint32 ctid)
{
    g_auto(GStrv) left = agent_holds_making(ctid, NULL);

    if (left != NULL && *left != NULL) {
        g_printerr("volumes of CT %u are left: 'pct unlock %u', then 'pct "
                   "destroy %u'\n",
                   ctid, ctid, ctid);
        return;
    }
    remove_directory(ctid);
    (void)agent_configs_remove(ctid, NULL);
}

gboolean
agent_ops_create(AgentCreate *what, GError **error)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(AgentLock) lock = NULL;
    g_autoptr(GError) local = NULL;

    if (!check_create(what, &conf, error) ||
        !agent_configs_reserve(&what->ctid, error)) {
        return FALSE;
    }
    lock = agent_lock_config(what->ctid, &local);
    if (lock != NULL && store_request(what->ctid, conf, &local) &&
        agent_ops_materialize(what->ctid, &local)) {
        return TRUE;
    }
    remove_request(what->ctid);
    g_propagate_prefixed_error(error, g_steal_pointer(&local),
                               "unable to create CT %u - ", what->ctid);
    return FALSE;
}

/* --- destroy --- */

static gboolean
check_destroy(const AgentGuestConf *conf, gboolean force, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);

    if (!agent_configs_check_broken(conf, error)) {
        return FALSE;
    }
    if (agent_guestconf_get_bool(conf, "protection", FALSE)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "can't remove CT %u - protection mode enabled", ctid);
        return FALSE;
    }
    /* An earlier destroy that did not get to its end is taken up again. */
    if (!agent_configs_check_lock(conf, "destroyed", error)) {
        return FALSE;
    }
    if (agent_ops_is_running(ctid) && !force) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING,
                    "unable to destroy CT %u - container is running", ctid);
        return FALSE;
    }
    return TRUE;
}

static gboolean
free_volumes(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) volumes = agent_guestconf_volumes(conf);

    for (char **volume = volumes; *volume != NULL; volume++) {
        if (!agent_volumes_free(cfg, agent_guestconf_ctid(conf), *volume,
                                error)) {
            return FALSE;
        }
    }
    return agent_ops_free_noted(conf, cfg, error);
}

static gboolean
remove_all(const AgentGuestConf *conf, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);
    g_autoptr(AgentGuestConf) last = agent_guestconf_new(ctid);

    if (!free_volumes(conf, error)) {
        return FALSE;
    }
    remove_directory(ctid);
    agent_guestconf_set(last, "lock", "destroyed");
    return agent_configs_store(last, error) &&
           agent_holds_remove(ctid, error) && agent_configs_remove(ctid, error);
}

gboolean
agent_ops_unlock(guint32 ctid, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(AgentGuestConf) conf = NULL;

    if (lock == NULL || !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    conf = agent_configs_load(ctid, error);
    if (conf == NULL) {
        return FALSE;
    }
    if (agent_guestconf_lock(conf) == NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "no lock found trying to remove any lock");
        return FALSE;
    }
    agent_guestconf_unset(conf, "lock");
    return agent_configs_store(conf, error);
}

gboolean
agent_ops_destroy(guint32 ctid, gboolean force, GError **error)
{
    g_autoptr(AgentLock) lock = agent_lock_config(ctid, error);
    g_autoptr(AgentGuestConf) conf = NULL;

    if (lock == NULL || !agent_configs_check_quorum(error)) {
        return FALSE;
    }
    conf = agent_configs_load(ctid, error);
    if (conf == NULL || !check_destroy(conf, force, error)) {
        return FALSE;
    }
    if (agent_ops_is_running(ctid)) {
        printf("forced to stop CT %u before destroying!\n", ctid);
        fflush(stdout);
        if (!agent_ops_stop(ctid, error)) {
            return FALSE;
        }
    }
    return remove_all(conf, error);
}
