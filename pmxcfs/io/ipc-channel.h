/* ipc-channel.h - what goes to one client: answers and events.
 *
 * Over datagram sockets, libqb waits up to a second in its first send to a
 * client that does not listen, and the kernel's default for a socket's buffer
 * is too small for a large answer. So the descriptors that libqb made are
 * connected, sized and written to here. Over shared memory libqb does it all.
 * Nothing here waits.
 *
 * Owner   the socket server; one per connection.
 * Errors  0 or a negative errno; -EAGAIN: the client has not read enough.
 * Thread  the loop.
 * Source  spec/ipc.md 1; libqb's ipc_socket.c.
 */
#ifndef CFS_IPC_CHANNEL_H
#define CFS_IPC_CHANNEL_H

#include <glib.h>
#include <qb/qbipcs.h>

typedef struct CfsIpcChannel CfsIpcChannel;

/* @connection is borrowed. */
CfsIpcChannel *cfs_ipc_channel_new(qb_ipcs_connection_t *connection);
void cfs_ipc_channel_free(CfsIpcChannel *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsIpcChannel, cfs_ipc_channel_free)

/* Header and payload; @payload may be NULL. */
int cfs_ipc_channel_answer(CfsIpcChannel *self,
                           gint32 id,
                           gint32 error,
                           GBytes *payload);
/* Must come before the first event. */
int cfs_ipc_channel_open_events(CfsIpcChannel *self);
int cfs_ipc_channel_event(CfsIpcChannel *self,
                          gint32 id,
                          gconstpointer payload,
                          gsize size);
/* Stops requests and watches for room for answers instead. */
void cfs_ipc_channel_pause(CfsIpcChannel *self, gboolean is_paused);
/* FALSE: it cannot be told when there is room; try again. */
gboolean cfs_ipc_channel_tells_room(CfsIpcChannel *self);

#endif
