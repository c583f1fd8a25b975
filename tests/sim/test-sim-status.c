/* Clusters of the status machine: whatever happens, in the end all know the
 * same of each other. Not what is on disk is at stake here but that nothing
 * stays stale, is lost without need, or is there twice. */
#include "config.h"

#include "pmxcfs/core/status.h"
#include "tests/sim/sim-group.h"

#include <string.h>

#define MAX_NODES 5u
#define STEPS 1500u
#define STEADY "steady"

static guint64 option_seed;

typedef struct {
    CfsStatus *status; /* NULL: the process is dead */
    guint32 pid;
    gboolean is_awake; /* asked for a flush */
    char *saved_keys;  /* of the last process */
    guint has_seen;    /* bit per node: its steady key */
    GHashTable *keys;  /* what this process set: key -> value */
} Node;

typedef struct {
    guint n_nodes;
    SimGroup *group;
    SimDice dice;
    Node nodes[MAX_NODES];
    gint64 clock_ms;
    guint n_values;
    guint n_keys_told; /* CHANGED_KEY effects, so that the run was one */
} Cluster;

static void
on_wake(gpointer data)
{
    ((Node *)data)->is_awake = TRUE;
}

static guint32
now(Cluster *c)
{
    return 1000000u + (guint32)(c->clock_ms / 1000);
}

static char *
name_of(guint node)
{
    return g_strdup_printf("n%u", node + 1);
}

/* --- the world ------------------------------------------------------------ */

static void
step(Cluster *c, guint node, CfsStatusEvent event)
{
    GQueue effects = G_QUEUE_INIT;
    CfsStatusEffect *effect;

    event.time_s = now(c);
    event.clock_ms = c->clock_ms;
    cfs_status_step(c->nodes[node].status, &event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        /* Nothing here is a reason to leave. */
        g_assert_cmpint(effect->kind, !=, CFS_STATUS_EFFECT_LEAVE);
        if (effect->kind == CFS_STATUS_EFFECT_SEND) {
            sim_group_send(c->group, node, effect->message);
        }
        c->n_keys_told += effect->kind == CFS_STATUS_EFFECT_CHANGED &&
                          effect->what == CFS_STATUS_CHANGED_KEY;
        cfs_status_effect_free(effect);
    }
}

static void
set_cluster(Cluster *c, guint node)
{
    g_autoptr(GPtrArray) nodes =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);

    for (guint i = 0; i < c->n_nodes; i++) {
        g_autofree char *name = name_of(i);

        g_ptr_array_add(nodes, cfs_node_new(i + 1, name));
    }
    cfs_status_set_cluster(c->nodes[node].status, "sim", 1, nodes);
}

static void
log_text(Cluster *c, guint node, const char *text)
{
    cfs_status_log(c->nodes[node].status, 6, "root", "sim", 1, text, now(c));
}

static void
join(Cluster *c, guint node)
{
    Node *n = &c->nodes[node];
    CfsStatusEvent event = {.kind = CFS_STATUS_CONNECTED,
                            .self = {node + 1, n->pid}};

    step(c, node, event);
    sim_group_join(c->group, node, n->pid);
}

/* A key that each process sets at its start, and never again. */
static void
set_steady(Cluster *c, guint node)
{
    g_autoptr(GBytes) value = g_bytes_new_static(STEADY, strlen(STEADY));

    g_assert_cmpint(
        cfs_status_set(c->nodes[node].status, STEADY, value, now(c)), ==, 0);
}

static void
start(Cluster *c, guint node)
{
    Node *n = &c->nodes[node];
    g_autofree char *name = name_of(node);
    g_autofree char *ip = g_strdup_printf("10.0.0.%u", node + 1);
    g_autoptr(GBytes) value = g_bytes_new(ip, strlen(ip) + 1);

    n->pid++;
    n->status = cfs_status_new(name);
    cfs_status_set_wake(n->status, on_wake, n);
    /* As the daemon: what bears one name must be one entry. */
    cfs_status_set_next_uid(n->status, n->pid * 10000u);
    (void)cfs_status_set(n->status, "nodeip", value, now(c));
    log_text(c, node, "starting cluster log");
    if (n->saved_keys != NULL) {
        cfs_status_restore_keys(n->status, n->saved_keys);
    }
    set_steady(c, node);
    set_cluster(c, node);
    join(c, node);
}

static void
kill_process(Cluster *c, guint node)
{
    Node *n = &c->nodes[node];

    g_free(n->saved_keys);
    n->saved_keys = cfs_status_save_keys(n->status);
    g_clear_pointer(&n->status, cfs_status_free);
    g_hash_table_remove_all(n->keys);
    n->has_seen = 0;
    sim_group_kill(c->group, node);
}

static Cluster *
cluster_new(guint n_nodes, guint64 seed)
{
    Cluster *c = g_new0(Cluster, 1);

    c->n_nodes = n_nodes;
    c->dice.state = seed;
    c->group = sim_group_new(n_nodes, seed);
    for (guint i = 0; i < n_nodes; i++) {
        c->nodes[i].keys =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        start(c, i);
    }
    return c;
}

static void
cluster_free(Cluster *c)
{
    for (guint i = 0; i < c->n_nodes; i++) {
        g_clear_pointer(&c->nodes[i].status, cfs_status_free);
        g_free(c->nodes[i].saved_keys);
        g_hash_table_unref(c->nodes[i].keys);
    }
    sim_group_free(c->group);
    g_free(c);
}

/* --- what can happen ------------------------------------------------------ */

static void
set(Cluster *c, guint node, const char *key, const char *text)
{
    Node *n = &c->nodes[node];
    g_autoptr(GBytes) value = g_bytes_new(text, strlen(text));

    g_assert_cmpint(cfs_status_set(n->status, key, value, now(c)), ==, 0);
    if (*text == '\0') {
        g_hash_table_remove(n->keys, key);
    } else {
        g_hash_table_replace(n->keys, g_strdup(key), g_strdup(text));
    }
}

static gboolean
get(Cluster *c, guint node)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_MESSAGE};
    SimGet got;

    if (c->nodes[node].status == NULL || !sim_group_get(c->group, node, &got)) {
        return FALSE;
    }
    if (got.kind == SIM_GET_CONFCHG) {
        event.kind = CFS_STATUS_CONFCHG;
        event.confchg.members = (const CfsMember *)(void *)got.members->data;
        event.confchg.n_members = got.members->len;
        event.confchg.has_joined = got.has_joined;
    } else {
        event.message.sender = got.sender;
        event.message.bytes = got.bytes;
    }
    step(c, node, event);
    sim_get_clear(&got);
    return TRUE;
}

static gboolean
flush(Cluster *c, guint node)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_FLUSH};

    if (c->nodes[node].status == NULL || !c->nodes[node].is_awake) {
        return FALSE;
    }
    c->nodes[node].is_awake = FALSE;
    step(c, node, event);
    return TRUE;
}

static void
split(Cluster *c)
{
    guint partition[SIM_MAX_NODES] = {0};

    for (guint i = 0; i < c->n_nodes; i++) {
        partition[i] = sim_dice(&c->dice, 2);
    }
    sim_group_partition(c->group, partition);
}

static void
heal(Cluster *c)
{
    static const guint partition[SIM_MAX_NODES] = {0};

    sim_group_partition(c->group, partition);
}

/* The host's corosync goes away, and the process loses its connection. */
static void
toggle_host(Cluster *c, guint node)
{
    CfsStatusEvent gone = {.kind = CFS_STATUS_DISCONNECTED};

    if (!sim_group_is_host_up(c->group, node)) {
        sim_group_host_up(c->group, node);
        if (c->nodes[node].status != NULL) {
            join(c, node);
        }
        return;
    }
    if (c->nodes[node].status != NULL) {
        sim_group_drop(c->group, node);
        step(c, node, gone);
    }
    sim_group_host_down(c->group, node);
}

static void
use(Cluster *c, guint node)
{
    g_autofree char *key = g_strdup_printf("k%u", sim_dice(&c->dice, 6));
    g_autofree char *text = g_strdup_printf("%u", ++c->n_values);

    if (c->nodes[node].status == NULL) {
        return;
    }
    switch (sim_dice(&c->dice, 4)) {
    case 0:
        set(c, node, key, "");
        break;
    case 1:
        log_text(c, node, text);
        break;
    default:
        set(c, node, key, text);
        break;
    }
}

static void
restart(Cluster *c, guint node)
{
    if (!sim_group_is_host_up(c->group, node)) {
        return;
    }
    if (c->nodes[node].status != NULL) {
        kill_process(c, node);
    } else {
        start(c, node);
    }
}

/* Who has seen a key that did not change sees it all the time: no round of a
 * synchronisation makes it go and come. */
static void
assert_steady(Cluster *c, guint node)
{
    Node *n = &c->nodes[node];

    for (guint i = 0; n->status != NULL && i < c->n_nodes; i++) {
        g_autofree char *name = name_of(i);

        if (cfs_status_get(n->status, name, STEADY) != NULL) {
            n->has_seen |= 1u << i;
        } else {
            g_assert_false(n->has_seen & (1u << i));
        }
    }
}

static void
anything(Cluster *c)
{
    guint node = sim_dice(&c->dice, c->n_nodes);
    guint what = sim_dice(&c->dice, 200);

    sim_group_set_dice(c->group, sim_dice_next(&c->dice));
    c->clock_ms += sim_dice(&c->dice, 50);
    if (what < 20) {
        use(c, node);
    } else if (what < 24) {
        split(c);
    } else if (what < 28) {
        heal(c);
    } else if (what < 30) {
        restart(c, node);
    } else if (what < 31) {
        toggle_host(c, node);
    } else if (what < 60) {
        (void)flush(c, node);
    } else if (what < 120) {
        (void)sim_group_order(c->group, node);
    } else {
        (void)get(c, node);
    }
    assert_steady(c, node);
}

/* Until nothing more happens by itself. */
static void
settle(Cluster *c)
{
    gboolean has_done = TRUE;

    while (has_done) {
        has_done = FALSE;
        for (guint i = 0; i < c->n_nodes; i++) {
            has_done |= flush(c, i);
            has_done |= sim_group_is_host_up(c->group, i) &&
                        sim_group_order(c->group, i);
            has_done |= get(c, i);
        }
    }
}

static void
repair(Cluster *c)
{
    heal(c);
    for (guint i = 0; i < c->n_nodes; i++) {
        if (!sim_group_is_host_up(c->group, i)) {
            toggle_host(c, i);
        }
        if (c->nodes[i].status == NULL) {
            start(c, i);
        }
    }
    settle(c);
}

/* --- what must be --------------------------------------------------------- */

static int
compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Returns: (owned) the lines of the log, sorted; the order of what was logged
 * at once may differ. */
static char *
sorted_log(CfsStatus *status)
{
    g_autofree char *text = cfs_status_clog_json(status, 100000, NULL);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (guint i = 0; lines[i] != NULL; i++) {
        gsize size = strlen(lines[i]);

        if (size > 0 && lines[i][size - 1] == ',') {
            lines[i][size - 1] = '\0';
        }
    }
    qsort(lines, g_strv_length(lines), sizeof(char *), compare_lines);
    for (guint i = 1; lines[i] != NULL; i++) {
        g_assert_false(strstr(lines[i], "uid") != NULL &&
                       strcmp(lines[i], lines[i - 1]) == 0);
    }
    return g_strjoinv("\n", lines);
}

/* What @node knows of @owner is what @owner set, and no more. */
static void
assert_keys(Cluster *c, guint node, guint owner)
{
    g_autofree char *name = name_of(owner);

    for (guint k = 0; k < 6; k++) {
        g_autofree char *key = g_strdup_printf("k%u", k);
        GBytes *there = cfs_status_get(c->nodes[node].status, name, key);
        const char *wanted = g_hash_table_lookup(c->nodes[owner].keys, key);
        g_autofree char *found = there != NULL
                                     ? g_strndup(g_bytes_get_data(there, NULL),
                                                 g_bytes_get_size(there))
                                     : NULL;

        g_assert_cmpstr(found, ==, wanted);
    }
}

static void
assert_all_know_all(Cluster *c)
{
    g_autofree char *log = sorted_log(c->nodes[0].status);

    for (guint i = 0; i < c->n_nodes; i++) {
        CfsNodelist *nodes = cfs_status_nodelist(c->nodes[i].status);
        g_autofree char *members = cfs_nodelist_text(nodes, TRUE);
        g_autofree char *other = sorted_log(c->nodes[i].status);

        g_assert_cmpint(cfs_status_mode(c->nodes[i].status), ==,
                        CFS_STATUS_SYNCED);
        g_assert_cmpstr(other, ==, log);
        g_assert_null(strstr(members, "\"online\": 0"));
        for (guint k = 0; k < c->n_nodes; k++) {
            g_autofree char *ip = g_strdup_printf("\"10.0.0.%u\"", k + 1);

            g_assert_nonnull(strstr(members, ip));
            assert_keys(c, i, k);
        }
    }
}

/* --- tests ---------------------------------------------------------------- */

/* Keys follow, a stopped node's stay, a restarted node's go. */
static void
test_story(void)
{
    Cluster *c = cluster_new(3, 1);
    static const guint sides[SIM_MAX_NODES] = {0, 0, 1};
    GBytes *value;

    settle(c);
    assert_all_know_all(c);
    set(c, 2, "k1", "old");
    settle(c);
    sim_group_partition(c->group, sides);
    settle(c);
    value = cfs_status_get(c->nodes[0].status, "n3", "k1");
    g_assert_nonnull(value); /* outlives the cut */
    set(c, 2, "k1", "");
    set(c, 2, "k2", "new");
    log_text(c, 0, "majority");
    log_text(c, 2, "minority");
    settle(c);
    g_assert_nonnull(cfs_status_get(c->nodes[0].status, "n3", "k1"));
    heal(c);
    settle(c);
    assert_all_know_all(c);
    kill_process(c, 2);
    settle(c);
    g_assert_nonnull(cfs_status_get(c->nodes[1].status, "n3", "k2"));
    start(c, 2);
    settle(c);
    g_assert_null(cfs_status_get(c->nodes[1].status, "n3", "k2"));
    assert_all_know_all(c);
    cluster_free(c);
}

static void
run_seed(guint64 seed)
{
    SimDice dice = {.state = seed};
    Cluster *c = cluster_new(2 + sim_dice(&dice, MAX_NODES - 1), seed);

    for (guint round = 0; round < 3; round++) {
        for (guint i = 0; i < STEPS; i++) {
            anything(c);
        }
        repair(c);
        assert_all_know_all(c);
    }
    g_assert_cmpuint(c->n_keys_told, >, 50);
    cluster_free(c);
}

static void
test_random(void)
{
    if (option_seed != 0) {
        run_seed(option_seed);
        return;
    }
    for (guint64 seed = 1; seed <= 300; seed++) {
        g_test_message("--sim-seed %" G_GUINT64_FORMAT, seed);
        run_seed(seed);
    }
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--sim-seed") == 0) {
        option_seed = g_ascii_strtoull(argv[2], NULL, 10);
        argc = 1;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim-status/story", test_story);
    g_test_add_func("/sim-status/random", test_random);
    return g_test_run();
}
