/* pvecfs-socket.h - the commands that go over the daemon's socket.
 *
 * Each is a PveSubcommand's run.
 *
 * Thread  the tool's only one.
 * Source  spec/ipc.md 4, 5; docs/ipc.md.
 */
#ifndef CFS_PVECFS_SOCKET_H
#define CFS_PVECFS_SOCKET_H

/* Follows changes, until it is ended. */
int cfs_pvecfs_watch(int argc, char **argv);
/* Status keys of nodes. */
int cfs_pvecfs_get(int argc, char **argv);
int cfs_pvecfs_set(int argc, char **argv);
/* Returns when all that this node has applied is stable. */
int cfs_pvecfs_sync(int argc, char **argv);

#endif
