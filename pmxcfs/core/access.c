#include "config.h"

#include "pmxcfs/core/access.h"

#include "pmxcfs/core/corosync-text.h"
#include "pmxcfs/core/views.h"

#include <errno.h>
#include <string.h>

char *
cfs_access_normalize(const char *path)
{
    GString *out = g_string_new(NULL);

    for (const char *p = path; *p != '\0';) {
        gsize length = strcspn(p, "/");

        if (length > 0) {
            if (out->len > 0) {
                g_string_append_c(out, '/');
            }
            g_string_append_len(out, p, (gssize)length);
        }
        p += length;
        p += strspn(p, "/");
    }
    return g_string_free(out, FALSE);
}

gboolean
cfs_access_is_below(const char *path, const char *folder)
{
    gsize length = strlen(folder);

    return length == 0 || (strncmp(path, folder, length) == 0 &&
                           (path[length] == '\0' || path[length] == '/'));
}

gboolean
cfs_access_is_private(const char *path)
{
    const char *inside;

    if (cfs_access_is_below(path, "priv")) {
        return TRUE;
    }
    if (!g_str_has_prefix(path, "nodes/")) {
        return FALSE;
    }
    inside = strchr(path + strlen("nodes/"), '/');
    return inside != NULL && cfs_access_is_below(inside + 1, "priv");
}

/* Old mount scripts of guests: `vps.start`, `100.mount`. */
static gboolean
is_script(const char *path)
{
    static const char *const kinds[] = {
        "mount", "umount", "start", "stop", "premount", "postumount", NULL};
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const char *dot = strchr(name, '.');

    if (dot == NULL || !g_strv_contains(kinds, dot + 1)) {
        return FALSE;
    }
    if (strncmp(name, "vps.", 4) == 0) {
        return TRUE;
    }
    return dot > name && strspn(name, "0123456789") == (gsize)(dot - name);
}

mode_t
cfs_access_mode(const char *path, gboolean is_directory, gboolean quorate)
{
    mode_t mode;

    if (path[0] == '\0') {
        return 0755;
    }
    if (cfs_access_is_private(path)) {
        mode = is_directory ? 0700 : 0600;
    } else if (is_directory) {
        mode = 0755;
    } else {
        mode = is_script(path) ? 0740 : 0640;
    }
    return quorate ? mode : mode & ~(mode_t)0222;
}

/* --- what we never send --------------------------------------------------- */

static int
check_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    if (strlen(name) > 255) {
        return ENAMETOOLONG;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if ((guchar)*p < 32 || *p == 127) {
            return EINVAL;
        }
    }
    return g_utf8_validate(name, -1, NULL) ? 0 : EINVAL;
}

/* A regular file there keeps a reference node from starting. */
static gboolean
is_guest_folder(const char *path)
{
    g_autofree char *inside = g_strconcat(path, "/1.conf", NULL);
    PveGuestPath guest;

    return pve_guest_path_parse(inside, &guest);
}

static gboolean
is_guest_file(const char *path)
{
    PveGuestPath guest;

    return pve_guest_path_parse(path, &guest);
}

static gboolean
is_virtual(const char *path)
{
    return cfs_views_find(path) >= 0;
}

static int
check_new(CfsTree *tree, const char *path)
{
    if (cfs_tree_n_entries(tree) >= CFS_MAX_ENTRIES) {
        return ENOSPC;
    }
    return check_name(path);
}

static int
check_create(CfsTree *tree, CfsOp *op, gboolean *done)
{
    if (is_guest_folder(op->path)) {
        return EINVAL;
    }
    return check_new(tree, op->path);
}

static int
check_mkdir(CfsTree *tree, CfsOp *op, gboolean *done)
{
    if (is_guest_file(op->path)) {
        return EINVAL;
    }
    return check_new(tree, op->path);
}

/* A growing truncate of a file without content would give every member a size
 * without data; the same as a write of zeros is safe. */
static void
write_zeros_instead(CfsOp *op)
{
    guint32 size = op->offset;

    op->data = g_bytes_new_take(g_malloc0(size), size);
    op->offset = 0;
    op->truncate = FALSE;
}

static int
check_write(CfsTree *tree, CfsOp *op, gboolean *done)
{
    const CfsEntry *entry = cfs_tree_lookup(tree, op->path);
    gsize count = op->data != NULL ? g_bytes_get_size(op->data) : 0;
    guint64 end = (guint64)op->offset + count;

    if (end > CFS_MAX_FILE_BYTES) {
        return EFBIG;
    }
    if (entry == NULL || cfs_entry_is_directory(entry)) {
        return 0; /* the tree says what is wrong */
    }
    if (end > entry->size &&
        cfs_tree_total_bytes(tree) + (end - entry->size) > CFS_MAX_TREE_BYTES) {
        return ENOSPC;
    }
    if (entry->data == NULL && op->truncate && count == 0 && op->offset > 0) {
        write_zeros_instead(op);
    }
    return 0;
}

/* Every node would take it over at once: nothing broken, nothing older. */
static int
check_corosync_conf(const CfsEntry *from, const CfsEntry *to)
{
    guint32 version =
        from->data != NULL ? cfs_corosync_text_version(from->data) : 0;

    if (version == 0) {
        return EINVAL;
    }
    if (to == NULL || to->data == NULL) {
        return 0;
    }
    return version < cfs_corosync_text_version(to->data) ? EINVAL : 0;
}

static int
check_rename(CfsTree *tree, CfsOp *op, gboolean *done)
{
    const CfsEntry *from = cfs_tree_lookup(tree, op->path);
    const CfsEntry *to = cfs_tree_lookup(tree, op->to);
    gsize length = strlen(op->path);

    if (is_virtual(op->to)) {
        return EACCES;
    }
    if (from == NULL) {
        return ENOENT;
    }
    if (strcmp(op->path, op->to) == 0) {
        *done = TRUE;
        return 0;
    }
    if (strncmp(op->to, op->path, length) == 0 && op->to[length] == '/') {
        return EINVAL;
    }
    if (!cfs_entry_is_directory(from)) {
        if (to != NULL && cfs_entry_is_directory(to)) {
            return EISDIR;
        }
        if (is_guest_folder(op->to) ||
            (strcmp(op->to, CFS_COROSYNC_CONF) == 0 &&
             check_corosync_conf(from, to) != 0)) {
            return EINVAL;
        }
        return check_name(op->to);
    }
    if (to != NULL && !cfs_entry_is_directory(to)) {
        return ENOTDIR;
    }
    if (!cfs_tree_is_empty(tree, from->inode)) {
        return ENOTEMPTY;
    }
    return is_guest_file(op->to) ? EINVAL : check_name(op->to);
}

int
cfs_access_check_send(CfsTree *tree, CfsOp *op, gboolean *done)
{
    *done = FALSE;
    if (is_virtual(op->path)) {
        return EACCES;
    }
    switch (op->kind) {
    case CFS_OP_CREATE:
        return check_create(tree, op, done);
    case CFS_OP_MKDIR:
        return check_mkdir(tree, op, done);
    case CFS_OP_WRITE:
        return check_write(tree, op, done);
    case CFS_OP_RENAME:
        return check_rename(tree, op, done);
    default:
        return 0;
    }
}
