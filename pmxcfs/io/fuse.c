#define G_LOG_DOMAIN "fuse"
#include "config.h"

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)

#include "pmxcfs/io/fuse.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pmxcfs/core/access.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/io/inodes.h"
#include "pmxcfs/io/mount.h"
#include "pmxcfs/io/priorities.h"

#define FIRST_VIEW_INO 2u
#define TREE_INO_BASE 1024u

#define REQUESTS_PER_TURN 64
/* One message each, well below what corosync sends in one piece. */
#define MAX_WRITE (512u * 1024)
#define BLOCK_SIZE 4096u
/* statfs: what the reference says. */
#define TOTAL_BLOCKS (CFS_MAX_TREE_BYTES / BLOCK_SIZE)
#define STATFS_NAME_MAX 256
/* The lowest limit of the kernels we run on. */
#define KERNEL_NAME_MAX 1024
/* An interrupted request may still finish: any signal with a handler
 * interrupts, and most changes take no millisecond. */
#define INTERRUPT_GRACE_MS 250

struct CfsFuse {
    CfsEffects *effects;
    CfsReplica *replica;
    CfsInodes *inodes;
    CfsFuseHandler handler;
    gid_t group;
    char *mount_path;
    struct fuse_session *session;
    struct fuse_buf buffer;
    guint watch;
    gboolean is_mounted;
    guint64 last_id;
    GHashTable *parked;  /* id -> Parked */
    GHashTable *handles; /* set of Handle */
};

/* What a node id stands for. */
typedef struct {
    gboolean is_view;
    guint view;
    guint64 inode;
} Node;

/* One name of a listing. */
typedef struct {
    char *name;
    fuse_ino_t ino;
    mode_t type; /* S_IFMT bits */
    Node node;
    gboolean is_dot; /* "." or ".." */
} Item;

/* An open file or directory. */
typedef struct {
    Node node;
    gboolean is_writer; /* opened for writing */
    CfsInode *record;   /* NULL: a virtual file */
    char *text;         /* of a virtual file, as it was at open */
    GPtrArray *listing; /* of Item; NULL: not read yet */
} Handle;

typedef struct Parked Parked;

/* Answers the request. @verdict, @entry: the replica's. */
typedef void (*Finish)(CfsFuse *self,
                       Parked *parked,
                       int verdict,
                       CfsEntry *entry);

struct Parked {
    CfsFuse *self;
    guint64 id;
    fuse_req_t req;
    Finish finish;
    guint interrupt_timer;
    /* As far as the finish needs it. */
    struct fuse_file_info info;
    fuse_ino_t ino;
    char *name;
    gsize size;
};

/* Nodes ------------------------------------------------------------------- */

static CfsFuse *
self_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static CfsTree *
tree_of(CfsFuse *self)
{
    return cfs_replica_tree(self->replica);
}

static gboolean
node_of_ino(fuse_ino_t ino, Node *node)
{
    *node = (Node){0};
    if (ino == FUSE_ROOT_ID) {
        node->inode = CFS_ROOT_INODE;
        return TRUE;
    }
    if (ino >= FIRST_VIEW_INO && ino < FIRST_VIEW_INO + cfs_views_count()) {
        node->is_view = TRUE;
        node->view = (guint)(ino - FIRST_VIEW_INO);
        return TRUE;
    }
    node->inode = ino - TREE_INO_BASE;
    return ino > TREE_INO_BASE;
}

/* 0: the number is too high for us; only a forged database or peer has it. */
static fuse_ino_t
ino_of_inode(guint64 inode)
{
    if (inode == CFS_ROOT_INODE) {
        return FUSE_ROOT_ID;
    }
    return inode <= G_MAXUINT64 - TREE_INO_BASE ? inode + TREE_INO_BASE : 0;
}

static fuse_ino_t
ino_of_view(guint view)
{
    return FIRST_VIEW_INO + view;
}

static mode_t
file_type(const CfsEntry *entry)
{
    return cfs_entry_is_directory(entry) ? S_IFDIR : S_IFREG;
}

/* The position of a virtual entry, or -1. They exist in the root only. */
static int
find_view(const Node *parent, const char *name)
{
    if (parent->is_view || parent->inode != CFS_ROOT_INODE) {
        return -1;
    }
    return cfs_views_find(name);
}

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
    Node node;

    if (!node_of_ino(parent, &node)) {
        return ENOENT;
    }
    if (node.is_view) {
        return ENOTDIR;
    }
    if (find_view(&node, name) >= 0) {
        return view_verdict;
    }
    folder = cfs_tree_path(tree_of(self), node.inode);
    if (folder == NULL) {
        return ENOENT;
    }
    *path = folder[0] == '\0' ? g_strdup(name)
                              : g_strconcat(folder, "/", name, NULL);
    *entry = cfs_tree_child(tree_of(self), node.inode, name);
    return 0;
}

/* Handles ----------------------------------------------------------------- */

static void
item_free(gpointer data)
{
    Item *item = data;

    g_free(item->name);
    g_free(item);
}

static Handle *
handle_of(const struct fuse_file_info *info)
{
    return info != NULL ? (Handle *)(guintptr)info->fh : NULL;
}

static Handle *
handle_new(CfsFuse *self, struct fuse_file_info *info)
{
    Handle *handle = g_new0(Handle, 1);

    handle->is_writer = (info->flags & O_ACCMODE) != O_RDONLY;
    g_hash_table_add(self->handles, handle);
    info->fh = (guintptr)handle;
    /* Other nodes change files too: the kernel keeps no copy of content. */
    info->direct_io = 1;
    info->keep_cache = 0;
    return handle;
}

static void
open_entry(CfsFuse *self, CfsEntry *entry, struct fuse_file_info *info)
{
    Handle *handle = handle_new(self, info);

    handle->node.inode = entry->inode;
    handle->record = cfs_inodes_open(self->inodes, entry);
    if (!handle->record->is_gone) {
        g_autofree char *path = cfs_tree_path(tree_of(self), entry->inode);

        handle->record->is_private =
            path != NULL && cfs_access_is_private(path);
    }
}

static char *
view_text(CfsFuse *self, guint view)
{
    return cfs_views_text(cfs_replica_views(self->replica), view,
                          tree_of(self));
}

static void
open_view(CfsFuse *self, guint view, struct fuse_file_info *info)
{
    Handle *handle = handle_new(self, info);

    handle->node.is_view = TRUE;
    handle->node.view = view;
    handle->text = view_text(self, view);
}

static void
handle_free(CfsFuse *self, Handle *handle)
{
    if (handle->record != NULL) {
        cfs_inodes_close(self->inodes, handle->record);
    }
    g_clear_pointer(&handle->listing, g_ptr_array_unref);
    g_free(handle->text);
    g_free(handle);
}

static void
close_handle(CfsFuse *self, struct fuse_file_info *info)
{
    Handle *handle = handle_of(info);

    if (handle != NULL && g_hash_table_remove(self->handles, handle)) {
        handle_free(self, handle);
    }
    info->fh = 0;
}

/* Attributes -------------------------------------------------------------- */

static void
fill_common(CfsFuse *self, struct stat *st, fuse_ino_t ino, gsize size)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_uid = 0;
    st->st_gid = self->group;
    st->st_nlink = 1;
    st->st_size = (off_t)size;
    st->st_blksize = BLOCK_SIZE;
    st->st_blocks = (blkcnt_t)((size + 511) / 512);
}

/* @size: of its text, which the caller has or is about to show. */
static void
fill_view(CfsFuse *self, struct stat *st, guint view, gsize size)
{
    gboolean quorate = cfs_replica_is_quorate(self->replica);
    CfsViewKind kind;

    (void)cfs_views_name(view, &kind);
    fill_common(self, st, ino_of_view(view), size);
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

    fill_common(self, st, ino_of_inode(entry->inode),
                is_directory ? 0 : entry->size);
    st->st_mode =
        cfs_access_mode(path, is_directory, quorate) | file_type(entry);
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
               const Node *node,
               const Handle *handle,
               struct stat *st)
{
    CfsInode *record;
    CfsEntry *entry;

    if (node->is_view) {
        g_autofree char *text =
            handle != NULL ? NULL : view_text(self, node->view);

        fill_view(self, st, node->view,
                  strlen(handle != NULL ? handle->text : text));
        return 0;
    }
    record = handle != NULL ? handle->record
                            : cfs_inodes_find(self->inodes, node->inode);
    entry = cfs_tree_get(tree_of(self), node->inode);
    if (entry != NULL && (record == NULL || !record->is_gone)) {
        g_autofree char *path = cfs_tree_path(tree_of(self), node->inode);

        if (path != NULL) {
            fill_entry(self, st, entry, path);
            return 0;
        }
    }
    if (record == NULL || record->entry == NULL) {
        return ENOENT;
    }
    fill_gone(self, st, record);
    return 0;
}

/* Answers ----------------------------------------------------------------- */

static void
reply_verdict(fuse_req_t req, int verdict)
{
    /* It fails when the request was aborted: nobody waits then. */
    (void)fuse_reply_err(req, verdict);
}

static void
reply_attributes(CfsFuse *self,
                 fuse_req_t req,
                 const Node *node,
                 const Handle *handle)
{
    struct stat st;
    int verdict = get_attributes(self, node, handle, &st);

    if (verdict != 0) {
        reply_verdict(req, verdict);
    } else {
        (void)fuse_reply_attr(req, &st, 0);
    }
}

/* Counts one lookup; taken back by cfs_inodes_forget() when the answer does
 * not arrive. */
static void
fill_answer(CfsFuse *self, struct fuse_entry_param *answer, CfsEntry *entry)
{
    CfsInode *record = cfs_inodes_remember(self->inodes, entry);
    Node node = {.inode = entry->inode};

    memset(answer, 0, sizeof(*answer));
    answer->ino = ino_of_inode(entry->inode);
    answer->generation = record->generation;
    if (get_attributes(self, &node, NULL, &answer->attr) != 0) {
        /* Made and removed again before we could tell. */
        fill_entry(self, &answer->attr, entry, "x");
    }
}

static void
reply_entry(CfsFuse *self, fuse_req_t req, CfsEntry *entry)
{
    struct fuse_entry_param answer;

    if (ino_of_inode(entry->inode) == 0) {
        reply_verdict(req, EOVERFLOW);
        return;
    }
    fill_answer(self, &answer, entry);
    if (fuse_reply_entry(req, &answer) != 0) {
        cfs_inodes_forget(self->inodes, entry->inode, 1);
    }
}

static void
reply_view(CfsFuse *self, fuse_req_t req, guint view)
{
    struct fuse_entry_param answer = {0};
    g_autofree char *text = view_text(self, view);

    answer.ino = ino_of_view(view);
    fill_view(self, &answer.attr, view, strlen(text));
    (void)fuse_reply_entry(req, &answer);
}

/* Parked requests --------------------------------------------------------- */

static void
parked_free(gpointer data)
{
    Parked *parked = data;

    g_clear_handle_id(&parked->interrupt_timer, g_source_remove);
    g_free(parked->name);
    g_free(parked);
}

static void
unpark(CfsFuse *self, guint64 id, int verdict, CfsEntry *entry)
{
    Parked *parked = g_hash_table_lookup(self->parked, &id);

    if (parked == NULL) {
        return; /* it was interrupted */
    }
    (void)g_hash_table_steal(self->parked, &id);
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    parked->finish(self, parked, verdict, entry);
    parked_free(parked);
}

static gboolean
on_grace_over(gpointer data)
{
    Parked *parked = data;
    CfsFuse *self = parked->self;
    guint64 id = parked->id;

    parked->interrupt_timer = 0;
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    reply_verdict(parked->req, EINTR);
    (void)g_hash_table_remove(self->parked, &id);
    return G_SOURCE_REMOVE;
}

/* libfuse holds locks of the request: no answer from here. */
static void
on_interrupt(fuse_req_t req, void *data)
{
    Parked *parked = data;

    if (parked->interrupt_timer == 0) {
        parked->interrupt_timer =
            g_timeout_add(INTERRUPT_GRACE_MS, on_grace_over, parked);
    }
}

static Parked *
park(CfsFuse *self, fuse_req_t req, Finish finish)
{
    Parked *parked = g_new0(Parked, 1);

    parked->self = self;
    parked->id = ++self->last_id;
    parked->req = req;
    parked->finish = finish;
    return parked;
}

/* Call last: the answer may come before this returns. @parked: (takes). */
static void
submit(CfsFuse *self, Parked *parked, const CfsOp *op)
{
    guint64 id = parked->id;

    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(parked->req, on_interrupt, parked);
    cfs_effects_request(self->effects, id, op);
}

static void
finish_verdict(CfsFuse *self, Parked *parked, int verdict, CfsEntry *entry)
{
    reply_verdict(parked->req, verdict);
}

static void
finish_entry(CfsFuse *self, Parked *parked, int verdict, CfsEntry *entry)
{
    if (verdict != 0 || entry == NULL) {
        reply_verdict(parked->req, verdict != 0 ? verdict : EIO);
    } else {
        reply_entry(self, parked->req, entry);
    }
}

static void
finish_attributes(CfsFuse *self, Parked *parked, int verdict, CfsEntry *entry)
{
    Node node;

    if (verdict != 0) {
        reply_verdict(parked->req, verdict);
        return;
    }
    (void)node_of_ino(parked->ino, &node);
    reply_attributes(self, parked->req, &node, handle_of(&parked->info));
}

static void
finish_write(CfsFuse *self, Parked *parked, int verdict, CfsEntry *entry)
{
    if (verdict != 0) {
        reply_verdict(parked->req, verdict);
    } else {
        (void)fuse_reply_write(parked->req, parked->size);
    }
}

/* Looking ----------------------------------------------------------------- */

static void
op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CfsFuse *self = self_of(req);
    CfsEntry *entry;
    Node node;
    int view;

    if (!node_of_ino(parent, &node) || node.is_view) {
        reply_verdict(req, ENOTDIR);
        return;
    }
    view = find_view(&node, name);
    if (view >= 0) {
        reply_view(self, req, (guint)view);
        return;
    }
    entry = cfs_tree_child(tree_of(self), node.inode, name);
    if (entry == NULL) {
        reply_verdict(req, ENOENT);
    } else {
        reply_entry(self, req, entry);
    }
}

static void
forget(CfsFuse *self, fuse_ino_t ino, guint64 n_lookups)
{
    Node node;

    if (node_of_ino(ino, &node) && !node.is_view) {
        cfs_inodes_forget(self->inodes, node.inode, n_lookups);
    }
}

static void
op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
    forget(self_of(req), ino, n_lookups);
    fuse_reply_none(req);
}

static void
op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) {
        forget(self_of(req), forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    Node node;

    if (!node_of_ino(ino, &node)) {
        reply_verdict(req, ENOENT);
        return;
    }
    reply_attributes(self_of(req), req, &node, handle_of(info));
}

static void
op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    g_autofree char *target = NULL;
    CfsViewKind kind;
    Node node;

    if (!node_of_ino(ino, &node) || !node.is_view) {
        reply_verdict(req, EINVAL);
        return;
    }
    (void)cfs_views_name(node.view, &kind);
    if (kind != CFS_VIEW_LINK) {
        reply_verdict(req, EINVAL);
        return;
    }
    target = view_text(self_of(req), node.view);
    (void)fuse_reply_readlink(req, target);
}

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    CfsTree *tree = tree_of(self_of(req));
    guint64 used = (cfs_tree_total_bytes(tree) + BLOCK_SIZE - 1) / BLOCK_SIZE;
    guint64 entries = cfs_tree_n_entries(tree);
    struct statvfs st = {
        .f_bsize = BLOCK_SIZE,
        .f_frsize = BLOCK_SIZE,
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

/* Attributes that are set ------------------------------------------------- */

/* Modes and owners are fixed; setting them to what they are is fine. Editors
 * and cp -p do that. */
static int
check_mode(CfsFuse *self, const Node *node, mode_t mode)
{
    g_autofree char *path = NULL;
    gboolean is_private = FALSE;

    if (!node->is_view) {
        path = cfs_tree_path(tree_of(self), node->inode);
        is_private = path != NULL && cfs_access_is_private(path);
    }
    return (mode & 07777) == (is_private ? 0600 : 0640) ? 0 : EPERM;
}

static int
check_fixed(CfsFuse *self, const Node *node, const struct stat *st, int set)
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
find_path(CfsFuse *self, const Node *node, const Handle *handle, char **path)
{
    if (handle != NULL && handle->record != NULL && handle->record->is_gone) {
        return ESTALE;
    }
    *path = cfs_tree_path(tree_of(self), node->inode);
    return *path != NULL ? 0 : ESTALE;
}

static void
set_size(CfsFuse *self, Parked *parked, const Node *node, off_t size)
{
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (node->is_view) {
        finish_attributes(self, parked, cfs_views_truncate(node->view), NULL);
        parked_free(parked);
        return;
    }
    if (size < 0 || (guint64)size > CFS_MAX_FILE_BYTES) {
        verdict = EFBIG; /* before it is cut to 32 bits */
    } else {
        verdict = find_path(self, node, handle_of(&parked->info), &path);
    }
    if (verdict != 0) {
        reply_verdict(parked->req, verdict);
        parked_free(parked);
        return;
    }
    op = cfs_op_new_truncate(path, (guint32)size);
    submit(self, parked, op);
}

static void
set_mtime(CfsFuse *self, Parked *parked, const Node *node, gint64 mtime)
{
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    int verdict;

    if (node->is_view || node->inode == CFS_ROOT_INODE) {
        verdict = EACCES;
    } else {
        verdict = find_path(self, node, handle_of(&parked->info), &path);
    }
    if (verdict != 0) {
        reply_verdict(parked->req, verdict);
        parked_free(parked);
        return;
    }
    op = cfs_op_new_mtime(path, (guint32)(guint64)mtime);
    submit(self, parked, op);
}

static void
op_setattr(fuse_req_t req,
           fuse_ino_t ino,
           struct stat *st,
           int set,
           struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    Parked *parked;
    Node node;
    int verdict = ENOENT;

    if (node_of_ino(ino, &node)) {
        verdict = check_fixed(self, &node, st, set);
    }
    if (verdict != 0) {
        reply_verdict(req, verdict);
        return;
    }
    parked = park(self, req, finish_attributes);
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
        parked_free(parked);
    }
}

/* Names ------------------------------------------------------------------- */

static void
op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    CfsFuse *self = self_of(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    int verdict = find_target(self, parent, name, EEXIST, &path, &entry);

    if (verdict == 0 && entry != NULL) {
        verdict = EEXIST;
    }
    if (verdict != 0) {
        reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new(CFS_OP_MKDIR, path);
    submit(self, park(self, req, finish_entry), op);
}

static void
op_mknod(fuse_req_t req,
         fuse_ino_t parent,
         const char *name,
         mode_t mode,
         dev_t device)
{
    CfsFuse *self = self_of(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    int verdict = find_target(self, parent, name, EEXIST, &path, &entry);

    if (verdict == 0 && entry != NULL) {
        verdict = EEXIST;
    }
    if (verdict == 0 && !S_ISREG(mode)) {
        verdict = ENOSYS; /* what the reference says */
    }
    if (verdict != 0) {
        reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new(CFS_OP_CREATE, path);
    submit(self, park(self, req, finish_entry), op);
}

/* The protocol has one operation for both; whom it may hit is decided here,
 * once more after the kernel: another node may have changed it. */
static void
remove_entry(fuse_req_t req,
             fuse_ino_t parent,
             const char *name,
             gboolean is_directory)
{
    CfsFuse *self = self_of(req);
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
        reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new(CFS_OP_DELETE, path);
    submit(self, park(self, req, finish_verdict), op);
}

static void
op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_entry(req, parent, name, FALSE);
}

static void
op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
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

static void
op_rename(fuse_req_t req,
          fuse_ino_t parent,
          const char *name,
          fuse_ino_t new_parent,
          const char *new_name,
          unsigned int flags)
{
    CfsFuse *self = self_of(req);
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
        reply_verdict(req, verdict);
        return;
    }
    op = cfs_op_new_rename(path, new_path);
    submit(self, park(self, req, finish_verdict), op);
}

/* Files ------------------------------------------------------------------- */

static void
reply_create(CfsFuse *self,
             fuse_req_t req,
             CfsEntry *entry,
             struct fuse_file_info *info)
{
    struct fuse_entry_param answer;

    if (ino_of_inode(entry->inode) == 0) {
        reply_verdict(req, EOVERFLOW);
        return;
    }
    open_entry(self, entry, info);
    fill_answer(self, &answer, entry);
    if (fuse_reply_create(req, &answer, info) != 0) {
        close_handle(self, info);
        cfs_inodes_forget(self->inodes, entry->inode, 1);
    }
}

/* The file that another node made first was truncated. */
static void
finish_truncated(CfsFuse *self, Parked *parked, int verdict, CfsEntry *unused)
{
    CfsEntry *entry = cfs_tree_get(tree_of(self), parked->ino);

    if (verdict == 0 && entry == NULL) {
        verdict = ENOENT;
    }
    if (verdict != 0) {
        reply_verdict(parked->req, verdict);
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
    Parked *parked;

    if ((info->flags & O_EXCL) != 0) {
        reply_verdict(req, EEXIST);
        return;
    }
    if (cfs_entry_is_directory(entry)) {
        reply_verdict(req, EISDIR);
        return;
    }
    if ((info->flags & O_TRUNC) == 0 || entry->size == 0) {
        reply_create(self, req, entry, info);
        return;
    }
    parked = park(self, req, finish_truncated);
    parked->info = *info;
    parked->ino = entry->inode;
    op = cfs_op_new_truncate(path, 0);
    submit(self, parked, op);
}

static void
finish_create(CfsFuse *self, Parked *parked, int verdict, CfsEntry *entry)
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
    reply_verdict(parked->req, verdict != 0 ? verdict : EIO);
}

static void
op_create(fuse_req_t req,
          fuse_ino_t parent,
          const char *name,
          mode_t mode,
          struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    CfsEntry *entry = NULL;
    Parked *parked;
    int verdict = find_target(self, parent, name, EEXIST, &path, &entry);

    if (verdict != 0) {
        reply_verdict(req, verdict);
        return;
    }
    if (entry != NULL) {
        open_existing(self, req, entry, path, info);
        return;
    }
    parked = park(self, req, finish_create);
    parked->info = *info;
    parked->ino = parent;
    parked->name = g_strdup(name);
    op = cfs_op_new(CFS_OP_CREATE, path);
    submit(self, parked, op);
}

static void
op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    CfsEntry *entry;
    Node node;

    if (!node_of_ino(ino, &node)) {
        reply_verdict(req, ENOENT);
        return;
    }
    if (node.is_view) {
        open_view(self, node.view, info);
    } else {
        entry = cfs_tree_get(tree_of(self), node.inode);
        if (entry == NULL || cfs_entry_is_directory(entry)) {
            reply_verdict(req, entry == NULL ? ENOENT : EISDIR);
            return;
        }
        open_entry(self, entry, info);
    }
    if (fuse_reply_open(req, info) != 0) {
        close_handle(self, info);
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

static void
op_read(fuse_req_t req,
        fuse_ino_t ino,
        size_t size,
        off_t offset,
        struct fuse_file_info *info)
{
    const Handle *handle = handle_of(info);

    if (handle == NULL) {
        reply_verdict(req, EBADF);
    } else if (handle->text != NULL) {
        reply_bytes(req, handle->text, strlen(handle->text), size, offset);
    } else if (handle->record == NULL || handle->record->entry == NULL) {
        reply_verdict(req, EIO);
    } else {
        read_entry(req, handle->record->entry, size, offset);
    }
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
           const Handle *handle,
           const char *bytes,
           gsize size,
           off_t offset)
{
    int taken = offset < 0 ? -EIO
                           : cfs_views_write(cfs_replica_views(self->replica),
                                             handle->node.view, bytes, size,
                                             (guint64)offset);

    if (taken < 0) {
        reply_verdict(req, -taken);
    } else {
        (void)fuse_reply_write(req, (gsize)taken);
    }
}

static void
op_write(fuse_req_t req,
         fuse_ino_t ino,
         const char *bytes,
         size_t size,
         off_t offset,
         struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    const Handle *handle = handle_of(info);
    g_autoptr(GBytes) data = NULL;
    g_autofree char *path = NULL;
    g_autoptr(CfsOp) op = NULL;
    Parked *parked;
    int verdict;

    if (handle == NULL) {
        reply_verdict(req, EBADF);
        return;
    }
    if (handle->node.is_view) {
        write_view(self, req, handle, bytes, size, offset);
        return;
    }
    verdict = find_path(self, &handle->node, handle, &path);
    if (verdict == 0 && (info->flags & O_APPEND) != 0) {
        /* The kernel's idea of the end may be older than ours. */
        offset = handle->record->entry->size;
    }
    if (verdict == 0) {
        verdict = check_write(offset, &size);
    }
    if (verdict != 0) {
        reply_verdict(req, verdict);
        return;
    }
    data = g_bytes_new(bytes, size);
    op = cfs_op_new_write(path, data, (guint32)offset);
    parked = park(self, req, finish_write);
    parked->size = size;
    submit(self, parked, op);
}

static void
op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    reply_verdict(req, 0);
}

static void
op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    close_handle(self_of(req), info);
    reply_verdict(req, 0);
}

static void
on_flushed(gpointer data, guint64 id, int verdict)
{
    unpark(data, id, verdict, NULL);
}

/* A barrier over everything this node has applied. */
static void
op_fsync(fuse_req_t req,
         fuse_ino_t ino,
         int data_only,
         struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    Parked *parked = park(self, req, finish_verdict);

    g_hash_table_insert(self->parked, &parked->id, parked);
    fuse_req_interrupt_func(req, on_interrupt, parked);
    cfs_effects_flush(self->effects, on_flushed, self, parked->id);
}

/* Directories ------------------------------------------------------------- */

static void
op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    CfsFuse *self = self_of(req);
    CfsEntry *entry = NULL;
    Node node;

    if (node_of_ino(ino, &node) && !node.is_view) {
        entry = cfs_tree_get(tree_of(self), node.inode);
    }
    if (entry == NULL || !cfs_entry_is_directory(entry)) {
        reply_verdict(req, entry == NULL ? ENOENT : ENOTDIR);
        return;
    }
    open_entry(self, entry, info);
    info->direct_io = 0;
    if (fuse_reply_open(req, info) != 0) {
        close_handle(self, info);
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
        Item *item = add_item(listing, name, ino_of_view(i),
                              kind == CFS_VIEW_LINK ? S_IFLNK : S_IFREG);

        item->node = (Node){.is_view = TRUE, .view = i};
    }
}

/* A peer or a database can hold names that no kernel takes: one of them would
 * make the whole listing fail. */
static gboolean
can_list(const Node *parent, const CfsEntry *child)
{
    return find_view(parent, child->name) < 0 &&
           ino_of_inode(child->inode) != 0 &&
           strchr(child->name, '/') == NULL && strcmp(child->name, ".") != 0 &&
           strcmp(child->name, "..") != 0 &&
           strlen(child->name) <= KERNEL_NAME_MAX;
}

/* All names as they are now. A removed directory has none, as rmdir(2) of an
 * open one leaves it. */
static GPtrArray *
list_directory(CfsFuse *self, const Handle *handle)
{
    GPtrArray *listing = g_ptr_array_new_with_free_func(item_free);
    g_autoptr(GPtrArray) children = NULL;
    fuse_ino_t ino = ino_of_inode(handle->node.inode);

    if (!handle->record->is_gone) {
        children = cfs_tree_children(tree_of(self), handle->node.inode);
    }
    if (children == NULL) {
        return listing;
    }
    add_item(listing, ".", ino, S_IFDIR)->is_dot = TRUE;
    add_item(listing, "..", ino_of_inode(handle->record->entry->parent),
             S_IFDIR)
        ->is_dot = TRUE;
    if (handle->node.inode == CFS_ROOT_INODE) {
        list_views(listing);
    }
    for (guint i = 0; i < children->len; i++) {
        const CfsEntry *child = children->pdata[i];

        if (can_list(&handle->node, child)) {
            add_item(listing, child->name, ino_of_inode(child->inode),
                     file_type(child))
                ->node.inode = child->inode;
        }
    }
    return listing;
}

/* The entry that @item named, if it still bears that name. */
static CfsEntry *
item_entry(CfsFuse *self, const Handle *directory, const Item *item)
{
    CfsEntry *entry =
        cfs_tree_child(tree_of(self), directory->node.inode, item->name);

    return entry != NULL && entry->inode == item->node.inode ? entry : NULL;
}

/* Fills in one item; a node id of 0 tells the kernel to look it up itself. */
static gsize
add_plus(CfsFuse *self,
         fuse_req_t req,
         const Handle *directory,
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
        g_autofree char *text = view_text(self, item->node.view);

        answer.ino = item->ino;
        fill_view(self, &answer.attr, item->node.view, strlen(text));
    } else if (!item->is_dot) {
        entry = item_entry(self, directory, item);
        if (entry != NULL) {
            fill_answer(self, &answer, entry);
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
    CfsFuse *self = self_of(req);
    Handle *handle = handle_of(info);
    g_autofree char *out = g_malloc(size);
    gsize used = 0;

    if (offset == 0 || handle->listing == NULL) {
        g_clear_pointer(&handle->listing, g_ptr_array_unref);
        handle->listing = list_directory(self, handle);
    }
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

static void
op_readdir(fuse_req_t req,
           fuse_ino_t ino,
           size_t size,
           off_t offset,
           struct fuse_file_info *info)
{
    read_directory(req, size, offset, info, FALSE);
}

static void
op_readdirplus(fuse_req_t req,
               fuse_ino_t ino,
               size_t size,
               off_t offset,
               struct fuse_file_info *info)
{
    read_directory(req, size, offset, info, TRUE);
}

/* The session ------------------------------------------------------------- */

static void
op_init(void *data, struct fuse_conn_info *connection)
{
    CfsFuse *self = data;

    connection->max_write = MAX_WRITE;
    /* O_TRUNC comes as a truncate of its own, as peers know it. Splicing does
     * not pay at these sizes and hides the bytes. Pieces of a large direct
     * write must not overtake each other. */
    connection->want &=
        ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ |
                    FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                    FUSE_CAP_ASYNC_DIO);
    g_debug("the kernel speaks FUSE %u.%u", connection->proto_major,
            connection->proto_minor);
    self->handler.on_ready(self->handler.data);
}

/* What is missing here the kernel or libfuse refuses or does itself: links
 * and special files ENOSYS, extended attributes EOPNOTSUPP, locks local. */
static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_release,
    .fsyncdir = op_fsync,
    .statfs = op_statfs,
    .create = op_create,
};

static gboolean
on_readable(int fd, GIOCondition condition, gpointer data)
{
    CfsFuse *self = data;

    cfs_effects_begin(self->effects);
    for (guint i = 0; i < REQUESTS_PER_TURN; i++) {
        int result = fuse_session_receive_buf(self->session, &self->buffer);

        if (result == -EINTR) {
            continue;
        }
        if (result <= 0) {
            break;
        }
        fuse_session_process_buf(self->session, &self->buffer);
    }
    cfs_effects_end(self->effects);
    if (fuse_session_exited(self->session)) {
        self->watch = 0;
        self->is_mounted = FALSE;
        self->handler.on_ended(self->handler.data);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void
on_reply(gpointer data, guint64 id, int verdict, CfsEntry *entry)
{
    unpark(data, id, verdict, entry);
}

static void
on_changed(gpointer data, const CfsChange *change)
{
    CfsFuse *self = data;

    cfs_inodes_on_changed(self->inodes, change);
}

static void
on_reloaded(gpointer data)
{
    CfsFuse *self = data;

    cfs_inodes_on_reloaded(self->inodes, tree_of(self));
}

CfsFuse *
cfs_fuse_new(CfsEffects *effects,
             gid_t group,
             const CfsFuseHandler *handler,
             GError **error)
{
    g_autoptr(CfsFuse) self = g_new0(CfsFuse, 1);
    char program[] = "pmxcfs";
    char *argv[] = {program, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    CfsEffectsClient client = {.on_reply = on_reply,
                               .on_changed = on_changed,
                               .on_reloaded = on_reloaded,
                               .data = self};

    g_assert(FIRST_VIEW_INO + cfs_views_count() <= TREE_INO_BASE);
    self->effects = effects;
    self->replica = cfs_effects_replica(effects);
    self->group = group;
    self->handler = *handler;
    self->inodes = cfs_inodes_new();
    self->handles = g_hash_table_new(NULL, NULL);
    self->parked =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, parked_free);
    self->session =
        fuse_session_new(&args, &operations, sizeof(operations), self);
    fuse_opt_free_args(&args); /* libfuse made copies in it */
    if (self->session == NULL) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                    "libfuse made no session");
        return NULL;
    }
    cfs_effects_set_client(effects, &client);
    return g_steal_pointer(&self);
}

gboolean
cfs_fuse_start(CfsFuse *self, const char *path, GError **error)
{
    g_autofree char *place = NULL;
    GSource *source;
    int fd;

    if (!cfs_mount_prepare(path, error)) {
        return FALSE;
    }
    fd = cfs_mount(path, error);
    if (fd < 0) {
        return FALSE;
    }
    self->is_mounted = TRUE;
    self->mount_path = g_strdup(path);
    /* libfuse's way to take over a descriptor; it closes it. */
    place = g_strdup_printf("/dev/fd/%d", fd);
    if (fuse_session_mount(self->session, place) != 0) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                    "libfuse does not take the mount at %s", path);
        (void)close(fd);
        return FALSE;
    }
    source = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_priority(source, CFS_PRIORITY_FUSE);
    g_source_set_callback(source, G_SOURCE_FUNC(on_readable), self, NULL);
    self->watch = g_source_attach(source, NULL);
    g_source_unref(source);
    return TRUE;
}

gboolean
cfs_fuse_is_being_written(CfsFuse *self, guint64 inode)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->handles);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        const Handle *handle = value;

        if (handle->is_writer && !handle->node.is_view &&
            handle->node.inode == inode) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
refuse_parked(CfsFuse *self)
{
    g_autoptr(GList) all = g_hash_table_get_values(self->parked);

    for (GList *l = all; l != NULL; l = l->next) {
        Parked *parked = l->data;

        fuse_req_interrupt_func(parked->req, NULL, NULL);
        reply_verdict(parked->req, EBUSY);
    }
    g_hash_table_remove_all(self->parked);
}

void
cfs_fuse_stop(CfsFuse *self)
{
    g_autoptr(GError) error = NULL;

    g_clear_handle_id(&self->watch, g_source_remove);
    cfs_effects_set_client(self->effects, NULL);
    refuse_parked(self);
    if (self->is_mounted) {
        self->is_mounted = FALSE;
        if (!cfs_unmount(self->mount_path, &error)) {
            g_warning("%s", error->message);
        }
    }
}

void
cfs_fuse_free(CfsFuse *self)
{
    GHashTableIter iter;
    gpointer handle;

    if (self == NULL) {
        return;
    }
    if (self->session != NULL) {
        cfs_fuse_stop(self);
        fuse_session_destroy(self->session);
    }
    g_hash_table_iter_init(&iter, self->handles);
    while (g_hash_table_iter_next(&iter, &handle, NULL)) {
        handle_free(self, handle);
    }
    g_hash_table_unref(self->handles);
    g_hash_table_unref(self->parked);
    cfs_inodes_free(self->inodes);
    free(self->buffer.mem);
    g_free(self->mount_path);
    g_free(self);
}
