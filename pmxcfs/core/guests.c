#include "config.h"

#include "pmxcfs/core/guests.h"

#include <string.h>

typedef struct {
    PveGuestType type;
    char *node;
    guint32 version;
} Guest;

struct CfsGuests {
    GHashTable *by_id; /* guint32 -> Guest */
    guint32 version;   /* of the list */
    guint32 counter;   /* the next guest's version */
};

static void
guest_free(gpointer data)
{
    Guest *self = data;

    g_free(self->node);
    g_free(self);
}

CfsGuests *
cfs_guests_new(void)
{
    CfsGuests *self = g_new0(CfsGuests, 1);

    self->by_id = g_hash_table_new_full(NULL, NULL, NULL, guest_free);
    return self;
}

void
cfs_guests_free(CfsGuests *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->by_id);
    g_free(self);
}

gboolean
cfs_guests_is_foreign(CfsGuests *self, const PveGuestPath *path)
{
    Guest *guest = g_hash_table_lookup(self->by_id, GUINT_TO_POINTER(path->id));

    return guest != NULL &&
           (guest->type != path->type || strcmp(guest->node, path->node) != 0);
}

void
cfs_guests_put(CfsGuests *self, const PveGuestPath *path)
{
    Guest *guest = g_new0(Guest, 1);

    guest->type = path->type;
    guest->node = g_strdup(path->node);
    guest->version = ++self->counter;
    g_hash_table_replace(self->by_id, GUINT_TO_POINTER(path->id), guest);
    self->version++;
}

void
cfs_guests_drop(CfsGuests *self, guint32 id)
{
    if (g_hash_table_remove(self->by_id, GUINT_TO_POINTER(id))) {
        self->version++;
    }
}

void
cfs_guests_continue(CfsGuests *self, CfsGuests *from, gboolean bump)
{
    guint32 counter = from != NULL ? from->counter : 0;
    guint32 version = from != NULL ? from->version : 0;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->by_id);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ((Guest *)value)->version += counter;
    }
    self->counter += counter;
    self->version = version + (bump ? 1 : 0);
}

gboolean
cfs_guests_find(CfsGuests *self, guint32 id, PveGuestPath *path)
{
    Guest *guest = g_hash_table_lookup(self->by_id, GUINT_TO_POINTER(id));

    if (guest == NULL) {
        return FALSE;
    }
    path->id = id;
    path->type = guest->type;
    g_strlcpy(path->node, guest->node, sizeof(path->node));
    return TRUE;
}

guint32
cfs_guests_version(CfsGuests *self)
{
    return self->version;
}

guint32
cfs_guests_version_of(CfsGuests *self, guint32 id)
{
    Guest *guest = g_hash_table_lookup(self->by_id, GUINT_TO_POINTER(id));

    return guest != NULL ? guest->version : 0;
}

int
cfs_guest_compare(gconstpointer a, gconstpointer b)
{
    const CfsGuest *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

GArray *
cfs_guests_list(CfsGuests *self)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(CfsGuest));
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, self->by_id);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        Guest *guest = value;
        CfsGuest row = {GPOINTER_TO_UINT(key), guest->type, guest->node,
                        guest->version};

        g_array_append_val(list, row);
    }
    g_array_sort(list, cfs_guest_compare);
    return list;
}
