/* notifier-private.h - what passes between the daemon and its helper.
 *
 * Packets of a SOCK_SEQPACKET pair, between two copies of one program. Down:
 * an order and behind it the message for the kernel; up: a report.
 */
#ifndef CFS_NOTIFIER_PRIVATE_H
#define CFS_NOTIFIER_PRIVATE_H

#include <glib.h>

/* The helper's descriptors. */
#define CFS_NOTIFIER_CHANNEL_FD 3
#define CFS_NOTIFIER_FUSE_FD 4
#define CFS_NOTIFIER_MOUNT_FD 5

typedef struct {
    guint64 serial; /* 0: end, leave the mount alone */
    guint64 lane;
} CfsNotifierOrder;

typedef struct {
    guint64 serial;
    guint32 verdict;
    guint32 unused;
} CfsNotifierReport;

#endif
