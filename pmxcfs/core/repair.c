#include "config.h"

#include "pmxcfs/core/repair.h"

#include <stdarg.h>
#include <string.h>

#include "common/names.h"

#define NAME_SHOWN 200
/* nodes/NODE/lxc/ID.conf: below that nothing is judged by its path. */
#define PATH_DEPTH 4

typedef struct Item Item;

/* A row on its way. */
struct Item {
    const CfsRow *row;
    const char *name; /* of the row, NUL-terminated */
    char *path;       /* owned; set when it is reached, and high up */
    guint depth;
    char *why; /* owned; not NULL: set aside */
    gboolean is_directory;
    gboolean is_reached;
    GPtrArray *children; /* of Item, borrowed; NULL: none */
};

typedef struct {
    CfsRepair *out;
    GPtrArray *items;     /* of Item, owned, ascending by inode */
    GHashTable *by_inode; /* the rows that can stand in a tree */
    GHashTable *guests;   /* id -> Item */
    Item *record;         /* the version record; NULL: there is none */
    guint64 highest;      /* version or inode of any row */
} Work;

/* Rows -------------------------------------------------------------------- */

CfsRow *
cfs_row_new(guint64 inode,
            guint64 parent,
            guint64 version,
            guint32 writer,
            guint32 mtime,
            guint8 type,
            gconstpointer name,
            gsize name_size,
            GBytes *data)
{
    CfsRow *self = g_new0(CfsRow, 1);

    self->inode = inode;
    self->parent = parent;
    self->version = version;
    self->writer = writer;
    self->mtime = mtime;
    self->type = type;
    self->name = g_bytes_new(name, name_size);
    self->data =
        data != NULL && g_bytes_get_size(data) > 0 ? g_bytes_ref(data) : NULL;
    return self;
}

void
cfs_row_free(CfsRow *self)
{
    if (self == NULL) {
        return;
    }
    g_bytes_unref(self->name);
    g_clear_pointer(&self->data, g_bytes_unref);
    g_free(self);
}

GPtrArray *
cfs_rows_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)cfs_row_free);
}

static void
item_free(gpointer data)
{
    Item *self = data;

    g_clear_pointer(&self->children, g_ptr_array_unref);
    g_free((char *)self->name);
    g_free(self->path);
    g_free(self->why);
    g_free(self);
}

static int
compare_u64(guint64 a, guint64 b)
{
    return a < b ? -1 : a > b;
}

/* Of two rows the one that stays comes first. */
static int
compare_claims(const Item *a, const Item *b)
{
    int order = compare_u64(b->row->version, a->row->version);

    if (order == 0) {
        order = compare_u64(a->row->inode, b->row->inode);
    }
    if (order == 0) {
        order = g_bytes_compare(a->row->name, b->row->name);
    }
    return order != 0 ? order : compare_u64(a->row->parent, b->row->parent);
}

static int
compare_inodes(gconstpointer a, gconstpointer b)
{
    const Item *x = *(Item *const *)a, *y = *(Item *const *)b;
    int order = compare_u64(x->row->inode, y->row->inode);

    return order != 0 ? order : compare_claims(x, y);
}

static int
compare_places(gconstpointer a, gconstpointer b)
{
    const Item *x = *(Item *const *)a, *y = *(Item *const *)b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : compare_claims(x, y);
}

/* Words ------------------------------------------------------------------- */

void
cfs_repair_note(CfsRepair *self, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(self->decisions, g_strdup_vprintf(format, args));
    va_end(args);
}

/* Returns: (owned) a name fit for a log line. */
static char *
show_name(const Item *item)
{
    gsize size = 0;
    const char *bytes = g_bytes_get_data(item->row->name, &size);
    char *text = g_strndup(bytes != NULL ? bytes : "", MIN(size, NAME_SHOWN));

    for (char *p = text; *p != '\0'; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = '?';
        }
    }
    return text;
}

static void
note_row(Work *work, const Item *item, const char *what, const char *why)
{
    g_autofree char *name = show_name(item);

    cfs_repair_note(work->out,
                    "%s: %s (inode = %016" G_GINT64_MODIFIER
                    "X, parent = %016" G_GINT64_MODIFIER
                    "X, version = %" G_GUINT64_FORMAT ", name = '%s')",
                    what, why, item->row->inode, item->row->parent,
                    item->row->version, name);
}

static void set_aside(Item *item, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
set_aside(Item *item, const char *format, ...)
{
    va_list args;

    if (item->why != NULL) {
        return;
    }
    va_start(args, format);
    item->why = g_strdup_vprintf(format, args);
    va_end(args);
}

/* Each row by itself ------------------------------------------------------ */

static gboolean
is_name_whole(const Item *item)
{
    return strlen(item->name) == g_bytes_get_size(item->row->name);
}

/* Something lies in it: it was a directory once. */
static gboolean
has_rows_inside(Work *work, GHashTable *parents, const Item *item)
{
    return g_hash_table_contains(parents, &item->row->inode);
}

static void
judge_type(Work *work, GHashTable *parents, Item *item)
{
    guint8 type = item->row->type;

    item->is_directory = type == CFS_TYPE_DIRECTORY;
    if (type == CFS_TYPE_DIRECTORY && item->row->data != NULL) {
        note_row(work, item, "kept without its data",
                 "directory inode contains data");
    }
    if (type == CFS_TYPE_DIRECTORY || type == CFS_TYPE_FILE) {
        return;
    }
    if (has_rows_inside(work, parents, item)) {
        g_autofree char *why =
            g_strdup_printf("inode has unknown type %u", type);

        note_row(work, item, "taken as the directory of the rows in it", why);
        item->is_directory = TRUE;
    } else {
        set_aside(item, "inode has unknown type %u", type);
    }
}

static void
judge_row(Work *work, GHashTable *parents, Item *item)
{
    if (item->row->inode > CFS_MAX_VERSION ||
        item->row->version > CFS_MAX_VERSION) {
        set_aside(item, "inode or version that no tree can reach");
    } else if (item->name[0] == '\0' && is_name_whole(item)) {
        set_aside(item, "inode has no name");
    } else if (!is_name_whole(item)) {
        set_aside(item, "inode has a name with a NUL");
    } else if (strchr(item->name, '/') != NULL ||
               strcmp(item->name, ".") == 0 || strcmp(item->name, "..") == 0) {
        set_aside(item, "inode has a name that no path can hold");
    } else {
        judge_type(work, parents, item);
    }
}

/* Inode 0. What it is called says whether somebody made it up, yet its version
 * is the best there is. */
static void
judge_record(Work *work, Item *item)
{
    if (work->record != NULL) {
        set_aside(item, "found inode twice");
    } else if (item->row->version > CFS_MAX_VERSION) {
        set_aside(item, "version that no tree can reach");
    } else {
        work->record = item;
        item->is_reached = TRUE;
        item->is_directory = TRUE;
        if (!is_name_whole(item) ||
            strcmp(item->name, CFS_VERSION_RECORD_NAME) != 0) {
            note_row(work, item, "kept as the version record",
                     "root inode has unexpected name");
        }
    }
}

static void
judge_rows(Work *work)
{
    g_autoptr(GHashTable) parents =
        g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < work->items->len; i++) {
        const Item *item = work->items->pdata[i];

        g_hash_table_add(parents, (gpointer)&item->row->parent);
    }
    for (guint i = 0; i < work->items->len; i++) {
        Item *item = work->items->pdata[i];

        if (item->row->inode == CFS_ROOT_INODE) {
            judge_record(work, item);
            continue;
        }
        /* Ascending: of an inode that is there twice, which only a damaged
         * file can show, the first is the one to stay. */
        if (g_hash_table_contains(work->by_inode, &item->row->inode)) {
            set_aside(item, "found inode twice");
            continue;
        }
        judge_row(work, parents, item);
        g_hash_table_insert(work->by_inode, (gpointer)&item->row->inode, item);
    }
}

/* From the root down ------------------------------------------------------ */

static void
note_highest(Work *work, const Item *item)
{
    if (item->row->inode <= CFS_MAX_VERSION) {
        work->highest = MAX(work->highest, item->row->inode);
    }
    if (item->row->version <= CFS_MAX_VERSION) {
        work->highest = MAX(work->highest, item->row->version);
    }
}

static void
add_child(GPtrArray **children, Item *item)
{
    if (*children == NULL) {
        *children = g_ptr_array_new();
    }
    g_ptr_array_add(*children, item);
}

/* Hands each row to its directory. Returns: (owned) those of the root. */
static GPtrArray *
link_rows(Work *work)
{
    GPtrArray *top = g_ptr_array_new();

    for (guint i = 0; i < work->items->len; i++) {
        Item *item = work->items->pdata[i], *parent;

        note_highest(work, item);
        if (item->why != NULL || item->row->inode == CFS_ROOT_INODE) {
            continue;
        }
        if (item->row->parent == CFS_ROOT_INODE) {
            g_ptr_array_add(top, item);
            continue;
        }
        parent = g_hash_table_lookup(work->by_inode, &item->row->parent);
        if (parent != NULL && parent->is_directory && parent->why == NULL) {
            add_child(&parent->children, item);
        }
    }
    return top;
}

/* W19: nodes/NODE/lxc and its like are directories, or nothing. */
static gboolean
is_guest_folder(const char *path)
{
    g_autofree char *probe = g_strconcat(path, "/100.conf", NULL);
    PveGuestPath guest;

    return pve_guest_path_parse(probe, &guest);
}

/* One guest id, one file. */
static void
judge_guest(Work *work, Item *item)
{
    PveGuestPath guest;
    Item *other;
    gboolean stays;

    if (!pve_guest_path_parse(item->path, &guest)) {
        return;
    }
    other = g_hash_table_lookup(work->guests, GUINT_TO_POINTER(guest.id));
    stays = other == NULL || compare_claims(item, other) < 0;
    if (stays) {
        g_hash_table_insert(work->guests, GUINT_TO_POINTER(guest.id), item);
    }
    if (other != NULL) {
        Item *loser = stays ? other : item;
        const Item *winner = stays ? item : other;

        set_aside(
            loser,
            "detected duplicate VMID %u, '%s' has version %" G_GUINT64_FORMAT,
            guest.id, winner->path, winner->row->version);
    }
}

/* @directory: NULL for the root. Paths are made for as many levels as anybody
 * asks about: a deep tree would fill the memory with them. */
static void
reach(Work *work, GQueue *queue, Item *item, const Item *directory)
{
    item->is_reached = TRUE;
    item->depth = directory != NULL ? directory->depth + 1 : 1;
    if (directory == NULL) {
        item->path = g_strdup(item->name);
    } else if (item->depth <= PATH_DEPTH) {
        item->path = g_strconcat(directory->path, "/", item->name, NULL);
    }
    if (item->is_directory) {
        g_queue_push_tail(queue, item);
        return;
    }
    if (item->path == NULL) {
        return;
    }
    if (is_guest_folder(item->path)) {
        set_aside(item, "a regular file where the guests' directory belongs");
        return;
    }
    judge_guest(work, item);
}

/* @children: of one directory. */
static void
reach_children(Work *work,
               GQueue *queue,
               GPtrArray *children,
               const Item *directory)
{
    const Item *last = NULL;

    g_ptr_array_sort(children, compare_places);
    for (guint i = 0; i < children->len; i++) {
        Item *item = children->pdata[i];

        if (last != NULL && strcmp(last->name, item->name) == 0) {
            set_aside(item,
                      "found entry with duplicate name, inode "
                      "%016" G_GINT64_MODIFIER
                      "X has version %" G_GUINT64_FORMAT,
                      last->row->inode, last->row->version);
            continue;
        }
        last = item;
        reach(work, queue, item, directory);
    }
}

static void
reach_all(Work *work)
{
    g_autoptr(GPtrArray) top = link_rows(work);
    GQueue queue = G_QUEUE_INIT;
    Item *item;

    reach_children(work, &queue, top, NULL);
    while ((item = g_queue_pop_head(&queue)) != NULL) {
        if (item->children != NULL) {
            reach_children(work, &queue, item->children, item);
        }
    }
}

/* Why the walk did not come to @item. */
static const char *
why_lost(Work *work, const Item *item)
{
    const Item *parent =
        g_hash_table_lookup(work->by_inode, &item->row->parent);

    if (parent == NULL) {
        return "missing directory inode";
    }
    if (!parent->is_directory && parent->why == NULL) {
        return "parent is not a directory";
    }
    return "its directory is set aside or cannot be reached from the root";
}

/* What comes of it -------------------------------------------------------- */

static CfsEntry *
make_entry(const Item *item)
{
    const CfsRow *row = item->row;

    return cfs_entry_new(
        row->inode, row->parent, row->version, row->writer, row->mtime,
        item->is_directory ? CFS_TYPE_DIRECTORY : CFS_TYPE_FILE, item->name,
        item->is_directory ? NULL : row->data);
}

/* Counting starts behind all that was ever given out: at 1 again it would
 * overwrite entries (W20). */
static CfsEntry *
make_root(Work *work)
{
    guint64 version = MAX(work->highest, 1);
    guint32 writer = 0, mtime = 0;

    if (work->record != NULL) {
        version = work->record->row->version;
        writer = work->record->row->writer;
        mtime = work->record->row->mtime;
    } else {
        cfs_repair_note(work->out,
                        "no version record: counting goes on at "
                        "%" G_GUINT64_FORMAT,
                        version);
    }
    return cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, version, writer, mtime,
                         CFS_TYPE_DIRECTORY, "", NULL);
}

static void
collect(Work *work)
{
    g_ptr_array_add(work->out->entries, make_root(work));
    for (guint i = 0; i < work->items->len; i++) {
        Item *item = work->items->pdata[i];
        const char *why = item->why;

        if (why == NULL && !item->is_reached) {
            why = why_lost(work, item);
        }
        if (why != NULL) {
            note_row(work, item, "set aside", why);
            work->out->n_set_aside++;
        } else if (item->row->inode != CFS_ROOT_INODE) {
            g_ptr_array_add(work->out->entries, make_entry(item));
        }
    }
}

static GPtrArray *
make_items(GPtrArray *rows)
{
    GPtrArray *items = g_ptr_array_new_full(rows->len, item_free);

    for (guint i = 0; i < rows->len; i++) {
        Item *item = g_new0(Item, 1);
        gsize size = 0;
        const char *name;

        item->row = rows->pdata[i];
        name = g_bytes_get_data(item->row->name, &size);
        item->name = g_strndup(name != NULL ? name : "", size);
        g_ptr_array_add(items, item);
    }
    g_ptr_array_sort(items, compare_inodes);
    return items;
}

CfsRepair *
cfs_repair_rows(GPtrArray *rows)
{
    g_autoptr(GPtrArray) items = make_items(rows);
    g_autoptr(GHashTable) by_inode =
        g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(GHashTable) guests = g_hash_table_new(NULL, NULL);
    CfsRepair *self = g_new0(CfsRepair, 1);
    Work work = {
        .out = self, .items = items, .by_inode = by_inode, .guests = guests};

    self->entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    self->decisions = g_ptr_array_new_with_free_func(g_free);
    judge_rows(&work);
    reach_all(&work);
    collect(&work);
    return self;
}

void
cfs_repair_free(CfsRepair *self)
{
    if (self == NULL) {
        return;
    }
    g_ptr_array_unref(self->entries);
    g_ptr_array_unref(self->decisions);
    g_free(self);
}

/* The root is the first entry. @version and the rest replace its own. */
static void
set_root(CfsRepair *self, guint64 version, guint32 writer, guint32 mtime)
{
    cfs_entry_unref(self->entries->pdata[0]);
    self->entries->pdata[0] =
        cfs_entry_new(CFS_ROOT_INODE, CFS_ROOT_INODE, version, writer, mtime,
                      CFS_TYPE_DIRECTORY, "", NULL);
}

void
cfs_repair_raise(CfsRepair *self)
{
    const CfsEntry *root = self->entries->pdata[0];
    guint64 highest = 0;

    for (guint i = 1; i < self->entries->len; i++) {
        const CfsEntry *entry = self->entries->pdata[i];

        highest = MAX(highest, MAX(entry->inode, entry->version));
    }
    if (root->version >= highest) {
        return;
    }
    cfs_repair_note(self,
                    "the tree's version %" G_GUINT64_FORMAT
                    " is below what is in it: raised to %" G_GUINT64_FORMAT,
                    root->version, highest);
    set_root(self, highest, root->writer, root->mtime);
}

void
cfs_repair_lower(CfsRepair *self)
{
    set_root(self,
             self->entries->len > 1 ? CFS_CLAIM_VERSION : CFS_CLAIM_NOTHING,
             CFS_CLAIM_WRITER, CFS_CLAIM_MTIME);
}
