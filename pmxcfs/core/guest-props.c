#include "config.h"

#include "pmxcfs/core/guest-props.h"

#include "pmxcfs/core/json-text.h"

#include <string.h>

/* Returns: (owned) what stands between the blanks, or NULL when nothing. */
static char *
strip(const char *begin, const char *end)
{
    while (begin < end && strchr(" \t\r\v\f", *begin) != NULL) {
        begin++;
    }
    while (end > begin && strchr(" \t\r\v\f", end[-1]) != NULL) {
        end--;
    }
    return end > begin ? g_strndup(begin, (gsize)(end - begin)) : NULL;
}

char *
cfs_guest_prop_find(const char *text, gsize size, const char *name)
{
    const char *end = text + size;
    gsize length = strlen(name);
    char *found = NULL;

    while (text < end && *text != '[') {
        const char *stop = memchr(text, '\n', (gsize)(end - text));
        const char *line = text;

        stop = stop != NULL ? stop : end;
        text = stop + (stop < end);
        if ((gsize)(stop - line) > length && memcmp(line, name, length) == 0 &&
            line[length] == ':') {
            char *value = strip(line + length + 1, stop);

            if (value != NULL) {
                g_free(found);
                found = value;
            }
        }
    }
    return found;
}

/* Appends the guest's entry, when it has any of @names. */
static void
append_guest(GString *out,
             CfsTree *tree,
             const PveGuestPath *guest,
             const char *const *names)
{
    g_autofree char *path =
        pve_guest_path_build(guest->node, guest->type, guest->id);
    const CfsEntry *entry = cfs_tree_lookup(tree, path);
    gboolean is_first = TRUE;
    gconstpointer text;
    gsize size;

    if (entry == NULL || entry->data == NULL) {
        return;
    }
    text = g_bytes_get_data(entry->data, &size);
    for (; *names != NULL; names++) {
        g_autofree char *value = cfs_guest_prop_find(text, size, *names);

        if (value == NULL) {
            continue;
        }
        if (is_first) {
            g_string_append_printf(out, "%s\"%u\":{", out->len > 2 ? ",\n" : "",
                                   guest->id);
        } else {
            g_string_append_c(out, ',');
        }
        is_first = FALSE;
        cfs_json_append_string(out, *names);
        g_string_append(out, ": ");
        cfs_json_append_string(out, value);
    }
    if (!is_first) {
        g_string_append_c(out, '}');
    }
}

char *
cfs_guest_props_json(CfsTree *tree, guint32 vmid, const char *const *names)
{
    CfsGuests *guests = cfs_tree_guests(tree);
    GString *out = g_string_new("{\n");
    PveGuestPath guest;

    if (vmid != 0) {
        if (cfs_guests_find(guests, vmid, &guest)) {
            append_guest(out, tree, &guest, names);
        }
    } else {
        g_autoptr(GArray) list = cfs_guests_list(guests);

        for (guint i = 0; i < list->len; i++) {
            guint32 id = g_array_index(list, CfsGuest, i).id;

            if (cfs_guests_find(guests, id, &guest)) {
                append_guest(out, tree, &guest, names);
            }
        }
    }
    g_string_append(out, "\n}\n");
    return g_string_free(out, FALSE);
}
