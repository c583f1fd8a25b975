#include "config.h"

#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
pve_autofd_clear(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;

        (void)close(*fd);
        *fd = -1;
        errno = saved;
    }
}

int
pve_steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

gboolean
pve_errno_error(GError **error, const char *what, const char *path)
{
    int saved = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved),
                "%s %s: %s", what, path, g_strerror(saved));
    errno = saved;
    return FALSE;
}

GBytes *
pve_file_read(const char *path, gsize max, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint8 piece[16384];
    gsize size;

    if (fd < 0) {
        pve_errno_error(error, "open", path);
        return NULL;
    }
    for (;;) {
        ssize_t n = read(fd, piece, sizeof(piece));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            pve_errno_error(error, "read", path);
            return NULL;
        }
        if (n == 0) {
            break;
        }
        if (max > 0 && all->len + (gsize)n > max) {
            errno = EFBIG;
            pve_errno_error(error, "read", path);
            return NULL;
        }
        g_byte_array_append(all, piece, (guint)n);
    }
    size = all->len;
    g_byte_array_append(all, (const guint8 *)"", 1);
    return g_bytes_new_with_free_func(all->data, size,
                                      (GDestroyNotify)g_byte_array_unref,
                                      g_byte_array_ref(all));
}

gboolean
pve_write_all(int fd, gconstpointer bytes, gsize size)
{
    const guint8 *p = bytes;

    while (size > 0) {
        ssize_t n = write(fd, p, size);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return FALSE;
        }
        p += n;
        size -= (gsize)n;
    }
    return TRUE;
}

static gboolean
sync_directory_of(const char *path, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);
    PVE_AUTOFD(fd) = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    /* Some file systems cannot flush a directory and say EINVAL. */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) {
        return pve_errno_error(error, "flush directory", directory);
    }
    return TRUE;
}

gboolean
pve_file_replace(const char *path,
                 gconstpointer bytes,
                 gsize size,
                 mode_t mode,
                 GError **error)
{
    g_autofree char *temporary =
        g_strdup_printf("%s.tmp.%d", path, (int)getpid());
    PVE_AUTOFD(fd) = -1;

    (void)unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
              mode);
    if (fd < 0) {
        return pve_errno_error(error, "create", temporary);
    }
    if (!pve_write_all(fd, bytes, size) || fchmod(fd, mode) < 0 ||
        fsync(fd) < 0 || rename(temporary, path) < 0) {
        pve_errno_error(error, "write", temporary);
        (void)unlink(temporary);
        return FALSE;
    }
    return sync_directory_of(path, error);
}

gboolean
pve_mkdir_parents(const char *path, mode_t mode, GError **error)
{
    struct stat st;

    if (g_mkdir_with_parents(path, (int)mode) < 0) {
        return pve_errno_error(error, "create directory", path);
    }
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return pve_errno_error(error, "create directory", path);
    }
    return TRUE;
}
