#include "config.h"

#include "agent/core/ctid.h"

#include "agent/core/propstring.h"
#include "common/names.h"

#include <string.h>

GHashTable *
agent_ctid_set_new(void)
{
    return g_hash_table_new(NULL, NULL);
}

void
agent_ctid_set_add(GHashTable *taken, guint32 ctid)
{
    g_hash_table_add(taken, GUINT_TO_POINTER(ctid));
}

guint32
agent_ctid_next(GHashTable *taken, guint32 lower, guint32 upper)
{
    for (guint32 ctid = MAX(lower, 1); ctid < upper; ctid++) {
        if (!g_hash_table_contains(taken, GUINT_TO_POINTER(ctid))) {
            return ctid;
        }
    }
    return 0;
}

/* .vmlist is JSON of one shape, written by our own daemon or the reference:
 * a line for each guest, `"100": { "node": ..., "type": ..., ... }`. We need
 * the keys of "ids" alone, and these are its only all-digit strings that
 * precede a colon. */
gboolean
agent_ctid_set_add_vmlist(GHashTable *taken, const char *text, gsize size)
{
    g_autofree char *copy = g_strndup(text, size);
    const char *p = strstr(copy, "\"ids\"");

    if (p == NULL) {
        return FALSE;
    }
    for (p += strlen("\"ids\""); (p = strchr(p, '"')) != NULL;) {
        const char *end = strchr(p + 1, '"');
        const char *after;
        g_autofree char *word = NULL;
        guint64 id;

        if (end == NULL) {
            return FALSE;
        }
        word = g_strndup(p + 1, (gsize)(end - p) - 1);
        after = end + 1 + strspn(end + 1, " \t\n");
        if (*after == ':' &&
            g_ascii_string_to_unsigned(word, 10, 1, G_MAXUINT32, &id, NULL)) {
            agent_ctid_set_add(taken, (guint32)id);
        }
        p = end + 1;
    }
    return TRUE;
}

static void
parse_range(const char *value, guint32 *lower, guint32 *upper)
{
    g_auto(GStrv) items = g_strsplit(value, ",", -1);
    guint64 low = *lower, high = *upper;

    for (char **item = items; *item != NULL; item++) {
        guint64 number;
        const char *equals = strchr(g_strstrip(*item), '=');

        if (equals == NULL ||
            !g_ascii_string_to_unsigned(equals + 1, 10, PVE_CTID_MIN,
                                        PVE_CTID_MAX + 1, &number, NULL)) {
            continue;
        }
        if (g_str_has_prefix(*item, "lower=")) {
            low = number;
        } else if (g_str_has_prefix(*item, "upper=")) {
            high = number;
        }
    }
    if (low < high) {
        *lower = (guint32)low;
        *upper = (guint32)high;
    }
}

void
agent_ctid_range(const char *datacenter,
                 gsize size,
                 guint32 *lower,
                 guint32 *upper)
{
    g_autofree char *copy = g_strndup(datacenter, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

    *lower = AGENT_CTID_LOWER;
    *upper = AGENT_CTID_UPPER;
    for (char **line = lines; *line != NULL; line++) {
        if (g_str_has_prefix(*line, "next-id:")) {
            parse_range(*line + strlen("next-id:"), lower, upper);
        }
    }
}
