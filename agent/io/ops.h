/* ops.h - what can be done to a container of this node.
 *
 * For pct, and for child processes of the daemon: everything here blocks,
 * some of it for minutes, and forks. Each operation takes the node-local
 * mutex /run/lock/lxc/pve-config-CTID.lock where the spec says so, checks
 * quorum and `lock:`, and asks the hold records (holds.h).
 *
 * Owner   the caller.
 * Units   seconds where the name says so.
 * Errors  GError in AGENT_OPS_ERROR or G_FILE_ERROR; one line for people,
 *         with the texts of spec/pct.md.
 * Thread  one; the process must not have others (fork, umask).
 * Source  spec/container-runtime.md 4 and 8, spec/pct.md 3.
 */
#ifndef AGENT_OPS_H
#define AGENT_OPS_H

#include "agent/core/guestchange.h"
#include "agent/core/storagecfg.h"

#include <glib.h>

#define AGENT_OPS_ERROR (agent_ops_error_quark())
GQuark agent_ops_error_quark(void);

typedef enum {
    AGENT_OPS_ERROR_FAILED,
    AGENT_OPS_ERROR_MISSING,     /* no such configuration on this node */
    AGENT_OPS_ERROR_QUORUM,      /* cluster not ready */
    AGENT_OPS_ERROR_LOCKED,      /* `lock:` in the file */
    AGENT_OPS_ERROR_BUSY,        /* the config mutex was not to be had */
    AGENT_OPS_ERROR_BROKEN,      /* the file cannot be parsed */
    AGENT_OPS_ERROR_RUNNING,     /* already running */
    AGENT_OPS_ERROR_NOT_RUNNING, /* not running */
    AGENT_OPS_ERROR_EXISTS,      /* the CTID is taken */
    AGENT_OPS_ERROR_TIMEOUT,     /* container did not stop */
} AgentOpsError;

/* Sets @error, code FAILED, from a format. Returns FALSE. */
gboolean agent_ops_fail(GError **error, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

/* What `pct create` makes. */
typedef struct {
    guint32 ctid;           /* 0: the lowest free one; set on return */
    AgentGuestConf *conf;   /* borrowed, options as checked */
    const char *ostemplate; /* volume id or host path */
    const char *storage;    /* for sizes without storage; "local" */
} AgentCreate;

/* Does the command socket of @ctid exist? */
gboolean agent_ops_is_running(guint32 ctid);
/* Returns: (owned) guint32 ids of all running containers, ascending. */
GArray *agent_ops_running(void);

/* Returns when it runs, or has failed with the real reason. A container that
 * runs already is an error with code RUNNING. */
gboolean agent_ops_start(guint32 ctid, GError **error);
/* Both return TRUE when everything of the run is gone: monitor, mounts, veth.
 * Stop kills. Shutdown asks and waits @timeout_s; then it kills when @force,
 * else fails with TIMEOUT. */
gboolean agent_ops_stop(guint32 ctid, GError **error);
gboolean agent_ops_shutdown(guint32 ctid,
                            guint timeout_s,
                            gboolean force,
                            GError **error);
gboolean agent_ops_create(AgentCreate *what, GError **error);
/* The file of @ctid lies on this node and asks for things to be made
 * (`ostemplate: VOLUME`, `rootfs: STORAGE:GiB`): makes them and writes what
 * came of it. Keeps `lock: create` until the very last write. On failure
 * everything made is freed and the file is as it was. Nothing to make: TRUE,
 * nothing is touched. */
gboolean agent_ops_materialize(guint32 ctid, GError **error);
/* Is there something to materialize? */
gboolean agent_ops_is_request(const AgentGuestConf *conf);
/* One `pct set`: all of @change, or nothing. @digest, nullable: of the file as
 * the caller knew it. Values are brought into stored form first. What cannot be
 * done to a running container is pending after. @warnings gets owned lines. */
gboolean agent_ops_set(guint32 ctid,
                       AgentGuestChange *change,
                       const char *digest,
                       GPtrArray *warnings,
                       GError **error);
/* Frees the volumes that an interrupted operation on @conf's container noted in
 * its record, and that the file does not name. The notes stay. */
gboolean agent_ops_free_noted(const AgentGuestConf *conf,
                              const AgentStorageCfg *cfg,
                              GError **error);
/* Removes whatever `lock:` stands in the file. A creation under way holds the
 * mutex: then this fails. */
gboolean agent_ops_unlock(guint32 ctid, GError **error);
/* Frees volumes, those of an aborted creation too, and removes the file. @force
 * stops it first. */
gboolean agent_ops_destroy(guint32 ctid, gboolean force, GError **error);

#endif
