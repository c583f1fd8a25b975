/* migrate.h - the steps of a migration by `mv` (DESIGN.md 3).
 *
 *     owner                               holder
 *     offer: checks, lxc-incoming/CTID
 *                                         migrate-out: ask, stop, copy
 *     receive (by ssh): into .transfer-ID
 *                                         look again, note, rename the record
 *     accept: .transfer-ID to its place
 *     start                               clean: delete what was handed over
 *
 * Volumes arrive under the transfer's name and get their own only when the
 * record has come: what is not handed over can be thrown away, what is
 * cannot be mistaken for something else. Before the holder renames the record
 * it leaves a note, /var/lib/lxc/CTID/departed, which says what to delete once
 * another node's record says that it has accepted: a holder or receiver that
 * dies anywhere leaves two copies, never none.
 *
 * Owner   the caller holds the container's step lock, except in receive.
 * Errors  GError, one line for people.
 * Thread  one; everything here blocks, some of it for hours.
 * Source  DESIGN.md 3, spec/storage.md 11.
 */
#ifndef AGENT_MIGRATE_H
#define AGENT_MIGRATE_H

#include <glib.h>

#define AGENT_MIGRATE_ERROR (agent_migrate_error_quark())
GQuark agent_migrate_error_quark(void);

typedef enum {
    AGENT_MIGRATE_ERROR_REFUSED, /* it cannot be moved as it is */
    AGENT_MIGRATE_ERROR_COPY,    /* the transfer broke */
    AGENT_MIGRATE_ERROR_CHANGED, /* the world changed meanwhile: look again */
} AgentMigrateError;

/* The owner: can it run here? Then it is invited. */
gboolean agent_migrate_offer(guint32 ctid, GError **error);
/* The owner: the invitation is over; removes what came half. */
gboolean agent_migrate_drop_offer(guint32 ctid, GError **error);
/* The owner, called by the holder over ssh: one volume from @input. */
gboolean agent_migrate_receive(guint32 ctid,
                               const char *transfer,
                               int input,
                               GError **error);
/* The owner: the record came; puts the volumes in their place. Does nothing
 * when no transfer is under way. */
gboolean agent_migrate_accept(guint32 ctid, GError **error);
/* The holder. */
gboolean agent_migrate_out(guint32 ctid, GError **error);
/* The former holder: deletes what the note says. */
gboolean agent_migrate_clean(guint32 ctid, GError **error);

#endif
