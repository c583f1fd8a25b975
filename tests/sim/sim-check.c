#include "config.h"

#include "tests/sim/sim-check.h"

#include "tests/sim/sim-line.h"
#include "tests/sim/sim-wire.h"

#include <errno.h>
#include <string.h>

/* .version is read at every so many steps, and after each reload. */
#define VERSION_EVERY 16u

/* A request that has no answer yet. */
typedef struct {
    guint64 id;
    CfsOpKind kind;
    char *path;
    char *to;
    gboolean is_applied;
} Request;

typedef struct {
    CfsReplica *replica; /* NULL: no process */
    CfsMember member;
    SimWire *wire;
    GHashTable *hashes;   /* inode -> hash of the entry */
    GHashTable *requests; /* id -> Request */
    GHashTable *barriers; /* id -> SimLine: what it covers */
    guint n_members;      /* nodes of its configuration */
    guint64 hash;         /* of the tree, from the STORE effects */
    guint64 root_hash;    /* of its root */
    const SimLine *line;
    guint64 ring, place; /* of what it got last */
    gboolean is_get;     /* the step has a place */
    gboolean is_edited;
    gboolean is_reloading;
    gboolean is_reloaded;
    CfsMode mode;    /* before the step */
    GArray *numbers; /* of .version */
    guint steps;
} Node;

/* What one has that holds a lock directory. */
typedef struct {
    guint64 inode;
    guint node;
    gboolean is_released;
} Holder;

/* What a barrier was answered for, and where in the total order. */
typedef struct {
    const SimLine *line;
    guint64 place;
} Promise;

struct SimCheck {
    Node nodes[SIM_MAX_NODES];
    SimLines *lines;
    GHashTable *places;  /* place -> hash of the tree */
    GHashTable *touched; /* inode of a lock -> clock of its last renewal */
    GHashTable *holders; /* path of a lock -> Holder */
    GHashTable *removed; /* path of a lock -> deletes without an outcome */
    GHashTable *deleted; /* inodes of locks that somebody deleted */
    /* barriers */
    guint n_nodes;
    SimFlushedHash flushed_hash;
    gpointer disks;
    gboolean has_lost_disk;
    gboolean has_no_terms;
    GArray *promises; /* of Promise */
    gboolean is_kept;
    gboolean has_bad_peer;
    char *violation;
};

/* --- small parts ---------------------------------------------------------- */

static void
request_free(gpointer data)
{
    Request *self = data;

    g_free(self->path);
    g_free(self->to);
    g_free(self);
}

static GHashTable *
numbers_new(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
}

static void
numbers_set(GHashTable *table, guint64 key, guint64 value)
{
    g_hash_table_replace(table, g_memdup2(&key, sizeof(key)),
                         g_memdup2(&value, sizeof(value)));
}

SimCheck *
sim_check_new(void)
{
    SimCheck *self = g_new0(SimCheck, 1);

    self->lines = sim_lines_new();
    self->places = numbers_new();
    self->promises = g_array_new(FALSE, FALSE, sizeof(Promise));
    self->touched = numbers_new();
    self->deleted = numbers_new();
    self->removed =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->holders =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
sim_check_free(SimCheck *self)
{
    for (guint i = 0; i < SIM_MAX_NODES; i++) {
        sim_check_end(self, i);
    }
    sim_lines_free(self->lines);
    g_hash_table_unref(self->places);
    g_array_unref(self->promises);
    g_hash_table_unref(self->touched);
    g_hash_table_unref(self->holders);
    g_hash_table_unref(self->removed);
    g_hash_table_unref(self->deleted);
    g_free(self->violation);
    g_free(self);
}

void
sim_check_bad_peer(SimCheck *self)
{
    self->has_bad_peer = TRUE;
}

/* The only sign of some needless ways out. */
void
sim_check_trace(SimCheck *self, guint node, const char *text)
{
    if (!self->has_bad_peer && g_str_has_prefix(text, "state transfer ref")) {
        sim_check_fail(self, "transfer", "node %u: %s", node, text);
    }
}

void
sim_check_keep(SimCheck *self)
{
    self->is_kept = TRUE;
}

const char *
sim_check_violation(SimCheck *self)
{
    return self->violation;
}

void
sim_check_fail(SimCheck *self, const char *name, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (self->violation != NULL) {
        return;
    }
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    self->violation = g_strconcat(name, ": ", text, NULL);
    if (!self->is_kept) {
        g_error("%s", self->violation);
    }
}

/* --- processes ------------------------------------------------------------ */

static void
put_entry(Node *node, const CfsEntry *entry)
{
    guint64 *old = g_hash_table_lookup(node->hashes, &entry->inode);
    guint64 hash = sim_entry_hash(entry);

    node->hash += hash - (old != NULL ? *old : 0);
    if (entry->inode == CFS_ROOT_INODE) {
        node->root_hash = hash;
    }
    if (old != NULL) {
        *old = hash;
    } else {
        numbers_set(node->hashes, entry->inode, hash);
    }
}

static void
delete_entry(Node *node, guint64 inode)
{
    guint64 *old = g_hash_table_lookup(node->hashes, &inode);

    if (old != NULL) {
        node->hash -= *old;
        g_hash_table_remove(node->hashes, &inode);
    }
}

void
sim_check_start(SimCheck *self,
                guint number,
                CfsMember member,
                CfsReplica *replica)
{
    Node *node = &self->nodes[number];
    CfsTree *tree = cfs_replica_tree(replica);
    g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);

    node->replica = replica;
    node->member = member;
    node->wire = sim_wire_new(member);
    node->hashes = numbers_new();
    node->requests =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, request_free);
    node->barriers =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    node->n_members = 0;
    node->numbers = g_array_new(FALSE, FALSE, sizeof(guint64));
    node->hash = 0;
    node->ring = node->place = 0;
    for (guint i = 0; i < entries->len; i++) {
        put_entry(node, g_ptr_array_index(entries, i));
    }
    if (entries->len > 1 && !node->is_edited &&
        sim_lines_find(self->lines, node->hash) == NULL) {
        sim_check_fail(self, "lineage",
                       "the database of node %u holds what no node ever had",
                       number);
    }
    node->is_edited = FALSE;
    node->line =
        sim_lines_add(self->lines, node->hash, node->hash - node->root_hash,
                      cfs_tree_root(tree)->version, NULL);
}

void
sim_check_end(SimCheck *self, guint number)
{
    Node *node = &self->nodes[number];

    node->replica = NULL;
    g_clear_pointer(&node->wire, sim_wire_free);
    g_clear_pointer(&node->hashes, g_hash_table_unref);
    g_clear_pointer(&node->requests, g_hash_table_unref);
    g_clear_pointer(&node->barriers, g_hash_table_unref);
    g_clear_pointer(&node->numbers, g_array_unref);
}

void
sim_check_edited(SimCheck *self, guint node)
{
    self->nodes[node].is_edited = TRUE;
}

guint64
sim_check_hash(SimCheck *self, guint node)
{
    return self->nodes[node].hash;
}

static gboolean
is_lock(const char *path)
{
    return path != NULL && g_str_has_prefix(path, "priv/lock/") &&
           strchr(path + strlen("priv/lock/"), '/') == NULL;
}

/* --- before the step ------------------------------------------------------ */

void
sim_check_other(SimCheck *self, guint number)
{
    Node *node = &self->nodes[number];

    node->is_get = FALSE;
    node->mode = cfs_replica_mode(node->replica);
    sim_wire_on_other(node->wire);
}

void
sim_check_get(SimCheck *self, guint number, const SimGet *get)
{
    Node *node = &self->nodes[number];

    sim_check_other(self, number);
    node->is_get = TRUE;
    node->ring = get->ring;
    node->place = get->place;
    if (get->kind == SIM_GET_CONFCHG) {
        node->n_members = get->members->len; /* a node has one process */
    }
    sim_wire_on_get(node->wire, get);
}

static void
count_removal(SimCheck *self, const char *path, int more)
{
    int count = GPOINTER_TO_INT(g_hash_table_lookup(self->removed, path));

    g_hash_table_replace(self->removed, g_strdup(path),
                         GINT_TO_POINTER(count + more));
}

/* Somebody's delete may still come. */
static gboolean
may_be_removed(SimCheck *self, const char *path)
{
    return GPOINTER_TO_INT(g_hash_table_lookup(self->removed, path)) > 0;
}

static Holder *
holder_of(SimCheck *self, const char *path)
{
    return path != NULL ? g_hash_table_lookup(self->holders, path) : NULL;
}

void
sim_check_request(SimCheck *self, guint number, guint64 id, const CfsOp *op)
{
    Node *node = &self->nodes[number];
    Request *request = g_new0(Request, 1);
    Holder *holder = holder_of(self, op->path);

    sim_check_other(self, number);
    request->id = id;
    request->kind = op->kind;
    request->path = g_strdup(op->path);
    request->to = g_strdup(op->to);
    g_hash_table_replace(node->requests, &request->id, request);
    if (op->kind == CFS_OP_DELETE && is_lock(op->path)) {
        count_removal(self, op->path, 1);
        if (holder != NULL) {
            holder->is_released = TRUE;
        }
    }
}

/* --- locks ---------------------------------------------------------------- */

/* Any node's first sight of a renewal is no later than the deciding one's. */
static void
note_lock(SimCheck *self, const CfsChange *change, gint64 clock_ms)
{
    const CfsEntry *entry = change->after;

    if (entry != NULL && cfs_entry_is_directory(entry) &&
        (change->before == NULL || change->before->version != entry->version)) {
        guint64 key = sim_mix(entry->inode) ^ entry->version;

        if (!g_hash_table_contains(self->touched, &key)) {
            numbers_set(self->touched, key, (guint64)clock_ms);
        }
    }
}

static void
check_lock_gone(SimCheck *self,
                guint number,
                const CfsChange *change,
                gint64 clock_ms)
{
    const Holder *holder = holder_of(self, change->path);
    const guint64 *touched;
    guint64 key;

    if (change->after != NULL || holder == NULL || holder->is_released ||
        holder->inode != change->before->inode ||
        may_be_removed(self, change->path) ||
        g_hash_table_contains(self->deleted, &change->before->inode)) {
        return;
    }
    key = sim_mix(change->before->inode) ^ change->before->version;
    touched = g_hash_table_lookup(self->touched, &key);
    if (touched != NULL && clock_ms - (gint64)*touched <= 120000) {
        sim_check_fail(self, "locks",
                       "node %u removed '%s' %" G_GINT64_FORMAT
                       " ms after its last renewal",
                       number, change->path, clock_ms - (gint64)*touched);
    }
}

/* Does the last holder, as far as it can know, still hold it? */
static gboolean
is_held(SimCheck *self, const Holder *holder, const char *path, guint64 ring)
{
    const Node *node = &self->nodes[holder->node];
    const CfsEntry *entry;

    if (node->replica == NULL || holder->is_released || node->ring != ring ||
        cfs_replica_mode(node->replica) != CFS_MODE_SYNCED ||
        !cfs_replica_is_quorate(node->replica)) {
        return FALSE;
    }
    entry = cfs_tree_lookup(cfs_replica_tree(node->replica), path);
    return entry != NULL && entry->inode == holder->inode;
}

int
sim_check_holder(SimCheck *self, const char *path)
{
    const Holder *holder = holder_of(self, path);

    if (holder == NULL ||
        !is_held(self, holder, path, self->nodes[holder->node].ring)) {
        return -1;
    }
    return (int)holder->node;
}

static void
take_lock(SimCheck *self,
          guint number,
          const char *path,
          const CfsEntry *entry,
          gint64 clock_ms)
{
    Holder *old = holder_of(self, path), *holder;

    /* It hears late of what was long over when the other took it. */
    if (old != NULL && entry->inode < old->inode) {
        return;
    }
    if (old != NULL && old->inode != entry->inode &&
        is_held(self, old, path, self->nodes[number].ring)) {
        const Node *node = &self->nodes[old->node];
        const CfsEntry *held =
            cfs_tree_lookup(cfs_replica_tree(node->replica), path);
        guint64 key = sim_mix(held->inode) ^ held->version;
        const guint64 *touched = g_hash_table_lookup(self->touched, &key);

        if (touched != NULL && clock_ms - (gint64)*touched <= 120000) {
            sim_check_fail(self, "locks", "nodes %u and %u both hold '%s'",
                           old->node, number, path);
        }
    }
    holder = g_new0(Holder, 1);
    holder->inode = entry->inode;
    holder->node = number;
    holder->is_released = may_be_removed(self, path);
    g_hash_table_replace(self->holders, g_strdup(path), holder);
}

/* --- effects -------------------------------------------------------------- */

static const CfsEntry *
root_of(const CfsEffect *effect)
{
    for (guint i = 0; i < effect->store.puts->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(effect->store.puts, i);

        if (entry->inode == CFS_ROOT_INODE) {
            return entry;
        }
    }
    return NULL;
}

static void
on_store(SimCheck *self, guint number, const CfsEffect *effect)
{
    Node *node = &self->nodes[number];
    const CfsEntry *root = root_of(effect);

    for (guint i = 0; i < effect->store.deletes->len; i++) {
        delete_entry(node, g_array_index(effect->store.deletes, guint64, i));
    }
    for (guint i = 0; i < effect->store.puts->len; i++) {
        put_entry(node, g_ptr_array_index(effect->store.puts, i));
    }
    /* Until its RELOADED comes we cannot know what it is. */
    node->is_reloading = FALSE;
    if (sim_lines_find(self->lines, node->hash) != NULL) {
        node->line = sim_lines_find(self->lines, node->hash);
        return;
    }
    node->is_reloading = TRUE;
    node->line = sim_lines_add(
        self->lines, node->hash, node->hash - node->root_hash,
        root != NULL ? root->version : node->line->version, node->line);
}

/* An old holder's delete may hit the next one's lock. */
static void
note_deletion(SimCheck *self, const Request *request, const CfsEffect *effect)
{
    const CfsChange *change = effect->changed.changes->pdata[0];

    if (request->kind == CFS_OP_DELETE && is_lock(request->path)) {
        numbers_set(self->deleted, change->before->inode, 1);
    }
}

static void
on_changed(SimCheck *self, guint number, const CfsEffect *effect, gint64 now)
{
    Node *node = &self->nodes[number];
    Request *request =
        g_hash_table_lookup(node->requests, &effect->changed.origin);

    if (effect->changed.origin != 0) {
        if (request == NULL || request->is_applied) {
            sim_check_fail(self, "answers",
                           "node %u applied a request that "
                           "is not under way, or twice",
                           number);
            return;
        }
        request->is_applied = TRUE;
        note_deletion(self, request, effect);
    }
    for (guint i = 0; i < effect->changed.changes->len; i++) {
        const CfsChange *change = effect->changed.changes->pdata[i];

        if (is_lock(change->path)) {
            check_lock_gone(self, number, change, now);
            note_lock(self, change, now);
        }
    }
}

/* A rename onto itself is done without a message. */
static gboolean
needs_no_change(const Request *request)
{
    return request->kind == CFS_OP_RENAME &&
           g_strcmp0(request->path, request->to) == 0;
}

static void
on_reply(SimCheck *self, guint number, const CfsEffect *effect, gint64 now)
{
    Node *node = &self->nodes[number];
    const Request *request =
        g_hash_table_lookup(node->requests, &effect->reply.id);
    const CfsEntry *entry = effect->reply.entry;

    if (request == NULL) {
        sim_check_fail(self, "answers", "node %u answers a request twice",
                       number);
        return;
    }
    if (effect->reply.verdict == 0 && !request->is_applied &&
        !needs_no_change(request)) {
        sim_check_fail(self, "answers",
                       "node %u says done, and nothing was applied", number);
    }
    if (request->is_applied && !effect->reply.stored) {
        sim_check_fail(self, "answers",
                       "node %u does not wait for its database", number);
    }
    if (effect->reply.verdict == 0 && entry == NULL &&
        (request->kind == CFS_OP_CREATE || request->kind == CFS_OP_MKDIR)) {
        sim_check_fail(self, "answers", "node %u made nothing", number);
    }
    if (effect->reply.verdict == 0 && entry != NULL && is_lock(request->path) &&
        request->kind == CFS_OP_MKDIR) {
        take_lock(self, number, request->path, entry, now);
    }
    /* EBUSY: it may yet come. */
    if (request->kind == CFS_OP_DELETE && is_lock(request->path) &&
        effect->reply.verdict != EBUSY) {
        count_removal(self, request->path, -1);
    }
    g_hash_table_remove(node->requests, &effect->reply.id);
}

/* --- barriers ------------------------------------------------------------- */

void
sim_check_set_disks(SimCheck *self,
                    guint n_nodes,
                    SimFlushedHash flushed_hash,
                    gpointer data)
{
    self->n_nodes = n_nodes;
    self->flushed_hash = flushed_hash;
    self->disks = data;
}

static gboolean
disk_contains(SimCheck *self, guint node, const SimLine *line)
{
    const SimLine *disk =
        sim_lines_find(self->lines, self->flushed_hash(self->disks, node));

    /* A new tree has nothing in it that must be kept. */
    return line->version == 1 ||
           (disk != NULL && sim_line_contains(disk, line));
}

static guint
count_disks(SimCheck *self, const SimLine *line)
{
    guint count = 0;

    for (guint i = 0; i < self->n_nodes; i++) {
        count += disk_contains(self, i, line);
    }
    return count;
}

void
sim_check_lost_disk(SimCheck *self, guint node)
{
    self->has_lost_disk = TRUE;
    g_array_set_size(self->promises, 0);
}

void
sim_check_no_terms(SimCheck *self)
{
    self->has_no_terms = TRUE;
}

void
sim_check_sync(SimCheck *self, guint number, guint64 id)
{
    Node *node = &self->nodes[number];

    sim_check_other(self, number);
    g_hash_table_insert(node->barriers, g_memdup2(&id, sizeof(id)),
                        (gpointer)node->line);
}

void
sim_check_sync_cancel(SimCheck *self, guint number, guint64 id)
{
    sim_check_other(self, number);
    g_hash_table_remove(self->nodes[number].barriers, &id);
}

/* A member that is behind in the order may still have to hear of it. */
static void
check_promise(SimCheck *self, guint number, const Promise *promise)
{
    const Node *node = &self->nodes[number];

    if (node->replica == NULL || node->place <= promise->place ||
        node->n_members * 2 <= self->n_nodes ||
        cfs_replica_mode(node->replica) != CFS_MODE_SYNCED) {
        return;
    }
    if (!sim_line_contains(node->line, promise->line)) {
        sim_check_fail(self, "durable",
                       "node %u is synced in a majority without what was "
                       "promised (version %" G_GUINT64_FORMAT ")",
                       number, promise->line->version);
    }
}

static void
promise(SimCheck *self, guint number, const SimLine *line)
{
    Promise promise = {line, self->nodes[number].place};

    if (line->version == 1 || self->has_lost_disk) {
        return;
    }
    if (count_disks(self, line) * 2 <= self->n_nodes) {
        sim_check_fail(self, "durable",
                       "node %u says majority, but %u of %u disks have it",
                       number, count_disks(self, line), self->n_nodes);
        return;
    }
    if (self->has_no_terms) {
        return;
    }
    g_array_append_val(self->promises, promise);
    for (guint i = 0; i < self->n_nodes; i++) {
        check_promise(self, i, &promise);
    }
}

static void
on_reply_sync(SimCheck *self, guint number, const CfsEffect *effect)
{
    Node *node = &self->nodes[number];
    guint64 id = effect->reply_sync.id;
    const SimLine *line = g_hash_table_lookup(node->barriers, &id);

    if (line == NULL) {
        sim_check_fail(self, "answers", "node %u answers a barrier twice",
                       number);
        return;
    }
    g_hash_table_remove(node->barriers, &id);
    if (effect->reply_sync.verdict != 0) {
        return;
    }
    if (effect->reply_sync.level == CFS_SYNC_LEVEL_MAJORITY) {
        promise(self, number, line);
    } else if (!disk_contains(self, number, line)) {
        sim_check_fail(self, "durable",
                       "node %u does not have what it answers a barrier for",
                       number);
    }
}

/* It became synced: is all there that was promised? */
static void
check_promises(SimCheck *self, guint number)
{
    const Node *node = &self->nodes[number];

    if (node->mode == CFS_MODE_SYNCED || self->has_no_terms) {
        return;
    }
    for (guint i = 0; i < self->promises->len; i++) {
        check_promise(self, number, &g_array_index(self->promises, Promise, i));
    }
}

static void
on_send(SimCheck *self, guint number, const CfsEffect *effect)
{
    Node *node = &self->nodes[number];
    gboolean is_synced = node->mode == CFS_MODE_SYNCED ||
                         cfs_replica_mode(node->replica) == CFS_MODE_SYNCED;
    g_autofree char *problem =
        sim_wire_check(node->wire, effect->message, is_synced);

    if (problem != NULL) {
        sim_check_fail(self, "wire", "node %u: %s", number, problem);
    }
}

void
sim_check_effect(SimCheck *self,
                 guint number,
                 const CfsEffect *effect,
                 gint64 clock_ms)
{
    switch (effect->kind) {
    case CFS_EFFECT_STORE:
        on_store(self, number, effect);
        break;
    case CFS_EFFECT_RELOADED:
        self->nodes[number].is_reloaded = TRUE;
        if (self->nodes[number].is_reloading) {
            sim_check_fail(self, "lineage",
                           "node %u took over a tree that no node had", number);
        }
        break;
    case CFS_EFFECT_CHANGED:
        on_changed(self, number, effect, clock_ms);
        break;
    case CFS_EFFECT_REPLY_SYNC:
        on_reply_sync(self, number, effect);
        break;
    case CFS_EFFECT_REPLY:
        on_reply(self, number, effect, clock_ms);
        break;
    case CFS_EFFECT_CLUSTER_LOG:
        if (g_str_has_prefix(effect->log.text, "verification:")) {
            sim_check_fail(self, "digest", "node %u: %s", number,
                           effect->log.text);
        }
        break;
    case CFS_EFFECT_SEND:
        on_send(self, number, effect);
        break;
    default:
        break;
    }
}

/* --- after the step ------------------------------------------------------- */

/* All numbers in it; their order never changes. */
static void
check_version(SimCheck *self, guint number)
{
    Node *node = &self->nodes[number];
    CfsViews *views = cfs_replica_views(node->replica);
    g_autofree char *text =
        cfs_views_text(views, (guint)cfs_views_find(".version"),
                       cfs_replica_tree(node->replica));
    guint position = 0;

    for (const char *p = strchr(text, ':'); p != NULL; p = strchr(p + 1, ':')) {
        guint64 value = g_ascii_strtoull(p + 1, NULL, 10);

        if (position >= node->numbers->len) {
            g_array_append_val(node->numbers, value);
        } else if (value < g_array_index(node->numbers, guint64, position)) {
            sim_check_fail(self, "version", ".version went back on node %u",
                           number);
        } else {
            g_array_index(node->numbers, guint64, position) = value;
        }
        position++;
    }
}

void
sim_check_after(SimCheck *self, guint number)
{
    Node *node = &self->nodes[number];
    const guint64 *hash;

    if (++node->steps % VERSION_EVERY == 0 || node->is_reloaded) {
        node->is_reloaded = FALSE;
        check_version(self, number);
    }
    check_promises(self, number);
    if (!node->is_get || cfs_replica_mode(node->replica) != CFS_MODE_SYNCED) {
        return;
    }
    hash = g_hash_table_lookup(self->places, &node->place);
    if (hash == NULL) {
        numbers_set(self->places, node->place, node->hash);
    } else if (*hash != node->hash) {
        sim_check_fail(self, "digest",
                       "node %u differs from another synced member that got "
                       "the same messages",
                       number);
    }
}

static void
check_tree(SimCheck *self, guint number)
{
    Node *node = &self->nodes[number];
    g_autoptr(GPtrArray) entries =
        cfs_tree_entries(cfs_replica_tree(node->replica));
    guint64 sum = 0;

    for (guint i = 0; i < entries->len; i++) {
        sum += sim_entry_hash(g_ptr_array_index(entries, i));
    }
    if (sum != node->hash) {
        sim_check_fail(self, "digest",
                       "node %u has another tree than it stored", number);
    }
}

static void
check_guests(SimCheck *self, guint number)
{
    CfsTree *tree = cfs_replica_tree(self->nodes[number].replica);
    g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);
        g_autofree char *path = NULL;
        PveGuestPath guest;

        if (!g_str_has_suffix(entry->name, ".conf") ||
            cfs_entry_is_directory(entry)) {
            continue;
        }
        path = cfs_tree_path(tree, entry->inode);
        if (path != NULL && pve_guest_path_parse(path, &guest) &&
            !g_hash_table_add(seen, GUINT_TO_POINTER(guest.id))) {
            sim_check_fail(self, "guests", "guest %u is there twice on node %u",
                           guest.id, number);
        }
    }
}

void
sim_check_whole(SimCheck *self, guint node)
{
    check_tree(self, node);
    check_version(self, node);
    check_guests(self, node);
}
