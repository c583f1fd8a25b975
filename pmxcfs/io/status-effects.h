/* status-effects.h - the world around the status: events in, effects out.
 *
 * Gives events their time and carries out effects: messages go to the status
 * group, measurements to the archive, changes to who watches. What this node's
 * clients set goes out in the next turn of the loop, later while the group is
 * busy: the newest value of each key then goes once.
 *
 * Remembers the names of this node's keys over a restart of the daemon, so that
 * those which nobody sets again are taken back from the peers.
 *
 * Owner   the daemon.
 * Thread  the loop.
 * Source  spec/replication.md 1, 10; spec/ipc.md 1.2, 5.2.
 */
#ifndef CFS_STATUS_EFFECTS_H
#define CFS_STATUS_EFFECTS_H

#include "pmxcfs/core/status.h"
#include "pmxcfs/io/group.h"

#include <glib.h>

typedef struct CfsStatusEffects CfsStatusEffects;

/* Who wants to know. Nothing may be freed from within. */
typedef struct {
    /* @effect: of the kind CHANGED; borrowed. */
    void (*on_changed)(gpointer data, const CfsStatusEffect *effect);
    gpointer data;
} CfsStatusWatcher;

/* A measurement came: @key without `rrd/`. */
typedef void (*CfsStatusArchive)(gpointer data,
                                 const char *key,
                                 const char *value);

/* Borrows @status. Ticks from here on. */
CfsStatusEffects *cfs_status_effects_new(CfsStatus *status);
void cfs_status_effects_free(CfsStatusEffects *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsStatusEffects, cfs_status_effects_free)

void cfs_status_effects_set_watcher(CfsStatusEffects *self,
                                    const CfsStatusWatcher *watcher);
void cfs_status_effects_set_archive(CfsStatusEffects *self,
                                    CfsStatusArchive archive,
                                    gpointer data);
/* Joins the group of the status, until we are freed. */
void cfs_status_effects_join(CfsStatusEffects *self);

#endif
