#include "config.h"

#include "agent/core/datacenter.h"

#include <string.h>

#define DEFAULT_PREFIX "BC:24:11"

enum { MAC_BYTES = 6 };

void
agent_datacenter_clear(AgentDatacenter *self)
{
    g_clear_pointer(&self->mac_prefix, g_free);
}

/* `xx`, `xx:xx` and so on, at most five octets, unicast. */
static gboolean
is_prefix(const char *text)
{
    gsize n = strlen(text);

    if (n > 3 * (MAC_BYTES - 1) - 1 || n % 3 != 2) {
        return n == 0;
    }
    for (gsize i = 0; i < n; i++) {
        if (i % 3 == 2 ? text[i] != ':' : !g_ascii_isxdigit(text[i])) {
            return FALSE;
        }
    }
    return g_ascii_xdigit_value(text[1]) % 2 == 0;
}

static void
take_tag_style(AgentDatacenter *self, const char *value)
{
    g_auto(GStrv) items = g_strsplit(value, ",", -1);

    for (char **item = items; *item != NULL; item++) {
        const char *word = g_strstrip(*item);

        if (g_str_has_prefix(word, "case-sensitive=")) {
            const char *flag = word + strlen("case-sensitive=");

            self->tags_keep_case = strcmp(flag, "1") == 0 ||
                                   g_ascii_strcasecmp(flag, "on") == 0 ||
                                   g_ascii_strcasecmp(flag, "yes") == 0 ||
                                   g_ascii_strcasecmp(flag, "true") == 0;
        } else if (g_str_has_prefix(word, "ordering=")) {
            self->tags_keep_order = strcmp(word, "ordering=config") == 0;
        }
    }
}

void
agent_datacenter_parse(AgentDatacenter *self, const char *text, gsize size)
{
    g_autofree char *copy = g_strndup(text, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

    self->mac_prefix = g_strdup(DEFAULT_PREFIX);
    for (char **line = lines; *line != NULL; line++) {
        char *colon = strchr(*line, ':');

        if (colon == NULL) {
            continue;
        }
        *colon = '\0';
        g_strstrip(colon + 1);
        if (strcmp(*line, "tag-style") == 0) {
            take_tag_style(self, colon + 1);
        } else if (strcmp(*line, "mac_prefix") == 0 && is_prefix(colon + 1)) {
            g_free(self->mac_prefix);
            self->mac_prefix = g_ascii_strup(colon + 1, -1);
        }
    }
}

char *
agent_datacenter_mac(const AgentDatacenter *self, guint64 random)
{
    GString *out = g_string_new(self->mac_prefix);

    while (out->len < 3 * MAC_BYTES - 1) {
        guint byte = (guint)(random & 0xff);

        if (out->len == 0) {
            /* Locally administered, unicast. */
            byte = (byte | 2u) & 0xfeu;
        }
        g_string_append_printf(out, "%s%02X", out->len > 0 ? ":" : "", byte);
        random >>= 8;
    }
    return g_string_free(out, FALSE);
}
