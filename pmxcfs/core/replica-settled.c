#include "config.h"

#include "pmxcfs/core/replica-private.h"

/* A file is whole when its last writer has closed it and nobody changed it
 * since. The reference sends nothing at a close: so this is a message of ours,
 * which changes nothing, and what was renamed or written meanwhile is not
 * spoken of: that says more, or is not the end. */

static const CfsEntry *
find_unchanged(CfsReplica *self, const CfsSettled *file)
{
    const CfsEntry *entry = cfs_tree_get(self->tree, file->inode);

    return entry != NULL && entry->version == file->version &&
                   !cfs_entry_is_directory(entry)
               ? entry
               : NULL;
}

static void
tell(CfsReplica *self, const GArray *files, guint32 node)
{
    for (guint i = 0; i < files->len; i++) {
        const CfsEntry *entry =
            find_unchanged(self, &g_array_index(files, CfsSettled, i));
        g_autofree char *path =
            entry != NULL ? cfs_tree_path(self->tree, entry->inode) : NULL;

        if (path != NULL) {
            CfsEffect *effect = cfs_replica_emit(self, CFS_EFFECT_SETTLED);

            effect->settled.entry = cfs_entry_ref((CfsEntry *)entry);
            effect->settled.path = g_steal_pointer(&path);
            effect->settled.node = node;
        }
    }
}

/* Of this node: the others hear of what is still so, at most one message. */
void
cfs_replica_on_closed(CfsReplica *self)
{
    const GArray *all = self->event->settled;
    g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(CfsSettled));
    g_autoptr(GBytes) message = NULL;

    for (guint i = 0; i < all->len && files->len < CFS_MAX_SETTLED; i++) {
        const CfsSettled *file = &g_array_index(all, CfsSettled, i);

        if (find_unchanged(self, file) != NULL) {
            g_array_append_vals(files, file, 1);
        }
    }
    if (files->len == 0) {
        return;
    }
    if (self->mode != CFS_MODE_SYNCED || !cfs_terms_is_spoken(self->terms)) {
        tell(self, files, self->self.nodeid);
        return;
    }
    message = cfs_settled_message_encode(files, self->event->time_s);
    cfs_replica_send_bytes(self, message);
}

void
cfs_replica_on_settled(CfsReplica *self,
                       const CfsHeader *header,
                       PveReader *reader)
{
    g_autoptr(GArray) files = cfs_settled_message_decode(reader);

    if (files != NULL && self->mode == CFS_MODE_SYNCED) {
        tell(self, files, self->event->message.sender.nodeid);
    }
}
