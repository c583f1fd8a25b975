/* sources.h - descriptors as sources of the loop.
 *
 * Thread  that of the default main context.
 */
#ifndef PVE_SOURCES_H
#define PVE_SOURCES_H

#include <glib-unix.h>
#include <glib.h>

/* Calls @function whenever @condition holds for @fd (borrowed), as
 * g_unix_fd_add_full() does, for less: a source that is never dispatched within
 * itself need not be taken out of the poll and put back each time, with a
 * wake-up of the own loop. So @function must not run the loop. Returns: its
 * id, for g_source_remove(). */
guint pve_fd_watch(int fd,
                   GIOCondition condition,
                   int priority,
                   GUnixFDSourceFunc function,
                   gpointer data);

#endif
