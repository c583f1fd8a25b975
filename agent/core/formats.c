#include "config.h"

#include "agent/core/formats.h"
#include "agent/core/propstring.h"

#include <string.h>

/* A label: letters and digits, inner hyphens. */
static gboolean
is_label(const char *label)
{
    gsize n = strlen(label);

    if (n == 0 || label[0] == '-' || label[n - 1] == '-') {
        return FALSE;
    }
    for (gsize i = 0; i < n; i++) {
        if (!g_ascii_isalnum(label[i]) && label[i] != '-') {
            return FALSE;
        }
    }
    return TRUE;
}

char *
agent_format_dns_name(const char *value)
{
    g_auto(GStrv) labels = g_strsplit(value, ".", -1);

    for (char **label = labels; *label != NULL; label++) {
        if (!is_label(*label)) {
            return g_strdup("value does not look like a valid DNS name");
        }
    }
    return labels[0] == NULL
               ? g_strdup("value does not look like a valid DNS name")
               : NULL;
}

/* The first complaint of @check about an item of the list @value. */
static char *
check_each(const char *value, AgentFormatFunc check)
{
    g_auto(GStrv) items = agent_list_split(value);

    for (char **item = items; *item != NULL; item++) {
        char *message = check(*item);

        if (message != NULL) {
            return message;
        }
    }
    return NULL;
}

char *
agent_format_dns_list(const char *value)
{
    return check_each(value, agent_format_dns_name);
}

typedef enum { ANY, IPV4, IPV6 } Family;

static gboolean
is_ip(const char *value, Family family)
{
    gboolean is_v6 = strchr(value, ':') != NULL;

    /* GLib takes a zone; what stands here must not have one. */
    return strchr(value, '%') == NULL && g_hostname_is_ip_address(value) &&
           (family == ANY || (family == IPV6) == is_v6);
}

/* An address, or fe80:...%interface. */
static char *
check_server(const char *value)
{
    const char *zone = strchr(value, '%');
    g_autofree char *address =
        zone != NULL ? g_strndup(value, (gsize)(zone - value)) : NULL;

    if (zone == NULL && is_ip(value, ANY)) {
        return NULL;
    }
    if (zone != NULL && g_ascii_strncasecmp(value, "fe80:", 5) == 0 &&
        is_ip(address, IPV6) && agent_pattern_interface(zone + 1)) {
        return NULL;
    }
    return g_strdup("value does not look like a valid IP address");
}

char *
agent_format_ip_list(const char *value)
{
    return check_each(value, check_server);
}

char *
agent_format_ipv4(const char *value)
{
    return is_ip(value, IPV4)
               ? NULL
               : g_strdup("value does not look like a valid IPv4 address");
}

char *
agent_format_ipv6(const char *value)
{
    return is_ip(value, IPV6)
               ? NULL
               : g_strdup("value does not look like a valid IPv6 address");
}

/* ADDRESS/PREFIX with a prefix of 8 to @max. */
static gboolean
is_network(const char *value, Family family, guint64 max)
{
    const char *slash = strchr(value, '/');
    g_autofree char *address = NULL;
    guint64 prefix;

    if (slash == NULL ||
        !g_ascii_string_to_unsigned(slash + 1, 10, 8, max, &prefix, NULL)) {
        return FALSE;
    }
    address = g_strndup(value, (gsize)(slash - value));
    return is_ip(address, family);
}

char *
agent_format_ipv4_config(const char *value)
{
    if (strcmp(value, "dhcp") == 0 || strcmp(value, "manual") == 0 ||
        is_network(value, IPV4, 32)) {
        return NULL;
    }
    return g_strdup("value does not look like a valid ipv4 network "
                    "configuration");
}

char *
agent_format_ipv6_config(const char *value)
{
    if (strcmp(value, "auto") == 0 || strcmp(value, "dhcp") == 0 ||
        strcmp(value, "manual") == 0 || is_network(value, IPV6, 128)) {
        return NULL;
    }
    return g_strdup("value does not look like a valid ipv6 network "
                    "configuration");
}

char *
agent_format_mac(const char *value)
{
    gboolean fine = strlen(value) == 17;

    for (guint i = 0; fine && i < 17; i++) {
        fine = i % 3 == 2 ? value[i] == ':' : g_ascii_isxdigit(value[i]);
    }
    /* Unicast: the lowest bit of the first octet is clear. */
    fine = fine && g_ascii_xdigit_value(value[1]) % 2 == 0;
    return fine ? NULL
                : g_strdup("value does not look like a valid unicast MAC "
                           "address");
}

gboolean
agent_storage_id_is_valid(const char *text, gsize length)
{
    if (length < 2 || !g_ascii_isalpha(text[0]) ||
        !g_ascii_isalnum(text[length - 1])) {
        return FALSE;
    }
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isalnum(text[i]) && strchr("-_.", text[i]) == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

/* It is written into lists and lines: nothing in it may end one. */
static gboolean
fits_list(const char *value)
{
    gsize n = strlen(value);

    for (gsize i = 0; i < n; i++) {
        if ((guchar)value[i] < 32 || value[i] == 127 || value[i] == ',') {
            return FALSE;
        }
    }
    return n > 0 && value[0] != ' ' && value[n - 1] != ' ';
}

char *
agent_format_volume_id(const char *value)
{
    const char *colon = strchr(value, ':');

    if (colon == NULL || colon[1] == '\0' || !fits_list(value) ||
        !agent_storage_id_is_valid(value, (gsize)(colon - value))) {
        return g_strdup_printf("unable to parse volume ID '%s'", value);
    }
    return NULL;
}

gboolean
agent_volume_is_request(const char *value)
{
    const char *colon = strchr(value, ':');
    const char *p;
    gsize n;

    if (colon == NULL || colon == value ||
        strcspn(value, " \t") < (gsize)(colon - value)) {
        return FALSE;
    }
    p = colon + 1;
    n = strspn(p, "0123456789");
    if (n > 0 && p[n] == '.' && strspn(p + n + 1, "0123456789") > 0) {
        n += 1 + strspn(p + n + 1, "0123456789");
    }
    return n > 0 && p[n] == '\0';
}

char *
agent_format_mount_path(const char *value)
{
    if (*value == '\0' || strstr(value, "/./") != NULL ||
        strstr(value, "/../") != NULL || g_str_has_suffix(value, "/.") ||
        g_str_has_suffix(value, "/..") || g_str_has_prefix(value, "../")) {
        return g_strdup_printf("%s contains illegal character sequences",
                               value);
    }
    return NULL;
}

static char *
check_tag(const char *tag)
{
    gboolean fine = g_ascii_isalnum(tag[0]) || tag[0] == '_';

    for (const char *p = tag; fine && *p != '\0'; p++) {
        fine = g_ascii_isalnum(*p) || strchr("_.+-", *p) != NULL;
    }
    return fine ? NULL : g_strdup("invalid characters in tag");
}

char *
agent_format_tags(const char *value)
{
    return check_each(value, check_tag);
}

/* The shape only: whether the zone exists is known where it is used. */
char *
agent_format_timezone(const char *value)
{
    gboolean fine = g_ascii_isalnum(value[0]) && strstr(value, "..") == NULL;

    for (const char *p = value; fine && *p != '\0'; p++) {
        fine = g_ascii_isalnum(*p) || strchr("/_+-.", *p) != NULL;
    }
    return fine ? NULL : g_strdup_printf("invalid time zone '%s'", value);
}

char *
agent_format_startup(const char *value)
{
    g_auto(GStrv) items = g_strsplit(value, ",", -1);
    gboolean fine = strcmp(value, "0") != 0;

    for (char **item = items; fine && *item != NULL; item++) {
        const char *equals = strchr(*item, '=');
        const char *number = equals != NULL ? equals + 1 : *item;
        gsize n = equals != NULL ? (gsize)(equals - *item) : 0;

        if ((*item)[strspn(*item, " \t")] == '\0') {
            continue;
        }
        fine = *number != '\0' &&
               number[strspn(number, "0123456789")] == '\0' &&
               (equals == NULL || (n == 5 && strncmp(*item, "order", n) == 0) ||
                (n == 2 && strncmp(*item, "up", n) == 0) ||
                (n == 4 && strncmp(*item, "down", n) == 0));
    }
    return fine ? NULL : g_strdup("unable to parse startup options");
}

char *
agent_format_config_id(const char *value)
{
    gsize n = strlen(value);
    gboolean fine = n >= 2 && n <= 40 && g_ascii_isalpha(value[0]);

    for (gsize i = 0; fine && i < n; i++) {
        fine = g_ascii_isalnum(value[i]) || strchr("-_", value[i]) != NULL;
    }
    return fine ? NULL
                : g_strdup_printf("invalid configuration ID '%s'", value);
}

char *
agent_format_device_path(const char *value)
{
    g_autofree char *message = agent_format_mount_path(value);

    if (message != NULL || !g_str_has_prefix(value, "/dev/")) {
        return g_strdup_printf("%s is not a valid device path", value);
    }
    return NULL;
}

/* u:0:100000:65536 */
static gboolean
is_idmap_item(const char *item)
{
    g_auto(GStrv) parts = g_strsplit(item, ":", -1);
    guint64 number;

    if (g_strv_length(parts) != 4 ||
        (strcmp(parts[0], "u") != 0 && strcmp(parts[0], "g") != 0)) {
        return FALSE;
    }
    for (guint i = 1; i < 4; i++) {
        if (!g_ascii_string_to_unsigned(parts[i], 10, i == 3 ? 1 : 0,
                                        G_MAXUINT32, &number, NULL)) {
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
agent_pattern_idmap(const char *value)
{
    g_auto(GStrv) items = g_strsplit(value, ";", -1);

    if (strcmp(value, "passthrough") == 0) {
        return TRUE;
    }
    for (char **item = items; *item != NULL; item++) {
        if (!is_idmap_item(*item)) {
            return FALSE;
        }
    }
    return items[0] != NULL;
}

gboolean
agent_pattern_mountoptions(const char *value)
{
    static const char *const known[] = {
        "discard", "lazytime", "noatime", "nodev", "noexec", "nosuid", NULL};
    g_auto(GStrv) items = g_strsplit(value, ";", -1);

    for (char **item = items; *item != NULL; item++) {
        if (!g_strv_contains(known, *item)) {
            return FALSE;
        }
    }
    return items[0] != NULL;
}

static gboolean
only(const char *value, const char *extra)
{
    if (*value == '\0') {
        return FALSE;
    }
    for (const char *p = value; *p != '\0'; p++) {
        if (!g_ascii_isalnum(*p) && strchr(extra, *p) == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

/* The kernel's limit is 15 bytes; "." and ".." are no interface names. */
gboolean
agent_pattern_interface(const char *value)
{
    return only(value, "-_.") && strlen(value) <= 15 &&
           strcmp(value, ".") != 0 && strcmp(value, "..") != 0;
}

gboolean
agent_pattern_trunks(const char *value)
{
    g_auto(GStrv) items = g_strsplit(value, ";", -1);
    guint64 number;

    for (char **item = items; *item != NULL; item++) {
        if (!g_ascii_string_to_unsigned(*item, 10, 1, 4094, &number, NULL)) {
            return FALSE;
        }
    }
    return items[0] != NULL;
}

gboolean
agent_pattern_device_mode(const char *value)
{
    return strlen(value) == 4 && value[0] == '0' &&
           strspn(value, "01234567") == 4;
}

gboolean
agent_pattern_fs_types(const char *value)
{
    return only(value, "_; ");
}

/* One or more characters; the command to run as init. */
gboolean
agent_pattern_entrypoint(const char *value)
{
    return *value != '\0' && agent_text_is_plain(value);
}

/* VAR=value */
gboolean
agent_pattern_variable(const char *value)
{
    gsize n = 0;

    while (g_ascii_isalnum(value[n]) || value[n] == '_') {
        n++;
    }
    return n > 0 && value[n] == '=' && agent_text_is_plain(value);
}
