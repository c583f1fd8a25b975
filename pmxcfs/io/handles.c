#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <fcntl.h>

#include "pmxcfs/core/access.h"

CfsFuseHandle *
cfs_fuse_handle(const struct fuse_file_info *info)
{
    return info != NULL ? (CfsFuseHandle *)(guintptr)info->fh : NULL;
}

static CfsFuseHandle *
handle_new(CfsFuse *self, struct fuse_file_info *info)
{
    CfsFuseHandle *handle = g_new0(CfsFuseHandle, 1);

    handle->is_writer = (info->flags & O_ACCMODE) != O_RDONLY;
    g_hash_table_add(self->handles, handle);
    info->fh = (guintptr)handle;
    info->direct_io = 1;
    info->keep_cache = 0;
    /* Nothing is written back at close(2). */
    info->noflush = 1;
    return handle;
}

/* Readers share the kernel's copy. Writers go past it: through it a write
 * would hold a page until its answer comes, and readers would wait for that
 * too. The kernel drops what they overwrite. */
static void
allow_cache(CfsFuse *self, CfsInode *record, struct fuse_file_info *info)
{
    gboolean keep, is_cached;

    if ((info->flags & O_ACCMODE) != O_RDONLY) {
        return;
    }
    is_cached = cfs_caches_tell_open(self->caches, record, &keep);
    info->keep_cache = keep;
    info->direct_io = !is_cached;
    info->cache_readdir = is_cached;
}

void
cfs_fuse_open_entry(CfsFuse *self, CfsEntry *entry, struct fuse_file_info *info)
{
    CfsFuseHandle *handle = handle_new(self, info);

    handle->node.inode = entry->inode;
    handle->record = cfs_inodes_open(self->inodes, entry);
    if (!handle->record->is_gone) {
        g_autofree char *path =
            cfs_tree_path(cfs_fuse_tree(self), entry->inode);

        handle->record->is_private =
            path != NULL && cfs_access_is_private(path);
        allow_cache(self, handle->record, info);
    }
}

gboolean
cfs_fuse_open_recent(CfsFuse *self, guint64 inode, struct fuse_file_info *info)
{
    CfsInode *record = cfs_inodes_open_recent(self->inodes, inode);
    CfsFuseHandle *handle;

    if (record == NULL) {
        return FALSE;
    }
    handle = handle_new(self, info);
    handle->node.inode = inode;
    handle->record = record;
    return TRUE;
}

void
cfs_fuse_open_view(CfsFuse *self, guint view, struct fuse_file_info *info)
{
    CfsFuseHandle *handle = handle_new(self, info);

    handle->node.is_view = TRUE;
    handle->node.view = view;
    handle->text = cfs_fuse_view_text(self, view);
}

void
cfs_fuse_handle_free(CfsFuse *self, CfsFuseHandle *handle)
{
    if (handle->record != NULL) {
        cfs_inodes_close(self->inodes, handle->record);
    }
    g_clear_pointer(&handle->listing, g_ptr_array_unref);
    g_free(handle->text);
    g_free(handle);
}

void
cfs_fuse_close(CfsFuse *self, struct fuse_file_info *info)
{
    CfsFuseHandle *handle = cfs_fuse_handle(info);

    if (handle != NULL && g_hash_table_remove(self->handles, handle)) {
        if (handle->has_written &&
            !cfs_fuse_is_being_written(self, handle->node.inode)) {
            cfs_effects_closed(self->effects, handle->node.inode);
        }
        cfs_fuse_handle_free(self, handle);
    }
    info->fh = 0;
}

gboolean
cfs_fuse_is_being_written(CfsFuse *self, guint64 inode)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->handles);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        const CfsFuseHandle *handle = value;

        if (handle->is_writer && !handle->node.is_view &&
            handle->node.inode == inode) {
            return TRUE;
        }
    }
    return FALSE;
}
