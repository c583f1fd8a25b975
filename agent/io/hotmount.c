#include "config.h"

#include "agent/io/hotmount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "agent/io/configs.h"
#include "agent/io/inside.h"
#include "agent/io/mounts.h"
#include "agent/io/ops.h"
#include "agent/io/safepath.h"
#include "common/files.h"
#include "common/paths.h"

/* One mount point of one container, and the way there. */
typedef struct {
    const AgentGuestConf *conf;
    AgentMount *mount;
    AgentStorageCfg *cfg;
    char *stage;  /* the directory of staged mounts */
    char *staged; /* that of this one */
    AgentInside inside;
} Hot;

static void
hot_clear(Hot *self)
{
    g_clear_pointer(&self->mount, agent_mount_free);
    g_clear_pointer(&self->cfg, agent_storagecfg_free);
    g_clear_pointer(&self->stage, g_free);
    g_clear_pointer(&self->staged, g_free);
    agent_inside_clear(&self->inside);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hot, hot_clear)

static gboolean
failed(const Hot *self, const char *what, GError **error)
{
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED, "%s: %s: %s",
                self->mount->key, what, g_strerror(errno));
    return FALSE;
}

static gboolean
hot_open(Hot *self, const AgentGuestConf *conf, const char *key, GError **error)
{
    self->conf = conf;
    self->mount = agent_mount_parse(key, agent_guestconf_get(conf, key), error);
    if (self->mount == NULL) {
        return FALSE;
    }
    self->cfg = agent_configs_storages();
    self->stage = g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.mounts",
                                  agent_guestconf_ctid(conf));
    self->staged = g_build_filename(self->stage, key, NULL);
    return agent_inside_open(&self->inside, conf, error);
}

/* --- staging --- */

/* The directory is the host's and stays empty; what is in it is on a file
 * system that the monitor's namespace alone has. */
static gboolean
make_stage(const Hot *self, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(self->stage);
    struct stat here, above;

    if (!pve_mkdir_parents(self->stage, 0755, error)) {
        return FALSE;
    }
    if (stat(self->stage, &here) < 0 || stat(parent, &above) < 0) {
        return failed(self, self->stage, error);
    }
    if (here.st_dev == above.st_dev &&
        mount("none", self->stage, "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC,
              "size=64k,mode=755") < 0) {
        return failed(self, "cannot mount a place to stage", error);
    }
    if (mkdir(self->staged, 0755) < 0 && errno != EEXIST) {
        return failed(self, self->staged, error);
    }
    return TRUE;
}

static gboolean
stage(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    int fd;

    (void)result;
    if (setns(self->inside.monitor, CLONE_NEWNS) < 0) {
        return failed(self, "cannot enter the monitor's mounts", error);
    }
    if (!make_stage(self, error)) {
        return FALSE;
    }
    fd = agent_mounts_open(self->conf, self->mount, self->cfg, error);
    if (fd < 0) {
        return FALSE;
    }
    return move_mount(fd, "", AT_FDCWD, self->staged,
                      MOVE_MOUNT_F_EMPTY_PATH) == 0 ||
           failed(self, "cannot stage", error);
}

static gboolean
unstage(gpointer data, char **result, GError **error)
{
    const Hot *self = data;

    (void)result;
    if (setns(self->inside.monitor, CLONE_NEWNS) < 0 ||
        /* One that was there at the start was not staged. */
        (umount2(self->staged, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
         errno != ENOENT)) {
        return failed(self, "cannot unmount the staged copy", error);
    }
    (void)rmdir(self->staged);
    return TRUE;
}

/* --- inside --- */

static gboolean
attach(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    PVE_AUTOFD(clone) = -1;
    PVE_AUTOFD(root) = -1;
    PVE_AUTOFD(place) = -1;

    (void)result;
    if (!agent_inside_enter_locked(&self->inside)) {
        return failed(self, "cannot enter the container", error);
    }
    clone =
        open_tree(AT_FDCWD, self->staged, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (clone < 0) {
        return failed(self, "cannot clone the staged mount", error);
    }
    if (setns(self->inside.mounts, CLONE_NEWNS) < 0) {
        return failed(self, "cannot enter the container's mounts", error);
    }
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    place = root >= 0
                ? agent_safe_make_directory(root, self->mount->mp, 0, 0, error)
                : -1;
    if (place < 0) {
        return FALSE;
    }
    if (self->mount->keepattrs && !agent_mounts_keep_attributes(place, clone)) {
        return failed(self, "cannot keep owner and mode", error);
    }
    return move_mount(clone, "", place, "",
                      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0 ||
           failed(self, "failed to move into container hierarchy", error);
}

/* By way of its parent directory: the name alone is looked up. */
static gboolean
detach(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    g_autofree char *parent = g_path_get_dirname(self->mount->mp);
    g_autofree char *name = g_path_get_basename(self->mount->mp);
    PVE_AUTOFD(root) = -1;
    PVE_AUTOFD(place) = -1;

    (void)result;
    if (setns(self->inside.mounts, CLONE_NEWNS) < 0) {
        return failed(self, "cannot enter the container's mounts", error);
    }
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    place =
        root >= 0 ? agent_safe_make_directory(root, parent, 0, 0, error) : -1;
    if (place < 0) {
        return FALSE;
    }
    return (fchdir(place) == 0 && umount2(name, UMOUNT_NOFOLLOW) == 0) ||
           failed(self, "cannot unmount", error);
}

gboolean
agent_hotmount_add(const AgentGuestConf *conf, const char *key, GError **error)
{
    g_auto(Hot) self = {.inside = AGENT_INSIDE_NONE};

    if (!hot_open(&self, conf, key, error) ||
        !agent_child_call(stage, &self, NULL, error)) {
        return FALSE;
    }
    if (agent_child_call(attach, &self, NULL, error)) {
        return TRUE;
    }
    (void)agent_child_call(unstage, &self, NULL, NULL);
    return FALSE;
}

gboolean
agent_hotmount_remove(const AgentGuestConf *conf,
                      const char *key,
                      GError **error)
{
    g_auto(Hot) self = {.inside = AGENT_INSIDE_NONE};

    return hot_open(&self, conf, key, error) &&
           agent_child_call(detach, &self, NULL, error) &&
           agent_child_call(unstage, &self, NULL, error);
}
