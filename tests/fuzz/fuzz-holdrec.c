/* Hold records and transfer offers: what is taken survives being written. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/holdrec.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentHoldRec) record = agent_holdrec_parse(bytes, &error);
    g_autoptr(AgentHoldRec) again = NULL;
    g_autoptr(GBytes) written = NULL;
    g_autofree char *once = NULL;
    g_autofree char *twice = NULL;

    if (record == NULL) {
        g_assert_nonnull(error);
        return 0;
    }
    once = agent_holdrec_serialize(record);
    if (strlen(once) > AGENT_HOLDREC_MAX_BYTES) {
        return 0;
    }
    written = g_bytes_new(once, strlen(once));
    again = agent_holdrec_parse(written, &error);
    g_assert_no_error(error);
    twice = agent_holdrec_serialize(again);
    g_assert_cmpstr(once, ==, twice);
    if (record->volumes != NULL) {
        g_assert_true(agent_holdrec_has_volumes(
            again, (const char *const *)record->volumes));
    }
    return 0;
}
