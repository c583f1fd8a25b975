#define G_LOG_DOMAIN "fuse"
#include "config.h"

#include "pmxcfs/io/fuse-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/sources.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/io/mount.h"
#include "pmxcfs/io/priorities.h"

#define REQUESTS_PER_TURN 64
/* As much as a file can have: what a program writes at once is one change, and
 * written to the disk once. Only what is within a hundred bytes of this comes
 * in two pieces through corosync (group-cpg.c). */
#define MAX_WRITE CFS_MAX_FILE_BYTES

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
    /* Where the links point never changes. */
    connection->want |= connection->capable & FUSE_CAP_CACHE_SYMLINKS;
    g_debug("the kernel speaks FUSE %u.%u", connection->proto_major,
            connection->proto_minor);
    if (self->mount_root >= 0) {
        cfs_caches_start(self->caches, fuse_session_fd(self->session),
                         self->mount_root);
    }
    self->handler.on_ready(self->handler.data);
}

/* What is missing here the kernel or libfuse refuses or does itself: links
 * and special files ENOSYS, extended attributes EOPNOTSUPP, locks local. */
static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = cfs_fuse_op_lookup,
    .forget = cfs_fuse_op_forget,
    .forget_multi = cfs_fuse_op_forget_multi,
    .getattr = cfs_fuse_op_getattr,
    .setattr = cfs_fuse_op_setattr,
    .readlink = cfs_fuse_op_readlink,
    .mknod = cfs_fuse_op_mknod,
    .mkdir = cfs_fuse_op_mkdir,
    .unlink = cfs_fuse_op_unlink,
    .rmdir = cfs_fuse_op_rmdir,
    .rename = cfs_fuse_op_rename,
    .open = cfs_fuse_op_open,
    .read = cfs_fuse_op_read,
    .write = cfs_fuse_op_write,
    .copy_file_range = cfs_fuse_op_copy_file_range,
    .flush = cfs_fuse_op_flush,
    .release = cfs_fuse_op_release,
    .fsync = cfs_fuse_op_fsync,
    .opendir = cfs_fuse_op_opendir,
    .readdir = cfs_fuse_op_readdir,
    .readdirplus = cfs_fuse_op_readdirplus,
    .releasedir = cfs_fuse_op_release,
    .fsyncdir = cfs_fuse_op_fsync,
    .statfs = cfs_fuse_op_statfs,
    .create = cfs_fuse_op_create,
};

static CfsMetric
metric_of(guint32 opcode)
{
    static const struct {
        guint32 opcode;
        CfsMetric metric;
    } known[] = {
        {FUSE_LOOKUP, CFS_METRIC_FUSE_LOOKUP},
        {FUSE_GETATTR, CFS_METRIC_FUSE_GETATTR},
        {FUSE_OPEN, CFS_METRIC_FUSE_OPEN},
        {FUSE_READ, CFS_METRIC_FUSE_READ},
        {FUSE_RELEASE, CFS_METRIC_FUSE_CLOSE},
        {FUSE_WRITE, CFS_METRIC_FUSE_WRITE},
        {FUSE_CREATE, CFS_METRIC_FUSE_CREATE},
        {FUSE_FORGET, CFS_METRIC_FUSE_FORGET},
        {FUSE_BATCH_FORGET, CFS_METRIC_FUSE_FORGET},
        {FUSE_SETATTR, CFS_METRIC_FUSE_SETATTR},
        {FUSE_RENAME, CFS_METRIC_FUSE_RENAME},
        {FUSE_RENAME2, CFS_METRIC_FUSE_RENAME},
        {FUSE_UNLINK, CFS_METRIC_FUSE_REMOVE},
        {FUSE_RMDIR, CFS_METRIC_FUSE_REMOVE},
        {FUSE_MKDIR, CFS_METRIC_FUSE_MAKE},
        {FUSE_MKNOD, CFS_METRIC_FUSE_MAKE},
        {FUSE_READLINK, CFS_METRIC_FUSE_READLINK},
        {FUSE_FSYNC, CFS_METRIC_FUSE_FSYNC},
        {FUSE_FSYNCDIR, CFS_METRIC_FUSE_FSYNC},
        {FUSE_OPENDIR, CFS_METRIC_FUSE_OPEN},
        {FUSE_RELEASEDIR, CFS_METRIC_FUSE_CLOSE},
        {FUSE_READDIR, CFS_METRIC_FUSE_READDIR},
        {FUSE_READDIRPLUS, CFS_METRIC_FUSE_READDIR},
        {FUSE_COPY_FILE_RANGE, CFS_METRIC_FUSE_WRITE},
        {FUSE_STATFS, CFS_METRIC_FUSE_STATFS},
        {FUSE_INTERRUPT, CFS_METRIC_FUSE_INTERRUPT},
    };

    for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].opcode == opcode) {
            return known[i].metric;
        }
    }
    return CFS_METRIC_FUSE_OTHER;
}

/* Of the request in the buffer. */
static void
count_request(CfsFuse *self)
{
    struct fuse_in_header header;

    if (self->buffer.size >= sizeof(header)) {
        memcpy(&header, self->buffer.mem, sizeof(header));
        cfs_metrics_add(self->metrics, metric_of(header.opcode), 1);
    }
}

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
        count_request(self);
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
    cfs_fuse_unpark(data, id, verdict, entry);
}

static void
on_changed(gpointer data, GPtrArray *changes, guint64 origin, guint64 step)
{
    CfsFuse *self = data;
    gboolean is_known = cfs_fuse_note_applied(self, origin, changes);

    cfs_caches_on_changes(self->caches, changes, is_known, step);
    for (guint i = 0; i < changes->len; i++) {
        cfs_inodes_on_changed(self->inodes, changes->pdata[i]);
    }
}

static void
on_reloaded(gpointer data, guint64 step)
{
    CfsFuse *self = data;

    cfs_caches_on_reloaded(self->caches, step);
    cfs_inodes_on_reloaded(self->inodes, cfs_fuse_tree(self));
}

static void
on_quorum(gpointer data)
{
    CfsFuse *self = data;

    cfs_caches_on_quorum(self->caches);
}

static void
on_settled(gpointer data, guint64 step)
{
    CfsFuse *self = data;

    cfs_views_release(cfs_replica_views(self->replica), step);
    cfs_fuse_on_settled(self);
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
                               .on_quorum = on_quorum,
                               .data = self};

    g_assert(CFS_FUSE_FIRST_VIEW_INO + cfs_views_count() <=
             CFS_FUSE_TREE_INO_BASE);
    self->effects = effects;
    self->replica = cfs_effects_replica(effects);
    self->group = group;
    self->handler = *handler;
    self->mount_root = -1;
    self->inodes = cfs_inodes_new();
    /* The kernel knows the root without having looked it up. */
    (void)cfs_inodes_remember(self->inodes, cfs_tree_root(cfs_fuse_tree(self)));
    self->caches = cfs_caches_new(self->inodes, cfs_fuse_ino, on_settled, self);
    self->metrics = cfs_effects_metrics(effects);
    cfs_caches_set_metrics(self->caches, self->metrics);
    self->handles = g_hash_table_new(NULL, NULL);
    self->parked = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                         cfs_fuse_parked_free);
    self->session =
        fuse_session_new(&args, &operations, sizeof(operations), self);
    fuse_opt_free_args(&args); /* libfuse made copies in it */
    if (self->session == NULL) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                    "libfuse made no session");
        return NULL;
    }
    cfs_effects_set_client(effects, &client);
    cfs_views_set_holding(cfs_replica_views(self->replica), TRUE,
                          cfs_fuse_tree(self));
    return g_steal_pointer(&self);
}

gboolean
cfs_fuse_start(CfsFuse *self, const char *path, GError **error)
{
    g_autofree char *place = NULL;
    int fd;

    if (!cfs_mount_prepare(path, error)) {
        return FALSE;
    }
    fd = cfs_mount(path, error);
    if (fd < 0) {
        return FALSE;
    }
    self->is_mounted = TRUE;
    self->mount_root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (self->mount_root < 0) {
        g_warning("nothing is cached: open %s: %s", path, g_strerror(errno));
    }
    self->mount_path = g_strdup(path);
    /* libfuse's way to take over a descriptor; it closes it. */
    place = g_strdup_printf("/dev/fd/%d", fd);
    if (fuse_session_mount(self->session, place) != 0) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_MOUNT,
                    "libfuse does not take the mount at %s", path);
        (void)close(fd);
        return FALSE;
    }
    self->watch = pve_fd_watch(fd, G_IO_IN | G_IO_HUP | G_IO_ERR,
                               CFS_PRIORITY_FUSE, on_readable, self);
    return TRUE;
}

void
cfs_fuse_collect(CfsFuse *self)
{
    cfs_metrics_set(self->metrics, CFS_METRIC_REQUESTS_WAITING,
                    g_hash_table_size(self->parked));
    cfs_metrics_set(self->metrics, CFS_METRIC_HANDLES_OPEN,
                    g_hash_table_size(self->handles));
    cfs_metrics_set(self->metrics, CFS_METRIC_INODES_KNOWN,
                    cfs_inodes_count(self->inodes));
    cfs_caches_collect(self->caches);
}

void
cfs_fuse_stop(CfsFuse *self)
{
    g_autoptr(GError) error = NULL;

    g_clear_handle_id(&self->watch, g_source_remove);
    cfs_effects_set_client(self->effects, NULL);
    cfs_views_set_holding(cfs_replica_views(self->replica), FALSE, NULL);
    cfs_fuse_refuse_parked(self, EBUSY);
    cfs_caches_stop(self->caches);
    pve_autofd_clear(&self->mount_root);
    self->mount_root = -1;
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
        cfs_fuse_handle_free(self, handle);
    }
    g_hash_table_unref(self->handles);
    g_hash_table_unref(self->parked);
    cfs_caches_free(self->caches);
    cfs_inodes_free(self->inodes);
    free(self->buffer.mem);
    g_free(self->mount_path);
    g_free(self);
}
