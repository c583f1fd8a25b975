/* The law of DESIGN.md 3 as a table: facts, the row that must decide, the step
 * that must come out, and what people are told. */
#include "config.h"

#include "agent/core/plan.h"

#include <string.h>

typedef struct {
    const char *title;
    AgentFacts facts;
    const char *rule;
    AgentVerb verb;
    const char *report; /* part of it; NULL: none */
} Case;

/* A row names what differs from its macros, which comes later and wins. */
#pragma GCC diagnostic ignored "-Woverride-init"

/* A quorate, steady picture; a settled file. */
#define SEEN .quorate = TRUE, .steady = TRUE
#define MINE SEEN, .owner = AGENT_OWNER_SELF, .settled = TRUE
#define THEIRS                                                                 \
    SEEN, .owner = AGENT_OWNER_OTHER, .owner_name = "n2",                      \
          .owner_online = TRUE, .settled = TRUE
/* Our only record, of this boot, up to date. */
#define HELD                                                                   \
    .own = TRUE, .own_boot = TRUE, .volumes_known = TRUE, .volumes_match = TRUE
#define HELD_BY_N2 .n_other = 1, .holder = "n2", .holder_online = TRUE
#define STARTED .wish = AGENT_WISH_STARTED
#define STOPPED .wish = AGENT_WISH_STOPPED
#define RUNS .running = TRUE, .own_ran = TRUE

static const Case cases[] = {
    /* what is wanted */
    {"started", {MINE, HELD, STARTED}, "start", AGENT_VERB_START, NULL},
    {"runs as wanted",
     {MINE, HELD, STARTED, RUNS},
     "nothing to do",
     AGENT_VERB_NONE,
     NULL},
    {"stopped",
     {MINE, HELD, STOPPED, RUNS},
     "shutdown",
     AGENT_VERB_SHUTDOWN,
     NULL},
    {"stopped already",
     {MINE, HELD, STOPPED},
     "nothing to do",
     AGENT_VERB_NONE,
     NULL},
    {"no key, runs",
     {MINE, HELD, RUNS},
     "nothing to do",
     AGENT_VERB_NONE,
     NULL},
    {"no key, stopped", {MINE, HELD}, "nothing to do", AGENT_VERB_NONE, NULL},
    {"ended by itself",
     {MINE, HELD, STARTED, .own_ran = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"after a reboot",
     {MINE, HELD, STARTED, .own_boot = FALSE, .own_ran = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"no key, after a reboot",
     {MINE, HELD, .own_boot = FALSE, .own_ran = TRUE},
     "nothing to do",
     AGENT_VERB_NONE,
     NULL},

    /* what nobody acts on */
    {"no quorum, started",
     {MINE, HELD, STARTED, .quorate = FALSE},
     "no quorum",
     AGENT_VERB_NONE,
     NULL},
    {"no quorum, stopped",
     {MINE, HELD, STOPPED, RUNS, .quorate = FALSE},
     "no quorum",
     AGENT_VERB_NONE,
     NULL},
    {"no quorum, without right",
     {THEIRS, HELD_BY_N2, .running = TRUE, .quorate = FALSE},
     "no quorum",
     AGENT_VERB_NONE,
     NULL},
    {"seen once",
     {THEIRS, HELD_BY_N2, .running = TRUE, .steady = FALSE},
     "unsteady",
     AGENT_VERB_NONE,
     NULL},
    {"half written",
     {MINE, HELD, STARTED, .settled = FALSE},
     "unsettled",
     AGENT_VERB_NONE,
     NULL},
    {"broken",
     {MINE, HELD, STOPPED, RUNS, .broken = "line 3: what"},
     "broken file",
     AGENT_VERB_NONE,
     "line 3: what"},
    {"lock",
     {MINE, HELD, STARTED, .hands = AGENT_HANDS_OFF_LOCK},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"template",
     {MINE, HELD, STARTED, .hands = AGENT_HANDS_OFF_TEMPLATE},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"HA",
     {MINE, HELD, STARTED, .hands = AGENT_HANDS_OFF_HA},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"HA, to move",
     {THEIRS, HELD, RUNS, .hands = AGENT_HANDS_OFF_HA},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"pct create at work",
     {MINE, .hands = AGENT_HANDS_OFF_CREATE},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"two files",
     {SEEN, .owner = AGENT_OWNER_MANY, STARTED},
     "two files",
     AGENT_VERB_NONE,
     "more than one node"},
    {"own record broken",
     {MINE, STARTED, .own = TRUE, .own_problem = "line 1: bad value"},
     "own record broken",
     AGENT_VERB_NONE,
     "line 1: bad value"},

    /* the only record */
    {"no record", {MINE, STARTED}, "adopt", AGENT_VERB_ADOPT, NULL},
    {"no record, no key", {MINE}, "adopt", AGENT_VERB_ADOPT, NULL},
    {"adoption cut short",
     {MINE, HELD, STARTED, .own_adopting = TRUE},
     "adopt",
     AGENT_VERB_ADOPT,
     NULL},
    {"two adopted",
     {MINE, HELD, HELD_BY_N2, .own_adopting = TRUE},
     "withdraw",
     AGENT_VERB_WITHDRAW,
     NULL},
    {"adopted, file went",
     {THEIRS, HELD, .own_adopting = TRUE},
     "withdraw",
     AGENT_VERB_WITHDRAW,
     NULL},
    {"two records",
     {MINE, HELD, HELD_BY_N2, STARTED},
     "two records",
     AGENT_VERB_NONE,
     "both this node and n2"},
    {"two records, runs",
     {MINE, HELD, HELD_BY_N2, STARTED, RUNS},
     "two records",
     AGENT_VERB_NONE,
     "both this node and n2"},

    /* running without an own record */
    {"claim again",
     {MINE, .running = TRUE},
     "claim again",
     AGENT_VERB_CLAIM,
     NULL},
    {"claim again, unsettled",
     {MINE, .running = TRUE, .settled = FALSE},
     "claim again",
     AGENT_VERB_NONE,
     NULL},
    {"another's record",
     {MINE, HELD_BY_N2, .running = TRUE},
     "kill",
     AGENT_VERB_KILL,
     "held by n2"},
    {"another's file",
     {THEIRS, .running = TRUE},
     "kill",
     AGENT_VERB_KILL,
     "file lies on n2"},
    {"another's file and record",
     {THEIRS, HELD_BY_N2, .running = TRUE},
     "kill",
     AGENT_VERB_KILL,
     "held by n2"},
    {"nothing anywhere",
     {SEEN, .running = TRUE},
     "orphan without record",
     AGENT_VERB_NONE,
     "left running"},

    /* deletions */
    {"missing", {SEEN, HELD, RUNS}, "orphan", AGENT_VERB_NONE, "left running"},
    {"deletion seen",
     {SEEN, HELD, RUNS, .deletion = AGENT_DELETION_SEEN},
     "deletion seen",
     AGENT_VERB_NONE,
     "30 s"},
    {"deletion confirmed",
     {SEEN, HELD, RUNS, .deletion = AGENT_DELETION_CONFIRMED},
     "deleted",
     AGENT_VERB_RETIRE,
     NULL},
    {"deleted and stopped",
     {SEEN, HELD, .deletion = AGENT_DELETION_CONFIRMED},
     "orphan",
     AGENT_VERB_NONE,
     NULL},
    {"volumes without a file",
     {SEEN, HELD},
     "orphan",
     AGENT_VERB_NONE,
     "file is missing"},

    /* migration, the new owner */
    {"to offer", {MINE, HELD_BY_N2, STARTED}, "offer", AGENT_VERB_OFFER, NULL},
    {"to offer, no key", {MINE, HELD_BY_N2}, "offer", AGENT_VERB_OFFER, NULL},
    {"holder offline",
     {MINE, HELD_BY_N2, STARTED, .holder_online = FALSE},
     "offer",
     AGENT_VERB_NONE,
     "held by n2, which is offline"},
    {"offered",
     {MINE, HELD_BY_N2, .offer = TRUE, .offer_valid = TRUE},
     "await holder",
     AGENT_VERB_NONE,
     "waits for n2"},
    {"offered before a reboot",
     {MINE, HELD_BY_N2, .offer = TRUE},
     "offer",
     AGENT_VERB_OFFER,
     NULL},
    {"offered, file went",
     {THEIRS, HELD_BY_N2, .offer = TRUE},
     "drop offer",
     AGENT_VERB_DROP_OFFER,
     NULL},
    {"offer left over",
     {MINE, HELD, .offer = TRUE},
     "drop offer",
     AGENT_VERB_DROP_OFFER,
     NULL},
    {"record came, started",
     {MINE, HELD, STARTED, .own_boot = FALSE, .own_transfer = TRUE,
      .offer = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"record came, it ran",
     {MINE, HELD, .own_boot = FALSE, .own_transfer = TRUE, .own_ran = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"record came, it ran, stopped",
     {MINE, HELD, STOPPED, .own_boot = FALSE, .own_transfer = TRUE,
      .own_ran = TRUE},
     "accept",
     AGENT_VERB_ACCEPT,
     NULL},
    {"record came, it did not run",
     {MINE, HELD, .own_boot = FALSE, .own_transfer = TRUE},
     "accept",
     AGENT_VERB_ACCEPT,
     NULL},
    {"accepted, to resume",
     {MINE, HELD, .own_resume = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"accepted, not to resume",
     {MINE, HELD, STOPPED, .own_resume = TRUE},
     "record",
     AGENT_VERB_RECORD,
     NULL},

    /* migration, the holder */
    {"no offer yet",
     {THEIRS, HELD, RUNS},
     "await offer",
     AGENT_VERB_NONE,
     "waits for n2"},
    {"offer",
     {THEIRS, HELD, RUNS, .owner_offer = TRUE},
     "migrate out",
     AGENT_VERB_MIGRATE_OUT,
     NULL},
    {"offer, stopped",
     {THEIRS, HELD, STOPPED, .owner_offer = TRUE},
     "migrate out",
     AGENT_VERB_MIGRATE_OUT,
     NULL},
    {"owner offline",
     {THEIRS, HELD, RUNS, .owner_offer = TRUE, .owner_online = FALSE},
     "await owner",
     AGENT_VERB_NONE,
     "n2, which is offline"},
    {"locked",
     {THEIRS, HELD, RUNS, .owner_offer = TRUE, .hands = AGENT_HANDS_OFF_LOCK},
     "hands off",
     AGENT_VERB_NONE,
     NULL},
    {"other volumes, runs",
     {THEIRS, HELD, RUNS, .volumes_match = FALSE, .owner_offer = TRUE},
     "strand",
     AGENT_VERB_STRAND,
     "other volumes"},
    {"other volumes, stopped",
     {THEIRS, HELD, .volumes_match = FALSE, .owner_offer = TRUE},
     "strand",
     AGENT_VERB_NONE,
     "other volumes"},
    {"volumes unknown",
     {THEIRS, HELD, RUNS, .volumes_known = FALSE, .volumes_match = FALSE,
      .owner_offer = TRUE},
     "strand",
     AGENT_VERB_NONE,
     "does not say"},
    {"moved back after the stop",
     {MINE, HELD, .own_transfer = TRUE, .own_ran = TRUE},
     "start",
     AGENT_VERB_START,
     NULL},
    {"left behind",
     {THEIRS, HELD_BY_N2, .departed = TRUE},
     "clean",
     AGENT_VERB_CLEAN,
     NULL},
    {"left behind, not accepted",
     {THEIRS, HELD_BY_N2, .departed = TRUE, .other_transfer = TRUE},
     "not concerned",
     AGENT_VERB_NONE,
     NULL},
    {"record came, file went on",
     {THEIRS, HELD, .own_boot = FALSE, .own_transfer = TRUE, .own_ran = TRUE},
     "accept anyway",
     AGENT_VERB_ACCEPT,
     NULL},
    {"record came, file deleted",
     {SEEN, HELD, .own_boot = FALSE, .own_transfer = TRUE},
     "accept anyway",
     AGENT_VERB_ACCEPT,
     NULL},
    {"left behind, on its way back",
     {MINE, HELD_BY_N2, .departed = TRUE},
     "clean",
     AGENT_VERB_CLEAN,
     NULL},
    {"note of a handover that failed",
     {THEIRS, HELD, .departed = TRUE},
     "await offer",
     AGENT_VERB_NONE,
     "waits"},
    {"gone", {THEIRS, HELD_BY_N2}, "not concerned", AGENT_VERB_NONE, NULL},
    {"never here", {THEIRS, STARTED}, "not concerned", AGENT_VERB_NONE, NULL},

    /* the record is kept true */
    {"runs, not recorded",
     {MINE, HELD, .running = TRUE},
     "record",
     AGENT_VERB_RECORD,
     NULL},
    {"recorded, runs no more",
     {MINE, HELD, .own_ran = TRUE},
     "record",
     AGENT_VERB_RECORD,
     NULL},
    {"volumes changed",
     {MINE, HELD, RUNS, .volumes_match = FALSE},
     "record",
     AGENT_VERB_RECORD,
     NULL},
    {"volumes not known",
     {MINE, HELD, .volumes_known = FALSE, .volumes_match = FALSE},
     "record",
     AGENT_VERB_RECORD,
     NULL},

    /* requests */
    {"to make",
     {MINE, HELD, STARTED, .to_make = TRUE, .own_request = TRUE},
     "materialize",
     AGENT_VERB_MATERIALIZE,
     NULL},
    {"half made",
     {MINE, HELD, STARTED, .own_request = TRUE,
      .hands = AGENT_HANDS_OFF_CREATE},
     "materialize",
     AGENT_VERB_MATERIALIZE,
     NULL},
    {"made",
     {MINE, HELD, .own_request = TRUE},
     "record",
     AGENT_VERB_RECORD,
     NULL},
};

static void
test_case(gconstpointer data)
{
    const Case *c = data;
    g_auto(AgentPlan) plan = {0};

    agent_plan_guest(&c->facts, &plan);
    g_assert_cmpstr(plan.rule, ==, c->rule);
    g_assert_cmpstr(agent_verb_name(plan.verb), ==, agent_verb_name(c->verb));
    if (c->report == NULL) {
        g_assert_cmpstr(plan.report, ==, NULL);
    } else {
        g_assert_nonnull(plan.report);
        g_assert_nonnull(strstr(plan.report, c->report));
    }
}

/* Every combination of the flags: nothing is started or stopped without
 * quorum, or started without the only record and the file. */
static void
test_no_start_without_right(void)
{
    for (guint bits = 0; bits < 1u << 19; bits++) {
        const AgentFacts f = {
            .quorate = bits & 1,
            .steady = (bits >> 1) & 1,
            .owner = (AgentOwner)((bits >> 2) & 3),
            .owner_name = "n2",
            .owner_online = TRUE,
            .settled = (bits >> 4) & 1,
            .wish = (bits >> 5) & 1 ? AGENT_WISH_STARTED : AGENT_WISH_NONE,
            .own = (bits >> 6) & 1,
            .own_adopting = (bits >> 7) & 1,
            .own_ran = (bits >> 8) & 1,
            .own_transfer = (bits >> 9) & 1,
            .n_other = (bits >> 10) & 1,
            .holder = "n2",
            .running = (bits >> 11) & 1,
            .own_resume = (bits >> 12) & 1,
            .volumes_known = TRUE,
            .volumes_match = (bits >> 13) & 1,
            .owner_offer = (bits >> 14) & 1,
            .offer = (bits >> 15) & 1,
            .departed = (bits >> 16) & 1,
            .other_transfer = (bits >> 17) & 1,
            .own_boot = (bits >> 18) & 1,
        };
        g_auto(AgentPlan) plan = {0};

        agent_plan_guest(&f, &plan);
        if (!f.quorate) {
            g_assert_cmpint(plan.verb, ==, AGENT_VERB_NONE);
        }
        if (plan.verb == AGENT_VERB_START) {
            g_assert_true(f.own && f.n_other == 0 && f.settled && !f.running &&
                          f.owner == AGENT_OWNER_SELF && !f.own_adopting);
        }
        if (plan.verb == AGENT_VERB_KILL) {
            g_assert_true(f.running && !f.own);
        }
        if (plan.verb == AGENT_VERB_CLEAN) {
            g_assert_true(!f.own && f.n_other > 0 && !f.running &&
                          !f.other_transfer);
        }
    }
}

static void
test_backoff(void)
{
    static const gint64 delays_s[] = {1,  2,   4,   8,   16, 32,
                                      64, 128, 256, 300, 300};
    AgentBackoff backoff = {0};
    gint64 now_us = 1000 * G_USEC_PER_SEC;

    g_assert_true(agent_backoff_allows(&backoff, 1, now_us));
    for (guint i = 0; i < G_N_ELEMENTS(delays_s); i++) {
        agent_backoff_failed(&backoff, now_us);
        now_us += delays_s[i] * G_USEC_PER_SEC;
        g_assert_false(agent_backoff_allows(&backoff, 1, now_us - 1));
        g_assert_true(agent_backoff_allows(&backoff, 1, now_us));
    }
    agent_backoff_failed(&backoff, now_us);
    g_assert_false(agent_backoff_allows(&backoff, 1, now_us));
    /* The file changed. */
    g_assert_true(agent_backoff_allows(&backoff, 2, now_us));
    g_assert_cmpuint(backoff.failures, ==, 0);
}

static void
test_verbs(void)
{
    for (AgentVerb verb = AGENT_VERB_CLAIM; verb <= AGENT_VERB_ALLOCATE;
         verb++) {
        g_assert_cmpint(agent_verb_parse(agent_verb_name(verb)), ==, verb);
    }
    g_assert_cmpint(agent_verb_parse("nonsense"), ==, AGENT_VERB_NONE);
}

/* The whole way from a file's text and a record to a step. */
static void
test_from_guest(void)
{
    static const char boot[] = "0f6a1c1e-5d3b-4a52-9f62-0a7f3f6f6b11";
    static const char text[] = "arch: amd64\nrootfs: "
                               "local:100/subvol-100-disk-0.subvol,size=0T\n"
                               "state: started\n";
    const char *const volumes[] = {"local:100/subvol-100-disk-0.subvol", NULL};
    g_autoptr(AgentSnapshot) now = agent_snapshot_new(0);
    g_autoptr(AgentGuestConf) conf =
        agent_guestconf_parse(100, text, strlen(text), NULL);
    g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));
    g_autoptr(AgentFile) file =
        agent_file_new(AGENT_FILE_CONF, "n1", "100.conf", 100, 7, bytes);
    g_autoptr(AgentHoldRec) record = agent_holdrec_new(boot);
    g_auto(AgentPlan) plan = {0};
    AgentFacts facts;
    AgentGuest guest = {
        .ctid = 100,
        .n_files = 1,
        .file = file,
        .conf = conf,
        .settled = TRUE,
        .own_present = TRUE,
        .own = record,
        .steady = TRUE,
    };

    now->quorate = TRUE;
    agent_holdrec_set_volumes(record, volumes);
    agent_facts_from_guest(&facts, &guest, now, "n1", boot);
    g_assert_true(facts.volumes_match);
    g_assert_true(facts.own_boot);
    agent_plan_guest(&facts, &plan);
    g_assert_cmpint(plan.verb, ==, AGENT_VERB_START);
    agent_facts_from_guest(&facts, &guest, now, "n2", boot);
    g_assert_cmpint(facts.owner, ==, AGENT_OWNER_OTHER);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path =
            g_strdelimit(g_strdup_printf("/plan/%s", cases[i].title), " ", '-');

        g_test_add_data_func(path, &cases[i], test_case);
    }
    g_test_add_func("/plan/no-start-without-right",
                    test_no_start_without_right);
    g_test_add_func("/plan/backoff", test_backoff);
    g_test_add_func("/plan/verbs", test_verbs);
    g_test_add_func("/plan/from-guest", test_from_guest);
    return g_test_run();
}
