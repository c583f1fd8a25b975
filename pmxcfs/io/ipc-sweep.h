/* ipc-sweep.h - what a killed predecessor left in /dev/shm.
 *
 * libqb keeps a directory for each client and removes it itself, if it can.
 *
 * Errors  none: what cannot be removed does no harm.
 * Thread  the loop, before the service starts.
 * Source  spec/ipc.md 1, 1.3.
 */
#ifndef CFS_IPC_SWEEP_H
#define CFS_IPC_SWEEP_H

/* Removes the directories of our service whose daemon is dead. */
void cfs_ipc_sweep(const char *directory);

#endif
