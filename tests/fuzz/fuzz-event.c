/* The records of a message of events. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/ipc-event.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gsize offset = 0;
    PveEvent event;

    while (offset < size) {
        gsize before = offset;

        if (!pve_event_parse(data, size, &offset, &event)) {
            break;
        }
        g_assert_cmpuint(offset, >, before);
        g_assert_cmpuint(offset, <=, size);
        g_assert_cmpuint(strlen(event.path) + strlen(event.other) +
                             PVE_IPC_EVENT_FIXED + 2,
                         <=, offset - before);
    }
    return 0;
}
