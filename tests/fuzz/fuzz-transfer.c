/* The header before a volume that arrives, read as it comes: byte by byte. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/transfer.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    g_autofree char *id = NULL;
    g_autofree char *again = NULL;
    gsize n = 0;

    while (n < size && !agent_transfer_header_is_whole(text, n)) {
        n++;
    }
    id = agent_transfer_header_parse(text, n);
    if (id != NULL) {
        again = agent_transfer_header(id);
        g_assert_cmpmem(again, strlen(again), text, n);
    }
    return 0;
}
