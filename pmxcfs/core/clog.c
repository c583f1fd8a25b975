#include "config.h"

#include "pmxcfs/core/clog.h"

#include "common/wire.h"
#include "pmxcfs/core/json-text.h"

#include <string.h>

/* The ring begins with its size and the place of the newest entry. */
#define RING_HEAD 8u
/* The reference skips a ring of a head alone. */
#define RING_MIN 16u
#define UID_AT 8u /* before it: prev and next */
#define STRINGS_AT 44u
/* An entry is this much and its strings; the last 4 bytes are slack. */
#define ENTRY_BASE 48u
#define MAX_STRING 255u
#define FNV_BASIS G_GUINT64_CONSTANT(0xcbf29ce484222325)
#define FNV_PRIME G_GUINT64_CONSTANT(0x100000001b3)

/* An entry's fields; the strings are borrowed from its bytes. */
typedef struct {
    guint32 prev;
    guint32 next;
    guint32 uid;
    guint32 time;
    guint64 node_digest;
    guint64 user_digest;
    guint32 pid;
    guint8 priority;
    const char *node;
    const char *user;
    const char *tag;
    const char *message;
    gsize size; /* with the slack */
} Entry;

/* An entry as we keep it: its bytes as in a LOG message, all that members may
 * disagree about (prev, next, slack) zero. */
typedef struct {
    guint64 node_digest;
    guint32 time;
    guint32 uid;
    gsize size;
    guint8 bytes[];
} Record;

struct CfsClog {
    char *node_name;
    guint64 node_digest;
    guint32 last_uid;
    guint32 last_time; /* of our own: a clock set back loses no entry */
    GQueue records;    /* of Record, in the order they came */
    GHashTable *known; /* set of the same */
    gsize bytes;       /* rounded as in a ring */
};

static guint64
digest_of(const char *text)
{
    guint64 digest = FNV_BASIS;
    gsize size = strlen(text) + 1;

    for (gsize i = 0; i < size; i++) {
        digest ^= (guint8)text[i];
        digest *= FNV_PRIME;
    }
    return digest;
}

static void
put_u32(guint8 *at, guint32 value)
{
    guint32 little = GUINT32_TO_LE(value);

    memcpy(at, &little, sizeof(little));
}

static guint32
round_up(gsize size)
{
    return (guint32)((size + 7) & ~(gsize)7);
}

/* Names an entry: by time, then node, then number. */
static int
compare_records(gconstpointer a, gconstpointer b)
{
    const Record *x = a, *y = b;

    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    if (x->node_digest != y->node_digest) {
        return x->node_digest < y->node_digest ? -1 : 1;
    }
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static gboolean
is_same_record(gconstpointer a, gconstpointer b)
{
    return compare_records(a, b) == 0;
}

static guint
hash_record(gconstpointer data)
{
    const Record *self = data;

    return (guint)(self->node_digest ^ (self->node_digest >> 32)) ^
           self->time * 31u ^ self->uid;
}

CfsClog *
cfs_clog_new(const char *node_name)
{
    CfsClog *self = g_new0(CfsClog, 1);

    self->node_name = g_strndup(node_name, MAX_STRING - 1);
    self->node_digest = digest_of(self->node_name);
    self->known = g_hash_table_new(hash_record, is_same_record);
    g_queue_init(&self->records);
    return self;
}

void
cfs_clog_free(CfsClog *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->known);
    g_queue_clear_full(&self->records, g_free);
    g_free(self->node_name);
    g_free(self);
}

void
cfs_clog_set_next_uid(CfsClog *self, guint32 uid)
{
    self->last_uid = uid - 1;
}

/* --- entries as bytes ----------------------------------------------------- */

static const char *
read_string(PveReader *reader, guint32 size)
{
    /* A length of 0 would leave no room for the NUL. */
    return size > 0 ? pve_reader_string(reader, size) : NULL;
}

/* @size: what is there; an entry may be shorter. */
static gboolean
parse_entry(const guint8 *bytes, gsize size, Entry *entry)
{
    guint8 node_size, user_size, tag_size;
    guint32 message_size;
    PveReader reader;

    pve_reader_init(&reader, bytes, MIN(size, CFS_CLOG_MAX_ENTRY));
    entry->prev = pve_reader_u32(&reader);
    entry->next = pve_reader_u32(&reader);
    entry->uid = pve_reader_u32(&reader);
    entry->time = pve_reader_u32(&reader);
    entry->node_digest = pve_reader_u64(&reader);
    entry->user_digest = pve_reader_u64(&reader);
    entry->pid = pve_reader_u32(&reader);
    entry->priority = pve_reader_u8(&reader);
    node_size = pve_reader_u8(&reader);
    user_size = pve_reader_u8(&reader);
    tag_size = pve_reader_u8(&reader);
    message_size = pve_reader_u32(&reader);
    entry->node = read_string(&reader, node_size);
    entry->user = read_string(&reader, user_size);
    entry->tag = read_string(&reader, tag_size);
    entry->message = read_string(&reader, message_size);
    (void)pve_reader_take(&reader, ENTRY_BASE - STRINGS_AT);
    if (!pve_reader_ok(&reader) || entry->node == NULL || entry->user == NULL ||
        entry->tag == NULL || entry->message == NULL) {
        return FALSE;
    }
    entry->size = reader.offset;
    return TRUE;
}

/* Returns: (owned) @text, at most as long as a length of one byte can say. */
static char *
short_string(const char *text)
{
    gsize size = strlen(text);
    const char *end = text + MIN(size, MAX_STRING - 1);

    /* Not through the middle of a character. */
    while (end > text && size > MAX_STRING - 1 &&
           ((guchar)*end & 0xc0) == 0x80) {
        end--;
    }
    return g_strndup(text, (gsize)(end - text));
}

static GByteArray *
write_entry(const CfsClog *self, const CfsClogEntry *entry, guint32 uid)
{
    g_autofree char *user = short_string(entry->user);
    g_autofree char *tag = short_string(entry->tag);
    g_autofree char *message = cfs_clog_escape(entry->message);
    GByteArray *out = g_byte_array_new();
    gsize rest =
        ENTRY_BASE + strlen(self->node_name) + strlen(user) + strlen(tag) + 3;

    if (strlen(message) > CFS_CLOG_MAX_ENTRY - rest - 1) {
        message[CFS_CLOG_MAX_ENTRY - rest - 1] = '\0';
    }
    pve_write_u32(out, 0);
    pve_write_u32(out, 0);
    pve_write_u32(out, uid);
    pve_write_u32(out, self->last_time);
    pve_write_u64(out, self->node_digest);
    pve_write_u64(out, digest_of(user));
    pve_write_u32(out, entry->pid);
    pve_write_u8(out, MIN(entry->priority, 7));
    pve_write_u8(out, (guint8)(strlen(self->node_name) + 1));
    pve_write_u8(out, (guint8)(strlen(user) + 1));
    pve_write_u8(out, (guint8)(strlen(tag) + 1));
    pve_write_u32(out, (guint32)strlen(message) + 1);
    pve_write_string(out, self->node_name);
    pve_write_string(out, user);
    pve_write_string(out, tag);
    pve_write_string(out, message);
    pve_write_u32(out, 0);
    return out;
}

/* Returns: (owned) */
static Record *
record_new(const guint8 *bytes, const Entry *entry)
{
    Record *self = g_malloc0(sizeof(Record) + entry->size);

    self->node_digest = entry->node_digest;
    self->time = entry->time;
    self->uid = entry->uid;
    self->size = entry->size;
    memcpy(self->bytes + UID_AT, bytes + UID_AT,
           entry->size - UID_AT - (ENTRY_BASE - STRINGS_AT));
    return self;
}

/* --- the log -------------------------------------------------------------- */

static void
drop_oldest(CfsClog *self)
{
    g_autofree Record *oldest = g_queue_pop_head(&self->records);

    g_hash_table_remove(self->known, oldest);
    self->bytes -= round_up(oldest->size);
}

/* Takes @record, the newest. */
static void
append(CfsClog *self, Record *record)
{
    g_queue_push_tail(&self->records, record);
    g_hash_table_add(self->known, record);
    self->bytes += round_up(record->size);
    while (self->bytes > CFS_CLOG_KEEP) {
        drop_oldest(self);
    }
}

gboolean
cfs_clog_insert(CfsClog *self, GBytes *payload)
{
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(payload, &size);
    g_autofree Record *record = NULL;
    Entry entry;

    if (size > CFS_CLOG_MAX_ENTRY || !parse_entry(bytes, size, &entry) ||
        entry.size != size) {
        return FALSE;
    }
    record = record_new(bytes, &entry);
    if (g_hash_table_contains(self->known, record)) {
        return FALSE;
    }
    append(self, g_steal_pointer(&record));
    return TRUE;
}

GBytes *
cfs_clog_add(CfsClog *self, const CfsClogEntry *entry)
{
    GBytes *payload;

    self->last_time = MAX(self->last_time, entry->time);
    payload =
        g_byte_array_free_to_bytes(write_entry(self, entry, ++self->last_uid));

    (void)cfs_clog_insert(self, payload);
    return payload;
}

guint
cfs_clog_length(CfsClog *self)
{
    return self->records.length;
}

/* --- the ring ------------------------------------------------------------- */

static int
compare_places(gconstpointer a, gconstpointer b)
{
    return compare_records(*(Record *const *)a, *(Record *const *)b);
}

GBytes *
cfs_clog_ring(CfsClog *self)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    guint32 size = (guint32)MAX(RING_HEAD + self->bytes, RING_MIN);
    guint32 at = RING_HEAD, newest = 0;
    g_autofree guint8 *ring = g_malloc0(size);

    for (GList *l = self->records.head; l != NULL; l = l->next) {
        g_ptr_array_add(sorted, l->data);
    }
    g_ptr_array_sort(sorted, compare_places);
    for (guint i = 0; i < sorted->len; i++) {
        const Record *record = sorted->pdata[i];

        memcpy(ring + at, record->bytes, record->size);
        put_u32(ring + at, newest);
        newest = at;
        at += round_up(record->size);
        put_u32(ring + newest + sizeof(guint32), at);
    }
    put_u32(ring, size);
    put_u32(ring + sizeof(guint32), newest);
    return g_bytes_new_take(g_steal_pointer(&ring), size);
}

/* A ring of a stranger: nothing in it is to be believed. */
typedef struct {
    const guint8 *bytes;
    guint32 size;
    guint32 newest; /* place */
    guint32 at;     /* place of the next one to read; 0: there is none */
    guint32 limit;  /* place of the one read before, 0: none */
} Ring;

/* FALSE: it is no ring. One without entries is. */
static gboolean
ring_init(Ring *self, GBytes *payload)
{
    PveReader reader;
    gsize size = g_bytes_get_size(payload);

    pve_reader_init_bytes(&reader, payload);
    self->bytes = reader.bytes;
    self->size = pve_reader_u32(&reader);
    self->newest = self->at = pve_reader_u32(&reader);
    return pve_reader_ok(&reader) && self->size == size &&
           size <= CFS_CLOG_MAX_RING;
}

/* The place of the entry before the one at @at, or 0. What the newest entries
 * of a full ring have overwritten is not there any more, nor is what the next
 * one may overwrite. Entries lie one behind the other: one that reaches into
 * its successor is none, and so each byte is read at most once. */
static guint32
place_before(const Ring *self, guint32 at, guint32 prev)
{
    gboolean is_behind = prev > self->newest;

    if (prev < RING_HEAD || prev >= self->size ||
        (is_behind && prev - self->newest <= CFS_CLOG_MAX_ENTRY)) {
        return 0;
    }
    /* Once from the beginning to the end, else always downwards. */
    if (is_behind && at <= self->newest) {
        return prev;
    }
    return prev < at && is_behind == (at > self->newest) ? prev : 0;
}

/* Reads the next older entry. Returns: (owned) or NULL, with @is_damaged set
 * when there should have been one. */
static Record *
ring_next(Ring *self, gboolean *is_damaged)
{
    guint32 at = self->at;
    Entry entry;

    self->at = 0;
    if (at == 0) {
        return NULL;
    }
    if (at < RING_HEAD || at >= self->size ||
        !parse_entry(self->bytes + at, self->size - at, &entry) ||
        (self->limit != 0 && at < self->limit &&
         at + entry.size > self->limit)) {
        *is_damaged = TRUE;
        return NULL;
    }
    self->limit = at;
    self->at = place_before(self, at, entry.prev);
    return record_new(self->bytes + at, &entry);
}

/* Adds the entries of one ring to @found, newest first, as many as we keep. */
static gboolean
collect(GBytes *payload, GPtrArray *found)
{
    gboolean is_damaged = FALSE;
    gsize bytes = 0;
    Record *record;
    Ring ring = {0};

    if (payload == NULL || !ring_init(&ring, payload)) {
        return FALSE;
    }
    while (bytes <= CFS_CLOG_KEEP &&
           (record = ring_next(&ring, &is_damaged)) != NULL) {
        bytes += round_up(record->size);
        g_ptr_array_add(found, record);
    }
    return !is_damaged;
}

/* Newest first; of two that bear one name the same goes first everywhere. */
static int
compare_for_merge(gconstpointer a, gconstpointer b)
{
    const Record *x = *(Record *const *)a, *y = *(Record *const *)b;
    int order = compare_records(y, x);

    if (order == 0) {
        order = memcmp(x->bytes, y->bytes, MIN(x->size, y->size));
    }
    return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

/* How many of the sorted @found, duplicates taken out, are kept. */
static guint
choose_newest(GPtrArray *found)
{
    gsize bytes = 0;
    guint n = 0;

    for (guint i = 0; i < found->len; i++) {
        Record *record = found->pdata[i];

        if (n > 0 && is_same_record(found->pdata[n - 1], record)) {
            continue;
        }
        bytes += round_up(record->size);
        if (bytes > CFS_CLOG_KEEP) {
            break;
        }
        found->pdata[i] = found->pdata[n];
        found->pdata[n++] = record;
    }
    return n;
}

guint
cfs_clog_merge(CfsClog *self, GPtrArray *rings)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    guint n_damaged = 0, n;
    Record *record;

    for (guint i = 0; i < rings->len; i++) {
        n_damaged += !collect(rings->pdata[i], found);
    }
    g_hash_table_remove_all(self->known);
    while ((record = g_queue_pop_head(&self->records)) != NULL) {
        g_ptr_array_add(found, record);
    }
    self->bytes = 0;
    g_ptr_array_sort(found, compare_for_merge);
    n = choose_newest(found);
    while (n > 0) {
        n--;
        append(self, g_steal_pointer(&found->pdata[n]));
    }
    return n_damaged;
}

/* --- texts ---------------------------------------------------------------- */

static void
escape_byte(GString *out, guchar c)
{
    if (c == '"') {
        g_string_append(out, "\\\"");
    } else if (c < 32 || c == 127) {
        g_string_append_printf(out, "#%03d", c);
    } else {
        g_string_append_c(out, (char)c);
    }
}

char *
cfs_clog_escape(const char *message)
{
    GString *out = g_string_new(NULL);

    if (!g_utf8_validate(message, -1, NULL)) {
        for (const char *p = message; *p != '\0'; p++) {
            escape_byte(out, (guchar)*p > 127 ? '?' : (guchar)*p);
        }
        return g_string_free(out, FALSE);
    }
    for (const char *p = message; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c <= 127) {
            escape_byte(out, (guchar)c);
        } else if (c <= 0xffff) {
            g_string_append_printf(out, "\\u%04x", c);
        }
    }
    return g_string_free(out, FALSE);
}

/* The length of an escape that the origin made, 0: it is a plain backslash. */
static guint
escape_length(const char *p)
{
    if (p[1] == '"') {
        return 2;
    }
    if (p[1] != 'u') {
        return 0;
    }
    for (guint i = 2; i < 6; i++) {
        if (!g_ascii_isxdigit(p[i])) {
            return 0;
        }
    }
    return 6;
}

/* A message is escaped at its origin already, all but its backslashes. What a
 * stranger did not escape is escaped here. */
static void
append_message(GString *out, const char *message)
{
    g_string_append_c(out, '"');
    for (const char *p = message; *p != '\0'; p++) {
        guint length = *p == '\\' ? escape_length(p) : 0;

        if (length > 0) {
            g_string_append_len(out, p, length);
            p += length - 1;
        } else if (*p == '\\' || *p == '"') {
            g_string_append_c(out, '\\');
            g_string_append_c(out, *p);
        } else if ((guchar)*p < 32 || (guchar)*p >= 127) {
            g_string_append_c(out, '?');
        } else {
            g_string_append_c(out, *p);
        }
    }
    g_string_append_c(out, '"');
}

static void
append_entry(GString *out, const Entry *entry)
{
    g_string_append_printf(
        out, "{\"uid\": %u, \"time\": %u, \"pri\": %u, \"tag\": ", entry->uid,
        entry->time, entry->priority);
    cfs_json_append_string(out, entry->tag);
    g_string_append_printf(out, ", \"pid\": %u, \"node\": ", entry->pid);
    cfs_json_append_string(out, entry->node);
    g_string_append(out, ", \"user\": ");
    cfs_json_append_string(out, entry->user);
    g_string_append(out, ", \"msg\": ");
    append_message(out, entry->message);
    g_string_append_c(out, '}');
}

char *
cfs_clog_text(CfsClog *self, guint max, const char *user)
{
    GString *out = g_string_new("{\n\"data\": [\n");
    guint n = 0;
    Entry entry;

    for (GList *l = self->records.tail; l != NULL && n < max; l = l->prev) {
        const Record *record = l->data;

        if (parse_entry(record->bytes, record->size, &entry) &&
            (user == NULL || strcmp(user, entry.user) == 0)) {
            g_string_append(out, n > 0 ? ",\n" : "");
            append_entry(out, &entry);
            n++;
        }
    }
    g_string_append(out, n > 0 ? "\n]\n}\n" : "]\n}\n");
    return g_string_free(out, FALSE);
}
