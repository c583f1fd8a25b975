#include "config.h"

#include "tests/sim/sim-group.h"

#include <string.h>

/* Rings of the partitions, then one for each host that is down. */
#define N_RINGS (2 * SIM_MAX_NODES)

typedef enum {
    ITEM_MESSAGE,
    ITEM_JOIN,
    ITEM_LEAVE,
} ItemKind;

/* What hosts order. */
typedef struct {
    ItemKind kind;
    CfsMember member; /* who sent, joined or left */
    guint connection; /* of its host */
    GBytes *bytes;    /* MESSAGE */
} Item;

typedef struct {
    guint partition;
    gboolean is_up;
    gboolean is_open; /* a process is connected */
    CfsMember process;
    guint connection;    /* counts them */
    gboolean is_reading; /* its join was ordered */
    GQueue out;          /* of Item: sent, not ordered */
    GQueue in;           /* of SimGet: of rings that are over */
    guint got;           /* how far it read in its ring's log */
    guint reached;       /* how far any process of it read in this ring */
    GArray *view;        /* of CfsMember: as far as it read */
} Host;

/* One ring: what its hosts ordered. */
typedef struct {
    guint64 number;
    GPtrArray *log; /* of Item */
    GArray *base;   /* of CfsMember: when it began */
    GArray *view;   /* ... and now */
} Ring;

struct SimGroup {
    guint n_nodes;
    SimDice dice;
    guint64 next_ring;
    Host hosts[SIM_MAX_NODES];
    Ring rings[N_RINGS];
    gboolean is_new[N_RINGS]; /* of the change under way */
};

/* --- small parts ---------------------------------------------------------- */

void
sim_get_clear(SimGet *self)
{
    g_clear_pointer(&self->bytes, g_bytes_unref);
    g_clear_pointer(&self->members, g_array_unref);
}

static void
get_free(gpointer data)
{
    sim_get_clear(data);
    g_free(data);
}

static void
item_free(gpointer data)
{
    Item *self = data;

    g_clear_pointer(&self->bytes, g_bytes_unref);
    g_free(self);
}

static GArray *
view_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(CfsMember));
}

static GArray *
view_copy(GArray *from)
{
    return g_array_copy(from);
}

static void
view_replace(GArray **view, GArray *from)
{
    g_array_unref(*view);
    *view = view_copy(from);
}

/* A process is in a view once. */
static void
view_apply(GArray *view, const Item *item)
{
    for (guint i = 0; i < view->len; i++) {
        if (cfs_member_equal(g_array_index(view, CfsMember, i), item->member)) {
            g_array_remove_index(view, i);
            break;
        }
    }
    if (item->kind == ITEM_JOIN) {
        g_array_append_val(view, item->member);
        g_array_sort(view, cfs_member_compare);
    }
}

static guint
host_of(CfsMember member)
{
    return member.nodeid - 1;
}

/* The ring a host is in or, where it is down, its own. */
static guint
ring_number(const SimGroup *self, guint node, const guint *partition)
{
    return self->hosts[node].is_up ? partition[node] : SIM_MAX_NODES + node;
}

static Ring *
ring_of(SimGroup *self, guint node)
{
    return &self->rings[self->hosts[node].is_up ? self->hosts[node].partition
                                                : SIM_MAX_NODES + node];
}

static guint64
place_of(guint64 ring, guint position)
{
    return ring << 24 | position;
}

SimGroup *
sim_group_new(guint n_nodes, guint64 seed)
{
    SimGroup *self = g_new0(SimGroup, 1);

    g_assert(n_nodes <= SIM_MAX_NODES);
    self->n_nodes = n_nodes;
    self->dice.state = seed;
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        self->hosts[i].is_up = TRUE;
        self->hosts[i].view = view_new();
        g_queue_init(&self->hosts[i].out);
        g_queue_init(&self->hosts[i].in);
    }
    for (guint i = 0; i < N_RINGS; i++) {
        self->rings[i].number = ++self->next_ring;
        self->rings[i].log = g_ptr_array_new_with_free_func(item_free);
        self->rings[i].base = view_new();
        self->rings[i].view = view_new();
    }
    return self;
}

void
sim_group_free(SimGroup *self)
{
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        g_array_unref(self->hosts[i].view);
        g_queue_clear_full(&self->hosts[i].out, item_free);
        g_queue_clear_full(&self->hosts[i].in, get_free);
    }
    for (guint i = 0; i < N_RINGS; i++) {
        g_ptr_array_unref(self->rings[i].log);
        g_array_unref(self->rings[i].base);
        g_array_unref(self->rings[i].view);
    }
    g_free(self);
}

void
sim_group_set_dice(SimGroup *self, guint64 seed)
{
    self->dice.state = seed;
}

/* --- what a process reads ------------------------------------------------- */

static void
push_confchg(Host *host, GArray *members, gboolean has_joined, guint64 place)
{
    SimGet *get = g_new0(SimGet, 1);

    get->kind = SIM_GET_CONFCHG;
    get->members = view_copy(members);
    get->has_joined = has_joined;
    get->place = place;
    get->ring = place >> 24;
    g_queue_push_tail(&host->in, get);
    view_replace(&host->view, members);
}

/* What an ordered item is to the process of @host. */
static void
push_item(Host *host, const Item *item, guint64 place)
{
    SimGet *get;

    if (item->kind != ITEM_MESSAGE) {
        g_autoptr(GArray) view = view_copy(host->view);

        view_apply(view, item);
        push_confchg(host, view, item->kind == ITEM_JOIN, place);
        return;
    }
    get = g_new0(SimGet, 1);
    get->kind = SIM_GET_MESSAGE;
    get->sender = item->member;
    get->bytes = g_bytes_ref(item->bytes);
    get->place = place;
    get->ring = place >> 24;
    g_queue_push_tail(&host->in, get);
}

gboolean
sim_group_get(SimGroup *self, guint node, SimGet *out)
{
    Host *host = &self->hosts[node];
    Ring *ring = ring_of(self, node);
    SimGet *next;

    if (!host->is_reading) {
        return FALSE;
    }
    if (host->in.length == 0 && host->got < ring->log->len) {
        push_item(host, g_ptr_array_index(ring->log, host->got),
                  place_of(ring->number, host->got));
        host->got++;
    }
    next = g_queue_pop_head(&host->in);
    if (next == NULL) {
        return FALSE;
    }
    *out = *next;
    g_free(next);
    return TRUE;
}

gboolean
sim_group_has_input(SimGroup *self, guint node)
{
    const Host *host = &self->hosts[node];

    return host->is_reading &&
           (host->in.length > 0 || host->got < ring_of(self, node)->log->len);
}

/* --- what a process sends ------------------------------------------------- */

static void
push_out(Host *host, ItemKind kind, GBytes *bytes)
{
    Item *item = g_new0(Item, 1);

    item->kind = kind;
    item->member = host->process;
    item->connection = host->connection;
    item->bytes = bytes != NULL ? g_bytes_ref(bytes) : NULL;
    g_queue_push_tail(&host->out, item);
}

void
sim_group_join(SimGroup *self, guint node, guint32 pid)
{
    Host *host = &self->hosts[node];

    g_assert(!host->is_open && host->is_up);
    host->is_open = TRUE;
    host->process = (CfsMember){node + 1, pid};
    host->connection++;
    push_out(host, ITEM_JOIN, NULL);
}

void
sim_group_drop(SimGroup *self, guint node)
{
    Host *host = &self->hosts[node];

    host->is_open = FALSE;
    host->is_reading = FALSE;
    host->reached = MAX(host->reached, host->got);
    host->got = 0;
    g_queue_clear_full(&host->in, get_free);
}

void
sim_group_leave(SimGroup *self, guint node)
{
    push_out(&self->hosts[node], ITEM_LEAVE, NULL);
    sim_group_drop(self, node);
}

/* What the process handed over last may not have reached its host. */
void
sim_group_kill(SimGroup *self, guint node)
{
    Host *host = &self->hosts[node];

    while (host->out.length > 0 && sim_dice_once_in(&self->dice, 2)) {
        Item *last = g_queue_peek_tail(&host->out);

        if (last->kind != ITEM_MESSAGE) {
            break;
        }
        item_free(g_queue_pop_tail(&host->out));
    }
    sim_group_leave(self, node);
}

gboolean
sim_group_is_member(SimGroup *self, guint node)
{
    return self->hosts[node].is_open;
}

void
sim_group_send(SimGroup *self, guint node, GBytes *bytes)
{
    if (self->hosts[node].is_open) {
        push_out(&self->hosts[node], ITEM_MESSAGE, bytes);
    }
}

gboolean
sim_group_order(SimGroup *self, guint node)
{
    Host *host = &self->hosts[node];
    Ring *ring = ring_of(self, node);
    Item *item = g_queue_pop_head(&host->out);

    if (item == NULL) {
        return FALSE;
    }
    if (item->kind == ITEM_JOIN && host->is_open &&
        item->connection == host->connection) {
        host->is_reading = TRUE;
        host->got = ring->log->len;
        view_replace(&host->view, ring->view);
    }
    if (item->kind != ITEM_MESSAGE) {
        view_apply(ring->view, item);
    }
    g_ptr_array_add(ring->log, item);
    return TRUE;
}

gboolean
sim_group_has_output(SimGroup *self, guint node)
{
    return self->hosts[node].out.length > 0;
}

/* --- rings ---------------------------------------------------------------- */

/* Those of one ring that go on together. */
typedef struct {
    SimGroup *group;
    const guint *next; /* by host: its next ring */
    guint from, to;
    guint limit;     /* all before it is there */
    guint64 number;  /* of what comes behind */
    GArray *told;    /* of CfsMember: who was in, by all that is there */
    GArray *staying; /* ... and is on this side */
} Side;

static gboolean
is_on_side(const Side *side, guint node)
{
    return side->group->hosts[node].is_up &&
           ring_of(side->group, node) == &side->group->rings[side->from] &&
           side->next[node] == side->to;
}

static gboolean
is_side_empty(const Side *side)
{
    for (guint i = 0; i < side->group->n_nodes; i++) {
        if (is_on_side(side, i)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* At least as far as the furthest of its processes was, also those that are
 * gone: their hosts have it. */
static guint
find_limit(Side *side)
{
    guint length = side->group->rings[side->from].log->len, limit = 0;

    for (guint i = 0; i < side->group->n_nodes; i++) {
        const Host *host = &side->group->hosts[i];

        if (is_on_side(side, i)) {
            limit = MAX(limit, MAX(host->got, host->reached));
        }
    }
    return sim_dice_range(&side->group->dice, limit, length);
}

static gboolean
has_item(const Side *side, guint position)
{
    const Item *item =
        g_ptr_array_index(side->group->rings[side->from].log, position);

    return position < side->limit || is_on_side(side, host_of(item->member));
}

static void
find_views(Side *side)
{
    Ring *ring = &side->group->rings[side->from];

    side->told = view_copy(ring->base);
    side->staying = view_new();
    for (guint k = 0; k < ring->log->len; k++) {
        const Item *item = g_ptr_array_index(ring->log, k);

        if (item->kind != ITEM_MESSAGE && has_item(side, k)) {
            view_apply(side->told, item);
        }
    }
    for (guint i = 0; i < side->told->len; i++) {
        CfsMember member = g_array_index(side->told, CfsMember, i);

        if (is_on_side(side, host_of(member))) {
            g_array_append_val(side->staying, member);
        }
    }
}

static void
drain_host(Side *side, Host *host)
{
    Ring *ring = &side->group->rings[side->from];
    gboolean is_whole = TRUE;

    for (guint k = host->got; k < ring->log->len; k++) {
        if (!has_item(side, k)) {
            is_whole = FALSE;
        } else {
            push_item(host, g_ptr_array_index(ring->log, k),
                      place_of(is_whole ? ring->number : side->number, k));
        }
    }
    host->got = 0;
}

/* Ends a ring for one side: all that is there, then who is gone. */
static void
end_side(Side *side, GArray *next_view, gboolean at_once)
{
    SimGroup *self = side->group;

    if (is_side_empty(side)) {
        return;
    }
    side->number = ++self->next_ring;
    side->limit = find_limit(side);
    find_views(side);
    for (guint i = 0; i < self->n_nodes; i++) {
        Host *host = &self->hosts[i];

        if (is_on_side(side, i)) {
            host->reached = 0;
        }
        if (!is_on_side(side, i) || !host->is_reading) {
            continue;
        }
        drain_host(side, host);
        if (!at_once && side->staying->len < side->told->len) {
            push_confchg(host, side->staying, FALSE, place_of(side->number, 0));
        }
    }
    g_array_append_vals(next_view, side->staying->data, side->staying->len);
    g_clear_pointer(&side->told, g_array_unref);
    g_clear_pointer(&side->staying, g_array_unref);
}

static gboolean
views_equal(GArray *a, GArray *b)
{
    return a->len == b->len &&
           (a->len == 0 ||
            memcmp(a->data, b->data, a->len * sizeof(CfsMember)) == 0);
}

/* One that got nobody new was told who left, or both at once. */
static gboolean
has_new(GArray *view, GArray *old)
{
    for (guint i = 0; i < view->len; i++) {
        gboolean found = FALSE;

        for (guint k = 0; k < old->len && !found; k++) {
            found = cfs_member_equal(g_array_index(view, CfsMember, i),
                                     g_array_index(old, CfsMember, k));
        }
        if (!found) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
begin_ring(SimGroup *self, guint number, GArray *view)
{
    Ring *ring = &self->rings[number];

    g_array_sort(view, cfs_member_compare);
    ring->number = ++self->next_ring;
    g_ptr_array_set_size(ring->log, 0);
    view_replace(&ring->base, view);
    view_replace(&ring->view, view);
}

static void
announce(SimGroup *self, guint number)
{
    Ring *ring = &self->rings[number];

    for (guint i = 0; i < self->n_nodes; i++) {
        Host *host = &self->hosts[i];

        if (host->is_reading && ring_of(self, i) == ring &&
            !views_equal(host->view, ring->view)) {
            push_confchg(host, ring->view, has_new(ring->view, host->view),
                         place_of(ring->number, (1u << 24) - 1));
        }
    }
}

/* All rings end; each host goes to its next one. */
static void
change_rings(SimGroup *self, const guint *next)
{
    GArray *views[N_RINGS];
    gboolean *changed = self->is_new;

    for (guint i = 0; i < N_RINGS; i++) {
        views[i] = view_new();
        changed[i] = FALSE;
    }
    for (guint i = 0; i < self->n_nodes; i++) {
        guint now = (guint)(ring_of(self, i) - self->rings);

        if (next[i] != now) {
            changed[next[i]] = changed[now] = TRUE;
        }
    }
    for (guint to = 0; to < SIM_MAX_NODES; to++) {
        gboolean at_once = sim_dice_once_in(&self->dice, 4);

        for (guint from = 0; from < SIM_MAX_NODES; from++) {
            Side side = {.group = self, .next = next, .from = from, .to = to};

            if (changed[from] && changed[to]) {
                end_side(&side, views[to], at_once);
            }
        }
    }
    for (guint i = 0; i < N_RINGS; i++) {
        if (changed[i]) {
            begin_ring(self, i, views[i]);
        }
        g_array_unref(views[i]);
    }
}

static void
announce_all(SimGroup *self)
{
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        if (self->is_new[i]) {
            announce(self, i);
        }
    }
}

void
sim_group_partition(SimGroup *self, const guint *partition)
{
    guint next[SIM_MAX_NODES];

    for (guint i = 0; i < self->n_nodes; i++) {
        g_assert(partition[i] < SIM_MAX_NODES);
        next[i] = ring_number(self, i, partition);
    }
    change_rings(self, next);
    for (guint i = 0; i < self->n_nodes; i++) {
        self->hosts[i].partition = partition[i];
    }
    announce_all(self);
}

guint
sim_group_partition_of(SimGroup *self, guint node)
{
    return self->hosts[node].partition;
}

/* Where the hosts are; @node's is to be @number. */
static void
move_host(SimGroup *self, guint node, guint number)
{
    guint next[SIM_MAX_NODES];

    for (guint i = 0; i < self->n_nodes; i++) {
        next[i] = (guint)(ring_of(self, i) - self->rings);
    }
    next[node] = number;
    change_rings(self, next);
}

void
sim_group_host_down(SimGroup *self, guint node)
{
    Host *host = &self->hosts[node];

    g_assert(!host->is_open && host->is_up);
    g_queue_clear_full(&host->out, item_free);
    host->reached = 0;
    move_host(self, node, SIM_MAX_NODES + node);
    host->is_up = FALSE;
    announce_all(self);
}

void
sim_group_host_up(SimGroup *self, guint node)
{
    Host *host = &self->hosts[node];

    g_assert(!host->is_up);
    move_host(self, node, host->partition);
    host->is_up = TRUE;
    announce_all(self);
}

gboolean
sim_group_is_host_up(SimGroup *self, guint node)
{
    return self->hosts[node].is_up;
}
