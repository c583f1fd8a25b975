/* notifier.h - the process that tells the kernel to let go of what it caches.
 *
 * Such a message (fuse_notify_code in linux/fuse.h) sleeps in the kernel on
 * the lock of its directory, and whoever holds that lock may be waiting for an
 * answer of ours. A thread of the daemon asleep there would make the daemon
 * impossible to kill; so this is a process, with a duplicate of the mount's
 * descriptor. Messages of one lane are sent in order, lanes do not wait for
 * each other. Each message is reported back when the kernel is done with it.
 *
 * The helper ends with the daemon. When the daemon dies first, the helper ends
 * the mount too: else what it holds of it would keep the requests of a dead
 * daemon waiting.
 *
 * Owner   the caches.
 * Thread  the loop; the helper has one for each lane at work.
 * Source  DESIGN.md 2, rule 6; linux/fuse.h.
 */
#ifndef CFS_NOTIFIER_H
#define CFS_NOTIFIER_H

#include <glib.h>

#define CFS_NOTIFIER_OPTION "--serve-caches"
#define CFS_NOTIFIER_MAX_MESSAGE 2048u
/* FUSE_NOTIFY_INC_EPOCH: all names go. Since Linux 6.16; some headers are
 * older, and older kernels say EINVAL. */
#define CFS_NOTIFIER_INC_EPOCH 8

typedef struct CfsNotifier CfsNotifier;

typedef struct {
    /* @verdict: 0, or the positive errno of the kernel. */
    void (*done)(gpointer data, guint64 serial, int verdict);
    /* The helper is gone (FALSE) or there is a new one (TRUE): what was not
     * reported must be sent again. */
    void (*running)(gpointer data, gboolean is_running);
    gpointer data;
} CfsNotifierHandler;

/* @fuse: the descriptor of the connection; @mount: an O_PATH one of the root
 * of the mount (both borrowed until stopped). Starts a helper, and another
 * whenever it dies. */
CfsNotifier *
cfs_notifier_new(int fuse, int mount, const CfsNotifierHandler *handler);
/* The helper ends by itself; nothing is reported any more. */
void cfs_notifier_free(CfsNotifier *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsNotifier, cfs_notifier_free)

gboolean cfs_notifier_is_running(CfsNotifier *self);
/* Sends @message, as it is written to /dev/fuse, when the messages before it in
 * @lane are done. Only while it is running. @serial: not 0. */
void cfs_notifier_send(CfsNotifier *self,
                       guint64 serial,
                       guint64 lane,
                       GBytes *message);

/* A message that takes no lock and so never sleeps: of the attributes of an
 * inode, that alone (FUSE_NOTIFY_INVAL_INODE without a range). The daemon tells
 * it itself; it is done when this returns. */
void
cfs_notifier_send_now(CfsNotifier *self, gconstpointer message, gsize size);

/* The helper's main(): what the daemon starts with CFS_NOTIFIER_OPTION. */
int cfs_notifier_serve(void);

#endif
