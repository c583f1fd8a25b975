#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "pmxcfs/core/access.h"

/* What a change needs of (parent, name): the path, and the entry if there is
 * one. Virtual entries cannot be changed: @view_verdict. */
static int
find_target(CfsFuse *self,
            fuse_ino_t parent,
            const char *name,
            int view_verdict,
            char **path,
            CfsEntry **entry)
{
    g_autofree char *folder = NULL;
    CfsFuseNode node;

    if (!cfs_fuse_node(parent, &node)) {
        return ENOENT;
    }
    if (node.is_view) {
        return ENOTDIR;
    }
    if (cfs_fuse_find_view(&node, name) >= 0) {
        return view_verdict;
    }
    folder = cfs_tree_path(cfs_fuse_tree(self), node.inode);
    if (folder == NULL) {
        return ENOENT;
    }
    *path = folder[0] == '\0' ? g_strdup(name)
                              : g_strconcat(folder, "/", name, NULL);
    *entry = cfs_tree_child(cfs_fuse_tree(self), node.inode, name);
    return 0;
}

static void
finish_verdict(CfsFuse *self,
               CfsFuseParked *parked,
               int verdict,
               CfsEntry *entry)
{
    cfs_fuse_reply_verdict(parked->req, verdict);
}

static void
finish_entry(CfsFuse *self, CfsFuseParked *parked, int verdict, CfsEntry *entry)
{
    if (verdict != 0 || entry == NULL) {
        cfs_fuse_reply_verdict(parked->req, verdict != 0 ? verdict : EIO);
    } else {
        cfs_fuse_reply_entry(self, parked->req, entry);
    }
}

static void
finish_attributes(CfsFuse *self,
                  CfsFuseParked *parked,
                  int verdict,
                  CfsEntry *entry)
{
    CfsFuseNode node;

    if (verdict != 0) {
        cfs_fuse_reply_verdict(parked->req, verdict);
        return;
    }
    (void)cfs_fuse_node(parked->ino, &node);
    cfs_fuse_reply_attributes(self, parked->req, &node,
                              cfs_fuse_handle(&parked->info), FALSE);
}

static void
finish_safe_write(CfsFuse *self,
                  CfsFuseParked *parked,
                  int verdict,
                  CfsEntry *entry)
{
    if (verdict != 0) {
        cfs_fuse_reply_verdict(parked->req, verdict);
    } else {
        (void)fuse_reply_write(parked->req, parked->size);
    }
}

static void
finish_write(CfsFuse *self, CfsFuseParked *parked, int verdict, CfsEntry *entry)
{
    CfsFuseParked *barrier;

    /* The kernel leaves O_SYNC and O_DSYNC to us; the latter has one bit of the
     * former (open(2)). */
    if (verdict != 0 || (parked->info.flags & O_DSYNC) == 0) {
        finish_safe_write(self, parked, verdict, entry);
        return;
    }
    barrier = cfs_fuse_park(self, parked->req, finish_safe_write);
    barrier->size = parked->size;
    cfs_fuse_submit_flush(self, barrier);
}

/* Attributes -------------------------------------------------------------- */

/* Modes and owners are fixed; setting them to what they are is fine. Editors
 * and cp -p do that. */
static int
check_mode(CfsFuse *self, const CfsFuseNode *node, mode_t mode)
{
    g_autofree char *path = NULL;
    gboolean is_private = FALSE;

    if (!node->is_view) {
        path = cfs_tree_path(cfs_fuse_tree(self), node->inode);
        is_private = path != NULL && cfs_access_is_private(path);
    }
    return (mode & 07777) == (is_private ? 0600 : 0640) ? 0 : EPERM;
}

static int
check_fixed(CfsFuse *self,
            const CfsFuseNode *node,
            const struct stat *st,
            int set)
{
    if ((set & FUSE_SET_ATTR_UID) != 0 && st->st_uid != 0) {
        return EPERM;
    }
    if ((set & FUSE_SET_ATTR_GID) != 0 && st->st_gid != self->group) {
        return EPERM;
    }
    if ((set & FUSE_SET_ATTR_MODE) != 0) {
        return check_mode(self, node, st->st_mode);
    }
    return 0;
}

/* Of a node to change: (owned) its path. */
static int
find_path(CfsFuse *self,
          const CfsFuseNode *node,
          const CfsFuseHandle *handle,
          char **path)
{
    if (handle != NULL && handle->record != NULL && handle->record->is_gone) {
        return ESTALE;
    }
    *path = cfs_tree_path(cfs_fuse_tree(self), node->inode);
    return *path != NULL ? 0 : ESTALE;
}

static void
set_size(CfsFuse *self,
         CfsFuseParked *parked,
         const CfsFuseNode *node,
         off_t size)
{
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (node->is_view) {
        finish_attributes(self, parked, cfs_views_truncate(node->view), NULL);
        cfs_fuse_parked_free(parked);
        return;
    }
    if (size < 0 || (guint64)size > CFS_MAX_FILE_BYTES) {
        verdict = EFBIG; /* before it is cut to 32 bits */
    } else {
        verdict = find_path(self, node, cfs_fuse_handle(&parked->info), &path);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(parked->req, verdict);
        cfs_fuse_parked_free(parked);
        return;
    }
    op = cfs_op_new_truncate(path, (guint32)size);
    cfs_fuse_submit(self, parked, op);
}

static void
set_mtime(CfsFuse *self,
          CfsFuseParked *parked,
          const CfsFuseNode *node,
          gint64 mtime)
{
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (node->is_view || node->inode == CFS_ROOT_INODE) {
        verdict = EACCES;
    } else {
        verdict = find_path(self, node, cfs_fuse_handle(&parked->info), &path);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(parked->req, verdict);
        cfs_fuse_parked_free(parked);
        return;
    }
    op = cfs_op_new_mtime(path, (guint32)(guint64)mtime);
    cfs_fuse_submit(self, parked, op);
}

void
cfs_fuse_op_setattr(fuse_req_t req,
                    fuse_ino_t ino,
                    struct stat *st,
                    int set,
                    struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);
    CfsFuseParked *parked;
    CfsFuseNode node;
    int verdict = ENOENT;

    if (cfs_fuse_node(ino, &node)) {
        verdict = check_fixed(self, &node, st, set);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    parked = cfs_fuse_park(self, req, finish_attributes);
    parked->ino = ino;
    parked->info.fh = info != NULL ? info->fh : 0;
    if ((set & FUSE_SET_ATTR_SIZE) != 0) {
        /* It sets the time as well. */
        set_size(self, parked, &node, st->st_size);
    } else if ((set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
        set_mtime(self, parked, &node, (gint64)time(NULL));
    } else if ((set & FUSE_SET_ATTR_MTIME) != 0) {
        set_mtime(self, parked, &node, st->st_mtim.tv_sec);
    } else {
        finish_attributes(self, parked, 0, NULL);
        cfs_fuse_parked_free(parked);
    }
}

/* Names ------------------------------------------------------------------- */

static void
make_entry(fuse_req_t req,
           fuse_ino_t parent,
           const char *name,
           CfsOpKind kind,
           int refusal)
{
    CfsFuse *self = cfs_fuse_self(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    int verdict = find_target(self, parent, name, EEXIST, &path, &entry);

    if (verdict == 0 && entry != NULL) {
        verdict = EEXIST;
    }
    if (verdict == 0) {
        verdict = refusal; /* what is there already is said first */
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new(kind, path);
    cfs_fuse_submit(self, cfs_fuse_park(self, req, finish_entry), op);
}

void
cfs_fuse_op_mkdir(fuse_req_t req,
                  fuse_ino_t parent,
                  const char *name,
                  mode_t mode)
{
    make_entry(req, parent, name, CFS_OP_MKDIR, 0);
}

void
cfs_fuse_op_mknod(fuse_req_t req,
                  fuse_ino_t parent,
                  const char *name,
                  mode_t mode,
                  dev_t device)
{
    /* ENOSYS: what the reference says. */
    make_entry(req, parent, name, CFS_OP_CREATE, S_ISREG(mode) ? 0 : ENOSYS);
}

/* The protocol has one operation for both; whom it may hit is decided here,
 * once more after the kernel: another node may have changed it. */
static void
remove_entry(fuse_req_t req,
             fuse_ino_t parent,
             const char *name,
             gboolean is_directory)
{
    CfsFuse *self = cfs_fuse_self(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    int verdict = find_target(self, parent, name, EACCES, &path, &entry);

    if (verdict == 0 && entry == NULL) {
        verdict = ENOENT;
    } else if (verdict == 0 && cfs_entry_is_directory(entry) != is_directory) {
        verdict = is_directory ? ENOTDIR : EISDIR;
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new(CFS_OP_DELETE, path);
    cfs_fuse_submit(self, cfs_fuse_park(self, req, finish_verdict), op);
}

void
cfs_fuse_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_entry(req, parent, name, FALSE);
}

void
cfs_fuse_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_entry(req, parent, name, TRUE);
}

static int
check_rename(CfsFuse *self,
             const CfsEntry *from,
             const CfsEntry *to,
             unsigned flags)
{
    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0) {
        return EINVAL;
    }
    if (from == NULL) {
        return ENOENT;
    }
    if (to != NULL && (flags & RENAME_NOREPLACE) != 0) {
        return EEXIST;
    }
    if (to != NULL && cfs_entry_is_directory(to) &&
        !cfs_entry_is_directory(from)) {
        return EISDIR;
    }
    if (to != NULL && !cfs_entry_is_directory(to) &&
        cfs_entry_is_directory(from)) {
        return ENOTDIR;
    }
    return 0;
}

void
cfs_fuse_op_rename(fuse_req_t req,
                   fuse_ino_t parent,
                   const char *name,
                   fuse_ino_t new_parent,
                   const char *new_name,
                   unsigned int flags)
{
    CfsFuse *self = cfs_fuse_self(req);
    g_autofree char *path = NULL, *new_path = NULL;
    CfsEntry *from = NULL, *to = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict = find_target(self, parent, name, EACCES, &path, &from);

    if (verdict == 0) {
        verdict =
            find_target(self, new_parent, new_name, EACCES, &new_path, &to);
    }
    if (verdict == 0) {
        verdict = check_rename(self, from, to, flags);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new_rename(path, new_path);
    cfs_fuse_submit(self, cfs_fuse_park(self, req, finish_verdict), op);
}

/* Files ------------------------------------------------------------------- */

static void
reply_create(CfsFuse *self,
             fuse_req_t req,
             CfsEntry *entry,
             struct fuse_file_info *info)
{
    struct fuse_entry_param answer;

    if (cfs_fuse_ino(entry->inode) == 0) {
        cfs_fuse_reply_verdict(req, EOVERFLOW);
        return;
    }
    cfs_fuse_open_entry(self, entry, info);
    cfs_caches_tell_first(cfs_fuse_fill_answer(self, &answer, entry));
    if (fuse_reply_create(req, &answer, info) != 0) {
        cfs_fuse_close(self, info);
        cfs_inodes_forget(self->inodes, entry->inode, 1);
    }
}

/* The file that another node made first was truncated. */
static void
finish_truncated(CfsFuse *self,
                 CfsFuseParked *parked,
                 int verdict,
                 CfsEntry *unused)
{
    CfsEntry *entry = cfs_tree_get(cfs_fuse_tree(self), parked->ino);

    if (verdict == 0 && entry == NULL) {
        verdict = ENOENT;
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(parked->req, verdict);
    } else {
        reply_create(self, parked->req, entry, &parked->info);
    }
}

/* Without O_EXCL it is no failure that somebody was faster: open that file. */
static void
open_existing(CfsFuse *self,
              fuse_req_t req,
              CfsEntry *entry,
              const char *path,
              struct fuse_file_info *info)
{
    g_autoptr(CfsOp) op = NULL;
    CfsFuseParked *parked;

    if ((info->flags & O_EXCL) != 0) {
        cfs_fuse_reply_verdict(req, EEXIST);
        return;
    }
    if (cfs_entry_is_directory(entry)) {
        cfs_fuse_reply_verdict(req, EISDIR);
        return;
    }
    if ((info->flags & O_TRUNC) == 0 || entry->size == 0) {
        reply_create(self, req, entry, info);
        return;
    }
    parked = cfs_fuse_park(self, req, finish_truncated);
    parked->info = *info;
    parked->ino = entry->inode;
    op = cfs_op_new_truncate(path, 0);
    cfs_fuse_submit(self, parked, op);
}

static void
finish_create(CfsFuse *self,
              CfsFuseParked *parked,
              int verdict,
              CfsEntry *entry)
{
    g_autofree char *path = NULL;
    CfsEntry *other = NULL;

    if (verdict == 0 && entry != NULL) {
        reply_create(self, parked->req, entry, &parked->info);
        return;
    }
    /* EEXIST may also mean that the guest lives elsewhere. */
    if (verdict == EEXIST &&
        find_target(self, parked->ino, parked->name, EEXIST, &path, &other) ==
            0 &&
        other != NULL) {
        open_existing(self, parked->req, other, path, &parked->info);
        return;
    }
    cfs_fuse_reply_verdict(parked->req, verdict != 0 ? verdict : EIO);
}

void
cfs_fuse_op_create(fuse_req_t req,
                   fuse_ino_t parent,
                   const char *name,
                   mode_t mode,
                   struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    CfsFuseParked *parked;
    int verdict = find_target(self, parent, name, EEXIST, &path, &entry);

    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    if (entry != NULL) {
        open_existing(self, req, entry, path, info);
        return;
    }
    parked = cfs_fuse_park(self, req, finish_create);
    parked->info = *info;
    parked->ino = parent;
    parked->name = g_strdup(name);
    op = cfs_op_new(CFS_OP_CREATE, path);
    cfs_fuse_submit(self, parked, op);
}

/* A write that crosses the limit is short; the next one fails. */
static int
check_write(off_t offset, gsize *size)
{
    if (offset < 0 || (guint64)offset >= CFS_MAX_FILE_BYTES) {
        return EFBIG;
    }
    *size = MIN(*size, CFS_MAX_FILE_BYTES - (gsize)offset);
    return 0;
}

static void
write_view(CfsFuse *self,
           fuse_req_t req,
           const CfsFuseHandle *handle,
           const char *bytes,
           gsize size,
           off_t offset)
{
    int taken = offset < 0 ? -EIO
                           : cfs_views_write(cfs_replica_views(self->replica),
                                             handle->node.view, bytes, size,
                                             (guint64)offset);

    if (taken < 0) {
        cfs_fuse_reply_verdict(req, -taken);
    } else {
        (void)fuse_reply_write(req, (gsize)taken);
    }
}

/* @end: where the kernel thinks an append goes. */
static void
submit_write(CfsFuse *self,
             fuse_req_t req,
             const struct fuse_file_info *info,
             const CfsOp *op,
             off_t end)
{
    CfsFuseParked *parked = cfs_fuse_park(self, req, finish_write);

    cfs_fuse_handle(info)->has_written = TRUE; /* its last close is told */
    parked->size = g_bytes_get_size(op->data);
    parked->info.flags = info->flags;
    parked->is_append = op->is_append;
    parked->end = end;
    cfs_fuse_submit(self, parked, op);
}

void
cfs_fuse_op_write(fuse_req_t req,
                  fuse_ino_t ino,
                  const char *bytes,
                  size_t size,
                  off_t offset,
                  struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);
    const CfsFuseHandle *handle = cfs_fuse_handle(info);
    gboolean is_append = (info->flags & O_APPEND) != 0;
    const off_t kernel_offset = offset;
    g_autoptr(GBytes) data = NULL;
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (handle == NULL) {
        cfs_fuse_reply_verdict(req, EBADF);
        return;
    }
    if (handle->node.is_view) {
        write_view(self, req, handle, bytes, size, offset);
        return;
    }
    verdict = find_path(self, &handle->node, handle, &path);
    if (verdict == 0 && is_append) {
        /* The kernel's idea of the end may be older than ours, and ours older
         * than that of the group, which decides. */
        offset = handle->record->entry->size;
    }
    if (verdict == 0) {
        verdict = check_write(offset, &size);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    data = g_bytes_new(bytes, size);
    op = is_append ? cfs_op_new_append(path, data)
                   : cfs_op_new_write(path, data, (guint32)offset);
    submit_write(self, req, info, op, kernel_offset);
}

/* Of a file: (owned) at most @size of its bytes. */
static GBytes *
read_range(const CfsEntry *entry, guint64 offset, gsize size)
{
    guint8 *bytes;

    size = offset < entry->size ? MIN(size, entry->size - (gsize)offset) : 0;
    bytes = g_malloc(size + 1);
    size = cfs_entry_read(entry, offset, size, bytes);
    return g_bytes_new_take(bytes, size);
}

/* Without it cp(1) would copy within the mount in pieces of a pipe, each a
 * change of its own. */
void
cfs_fuse_op_copy_file_range(fuse_req_t req,
                            fuse_ino_t ino_in,
                            off_t offset_in,
                            struct fuse_file_info *info_in,
                            fuse_ino_t ino_out,
                            off_t offset_out,
                            struct fuse_file_info *info_out,
                            size_t size,
                            int flags)
{
    CfsFuse *self = cfs_fuse_self(req);
    const CfsFuseHandle *in = cfs_fuse_handle(info_in);
    const CfsFuseHandle *out = cfs_fuse_handle(info_out);
    g_autoptr(GBytes) data = NULL;
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (in == NULL || out == NULL || in->record == NULL ||
        out->record == NULL || in->record->entry == NULL || offset_in < 0) {
        cfs_fuse_reply_verdict(req, EXDEV); /* the kernel reads and writes */
        return;
    }
    verdict = find_path(self, &out->node, out, &path);
    if (verdict == 0) {
        verdict = check_write(offset_out, &size);
    }
    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    data = read_range(in->record->entry, (guint64)offset_in, size);
    if (g_bytes_get_size(data) == 0) {
        (void)fuse_reply_write(req, 0);
        return;
    }
    op = cfs_op_new_write(path, data, (guint32)offset_out);
    submit_write(self, req, info_out, op, offset_out);
}

/* A barrier over everything this node has applied: effects.h. */
void
cfs_fuse_op_fsync(fuse_req_t req,
                  fuse_ino_t ino,
                  int data_only,
                  struct fuse_file_info *info)
{
    CfsFuse *self = cfs_fuse_self(req);

    cfs_fuse_submit_flush(self, cfs_fuse_park(self, req, finish_verdict));
}
