#include "config.h"

#include "agent/core/requests.h"

#include <string.h>

/* Marks our comment, so that a second failure replaces the first. */
#define MARK "#failed%3A "

enum { MAX_NAME = 255 - (sizeof("failed-.conf") - 1) };

/* It must fit a line of a hold record and, behind "failed-", a file name. */
static gboolean
is_name(const char *name, gsize size)
{
    if (size == 0 || size > MAX_NAME || name[0] == ' ' ||
        name[size - 1] == ' ') {
        return FALSE;
    }
    for (gsize i = 0; i < size; i++) {
        if ((guchar)name[i] < 32 || name[i] == 127 || name[i] == '/') {
            return FALSE;
        }
    }
    return TRUE;
}

char *
agent_request_name(const char *file)
{
    gsize around = strlen("new-.conf");
    gsize size = strlen(file);

    if (strcmp(file, "new.conf") == 0) {
        return g_strdup("");
    }
    if (size <= around || !g_str_has_prefix(file, "new-") ||
        !g_str_has_suffix(file, ".conf") ||
        !is_name(file + strlen("new-"), size - around)) {
        return NULL;
    }
    return g_strndup(file + strlen("new-"), size - around);
}

char *
agent_request_failed_file(const char *name)
{
    return *name == '\0' ? g_strdup("failed.conf")
                         : g_strdup_printf("failed-%s.conf", name);
}

/* One line, percent-encoded as descriptions are (spec/container-config.md
 * 2.2), so that nothing in a reason can become an option. */
static void
append_comment(GString *out, const char *reason)
{
    g_string_append(out, MARK);
    for (const char *p = reason; *p != '\0'; p++) {
        if (*p == '\n' && p[1] == '\0') {
            break;
        }
        if ((guchar)*p < 32 || *p == 127 || *p == '%' || *p == ':') {
            g_string_append_printf(out, "%%%02X", (guchar)*p);
        } else {
            g_string_append_c(out, *p);
        }
    }
    g_string_append_c(out, '\n');
}

char *
agent_request_failed_text(GBytes *content, const char *reason)
{
    GString *out = g_string_new(NULL);
    gsize size = 0;
    const char *text = g_bytes_get_data(content, &size);

    append_comment(out, reason);
    if (size > strlen(MARK) && memcmp(text, MARK, strlen(MARK)) == 0) {
        const char *next = memchr(text, '\n', size);
        gsize skip = next != NULL ? (gsize)(next + 1 - text) : size;

        text += skip;
        size -= skip;
    }
    if (size > 0) {
        g_string_append_len(out, text, (gssize)size);
    }
    return g_string_free(out, FALSE);
}
