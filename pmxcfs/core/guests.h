/* guests.h - which guest lives where, derived from the tree.
 *
 * One id may exist once in the cluster. The registry decides verdicts, so it
 * evolves by the same rules on every member (spec/filesystem.md 7,
 * spec/replication.md 5.1). The versions are local to this run.
 *
 * Owner   the tree.
 * Thread  the loop.
 */
#ifndef CFS_GUESTS_H
#define CFS_GUESTS_H

#include "common/names.h"

#include <glib.h>

typedef struct CfsGuests CfsGuests;

typedef struct {
    guint32 id;
    PveGuestType type;
    const char *node; /* borrowed */
    guint32 version;
} CfsGuest;

CfsGuests *cfs_guests_new(void);
void cfs_guests_free(CfsGuests *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsGuests, cfs_guests_free)

/* TRUE when @path's id is registered with another node or type. */
gboolean cfs_guests_is_foreign(CfsGuests *self, const PveGuestPath *path);
/* Registers, or registers anew with the next version. */
void cfs_guests_put(CfsGuests *self, const PveGuestPath *path);
void cfs_guests_drop(CfsGuests *self, guint32 id);
/* @self was rebuilt from a whole tree: its versions go on counting where those
 * of @from (nullable) were; the list's is one more when @bump. */
void cfs_guests_continue(CfsGuests *self, CfsGuests *from, gboolean bump);
/* TRUE when the id is registered; @path gets where. */
gboolean cfs_guests_find(CfsGuests *self, guint32 id, PveGuestPath *path);
guint32 cfs_guests_version(CfsGuests *self);
/* 0: it is not registered. */
guint32 cfs_guests_version_of(CfsGuests *self, guint32 id);
/* Of two CfsGuest by id, for g_array_sort(). */
int cfs_guest_compare(gconstpointer a, gconstpointer b);
/* Returns: (owned array of CfsGuest) ascending by id. */
GArray *cfs_guests_list(CfsGuests *self);

#endif
