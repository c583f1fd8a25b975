#include "config.h"

#include "agent/io/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/lxcconf.h"
#include "agent/io/cgroups.h"
#include "agent/io/child.h"
#include "agent/io/inside.h"
#include "agent/io/ops.h"
#include "agent/io/safepath.h"
#include "common/files.h"

/* The host's node, with the owner and mode that the file says. */
static gboolean
make_node(const AgentGuestConf *conf,
          const AgentDevice *device,
          const char *directory,
          GError **error)
{
    g_autofree char *path = g_build_filename(directory, device->path, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    uid_t uid = agent_guestconf_host_id(conf, 'u', device->uid);
    gid_t gid = agent_guestconf_host_id(conf, 'g', device->gid);
    struct stat st;

    if (stat(device->path, &st) < 0) {
        return pve_errno_error(error, "look at", device->path);
    }
    if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "%s is not a device", device->path);
        return FALSE;
    }
    if (!pve_mkdir_parents(parent, 0755, error)) {
        return FALSE;
    }
    /* The same path twice is one node: the last one's. */
    if ((mknod(path, st.st_mode & S_IFMT, st.st_rdev) < 0 && errno != EEXIST) ||
        chown(path, uid, gid) < 0 || chmod(path, device->mode) < 0) {
        return pve_errno_error(error, "make", path);
    }
    return TRUE;
}

/* A container that started without devices has no place for them yet. */
static gboolean
make_place(const char *directory, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(directory);
    struct stat here, above;

    if (!pve_mkdir_parents(directory, 0755, error)) {
        return FALSE;
    }
    if (stat(directory, &here) < 0 || stat(parent, &above) < 0) {
        return pve_errno_error(error, "look at", directory);
    }
    return here.st_dev != above.st_dev ||
           mount("none", directory, "tmpfs", MS_NOSUID | MS_NOEXEC,
                 "size=8k,mode=755") == 0 ||
           pve_errno_error(error, "mount", directory);
}

gboolean
agent_devices_make(const AgentGuestConf *conf, GError **error)
{
    g_autofree char *directory =
        agent_lxcconf_passthrough(agent_guestconf_ctid(conf));
    g_autoptr(GPtrArray) devices = agent_guestconf_devices(conf, error);

    if (devices == NULL || devices->len == 0) {
        return devices != NULL;
    }
    if (!make_place(directory, error)) {
        return FALSE;
    }
    for (guint i = 0; i < devices->len; i++) {
        const AgentDevice *device = devices->pdata[i];

        if (device->path != NULL &&
            !make_node(conf, device, directory, error)) {
            g_prefix_error(error, "%s: ", device->key);
            return FALSE;
        }
    }
    return TRUE;
}

/* --- a running container --- */

/* One device on its way. */
typedef struct {
    const AgentGuestConf *conf;
    AgentDevice *device; /* borrowed from @all */
    GPtrArray *all;
    char *directory; /* of nodes */
    char *node;      /* the one in there */
    AgentInside inside;
} Hot;

static void
hot_clear(Hot *self)
{
    g_clear_pointer(&self->all, g_ptr_array_unref);
    g_clear_pointer(&self->directory, g_free);
    g_clear_pointer(&self->node, g_free);
    agent_inside_clear(&self->inside);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hot, hot_clear)

static gboolean
hot_find(Hot *self, const AgentGuestConf *conf, const char *key, GError **error)
{
    self->conf = conf;
    self->all = agent_guestconf_devices(conf, error);
    for (guint i = 0; self->all != NULL && i < self->all->len; i++) {
        AgentDevice *device = self->all->pdata[i];

        if (strcmp(device->key, key) == 0 && device->path != NULL) {
            self->device = device;
        }
    }
    if (self->device == NULL) {
        return self->all != NULL &&
               agent_ops_fail(error, "Path has to be defined");
    }
    self->directory = agent_lxcconf_passthrough(agent_guestconf_ctid(conf));
    self->node = g_build_filename(self->directory, self->device->path, NULL);
    return TRUE;
}

static gboolean
make(gpointer data, char **result, GError **error)
{
    const Hot *self = data;

    (void)result;
    if (setns(self->inside.monitor, CLONE_NEWNS) < 0) {
        return pve_errno_error(error, "enter", "the monitor's mounts");
    }
    return make_place(self->directory, error) &&
           make_node(self->conf, self->device, self->directory, error);
}

/* The directory of the target inside. -1: an error. */
static int
open_parent(const Hot *self, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(self->device->path);
    PVE_AUTOFD(root) = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0) {
        pve_errno_error(error, "open", "/");
        return -1;
    }
    return agent_safe_make_directory(root, parent, 0, 0, error);
}

/* A file to mount on; what is there already is not followed. */
static int
open_target(int parent, const char *name)
{
    PVE_AUTOFD(made) = openat(
        parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0);

    return made < 0 && errno != EEXIST
               ? -1
               : openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static gboolean
attach(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    g_autofree char *name = g_path_get_basename(self->device->path);
    PVE_AUTOFD(clone) = -1;
    PVE_AUTOFD(parent) = -1;
    PVE_AUTOFD(target) = -1;

    (void)result;
    if (agent_inside_enter_locked(&self->inside)) {
        clone = open_tree(AT_FDCWD, self->node,
                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    }
    if (clone < 0 || setns(self->inside.mounts, CLONE_NEWNS) < 0) {
        return pve_errno_error(error, "enter the container with",
                               self->device->path);
    }
    parent = open_parent(self, error);
    if (parent < 0) {
        return FALSE;
    }
    target = open_target(parent, name);
    return (target >= 0 && move_mount(clone, "", target, "",
                                      MOVE_MOUNT_F_EMPTY_PATH |
                                          MOVE_MOUNT_T_EMPTY_PATH) == 0) ||
           pve_errno_error(error, "place", self->device->path);
}

static gboolean
detach(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    g_autofree char *name = g_path_get_basename(self->device->path);
    PVE_AUTOFD(parent) = -1;

    (void)result;
    if (setns(self->inside.mounts, CLONE_NEWNS) < 0) {
        return pve_errno_error(error, "enter", "the container's mounts");
    }
    parent = open_parent(self, error);
    if (parent < 0) {
        return FALSE;
    }
    if (fchdir(parent) < 0 || umount2(name, UMOUNT_NOFOLLOW) < 0) {
        return pve_errno_error(error, "unmount", self->device->path);
    }
    (void)unlinkat(parent, name, 0);
    return TRUE;
}

gboolean
agent_devices_can_add(const AgentGuestConf *conf, const char *key)
{
    g_auto(Hot) self = {.inside = AGENT_INSIDE_NONE};

    return agent_cgroups_version("devices") == AGENT_CGROUP_V1 ||
           (agent_guestconf_is_unprivileged(conf) &&
            hot_find(&self, conf, key, NULL) && !self.device->deny_write);
}

gboolean
agent_devices_add(const AgentGuestConf *conf, const char *key, GError **error)
{
    g_auto(Hot) self = {.inside = AGENT_INSIDE_NONE};
    struct stat st;

    if (!hot_find(&self, conf, key, error) ||
        !agent_inside_open(&self.inside, conf, error)) {
        return FALSE;
    }
    if (stat(self.device->path, &st) < 0) {
        return pve_errno_error(error, "look at", self.device->path);
    }
    return agent_child_call(make, &self, NULL, error) &&
           agent_cgroups_allow_device(
               agent_guestconf_ctid(conf), S_ISBLK(st.st_mode) ? 'b' : 'c',
               st.st_rdev, self.device->deny_write, error) &&
           agent_child_call(attach, &self, NULL, error);
}

/* The rule stays: without the node it opens nothing. */
gboolean
agent_devices_remove(const AgentGuestConf *conf,
                     const char *key,
                     GError **error)
{
    g_auto(Hot) self = {.inside = AGENT_INSIDE_NONE};

    return hot_find(&self, conf, key, error) &&
           agent_inside_open(&self.inside, conf, error) &&
           agent_child_call(detach, &self, NULL, error);
}
