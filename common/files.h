/* files.h - read all, replace atomically, owned descriptors.
 *
 * Everything here may block: never call it for a path below /etc/pve from the
 * filesystem daemon itself, nor from a loop thread for slow media.
 *
 * Errors  GError in G_FILE_ERROR, the message names the path and the reason.
 * Thread  any.
 */
#ifndef PVE_FILES_H
#define PVE_FILES_H

#include <glib.h>
#include <sys/types.h>

/* A descriptor that closes itself: PVE_AUTOFD(fd) = open(...); */
void pve_autofd_clear(int *fd);
#define PVE_AUTOFD(name) __attribute__((cleanup(pve_autofd_clear))) int name
/* Gives the descriptor away and leaves -1. */
int pve_steal_fd(int *fd);

/* Sets @error from errno: "WHAT PATH: Reason". Returns FALSE, so that a caller
 * can write `return pve_errno_error(error, "open", path);`. */
gboolean pve_errno_error(GError **error, const char *what, const char *path);

/* Reads a whole file of at most @max bytes (0: no limit); works for /proc files
 * whose size is 0. Returns: (owned) the bytes, NUL-terminated behind the end,
 * or NULL. */
GBytes *pve_file_read(const char *path, gsize max, GError **error);

/* Writes @size bytes to a temporary file beside @path, flushes it, renames it
 * over @path and flushes the directory: after a crash the old or the new
 * content is there. Any failure leaves the old file and no temporary. */
gboolean pve_file_replace(const char *path,
                          gconstpointer bytes,
                          gsize size,
                          mode_t mode,
                          GError **error);

/* mkdir -p with @mode for what is created. */
gboolean pve_mkdir_parents(const char *path, mode_t mode, GError **error);

/* All of @size bytes, whatever write(2) takes at a time. */
gboolean pve_write_all(int fd, gconstpointer bytes, gsize size);

#endif
