/* ipc-proto.h - what is said on the local socket.
 *
 * A request is 16 bytes of header and a payload, an answer 24 bytes and a
 * payload; integers are little-endian, strings end in NUL. The operations
 * below 256 are those that every cluster filesystem daemon has; the rest is
 * ours: who does not know them answers ECHRNG, and so a client finds out.
 * docs/ipc.md says how ours are used.
 *
 * Thread  any.
 * Source  spec/ipc.md 1, 2; docs/ipc.md.
 */
#ifndef PVE_IPC_PROTO_H
#define PVE_IPC_PROTO_H

#define PVE_IPC_SERVICE "pve2"
#define PVE_IPC_SERVICE_ID 1
#define PVE_IPC_MAX_MESSAGE 1048576u
#define PVE_IPC_REQUEST_HEADER 16u
#define PVE_IPC_ANSWER_HEADER 24u
#define PVE_IPC_MAX_PAYLOAD (PVE_IPC_MAX_MESSAGE - PVE_IPC_ANSWER_HEADER)

typedef enum {
    PVE_IPC_FS_VERSION = 1,
    PVE_IPC_CLUSTER_INFO = 2,
    PVE_IPC_GUEST_LIST = 3,
    PVE_IPC_SET_STATUS = 4,
    PVE_IPC_GET_STATUS = 5,
    PVE_IPC_GET_CONFIG = 6,
    PVE_IPC_LOG = 7,
    PVE_IPC_GET_LOG = 8,
    PVE_IPC_RRD_DUMP = 10,
    PVE_IPC_GUEST_PROPERTY = 11,
    PVE_IPC_VERIFY_TOKEN = 12,
    PVE_IPC_GUEST_PROPERTIES = 13,
} PveIpcOperation;

#endif
