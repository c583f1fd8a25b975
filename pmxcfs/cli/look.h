/* look.h - looks at this node without getting stuck in it.
 *
 * A dead daemon, a frozen corosync or a hanging disk lets whoever asks wait
 * without end; so what may wait is a child process with a deadline, which is
 * left behind when even SIGKILL does not end it.
 *
 * Owner   the caller.
 * Units   milliseconds.
 * Thread  the tool's only one.
 */
#ifndef CFS_LOOK_H
#define CFS_LOOK_H

#include "pmxcfs/core/diagnosis.h"

#include <glib.h>

/* What the daemon and the kernel say. */
typedef struct {
    CfsFacts *facts;
    char *members; /* JSON; NULL: not to be had */
    char *metrics; /* of Prometheus; NULL: as above, or another's daemon */
    char *cluster_name;
} CfsLook;

/* Looks at everything; seconds at worst. @deep: at the database as well. */
CfsLook *cfs_look(gboolean deep);
void cfs_look_free(CfsLook *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsLook, cfs_look_free)

/* FALSE: the line is not there. @name: with its labels. */
gboolean cfs_look_metric(const char *metrics, const char *name, double *value);

typedef enum { CFS_RUN_DONE, CFS_RUN_TIMEOUT, CFS_RUN_FAILED } CfsRun;

/* Runs @argv (looked for in PATH and where administration has its programs);
 * @output: (out) (owned) what it wrote, errors included; @status: its exit
 * status. */
CfsRun cfs_look_run(const char *const *argv,
                    guint timeout_ms,
                    char **output,
                    int *status);

#endif
