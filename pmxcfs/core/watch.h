/* watch.h - what happened last, for those who want to hear of it.
 *
 * A ring of events, each with the next sequence number and in the bytes of
 * common/ipc-proto.h. A watcher is a filter and a place in the ring; who falls
 * behind the oldest event is told that some are lost, and goes on from now.
 * So a slow watcher costs nothing but its place.
 *
 * Events of one change come in the order of the tree's changes. A read-only
 * watcher hears nothing of private paths: one renamed to or from there appears
 * or goes for it.
 *
 * Owner   the socket server.
 * Units   bytes; sequence numbers begin at 1 with each start of the daemon.
 * Thread  the loop.
 * Source  docs/ipc.md.
 */
#ifndef CFS_WATCH_H
#define CFS_WATCH_H

#include "common/ipc-proto.h"
#include "pmxcfs/core/replica.h"

#include <glib.h>

typedef struct CfsWatch CfsWatch;
typedef struct CfsWatcher CfsWatcher;

/* @instance: differs from that of every start before. @max_events, @max_bytes:
 * of the ring. */
CfsWatch *cfs_watch_new(guint64 instance, guint max_events, gsize max_bytes);
void cfs_watch_free(CfsWatch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsWatch, cfs_watch_free)

guint64 cfs_watch_instance(CfsWatch *self);
guint64 cfs_watch_last(CfsWatch *self); /* 0: nothing yet */

/* What one CFS_EFFECT_CHANGED says. @flags: SYNCED and QUORATE. */
void
cfs_watch_on_changed(CfsWatch *self, const CfsEffect *effect, guint16 flags);
/* A file's last writer, on @node, closed it. */
void cfs_watch_on_settled(CfsWatch *self,
                          const CfsEntry *entry,
                          const char *path,
                          guint32 node,
                          guint64 version,
                          guint16 flags);
/* Any other kind. @path, @other: nullable. */
void cfs_watch_note(CfsWatch *self,
                    PveEventKind kind,
                    guint64 version,
                    guint32 value,
                    const char *path,
                    const char *other);

/* @kinds: of PVE_EVENT_BIT(); LOST comes always. @prefixes (takes, of char *):
 * a tree event counts when its path is one of them or below; "": all. Begins
 * now. */
CfsWatcher *cfs_watcher_new(CfsWatch *watch,
                            guint32 kinds,
                            GPtrArray *prefixes,
                            gboolean is_read_only);
void cfs_watcher_free(CfsWatcher *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsWatcher, cfs_watcher_free)
/* Goes on behind event @sequence of @instance. FALSE: that is not known any
 * more, it begins now. */
gboolean cfs_watcher_seek(CfsWatcher *self, guint64 instance, guint64 sequence);
/* Appends whole records to @out, of up to @max bytes, that come next. Returns:
 * the place behind them, for cfs_watcher_move(); 0: there is nothing. Events
 * that the filter holds back are passed. */
guint64 cfs_watcher_next(CfsWatcher *self, GByteArray *out, gsize max);
void cfs_watcher_move(CfsWatcher *self, guint64 place);
/* From one place both get the same. */
gboolean cfs_watcher_is_like(const CfsWatcher *a, const CfsWatcher *b);
guint64 cfs_watcher_place(const CfsWatcher *self);

#endif
