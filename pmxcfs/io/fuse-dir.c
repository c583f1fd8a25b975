#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The lowest limit of the kernels we run on. */
#define KERNEL_NAME_MAX 1024

/* One name of a listing. */
typedef struct {
    char *name;
    fuse_ino_t ino;
    mode_t type; /* S_IFMT bits */
    CfsFuseNode node;
    gboolean is_dot; /* "." or ".." */
} Item;

static void
item_free(gpointer data)
{
    Item *item = data;

    g_free(item->name);
    g_free(item);
}

void
cfs_fuse_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);
    CfsEntry *entry = NULL;
    CfsFuseNode node;

    if (cfs_fuse_node(ino, &node) && !node.is_view) {
        entry = cfs_tree_get(cfs_fuse_tree(self), node.inode);
    }
    if (entry == NULL || !cfs_entry_is_directory(entry)) {
        /* ESTALE makes the kernel look its name up again. */
        cfs_fuse_reply_verdict(req, entry == NULL ? ESTALE : ENOTDIR);
        return;
    }
    cfs_fuse_open_entry(self, entry, info);
    info->direct_io = 0;
    if (fuse_reply_open(req, info) != 0) {
        cfs_fuse_close(self, info);
    }
}

static Item *
add_item(GPtrArray *listing, const char *name, fuse_ino_t ino, mode_t type)
{
    Item *item = g_new0(Item, 1);

    item->name = g_strdup(name);
    item->ino = ino;
    item->type = type;
    g_ptr_array_add(listing, item);
    return item;
}

static void
list_views(GPtrArray *listing)
{
    for (guint i = 0; i < cfs_views_count(); i++) {
        CfsViewKind kind;
        const char *name = cfs_views_name(i, &kind);
        Item *item;

        if (!cfs_views_is_listed(i)) {
            continue;
        }
        item = add_item(listing, name, cfs_fuse_view_ino(i),
                        kind == CFS_VIEW_LINK ? S_IFLNK : S_IFREG);
        item->node = (CfsFuseNode){.is_view = TRUE, .view = i};
    }
}

/* A peer or a database can hold names that no kernel takes: one of them would
 * make the whole listing fail. */
static gboolean
can_list(const CfsFuseNode *parent, const CfsEntry *child)
{
    return cfs_fuse_find_view(parent, child->name) < 0 &&
           cfs_fuse_ino(child->inode) != 0 &&
           strchr(child->name, '/') == NULL && strcmp(child->name, ".") != 0 &&
           strcmp(child->name, "..") != 0 &&
           strlen(child->name) <= KERNEL_NAME_MAX;
}

/* All names as they are now. A removed directory has none, as rmdir(2) of an
 * open one leaves it. */
static GPtrArray *
list_directory(CfsFuse *self, const CfsFuseHandle *handle)
{
    GPtrArray *listing = g_ptr_array_new_with_free_func(item_free);
    g_autoptr(GPtrArray) children = NULL;
    fuse_ino_t ino = cfs_fuse_ino(handle->node.inode);

    if (!handle->record->is_gone) {
        children = cfs_tree_children(cfs_fuse_tree(self), handle->node.inode);
    }
    if (children == NULL) {
        return listing;
    }
    add_item(listing, ".", ino, S_IFDIR)->is_dot = TRUE;
    add_item(listing, "..", cfs_fuse_ino(handle->record->entry->parent),
             S_IFDIR)
        ->is_dot = TRUE;
    if (handle->node.inode == CFS_ROOT_INODE) {
        list_views(listing);
    }
    for (guint i = 0; i < children->len; i++) {
        const CfsEntry *child = children->pdata[i];

        if (can_list(&handle->node, child)) {
            add_item(listing, child->name, cfs_fuse_ino(child->inode),
                     cfs_fuse_file_type(child))
                ->node.inode = child->inode;
        }
    }
    return listing;
}

/* The entry that @item named, if it still bears that name. */
static CfsEntry *
item_entry(CfsFuse *self, const CfsFuseHandle *directory, const Item *item)
{
    CfsEntry *entry =
        cfs_tree_child(cfs_fuse_tree(self), directory->node.inode, item->name);

    return entry != NULL && entry->inode == item->node.inode ? entry : NULL;
}

/* Fills in one item; a node id of 0 tells the kernel to look it up itself. */
static gsize
add_plus(CfsFuse *self,
         fuse_req_t req,
         const CfsFuseHandle *directory,
         const Item *item,
         off_t next,
         char *out,
         gsize left)
{
    struct fuse_entry_param answer = {0};
    CfsEntry *entry = NULL;
    gsize size;

    answer.attr.st_ino = item->ino;
    answer.attr.st_mode = item->type;
    if (!item->is_dot && item->node.is_view) {
        g_autofree char *text = cfs_fuse_view_text(self, item->node.view);

        answer.ino = item->ino;
        cfs_fuse_fill_view(self, &answer.attr, item->node.view, strlen(text));
    } else if (!item->is_dot) {
        entry = item_entry(self, directory, item);
        if (entry != NULL) {
            cfs_caches_tell_first(cfs_fuse_fill_answer(self, &answer, entry));
        }
    }
    size = fuse_add_direntry_plus(req, out, left, item->name, &answer, next);
    if (entry != NULL && size > left) {
        cfs_inodes_forget(self->inodes, entry->inode, 1);
    }
    return size;
}

static gsize
add_plain(fuse_req_t req, const Item *item, off_t next, char *out, gsize left)
{
    struct stat st = {.st_ino = item->ino, .st_mode = item->type};

    return fuse_add_direntry(req, out, left, item->name, &st, next);
}

static void
read_directory(fuse_req_t req,
               size_t size,
               off_t offset,
               struct fuse_file_info *info,
               gboolean is_plus)
{
    CfsFuse *self = cfs_fuse_self(req);
    CfsFuseHandle *handle = cfs_fuse_handle(info);
    g_autofree char *out = g_malloc(size);
    gsize used = 0;

    if (offset == 0 || handle->listing == NULL) {
        g_clear_pointer(&handle->listing, g_ptr_array_unref);
        handle->listing = list_directory(self, handle);
    }
    cfs_caches_tell_content(handle->record);
    for (guint i = (guint)CLAMP(offset, 0, (off_t)handle->listing->len);
         i < handle->listing->len; i++) {
        const Item *item = handle->listing->pdata[i];
        gsize left = size - used;
        gsize added =
            is_plus ? add_plus(self, req, handle, item, i + 1, out + used, left)
                    : add_plain(req, item, i + 1, out + used, left);

        if (added > left) {
            break;
        }
        used += added;
    }
    (void)fuse_reply_buf(req, out, used);
}

void
cfs_fuse_op_readdir(fuse_req_t req,
                    fuse_ino_t ino,
                    size_t size,
                    off_t offset,
                    struct fuse_file_info *info)
{
    read_directory(req, size, offset, info, FALSE);
}

void
cfs_fuse_op_readdirplus(fuse_req_t req,
                        fuse_ino_t ino,
                        size_t size,
                        off_t offset,
                        struct fuse_file_info *info)
{
    read_directory(req, size, offset, info, TRUE);
}
