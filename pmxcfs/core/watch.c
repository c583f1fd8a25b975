#include "config.h"

#include "pmxcfs/core/watch.h"

#include "common/wire.h"
#include "pmxcfs/core/access.h"

#include <string.h>

/* Sizes of what is kept of an event beside its bytes, roughly. */
#define EVENT_OVERHEAD 160u

typedef struct {
    guint64 sequence;
    guint64 version;
    guint64 inode;
    PveEventKind kind;
    guint16 flags;
    guint32 node;
    guint32 value;
    gboolean is_private, is_other_private;
    char *path;  /* owned; "" for none */
    char *other; /* owned; "" for none */
    GByteArray *record;
} Event;

struct CfsWatch {
    guint64 instance;
    guint max_events;
    gsize max_bytes;
    GQueue events; /* of Event, the oldest first */
    Event **ring;  /* the same, by sequence modulo max_events */
    gsize n_bytes;
    guint64 last;
};

struct CfsWatcher {
    CfsWatch *watch;
    guint32 kinds;
    GPtrArray *prefixes; /* of char * */
    gboolean has_all_paths;
    gboolean is_read_only;
    guint64 place; /* the last it has */
};

/* --- events --- */

static void
event_free(Event *event)
{
    g_free(event->path);
    g_free(event->other);
    g_byte_array_unref(event->record);
    g_free(event);
}

static gsize
event_size(const Event *event)
{
    return EVENT_OVERHEAD + event->record->len + strlen(event->path) +
           strlen(event->other);
}

static guint32
record_size(const char *path, const char *other)
{
    return (guint32)(PVE_IPC_EVENT_FIXED + strlen(path) + strlen(other) + 2);
}

static void
append_record(GByteArray *out,
              const Event *event,
              PveEventKind kind,
              const char *path,
              const char *other)
{
    pve_write_u32(out, record_size(path, other));
    pve_write_u16(out, (guint16)kind);
    pve_write_u16(out, event->flags);
    pve_write_u64(out, event->sequence);
    pve_write_u64(out, event->version);
    pve_write_u64(out, event->inode);
    pve_write_u32(out, event->node);
    pve_write_u32(out, event->value);
    pve_write_string(out, path);
    pve_write_string(out, other);
}

static void
drop_oldest(CfsWatch *self)
{
    Event *event = g_queue_pop_head(&self->events);

    self->n_bytes -= event_size(event);
    event_free(event);
}

/* @event: (takes). */
static void
append(CfsWatch *self, Event *event, const char *path, const char *other)
{
    event->sequence = ++self->last;
    event->path = g_strdup(path != NULL ? path : "");
    event->other = g_strdup(other != NULL ? other : "");
    event->record =
        g_byte_array_sized_new(record_size(event->path, event->other));
    append_record(event->record, event, event->kind, event->path, event->other);
    while (self->events.length >= self->max_events) {
        drop_oldest(self);
    }
    g_queue_push_tail(&self->events, event);
    self->ring[event->sequence % self->max_events] = event;
    self->n_bytes += event_size(event);
    while (self->n_bytes > self->max_bytes && self->events.length > 1) {
        drop_oldest(self);
    }
}

static PveEventKind
kind_of(const CfsChange *change)
{
    if (change->after == NULL) {
        return PVE_EVENT_DELETED;
    }
    if (change->before == NULL) {
        return PVE_EVENT_CREATED;
    }
    return change->new_path != NULL ? PVE_EVENT_RENAMED : PVE_EVENT_CHANGED;
}

void
cfs_watch_on_changed(CfsWatch *self, const CfsEffect *effect, guint16 flags)
{
    GPtrArray *changes = effect->changed.changes;

    for (guint i = 0; i < changes->len; i++) {
        const CfsChange *change = changes->pdata[i];
        const CfsEntry *entry =
            change->after != NULL ? change->after : change->before;
        Event *event = g_new0(Event, 1);

        event->kind = kind_of(change);
        event->flags = flags;
        event->flags |= effect->changed.origin != 0 ? PVE_EVENT_OWN : 0;
        event->flags |= cfs_entry_is_directory(entry) ? PVE_EVENT_DIRECTORY : 0;
        event->version = effect->changed.version;
        event->node = effect->changed.writer;
        event->inode = entry->inode;
        event->is_private = cfs_access_is_private(change->path);
        event->is_other_private =
            change->new_path != NULL && cfs_access_is_private(change->new_path);
        append(self, event, change->path, change->new_path);
    }
}

void
cfs_watch_on_settled(CfsWatch *self,
                     const CfsEntry *entry,
                     const char *path,
                     guint32 node,
                     guint64 version,
                     guint16 flags)
{
    Event *event = g_new0(Event, 1);

    event->kind = PVE_EVENT_SETTLED;
    event->flags = flags;
    event->version = version;
    event->node = node;
    event->inode = entry->inode;
    event->is_private = cfs_access_is_private(path);
    append(self, event, path, NULL);
}

void
cfs_watch_note(CfsWatch *self,
               PveEventKind kind,
               guint64 version,
               guint32 value,
               const char *path,
               const char *other)
{
    Event *event = g_new0(Event, 1);

    event->kind = kind;
    event->version = version;
    event->value = value;
    append(self, event, path, other);
}

CfsWatch *
cfs_watch_new(guint64 instance, guint max_events, gsize max_bytes)
{
    CfsWatch *self = g_new0(CfsWatch, 1);

    self->instance = instance;
    self->max_events = max_events;
    self->max_bytes = max_bytes;
    self->ring = g_new0(Event *, max_events);
    return self;
}

void
cfs_watch_free(CfsWatch *self)
{
    if (self == NULL) {
        return;
    }
    g_queue_clear_full(&self->events, (GDestroyNotify)event_free);
    g_free(self->ring);
    g_free(self);
}

guint64
cfs_watch_instance(CfsWatch *self)
{
    return self->instance;
}

guint64
cfs_watch_last(CfsWatch *self)
{
    return self->last;
}

/* --- watchers --- */

CfsWatcher *
cfs_watcher_new(CfsWatch *watch,
                guint32 kinds,
                GPtrArray *prefixes,
                gboolean is_read_only)
{
    CfsWatcher *self = g_new0(CfsWatcher, 1);

    self->watch = watch;
    self->kinds = kinds | PVE_EVENT_BIT(PVE_EVENT_LOST);
    self->prefixes = prefixes;
    for (guint i = 0; i < prefixes->len; i++) {
        const char *prefix = prefixes->pdata[i];

        self->has_all_paths = self->has_all_paths || *prefix == '\0';
    }
    self->is_read_only = is_read_only;
    self->place = watch->last;
    return self;
}

void
cfs_watcher_free(CfsWatcher *self)
{
    if (self == NULL) {
        return;
    }
    g_ptr_array_unref(self->prefixes);
    g_free(self);
}

static guint64
oldest(CfsWatch *watch)
{
    const Event *event = g_queue_peek_head(&watch->events);

    return event != NULL ? event->sequence : watch->last + 1;
}

gboolean
cfs_watcher_seek(CfsWatcher *self, guint64 instance, guint64 sequence)
{
    CfsWatch *watch = self->watch;

    if (instance != watch->instance || sequence > watch->last ||
        sequence + 1 < oldest(watch)) {
        return FALSE;
    }
    self->place = sequence;
    return TRUE;
}

static gboolean
has_path(CfsWatcher *self, const char *path)
{
    if (self->has_all_paths) {
        return TRUE;
    }
    for (guint i = 0; *path != '\0' && i < self->prefixes->len; i++) {
        if (cfs_access_is_below(path, self->prefixes->pdata[i])) {
            return TRUE;
        }
    }
    return FALSE;
}

/* One of the two paths of a rename is not to be seen. */
static void
append_half(CfsWatcher *self, const Event *event, GByteArray *out)
{
    const char *path = event->is_private ? event->other : event->path;
    PveEventKind kind =
        event->is_private ? PVE_EVENT_CREATED : PVE_EVENT_DELETED;

    if (has_path(self, path) && (self->kinds & PVE_EVENT_BIT(kind)) != 0) {
        append_record(out, event, kind, path, "");
    }
}

static void
append_event(CfsWatcher *self, const Event *event, GByteArray *out)
{
    guint32 bit = PVE_EVENT_BIT(event->kind);
    gboolean is_tree = (bit & PVE_EVENT_TREE) != 0;

    if (is_tree && self->is_read_only &&
        (event->is_private || event->is_other_private)) {
        if (event->kind == PVE_EVENT_RENAMED &&
            event->is_private != event->is_other_private) {
            append_half(self, event, out);
        }
        return;
    }
    if ((self->kinds & bit) != 0 && (!is_tree || has_path(self, event->path) ||
                                     has_path(self, event->other))) {
        g_byte_array_append(out, event->record->data, event->record->len);
    }
}

/* It has no number of its own: it stands for those before the next. */
static void
append_lost(CfsWatch *watch, GByteArray *out)
{
    const Event lost = {.sequence = watch->last};

    append_record(out, &lost, PVE_EVENT_LOST, "", "");
}

guint64
cfs_watcher_next(CfsWatcher *self, GByteArray *out, gsize max)
{
    CfsWatch *watch = self->watch;
    guint64 place = self->place;
    guint before = out->len;

    if (place + 1 < oldest(watch)) {
        append_lost(watch, out);
        return watch->last;
    }
    while (place < watch->last) {
        guint length = out->len;

        append_event(self, watch->ring[(place + 1) % watch->max_events], out);
        if (out->len - before > max && length > before) {
            g_byte_array_set_size(out, length);
            break;
        }
        place++;
    }
    if (out->len == before) {
        self->place = place;
        return 0;
    }
    return place;
}

void
cfs_watcher_move(CfsWatcher *self, guint64 place)
{
    self->place = place;
}

guint64
cfs_watcher_place(const CfsWatcher *self)
{
    return self->place;
}

gboolean
cfs_watcher_is_like(const CfsWatcher *a, const CfsWatcher *b)
{
    if (a->kinds != b->kinds || a->is_read_only != b->is_read_only ||
        a->prefixes->len != b->prefixes->len) {
        return FALSE;
    }
    for (guint i = 0; i < a->prefixes->len; i++) {
        if (strcmp(a->prefixes->pdata[i], b->prefixes->pdata[i]) != 0) {
            return FALSE;
        }
    }
    return TRUE;
}
