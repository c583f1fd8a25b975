/* mount.h - putting the filesystem in its place, and taking it away.
 *
 * By mount(2) itself: we need to know what is there already, and the
 * descriptor.
 *
 * Owner   the caller owns the descriptor.
 * Errors  GError in CFS_ERROR and G_FILE_ERROR.
 * Thread  the loop, before anything is served.
 * Source  spec/filesystem.md 1.4, W25, W26.
 */
#ifndef CFS_MOUNT_H
#define CFS_MOUNT_H

#include <glib.h>

/* Frees @path of the mounts of dead daemons and makes the directory. Refuses
 * when another FUSE filesystem is alive there; any other mount is a directory
 * like others. */
gboolean cfs_mount_prepare(const char *path, GError **error);
/* Returns the descriptor of a new FUSE connection mounted at @path, not
 * blocking; -1 with @error set. */
int cfs_mount(const char *path, GError **error);
/* Takes the topmost mount away, also when it is in use. */
gboolean cfs_unmount(const char *path, GError **error);

#endif
