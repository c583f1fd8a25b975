#include "config.h"

#include "pmxcfs/core/clog.h"

#include "common/wire.h"
#include "pmxcfs/core/json-text.h"

#include <string.h>

/* The ring begins with its size and the place of the newest entry. */
#define RING_HEAD 8u
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

/* The newest entry of a node. */
typedef struct {
    guint64 node_digest;
    guint32 time;
    guint32 uid;
} Newest;

struct CfsClog {
    char *node_name;
    guint32 last_uid;
    guint32 last_time; /* of our own: a clock set back loses no entry */
    guint8 *ring;      /* CFS_CLOG_SIZE bytes */
    guint32 newest_at;
    GHashTable *newest; /* node digest -> Newest */
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

static guint32
round_up(gsize size)
{
    return (guint32)((size + 7) & ~(gsize)7);
}

CfsClog *
cfs_clog_new(const char *node_name)
{
    CfsClog *self = g_new0(CfsClog, 1);

    self->node_name = g_strndup(node_name, MAX_STRING - 1);
    self->ring = g_malloc0(CFS_CLOG_SIZE);
    self->newest =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return self;
}

void
cfs_clog_free(CfsClog *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->node_name);
    g_free(self->ring);
    g_hash_table_unref(self->newest);
    g_free(self);
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
    pve_write_u64(out, digest_of(self->node_name));
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

/* --- the ring ------------------------------------------------------------- */

static void
put_u32(guint8 *at, guint32 value)
{
    guint32 little = GUINT32_TO_LE(value);

    memcpy(at, &little, sizeof(little));
}

static gboolean
entry_at(CfsClog *self, guint32 at, Entry *entry)
{
    return at >= RING_HEAD && at < CFS_CLOG_SIZE &&
           parse_entry(self->ring + at, CFS_CLOG_SIZE - at, entry);
}

static void
append(CfsClog *self, const guint8 *bytes, gsize size)
{
    guint32 at = RING_HEAD;
    Entry newest;

    if (entry_at(self, self->newest_at, &newest)) {
        at = newest.next;
    }
    if (at < RING_HEAD || at + round_up(size) >= CFS_CLOG_SIZE) {
        at = RING_HEAD;
    }
    memcpy(self->ring + at, bytes, size);
    put_u32(self->ring + at, self->newest_at);
    put_u32(self->ring + at + 4, at + round_up(size));
    self->newest_at = at;
    put_u32(self->ring, CFS_CLOG_SIZE);
    put_u32(self->ring + 4, at);
}

/* The place of the entry before the one at @at, or 0. What the newest entries
 * have overwritten is not there any more; nor is what the next one may. */
static guint32
place_before(const CfsClog *self, guint32 at, const Entry *entry)
{
    guint32 newest = self->newest_at, prev = entry->prev;

    if (prev > newest) {
        gboolean is_behind = prev > newest + CFS_CLOG_MAX_ENTRY;

        return is_behind && (at <= newest || prev < at) ? prev : 0;
    }
    return at <= newest && prev < at ? prev : 0;
}

/* FALSE: we have it, or a later one. */
static gboolean
is_news(CfsClog *self, const Entry *entry)
{
    Newest *known = g_hash_table_lookup(self->newest, &entry->node_digest);

    if (known != NULL &&
        (entry->time < known->time ||
         (entry->time == known->time && entry->uid <= known->uid))) {
        return FALSE;
    }
    if (known == NULL) {
        known = g_new0(Newest, 1);
        known->node_digest = entry->node_digest;
        g_hash_table_insert(self->newest, &known->node_digest, known);
    }
    known->time = entry->time;
    known->uid = entry->uid;
    return TRUE;
}

gboolean
cfs_clog_insert(CfsClog *self, GBytes *payload)
{
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(payload, &size);
    Entry entry;

    if (size > CFS_CLOG_MAX_ENTRY || !parse_entry(bytes, size, &entry) ||
        entry.size != size || !is_news(self, &entry)) {
        return FALSE;
    }
    append(self, bytes, size);
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

GBytes *
cfs_clog_ring(CfsClog *self)
{
    put_u32(self->ring, CFS_CLOG_SIZE);
    return g_bytes_new(self->ring, CFS_CLOG_SIZE);
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
    guint32 at = self->newest_at;
    guint n = 0;
    Entry entry;

    while (n < max && entry_at(self, at, &entry)) {
        if (user == NULL || strcmp(user, entry.user) == 0) {
            g_string_append(out, n > 0 ? ",\n" : "");
            append_entry(out, &entry);
            n++;
        }
        at = place_before(self, at, &entry);
    }
    g_string_append(out, n > 0 ? "\n]\n}\n" : "]\n}\n");
    return g_string_free(out, FALSE);
}
