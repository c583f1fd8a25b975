#include "config.h"

#include "tests/sim/sim-script.h"

#include <errno.h>
#include <string.h>

/* A cluster that never comes to rest fails at the end. */
#define MAX_STEPS 20000u

/* --- what each decision does ---------------------------------------------- */

typedef gboolean (*Often)(SimCluster *cluster, guint node);

static void
repeat(SimCluster *cluster, const SimDecision *d, Often often)
{
    for (gint64 i = 0; i < d->number && often(cluster, d->node); i++) {
    }
}

static void
do_order(SimCluster *cluster, const SimDecision *d)
{
    repeat(cluster, d, sim_order);
}

static void
do_get(SimCluster *cluster, const SimDecision *d)
{
    repeat(cluster, d, sim_get);
}

static void
do_commit(SimCluster *cluster, const SimDecision *d)
{
    repeat(cluster, d, sim_commit);
}

static void
do_tell(SimCluster *cluster, const SimDecision *d)
{
    repeat(cluster, d, sim_tell);
}

static void
do_work(SimCluster *cluster, const SimDecision *d)
{
    repeat(cluster, d, sim_work);
}

static void
do_run(SimCluster *cluster, const SimDecision *d)
{
    for (guint i = 0; i < MAX_STEPS && sim_step(cluster); i++) {
    }
}

static CfsOp *
make_op(const SimDecision *d)
{
    g_autoptr(GBytes) data = NULL;
    guint8 *bytes;

    switch (d->op) {
    case CFS_OP_RENAME:
        return cfs_op_new_rename(d->path, d->to);
    case CFS_OP_MTIME:
        return cfs_op_new_mtime(d->path, d->offset);
    case CFS_OP_WRITE:
        if (d->truncate) {
            return cfs_op_new_truncate(d->path, d->offset);
        }
        bytes = g_malloc(d->size);
        memset(bytes, d->fill, d->size);
        data = g_bytes_new_take(bytes, d->size);
        return d->append ? cfs_op_new_append(d->path, data)
                         : cfs_op_new_write(d->path, data, d->offset);
    default:
        return cfs_op_new(d->op, d->path);
    }
}

static gboolean
runs(SimCluster *cluster, guint node)
{
    return sim_is_up(cluster, node) && !sim_is_paused(cluster, node);
}

static void
do_submit(SimCluster *cluster, const SimDecision *d)
{
    if (runs(cluster, d->node)) {
        sim_submit(cluster, d->node, make_op(d));
    }
}

static void
do_sync(SimCluster *cluster, const SimDecision *d)
{
    if (runs(cluster, d->node)) {
        sim_submit_sync(cluster, d->node);
    }
}

static void
do_old(SimCluster *cluster, const SimDecision *d)
{
    if (!sim_is_up(cluster, d->node)) {
        sim_set_features(cluster, d->node, 0);
    }
}

static void
do_interrupt(SimCluster *cluster, const SimDecision *d)
{
    if (runs(cluster, d->node)) {
        sim_interrupt(cluster, d->node);
    }
}

static void
do_advance(SimCluster *cluster, const SimDecision *d)
{
    sim_advance(cluster, d->number);
}

static void
do_start(SimCluster *cluster, const SimDecision *d)
{
    if (!sim_is_up(cluster, d->node)) {
        sim_start(cluster, d->node);
    }
}

static void
do_kill(SimCluster *cluster, const SimDecision *d)
{
    if (sim_is_up(cluster, d->node)) {
        sim_crash(cluster, d->node);
    }
}

static void
do_stop(SimCluster *cluster, const SimDecision *d)
{
    if (runs(cluster, d->node)) {
        sim_stop(cluster, d->node);
    }
}

static void
do_power(SimCluster *cluster, const SimDecision *d)
{
    sim_power_off(cluster, d->node);
}

static void
do_wipe(SimCluster *cluster, const SimDecision *d)
{
    if (!sim_is_up(cluster, d->node)) {
        sim_wipe(cluster, d->node);
    }
}

static void
do_pause(SimCluster *cluster, const SimDecision *d)
{
    sim_pause(cluster, d->node, TRUE);
}

static void
do_continue(SimCluster *cluster, const SimDecision *d)
{
    sim_pause(cluster, d->node, FALSE);
}

static void
do_down(SimCluster *cluster, const SimDecision *d)
{
    sim_corosync(cluster, d->node, FALSE);
}

static void
do_up(SimCluster *cluster, const SimDecision *d)
{
    sim_corosync(cluster, d->node, TRUE);
}

static void
do_split(SimCluster *cluster, const SimDecision *d)
{
    sim_split(cluster, d->path);
}

static void
do_heal(SimCluster *cluster, const SimDecision *d)
{
    sim_heal(cluster);
}

static void
do_force(SimCluster *cluster, const SimDecision *d)
{
    sim_force_quorum(cluster, d->node);
}

static void
do_flap(SimCluster *cluster, const SimDecision *d)
{
    sim_flap_quorum(cluster, d->node);
}

static void
do_store(SimCluster *cluster, const SimDecision *d)
{
    sim_fail_store(cluster, d->node, (int)d->number);
}

static void
do_flush(SimCluster *cluster, const SimDecision *d)
{
    sim_flush_store(cluster, d->node);
}

static void
do_clock(SimCluster *cluster, const SimDecision *d)
{
    sim_set_clock(cluster, d->node, d->number);
}

static void
do_lose(SimCluster *cluster, const SimDecision *d)
{
    sim_lose_update(cluster, d->node);
}

/* No newer protocol: that takes members out for good. Nothing that a sound
 * member could have meant: a tree it changes is changed on all alike. */
static void
do_inject(SimCluster *cluster, const SimDecision *d)
{
    SimDice dice = {d->dice};
    gsize size = sim_dice(&dice, 100);
    guint8 *bytes = g_malloc0(size + 8);
    g_autoptr(GBytes) message = NULL;

    for (gsize i = 0; i < size; i++) {
        bytes[i] = sim_dice(&dice, 2) == 0 ? 0 : (guint8)sim_dice(&dice, 256);
    }
    bytes[0] = (guint8)sim_dice(&dice, 9);
    bytes[1] = 0;
    memcpy(bytes + 4, "\1\0\0\0", 4);
    message = g_bytes_new_take(bytes, size);
    if (sim_is_up(cluster, d->node)) {
        sim_inject(cluster, d->node, message);
    }
}

/* --- the language --------------------------------------------------------- */

enum { HAS_NODE = 1, HAS_NUMBER = 2, HAS_DICE = 4, HAS_SIDES = 8, HAS_OP = 16 };

static const struct {
    const char *name;
    guint has;
    void (*apply)(SimCluster *cluster, const SimDecision *d);
} dos[SIM_N_DOS] = {
    [SIM_DO_ORDER] = {"order", HAS_NODE | HAS_NUMBER, do_order},
    [SIM_DO_GET] = {"get", HAS_NODE | HAS_NUMBER, do_get},
    [SIM_DO_COMMIT] = {"commit", HAS_NODE | HAS_NUMBER, do_commit},
    [SIM_DO_TELL] = {"tell", HAS_NODE | HAS_NUMBER, do_tell},
    [SIM_DO_WORK] = {"work", HAS_NODE | HAS_NUMBER, do_work},
    [SIM_DO_RUN] = {"run", HAS_DICE, do_run},
    [SIM_DO_SUBMIT] = {"submit", HAS_NODE | HAS_OP, do_submit},
    [SIM_DO_SYNC] = {"sync", HAS_NODE, do_sync},
    [SIM_DO_OLD] = {"no-terms", HAS_NODE, do_old},
    [SIM_DO_INTERRUPT] = {"interrupt", HAS_NODE, do_interrupt},
    [SIM_DO_ADVANCE] = {"advance", HAS_NUMBER, do_advance},
    [SIM_DO_START] = {"start", HAS_NODE, do_start},
    [SIM_DO_KILL] = {"kill", HAS_NODE | HAS_DICE, do_kill},
    [SIM_DO_STOP] = {"stop", HAS_NODE, do_stop},
    [SIM_DO_POWER] = {"power-off", HAS_NODE | HAS_DICE, do_power},
    [SIM_DO_WIPE] = {"wipe", HAS_NODE, do_wipe},
    [SIM_DO_PAUSE] = {"pause", HAS_NODE, do_pause},
    [SIM_DO_CONTINUE] = {"continue", HAS_NODE, do_continue},
    [SIM_DO_DOWN] = {"corosync-down", HAS_NODE | HAS_DICE, do_down},
    [SIM_DO_UP] = {"corosync-up", HAS_NODE | HAS_DICE, do_up},
    [SIM_DO_SPLIT] = {"split", HAS_SIDES | HAS_DICE, do_split},
    [SIM_DO_HEAL] = {"heal", HAS_DICE, do_heal},
    [SIM_DO_FORCE] = {"force-quorum", HAS_NODE, do_force},
    [SIM_DO_FLAP] = {"flap-quorum", HAS_NODE, do_flap},
    [SIM_DO_STORE] = {"store-error", HAS_NODE | HAS_NUMBER, do_store},
    [SIM_DO_FLUSH] = {"flush", HAS_NODE, do_flush},
    [SIM_DO_CLOCK] = {"clock", HAS_NODE | HAS_NUMBER, do_clock},
    [SIM_DO_LOSE] = {"lose-update", HAS_NODE, do_lose},
    [SIM_DO_INJECT] = {"inject", HAS_NODE | HAS_DICE, do_inject},
};

static const struct {
    const char *name;
    CfsOpKind kind;
    gboolean truncate;
    gboolean append;
} ops[] = {
    {"append", CFS_OP_WRITE, FALSE, TRUE}, {"create", CFS_OP_CREATE, FALSE},
    {"mkdir", CFS_OP_MKDIR, FALSE},        {"delete", CFS_OP_DELETE, FALSE},
    {"rename", CFS_OP_RENAME, FALSE},      {"mtime", CFS_OP_MTIME, FALSE},
    {"write", CFS_OP_WRITE, FALSE},        {"truncate", CFS_OP_WRITE, TRUE},
};

static void
append_op(GString *out, const SimDecision *d)
{
    for (guint i = 0; i < G_N_ELEMENTS(ops); i++) {
        if (ops[i].kind == d->op && ops[i].truncate == d->truncate &&
            ops[i].append == d->append) {
            g_string_append_printf(out, " %s %s", ops[i].name, d->path);
        }
    }
    if (d->op == CFS_OP_RENAME) {
        g_string_append_printf(out, " %s", d->to);
    } else if (d->op == CFS_OP_MTIME || d->truncate) {
        g_string_append_printf(out, " %u", d->offset);
    } else if (d->op == CFS_OP_WRITE) {
        g_string_append_printf(out, " %u %u %c", d->offset, d->size, d->fill);
    }
}

char *
sim_script_text(const SimScript *self)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "nodes %u\n", self->n_nodes);
    for (guint i = 0; i < self->decisions->len; i++) {
        const SimDecision *d = &g_array_index(self->decisions, SimDecision, i);
        guint has = dos[d->what].has;

        g_string_append(out, dos[d->what].name);
        if (has & HAS_SIDES) {
            g_string_append_printf(out, " %s", d->path);
        }
        if (has & HAS_NODE) {
            g_string_append_printf(out, " %u", d->node);
        }
        if (has & HAS_NUMBER) {
            g_string_append_printf(out, " %" G_GINT64_FORMAT, d->number);
        }
        if (has & HAS_DICE) {
            g_string_append_printf(out, " %" G_GUINT64_FORMAT, d->dice);
        }
        if (has & HAS_OP) {
            append_op(out, d);
        }
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

/* The words of one line; each is taken once. */
typedef struct {
    char **words;
    gboolean is_bad;
} Words;

static const char *
take_word(Words *self)
{
    if (*self->words == NULL) {
        self->is_bad = TRUE;
        return "";
    }
    return *self->words++;
}

static gint64
take_number(Words *self, gint64 low, gint64 high)
{
    gint64 number = low;

    if (!g_ascii_string_to_signed(take_word(self), 10, low, high, &number,
                                  NULL)) {
        self->is_bad = TRUE;
    }
    return number;
}

static void
take_op(Words *words, SimDecision *d)
{
    const char *name = take_word(words);
    guint i = 0;

    while (i < G_N_ELEMENTS(ops) && strcmp(ops[i].name, name) != 0) {
        i++;
    }
    if (i == G_N_ELEMENTS(ops)) {
        words->is_bad = TRUE;
        return;
    }
    d->op = ops[i].kind;
    d->truncate = ops[i].truncate;
    d->append = ops[i].append;
    d->path = g_intern_string(take_word(words));
    if (d->op == CFS_OP_RENAME) {
        d->to = g_intern_string(take_word(words));
    } else if (d->op == CFS_OP_MTIME || d->truncate) {
        d->offset = (guint32)take_number(words, 0, G_MAXUINT32);
    } else if (d->op == CFS_OP_WRITE) {
        d->offset = (guint32)take_number(words, 0, G_MAXUINT32);
        d->size = (guint32)take_number(words, 0, 2 * CFS_MAX_FILE_BYTES);
        d->fill = take_word(words)[0];
    }
}

static gboolean
parse_line(SimScript *script, Words *words)
{
    SimDecision d = {0};
    const char *name = take_word(words);
    guint has;

    if (strcmp(name, "nodes") == 0) {
        script->n_nodes = (guint)take_number(words, 1, SIM_MAX_NODES);
        return !words->is_bad;
    }
    while (d.what < SIM_N_DOS && strcmp(dos[d.what].name, name) != 0) {
        d.what++;
    }
    if (d.what == SIM_N_DOS) {
        return FALSE;
    }
    has = dos[d.what].has;
    if (has & HAS_SIDES) {
        d.path = g_intern_string(take_word(words));
    }
    if (has & HAS_NODE) {
        d.node = (guint)take_number(words, 0, (gint64)script->n_nodes - 1);
    }
    if (has & HAS_NUMBER) {
        d.number = take_number(words, G_MININT32, G_MAXINT32);
    }
    if (has & HAS_DICE) {
        d.dice = (guint64)take_number(words, 0, G_MAXINT64);
    }
    if (has & HAS_OP) {
        take_op(words, &d);
    }
    g_array_append_val(script->decisions, d);
    return !words->is_bad;
}

SimScript *
sim_script_parse(const char *text, GError **error)
{
    g_autoptr(SimScript) self = sim_script_new(3);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) all = NULL;
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        Words left = {0};

        *strchrnul(lines[i], '#') = '\0';
        all = g_strsplit_set(lines[i], " \t\r", -1);
        for (guint k = 0; all[k] != NULL; k++) {
            if (all[k][0] != '\0') {
                g_ptr_array_add(words, all[k]);
            }
        }
        g_ptr_array_add(words, NULL);
        left.words = (char **)words->pdata;
        if (words->len > 1 && !parse_line(self, &left)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "line %u cannot be read: '%s'", i + 1, lines[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&self);
}

/* --- running -------------------------------------------------------------- */

SimScript *
sim_script_new(guint n_nodes)
{
    SimScript *self = g_new0(SimScript, 1);

    self->n_nodes = n_nodes;
    self->decisions = g_array_new(FALSE, FALSE, sizeof(SimDecision));
    return self;
}

void
sim_script_free(SimScript *self)
{
    if (self == NULL) {
        return;
    }
    g_array_unref(self->decisions);
    g_free(self);
}

SimCluster *
sim_script_cluster(guint n_nodes)
{
    SimCluster *cluster = sim_cluster_new_stopped(n_nodes, n_nodes);

    sim_check_keep(sim_check(cluster));
    sim_set_quorum_lag(cluster);
    return cluster;
}

void
sim_decision_apply(const SimDecision *self, SimCluster *cluster)
{
    if (dos[self->what].has & HAS_DICE) {
        sim_set_dice(cluster, self->dice);
    }
    dos[self->what].apply(cluster, self);
}

char *
sim_script_run(const SimScript *self)
{
    g_autoptr(SimCluster) cluster = sim_script_cluster(self->n_nodes);
    SimCheck *check = sim_check(cluster);

    for (guint i = 0;
         i < self->decisions->len && sim_check_violation(check) == NULL; i++) {
        sim_decision_apply(&g_array_index(self->decisions, SimDecision, i),
                           cluster);
    }
    sim_end_faults(cluster);
    return g_strdup(sim_check_violation(check));
}
