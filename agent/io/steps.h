/* steps.h - one step of a plan, in a process of its own.
 *
 * The daemon runs itself as `pve-lxc-agent step VERB CTID [DIGEST]` and
 * `pve-lxc-agent step allocate FILE [NOT-FREE]`. A step trusts nothing it was
 * not told: it looks at the tree again, and does nothing if the world is no
 * longer what the plan was made for. One step per container at a time, by
 * flock(2); a step of a daemon that died holds it until it is done.
 *
 * Owner   -
 * Errors  GError inside; outside an exit status and a reason.
 * Thread  the child's only one.
 * Source  DESIGN.md 3.
 */
#ifndef AGENT_STEPS_H
#define AGENT_STEPS_H

#include <glib.h>

/* Exit statuses. */
enum {
    AGENT_STEP_DONE = 0,
    AGENT_STEP_FAILED = 1,
    AGENT_STEP_BUSY = 75, /* EX_TEMPFAIL: somebody is at it; ask later */
};

/* The child writes its reason to this descriptor. */
#define AGENT_STEP_REASON_FD 3
#define AGENT_STEP_REASON_MAX 4096

/* Runs `VERB ARGUMENT [MORE]`. Returns: the exit status. */
int agent_step_main(int argc, char **argv);
/* `query CTID`: prints what this node knows. Returns: the exit status. */
int agent_step_query(guint32 ctid);

/* The container's step lock, without waiting. Returns: (owned) a descriptor,
 * or -1 with @error set. It closes on exec. */
int agent_step_lock(guint32 ctid, GError **error);
/* Brings our record up to date with the file and with what runs. */
gboolean agent_step_record(guint32 ctid, GError **error);

#endif
