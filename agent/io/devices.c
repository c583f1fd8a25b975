#include "config.h"

#include "agent/io/devices.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/lxcconf.h"
#include "agent/io/ops.h"
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

gboolean
agent_devices_make(const AgentGuestConf *conf, GError **error)
{
    g_autofree char *directory =
        agent_lxcconf_passthrough(agent_guestconf_ctid(conf));
    g_autoptr(GPtrArray) devices = agent_guestconf_devices(conf, error);

    if (devices == NULL || devices->len == 0) {
        return devices != NULL;
    }
    if (!pve_mkdir_parents(directory, 0755, error)) {
        return FALSE;
    }
    if (mount("none", directory, "tmpfs", MS_NOSUID | MS_NOEXEC,
              "size=8k,mode=755") < 0) {
        return pve_errno_error(error, "mount", directory);
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
