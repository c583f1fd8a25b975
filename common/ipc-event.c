#include "config.h"

#include "common/ipc-event.h"

#include <string.h>

#include "common/wire.h"

/* Returns: (borrowed) the string that ends before @end, and moves behind it. */
static const char *
next_string(const guint8 *bytes, gsize end, gsize *offset)
{
    const guint8 *begin = bytes + *offset;
    const guint8 *nul =
        *offset < end ? memchr(begin, '\0', end - *offset) : NULL;

    if (nul == NULL) {
        return NULL;
    }
    *offset += (gsize)(nul - begin) + 1;
    return (const char *)begin;
}

gboolean
pve_event_parse(const guint8 *bytes, gsize size, gsize *offset, PveEvent *event)
{
    PveReader reader;
    gsize at = *offset, end;

    pve_reader_init(&reader, bytes + at, size - at);
    end = at + pve_reader_u32(&reader);
    event->kind = (PveEventKind)pve_reader_u16(&reader);
    event->flags = pve_reader_u16(&reader);
    event->sequence = pve_reader_u64(&reader);
    event->version = pve_reader_u64(&reader);
    event->inode = pve_reader_u64(&reader);
    event->node = pve_reader_u32(&reader);
    event->value = pve_reader_u32(&reader);
    if (!pve_reader_ok(&reader) || end > size ||
        end < at + PVE_IPC_EVENT_FIXED) {
        return FALSE;
    }
    at += PVE_IPC_EVENT_FIXED;
    event->path = next_string(bytes, end, &at);
    event->other = event->path != NULL ? next_string(bytes, end, &at) : NULL;
    *offset = end; /* later versions may add something */
    return event->other != NULL;
}
