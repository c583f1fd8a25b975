/* json-scan.h - is it text that a strict JSON parser takes? Only the strings
 * are looked at: those come from strangers. */
#ifndef TESTS_FUZZ_JSON_SCAN_H
#define TESTS_FUZZ_JSON_SCAN_H

#include <glib.h>
#include <string.h>

/* Returns the place behind an escape, NULL when it is none. */
static inline const char *
json_scan_escape(const char *p)
{
    if (*p != 'u') {
        return *p != '\0' && strchr("\"\\/bfnrt", *p) != NULL ? p + 1 : NULL;
    }
    for (guint i = 1; i <= 4; i++) {
        if (!g_ascii_isxdigit(p[i])) {
            return NULL;
        }
    }
    return p + 5;
}

static inline gboolean
json_scan(const char *text)
{
    gboolean is_inside = FALSE;

    if (!g_utf8_validate(text, -1, NULL)) {
        return FALSE;
    }
    for (const char *p = text; *p != '\0';) {
        if (*p == '"') {
            is_inside = !is_inside;
        } else if (is_inside && (guchar)*p < 32) {
            return FALSE;
        } else if (is_inside && *p == '\\') {
            p = json_scan_escape(p + 1);
            if (p == NULL) {
                return FALSE;
            }
            continue;
        }
        p++;
    }
    return !is_inside;
}

#endif
