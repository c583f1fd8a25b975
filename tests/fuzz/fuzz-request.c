/* The name of a file that asks for a container, then, behind a NUL, its
 * content. The name must survive the hold record. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/guestconf.h"
#include "agent/core/holdrec.h"
#include "agent/core/requests.h"
#include "common/names.h"

#include <string.h>

#define REASON "it\nfailed: 100 %"

static void
check_name(const char *name)
{
    g_autoptr(AgentHoldRec) record =
        agent_holdrec_new("00000000-0000-0000-0000-000000000000");
    g_autoptr(AgentHoldRec) again = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autofree char *failed = agent_request_failed_file(name);
    g_autoptr(GBytes) bytes = NULL;

    g_assert_true(pve_name_is_component(failed));
    record->request = g_strdup(name);
    text = agent_holdrec_serialize(record);
    bytes = g_bytes_new(text, strlen(text));
    again = agent_holdrec_parse(bytes, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->request, ==, name);
}

/* The reason is a comment, and takes the place of an earlier one. */
static void
check_failed(const char *content, gsize size)
{
    g_autoptr(GBytes) before = g_bytes_new(content, size);
    g_autofree char *once = agent_request_failed_text(before, REASON);
    g_autoptr(GBytes) after = g_bytes_new(once, strlen(once));
    g_autofree char *twice = agent_request_failed_text(after, REASON);

    g_assert_true(*once == '#');
    g_assert_cmpstr(once, ==, twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *file = g_strndup((const char *)data, size);
    g_autofree char *name = agent_request_name(file);
    gsize n = MIN(strlen(file) + 1, size);

    if (name != NULL && pve_name_is_component(file)) {
        check_name(name);
    }
    check_failed((const char *)data + n, size - n);
    return 0;
}
