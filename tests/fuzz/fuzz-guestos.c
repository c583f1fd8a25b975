/* What lies in a container's tree: os-release, and the head of a program. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/guestconf.h"
#include "agent/core/guestos.h"

static void
check_known(const char *key, const char *value)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *stored =
        value != NULL ? agent_guestconf_check(key, value, &error) : NULL;

    g_assert_no_error(error);
    g_assert_cmpstr(stored, ==, value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);

    check_known("ostype", agent_guestos_type(text));
    check_known("arch", agent_guestos_arch(data, size));
    return 0;
}
