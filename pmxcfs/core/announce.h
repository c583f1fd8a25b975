/* announce.h - what watchers are told, which may be behind what is.
 *
 * A watcher that is told of a change goes and looks. Its look must not be
 * answered from a cache of the kernel that still has what was before, so the
 * counters and the guests of one change, a step, are shown only when the
 * caches have let go of it and of all before.
 *
 * Owner   the views.
 * Thread  the loop.
 * Source  DESIGN.md 2, promise 2.
 */
#ifndef CFS_ANNOUNCE_H
#define CFS_ANNOUNCE_H

#include "pmxcfs/core/guests.h"

#include <glib.h>

typedef struct CfsAnnounce CfsAnnounce;

/* Shows what is there now; @counters: of @n. */
CfsAnnounce *
cfs_announce_new(const guint32 *counters, guint n, CfsGuests *guests);
void cfs_announce_free(CfsAnnounce *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsAnnounce, cfs_announce_free)

/* What the step being put together touched. */
void cfs_announce_counter(CfsAnnounce *self, guint counter, guint32 value);
void cfs_announce_guest(CfsAnnounce *self, guint32 id);
void cfs_announce_all_guests(CfsAnnounce *self);
/* Ends the step: guests are taken as they are in @guests now. Returns: its
 * number, or 0 when it touched nothing. */
guint64 cfs_announce_end_step(CfsAnnounce *self, CfsGuests *guests);
/* Watchers may be told of all steps up to this. */
void cfs_announce_release(CfsAnnounce *self, guint64 step);

/* What is shown. */
guint32 cfs_announce_value(CfsAnnounce *self, guint counter);
guint32 cfs_announce_list_version(CfsAnnounce *self);
/* Returns: (owned array of CfsGuest) ascending by id; the nodes are borrowed
 * until the next release. */
GArray *cfs_announce_list(CfsAnnounce *self);

#endif
