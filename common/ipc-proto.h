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
    /* Ours. */
    PVE_IPC_SYNC = 256,      /* a barrier over all that was applied */
    PVE_IPC_SUBSCRIBE = 257, /* events from here on */
    PVE_IPC_SNAPSHOT = 258,  /* holds the tree as it is now */
    PVE_IPC_LIST = 259,      /* entries of a snapshot, in pieces */
    PVE_IPC_READ = 260,      /* a part of one file */
    PVE_IPC_RELEASE = 261,   /* lets a snapshot go */
} PveIpcOperation;

/* The id of messages on the event channel. Each holds whole records:
 *
 *   u32 size of the record, u16 kind, u16 flags, u64 sequence,
 *   u64 version of the tree, u64 inode, u32 node id, u32 value,
 *   path, other path: strings
 */
#define PVE_IPC_EVENTS 263
#define PVE_IPC_EVENT_FIXED 40u
/* Of one message. */
#define PVE_IPC_EVENTS_MAX 16384u

typedef enum {
    PVE_EVENT_CREATED = 0,
    PVE_EVENT_CHANGED = 1, /* content or time */
    PVE_EVENT_DELETED = 2,
    PVE_EVENT_RENAMED = 3,  /* other path: the new one */
    PVE_EVENT_SETTLED = 4,  /* its last writer closed it */
    PVE_EVENT_RELOADED = 5, /* the whole tree was replaced: look again */
    PVE_EVENT_QUORUM = 6,   /* value: 0 or 1 */
    PVE_EVENT_MEMBERS = 7,  /* value: version of the cluster's information */
    PVE_EVENT_GUESTS = 8,   /* value: version of the guest list */
    PVE_EVENT_STATUS = 9,   /* path: the key; other path: the node */
    PVE_EVENT_LOG = 10,     /* the cluster log grew */
    PVE_EVENT_SYNC = 11,    /* value: 1: this node's tree is synchronised */
    PVE_EVENT_LOST = 12,    /* events are missing here: look again */
    PVE_EVENT_N_KINDS,
} PveEventKind;

#define PVE_EVENT_BIT(kind) (1u << (kind))
#define PVE_EVENT_TREE                                                         \
    (PVE_EVENT_BIT(PVE_EVENT_CREATED) | PVE_EVENT_BIT(PVE_EVENT_CHANGED) |     \
     PVE_EVENT_BIT(PVE_EVENT_DELETED) | PVE_EVENT_BIT(PVE_EVENT_RENAMED) |     \
     PVE_EVENT_BIT(PVE_EVENT_SETTLED))
#define PVE_EVENT_ALL (PVE_EVENT_BIT(PVE_EVENT_N_KINDS) - 1)

typedef enum {
    PVE_EVENT_DIRECTORY = 1 << 0,
    PVE_EVENT_OWN = 1 << 1,     /* asked for on this node */
    PVE_EVENT_SYNCED = 1 << 2,  /* this node was when it was applied */
    PVE_EVENT_QUORATE = 1 << 3, /* likewise */
} PveEventFlag;

/* The answer to SUBSCRIBE, in flags: nothing is missing since the place that
 * was asked for. */
#define PVE_SUBSCRIBE_CONTINUED 1u

/* The request of SNAPSHOT may say: hold nothing, id will be 0. */
#define PVE_SNAPSHOT_LOOK 1u

/* What stat(2) on the mount says of an inode is so much more. */
#define PVE_IPC_INODE_BASE 1024u

typedef enum { PVE_SYNC_LOCAL = 0, PVE_SYNC_MAJORITY = 1 } PveSyncLevel;

#endif
