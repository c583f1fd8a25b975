#include "config.h"

#include "pmxcfs/core/announce.h"

#include <string.h>

typedef struct {
    guint counter; /* the last is the guest list */
    guint32 value;
} Count;

typedef struct {
    guint32 id;
    gboolean is_there;
    PveGuestType type;
    char *node; /* owned */
    guint32 version;
} Guest;

typedef struct {
    guint64 number;
    gboolean has_all_guests; /* @guests replace what is shown */
    GArray *counts;          /* of Count */
    GPtrArray *guests;       /* of Guest */
} Step;

struct CfsAnnounce {
    guint n_counters; /* with the list */
    guint32 *shown;
    GHashTable *guests; /* id -> Guest, as shown */
    GQueue steps;       /* of Step, oldest first */
    guint64 last;
    Step *open; /* being put together */
};

static void
guest_free(gpointer data)
{
    Guest *self = data;

    g_free(self->node);
    g_free(self);
}

static Step *
step_new(void)
{
    Step *self = g_new0(Step, 1);

    self->counts = g_array_new(FALSE, FALSE, sizeof(Count));
    self->guests = g_ptr_array_new_with_free_func(guest_free);
    return self;
}

static void
step_free(gpointer data)
{
    Step *self = data;

    g_array_unref(self->counts);
    g_ptr_array_unref(self->guests);
    g_free(self);
}

static Guest *
guest_new(const CfsGuest *from)
{
    Guest *guest = g_new0(Guest, 1);

    guest->id = from->id;
    guest->is_there = TRUE;
    guest->type = from->type;
    guest->node = g_strdup(from->node);
    guest->version = from->version;
    return guest;
}

static void
take_all_guests(Step *step, CfsGuests *guests)
{
    g_autoptr(GArray) list = cfs_guests_list(guests);

    g_ptr_array_set_size(step->guests, 0);
    for (guint i = 0; i < list->len; i++) {
        g_ptr_array_add(step->guests,
                        guest_new(&g_array_index(list, CfsGuest, i)));
    }
}

/* @step hands its guests over. */
static void
show_guests(CfsAnnounce *self, Step *step)
{
    if (step->has_all_guests) {
        g_hash_table_remove_all(self->guests);
    }
    while (step->guests->len > 0) {
        Guest *guest = g_ptr_array_steal_index_fast(step->guests, 0);
        gpointer key = GUINT_TO_POINTER(guest->id);

        if (guest->is_there) {
            g_hash_table_replace(self->guests, key, guest);
        } else {
            (void)g_hash_table_remove(self->guests, key);
            guest_free(guest);
        }
    }
}

CfsAnnounce *
cfs_announce_new(const guint32 *counters, guint n, CfsGuests *guests)
{
    CfsAnnounce *self = g_new0(CfsAnnounce, 1);

    self->n_counters = n + 1;
    self->shown = g_new(guint32, n + 1);
    memcpy(self->shown, counters, n * sizeof(*counters));
    self->shown[n] = cfs_guests_version(guests);
    self->guests = g_hash_table_new_full(NULL, NULL, NULL, guest_free);
    self->open = step_new();
    self->open->has_all_guests = TRUE;
    take_all_guests(self->open, guests);
    show_guests(self, self->open);
    self->open->has_all_guests = FALSE;
    return self;
}

void
cfs_announce_free(CfsAnnounce *self)
{
    if (self == NULL) {
        return;
    }
    g_queue_clear_full(&self->steps, step_free);
    step_free(self->open);
    g_hash_table_unref(self->guests);
    g_free(self->shown);
    g_free(self);
}

void
cfs_announce_counter(CfsAnnounce *self, guint counter, guint32 value)
{
    Count count = {.counter = counter, .value = value};

    g_assert(counter + 1 < self->n_counters);
    g_array_append_val(self->open->counts, count);
}

void
cfs_announce_guest(CfsAnnounce *self, guint32 id)
{
    Guest *guest = g_new0(Guest, 1);

    guest->id = id;
    g_ptr_array_add(self->open->guests, guest);
}

void
cfs_announce_all_guests(CfsAnnounce *self)
{
    self->open->has_all_guests = TRUE;
}

static void
take_guests(Step *step, CfsGuests *guests)
{
    for (guint i = 0; i < step->guests->len; i++) {
        Guest *guest = step->guests->pdata[i];
        PveGuestPath path;

        guest->is_there = cfs_guests_find(guests, guest->id, &path);
        if (guest->is_there) {
            guest->type = path.type;
            guest->node = g_strdup(path.node);
            guest->version = cfs_guests_version_of(guests, guest->id);
        }
    }
}

guint64
cfs_announce_end_step(CfsAnnounce *self, CfsGuests *guests)
{
    Step *step = self->open;

    if (step->has_all_guests) {
        take_all_guests(step, guests);
    } else {
        take_guests(step, guests);
    }
    if (step->has_all_guests || step->guests->len > 0) {
        Count list = {.counter = self->n_counters - 1,
                      .value = cfs_guests_version(guests)};

        g_array_append_val(step->counts, list);
    }
    if (step->counts->len == 0) {
        return 0;
    }
    step->number = ++self->last;
    g_queue_push_tail(&self->steps, step);
    self->open = step_new();
    return step->number;
}

static void
show(CfsAnnounce *self, Step *step)
{
    for (guint i = 0; i < step->counts->len; i++) {
        const Count *count = &g_array_index(step->counts, Count, i);

        self->shown[count->counter] = count->value;
    }
    show_guests(self, step);
}

void
cfs_announce_release(CfsAnnounce *self, guint64 number)
{
    Step *step;

    while ((step = g_queue_peek_head(&self->steps)) != NULL &&
           step->number <= number) {
        show(self, step);
        step_free(g_queue_pop_head(&self->steps));
    }
}

guint32
cfs_announce_value(CfsAnnounce *self, guint counter)
{
    g_assert(counter + 1 < self->n_counters);
    return self->shown[counter];
}

guint32
cfs_announce_list_version(CfsAnnounce *self)
{
    return self->shown[self->n_counters - 1];
}

GArray *
cfs_announce_list(CfsAnnounce *self)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(CfsGuest));
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->guests);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Guest *guest = value;
        CfsGuest row = {guest->id, guest->type, guest->node, guest->version};

        g_array_append_val(list, row);
    }
    g_array_sort(list, cfs_guest_compare);
    return list;
}
