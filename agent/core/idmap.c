#include "config.h"

#include "agent/core/idmap.h"

#include "agent/core/guestconf.h"

#include <string.h>

typedef struct {
    char type; /* 'u' or 'g' */
    guint64 ct, host, count;
} Entry;

static gboolean
parse_entry(const char *item, const char *separator, Entry *entry)
{
    g_autofree char *text = g_strstrip(g_strdup(item));
    g_auto(GStrv) parts = g_strsplit(text, separator, -1);
    guint64 *const numbers[] = {&entry->ct, &entry->host, &entry->count};

    if (g_strv_length(parts) != 4 ||
        (strcmp(parts[0], "u") != 0 && strcmp(parts[0], "g") != 0)) {
        return FALSE;
    }
    entry->type = parts[0][0];
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (!g_ascii_string_to_unsigned(parts[i + 1], 10, i == 2 ? 1 : 0,
                                        G_MAXUINT32, numbers[i], NULL)) {
            return FALSE;
        }
    }
    return TRUE;
}

static char *
entry_text(const Entry *entry)
{
    return g_strdup_printf("%c %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT
                           " %" G_GUINT64_FORMAT,
                           entry->type, entry->ct, entry->host, entry->count);
}

static gboolean
check_overlap(const Entry *entry, const Entry *other, GError **error)
{
    const struct {
        const char *side;
        guint64 a, b;
    } sides[] = {{"container", entry->ct, other->ct},
                 {"host", entry->host, other->host}};

    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        guint64 first = MAX(sides[i].a, sides[i].b);

        if (entry->type == other->type && first < sides[i].a + entry->count &&
            first < sides[i].b + other->count) {
            g_autofree char *text = entry_text(entry);
            g_autofree char *before = entry_text(other);

            g_set_error(error, AGENT_GUESTCONF_ERROR,
                        AGENT_GUESTCONF_ERROR_VALUE,
                        "invalid map entry '%s': %s %cid %" G_GUINT64_FORMAT
                        " is also mapped by entry '%s'",
                        text, sides[i].side, entry->type, first, before);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
agent_idmap_check(const char *const *items,
                  const char *separator,
                  GError **error)
{
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(Entry));

    for (; *items != NULL; items++) {
        Entry entry;

        if (!parse_entry(*items, separator, &entry)) {
            g_set_error(error, AGENT_GUESTCONF_ERROR,
                        AGENT_GUESTCONF_ERROR_VALUE,
                        "failed to parse idmap: %s", *items);
            return FALSE;
        }
        for (guint i = 0; i < entries->len; i++) {
            if (!check_overlap(&entry, &g_array_index(entries, Entry, i),
                               error)) {
                return FALSE;
            }
        }
        g_array_append_val(entries, entry);
    }
    return TRUE;
}
