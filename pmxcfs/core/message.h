/* message.h - the headers every message of a group begins with.
 *
 * Owner   the caller.
 * Units   bytes; whole seconds since the epoch.
 * Errors  verdicts, see cfs_message_parse().
 * Thread  any.
 * Source  spec/replication.md 2; section 11 for what may be added.
 */
#ifndef CFS_MESSAGE_H
#define CFS_MESSAGE_H

#include "common/wire.h"

#include <glib.h>

enum {
    CFS_MESSAGE_NORMAL = 0,
    CFS_MESSAGE_SYNC_START = 1,
    CFS_MESSAGE_STATE = 2,
    CFS_MESSAGE_UPDATE = 3,
    CFS_MESSAGE_UPDATE_COMPLETE = 4,
    CFS_MESSAGE_VERIFY_REQUEST = 5,
    CFS_MESSAGE_VERIFY = 6,
};

#define CFS_MESSAGE_BASE_SIZE 16u
#define CFS_MESSAGE_NORMAL_SIZE 24u
#define CFS_MESSAGE_STATE_SIZE 32u
#define CFS_PROTOCOL_DATABASE 1u
#define CFS_PROTOCOL_STATUS 0u

/* A member of a group is a process on a node. */
typedef struct {
    guint32 nodeid;
    guint32 pid;
} CfsMember;

/* Names one attempt to synchronise; compared as 16 raw bytes. */
typedef struct {
    guint32 counter;
    guint32 time;
    guint32 nodeid;
    guint32 pid;
} CfsEpoch;

typedef struct {
    guint16 type;
    guint16 subtype;
    guint32 protocol;
    guint32 time;
    guint64 count;  /* normal messages only */
    CfsEpoch epoch; /* all others */
} CfsHeader;

/* On the wire, of a NORMAL message. */
#define CFS_NORMAL_HEADER_SIZE 24u

typedef enum {
    CFS_PARSE_OK,
    CFS_PARSE_MALFORMED, /* too short for its type: the receiver leaves */
    CFS_PARSE_OLDER,     /* an older protocol: dropped */
    CFS_PARSE_NEWER,     /* a newer protocol: out until restart */
} CfsParse;

/* Reads the header and leaves @reader at the payload. The order of the checks
 * is that of spec/replication.md 7.3. */
CfsParse
cfs_message_parse(PveReader *reader, guint32 protocol, CfsHeader *header);
/* Appends the header that @header->type calls for. */
void cfs_message_write(GByteArray *out, const CfsHeader *header);

gboolean cfs_member_equal(CfsMember a, CfsMember b);
gboolean cfs_epoch_equal(const CfsEpoch *a, const CfsEpoch *b);
/* Ascending by node id, then pid, both unsigned. For g_array_sort(). */
int cfs_member_compare(gconstpointer a, gconstpointer b);

#endif
