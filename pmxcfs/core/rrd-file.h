/* rrd-file.h - which file a measurement belongs to, and how it is written.
 *
 * Senders of all versions are put into the files of one: what theirs lack is
 * unknown, what they have more is dropped. Keys and values come from peers and
 * end up in paths and in a protocol of lines: nothing passes but what cannot
 * mean something else there.
 *
 * Owner   the caller.
 * Units   seconds since the epoch, as the value carries them.
 * Thread  any.
 * Source  spec/ipc.md 6; rrdcreate(1).
 */
#ifndef CFS_RRD_FILE_H
#define CFS_RRD_FILE_H

#include <glib.h>

typedef enum {
    CFS_RRD_NODE,
    CFS_RRD_GUEST,
    CFS_RRD_STORAGE,
} CfsRrdKind;

#define CFS_RRD_N_KINDS 3u
#define CFS_RRD_STEP_S 60u

typedef struct {
    CfsRrdKind kind;
    char *path;   /* owned; relative: `pve-node-9.0/NODE` */
    char *values; /* owned; TIME:VALUE:... as rrdupdate(1) takes them */
} CfsRrdUpdate;

/* @key: without `rrd/`. Returns: (owned) or NULL: no measurement we know. */
CfsRrdUpdate *cfs_rrd_update_new(const char *key, const char *value);
void cfs_rrd_update_free(CfsRrdUpdate *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsRrdUpdate, cfs_rrd_update_free)

/* Returns: (owned) data sources and archives of a file, as rrdcreate(1) takes
 * them, between blanks. */
char *cfs_rrd_definition(CfsRrdKind kind);
/* The directory of a kind, relative. Senders look whether it is there. */
const char *cfs_rrd_directory(CfsRrdKind kind);

#endif
