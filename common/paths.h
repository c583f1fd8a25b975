/* paths.h - each path once.
 *
 * These are contracts with clients and with Proxmox VE (spec/filesystem.md
 * 1.2, spec/container-runtime.md 1.1), hence constants and not options of
 * configure. Tests give each node its own mount namespace.
 */
#ifndef PVE_PATHS_H
#define PVE_PATHS_H

#define PVE_MOUNT_DIR "/etc/pve"

#define PVE_STATE_DIR "/var/lib/pve-cluster"
#define PVE_DATABASE PVE_STATE_DIR "/config.db"
/* What a merge overruled. */
#define PVE_RECOVERY_DIR PVE_STATE_DIR "/recovery"
#define PVE_LOCK_FILE PVE_STATE_DIR "/.pmxcfs.lockfile"
#define PVE_RUN_DIR "/run/pve-cluster"
#define PVE_RESTART_FLAG PVE_RUN_DIR "/cfs-restart-flag"
#define PVE_STATUS_KEYS PVE_RUN_DIR "/status-keys"
#define PVE_START_TIME PVE_RUN_DIR "/start-time"
#define PVE_LOCK_TIMERS PVE_RUN_DIR "/lock-timers"
#define PVE_PID_FILE "/run/pve-cluster.pid"
#define PVE_RRD_DIR "/var/lib/rrdcached/db"
#define PVE_RRDCACHED_SOCKET "/var/run/rrdcached.sock"
#define PVE_COROSYNC_DIR "/etc/corosync"
#define PVE_COROSYNC_CONF PVE_COROSYNC_DIR "/corosync.conf"

#define PVE_LXC_DIR "/var/lib/lxc"
#define PVE_LXC_LOCK_DIR "/run/lock/lxc"
#define PVE_CT_RUN_DIR "/run/pve"
#define PVE_LOCAL_STORAGE_DIR "/var/lib/vz"
#define PVE_AGENT_RUN_DIR "/run/pve-lxc-agent"
#define PVE_AGENT_PID_FILE "/run/pve-lxc-agent.pid"
#define PVE_BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

#endif
