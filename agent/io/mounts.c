#include "config.h"

#include "agent/io/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/ops.h"
#include "agent/io/safepath.h"
#include "agent/io/volumes.h"
#include "common/files.h"
#include "common/paths.h"

enum { LOOP_TRIES = 64, MAX_UMOUNTS = 64 };

/* What stays the same for all mount points of one container. */
typedef struct {
    const AgentStorageCfg *cfg;
    char *rootfs;
    int root; /* O_PATH of the mounted root file system; -1 before */
    guint32 uid, gid;
} Target;

char *
agent_mounts_rootfs(guint32 ctid)
{
    return g_strdup_printf(PVE_LXC_DIR "/%u/rootfs", ctid);
}

gboolean
agent_mounts_unshare(GError **error)
{
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_SLAVE, NULL) < 0) {
        return pve_errno_error(error, "create", "a mount namespace");
    }
    return TRUE;
}

static gboolean
failed(GError **error, const AgentMount *mount, const char *what)
{
    int saved = errno;

    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED, "%s: %s: %s",
                mount->key, what, g_strerror(saved));
    return FALSE;
}

static gboolean
has_option(const AgentMount *mount, const char *name)
{
    g_auto(GStrv) options = g_strsplit(
        mount->mountoptions != NULL ? mount->mountoptions : "", ";", -1);

    return g_strv_contains((const char *const *)options, name);
}

/* --- file systems on block devices --- */

/* The kernel must not probe what a guest may have written: the type is one of
 * three, by its own mark. */
static const char *
filesystem_of(int fd)
{
    static const struct {
        const char *type;
        off_t offset;
        const char *mark;
    } known[] = {
        {"ext4", 0x438, "\x53\xef"},
        {"xfs", 0, "XFSB"},
        {"btrfs", 0x10040, "_BHRfS_M"},
    };
    char bytes[8];

    for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
        size_t n = strlen(known[i].mark);

        if (pread(fd, bytes, n, known[i].offset) == (ssize_t)n &&
            memcmp(bytes, known[i].mark, n) == 0) {
            return known[i].type;
        }
    }
    return NULL;
}

/* Returns a descriptor of the loop device, which keeps it attached. */
static int
attach_loop(int file, gboolean is_ro, char **device)
{
    struct loop_config config = {
        .fd = (guint32)file,
        .info = {.lo_flags =
                     LO_FLAGS_AUTOCLEAR | (is_ro ? LO_FLAGS_READ_ONLY : 0)}};
    PVE_AUTOFD(control) = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    for (guint i = 0; control >= 0 && i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        g_autofree char *path = g_strdup_printf("/dev/loop%d", number);
        PVE_AUTOFD(fd) =
            number >= 0 ? open(path, (is_ro ? O_RDONLY : O_RDWR) | O_CLOEXEC)
                        : -1;

        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            *device = g_steal_pointer(&path);
            return pve_steal_fd(&fd);
        }
        if (number < 0 || (fd < 0 && errno != ENXIO) ||
            (fd >= 0 && errno != EBUSY)) {
            return -1;
        }
    }
    return -1;
}

static gboolean
configure(int context, const AgentMount *mount, const char *device)
{
    static const char *const flags[] = {"discard", "lazytime", NULL};

    if (fsconfig(context, FSCONFIG_SET_STRING, "source", device, 0) < 0) {
        return FALSE;
    }
    if (mount->ro && fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) {
        return FALSE;
    }
    for (guint i = 0; !mount->ro && flags[i] != NULL; i++) {
        if (has_option(mount, flags[i]) &&
            fsconfig(context, FSCONFIG_SET_FLAG, flags[i], NULL, 0) < 0) {
            return FALSE;
        }
    }
    if (mount->acl == 1 &&
        fsconfig(context, FSCONFIG_SET_FLAG, "acl", NULL, 0) < 0) {
        return FALSE;
    }
    return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
}

/* Returns a detached mount of @device, or -1. */
static int
mount_device(const AgentMount *mount, const char *device, GError **error)
{
    PVE_AUTOFD(block) = open(device, O_RDONLY | O_CLOEXEC);
    PVE_AUTOFD(context) = -1;
    const char *type = block >= 0 ? filesystem_of(block) : NULL;
    int fd;

    if (block < 0) {
        failed(error, mount, device);
        return -1;
    }
    if (type == NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "%s: no ext4, xfs or btrfs file system on '%s'", mount->key,
                    mount->volume);
        return -1;
    }
    context = fsopen(type, FSOPEN_CLOEXEC);
    if (context < 0 || !configure(context, mount, device)) {
        failed(error, mount, "cannot mount");
        return -1;
    }
    fd = fsmount(context, FSMOUNT_CLOEXEC, 0);
    if (fd < 0) {
        failed(error, mount, "cannot mount");
    }
    return fd;
}

static int
mount_raw(const AgentMount *mount, const char *path, GError **error)
{
    PVE_AUTOFD(file) =
        open(path, (mount->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *device = NULL;
    int loop;

    if (file < 0) {
        failed(error, mount, path);
        return -1;
    }
    loop = attach_loop(file, mount->ro, &device);
    if (loop < 0) {
        failed(error, mount, "cannot attach a loop device");
        return -1;
    }
    /* Not closed on purpose: see the header. */
    return mount_device(mount, device, error);
}

/* --- directories --- */

/* Returns a detached copy of the mount at directory @source, or -1. */
static int
clone_directory(const AgentMount *mount, int source, GError **error)
{
    int fd = open_tree(source, "",
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (fd < 0) {
        failed(error, mount, "cannot bind");
    }
    return fd;
}

static int
mount_volume(const AgentStorageCfg *cfg,
             const AgentMount *mount,
             GError **error)
{
    g_autofree char *path = agent_volumes_path(cfg, mount->volume, error);
    PVE_AUTOFD(source) = -1;

    if (path == NULL) {
        g_prefix_error(error, "%s: ", mount->key);
        return -1;
    }
    if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return mount_raw(mount, path, error);
    }
    source = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (source < 0) {
        failed(error, mount, path);
        return -1;
    }
    return clone_directory(mount, source, error);
}

static int
mount_bind(const AgentMount *mount, GError **error)
{
    PVE_AUTOFD(source) = agent_safe_open_host(mount->volume, error);

    if (source < 0) {
        g_prefix_error(error, "%s: ", mount->key);
        return -1;
    }
    return clone_directory(mount, source, error);
}

/* --- putting it in place --- */

/* Flags of the mount itself. Root's ro comes last, when all targets below it
 * are there. */
static gboolean
set_attributes(const AgentMount *mount, int fd, gboolean with_ro)
{
    struct mount_attr attr = {0};

    attr.attr_set = (has_option(mount, "nodev") ? MOUNT_ATTR_NODEV : 0) |
                    (has_option(mount, "noexec") ? MOUNT_ATTR_NOEXEC : 0) |
                    (has_option(mount, "nosuid") ? MOUNT_ATTR_NOSUID : 0) |
                    (with_ro && mount->ro ? MOUNT_ATTR_RDONLY : 0);
    if (!mount->ro && has_option(mount, "noatime")) {
        attr.attr_set |= MOUNT_ATTR_NOATIME;
        attr.attr_clr |= MOUNT_ATTR__ATIME;
    }
    return (attr.attr_set == 0 && attr.attr_clr == 0) ||
           mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0;
}

static gboolean
place_root(Target *target, const AgentMount *mount, int fd, GError **error)
{
    if (move_mount(fd, "", AT_FDCWD, target->rootfs, MOVE_MOUNT_F_EMPTY_PATH) <
        0) {
        return failed(error, mount, "failed to move into place");
    }
    target->root =
        open(target->rootfs, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return target->root >= 0 || failed(error, mount, "cannot open");
}

/* The mounted directory takes owner and mode of the one it hides. */
gboolean
agent_mounts_keep_attributes(int from, int to)
{
    struct stat st;

    if (fstat(from, &st) < 0) {
        return FALSE;
    }
    return fchownat(to, "", st.st_uid, st.st_gid, AT_EMPTY_PATH) == 0 &&
           fchmodat(to, ".", st.st_mode & 07777, 0) == 0;
}

static gboolean
place_below(const Target *target,
            const AgentMount *mount,
            int fd,
            GError **error)
{
    PVE_AUTOFD(place) = agent_safe_make_directory(
        target->root, mount->mp, target->uid, target->gid, error);

    if (place < 0) {
        g_prefix_error(error, "%s: ", mount->key);
        return FALSE;
    }
    if (mount->keepattrs && !agent_mounts_keep_attributes(place, fd)) {
        return failed(error, mount, "cannot keep owner and mode");
    }
    if (move_mount(fd, "", place, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return failed(error, mount, "failed to move into container hierarchy");
    }
    return TRUE;
}

static gboolean
check_supported(const AgentMount *mount,
                gboolean is_unprivileged,
                GError **error)
{
    const char *problem = NULL;

    if (mount->quota && is_unprivileged) {
        problem = "Quotas are not supported by unprivileged containers.";
    } else if (mount->quota) {
        problem = "'quota' is not supported";
    } else if (mount->idmap != NULL) {
        problem = "'idmap' is not supported";
    } else if (mount->kind == AGENT_MOUNT_REQUEST) {
        problem = "the volume has not been made yet";
    }
    if (problem != NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED, "%s: %s",
                    mount->key, problem);
        return FALSE;
    }
    return TRUE;
}

/* Returns a detached mount with its options, or -1. */
static int
open_mount(const AgentStorageCfg *cfg,
           const AgentMount *mount,
           gboolean with_ro,
           GError **error)
{
    PVE_AUTOFD(fd) = -1;

    switch (mount->kind) {
    case AGENT_MOUNT_VOLUME:
        fd = mount_volume(cfg, mount, error);
        break;
    case AGENT_MOUNT_DEVICE:
        fd = mount_device(mount, mount->volume, error);
        break;
    default:
        fd = mount_bind(mount, error);
        break;
    }
    if (fd >= 0 && !set_attributes(mount, fd, with_ro)) {
        failed(error, mount, "cannot set mount options");
        return -1;
    }
    return pve_steal_fd(&fd);
}

int
agent_mounts_open(const AgentGuestConf *conf,
                  const AgentMount *mount,
                  const AgentStorageCfg *cfg,
                  GError **error)
{
    return check_supported(mount, agent_guestconf_is_unprivileged(conf), error)
               ? open_mount(cfg, mount, TRUE, error)
               : -1;
}

static gboolean
attach_one(Target *target, const AgentMount *mount, GError **error)
{
    gboolean is_root = strcmp(mount->key, "rootfs") == 0;
    PVE_AUTOFD(fd) = open_mount(target->cfg, mount, !is_root, error);

    if (fd < 0) {
        return FALSE;
    }
    return is_root ? place_root(target, mount, fd, error)
                   : place_below(target, mount, fd, error);
}

static guint
depth_of(const AgentMount *mount)
{
    guint depth = 0;

    for (const char *p = mount->mp; *p != '\0'; p++) {
        depth += *p != '/' && (p == mount->mp || p[-1] == '/');
    }
    return depth;
}

static gint
by_depth(gconstpointer a, gconstpointer b)
{
    const AgentMount *x = *(const AgentMount *const *)a;
    const AgentMount *y = *(const AgentMount *const *)b;
    guint dx = depth_of(x), dy = depth_of(y);

    if (dx != dy) {
        return dx < dy ? -1 : 1;
    }
    return (gint)strlen(x->key) != (gint)strlen(y->key)
               ? (gint)strlen(x->key) - (gint)strlen(y->key)
               : strcmp(x->key, y->key);
}

static gboolean
attach_all(Target *target, const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, error);
    gboolean is_unprivileged = agent_guestconf_is_unprivileged(conf);
    const AgentMount *root;

    if (mounts == NULL) {
        return FALSE;
    }
    if (mounts->len == 0 ||
        strcmp(((AgentMount *)mounts->pdata[0])->key, "rootfs") != 0) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "missing 'rootfs' configuration");
        return FALSE;
    }
    root = mounts->pdata[0];
    g_ptr_array_sort(mounts, by_depth);
    for (guint i = 0; i < mounts->len; i++) {
        if (!check_supported(mounts->pdata[i], is_unprivileged, error) ||
            !attach_one(target, mounts->pdata[i], error)) {
            return FALSE;
        }
    }
    if (!set_attributes(root, target->root, TRUE)) {
        return failed(error, root, "cannot set mount options");
    }
    return TRUE;
}

gboolean
agent_mounts_attach(const AgentGuestConf *conf,
                    const AgentStorageCfg *cfg,
                    GError **error)
{
    Target target = {.cfg = cfg,
                     .rootfs = agent_mounts_rootfs(agent_guestconf_ctid(conf)),
                     .root = -1};
    gboolean fine;

    agent_guestconf_root_ids(conf, &target.uid, &target.gid);
    fine = pve_mkdir_parents(target.rootfs, 0755, error);
    /* What an earlier `pct mount` left there, as far as this namespace sees. */
    for (guint i = 0; i < MAX_UMOUNTS; i++) {
        if (umount2(target.rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
            break;
        }
    }
    fine = fine && attach_all(&target, conf, error);
    if (target.root >= 0) {
        (void)close(target.root);
    }
    g_free(target.rootfs);
    return fine;
}
