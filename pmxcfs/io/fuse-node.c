#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "pmxcfs/core/access.h"

/* Their names never mean anything else; size and mode may be others at each
 * look. */
#define VIEW_NAME_S 3600.0

CfsFuse *
cfs_fuse_self(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

CfsTree *
cfs_fuse_tree(CfsFuse *self)
{
    return cfs_replica_tree(self->replica);
}

gboolean
cfs_fuse_node(fuse_ino_t ino, CfsFuseNode *node)
{
    *node = (CfsFuseNode){0};
    if (ino == FUSE_ROOT_ID) {
        node->inode = CFS_ROOT_INODE;
        return TRUE;
    }
    if (ino >= CFS_FUSE_FIRST_VIEW_INO &&
        ino < CFS_FUSE_FIRST_VIEW_INO + cfs_views_count()) {
        node->is_view = TRUE;
        node->view = (guint)(ino - CFS_FUSE_FIRST_VIEW_INO);
        return TRUE;
    }
    node->inode = ino - CFS_FUSE_TREE_INO_BASE;
    return ino > CFS_FUSE_TREE_INO_BASE;
}

fuse_ino_t
cfs_fuse_ino(guint64 inode)
{
    if (inode == CFS_ROOT_INODE) {
        return FUSE_ROOT_ID;
    }
    return inode <= G_MAXUINT64 - CFS_FUSE_TREE_INO_BASE
               ? inode + CFS_FUSE_TREE_INO_BASE
               : 0;
}

fuse_ino_t
cfs_fuse_view_ino(guint view)
{
    return CFS_FUSE_FIRST_VIEW_INO + view;
}

mode_t
cfs_fuse_file_type(const CfsEntry *entry)
{
    return cfs_entry_is_directory(entry) ? S_IFDIR : S_IFREG;
}

int
cfs_fuse_find_view(const CfsFuseNode *parent, const char *name)
{
    if (parent->is_view || parent->inode != CFS_ROOT_INODE) {
        return -1;
    }
    return cfs_views_find(name);
}

char *
cfs_fuse_view_text(CfsFuse *self, guint view)
{
    return cfs_views_text(cfs_replica_views(self->replica), view,
                          cfs_fuse_tree(self));
}

static void
fill_common(CfsFuse *self, struct stat *st, fuse_ino_t ino, gsize size)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_uid = 0;
    st->st_gid = self->group;
    st->st_nlink = 1;
    st->st_size = (off_t)size;
    st->st_blksize = CFS_FUSE_BEST_WRITE;
    st->st_blocks = (blkcnt_t)((size + 511) / 512);
}

void
cfs_fuse_fill_view(CfsFuse *self, struct stat *st, guint view, gsize size)
{
    gboolean quorate = cfs_replica_is_quorate(self->replica);
    CfsViewKind kind;

    (void)cfs_views_name(view, &kind);
    fill_common(self, st, cfs_fuse_view_ino(view), size);
    st->st_mode = cfs_views_mode(view, quorate) |
                  (kind == CFS_VIEW_LINK ? S_IFLNK : S_IFREG);
}

static void
fill_entry(CfsFuse *self,
           struct stat *st,
           const CfsEntry *entry,
           const char *path)
{
    gboolean quorate = cfs_replica_is_quorate(self->replica);
    gboolean is_directory = cfs_entry_is_directory(entry);

    fill_common(self, st, cfs_fuse_ino(entry->inode),
                is_directory ? 0 : entry->size);
    st->st_mode = cfs_access_mode(path, is_directory, quorate) |
                  cfs_fuse_file_type(entry);
    st->st_nlink = is_directory ? 2 : 1;
    if (entry->inode != CFS_ROOT_INODE) {
        st->st_mtim.tv_sec = entry->mtime;
        st->st_atim.tv_sec = entry->mtime;
        st->st_ctim.tv_sec = entry->mtime;
    }
}

/* A removed file that is still open here. */
static void
fill_gone(CfsFuse *self, struct stat *st, const CfsInode *record)
{
    fill_entry(self, st, record->entry, record->is_private ? "priv/x" : "x");
    st->st_nlink = 0;
}

static int
get_attributes(CfsFuse *self,
               const CfsFuseNode *node,
               const CfsFuseHandle *handle,
               struct stat *st)
{
    CfsInode *record;
    CfsEntry *entry;

    if (node->is_view) {
        g_autofree char *text =
            handle != NULL ? NULL : cfs_fuse_view_text(self, node->view);

        cfs_fuse_fill_view(self, st, node->view,
                           strlen(handle != NULL ? handle->text : text));
        return 0;
    }
    record = handle != NULL ? handle->record
                            : cfs_inodes_find(self->inodes, node->inode);
    entry = cfs_tree_get(cfs_fuse_tree(self), node->inode);
    if (entry != NULL && (record == NULL || !record->is_gone)) {
        g_autofree char *path = cfs_tree_path(cfs_fuse_tree(self), node->inode);

        if (path != NULL) {
            fill_entry(self, st, entry, path);
            return 0;
        }
    }
    if (record == NULL || record->entry == NULL) {
        return ESTALE; /* the kernel looks the name up again */
    }
    fill_gone(self, st, record);
    return 0;
}

/* Answers ----------------------------------------------------------------- */

void
cfs_fuse_reply_verdict(fuse_req_t req, int verdict)
{
    /* It fails when the request was aborted: nobody waits then. */
    (void)fuse_reply_err(req, verdict);
}

void
cfs_fuse_reply_attributes(CfsFuse *self,
                          fuse_req_t req,
                          const CfsFuseNode *node,
                          const CfsFuseHandle *handle,
                          gboolean may_keep)
{
    struct stat st;
    int verdict = get_attributes(self, node, handle, &st);
    CfsInode *record = NULL;
    double seconds = 0;

    if (verdict != 0) {
        cfs_fuse_reply_verdict(req, verdict);
        return;
    }
    if (may_keep && !node->is_view) {
        record = cfs_inodes_find(self->inodes, node->inode);
    }
    if (record != NULL && !record->is_gone) {
        seconds = cfs_caches_tell_attributes(self->caches, record);
    }
    (void)fuse_reply_attr(req, &st, seconds);
}

CfsInode *
cfs_fuse_fill_answer(CfsFuse *self,
                     struct fuse_entry_param *answer,
                     CfsEntry *entry)
{
    CfsInode *record = cfs_inodes_remember(self->inodes, entry);
    CfsFuseNode node = {.inode = entry->inode};

    memset(answer, 0, sizeof(*answer));
    answer->ino = cfs_fuse_ino(entry->inode);
    answer->generation = record->generation;
    if (get_attributes(self, &node, NULL, &answer->attr) != 0) {
        /* Made and removed again before we could tell. */
        fill_entry(self, &answer->attr, entry, "x");
    }
    return record;
}

static void
reply_entry(CfsFuse *self,
            fuse_req_t req,
            CfsEntry *entry,
            gboolean is_looked_up)
{
    struct fuse_entry_param answer;
    CfsInode *record;

    if (cfs_fuse_ino(entry->inode) == 0) {
        cfs_fuse_reply_verdict(req, EOVERFLOW);
        return;
    }
    record = cfs_fuse_fill_answer(self, &answer, entry);
    if (is_looked_up) {
        answer.entry_timeout = cfs_caches_tell_name(
            self->caches, entry->parent, record, &answer.attr_timeout);
    } else {
        cfs_caches_tell_first(record);
    }
    if (fuse_reply_entry(req, &answer) != 0) {
        cfs_inodes_forget(self->inodes, entry->inode, 1);
    }
}

void
cfs_fuse_reply_entry(CfsFuse *self, fuse_req_t req, CfsEntry *entry)
{
    reply_entry(self, req, entry, FALSE);
}

void
cfs_fuse_reply_found(CfsFuse *self, fuse_req_t req, CfsEntry *entry)
{
    reply_entry(self, req, entry, TRUE);
}

/* Node id 0 with a timeout means: not there, and you may remember it. */
void
cfs_fuse_reply_missing(CfsFuse *self,
                       fuse_req_t req,
                       guint64 parent,
                       const char *name)
{
    struct fuse_entry_param answer = {
        .entry_timeout = cfs_caches_tell_missing(self->caches, parent, name)};

    if (answer.entry_timeout > 0) {
        (void)fuse_reply_entry(req, &answer);
    } else {
        cfs_fuse_reply_verdict(req, ENOENT);
    }
}

void
cfs_fuse_reply_view(CfsFuse *self, fuse_req_t req, guint view)
{
    struct fuse_entry_param answer = {0};
    g_autofree char *text = cfs_fuse_view_text(self, view);

    answer.ino = cfs_fuse_view_ino(view);
    answer.entry_timeout = VIEW_NAME_S;
    cfs_fuse_fill_view(self, &answer.attr, view, strlen(text));
    (void)fuse_reply_entry(req, &answer);
}
