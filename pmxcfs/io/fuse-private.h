/* fuse-private.h - what the rooms of the mount share.
 *
 * fuse.c is the session: it starts, reads requests, stops. fuse-node.c says
 * what node ids stand for and what the kernel is told of them; handles.c has
 * what is open, fuse-park.c the requests that wait for an answer. The
 * caches.h decides what the kernel may keep of an answer. The
 * operations: fuse-read.c looks, fuse-dir.c lists, fuse-change.c changes.
 * Nobody else includes this.
 */
#ifndef CFS_FUSE_PRIVATE_H
#define CFS_FUSE_PRIVATE_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)

#include <fuse_lowlevel.h>

#include "common/ipc-proto.h"
#include "pmxcfs/io/caches.h"
#include "pmxcfs/io/fuse.h"
#include "pmxcfs/io/inodes.h"

#define CFS_FUSE_FIRST_VIEW_INO 2u
#define CFS_FUSE_TREE_INO_BASE PVE_IPC_INODE_BASE
#define CFS_FUSE_BLOCK_SIZE 4096u
/* st_blksize: cp(1), cat(1) and others write that much at once. Each write is a
 * change of its own, and the fewer the better. */
#define CFS_FUSE_BEST_WRITE CFS_MAX_FILE_BYTES

struct CfsFuse {
    CfsEffects *effects;
    CfsMetrics *metrics;
    CfsReplica *replica;
    CfsInodes *inodes;
    CfsCaches *caches;
    CfsFuseHandler handler;
    gid_t group;
    char *mount_path;
    int mount_root; /* O_PATH; -1: not mounted */
    struct fuse_session *session;
    struct fuse_buf buffer;
    guint watch;
    gboolean is_mounted;
    guint64 last_id;
    GHashTable *parked;  /* id -> CfsFuseParked */
    GQueue awaiting;     /* of CfsFuseParked that wait for a step */
    GHashTable *handles; /* set of CfsFuseHandle */
};

/* What a node id stands for. */
typedef struct {
    gboolean is_view;
    guint view;
    guint64 inode;
} CfsFuseNode;

/* An open file or directory. */
typedef struct {
    CfsFuseNode node;
    gboolean is_writer; /* opened for writing */
    gboolean has_written;
    CfsInode *record;   /* NULL: a virtual file */
    char *text;         /* of a virtual file, as it was at open */
    GPtrArray *listing; /* fuse-dir.c's; NULL: not read yet */
} CfsFuseHandle;

typedef struct CfsFuseParked CfsFuseParked;

/* Answers the request. @verdict, @entry: the replica's. */
typedef void (*CfsFuseFinish)(CfsFuse *self,
                              CfsFuseParked *parked,
                              int verdict,
                              CfsEntry *entry);

struct CfsFuseParked {
    CfsFuse *self;
    guint64 id;
    fuse_req_t req;
    CfsFuseFinish finish;
    guint interrupt_timer;
    guint64 sync;     /* of a barrier: for cfs_effects_sync_cancel(), else 0 */
    guint impatience; /* of one that waits for a step */
    guint64 step;
    CfsTimingKind timing;
    gint64 since_us;    /* 0: its time is not of interest */
    GPtrArray *changes; /* of CfsChange: what it did; NULL: nothing yet */
    gboolean is_append;
    off_t end; /* APPEND: where the kernel thinks it goes */
    /* As far as the finish needs it. */
    struct fuse_file_info info;
    fuse_ino_t ino;
    char *name;
    gsize size;
};

/* --- fuse-node.c */

CfsFuse *cfs_fuse_self(fuse_req_t req);
CfsTree *cfs_fuse_tree(CfsFuse *self);
gboolean cfs_fuse_node(fuse_ino_t ino, CfsFuseNode *node);
/* 0: the number is too high for us; only a forged database or peer has it. */
fuse_ino_t cfs_fuse_ino(guint64 inode);
fuse_ino_t cfs_fuse_view_ino(guint view);
mode_t cfs_fuse_file_type(const CfsEntry *entry);
/* The position of a virtual entry, or -1. They exist in the root only. */
int cfs_fuse_find_view(const CfsFuseNode *parent, const char *name);
char *cfs_fuse_view_text(CfsFuse *self, guint view);
/* @size: of its text, which the caller has or is about to show. */
void cfs_fuse_fill_view(CfsFuse *self, struct stat *st, guint view, gsize size);
/* Nothing of it may be kept. Counts one lookup; taken back by
 * cfs_inodes_forget() when the answer does not arrive. Returns: (borrowed) the
 * record. */
CfsInode *cfs_fuse_fill_answer(CfsFuse *self,
                               struct fuse_entry_param *answer,
                               CfsEntry *entry);
void cfs_fuse_reply_verdict(fuse_req_t req, int verdict);
void cfs_fuse_reply_attributes(CfsFuse *self,
                               fuse_req_t req,
                               const CfsFuseNode *node,
                               const CfsFuseHandle *handle,
                               gboolean may_keep);
/* Something was made. */
void cfs_fuse_reply_entry(CfsFuse *self, fuse_req_t req, CfsEntry *entry);
/* A name was looked up. */
void cfs_fuse_reply_found(CfsFuse *self, fuse_req_t req, CfsEntry *entry);
void cfs_fuse_reply_missing(CfsFuse *self,
                            fuse_req_t req,
                            guint64 parent,
                            const char *name);
void cfs_fuse_reply_view(CfsFuse *self, fuse_req_t req, guint view);

/* --- handles.c */

CfsFuseHandle *cfs_fuse_handle(const struct fuse_file_info *info);
void cfs_fuse_open_entry(CfsFuse *self,
                         CfsEntry *entry,
                         struct fuse_file_info *info);
/* A file that was there when its name was found. FALSE: too long ago. */
gboolean
cfs_fuse_open_recent(CfsFuse *self, guint64 inode, struct fuse_file_info *info);
void cfs_fuse_open_view(CfsFuse *self, guint view, struct fuse_file_info *info);
void cfs_fuse_close(CfsFuse *self, struct fuse_file_info *info);
void cfs_fuse_handle_free(CfsFuse *self, CfsFuseHandle *handle);

/* --- fuse-park.c */

CfsFuseParked *
cfs_fuse_park(CfsFuse *self, fuse_req_t req, CfsFuseFinish finish);
/* Call last: the answer may come before this returns. @parked: (takes). */
void cfs_fuse_submit(CfsFuse *self, CfsFuseParked *parked, const CfsOp *op);
/* As cfs_fuse_submit(), for a barrier over everything applied so far. */
void cfs_fuse_submit_flush(CfsFuse *self, CfsFuseParked *parked);
/* As cfs_fuse_submit(): until the caches have let go of what this node was
 * asked to change so far, but not for long. */
void cfs_fuse_await_settled(CfsFuse *self, CfsFuseParked *parked);
/* Some have. */
void cfs_fuse_on_settled(CfsFuse *self);
void cfs_fuse_unpark(CfsFuse *self, guint64 id, int verdict, CfsEntry *entry);
/* The request has done this. FALSE: the kernel will not know it by the answer:
 * nobody waits for that any more, or it went elsewhere. */
gboolean cfs_fuse_note_applied(CfsFuse *self, guint64 id, GPtrArray *changes);
/* Answers all with @verdict. */
void cfs_fuse_refuse_parked(CfsFuse *self, int verdict);
void cfs_fuse_parked_free(gpointer data);

/* --- the operations: as in struct fuse_lowlevel_ops */

void cfs_fuse_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void cfs_fuse_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups);
void cfs_fuse_op_forget_multi(fuse_req_t req,
                              size_t count,
                              struct fuse_forget_data *forgets);
void cfs_fuse_op_getattr(fuse_req_t req,
                         fuse_ino_t ino,
                         struct fuse_file_info *info);
void cfs_fuse_op_readlink(fuse_req_t req, fuse_ino_t ino);
void cfs_fuse_op_statfs(fuse_req_t req, fuse_ino_t ino);
void
cfs_fuse_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info);
void cfs_fuse_op_read(fuse_req_t req,
                      fuse_ino_t ino,
                      size_t size,
                      off_t offset,
                      struct fuse_file_info *info);
void
cfs_fuse_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info);
void cfs_fuse_op_release(fuse_req_t req,
                         fuse_ino_t ino,
                         struct fuse_file_info *info);

void cfs_fuse_op_opendir(fuse_req_t req,
                         fuse_ino_t ino,
                         struct fuse_file_info *info);
void cfs_fuse_op_readdir(fuse_req_t req,
                         fuse_ino_t ino,
                         size_t size,
                         off_t offset,
                         struct fuse_file_info *info);
void cfs_fuse_op_readdirplus(fuse_req_t req,
                             fuse_ino_t ino,
                             size_t size,
                             off_t offset,
                             struct fuse_file_info *info);

void cfs_fuse_op_setattr(fuse_req_t req,
                         fuse_ino_t ino,
                         struct stat *st,
                         int set,
                         struct fuse_file_info *info);
void cfs_fuse_op_mkdir(fuse_req_t req,
                       fuse_ino_t parent,
                       const char *name,
                       mode_t mode);
void cfs_fuse_op_mknod(fuse_req_t req,
                       fuse_ino_t parent,
                       const char *name,
                       mode_t mode,
                       dev_t device);
void cfs_fuse_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void cfs_fuse_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void cfs_fuse_op_rename(fuse_req_t req,
                        fuse_ino_t parent,
                        const char *name,
                        fuse_ino_t new_parent,
                        const char *new_name,
                        unsigned int flags);
void cfs_fuse_op_create(fuse_req_t req,
                        fuse_ino_t parent,
                        const char *name,
                        mode_t mode,
                        struct fuse_file_info *info);
void cfs_fuse_op_write(fuse_req_t req,
                       fuse_ino_t ino,
                       const char *bytes,
                       size_t size,
                       off_t offset,
                       struct fuse_file_info *info);
void cfs_fuse_op_copy_file_range(fuse_req_t req,
                                 fuse_ino_t ino_in,
                                 off_t offset_in,
                                 struct fuse_file_info *info_in,
                                 fuse_ino_t ino_out,
                                 off_t offset_out,
                                 struct fuse_file_info *info_out,
                                 size_t size,
                                 int flags);
void cfs_fuse_op_fsync(fuse_req_t req,
                       fuse_ino_t ino,
                       int data_only,
                       struct fuse_file_info *info);

#endif
