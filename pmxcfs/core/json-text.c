#include "config.h"

#include "pmxcfs/core/json-text.h"

#include <string.h>

void
cfs_json_append_string(GString *out, const char *text)
{
    const char *p = text;

    g_string_append_c(out, '"');
    while (*p != '\0') {
        gunichar c = g_utf8_get_char_validated(p, -1);

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_c(out, '?');
            p++;
            continue;
        }
        if (c == '"' || c == '\\') {
            g_string_append_c(out, '\\');
            g_string_append_c(out, (char)c);
        } else if (c < 32 || c == 127) {
            g_string_append_printf(out, "\\u%04x", c);
        } else {
            g_string_append_unichar(out, c);
        }
        p = g_utf8_next_char(p);
    }
    g_string_append_c(out, '"');
}
