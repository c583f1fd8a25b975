#include "config.h"

#include "common/wire.h"

#include <string.h>

void
pve_reader_init(PveReader *self, gconstpointer bytes, gsize size)
{
    /* A GBytes of size 0 has NULL data; take(0) must still give a pointer. */
    self->bytes = bytes != NULL ? bytes : (const guint8 *)"";
    self->size = size;
    self->offset = 0;
    self->failed = FALSE;
}

void
pve_reader_init_bytes(PveReader *self, GBytes *bytes)
{
    gsize size = 0;
    gconstpointer data = g_bytes_get_data(bytes, &size);

    pve_reader_init(self, data, size);
}

gboolean
pve_reader_ok(const PveReader *self)
{
    return !self->failed;
}

gboolean
pve_reader_done(const PveReader *self)
{
    return !self->failed && self->offset == self->size;
}

gsize
pve_reader_left(const PveReader *self)
{
    return self->failed ? 0 : self->size - self->offset;
}

const guint8 *
pve_reader_take(PveReader *self, gsize size)
{
    const guint8 *here = self->bytes + self->offset;

    if (self->failed || size > self->size - self->offset) {
        self->failed = TRUE;
        return NULL;
    }
    self->offset += size;
    return here;
}

guint8
pve_reader_u8(PveReader *self)
{
    const guint8 *p = pve_reader_take(self, 1);

    return p != NULL ? p[0] : 0;
}

guint16
pve_reader_u16(PveReader *self)
{
    const guint8 *p = pve_reader_take(self, 2);
    guint16 value = 0;

    if (p != NULL) {
        memcpy(&value, p, sizeof(value));
    }
    return GUINT16_FROM_LE(value);
}

guint32
pve_reader_u32(PveReader *self)
{
    const guint8 *p = pve_reader_take(self, 4);
    guint32 value = 0;

    if (p != NULL) {
        memcpy(&value, p, sizeof(value));
    }
    return GUINT32_FROM_LE(value);
}

guint64
pve_reader_u64(PveReader *self)
{
    const guint8 *p = pve_reader_take(self, 8);
    guint64 value = 0;

    if (p != NULL) {
        memcpy(&value, p, sizeof(value));
    }
    return GUINT64_FROM_LE(value);
}

const char *
pve_reader_string(PveReader *self, gsize size)
{
    const guint8 *p = pve_reader_take(self, size);

    if (p == NULL || size == 0 || memchr(p, 0, size) != p + size - 1) {
        self->failed = TRUE;
        return NULL;
    }
    return (const char *)p;
}

void
pve_write_u8(GByteArray *out, guint8 value)
{
    g_byte_array_append(out, &value, 1);
}

void
pve_write_u16(GByteArray *out, guint16 value)
{
    guint16 le = GUINT16_TO_LE(value);

    g_byte_array_append(out, (const guint8 *)&le, sizeof(le));
}

void
pve_write_u32(GByteArray *out, guint32 value)
{
    guint32 le = GUINT32_TO_LE(value);

    g_byte_array_append(out, (const guint8 *)&le, sizeof(le));
}

void
pve_write_u64(GByteArray *out, guint64 value)
{
    guint64 le = GUINT64_TO_LE(value);

    g_byte_array_append(out, (const guint8 *)&le, sizeof(le));
}

void
pve_write_bytes(GByteArray *out, gconstpointer bytes, gsize size)
{
    if (size > 0) {
        g_byte_array_append(out, bytes, (guint)size);
    }
}

void
pve_write_string(GByteArray *out, const char *text)
{
    pve_write_bytes(out, text, strlen(text) + 1);
}
