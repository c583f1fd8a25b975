/* core-error.h - the error domain of the filesystem daemon.
 *
 * For what failed; what is refused is a verdict (style: three words).
 */
#ifndef CFS_CORE_ERROR_H
#define CFS_CORE_ERROR_H

#include <glib.h>

#define CFS_ERROR cfs_error_quark()

typedef enum {
    CFS_ERROR_CONTENT, /* bytes from the store or a peer make no tree */
    CFS_ERROR_CONFIG,  /* something an administrator wrote is wrong */
    CFS_ERROR_STORE,   /* the database */
    CFS_ERROR_GROUP,   /* corosync */
    CFS_ERROR_MOUNT,   /* FUSE */
} CfsError;

GQuark cfs_error_quark(void);

#endif
