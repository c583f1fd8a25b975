/* ipc-loop.h - libqb's server on our loop.
 *
 * libqb asks for a poll loop and says neither who asks nor what a descriptor
 * is for, so there is one such loop per process, and it finds that out:
 *
 *   listener --accept--> greeting --credentials--> channel + lifeline
 *
 * A greeting must come within seconds, and strangers get few at a time: else
 * anybody on the host could use up our descriptors. libqb believes the size in
 * a header and has a buffer of the size agreed on; a channel's owner is asked
 * about each datagram before libqb sees it.
 *
 * Owner   the socket server.
 * Thread  the loop.
 * Source  qb_ipcs_poll_handlers(3); spec/ipc.md 1.
 */
#ifndef CFS_IPC_LOOP_H
#define CFS_IPC_LOOP_H

#include <glib.h>
#include <qb/qbipcs.h>

typedef struct {
    /* A datagram waits on @fd, the channel of @connection. FALSE: libqb must
     * not look at it now. */
    gboolean (*on_datagram)(gpointer connection, int fd);
    /* A channel that was paused can be written to. */
    void (*on_writable)(gpointer connection, int fd);
    gid_t group; /* whose members are no strangers, as is root */
} CfsIpcLoopHandler;

/* For qb_ipcs_poll_handlers_set(). */
extern struct qb_ipcs_poll_handlers cfs_ipc_loop_handlers;

/* Before qb_ipcs_run() and after qb_ipcs_destroy(). @handler is copied. */
void cfs_ipc_loop_start(const CfsIpcLoopHandler *handler);
void cfs_ipc_loop_stop(void);
/* Returns: (borrowed) the descriptor on which requests of @connection come as
 * datagrams, or -1 when they come otherwise. */
int cfs_ipc_loop_channel(gpointer connection);
/* While paused nothing is read, and on_writable() is called. */
void cfs_ipc_loop_pause(int fd, gboolean is_paused);

#endif
