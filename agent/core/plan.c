#include "config.h"

#include "agent/core/plan.h"

#include <string.h>

/* One row of the law. Returns TRUE when it decides; then @plan has the verb
 * and, perhaps, a report. */
typedef struct {
    const char *name;
    gboolean (*rule)(const AgentFacts *f, AgentPlan *plan);
} Rule;

static const char *const verb_names[] = {
    [AGENT_VERB_NONE] = "none",
    [AGENT_VERB_CLAIM] = "claim",
    [AGENT_VERB_ADOPT] = "adopt",
    [AGENT_VERB_WITHDRAW] = "withdraw",
    [AGENT_VERB_RECORD] = "record",
    [AGENT_VERB_MATERIALIZE] = "materialize",
    [AGENT_VERB_START] = "start",
    [AGENT_VERB_SHUTDOWN] = "shutdown",
    [AGENT_VERB_KILL] = "kill",
    [AGENT_VERB_RETIRE] = "retire",
    [AGENT_VERB_STRAND] = "strand",
    [AGENT_VERB_OFFER] = "offer",
    [AGENT_VERB_DROP_OFFER] = "drop-offer",
    [AGENT_VERB_MIGRATE_OUT] = "migrate-out",
    [AGENT_VERB_ACCEPT] = "accept",
    [AGENT_VERB_CLEAN] = "clean",
    [AGENT_VERB_ALLOCATE] = "allocate",
};

const char *
agent_verb_name(AgentVerb verb)
{
    return verb_names[verb];
}

AgentVerb
agent_verb_parse(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(verb_names); i++) {
        if (strcmp(verb_names[i], name) == 0) {
            return (AgentVerb)i;
        }
    }
    return AGENT_VERB_NONE;
}

void
agent_plan_clear(AgentPlan *self)
{
    g_clear_pointer(&self->report, g_free);
    self->verb = AGENT_VERB_NONE;
}

static gboolean G_GNUC_PRINTF(2, 3)
    report(AgentPlan *plan, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    plan->report = g_strdup_vprintf(format, args);
    va_end(args);
    return TRUE;
}

static gboolean
decide(AgentPlan *plan, AgentVerb verb)
{
    plan->verb = verb;
    return TRUE;
}

static const char *
online_text(gboolean online)
{
    return online ? "" : ", which is offline";
}

/* --- what stops everything --- */

/* "Without quorum nothing is started or stopped." */
static gboolean
rule_no_quorum(const AgentFacts *f, AgentPlan *plan)
{
    return !f->quorate;
}

/* Pictures are not atomic: a rename may show a file twice, or not at all. */
static gboolean
rule_unsteady(const AgentFacts *f, AgentPlan *plan)
{
    return !f->steady;
}

/* "Duplicates that a reference peer let in are survived and named." */
static gboolean
rule_two_files(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_MANY &&
           report(plan, "more than one node has a file of it: remove all but "
                        "the right one");
}

static gboolean
rule_own_record_broken(const AgentFacts *f, AgentPlan *plan)
{
    return f->own && f->own_problem != NULL &&
           report(plan,
                  "this node's hold record cannot be parsed (%s): correct or "
                  "remove it",
                  f->own_problem);
}

/* --- two records --- */

/* "A file elsewhere or a second record means withdraw: of two synced claims
 * the later sees the earlier." Only a claim by adoption gives way, and only
 * while nothing runs on it. */
static gboolean
rule_withdraw(const AgentFacts *f, AgentPlan *plan)
{
    return f->own && f->own_adopting && !f->running &&
           (f->n_other > 0 || f->owner == AGENT_OWNER_OTHER) &&
           decide(plan, AGENT_VERB_WITHDRAW);
}

/* "Activated only by the node that ... has its only record." */
static gboolean
rule_two_records(const AgentFacts *f, AgentPlan *plan)
{
    return f->own && f->n_other > 0 &&
           report(plan,
                  "both this node and %s have a hold record of it: remove the "
                  "record (and volumes) of the node that has the wrong data",
                  f->holder);
}

/* --- running without an own record --- */

/* "A file that is found missing ... makes its container an orphan: reported,
 * left running." With the records gone too, the tree itself is in doubt. */
static gboolean
rule_orphan_unknown(const AgentFacts *f, AgentPlan *plan)
{
    return f->running && !f->own && f->owner == AGENT_OWNER_NONE &&
           f->n_other == 0 &&
           report(plan, "it runs here, but no file and no record of it exist; "
                        "it is left running");
}

/* "Running without an own record: owner and no other record: claim again." */
static gboolean
rule_claim_again(const AgentFacts *f, AgentPlan *plan)
{
    if (!f->running || f->own || f->owner != AGENT_OWNER_SELF ||
        f->n_other > 0) {
        return FALSE;
    }
    return !f->settled || decide(plan, AGENT_VERB_CLAIM);
}

/* "Otherwise kill at once." */
static gboolean
rule_kill(const AgentFacts *f, AgentPlan *plan)
{
    return f->running && !f->own && decide(plan, AGENT_VERB_KILL) &&
           report(plan, "it runs here, but %s%s%s: killed",
                  f->n_other > 0 ? "is held by " : "its file lies on ",
                  f->n_other > 0 ? f->holder : f->owner_name,
                  f->n_other > 0 ? "" : " and no record is here");
}

/* --- what a handover leaves behind --- */

/* "Only after that sync does it delete its volumes"; and only when the new
 * holder has put its own in place, which its record says. Until then there are
 * two copies rather than none. */
static gboolean
rule_clean(const AgentFacts *f, AgentPlan *plan)
{
    return f->departed && !f->own && !f->running && f->n_other > 0 &&
           !f->other_transfer && decide(plan, AGENT_VERB_CLEAN);
}

/* The record came with another node's boot id, but the file has gone on: what
 * came is put in place all the same, and can travel again from here. */
static gboolean
rule_accept_anyway(const AgentFacts *f, AgentPlan *plan)
{
    return f->own && f->own_transfer && !f->own_boot && !f->running &&
           f->owner != AGENT_OWNER_SELF && decide(plan, AGENT_VERB_ACCEPT);
}

/* An offer is over when the record came, or the file went elsewhere. */
static gboolean
rule_drop_offer(const AgentFacts *f, AgentPlan *plan)
{
    return f->offer && !f->own_transfer &&
           (f->own || f->owner != AGENT_OWNER_SELF || f->n_other == 0) &&
           decide(plan, AGENT_VERB_DROP_OFFER);
}

/* --- no file --- */

/* "Only a deletion seen ... and confirmed after a barrier and 30 s, stops a
 * container; its volumes stay." */
static gboolean
rule_deleted(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_NONE && f->running &&
           f->deletion == AGENT_DELETION_CONFIRMED &&
           decide(plan, AGENT_VERB_RETIRE);
}

static gboolean
rule_deletion_seen(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_NONE && f->running &&
           f->deletion == AGENT_DELETION_SEEN &&
           report(plan, "its file was deleted; it is stopped in 30 s unless "
                        "the file comes back");
}

static gboolean
rule_orphan(const AgentFacts *f, AgentPlan *plan)
{
    if (f->owner != AGENT_OWNER_NONE) {
        return FALSE;
    }
    if (f->running) {
        return report(plan, "its file is missing; it is left running");
    }
    return !f->own || f->deletion != AGENT_DELETION_NONE ||
           report(plan, "its volumes and record are here, but its file is "
                        "missing");
}

/* --- the file must be one to act on --- */

static gboolean
rule_unsettled(const AgentFacts *f, AgentPlan *plan)
{
    return !f->settled;
}

/* "A file that cannot be parsed changes nothing." */
static gboolean
rule_broken(const AgentFacts *f, AgentPlan *plan)
{
    return f->broken != NULL &&
           report(plan, "its file cannot be used: %s", f->broken);
}

/* "The agent never acts under a lock:, on a template, or on what the HA
 * manager has." A request that was being made carries `lock: create` by our
 * own hand. */
static gboolean
rule_hands_off(const AgentFacts *f, AgentPlan *plan)
{
    if (f->hands == AGENT_HANDS_OFF_CREATE) {
        return !(f->owner == AGENT_OWNER_SELF && f->own && f->own_request);
    }
    return f->hands != AGENT_HANDS_ON;
}

/* --- the file lies elsewhere --- */

static gboolean
rule_not_concerned(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_OTHER && !f->own;
}

/* "Only a file whose volumes match the record is a migration; otherwise the
 * old container is stopped and kept as an orphan." */
static gboolean
rule_strand(const AgentFacts *f, AgentPlan *plan)
{
    if (f->owner != AGENT_OWNER_OTHER || f->volumes_match) {
        return FALSE;
    }
    if (!f->volumes_known) {
        return report(plan, "its hold record does not say which volumes are "
                            "here: move the file back for a moment");
    }
    report(plan,
           "the file on %s names other volumes than are held here: this is no "
           "migration; the old container is kept stopped",
           f->owner_name);
    return !f->running || decide(plan, AGENT_VERB_STRAND);
}

/* "Until then the holder keeps running the container." */
static gboolean
rule_await_offer(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_OTHER && !f->owner_offer &&
           report(plan, "waits for %s to offer a transfer%s", f->owner_name,
                  online_text(f->owner_online));
}

static gboolean
rule_await_owner(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_OTHER && !f->owner_online &&
           report(plan, "is to move to %s, which is offline", f->owner_name);
}

/* "The holder stops it and copies the volumes under the transfer id." */
static gboolean
rule_migrate_out(const AgentFacts *f, AgentPlan *plan)
{
    return f->owner == AGENT_OWNER_OTHER &&
           decide(plan, AGENT_VERB_MIGRATE_OUT);
}

/* --- the file lies here, the record elsewhere or nowhere --- */

/* "The owner's agent checks storages and networks and offers." */
static gboolean
rule_offer(const AgentFacts *f, AgentPlan *plan)
{
    if (f->own || f->n_other == 0 || (f->offer && f->offer_valid)) {
        return FALSE;
    }
    if (!f->holder_online) {
        return report(plan,
                      "is held by %s, which is offline: bring that node back, "
                      "or move the file back",
                      f->holder);
    }
    return decide(plan, AGENT_VERB_OFFER);
}

static gboolean
rule_await_holder(const AgentFacts *f, AgentPlan *plan)
{
    return !f->own && f->n_other > 0 &&
           report(plan, "waits for %s to send it%s", f->holder,
                  online_text(f->holder_online));
}

/* "Adoption: no record; every node's agent answered that it runs nothing of
 * that CTID." An adoption that was cut short is done again. */
static gboolean
rule_adopt(const AgentFacts *f, AgentPlan *plan)
{
    return (!f->own || (f->own_adopting && !f->running)) &&
           decide(plan, AGENT_VERB_ADOPT);
}

/* --- ours: file and only record --- */

static gboolean
rule_materialize(const AgentFacts *f, AgentPlan *plan)
{
    return (f->to_make || f->hands == AGENT_HANDS_OFF_CREATE) && !f->running &&
           decide(plan, AGENT_VERB_MATERIALIZE);
}

/* `state: started` on a settled file; and "whether it ran" travels with the
 * record: what ran under the holder runs again after a migration. */
static gboolean
rule_start(const AgentFacts *f, AgentPlan *plan)
{
    gboolean wanted = f->wish == AGENT_WISH_STARTED ||
                      (f->wish == AGENT_WISH_NONE &&
                       (f->own_resume || (f->own_transfer && f->own_ran)));

    return wanted && !f->running && decide(plan, AGENT_VERB_START);
}

static gboolean
rule_accept(const AgentFacts *f, AgentPlan *plan)
{
    return f->own_transfer && !f->running && decide(plan, AGENT_VERB_ACCEPT);
}

static gboolean
rule_shutdown(const AgentFacts *f, AgentPlan *plan)
{
    return f->wish == AGENT_WISH_STOPPED && f->running &&
           decide(plan, AGENT_VERB_SHUTDOWN);
}

/* The record says what is here, before somebody else relies on it. After a
 * reboot `ran` stays: it tells what the power failure interrupted. */
static gboolean
rule_record(const AgentFacts *f, AgentPlan *plan)
{
    gboolean ran_differs =
        f->running ? !f->own_ran || !f->own_boot : f->own_ran && f->own_boot;

    return (!f->volumes_known || !f->volumes_match || ran_differs ||
            (f->running && (f->own_transfer || f->own_adopting)) ||
            f->own_request || f->own_resume) &&
           decide(plan, AGENT_VERB_RECORD);
}

static const Rule rules[] = {
    {"no quorum", rule_no_quorum},
    {"unsteady", rule_unsteady},
    {"two files", rule_two_files},
    {"own record broken", rule_own_record_broken},
    {"withdraw", rule_withdraw},
    {"two records", rule_two_records},
    {"orphan without record", rule_orphan_unknown},
    {"claim again", rule_claim_again},
    {"kill", rule_kill},
    {"clean", rule_clean},
    {"accept anyway", rule_accept_anyway},
    {"drop offer", rule_drop_offer},
    {"deleted", rule_deleted},
    {"deletion seen", rule_deletion_seen},
    {"orphan", rule_orphan},
    {"unsettled", rule_unsettled},
    {"broken file", rule_broken},
    {"hands off", rule_hands_off},
    {"not concerned", rule_not_concerned},
    {"strand", rule_strand},
    {"await offer", rule_await_offer},
    {"await owner", rule_await_owner},
    {"migrate out", rule_migrate_out},
    {"offer", rule_offer},
    {"await holder", rule_await_holder},
    {"adopt", rule_adopt},
    {"materialize", rule_materialize},
    {"start", rule_start},
    {"accept", rule_accept},
    {"shutdown", rule_shutdown},
    {"record", rule_record},
};

void
agent_plan_guest(const AgentFacts *facts, AgentPlan *plan)
{
    *plan = (AgentPlan){.rule = "nothing to do"};
    for (guint i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].rule(facts, plan)) {
            plan->rule = rules[i].name;
            return;
        }
    }
}

/* --- from an observation to facts --- */

static gboolean
asks_for_more(const AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) mounts = NULL;

    if (agent_guestconf_get(conf, "ostemplate") != NULL) {
        return TRUE;
    }
    mounts = agent_guestconf_mounts(conf, NULL);
    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        const AgentMount *mount = g_ptr_array_index(mounts, i);

        if (mount->kind == AGENT_MOUNT_REQUEST) {
            return TRUE;
        }
    }
    return FALSE;
}

static AgentHands
hands_of(const AgentGuest *guest)
{
    const char *lock = agent_guestconf_lock(guest->conf);

    if (guest->ha) {
        return AGENT_HANDS_OFF_HA;
    }
    if (lock != NULL) {
        return strcmp(lock, "create") == 0 ? AGENT_HANDS_OFF_CREATE
                                           : AGENT_HANDS_OFF_LOCK;
    }
    return agent_guestconf_is_template(guest->conf) ? AGENT_HANDS_OFF_TEMPLATE
                                                    : AGENT_HANDS_ON;
}

static void
fill_from_conf(AgentFacts *facts, const AgentGuest *guest)
{
    g_auto(GStrv) volumes = NULL;
    int wish;

    if (guest->conf == NULL) {
        return;
    }
    wish = agent_guestconf_wants_running(guest->conf);
    facts->wish = wish < 0    ? AGENT_WISH_NONE
                  : wish == 0 ? AGENT_WISH_STOPPED
                              : AGENT_WISH_STARTED;
    if (!agent_guestconf_is_broken(guest->conf, &facts->broken)) {
        facts->broken = NULL;
    }
    facts->hands = hands_of(guest);
    facts->to_make = asks_for_more(guest->conf);
    volumes = agent_guestconf_volumes(guest->conf);
    facts->volumes_match =
        guest->own != NULL &&
        agent_holdrec_has_volumes(guest->own, (const char *const *)volumes);
}

static void
fill_from_records(AgentFacts *facts,
                  const AgentGuest *guest,
                  const char *boot_id)
{
    facts->own = guest->own_present;
    facts->own_problem = guest->own_problem;
    if (guest->own != NULL) {
        facts->own_adopting = guest->own->adopting;
        facts->own_request = guest->own->request != NULL;
        facts->own_boot = strcmp(guest->own->boot_id, boot_id) == 0;
        facts->own_ran = guest->own->ran;
        facts->own_transfer = guest->own->transfer != NULL;
        facts->own_resume = guest->own->resume;
        facts->volumes_known = guest->own->volumes != NULL;
    }
    facts->n_other = guest->n_other;
    facts->holder = guest->holder;
    facts->holder_online = guest->holder_online;
    facts->other_transfer = guest->other_transfer;
    facts->offer = guest->offer_present;
    facts->offer_valid = guest->offer != NULL &&
                         guest->offer->transfer != NULL &&
                         strcmp(guest->offer->boot_id, boot_id) == 0;
    facts->owner_offer =
        guest->owner_offer != NULL && guest->owner_offer->transfer != NULL;
}

static gboolean
member_online(const AgentSnapshot *snapshot, const char *node)
{
    for (guint i = 0; i < snapshot->members->len; i++) {
        const AgentMember *member = g_ptr_array_index(snapshot->members, i);

        if (strcmp(member->name, node) == 0) {
            return member->online;
        }
    }
    return FALSE;
}

void
agent_facts_from_guest(AgentFacts *facts,
                       const AgentGuest *guest,
                       const AgentSnapshot *snapshot,
                       const char *node,
                       const char *boot_id)
{
    *facts = (AgentFacts){
        .quorate = snapshot->quorate,
        .steady = guest->steady,
        .settled = guest->settled,
        .deletion = guest->deletion,
        .running = guest->running,
        .departed = guest->departed,
    };
    if (guest->n_files > 1) {
        facts->owner = AGENT_OWNER_MANY;
    } else if (guest->file != NULL) {
        facts->owner_name = guest->file->node;
        facts->owner = strcmp(guest->file->node, node) == 0 ? AGENT_OWNER_SELF
                                                            : AGENT_OWNER_OTHER;
        facts->owner_online = member_online(snapshot, guest->file->node);
    }
    fill_from_conf(facts, guest);
    fill_from_records(facts, guest, boot_id);
}

/* --- back-off --- */

gboolean
agent_backoff_allows(AgentBackoff *self, guint generation, gint64 now_us)
{
    if (self->generation != generation) {
        *self = (AgentBackoff){.generation = generation};
    }
    return now_us >= self->not_before_us;
}

void
agent_backoff_failed(AgentBackoff *self, gint64 now_us)
{
    gint64 delay_s = self->failures < 9 ? (gint64)1 << self->failures : 300;

    self->failures++;
    self->not_before_us = now_us + MIN(delay_s, 300) * G_USEC_PER_SEC;
}

void
agent_backoff_reset(AgentBackoff *self)
{
    self->failures = 0;
    self->not_before_us = 0;
}
