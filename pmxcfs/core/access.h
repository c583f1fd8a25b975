/* access.h - who may see or change which path, and what we never send.
 *
 * The second half refuses or rewrites, on the sending side, what would break a
 * reference peer or exceed a limit (spec/replication.md 12, 13;
 * spec/filesystem.md 2.4, 7, 12). Peers' messages are never held to it.
 *
 * Errors  verdicts: 0 or a positive errno.
 * Thread  the loop.
 */
#ifndef CFS_ACCESS_H
#define CFS_ACCESS_H

#include "pmxcfs/core/tree.h"

#include <sys/types.h>

/* The permission bits of an entry of the tree. @path without leading slash,
 * "" for the root. */
mode_t
cfs_access_mode(const char *path, gboolean is_directory, gboolean quorate);
/* Returns: (owned) @path without leading, doubled and trailing slashes: who
 * compares paths compares these. */
char *cfs_access_normalize(const char *path);
/* @path is @folder or below it; "" is the root. */
gboolean cfs_access_is_below(const char *path, const char *folder);
/* Below priv/ or nodes/NODE/priv/, or one of them. */
gboolean cfs_access_is_private(const char *path);

/* Checks what this node is about to send; may rewrite @op into an equal one
 * that is harmless. @done is set when it has nothing left to do and counts as
 * success. */
int cfs_access_check_send(CfsTree *tree, CfsOp *op, gboolean *done);

#endif
