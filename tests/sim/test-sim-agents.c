/* The agents of three nodes around one tree, in one thread and on a false
 * clock: the real observers and plans, with the steps of agent/io retold as
 * small state machines whose every phase may be the last. Files move, nodes
 * die, are cut off, agents are killed, pictures are torn.
 *
 * What must hold at every moment: at most one node runs the container, and it
 * starts only on the newest copy of its volume. When peace returns: it runs
 * where its file lies, with one record and one copy.
 *
 *     test-sim-agents --from SEED --runs N      replays from a printed seed */
#include "config.h"

#include "agent/core/observe.h"
#include "agent/core/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_NODES 3
#define CTID 100u
#define VOLUME "local:100/subvol-100-disk-0.subvol"
#define TICK_US (250 * 1000)
#define RETRY_US G_USEC_PER_SEC

typedef struct {
    AgentVerb verb; /* AGENT_VERB_NONE: no step under way */
    guint phase;
    int peer;
    char *transfer;
} SimStep;

typedef struct {
    char name[4];
    char *boot_id;
    AgentObserver *observer;
    gboolean up;
    gboolean cut;
    /* its disk */
    int volume; /* version of its copy, -1: none */
    int arrival;
    char *arrival_of; /* the transfer */
    gboolean departed;
    /* its machine */
    gboolean running;
    SimStep step;
    gint64 not_before_us;
    /* its directories in the tree */
    AgentHoldRec *hold;
    AgentHoldRec *offer;
} SimNode;

typedef struct {
    GRand *rand;
    gint64 now_us;
    SimNode nodes[N_NODES];
    int owner;
    int owner_before; /* of this tick: what a torn picture shows as well */
    const char *state;
    guint64 inode;
    int latest; /* the newest version of the volume */
    guint moves, starts, handovers, returns;
} Sim;

/* --- small things --- */

static char *
random_boot_id(Sim *sim)
{
    return g_strdup_printf("%08x-0000-0000-0000-%012x", g_rand_int(sim->rand),
                           g_rand_int(sim->rand));
}

static gboolean
chance(Sim *sim, double likelihood)
{
    return g_rand_double(sim->rand) < likelihood;
}

static AgentHoldRec *
new_record(const SimNode *node)
{
    static const char *const volumes[] = {VOLUME, NULL};
    AgentHoldRec *record = agent_holdrec_new(node->boot_id);

    agent_holdrec_set_volumes(record, volumes);
    return record;
}

static gboolean
is_quorate(const SimNode *node)
{
    return node->up && !node->cut;
}

static int
other_holder(const Sim *sim, int me)
{
    for (int i = 0; i < N_NODES; i++) {
        if (i != me && sim->nodes[i].hold != NULL) {
            return i;
        }
    }
    return -1;
}

static void
set_boot(SimNode *node, AgentHoldRec *record)
{
    g_free(record->boot_id);
    record->boot_id = g_strdup(node->boot_id);
}

/* --- pictures --- */

static void
add_file(AgentSnapshot *now,
         AgentFileKind kind,
         const char *node,
         guint64 inode,
         const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

    g_ptr_array_add(now->files,
                    agent_file_new(kind, node,
                                   kind == AGENT_FILE_CONF ? "100.conf" : "100",
                                   CTID, inode, bytes));
}

static void
add_records(AgentSnapshot *now, const SimNode *node)
{
    if (node->hold != NULL) {
        g_autofree char *text = agent_holdrec_serialize(node->hold);

        add_file(now, AGENT_FILE_HOLD, node->name, 7, text);
    }
    if (node->offer != NULL) {
        g_autofree char *text = agent_holdrec_serialize(node->offer);

        add_file(now, AGENT_FILE_OFFER, node->name, 8, text);
    }
}

static void
add_conf(Sim *sim, AgentSnapshot *now)
{
    g_autofree char *text =
        g_strdup_printf("rootfs: " VOLUME ",size=0T\n%s", sim->state);
    gboolean torn = sim->owner != sim->owner_before && chance(sim, 0.5);

    if (torn && chance(sim, 0.5)) {
        return;
    }
    add_file(now, AGENT_FILE_CONF, sim->nodes[sim->owner].name, sim->inode,
             text);
    if (torn) {
        add_file(now, AGENT_FILE_CONF, sim->nodes[sim->owner_before].name,
                 sim->inode, text);
    }
}

static AgentSnapshot *
picture(Sim *sim, const SimNode *me)
{
    const guint32 ctid = CTID;
    AgentSnapshot *now = agent_snapshot_new(sim->now_us);

    now->complete = TRUE;
    now->quorate = is_quorate(me);
    now->session = g_strdup("1");
    now->epoch = g_strdup("1");
    add_conf(sim, now);
    for (int i = 0; i < N_NODES; i++) {
        AgentMember *member = g_new0(AgentMember, 1);

        member->name = g_strdup(sim->nodes[i].name);
        member->online = is_quorate(&sim->nodes[i]);
        g_ptr_array_add(now->members, member);
        add_records(now, &sim->nodes[i]);
    }
    if (me->running) {
        g_array_append_val(now->running, ctid);
    }
    if (me->departed) {
        g_array_append_val(now->departed, ctid);
    }
    return now;
}

/* --- steps: each function is one phase. TRUE: go on with the next. --- */

static gboolean
is_ours(const Sim *sim, int me)
{
    return sim->owner == me && sim->nodes[me].hold != NULL &&
           other_holder(sim, me) < 0;
}

/* The sender has it until we have accepted. */
static void
send_back(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];

    for (int k = 0; k < N_NODES; k++) {
        SimNode *peer = &sim->nodes[k];

        if (k != i && g_strcmp0(me->hold->from, peer->name) == 0) {
            peer->hold = g_steal_pointer(&me->hold);
            sim->returns++;
            return;
        }
    }
}

static gboolean
accept(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];
    AgentHoldRec *own = me->hold;

    if (own == NULL || other_holder(sim, i) >= 0) {
        return FALSE;
    }
    if (own->transfer == NULL) {
        return TRUE;
    }
    me->departed = FALSE;
    if (g_strcmp0(me->arrival_of, own->transfer) == 0 && me->arrival >= 0) {
        g_assert_cmpint(me->volume, ==, -1);
        me->volume = me->arrival;
        me->arrival = -1;
    }
    if (me->volume < 0) {
        send_back(sim, i);
        return FALSE;
    }
    own->resume = own->ran;
    own->ran = FALSE;
    g_clear_pointer(&own->transfer, g_free);
    g_clear_pointer(&own->from, g_free);
    set_boot(me, own);
    g_clear_pointer(&me->offer, agent_holdrec_free);
    return TRUE;
}

static gboolean
claim_once(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];

    if (!is_ours(sim, i) || me->hold->transfer != NULL || me->hold->adopting) {
        return FALSE;
    }
    set_boot(me, me->hold);
    return TRUE;
}

static gboolean
activate(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];

    if (me->running) {
        return TRUE;
    }
    g_assert_cmpint(me->volume, ==, sim->latest);
    me->running = TRUE;
    me->volume = ++sim->latest; /* it writes */
    sim->starts++;
    return TRUE;
}

static gboolean
note_run(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];

    if (!is_ours(sim, i)) {
        return FALSE;
    }
    if (me->running) {
        set_boot(me, me->hold);
        me->hold->ran = TRUE;
    } else if (strcmp(me->hold->boot_id, me->boot_id) == 0) {
        me->hold->ran = FALSE;
    }
    me->hold->resume = FALSE;
    return TRUE;
}

static gboolean
run_start(Sim *sim, int i, guint phase)
{
    switch (phase) {
    case 0:
        return is_ours(sim, i) && accept(sim, i);
    case 1:
    case 2: /* claims, and looks again */
        return claim_once(sim, i);
    case 3:
        return activate(sim, i);
    default:
        (void)note_run(sim, i);
        return FALSE;
    }
}

static gboolean
run_adopt(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];
    gboolean mine = sim->owner == i && other_holder(sim, i) < 0;

    switch (phase) {
    case 0:
        for (int k = 0; k < N_NODES; k++) {
            const SimNode *peer = &sim->nodes[k];

            if (k != i &&
                (!is_quorate(peer) || peer->running || peer->hold != NULL ||
                 peer->step.verb != AGENT_VERB_NONE)) {
                return FALSE;
            }
        }
        return mine && me->volume >= 0;
    case 1:
        if (me->hold == NULL) {
            me->hold = new_record(me);
        }
        me->hold->adopting = TRUE;
        return TRUE;
    default:
        if (mine && me->hold != NULL) {
            me->hold->adopting = FALSE;
        } else {
            g_clear_pointer(&me->hold, agent_holdrec_free);
        }
        return FALSE;
    }
}

static gboolean
run_offer(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];

    if (sim->owner == i && me->hold == NULL && other_holder(sim, i) >= 0 &&
        me->volume < 0) {
        g_clear_pointer(&me->offer, agent_holdrec_free);
        me->offer = new_record(me);
        me->offer->transfer = g_strdup_printf(
            "%016x%016x", g_rand_int(sim->rand), g_rand_int(sim->rand));
        me->arrival = -1;
    }
    return FALSE;
}

static gboolean
run_drop_offer(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];

    if (phase == 0) {
        g_clear_pointer(&me->offer, agent_holdrec_free);
        return TRUE;
    }
    if (me->hold == NULL || me->hold->transfer == NULL) {
        me->arrival = -1;
    }
    return FALSE;
}

/* The invitation that this step set out with still stands. */
static gboolean
is_invited(const Sim *sim, int i)
{
    const SimNode *me = &sim->nodes[i];
    const SimNode *peer = &sim->nodes[sim->owner];

    return sim->owner != i && me->hold != NULL && other_holder(sim, i) < 0 &&
           peer->offer != NULL &&
           (me->step.transfer == NULL ||
            (sim->owner == me->step.peer &&
             strcmp(me->step.transfer, peer->offer->transfer) == 0));
}

static void
hand_over(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];
    SimNode *peer = &sim->nodes[me->step.peer];

    if (me->hold != NULL && peer->hold == NULL) {
        peer->hold = g_steal_pointer(&me->hold);
        sim->handovers++;
    }
}

static gboolean
run_migrate_out(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];
    SimNode *peer = &sim->nodes[me->step.peer];
    AgentHoldRec *own = me->hold;

    switch (phase) {
    case 0:
        if (!is_invited(sim, i) || !is_quorate(&sim->nodes[sim->owner])) {
            return FALSE;
        }
        me->step.peer = sim->owner;
        me->step.transfer = g_strdup(sim->nodes[sim->owner].offer->transfer);
        return me->volume >= 0;
    case 1:
        if (me->running || own->transfer == NULL) {
            own->ran = me->running || own->resume;
        }
        g_free(own->transfer);
        own->transfer = g_strdup(me->step.transfer);
        g_free(own->from);
        own->from = g_strdup(me->name);
        return TRUE;
    case 2:
        me->running = FALSE;
        return TRUE;
    case 3: /* the receiver checks its offer, then and at the end */
        if (!is_quorate(peer) || peer->offer == NULL || peer->hold != NULL ||
            strcmp(peer->offer->transfer, me->step.transfer) != 0) {
            return FALSE;
        }
        g_free(peer->arrival_of);
        peer->arrival_of = g_strdup(me->step.transfer);
        peer->arrival = me->volume;
        return TRUE;
    case 4:
        return is_invited(sim, i);
    case 5:
        me->departed = TRUE;
        return !me->running;
    default: /* without another look: that is what can go wrong */
        hand_over(sim, i);
        return FALSE;
    }
}

static gboolean
run_clean(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];
    int holder = other_holder(sim, i);

    if (me->hold == NULL && holder >= 0 && !me->running &&
        !agent_holdrec_is_arriving(sim->nodes[holder].hold,
                                   sim->nodes[holder].name)) {
        me->volume = -1;
        me->departed = FALSE;
    }
    return FALSE;
}

static gboolean
run_claim(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];

    if (me->hold == NULL && sim->owner == i && me->running &&
        other_holder(sim, i) < 0) {
        me->hold = new_record(me);
        me->hold->ran = TRUE;
    }
    return FALSE;
}

static gboolean
run_withdraw(Sim *sim, int i, guint phase)
{
    SimNode *me = &sim->nodes[i];

    if (me->hold != NULL && me->hold->adopting && !me->running &&
        (other_holder(sim, i) >= 0 || sim->owner != i)) {
        g_clear_pointer(&me->hold, agent_holdrec_free);
    }
    return FALSE;
}

static gboolean
run_shutdown(Sim *sim, int i, guint phase)
{
    if (is_ours(sim, i)) {
        sim->nodes[i].running = FALSE;
        (void)note_run(sim, i);
    }
    return FALSE;
}

static gboolean
run_phase(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];
    guint phase = me->step.phase;

    switch (me->step.verb) {
    case AGENT_VERB_START:
        return run_start(sim, i, phase);
    case AGENT_VERB_ADOPT:
        return run_adopt(sim, i, phase);
    case AGENT_VERB_OFFER:
        return run_offer(sim, i, phase);
    case AGENT_VERB_DROP_OFFER:
        return run_drop_offer(sim, i, phase);
    case AGENT_VERB_MIGRATE_OUT:
        return run_migrate_out(sim, i, phase);
    case AGENT_VERB_CLEAN:
        return run_clean(sim, i, phase);
    case AGENT_VERB_CLAIM:
        return run_claim(sim, i, phase);
    case AGENT_VERB_WITHDRAW:
        return run_withdraw(sim, i, phase);
    case AGENT_VERB_SHUTDOWN:
        return run_shutdown(sim, i, phase);
    case AGENT_VERB_ACCEPT:
        (void)accept(sim, i);
        return FALSE;
    case AGENT_VERB_RECORD:
        (void)note_run(sim, i);
        return FALSE;
    case AGENT_VERB_KILL:
        me->running = FALSE;
        return FALSE;
    default:
        g_assert_not_reached(); /* no deletions, no requests here */
    }
}

/* --- a node's tick --- */

static void
end_step(SimNode *me, gint64 now_us)
{
    me->step.verb = AGENT_VERB_NONE;
    me->step.phase = 0;
    g_clear_pointer(&me->step.transfer, g_free);
    me->not_before_us = now_us + TICK_US;
}

static void
advance(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];

    /* All but the activation and the stop write to the tree. */
    if (me->step.verb == AGENT_VERB_NONE || chance(sim, 0.3)) {
        return;
    }
    if ((!is_quorate(me) &&
         !(me->step.verb == AGENT_VERB_START && me->step.phase == 3)) ||
        !run_phase(sim, i)) {
        end_step(me, sim->now_us);
        me->not_before_us = sim->now_us + RETRY_US;
    } else {
        me->step.phase++;
    }
}

static void
look_and_plan(Sim *sim, int i)
{
    SimNode *me = &sim->nodes[i];
    g_autoptr(AgentSnapshot) now = picture(sim, me);
    const GPtrArray *guests;
    g_auto(AgentPlan) plan = {0};
    AgentFacts facts;

    agent_observer_update(me->observer, now);
    guests = agent_observer_guests(me->observer);
    if (guests->len == 0 || me->step.verb != AGENT_VERB_NONE ||
        sim->now_us < me->not_before_us) {
        return;
    }
    agent_facts_from_guest(&facts, g_ptr_array_index(guests, 0), now, me->name,
                           me->boot_id);
    agent_plan_guest(&facts, &plan);
    me->step.verb = plan.verb;
    me->step.phase = 0;
}

static void
check(const Sim *sim)
{
    guint running = 0;

    for (int i = 0; i < N_NODES; i++) {
        running += sim->nodes[i].running ? 1 : 0;
    }
    g_assert_cmpuint(running, <=, 1);
}

static void
tick(Sim *sim)
{
    int first = g_rand_int_range(sim->rand, 0, N_NODES);

    sim->now_us += TICK_US;
    for (int k = 0; k < N_NODES; k++) {
        int i = (first + k) % N_NODES;

        if (sim->nodes[i].up) {
            advance(sim, i);
            check(sim);
            if (!chance(sim, 0.2)) {
                look_and_plan(sim, i);
            }
        }
    }
    sim->owner_before = sim->owner;
}

/* --- trouble --- */

static void
restart_agent(Sim *sim, SimNode *node, gboolean end_its_step)
{
    agent_observer_free(node->observer);
    node->observer = agent_observer_new(node->name);
    if (end_its_step) {
        end_step(node, sim->now_us);
    }
}

static void
crash(Sim *sim, SimNode *node)
{
    node->up = FALSE;
    node->running = FALSE;
    end_step(node, sim->now_us);
}

static void
boot(Sim *sim, SimNode *node)
{
    node->up = TRUE;
    node->cut = FALSE;
    g_free(node->boot_id);
    node->boot_id = random_boot_id(sim);
    restart_agent(sim, node, TRUE);
}

/* One node at a time may be away: the others are the majority. */
static SimNode *
node_away(Sim *sim)
{
    for (int i = 0; i < N_NODES; i++) {
        if (!is_quorate(&sim->nodes[i])) {
            return &sim->nodes[i];
        }
    }
    return NULL;
}

static void
trouble(Sim *sim)
{
    SimNode *node = &sim->nodes[g_rand_int_range(sim->rand, 0, N_NODES)];
    SimNode *away = node_away(sim);

    if (chance(sim, 0.02)) {
        /* Without a record only people know where the volume is. */
        sim->owner = other_holder(sim, -1) < 0
                         ? 0
                         : g_rand_int_range(sim->rand, 0, N_NODES);
        sim->moves++;
    }
    if (chance(sim, 0.01)) {
        static const char *const states[] = {"state: started\n",
                                             "state: stopped\n", ""};

        sim->state = states[g_rand_int_range(sim->rand, 0, 3)];
    }
    if (chance(sim, 0.02) && node->up) {
        restart_agent(sim, node, chance(sim, 0.5));
    }
    if (away != NULL && chance(sim, 0.05)) {
        if (away->up) {
            away->cut = FALSE;
        } else {
            boot(sim, away);
        }
    } else if (away == NULL && chance(sim, 0.02)) {
        if (chance(sim, 0.5)) {
            crash(sim, node);
        } else {
            node->cut = TRUE;
        }
    }
}

/* --- a run --- */

static void
sim_init(Sim *sim, guint32 seed)
{
    *sim = (Sim){.rand = g_rand_new_with_seed(seed),
                 .now_us = G_USEC_PER_SEC,
                 .state = "state: started\n",
                 .inode = 5};
    for (int i = 0; i < N_NODES; i++) {
        SimNode *node = &sim->nodes[i];

        g_snprintf(node->name, sizeof(node->name), "n%d", i + 1);
        node->volume = i == 0 ? 0 : -1;
        node->arrival = -1;
        node->observer = agent_observer_new(node->name);
        boot(sim, node);
    }
}

static void
sim_clear(Sim *sim)
{
    for (int i = 0; i < N_NODES; i++) {
        SimNode *node = &sim->nodes[i];

        agent_observer_free(node->observer);
        agent_holdrec_free(node->hold);
        agent_holdrec_free(node->offer);
        g_free(node->boot_id);
        g_free(node->arrival_of);
        g_free(node->step.transfer);
    }
    g_rand_free(sim->rand);
}

static void
assert_peace(const Sim *sim)
{
    for (int i = 0; i < N_NODES; i++) {
        const SimNode *node = &sim->nodes[i];
        gboolean here = i == sim->owner;

        g_assert_cmpint(node->running, ==, here);
        g_assert_cmpint(node->hold != NULL, ==, here);
        g_assert_cmpint(node->volume, ==, here ? sim->latest : -1);
        g_assert_null(node->offer);
        g_assert_false(node->departed);
    }
}

static guint n_ticks = 3000;
static guint n_runs = 10;
static guint32 first_seed; /* 0: from --seed of g_test */

typedef struct {
    guint moves, starts, handovers, returns;
} Tally;

static void
weather(guint32 seed, Tally *tally)
{
    Sim sim;

    g_test_message("seed %u", seed);
    sim_init(&sim, seed);
    for (guint i = 0; i < n_ticks; i++) {
        trouble(&sim);
        tick(&sim);
    }
    for (int i = 0; i < N_NODES; i++) {
        if (!sim.nodes[i].up) {
            boot(&sim, &sim.nodes[i]);
        }
        sim.nodes[i].cut = FALSE;
    }
    sim.state = "state: started\n";
    for (guint i = 0; i < 400; i++) {
        tick(&sim);
    }
    assert_peace(&sim);
    tally->moves += sim.moves;
    tally->starts += sim.starts;
    tally->handovers += sim.handovers;
    tally->returns += sim.returns;
    sim_clear(&sim);
}

static void
test_storm(void)
{
    Tally tally = {0};

    if (first_seed == 0) {
        first_seed = (guint32)g_test_rand_int();
    }
    for (guint run = 0; run < n_runs; run++) {
        weather(first_seed + run, &tally);
    }
    g_test_message("%u moves, %u starts, %u handovers, %u of them returned",
                   tally.moves, tally.starts, tally.handovers, tally.returns);
    g_assert_cmpuint(tally.handovers, >, n_runs);
}

/* A holder stopped the container for a transfer, then the file went to a third
 * node, which still had the copy of an earlier handover. It took what the
 * holder's record says of its own sending for a handover not accepted, kept the
 * copy, and so could not receive: for ever. */
static void
test_sending_elsewhere(void)
{
    Tally tally = {0};

    weather(477632909, &tally);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc > 2 && strcmp(argv[1], "--from") == 0) {
        first_seed = (guint32)strtoul(argv[2], NULL, 10);
    }
    if (argc > 4 && strcmp(argv[3], "--runs") == 0) {
        n_runs = (guint)strtoul(argv[4], NULL, 10);
    }
    g_test_add_func("/sim/agents/storm", test_storm);
    g_test_add_func("/sim/agents/sending-elsewhere", test_sending_elsewhere);
    return g_test_run();
}
