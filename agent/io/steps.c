#include "config.h"

#include "agent/io/steps.h"

#include "agent/core/guestconf.h"
#include "agent/core/plan.h"
#include "agent/io/allocate.h"
#include "agent/io/holds.h"
#include "agent/io/migrate.h"
#include "agent/io/nodeinfo.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SHUTDOWN_TIMEOUT_S 60

typedef struct {
    guint32 ctid;
    const char *digest; /* of the settled file, nullable */
} Step;

typedef struct {
    AgentVerb verb;
    gboolean (*run)(const Step *step, GError **error);
} Row;

static gboolean
changed(GError **error, const char *what)
{
    g_set_error_literal(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_CHANGED,
                        what);
    return FALSE;
}

/* --- looking --- */

/* A view of a quorate tree whose file, if the plan knew one, is still the
 * settled one. */
static AgentHoldView *
look(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(step->ctid, error);
    g_autofree char *digest = NULL;

    if (view == NULL) {
        return NULL;
    }
    if (!view->quorate) {
        changed(error, "no quorum");
        return NULL;
    }
    if (step->digest != NULL && view->conf != NULL) {
        digest = g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, view->conf);
        if (strcmp(digest, step->digest) != 0) {
            changed(error, "its file changed meanwhile");
            return NULL;
        }
    }
    return g_steal_pointer(&view);
}

static gboolean
owned_here(const AgentHoldView *view)
{
    return view->n_files == 1 && strcmp(view->owner, agent_holds_node()) == 0;
}

static AgentHoldView *
look_for_ours(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);

    if (view == NULL) {
        return NULL;
    }
    if (!owned_here(view) || view->own == NULL || view->n_other > 0) {
        changed(error, "its file and its only record are not both here");
        return NULL;
    }
    return g_steal_pointer(&view);
}

static AgentGuestConf *
conf_of(const AgentHoldView *view, guint32 ctid)
{
    return agent_guestconf_parse(ctid, g_bytes_get_data(view->conf, NULL),
                                 g_bytes_get_size(view->conf), NULL);
}

/* --- records --- */

static AgentHoldRec *
new_record(const AgentHoldView *view, guint32 ctid, GError **error)
{
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_autoptr(AgentGuestConf) conf = conf_of(view, ctid);
    g_auto(GStrv) volumes = agent_guestconf_volumes(conf);
    AgentHoldRec *record;

    if (boot_id == NULL) {
        return NULL;
    }
    record = agent_holdrec_new(boot_id);
    agent_holdrec_set_volumes(record, (const char *const *)volumes);
    return record;
}

/* After a claim has been synced: a file elsewhere or a second record means
 * withdraw. */
static gboolean
look_after_claim(const Step *step, gboolean withdraw, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(step->ctid, error);

    if (view == NULL) {
        return FALSE;
    }
    if (view->n_other == 0 && owned_here(view) && view->quorate) {
        return TRUE;
    }
    if (withdraw && !agent_holds_remove(step->ctid, error)) {
        return FALSE;
    }
    return changed(error, "another node claimed it at the same time");
}

static gboolean
run_claim(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);
    g_autoptr(AgentHoldRec) record = NULL;

    if (view == NULL) {
        return FALSE;
    }
    if (!owned_here(view) || view->own_present || view->n_other > 0 ||
        !agent_ops_is_running(step->ctid)) {
        return changed(error, "it is not ours to claim any more");
    }
    record = new_record(view, step->ctid, error);
    if (record == NULL) {
        return FALSE;
    }
    record->ran = TRUE;
    return agent_holds_store(step->ctid, record, TRUE, error) &&
           look_after_claim(step, FALSE, error);
}

/* Every node of the nodelist must say that it runs nothing of it. */
static gboolean
ask_everybody(guint32 ctid, GError **error)
{
    g_autoptr(GPtrArray) members = agent_nodeinfo_members(error);

    if (members == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < members->len; i++) {
        const AgentMember *member = g_ptr_array_index(members, i);
        AgentAnswer answer = {0};

        if (strcmp(member->name, agent_holds_node()) == 0) {
            continue;
        }
        if (!agent_peer_query(member->name, ctid, &answer, error)) {
            g_prefix_error(error, "no record says who holds it, and not every "
                                  "node can be asked: ");
            return FALSE;
        }
        if (answer.running || answer.busy || answer.record) {
            g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_HELD,
                        "node %s %s", member->name,
                        answer.running ? "runs it"
                        : answer.busy  ? "is working on it"
                                       : "has a record of it");
            return FALSE;
        }
    }
    return TRUE;
}

/* Without a record the volumes say which node is the right one. */
static gboolean
check_volumes_here(const AgentHoldRec *record, GError **error)
{
    for (char **id = record->volumes; *id != NULL; id++) {
        g_autoptr(AgentPlace) place = agent_place_find(*id, error);

        if (place == NULL) {
            return FALSE;
        }
        if (!place->shared && place->path != NULL &&
            access(place->path, F_OK) < 0) {
            g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_UNKNOWN,
                        "volume '%s' is not on this node, and no record says "
                        "who holds it: move the file to the node that has the "
                        "volume",
                        *id);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
run_adopt(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);
    g_autoptr(AgentHoldRec) record = NULL;

    if (view == NULL) {
        return FALSE;
    }
    if (!owned_here(view) || view->n_other > 0 ||
        (view->own_present && (view->own == NULL || !view->own->adopting))) {
        return changed(error, "it is not ours to adopt any more");
    }
    record = new_record(view, step->ctid, error);
    if (record == NULL || !check_volumes_here(record, error) ||
        !ask_everybody(step->ctid, error)) {
        return FALSE;
    }
    record->adopting = TRUE;
    if (!agent_holds_store(step->ctid, record, !view->own_present, error) ||
        !look_after_claim(step, TRUE, error)) {
        return FALSE;
    }
    record->adopting = FALSE;
    if (!agent_holds_store(step->ctid, record, FALSE, error)) {
        return FALSE;
    }
    g_message("container %u: adopted", step->ctid);
    return TRUE;
}

static gboolean
run_withdraw(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);

    if (view == NULL) {
        return FALSE;
    }
    if (view->own == NULL || !view->own->adopting ||
        agent_ops_is_running(step->ctid) ||
        (view->n_other == 0 && owned_here(view))) {
        return changed(error, "nothing to withdraw any more");
    }
    return agent_holds_remove(step->ctid, error);
}

/* What the file names is no longer being made. */
static void
forget_made(AgentHoldRec *own, char **volumes)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);

    for (char **id = own->making; id != NULL && *id != NULL; id++) {
        if (!g_strv_contains((const char *const *)volumes, *id)) {
            g_ptr_array_add(left, g_strdup(*id));
        }
    }
    g_ptr_array_add(left, NULL);
    agent_holdrec_set_making(own, (const char *const *)left->pdata);
}

static gboolean
record_now(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_ours(step, error);
    g_autoptr(AgentGuestConf) conf = NULL;
    g_auto(GStrv) volumes = NULL;
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    gboolean running = agent_ops_is_running(step->ctid);
    AgentHoldRec *own;

    if (view == NULL || boot_id == NULL) {
        return FALSE;
    }
    own = view->own;
    before = agent_holdrec_serialize(own);
    conf = conf_of(view, step->ctid);
    volumes = agent_guestconf_volumes(conf);
    agent_holdrec_set_volumes(own, (const char *const *)volumes);
    forget_made(own, volumes);
    if (running || strcmp(own->boot_id, boot_id) == 0) {
        own->ran = running;
    }
    if (running) {
        g_free(own->boot_id);
        own->boot_id = g_steal_pointer(&boot_id);
        g_clear_pointer(&own->transfer, g_free);
        g_clear_pointer(&own->from, g_free);
        own->adopting = FALSE;
    }
    own->resume = FALSE;
    g_clear_pointer(&own->request, g_free);
    after = agent_holdrec_serialize(own);
    return strcmp(before, after) == 0 ||
           agent_holds_store(step->ctid, own, FALSE, error);
}

gboolean
agent_step_record(guint32 ctid, GError **error)
{
    const Step step = {.ctid = ctid};

    return record_now(&step, error);
}

/* --- what runs --- */

static gboolean
run_start(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_ours(step, error);
    g_autoptr(GError) local = NULL;
    g_autofree char *digest = NULL;

    if (view == NULL || !agent_migrate_accept(step->ctid, error)) {
        return FALSE;
    }
    if (!agent_ops_start(step->ctid, &local) &&
        !g_error_matches(local, AGENT_OPS_ERROR, AGENT_OPS_ERROR_RUNNING)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (local == NULL) {
        g_message("container %u: started", step->ctid);
    }
    digest = g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, view->conf);
    return agent_holds_update(step->ctid, NULL, digest, 1, error) &&
           agent_step_record(step->ctid, error);
}

static gboolean
shut_down(guint32 ctid, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!agent_ops_shutdown(ctid, SHUTDOWN_TIMEOUT_S, TRUE, &local) &&
        !g_error_matches(local, AGENT_OPS_ERROR, AGENT_OPS_ERROR_NOT_RUNNING)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (local == NULL) {
        g_message("container %u: stopped", ctid);
    }
    return TRUE;
}

static gboolean
run_shutdown(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_ours(step, error);

    return view != NULL && shut_down(step->ctid, error) &&
           agent_holds_update(step->ctid, NULL, NULL, 0, error);
}

/* "Running without an own record: ... otherwise kill at once." */
static gboolean
run_kill(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);

    if (view == NULL) {
        return FALSE;
    }
    if (view->own_present ||
        (view->n_other == 0 && (view->n_files == 0 || owned_here(view)))) {
        return changed(error, "it may run here after all");
    }
    return agent_ops_stop(step->ctid, error);
}

/* A deletion, seen and waited for: a barrier, and a last look. */
static gboolean
run_retire(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = NULL;

    if (!agent_holds_barrier(error)) {
        return FALSE;
    }
    view = look(step, error);
    if (view == NULL) {
        return FALSE;
    }
    if (view->n_files > 0) {
        return changed(error, "its file is back");
    }
    g_message("container %u: its file was deleted; it is stopped, its volumes "
              "stay",
              step->ctid);
    return shut_down(step->ctid, error) &&
           (view->own == NULL ||
            agent_holds_update(step->ctid, NULL, NULL, 0, error));
}

static gboolean
run_strand(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);
    g_autoptr(AgentGuestConf) conf = NULL;
    g_auto(GStrv) volumes = NULL;

    if (view == NULL) {
        return FALSE;
    }
    if (view->n_files != 1 || owned_here(view) || view->own == NULL) {
        return changed(error, "its file is not elsewhere any more");
    }
    conf = conf_of(view, step->ctid);
    volumes = agent_guestconf_volumes(conf);
    if (agent_holdrec_has_volumes(view->own, (const char *const *)volumes)) {
        return changed(error, "its volumes match after all");
    }
    return shut_down(step->ctid, error) &&
           agent_holds_update(step->ctid, NULL, NULL, 0, error);
}

/* --- the rest is elsewhere --- */

static gboolean
run_materialize(const Step *step, GError **error)
{
    return agent_allocate_finish(step->ctid, error);
}

static gboolean
run_offer(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);

    return view != NULL && agent_migrate_offer(step->ctid, error);
}

static gboolean
run_drop_offer(const Step *step, GError **error)
{
    return agent_migrate_drop_offer(step->ctid, error);
}

static gboolean
run_migrate_out(const Step *step, GError **error)
{
    g_autoptr(AgentHoldView) view = look(step, error);

    return view != NULL && agent_migrate_out(step->ctid, error);
}

static gboolean
run_accept(const Step *step, GError **error)
{
    return agent_migrate_accept(step->ctid, error);
}

static gboolean
run_clean(const Step *step, GError **error)
{
    return agent_migrate_clean(step->ctid, error);
}

static const Row rows[] = {
    {AGENT_VERB_CLAIM, run_claim},
    {AGENT_VERB_ADOPT, run_adopt},
    {AGENT_VERB_WITHDRAW, run_withdraw},
    {AGENT_VERB_RECORD, record_now},
    {AGENT_VERB_MATERIALIZE, run_materialize},
    {AGENT_VERB_START, run_start},
    {AGENT_VERB_SHUTDOWN, run_shutdown},
    {AGENT_VERB_KILL, run_kill},
    {AGENT_VERB_RETIRE, run_retire},
    {AGENT_VERB_STRAND, run_strand},
    {AGENT_VERB_OFFER, run_offer},
    {AGENT_VERB_DROP_OFFER, run_drop_offer},
    {AGENT_VERB_MIGRATE_OUT, run_migrate_out},
    {AGENT_VERB_ACCEPT, run_accept},
    {AGENT_VERB_CLEAN, run_clean},
};

/* --- the process --- */

int
agent_step_lock(guint32 ctid, GError **error)
{
    g_autofree char *path =
        g_strdup_printf(PVE_AGENT_RUN_DIR "/step-%u.lock", ctid);
    PVE_AUTOFD(fd) = -1;

    if (!pve_mkdir_parents(PVE_AGENT_RUN_DIR, 0755, error)) {
        return -1;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        pve_errno_error(error, "lock", path);
        return -1;
    }
    return pve_steal_fd(&fd);
}

static gboolean
is_transient(const GError *error)
{
    return g_error_matches(error, AGENT_HOLDS_ERROR,
                           AGENT_HOLDS_ERROR_CHANGED) ||
           g_error_matches(error, AGENT_MIGRATE_ERROR,
                           AGENT_MIGRATE_ERROR_CHANGED) ||
           g_error_matches(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_BUSY);
}

/* The daemon reads the reason when we are gone; started by hand we print it. */
static int
finish(gboolean ok, const GError *error)
{
    if (ok) {
        return AGENT_STEP_DONE;
    }
    if (fcntl(AGENT_STEP_REASON_FD, F_GETFD) < 0 ||
        !pve_write_all(AGENT_STEP_REASON_FD, error->message,
                       MIN(strlen(error->message), AGENT_STEP_REASON_MAX))) {
        fprintf(stderr, "%s\n", error->message);
    }
    return is_transient(error) ? AGENT_STEP_BUSY : AGENT_STEP_FAILED;
}

static int
run_row(AgentVerb verb, const Step *step)
{
    g_autoptr(GError) error = NULL;
    PVE_AUTOFD(lock) = agent_step_lock(step->ctid, &error);
    gboolean ok = FALSE;

    if (lock < 0) {
        return AGENT_STEP_BUSY;
    }
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].verb == verb) {
            ok = rows[i].run(step, &error);
        }
    }
    return finish(ok, error);
}

int
agent_step_main(int argc, char **argv)
{
    AgentVerb verb = argc >= 2 ? agent_verb_parse(argv[0]) : AGENT_VERB_NONE;
    const char *more = argc >= 3 && *argv[2] != '\0' ? argv[2] : NULL;
    g_autoptr(GError) error = NULL;
    Step step = {.digest = more};

    /* What the children of a step start must not keep its reason open. */
    if (fcntl(AGENT_STEP_REASON_FD, F_GETFD) >= 0) {
        (void)fcntl(AGENT_STEP_REASON_FD, F_SETFD, FD_CLOEXEC);
    }
    if (verb == AGENT_VERB_ALLOCATE) {
        gboolean ok = agent_allocate(argv[1], more != NULL ? more : "", &error);

        return finish(ok, error);
    }
    step.ctid = argc >= 2 ? pve_ctid_parse(argv[1]) : 0;
    if (verb == AGENT_VERB_NONE || step.ctid == 0) {
        fprintf(stderr, "usage: pve-lxc-agent step VERB CTID\n");
        return AGENT_STEP_FAILED;
    }
    return run_row(verb, &step);
}

int
agent_step_query(guint32 ctid)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, &error);
    PVE_AUTOFD(lock) = -1;

    if (view == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return AGENT_STEP_FAILED;
    }
    lock = agent_step_lock(ctid, NULL);
    printf("running: %d\nbusy: %d\nrecord: %d\n",
           agent_ops_is_running(ctid) ? 1 : 0, lock < 0 ? 1 : 0,
           view->own_present ? 1 : 0);
    return fflush(stdout) == 0 ? AGENT_STEP_DONE : AGENT_STEP_FAILED;
}
