#include "config.h"

#include "pmxcfs/core/tree.h"

#include "pmxcfs/core/core-error.h"

#include <errno.h>
#include <string.h>

/* One entry in its place. The entry itself is immutable and may live longer
 * than the node, in the store or in a reply. */
typedef struct {
    guint64 inode;
    CfsEntry *entry;
    GHashTable *children; /* name -> Node, borrowed; NULL for a file */
} Node;

struct CfsTree {
    GHashTable *nodes; /* inode -> Node, owned; with the root */
    Node *root;
    CfsGuests *guests;
    guint64 total_bytes;
    GHashTable *phantoms; /* set of guint64, each in its Node */
};

void
cfs_change_free(CfsChange *self)
{
    if (self == NULL) {
        return;
    }
    cfs_entry_unref(self->before);
    cfs_entry_unref(self->after);
    g_free(self->path);
    g_free(self->new_path);
    g_free(self);
}

GPtrArray *
cfs_changes_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)cfs_change_free);
}

/* --- nodes -------------------------------------------------------------- */

static void
node_free(gpointer data)
{
    Node *self = data;

    g_clear_pointer(&self->children, g_hash_table_unref);
    cfs_entry_unref(self->entry);
    g_free(self);
}

static void
note_phantom(CfsTree *self, Node *node)
{
    if (cfs_entry_is_phantom(node->entry)) {
        g_hash_table_add(self->phantoms, &node->inode);
    } else {
        g_hash_table_remove(self->phantoms, &node->inode);
    }
}

/* Takes @entry. */
static Node *
node_add(CfsTree *self, CfsEntry *entry)
{
    Node *node = g_new0(Node, 1);

    node->inode = entry->inode;
    node->entry = entry;
    if (cfs_entry_is_directory(entry)) {
        node->children = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_replace(self->nodes, &node->inode, node);
    note_phantom(self, node);
    self->total_bytes += entry->size;
    return node;
}

static Node *
node_get(CfsTree *self, guint64 inode)
{
    return g_hash_table_lookup(self->nodes, &inode);
}

static void
node_link(Node *parent, Node *child)
{
    g_hash_table_replace(parent->children, child->entry->name, child);
}

static void
node_unlink(CfsTree *self, Node *child)
{
    Node *parent = node_get(self, child->entry->parent);

    if (parent != NULL && parent->children != NULL) {
        g_hash_table_remove(parent->children, child->entry->name);
    }
}

static void
node_remove(CfsTree *self, Node *node)
{
    node_unlink(self, node);
    self->total_bytes -= node->entry->size;
    g_hash_table_remove(self->phantoms, &node->inode);
    g_hash_table_remove(self->nodes, &node->inode);
}

/* Takes @entry, which has the same inode. The key in the parent's table is the
 * name inside the entry, so a linked node is linked anew. */
static void
node_set_entry(CfsTree *self, Node *node, CfsEntry *entry)
{
    Node *parent;

    g_assert(entry->inode == node->inode);
    if (node != self->root) {
        node_unlink(self, node);
    }
    self->total_bytes += entry->size;
    self->total_bytes -= node->entry->size;
    cfs_entry_unref(node->entry);
    node->entry = entry;
    note_phantom(self, node);
    if (node == self->root) {
        return;
    }
    parent = node_get(self, entry->parent);
    g_assert(parent != NULL && parent->children != NULL);
    node_link(parent, node);
}

static gboolean
node_is_directory(const Node *node)
{
    return node->children != NULL;
}

static gboolean
node_is_full_directory(const Node *node)
{
    return node_is_directory(node) && g_hash_table_size(node->children) > 0;
}

/* --- paths -------------------------------------------------------------- */

/* Takes the next component off @path; empty ones are skipped. Returns its
 * length and sets @component, or 0 at the end. */
static gsize
next_component(const char **path, const char **component)
{
    const char *p = *path;
    gsize length;

    while (*p == '/') {
        p++;
    }
    length = strcspn(p, "/");
    *component = p;
    *path = p + length;
    return length;
}

static Node *
child_of(const Node *parent, const char *name, gsize length)
{
    g_autofree char *heap = NULL;
    char stack[256];
    char *key = stack;

    if (parent->children == NULL) {
        return NULL;
    }
    if (length >= sizeof(stack)) {
        key = heap = g_strndup(name, length);
    } else {
        memcpy(stack, name, length);
        stack[length] = '\0';
    }
    return g_hash_table_lookup(parent->children, key);
}

static Node *
walk(CfsTree *self, const char *path, gsize size)
{
    g_autofree char *copy = g_strndup(path, size);
    const char *rest = copy, *component = NULL;
    Node *node = self->root;
    gsize length;

    if (strcmp(copy, ".") == 0) {
        return node;
    }
    while (node != NULL && (length = next_component(&rest, &component)) > 0) {
        node = child_of(node, component, length);
    }
    return node;
}

static Node *
lookup(CfsTree *self, const char *path)
{
    return path != NULL ? walk(self, path, strlen(path)) : NULL;
}

/* A path as operations that make something see it. */
typedef struct {
    Node *parent;
    char *base; /* owned */
    Node *node; /* what is there, or NULL */
} Place;

static void
place_clear(Place *self)
{
    g_clear_pointer(&self->base, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

/* Splits without judging: fills @out and returns the parent's verdict. */
static int
place_find(CfsTree *self, const char *path, Place *out)
{
    gsize end, start;

    if (path == NULL) {
        return EINVAL;
    }
    end = strlen(path);
    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    out->base = g_strndup(path + start, end - start);
    out->parent = walk(self, path, start);
    if (out->parent == NULL) {
        return ENOENT;
    }
    if (!node_is_directory(out->parent)) {
        return ENOTDIR;
    }
    out->node = child_of(out->parent, out->base, strlen(out->base));
    return 0;
}

static int
place_check(CfsTree *self, const char *path, Place *out)
{
    int verdict = place_find(self, path, out);

    if (verdict != 0) {
        return verdict;
    }
    if (out->base[0] == '\0' || strcmp(out->base, ".") == 0 ||
        strcmp(out->base, "..") == 0) {
        return EACCES;
    }
    return 0;
}

/* Without a leading slash and with single slashes, for comparing. */
static char *
normalize(const char *path)
{
    GString *out = g_string_new(NULL);
    const char *component = NULL;
    gsize length;

    while ((length = next_component(&path, &component)) > 0) {
        if (out->len > 0) {
            g_string_append_c(out, '/');
        }
        g_string_append_len(out, component, (gssize)length);
    }
    return g_string_free(out, FALSE);
}

static gboolean
is_below_locks(const char *path)
{
    return g_str_has_prefix(path, "priv/lock/");
}

static gboolean
is_lock(const char *path)
{
    return is_below_locks(path) &&
           strchr(path + strlen("priv/lock/"), '/') == NULL;
}

/* --- applying ----------------------------------------------------------- */

/* What an operation is applied with. */
typedef struct {
    CfsTree *tree;
    const CfsOp *op;
    const char *path; /* normalized */
    guint32 writer;
    guint32 time;
    GPtrArray *changes;
    guint64 version; /* the tree's, should it succeed */
} Apply;

static void
note(Apply *a,
     CfsEntry *before,
     CfsEntry *after,
     const char *path,
     const char *new_path)
{
    CfsChange *change;

    if (a->changes == NULL) {
        return;
    }
    change = g_new0(CfsChange, 1);
    change->before = before != NULL ? cfs_entry_ref(before) : NULL;
    change->after = after != NULL ? cfs_entry_ref(after) : NULL;
    change->path = g_strdup(path);
    change->new_path = g_strdup(new_path);
    g_ptr_array_add(a->changes, change);
}

/* The highest number that was given out to what is there. */
static guint64
find_height(CfsTree *self)
{
    guint64 height = self->root->entry->version;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->nodes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Node *node = value;

        height = MAX(height, MAX(node->inode, node->entry->version));
    }
    return height;
}

/* A repaired tree, see repair.h, whose version says nothing. */
static gboolean
has_lowered_claim(CfsTree *self)
{
    const CfsEntry *root = self->root->entry;

    return root->version == CFS_CLAIM_VERSION &&
           root->writer == CFS_CLAIM_WRITER && root->mtime == CFS_CLAIM_MTIME;
}

/* One more than the last; for the first change of a repaired tree one more
 * than anything in it, so that no inode is given out twice. That depends on
 * the tree alone, so every member counts alike. */
static guint64
find_next_version(CfsTree *self)
{
    return (has_lowered_claim(self) ? find_height(self)
                                    : self->root->entry->version) +
           1;
}

static guint64
next_version(const Apply *a)
{
    return a->version;
}

/* Every success counts the tree's version. */
static void
advance(Apply *a, guint32 mtime)
{
    CfsEntry *entry =
        cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, next_version(a),
                      a->writer, mtime, CFS_TYPE_DIRECTORY, "", NULL);

    node_set_entry(a->tree, a->tree->root, entry);
}

static gboolean
guest_is_foreign(Apply *a, const char *path)
{
    PveGuestPath guest;

    return pve_guest_path_parse(path, &guest) &&
           cfs_guests_is_foreign(a->tree->guests, &guest);
}

static void
guest_put(Apply *a, const char *path)
{
    PveGuestPath guest;

    if (pve_guest_path_parse(path, &guest)) {
        cfs_guests_put(a->tree->guests, &guest);
    }
}

static void
guest_drop(Apply *a, const char *path)
{
    PveGuestPath guest;

    if (pve_guest_path_parse(path, &guest)) {
        cfs_guests_drop(a->tree->guests, guest.id);
    }
}

static int
add_entry(Apply *a, const Place *place, guint8 type)
{
    CfsEntry *entry;

    /* A foreign database that lost its version record once (W20): there the
     * reference overwrites what has the number. */
    if (node_get(a->tree, a->version) != NULL) {
        a->version = find_height(a->tree) + 1;
    }
    entry = cfs_entry_new(a->version, place->parent->inode, a->version,
                          a->writer, a->time, type, place->base, NULL);
    node_link(place->parent, node_add(a->tree, entry));
    advance(a, a->time);
    note(a, NULL, entry, a->path, NULL);
    return 0;
}

static int
apply_create(Apply *a)
{
    g_auto(Place) place = {0};
    int verdict = place_check(a->tree, a->op->path, &place);

    if (verdict != 0) {
        return verdict;
    }
    if (guest_is_foreign(a, a->path)) {
        return EEXIST;
    }
    if (place.node != NULL) {
        return node_is_directory(place.node) ? ENOTDIR : EEXIST;
    }
    verdict = add_entry(a, &place, CFS_TYPE_FILE);
    guest_put(a, a->path);
    return verdict;
}

static int
apply_mkdir(Apply *a)
{
    g_auto(Place) place = {0};
    int verdict = place_check(a->tree, a->op->path, &place);

    if (verdict != 0) {
        return verdict;
    }
    if (place.node != NULL) {
        return EEXIST;
    }
    return add_entry(a, &place, CFS_TYPE_DIRECTORY);
}

/* The content rules of spec/replication.md 5.3. Sets the new size; returns
 * (owned) the content, NULL for none. */
static GBytes *
write_content(const CfsEntry *old, const CfsOp *op, guint32 *size)
{
    gsize count = 0;
    const guint8 *bytes =
        op->data != NULL ? g_bytes_get_data(op->data, &count) : NULL;
    gsize end = op->offset + count;
    gboolean had_data = old->data != NULL;
    gsize new_size;
    guint8 *content;

    if (!had_data && count == 0) {
        /* Also the quirk: a growing truncate of an empty file gives a size
         * without content, on every member. */
        *size = (guint32)end;
        return NULL;
    }
    new_size = end > old->size || op->truncate || !had_data ? end : old->size;
    *size = (guint32)new_size;
    if (new_size == 0) {
        return NULL;
    }
    if (count == new_size) {
        return g_bytes_ref(op->data);
    }
    content = g_malloc0(new_size);
    if (had_data) {
        gsize old_size = 0;
        const guint8 *p = g_bytes_get_data(old->data, &old_size);

        memcpy(content, p, MIN(old_size, new_size));
    }
    if (count > 0) {
        memcpy(content + op->offset, bytes, count);
    }
    return g_bytes_new_take(content, new_size);
}

static int
apply_write(Apply *a)
{
    g_auto(Place) place = {0};
    g_autoptr(GBytes) content = NULL;
    g_autoptr(CfsEntry) old = NULL;
    gsize count = a->op->data != NULL ? g_bytes_get_size(a->op->data) : 0;
    CfsEntry *entry;
    guint32 size = 0;
    int verdict;

    if ((guint64)a->op->offset + count > CFS_MAX_FILE_BYTES) {
        return EFBIG;
    }
    verdict = place_check(a->tree, a->op->path, &place);
    if (verdict != 0) {
        return verdict;
    }
    if (guest_is_foreign(a, a->path)) {
        return EEXIST;
    }
    if (place.node == NULL) {
        return ENOENT;
    }
    if (node_is_directory(place.node)) {
        return ENOTDIR;
    }
    old = cfs_entry_ref(place.node->entry);
    content = write_content(old, a->op, &size);
    entry =
        cfs_entry_new_sized(old->inode, old->parent, next_version(a), a->writer,
                            a->time, size, old->type, old->name, content);
    node_set_entry(a->tree, place.node, entry);
    advance(a, a->time);
    note(a, old, entry, a->path, NULL);
    guest_put(a, a->path);
    return 0;
}

static int
apply_delete(Apply *a)
{
    Node *node = lookup(a->tree, a->op->path);
    g_autoptr(CfsEntry) old = NULL;

    if (node == NULL) {
        return ENOENT;
    }
    if (node == a->tree->root) {
        return EACCES;
    }
    if (node_is_full_directory(node)) {
        return ENOTEMPTY;
    }
    old = cfs_entry_ref(node->entry);
    node_remove(a->tree, node);
    advance(a, a->time);
    note(a, old, NULL, a->path, NULL);
    /* Also where the entry was a directory: peers' registries do it too. */
    guest_drop(a, a->path);
    return 0;
}

static gboolean
rename_takes_foreign_id(Apply *a, const Node *from, const char *to)
{
    PveGuestPath source, target;

    if (node_is_directory(from) || !pve_guest_path_parse(to, &target) ||
        !cfs_guests_is_foreign(a->tree->guests, &target)) {
        return FALSE;
    }
    return !(pve_guest_path_parse(a->path, &source) && source.id == target.id);
}

/* Frees the place a rename goes to. An empty directory or a file there is gone
 * at once, even when the rename then fails: peers do so. */
static int
rename_make_room(Apply *a, Node *from, const char *to, Place *place)
{
    int verdict = place_find(a->tree, a->op->to, place);
    g_autoptr(CfsEntry) old = NULL;

    if (verdict != 0) {
        return verdict;
    }
    if (place->base[0] == '\0') {
        return ENOTEMPTY; /* the root, which holds at least @from */
    }
    if (place->node == NULL) {
        return 0;
    }
    if (node_is_full_directory(place->node)) {
        return ENOTEMPTY;
    }
    old = cfs_entry_ref(place->node->entry);
    node_remove(a->tree, place->node);
    place->node = NULL;
    note(a, old, NULL, to, NULL);
    return 0;
}

static int
apply_rename(Apply *a)
{
    Node *from = lookup(a->tree, a->op->path);
    g_autofree char *to = NULL;
    g_autoptr(CfsEntry) old = NULL;
    g_auto(Place) place = {0};
    CfsEntry *entry;
    int verdict;

    if (from == NULL) {
        return ENOENT;
    }
    if (from == a->tree->root) {
        return EACCES;
    }
    if (a->op->to == NULL) {
        return EINVAL;
    }
    to = normalize(a->op->to);
    if (rename_takes_foreign_id(a, from, to)) {
        return EEXIST;
    }
    if (node_is_directory(from) && is_below_locks(a->path)) {
        return EACCES;
    }
    if (strcmp(a->path, to) == 0) {
        return 0; /* never sent by us; nothing to do */
    }
    verdict = rename_make_room(a, from, to, &place);
    if (verdict != 0) {
        return verdict;
    }
    if (node_is_full_directory(from)) {
        return ENOTEMPTY;
    }
    old = cfs_entry_ref(from->entry);
    entry = cfs_entry_new_sized(old->inode, place.parent->inode,
                                next_version(a), a->writer, a->time, old->size,
                                old->type, place.base, old->data);
    node_set_entry(a->tree, from, entry);
    advance(a, a->time);
    note(a, old, entry, a->path, to);
    if (!node_is_directory(from)) {
        guest_drop(a, a->path);
        guest_put(a, to);
    }
    return 0;
}

static int
apply_mtime(Apply *a)
{
    g_auto(Place) place = {0};
    g_autoptr(CfsEntry) old = NULL;
    CfsEntry *entry;
    int verdict = place_check(a->tree, a->op->path, &place);

    if (verdict != 0) {
        return verdict;
    }
    if (place.node == NULL) {
        return ENOENT;
    }
    old = cfs_entry_ref(place.node->entry);
    if (is_lock(a->path) && cfs_entry_is_directory(old) &&
        (a->op->offset < old->mtime || a->writer != old->writer)) {
        return EACCES;
    }
    entry = cfs_entry_new_sized(old->inode, old->parent, next_version(a),
                                a->writer, a->op->offset, old->size, old->type,
                                old->name, old->data);
    node_set_entry(a->tree, place.node, entry);
    advance(a, a->op->offset);
    note(a, old, entry, a->path, NULL);
    return 0;
}

static int
apply_unlock(Apply *a)
{
    Node *node = lookup(a->tree, a->op->path);
    guint8 sum[CFS_DIGEST_SIZE];

    if (node == NULL || !node_is_directory(node) || !is_below_locks(a->path)) {
        return 0;
    }
    cfs_entry_checksum(node->entry, sum);
    if (memcmp(sum, a->op->checksum, sizeof(sum)) != 0) {
        return 0;
    }
    return apply_delete(a);
}

/* Who asks for a lock changes nothing; the replica looks at its age. */
static int
apply_nothing(Apply *a)
{
    return 0;
}

int
cfs_tree_apply(CfsTree *self,
               const CfsOp *op,
               guint32 writer,
               guint32 time,
               GPtrArray *changes)
{
    static int (*const apply[])(Apply *) = {
        [CFS_OP_WRITE] = apply_write,
        [CFS_OP_MKDIR] = apply_mkdir,
        [CFS_OP_DELETE] = apply_delete,
        [CFS_OP_RENAME] = apply_rename,
        [CFS_OP_CREATE] = apply_create,
        [CFS_OP_MTIME] = apply_mtime,
        [CFS_OP_UNLOCK_REQUEST] = apply_nothing,
        [CFS_OP_UNLOCK] = apply_unlock,
    };
    g_autofree char *path = op->path != NULL ? normalize(op->path) : NULL;
    Apply a = {self, op, path, writer, time, changes, find_next_version(self)};

    g_assert(op->kind < G_N_ELEMENTS(apply) && apply[op->kind] != NULL);
    return apply[op->kind](&a);
}

/* --- making ------------------------------------------------------------- */

static CfsTree *
tree_alloc(void)
{
    CfsTree *self = g_new0(CfsTree, 1);

    self->nodes =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, node_free);
    self->phantoms = g_hash_table_new(g_int64_hash, g_int64_equal);
    self->guests = cfs_guests_new();
    return self;
}

CfsTree *
cfs_tree_new(guint32 mtime)
{
    CfsTree *self = tree_alloc();

    self->root =
        node_add(self, cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, 1, 0,
                                     mtime, CFS_TYPE_DIRECTORY, "", NULL));
    return self;
}

void
cfs_tree_free(CfsTree *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->phantoms);
    g_hash_table_unref(self->nodes);
    cfs_guests_free(self->guests);
    g_free(self);
}

/* Without a version record counting starts behind all that was ever given
 * out: starting at 1 again would overwrite entries. */
static CfsEntry *
invent_root(GPtrArray *entries)
{
    guint64 version = 1;

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);

        version = MAX(version, MAX(entry->version, entry->inode));
    }
    return cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, version, 0, 0,
                         CFS_TYPE_DIRECTORY, "", NULL);
}

static gboolean
refuse(GError **error, const CfsEntry *entry, const char *why)
{
    g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT,
                "%s (inode = %016" G_GINT64_MODIFIER
                "X, parent = %016" G_GINT64_MODIFIER "X, name = '%s')",
                why, entry->inode, entry->parent, entry->name);
    return FALSE;
}

static gboolean
link_entry(CfsTree *self, Node *node, GError **error)
{
    const CfsEntry *entry = node->entry;
    Node *parent = node_get(self, entry->parent);

    if (entry->name[0] == '\0') {
        return refuse(error, entry, "inode has no name");
    }
    if (parent == NULL) {
        return refuse(error, entry, "missing directory inode");
    }
    if (!node_is_directory(parent)) {
        return refuse(error, entry, "parent is not a directory");
    }
    if (g_hash_table_contains(parent->children, entry->name)) {
        return refuse(error, entry, "found entry with duplicate name");
    }
    node_link(parent, node);
    return TRUE;
}

static void
register_guest(CfsTree *self, const char *path, const CfsEntry *entry)
{
    PveGuestPath guest, other;

    if (cfs_entry_is_directory(entry) || !pve_guest_path_parse(path, &guest)) {
        return;
    }
    /* Two files of one id, which a peer let in: the one changed last counts,
     * on every node alike. */
    if (cfs_guests_find(self->guests, guest.id, &other)) {
        g_autofree char *there =
            pve_guest_path_build(other.node, other.type, other.id);
        Node *node = lookup(self, there);

        if (node != NULL && node->entry->version > entry->version) {
            return;
        }
    }
    cfs_guests_put(self->guests, &guest);
}

static void
rebuild_guests(CfsTree *self)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self);

    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);
        g_autofree char *path = NULL;

        if (!cfs_entry_is_directory(entry) &&
            g_str_has_suffix(entry->name, ".conf")) {
            path = cfs_tree_path(self, entry->inode);
            if (path != NULL) {
                register_guest(self, path, entry);
            }
        }
    }
    cfs_guests_continue(self->guests, NULL, lookup(self, "nodes") != NULL);
}

CfsTree *
cfs_tree_new_from_entries(GPtrArray *entries, GError **error)
{
    g_autoptr(CfsTree) self = tree_alloc();

    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = g_ptr_array_index(entries, i);
        Node *node;

        if (node_get(self, entry->inode) != NULL) {
            refuse(error, entry, "found inode twice");
            return NULL;
        }
        node = node_add(self, cfs_entry_ref(entry));
        if (entry->inode == CFS_ROOT_INODE) {
            self->root = node;
        }
    }
    if (self->root == NULL) {
        self->root = node_add(self, invent_root(entries));
    }
    for (guint i = 0; i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);

        if (entry->inode != CFS_ROOT_INODE &&
            !link_entry(self, node_get(self, entry->inode), error)) {
            return NULL;
        }
    }
    rebuild_guests(self);
    return g_steal_pointer(&self);
}

/* --- queries ------------------------------------------------------------ */

static CfsEntry *
entry_of(Node *node)
{
    return node != NULL ? node->entry : NULL;
}

void
cfs_tree_raise(CfsTree *self, guint64 version)
{
    const CfsEntry *root = self->root->entry;

    g_assert(version > root->version);
    node_set_entry(self, self->root,
                   cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, version,
                                 root->writer, root->mtime,
                                 CFS_TYPE_DIRECTORY, "", NULL));
}

CfsEntry *
cfs_tree_root(CfsTree *self)
{
    return self->root->entry;
}

CfsEntry *
cfs_tree_get(CfsTree *self, guint64 inode)
{
    return entry_of(node_get(self, inode));
}

CfsEntry *
cfs_tree_lookup(CfsTree *self, const char *path)
{
    return entry_of(lookup(self, path));
}

CfsEntry *
cfs_tree_child(CfsTree *self, guint64 parent, const char *name)
{
    Node *node = node_get(self, parent);

    return node != NULL ? entry_of(child_of(node, name, strlen(name))) : NULL;
}

static int
compare_inodes(gconstpointer a, gconstpointer b)
{
    const CfsEntry *x = *(CfsEntry *const *)a, *y = *(CfsEntry *const *)b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* @nodes: a table with Node values. */
static GPtrArray *
collect(GHashTable *nodes)
{
    GPtrArray *entries = g_ptr_array_new_full(g_hash_table_size(nodes),
                                              (GDestroyNotify)cfs_entry_unref);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, nodes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_ptr_array_add(entries, cfs_entry_ref(((Node *)value)->entry));
    }
    g_ptr_array_sort(entries, compare_inodes);
    return entries;
}

GPtrArray *
cfs_tree_children(CfsTree *self, guint64 parent)
{
    Node *node = node_get(self, parent);

    if (node == NULL || !node_is_directory(node)) {
        return NULL;
    }
    return collect(node->children);
}

gboolean
cfs_tree_is_empty(CfsTree *self, guint64 directory)
{
    Node *node = node_get(self, directory);

    return node == NULL || !node_is_full_directory(node);
}

/* The bytes of the path of @inode with a NUL at its end, or 0: it cannot be
 * reached from the root. */
static gsize
path_size(CfsTree *self, guint64 inode)
{
    guint depth = 0;
    gsize size = 0;

    while (inode != CFS_ROOT_INODE) {
        const Node *node = node_get(self, inode);

        /* Parents can form a ring that the root does not reach. */
        if (node == NULL || depth++ > g_hash_table_size(self->nodes)) {
            return 0;
        }
        size += strlen(node->entry->name) + 1;
        inode = node->entry->parent;
    }
    return MAX(size, 1);
}

char *
cfs_tree_path(CfsTree *self, guint64 inode)
{
    gsize size = path_size(self, inode);
    char *path, *at;

    if (size == 0) {
        return NULL;
    }
    path = g_malloc(size);
    at = path + size - 1;
    *at = '\0';
    while (inode != CFS_ROOT_INODE) {
        const CfsEntry *entry = node_get(self, inode)->entry;
        gsize length = strlen(entry->name);

        at -= length;
        memcpy(at, entry->name, length);
        if (at > path) {
            *--at = '/';
        }
        inode = entry->parent;
    }
    return path;
}

GPtrArray *
cfs_tree_entries(CfsTree *self)
{
    return collect(self->nodes);
}

guint
cfs_tree_n_entries(CfsTree *self)
{
    return g_hash_table_size(self->nodes);
}

guint64
cfs_tree_total_bytes(CfsTree *self)
{
    return self->total_bytes;
}

CfsGuests *
cfs_tree_guests(CfsTree *self)
{
    return self->guests;
}

CfsEntry *
cfs_tree_find_phantom(CfsTree *self)
{
    GHashTableIter iter;
    gpointer key;
    guint64 lowest = G_MAXUINT64;

    if (g_hash_table_size(self->phantoms) == 0) {
        return NULL;
    }
    g_hash_table_iter_init(&iter, self->phantoms);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        lowest = MIN(lowest, *(guint64 *)key);
    }
    return cfs_tree_get(self, lowest);
}

/* --- digests ------------------------------------------------------------ */

GBytes *
cfs_tree_index(CfsTree *self)
{
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self);
    const CfsEntry *last = g_ptr_array_index(entries, entries->len - 1);
    const CfsEntry *root = self->root->entry;
    guint32 size = 32 + 40 * entries->len;
    GByteArray *out = g_byte_array_sized_new(size);

    pve_write_u64(out, root->version);
    pve_write_u64(out, last->inode);
    pve_write_u32(out, root->writer);
    pve_write_u32(out, root->mtime);
    pve_write_u32(out, entries->len);
    pve_write_u32(out, size);
    for (guint i = 0; i < entries->len; i++) {
        CfsEntry *entry = g_ptr_array_index(entries, i);
        guint8 digest[CFS_DIGEST_SIZE];

        cfs_entry_digest(entry, digest);
        pve_write_u64(out, entry->inode);
        pve_write_bytes(out, digest, sizeof(digest));
    }
    return g_byte_array_free_to_bytes(out);
}

void
cfs_tree_forget_digests(CfsTree *self)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->nodes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        cfs_entry_forget_digest(((Node *)value)->entry);
    }
}

void
cfs_tree_checksum(CfsTree *self, guint8 out[CFS_DIGEST_SIZE])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autoptr(GPtrArray) entries = cfs_tree_entries(self);
    gsize length = CFS_DIGEST_SIZE;

    for (guint i = 0; i < entries->len; i++) {
        cfs_entry_update_checksum(g_ptr_array_index(entries, i), sum);
    }
    g_checksum_get_digest(sum, out, &length);
    g_assert(length == CFS_DIGEST_SIZE);
}
