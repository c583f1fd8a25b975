#include "config.h"

#include "common/names.h"

#include <string.h>

static const struct {
    const char *folder;
    const char *name;
} guest_types[] = {
    [PVE_GUEST_QEMU] = {"qemu-server", "qemu"},
    [PVE_GUEST_LXC] = {"lxc", "lxc"},
    [PVE_GUEST_OPENVZ] = {"openvz", "openvz"},
};

static gboolean
is_node(const char *name, gsize length)
{
    if (length == 0 || name[0] == '-' || name[length - 1] == '-') {
        return FALSE;
    }
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isalnum(name[i]) && name[i] != '-') {
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
pve_name_is_node(const char *name)
{
    return name != NULL && is_node(name, strlen(name));
}

/* Decimal, first digit 1-9, fits 32 bits, ends exactly at @end. */
static gboolean
parse_id(const char *text, const char *end, guint32 *id)
{
    guint64 value = 0;

    if (text == end || *text < '1' || *text > '9') {
        return FALSE;
    }
    for (const char *p = text; p < end; p++) {
        if (!g_ascii_isdigit(*p)) {
            return FALSE;
        }
        value = value * 10 + (guint64)(*p - '0');
        if (value > G_MAXUINT32) {
            return FALSE;
        }
    }
    *id = (guint32)value;
    return TRUE;
}

gboolean
pve_guest_path_parse(const char *path, PveGuestPath *out)
{
    const char *node, *folder, *file, *end;
    guint32 id = 0;

    if (!g_str_has_prefix(path, "nodes/")) {
        return FALSE;
    }
    node = path + strlen("nodes/");
    folder = strchr(node, '/');
    if (folder == NULL || !is_node(node, (gsize)(folder - node)) ||
        (gsize)(folder - node) >= sizeof(out->node)) {
        return FALSE;
    }
    folder++;
    file = strchr(folder, '/');
    if (file == NULL) {
        return FALSE;
    }
    file++;
    end = file + strlen(file);
    if (!g_str_has_suffix(file, ".conf") ||
        !parse_id(file, end - strlen(".conf"), &id)) {
        return FALSE;
    }
    for (guint type = 0; type < G_N_ELEMENTS(guest_types); type++) {
        gsize length = strlen(guest_types[type].folder);

        if ((gsize)(file - 1 - folder) == length &&
            memcmp(folder, guest_types[type].folder, length) == 0) {
            memset(out, 0, sizeof(*out));
            out->id = id;
            out->type = (PveGuestType)type;
            memcpy(out->node, node, (gsize)(folder - 1 - node));
            return TRUE;
        }
    }
    return FALSE;
}

const char *
pve_guest_type_name(PveGuestType type)
{
    return guest_types[type].name;
}

char *
pve_guest_path_build(const char *node, PveGuestType type, guint32 id)
{
    return g_strdup_printf("nodes/%s/%s/%u.conf", node,
                           guest_types[type].folder, id);
}

guint32
pve_ctid_parse(const char *text)
{
    guint32 id = 0;

    if (text == NULL || !parse_id(text, text + strlen(text), &id) ||
        id < PVE_CTID_MIN || id > PVE_CTID_MAX) {
        return 0;
    }
    return id;
}

gboolean
pve_name_is_component(const char *name)
{
    gsize length = strlen(name);

    return length > 0 && length <= 255 && strchr(name, '/') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}
