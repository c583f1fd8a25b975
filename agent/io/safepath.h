/* safepath.h - paths inside a container's tree, which are hostile.
 *
 * Each is resolved below a descriptor of the tree's root, never by a string on
 * the host (openat2(2)).
 *
 * Owner   the caller closes descriptors.
 * Errors  -1 with errno, or GError.
 * Thread  any.
 */
#ifndef AGENT_SAFEPATH_H
#define AGENT_SAFEPATH_H

#include <glib.h>
#include <sys/types.h>

/* Opens @path below @root as the container would see it: links are followed,
 * but stay inside. */
int agent_safe_open(int root, const char *path, int flags, mode_t mode);
/* The same for a regular file that is there. Anything else is not even opened:
 * that alone sets off some devices, and a FIFO would hold us up. */
int agent_safe_open_regular(int root, const char *path, int flags);
/* Reads the start of a regular file, at most @max bytes. Returns: (owned)
 * NUL-terminated text, or NULL when there is none. */
char *agent_safe_read(int root, const char *path, gsize max, gsize *size);
/* Walks to directory @path below @root, through no link, and makes what is
 * missing, owned by @uid:@gid. Returns an O_PATH descriptor, or -1. */
int agent_safe_make_directory(
    int root, const char *path, uid_t uid, gid_t gid, GError **error);
/* Opens an absolute host path as a directory (O_PATH) through no link. */
int agent_safe_open_host(const char *path, GError **error);
/* Replaces file @name in directory @directory (resolved inside): a new file,
 * renamed over what was there, be it a link. */
gboolean agent_safe_replace(int root,
                            const char *directory,
                            const char *name,
                            const char *text,
                            uid_t uid,
                            gid_t gid,
                            GError **error);

#endif
