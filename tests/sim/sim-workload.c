#include "config.h"

#include "tests/sim/sim-workload.h"

#include <errno.h>

struct SimWorkload {
    SimDice dice;
    guint n;
    guint started;     /* nodes, at the beginning */
    guint fault_every; /* decisions; 0: never */
    guint submit_every;
    guint advance_every;
    guint rest_every;
    guint burst;         /* of scheduling */
    guint slow;          /* mask of nodes */
    gboolean has_guests; /* the operations lean to guests' files */
    guint sync_every;    /* operations */
    guint old;           /* mask of nodes that keep no terms */
    gboolean has_locks;  /* ... and to lock directories */
    guint n_faults;
    gboolean has_force;
    gboolean forces_next; /* quorum, behind a cut */
    SimDo faults[SIM_N_DOS];
};

/* Those that take away, each with its cure. */
static const SimDo all_faults[] = {
    SIM_DO_KILL,  SIM_DO_STOP,  SIM_DO_POWER, SIM_DO_WIPE,      SIM_DO_PAUSE,
    SIM_DO_DOWN,  SIM_DO_SPLIT, SIM_DO_FORCE, SIM_DO_FLAP,      SIM_DO_STORE,
    SIM_DO_CLOCK, SIM_DO_LOSE,  SIM_DO_FLUSH, SIM_DO_INTERRUPT, SIM_DO_INJECT,
};

SimWorkload *
sim_workload_new(guint64 seed, SimFaults faults)
{
    SimWorkload *self = g_new0(SimWorkload, 1);
    SimDice *dice = &self->dice;

    dice->state = sim_mix(seed);
    self->n = sim_dice_range(dice, 3, sim_dice_once_in(dice, 3) ? 9 : 5);
    self->burst = sim_dice_range(dice, 1, 8);
    self->submit_every = sim_dice_range(dice, 2, 12);
    self->advance_every = sim_dice_range(dice, 10, 100);
    self->rest_every = sim_dice_range(dice, 50, 1000);
    self->has_guests = sim_dice_once_in(dice, 3);
    self->has_locks = sim_dice_once_in(dice, 3);
    self->sync_every = sim_dice_range(dice, 2, 40);
    if (faults == SIM_FAULTS_ALL && sim_dice_once_in(dice, 6)) {
        self->old = sim_dice(dice, 1u << self->n);
    }
    if (sim_dice_once_in(dice, 2)) {
        self->slow = sim_dice(dice, 1u << self->n);
    }
    for (guint i = 0; i < G_N_ELEMENTS(all_faults); i++) {
        /* A lost disk ends all promises, so it is rare. */
        guint rarity = all_faults[i] == SIM_DO_WIPE ? 6 : 2;

        if (faults == SIM_FAULTS_ALL && sim_dice_once_in(dice, rarity)) {
            self->faults[self->n_faults++] = all_faults[i];
            self->has_force = self->has_force || all_faults[i] == SIM_DO_FORCE;
        }
    }
    if (self->n_faults > 0) {
        self->fault_every = sim_dice_range(dice, 10, 150);
    }
    return self;
}

void
sim_workload_free(SimWorkload *self)
{
    g_free(self);
}

guint
sim_workload_n_nodes(const SimWorkload *self)
{
    return self->n;
}

/* --- operations ----------------------------------------------------------- */

#define N_NAMES 20u
#define FIRST_GUESTS 7u /* of the folders */
#define LAST_GUESTS 9u

static const char *const folders[] = {
    "",
    "a/",
    "a/b/",
    "c/",
    "nodes/",
    "nodes/n1/",
    "nodes/n2/",
    "nodes/n1/lxc/",
    "nodes/n2/lxc/",
    "nodes/n2/qemu-server/",
    "priv/",
};

/* Parents first: a run begins by making them. */
static const char *const directories[] = {
    "a",
    "a/b",
    "c",
    "nodes",
    "nodes/n1",
    "nodes/n2",
    "nodes/n1/lxc",
    "nodes/n2/lxc",
    "nodes/n2/qemu-server",
    "priv",
    "priv/lock",
};

static const char *
any_path(SimWorkload *self)
{
    guint folder = sim_dice(&self->dice, G_N_ELEMENTS(folders));
    g_autofree char *path = NULL;

    if (self->has_guests && sim_dice_once_in(&self->dice, 2)) {
        folder = sim_dice_range(&self->dice, FIRST_GUESTS, LAST_GUESTS);
    }
    if (folder >= FIRST_GUESTS && folder <= LAST_GUESTS) {
        path = g_strdup_printf("%s%u.conf", folders[folder],
                               100 + sim_dice(&self->dice, 4));
    } else {
        path = g_strdup_printf("%sf%u", folders[folder],
                               sim_dice(&self->dice, N_NAMES));
    }
    return g_intern_string(path);
}

/* Something that is there, so that most operations work. */
static const char *
known_path(SimWorkload *self, SimCluster *cluster, guint node)
{
    g_autoptr(GPtrArray) entries = NULL;
    g_autofree char *path = NULL;
    CfsTree *tree;

    if (!sim_is_up(cluster, node)) {
        return any_path(self);
    }
    tree = cfs_replica_tree(sim_replica(cluster, node));
    entries = cfs_tree_entries(tree);
    for (guint i = 0; i < 8; i++) {
        const CfsEntry *entry =
            g_ptr_array_index(entries, sim_dice(&self->dice, entries->len));

        if (!cfs_entry_is_directory(entry)) {
            path = cfs_tree_path(tree, entry->inode);
            return g_intern_string(path);
        }
    }
    return any_path(self);
}

static void
make_write(SimWorkload *self, SimDecision *d)
{
    SimDice *dice = &self->dice;

    d->op = CFS_OP_WRITE;
    d->append = sim_dice_once_in(dice, 4);
    d->size = sim_dice_range(dice, 1, 60);
    d->offset = sim_dice_once_in(dice, 2) ? 0 : sim_dice(dice, 100);
    d->fill = (char)('a' + sim_dice(dice, 26));
    if (sim_dice_once_in(dice, 500)) {
        d->size = CFS_MAX_FILE_BYTES - sim_dice(dice, 100);
    }
}

/* A client that takes a lock, keeps it and gives it back. */
static void
make_lock_op(SimWorkload *self, SimCluster *cluster, SimDecision *d)
{
    static const char *const paths[] = {"priv/lock/L1", "priv/lock/L2",
                                        "priv/lock/L3"};
    SimDice *dice = &self->dice;
    int holder;

    d->path = paths[sim_dice(dice, G_N_ELEMENTS(paths))];
    holder = sim_check_holder(sim_check(cluster), d->path);
    d->op = sim_dice_once_in(dice, 2) ? CFS_OP_MKDIR : CFS_OP_MTIME;
    if (holder == (int)d->node && sim_dice_once_in(dice, 3)) {
        d->op = CFS_OP_DELETE;
    } else if (holder == (int)d->node) {
        d->op = CFS_OP_MTIME;
        d->offset = sim_wall_time(cluster, d->node);
    }
}

static void
make_op(SimWorkload *self, SimCluster *cluster, SimDecision *d)
{
    SimDice *dice = &self->dice;

    d->path = sim_dice_once_in(dice, 3) ? any_path(self)
                                        : known_path(self, cluster, d->node);
    switch (sim_dice(dice, self->has_locks ? 16 : 13)) {
    case 0:
    case 1:
    case 2:
        d->op = CFS_OP_CREATE;
        d->path = any_path(self);
        break;
    case 3:
    case 4:
    case 5:
        make_write(self, d);
        break;
    case 6:
    case 7:
        d->op = CFS_OP_MKDIR;
        d->path = directories[sim_dice(dice, G_N_ELEMENTS(directories))];
        break;
    case 8:
        d->op = CFS_OP_DELETE;
        break;
    case 9:
    case 10:
        d->op = CFS_OP_RENAME;
        d->to = any_path(self);
        break;
    case 11:
        d->op = CFS_OP_WRITE;
        d->truncate = TRUE;
        d->offset = sim_dice(dice, 80);
        break;
    case 12:
        d->op = CFS_OP_MTIME;
        d->offset = sim_dice(dice, 10);
        break;
    default:
        make_lock_op(self, cluster, d);
        break;
    }
    if (sim_dice_once_in(dice, 40)) {
        d->op = CFS_OP_DELETE;
        d->truncate = d->append = FALSE;
        d->path = directories[sim_dice(dice, G_N_ELEMENTS(directories) - 1)];
    }
}

/* --- faults --------------------------------------------------------------- */

static const char *
any_sides(SimWorkload *self)
{
    GString *sides[3] = {g_string_new(NULL), g_string_new(NULL),
                         g_string_new(NULL)};
    guint n = sim_dice_once_in(&self->dice, 4) ? 3 : 2;
    g_autofree char *text = NULL;

    for (guint i = 0; i < self->n; i++) {
        g_string_append_printf(sides[sim_dice(&self->dice, n)], "%x", i);
    }
    text = g_strjoin("|", sides[0]->str, sides[1]->str, sides[2]->str, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        g_string_free(sides[i], TRUE);
    }
    return g_intern_string(text);
}

static void
make_fault(SimWorkload *self, SimDecision *d)
{
    static const int problems[] = {ENOSPC, EIO, EBUSY};
    SimDice *dice = &self->dice;

    d->what = self->faults[sim_dice(dice, self->n_faults)];
    switch (d->what) {
    case SIM_DO_SPLIT:
        self->forces_next = self->has_force && sim_dice_once_in(dice, 2);
        d->path = any_sides(self);
        break;
    case SIM_DO_STORE:
        d->number = problems[sim_dice(dice, G_N_ELEMENTS(problems))];
        break;
    case SIM_DO_CLOCK:
        d->number = (gint64)sim_dice(dice, 200000) - 100000;
        break;
    default:
        break;
    }
}

/* Repairs come more often than faults: most of the time most of it works. */
static void
make_cure(SimWorkload *self, SimCluster *cluster, SimDecision *d)
{
    if (!sim_is_up(cluster, d->node)) {
        d->what = SIM_DO_START;
    } else if (sim_is_paused(cluster, d->node)) {
        d->what = SIM_DO_CONTINUE;
    } else if (!sim_has_corosync(cluster, d->node)) {
        d->what = SIM_DO_UP;
    } else if (sim_dice_once_in(&self->dice, 2)) {
        d->what = SIM_DO_STORE;
        d->number = 0;
    } else {
        d->what = SIM_DO_HEAL;
    }
}

static void
make_advance(SimWorkload *self, SimDecision *d)
{
    SimDice *dice = &self->dice;

    d->what = SIM_DO_ADVANCE;
    d->number = sim_dice_range(dice, 10, 400);
    if (sim_dice_once_in(dice, 10)) {
        d->number = sim_dice_range(dice, 1000, 20000);
    }
    if (sim_dice_once_in(dice, self->has_locks ? 30 : 200)) {
        d->number = sim_dice_range(dice, 110000, 130000);
    }
}

/* --- what comes next ------------------------------------------------------ */

/* Something that can happen; a slow node does it seldom. */
static void
make_step(SimWorkload *self, SimCluster *cluster, SimDecision *d)
{
    static const struct {
        SimDo what;
        gboolean (*can)(SimCluster *, guint);
    } steps[] = {{SIM_DO_ORDER, sim_can_order}, {SIM_DO_ORDER, sim_can_order},
                 {SIM_DO_GET, sim_can_get},     {SIM_DO_GET, sim_can_get},
                 {SIM_DO_GET, sim_can_get},     {SIM_DO_COMMIT, sim_can_commit},
                 {SIM_DO_TELL, sim_can_tell},   {SIM_DO_WORK, sim_can_work}};
    SimDice *dice = &self->dice;

    d->number = sim_dice_range(dice, 1, self->burst);
    for (guint i = 0; i < 20; i++) {
        guint step = sim_dice(dice, G_N_ELEMENTS(steps));

        d->what = steps[step].what;
        d->node = sim_dice(dice, self->n);
        if (steps[step].can(cluster, d->node) &&
            ((self->slow & 1u << d->node) == 0 || sim_dice_once_in(dice, 8))) {
            return;
        }
    }
}

/* The nodes start, and one makes the directories. */
static gboolean
begin(SimWorkload *self, SimDecision *d)
{
    guint step = self->started++;

    if (step < self->n) {
        d->node = step;
        d->what = (self->old & 1u << step) != 0 ? SIM_DO_OLD : SIM_DO_FLUSH;
    } else if (step < 2 * self->n) {
        d->node = step - self->n;
        d->what = SIM_DO_START;
    } else if (step == 2 * self->n) {
        d->what = SIM_DO_RUN;
    } else if (step <= 2 * self->n + G_N_ELEMENTS(directories)) {
        d->what = SIM_DO_SUBMIT;
        d->op = CFS_OP_MKDIR;
        d->path = directories[step - 2 * self->n - 1];
    } else {
        return FALSE;
    }
    return TRUE;
}

SimDecision
sim_workload_next(SimWorkload *self, SimCluster *cluster)
{
    SimDice *dice = &self->dice;
    SimDecision d = {0};

    if (begin(self, &d)) {
        return d;
    }
    d.node = sim_dice(dice, self->n);
    d.dice = sim_dice_next(dice) >> 32;
    if (self->forces_next) {
        self->forces_next = FALSE;
        d.what = SIM_DO_FORCE;
    } else if (self->fault_every > 0 &&
               sim_dice_once_in(dice, self->fault_every)) {
        make_fault(self, &d);
    } else if (self->fault_every > 0 &&
               sim_dice_once_in(dice, self->fault_every)) {
        make_cure(self, cluster, &d);
    } else if (sim_dice_once_in(dice, self->rest_every)) {
        d.what = SIM_DO_RUN;
    } else if (sim_dice_once_in(dice, self->advance_every)) {
        make_advance(self, &d);
    } else if (sim_dice_once_in(dice, self->submit_every)) {
        d.what = SIM_DO_SUBMIT;
        if (sim_dice_once_in(dice, self->sync_every)) {
            d.what = SIM_DO_SYNC;
        } else {
            make_op(self, cluster, &d);
        }
    } else {
        make_step(self, cluster, &d);
    }
    return d;
}
