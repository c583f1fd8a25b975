/* Names of nodes and files: a path that is understood is built again. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/names.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *built = NULL;
    PveGuestPath path;
    guint32 ctid = pve_ctid_parse(text);

    if (ctid != 0) {
        g_autofree char *number = g_strdup_printf("%u", ctid);

        g_assert_cmpstr(number, ==, text);
    }
    if (pve_name_is_node(text)) {
        g_assert_true(pve_name_is_component(text) || strlen(text) > 255);
    }
    if (pve_guest_path_parse(text, &path)) {
        g_assert_true(pve_name_is_node(path.node));
        built = pve_guest_path_build(path.node, path.type, path.id);
        g_assert_cmpstr(built, ==, text);
    }
    return 0;
}
