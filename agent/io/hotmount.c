#include "config.h"

#include "agent/io/hotmount.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "agent/io/configs.h"
#include "agent/io/container.h"
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
    int monitor;  /* mount namespace of the container's monitor */
    int mounts;   /* that of the container */
    int user;     /* its user namespace; -1: the host's */
} Hot;

static void
hot_clear(Hot *self)
{
    g_clear_pointer(&self->mount, agent_mount_free);
    g_clear_pointer(&self->cfg, agent_storagecfg_free);
    g_clear_pointer(&self->stage, g_free);
    g_clear_pointer(&self->staged, g_free);
    pve_autofd_clear(&self->monitor);
    pve_autofd_clear(&self->mounts);
    pve_autofd_clear(&self->user);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hot, hot_clear)

static gboolean
failed(const Hot *self, const char *what, GError **error)
{
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED, "%s: %s: %s",
                self->mount->key, what, g_strerror(errno));
    return FALSE;
}

/* --- namespaces --- */

/* 0: it is gone. */
static pid_t
parent_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autoptr(GBytes) bytes = pve_file_read(path, 0, NULL);
    /* The name in parentheses may have any character. */
    const char *end =
        bytes != NULL ? strrchr(g_bytes_get_data(bytes, NULL), ')') : NULL;
    int parent = 0;

    return end != NULL && sscanf(end, ") %*c %d", &parent) == 1 ? parent : 0;
}

static int
namespace_of(pid_t pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/%s", (int)pid, name);

    return open(path, O_RDONLY | O_CLOEXEC);
}

/* A pid may have been given to another process while we looked: the same init
 * before and after was there all the time. */
static gboolean
open_namespaces(Hot *self, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(self->conf);
    pid_t init = agent_container_init_pid(ctid);
    pid_t monitor = init > 0 ? parent_of(init) : 0;

    if (monitor > 1) {
        self->monitor = namespace_of(monitor, "mnt");
        self->mounts = namespace_of(init, "mnt");
        self->user = agent_guestconf_is_unprivileged(self->conf)
                         ? namespace_of(init, "user")
                         : -1;
    }
    if (self->monitor < 0 || self->mounts < 0 ||
        (agent_guestconf_is_unprivileged(self->conf) && self->user < 0) ||
        agent_container_init_pid(ctid) != init || parent_of(init) != monitor) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "%s: cannot enter the container", self->mount->key);
        return FALSE;
    }
    return TRUE;
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
    return open_namespaces(self, error);
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
    if (setns(self->monitor, CLONE_NEWNS) < 0) {
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
    if (setns(self->monitor, CLONE_NEWNS) < 0 ||
        (umount2(self->staged, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)) {
        return failed(self, "cannot unmount the staged copy", error);
    }
    (void)rmdir(self->staged);
    return TRUE;
}

/* --- inside --- */

/* Root of the container: what is made inside belongs to it, and it can do no
 * more than that root could. */
static gboolean
become_root(const Hot *self)
{
    return self->user < 0 ||
           (setns(self->user, CLONE_NEWUSER) == 0 && setgroups(0, NULL) == 0 &&
            setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
}

static gboolean
attach(gpointer data, char **result, GError **error)
{
    const Hot *self = data;
    PVE_AUTOFD(clone) = -1;
    PVE_AUTOFD(root) = -1;
    PVE_AUTOFD(place) = -1;

    (void)result;
    if (setns(self->monitor, CLONE_NEWNS) < 0 || !become_root(self) ||
        unshare(CLONE_NEWNS) < 0) {
        return failed(self, "cannot enter the container", error);
    }
    clone =
        open_tree(AT_FDCWD, self->staged, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (clone < 0) {
        return failed(self, "cannot clone the staged mount", error);
    }
    if (setns(self->mounts, CLONE_NEWNS) < 0) {
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
    if (setns(self->mounts, CLONE_NEWNS) < 0) {
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
    g_auto(Hot) self = {.monitor = -1, .mounts = -1, .user = -1};

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
    g_auto(Hot) self = {.monitor = -1, .mounts = -1, .user = -1};

    return hot_open(&self, conf, key, error) &&
           agent_child_call(detach, &self, NULL, error) &&
           agent_child_call(unstage, &self, NULL, error);
}
