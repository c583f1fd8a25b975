/* wire.h - bytes in and out, with bounds.
 *
 * A reader is a cursor over borrowed bytes that knows what is left. The first
 * read past the end sets its error flag; from then on every read gives zeros
 * or NULL, so a parser reads all fields and asks pve_reader_ok() once. All
 * integers are little-endian (spec/replication.md, Notation).
 *
 * Owner   the caller; a reader lives on the stack and borrows its bytes.
 * Units   bytes.
 * Errors  the flag, see pve_reader_ok().
 * Thread  any; one thread per reader or writer.
 */
#ifndef PVE_WIRE_H
#define PVE_WIRE_H

#include <glib.h>

typedef struct {
    const guint8 *bytes; /* borrowed */
    gsize size;
    gsize offset;
    gboolean failed;
} PveReader;

void pve_reader_init(PveReader *self, gconstpointer bytes, gsize size);
void pve_reader_init_bytes(PveReader *self, GBytes *bytes);
gboolean pve_reader_ok(const PveReader *self);
/* TRUE when nothing failed and every byte was read. */
gboolean pve_reader_done(const PveReader *self);
gsize pve_reader_left(const PveReader *self);
guint8 pve_reader_u8(PveReader *self);
guint16 pve_reader_u16(PveReader *self);
guint32 pve_reader_u32(PveReader *self);
guint64 pve_reader_u64(PveReader *self);
/* Returns: (borrowed until the bytes go) the next @size bytes, or NULL with
 * the error flag set. A @size of 0 gives a valid pointer. */
const guint8 *pve_reader_take(PveReader *self, gsize size);
/* The next @size bytes must be a string whose last byte is NUL and which has
 * no other NUL. Returns: (borrowed) it, or NULL with the error flag set. */
const char *pve_reader_string(PveReader *self, gsize size);

/* A writer is a GByteArray. */
void pve_write_u8(GByteArray *out, guint8 value);
void pve_write_u16(GByteArray *out, guint16 value);
void pve_write_u32(GByteArray *out, guint32 value);
void pve_write_u64(GByteArray *out, guint64 value);
void pve_write_bytes(GByteArray *out, gconstpointer bytes, gsize size);
/* The string and its NUL. */
void pve_write_string(GByteArray *out, const char *text);

#endif
