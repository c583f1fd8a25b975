#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* statfs: what the reference says. */
#define TOTAL_BLOCKS (CFS_MAX_TREE_BYTES / CFS_FUSE_BLOCK_SIZE)
#define STATFS_NAME_MAX 256

void
cfs_fuse_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CfsFuse *self = cfs_fuse_self(req);
    CfsEntry *entry;
    CfsFuseNode node;
    int view;

    if (!cfs_fuse_node(parent, &node) || node.is_view) {
        cfs_fuse_reply_verdict(req, ENOTDIR);
        return;
    }
    view = cfs_fuse_find_view(&node, name);
    if (view >= 0) {
        cfs_fuse_reply_view(self, req, (guint)view);
        return;
    }
    entry = cfs_tree_child(cfs_fuse_tree(self), node.inode, name);
    if (entry == NULL) {
        cfs_fuse_reply_missing(self, req, node.inode, name);
    } else {
        cfs_fuse_reply_found(self, req, entry);
    }
}

static void
forget(CfsFuse *self, fuse_ino_t ino, guint64 n_lookups)
{
    CfsFuseNode node;

    if (cfs_fuse_node(ino, &node) && !node.is_view &&
        node.inode != CFS_ROOT_INODE) {
        cfs_inodes_forget(self->inodes, node.inode, n_lookups);
    }
}

void
cfs_fuse_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
    forget(cfs_fuse_self(req), ino, n_lookups);
    fuse_reply_none(req);
}

void
cfs_fuse_op_forget_multi(fuse_req_t req,
                         size_t count,
                         struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) {
        forget(cfs_fuse_self(req), forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

void
cfs_fuse_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    CfsFuseNode node;

    if (!cfs_fuse_node(ino, &node)) {
        cfs_fuse_reply_verdict(req, ENOENT);
        return;
    }
    cfs_fuse_reply_attributes(cfs_fuse_self(req), req, &node,
                              cfs_fuse_handle(info), TRUE);
}

void
cfs_fuse_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    g_autofree char *target = NULL;
    CfsViewKind kind;
    CfsFuseNode node;

    if (!cfs_fuse_node(ino, &node) || !node.is_view) {
        cfs_fuse_reply_verdict(req, EINVAL);
        return;
    }
    (void)cfs_views_name(node.view, &kind);
    if (kind != CFS_VIEW_LINK) {
        cfs_fuse_reply_verdict(req, EINVAL);
        return;
    }
    target = cfs_fuse_view_text(cfs_fuse_self(req), node.view);
    (void)fuse_reply_readlink(req, target);
}

void
cfs_fuse_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    CfsTree *tree = cfs_fuse_tree(cfs_fuse_self(req));
    guint64 used = (cfs_tree_total_bytes(tree) + CFS_FUSE_BLOCK_SIZE - 1) /
                   CFS_FUSE_BLOCK_SIZE;
    guint64 entries = cfs_tree_n_entries(tree);
    struct statvfs st = {
        .f_bsize = CFS_FUSE_BLOCK_SIZE,
        .f_frsize = CFS_FUSE_BLOCK_SIZE,
        .f_blocks = TOTAL_BLOCKS,
        .f_bfree = used < TOTAL_BLOCKS ? TOTAL_BLOCKS - used : 0,
        .f_files = CFS_MAX_ENTRIES,
        .f_ffree = entries < CFS_MAX_ENTRIES ? CFS_MAX_ENTRIES - entries : 0,
        .f_namemax = STATFS_NAME_MAX,
    };

    st.f_bavail = st.f_bfree;
    st.f_favail = st.f_ffree;
    (void)fuse_reply_statfs(req, &st);
}

/* Open files -------------------------------------------------------------- */

static void
finish_open_view(CfsFuse *self,
                 CfsFuseParked *parked,
                 int verdict,
                 CfsEntry *unused)
{
    CfsFuseNode node;

    (void)cfs_fuse_node(parked->ino, &node);
    cfs_fuse_open_view(self, node.view, &parked->info);
    if (fuse_reply_open(parked->req, &parked->info) != 0) {
        cfs_fuse_close(self, &parked->info);
    }
}

void
cfs_fuse_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);
    CfsFuseParked *parked;
    CfsEntry *entry;
    CfsFuseNode node;

    if (!cfs_fuse_node(ino, &node)) {
        cfs_fuse_reply_verdict(req, ENOENT);
        return;
    }
    if (node.is_view) {
        /* Its counters tell of all changes made from here before. */
        parked = cfs_fuse_park(self, req, finish_open_view);
        parked->info = *info;
        parked->ino = ino;
        cfs_fuse_await_settled(self, parked);
        return;
    }
    entry = cfs_tree_get(cfs_fuse_tree(self), node.inode);
    if (entry != NULL && cfs_entry_is_directory(entry)) {
        cfs_fuse_reply_verdict(req, EISDIR);
        return;
    }
    if (entry != NULL) {
        cfs_fuse_open_entry(self, entry, info);
    } else if (!cfs_fuse_open_recent(self, node.inode, info)) {
        /* The name may mean another file by now: the kernel looks again. */
        cfs_fuse_reply_verdict(req, ESTALE);
        return;
    }
    if (fuse_reply_open(req, info) != 0) {
        cfs_fuse_close(self, info);
    }
}

static void
reply_bytes(fuse_req_t req, const char *bytes, gsize size, gsize max, off_t at)
{
    if (at < 0 || (guint64)at >= size) {
        (void)fuse_reply_buf(req, NULL, 0);
        return;
    }
    (void)fuse_reply_buf(req, bytes + at, MIN(max, size - (gsize)at));
}

static void
read_entry(fuse_req_t req, const CfsEntry *entry, gsize max, off_t at)
{
    g_autofree guint8 *out = NULL;
    gconstpointer bytes;
    gsize size = 0;

    if (entry->data != NULL) {
        bytes = g_bytes_get_data(entry->data, &size);
        reply_bytes(req, bytes, size, max, at);
        return;
    }
    max = MIN(max, entry->size);
    out = g_malloc(max + 1);
    size = at < 0 ? 0 : cfs_entry_read(entry, (guint64)at, max, out);
    (void)fuse_reply_buf(req, (const char *)out, size);
}

void
cfs_fuse_op_read(fuse_req_t req,
                 fuse_ino_t ino,
                 size_t size,
                 off_t offset,
                 struct fuse_file_info *info)
{
    const CfsFuseHandle *handle = cfs_fuse_handle(info);

    if (handle == NULL) {
        cfs_fuse_reply_verdict(req, EBADF);
    } else if (handle->text != NULL) {
        reply_bytes(req, handle->text, strlen(handle->text), size, offset);
    } else if (handle->record == NULL || handle->record->entry == NULL) {
        cfs_fuse_reply_verdict(req, EIO);
    } else {
        cfs_caches_tell_content(handle->record);
        read_entry(req, handle->record->entry, size, offset);
    }
}

void
cfs_fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    cfs_fuse_reply_verdict(req, 0);
}

void
cfs_fuse_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    cfs_fuse_close(cfs_fuse_self(req), info);
    cfs_fuse_reply_verdict(req, 0);
}
