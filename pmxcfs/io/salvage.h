/* salvage.h - keeps what a merge overruled.
 *
 * When another copy of the tree takes the place of ours, what ours had is kept
 * beside the database, in a folder named by the time:
 *
 *   recovery/2026-01-31T12-00-00Z/config.db      our whole copy as it was
 *   recovery/2026-01-31T12-00-00Z/tree/PATH      what the other one overruled
 *
 * The last CFS_SALVAGE_DATABASES copies and CFS_SALVAGE_FOLDERS folders stay.
 * It is written by a thread of its own, as the disk may be slow, full or hang:
 * then that is said, and nothing waits for it.
 *
 * Owner   the daemon.
 * Errors  in the log: what could not be kept, and why.
 * Thread  the loop; its thread gets immutable entries, and answers on the loop.
 * Source  spec/replication.md 7.6 (Better); DESIGN.md 2.
 */
#ifndef CFS_SALVAGE_H
#define CFS_SALVAGE_H

#include "pmxcfs/core/replica.h"

#define CFS_SALVAGE_DATABASES 5u
#define CFS_SALVAGE_FOLDERS 50u

typedef struct CfsSalvage CfsSalvage;

/* What there is to say to all nodes, on the loop. */
typedef void (*CfsSalvageSays)(gpointer data, const char *text);

CfsSalvage *
cfs_salvage_new(const char *folder, CfsSalvageSays says, gpointer data);
/* Waits for what is being written, for some seconds. NULL is fine. */
void cfs_salvage_free(CfsSalvage *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsSalvage, cfs_salvage_free)

/* @whole: of CfsEntry, the copy as it was; @overruled: of CfsOverruled. Shares
 * both. */
void cfs_salvage_keep(CfsSalvage *self,
                      GPtrArray *whole,
                      GPtrArray *overruled,
                      CfsMember leader);

#endif
