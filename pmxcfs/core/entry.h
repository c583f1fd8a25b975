/* entry.h - one file or directory as it was at one version.
 *
 * Entries never change once made: tree, store, replies and state transfer
 * share them by reference, across threads. Only the digest is filled in when
 * it is first asked for: so a synchronisation costs what changed since the
 * last, not the whole tree.
 *
 * Owner   reference counted; cfs_entry_unref() by the last.
 * Units   bytes; whole seconds since the epoch.
 * Thread  any; cfs_entry_digest() and cfs_entry_match() the owner's of the
 *         tree.
 * Source  spec/filesystem.md 2.1, 3; spec/replication.md 3.1, 6.
 */
#ifndef CFS_ENTRY_H
#define CFS_ENTRY_H

#include "common/wire.h"
#include "pmxcfs/core/op.h"

#include <glib.h>

enum {
    CFS_TYPE_DIRECTORY = 4,
    CFS_TYPE_FILE = 8,
};

#define CFS_ROOT_INODE 0u
#define CFS_MAX_FILE_BYTES 1048576u
#define CFS_MAX_TREE_BYTES 134217728u
#define CFS_MAX_ENTRIES 262144u

/* The root of a tree that was repaired and must lose to every other copy. A
 * new database has version 1, or 3 with the host's corosync.conf in it; what
 * was ever worked with has more, or as much and a time. */
#define CFS_CLAIM_VERSION 4u
#define CFS_CLAIM_NOTHING 1u /* there is nothing in it */
#define CFS_CLAIM_WRITER 0u
#define CFS_CLAIM_MTIME 0u

typedef struct {
    gatomicrefcount refs; /* private, as are the next two */
    gboolean has_digest;
    guint8 digest[CFS_DIGEST_SIZE];
    guint64 inode; /* 0: the root, which stands for the whole tree */
    guint64 parent;
    guint64 version;
    guint32 writer;
    guint32 mtime;
    guint32 size;
    guint8 type;
    char *name;   /* "" for the root */
    GBytes *data; /* NULL: a directory, an empty file, or one of zeros that the
                     protocol made without content (spec/replication.md 5.3) */
} CfsEntry;

/* The fields to change in a copy; everything else stays. */
CfsEntry *cfs_entry_new(guint64 inode,
                        guint64 parent,
                        guint64 version,
                        guint32 writer,
                        guint32 mtime,
                        guint8 type,
                        const char *name,
                        GBytes *data /* (nullable) shared */);
/* As cfs_entry_new() with the size given: for entries without content. */
CfsEntry *cfs_entry_new_sized(guint64 inode,
                              guint64 parent,
                              guint64 version,
                              guint32 writer,
                              guint32 mtime,
                              guint32 size,
                              guint8 type,
                              const char *name,
                              GBytes *data);
CfsEntry *cfs_entry_ref(CfsEntry *self);
void cfs_entry_unref(CfsEntry *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsEntry, cfs_entry_unref)

static inline gboolean
cfs_entry_is_directory(const CfsEntry *self)
{
    return self->type == CFS_TYPE_DIRECTORY;
}

/* A size without content (spec/replication.md 5.3, 12.1). */
static inline gboolean
cfs_entry_is_phantom(const CfsEntry *self)
{
    return self->size > 0 && self->data == NULL;
}

/* Copies up to @size bytes from @offset into @out; a file without content
 * reads as zeros. Returns the number of bytes, 0 at or behind the end. */
gsize
cfs_entry_read(const CfsEntry *self, guint64 offset, gsize size, guint8 *out);

/* SHA-256 as in an index (the inode is not in it). */
void cfs_entry_digest(CfsEntry *self, guint8 out[CFS_DIGEST_SIZE]);
/* Makes the digest ready. Returns: the bytes it had to hash, 0: none. */
gsize cfs_entry_hash(CfsEntry *self);
/* It is made anew when it is asked for: it may not be what the entry has. */
void cfs_entry_forget_digest(CfsEntry *self);
/* SHA-256 with the inode in front: locks (spec/replication.md 6.2). */
void cfs_entry_checksum(const CfsEntry *self, guint8 out[CFS_DIGEST_SIZE]);
/* Feeds the form of cfs_entry_checksum() to a running sum. */
void cfs_entry_update_checksum(const CfsEntry *self, GChecksum *sum);

/* The payload of UPDATE. */
guint cfs_entry_encoded_size(const CfsEntry *self);
void cfs_entry_encode(const CfsEntry *self, GByteArray *out);
/* Returns: (owned) the entry, or NULL when malformed. */
CfsEntry *cfs_entry_decode(PveReader *reader);
/* Returns: (owned) the entry of that digest: @self, or, where @self came as
 * zeros, the same with a size and no content. NULL: neither has it. */
CfsEntry *cfs_entry_match(CfsEntry *self, const guint8 digest[CFS_DIGEST_SIZE]);

#endif
