/* ipc-event.h - one event as it comes over the local socket.
 *
 * Owner   the caller; strings point into the bytes.
 * Errors  FALSE: malformed.
 * Thread  any.
 * Source  ipc-proto.h; docs/ipc.md.
 */
#ifndef PVE_IPC_EVENT_H
#define PVE_IPC_EVENT_H

#include "common/ipc-proto.h"

#include <glib.h>

typedef struct {
    PveEventKind kind;
    guint flags;      /* of PveEventFlag */
    guint64 sequence; /* 0: made here */
    guint64 version;
    guint64 inode;
    guint32 node;
    guint32 value;
    const char *path;  /* borrowed; "" for none */
    const char *other; /* borrowed; "" for none */
} PveEvent;

/* Parses the next record of @size bytes from *@offset on, which moves. FALSE:
 * malformed. */
gboolean pve_event_parse(const guint8 *bytes,
                         gsize size,
                         gsize *offset,
                         PveEvent *event);

#endif
