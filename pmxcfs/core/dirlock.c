#include "config.h"

#include "pmxcfs/core/dirlock.h"

#include <string.h>

#define LOCK_DIR "priv/lock"

typedef struct {
    guint8 checksum[CFS_DIGEST_SIZE];
    gint64 since_ms;
} Lock;

struct CfsDirlock {
    GHashTable *locks; /* path -> Lock */
};

CfsDirlock *
cfs_dirlock_new(void)
{
    CfsDirlock *self = g_new0(CfsDirlock, 1);

    self->locks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
cfs_dirlock_free(CfsDirlock *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->locks);
    g_free(self);
}

gboolean
cfs_dirlock_is_lock(const char *path)
{
    return g_str_has_prefix(path, LOCK_DIR "/") &&
           strchr(path + strlen(LOCK_DIR "/"), '/') == NULL;
}

/* Returns: (borrowed) the lock, its time begun now when it is not the one we
 * know. */
static Lock *
watch(GHashTable *locks,
      const Lock *known,
      const char *path,
      const CfsEntry *entry,
      gint64 clock_ms)
{
    Lock *lock = g_new0(Lock, 1);

    cfs_entry_checksum(entry, lock->checksum);
    lock->since_ms = clock_ms;
    if (known != NULL &&
        memcmp(known->checksum, lock->checksum, sizeof(lock->checksum)) == 0) {
        lock->since_ms = known->since_ms;
    }
    g_hash_table_replace(locks, g_strdup(path), lock);
    return lock;
}

void
cfs_dirlock_reload(CfsDirlock *self, CfsTree *tree, gint64 clock_ms)
{
    GHashTable *next =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    const CfsEntry *folder = cfs_tree_lookup(tree, LOCK_DIR);
    g_autoptr(GPtrArray) entries =
        folder != NULL ? cfs_tree_children(tree, folder->inode) : NULL;

    for (guint i = 0; entries != NULL && i < entries->len; i++) {
        const CfsEntry *entry = g_ptr_array_index(entries, i);
        g_autofree char *path = g_strconcat(LOCK_DIR "/", entry->name, NULL);

        if (cfs_entry_is_directory(entry)) {
            watch(next, g_hash_table_lookup(self->locks, path), path, entry,
                  clock_ms);
        }
    }
    g_hash_table_unref(self->locks);
    self->locks = next;
}

void
cfs_dirlock_on_change(CfsDirlock *self,
                      const CfsChange *change,
                      gint64 clock_ms)
{
    const char *path =
        change->new_path != NULL ? change->new_path : change->path;

    if (!g_str_has_prefix(path, LOCK_DIR "/")) {
        return;
    }
    if (change->after == NULL) {
        g_hash_table_remove(self->locks, path);
    } else if (cfs_entry_is_directory(change->after) &&
               cfs_dirlock_is_lock(path)) {
        watch(self->locks, g_hash_table_lookup(self->locks, path), path,
              change->after, clock_ms);
    }
}

gboolean
cfs_dirlock_is_expired(CfsDirlock *self,
                       const char *path,
                       const CfsEntry *entry,
                       gint64 clock_ms)
{
    const Lock *lock =
        watch(self->locks, g_hash_table_lookup(self->locks, path), path, entry,
              clock_ms);

    return clock_ms - lock->since_ms > CFS_LOCK_TIMEOUT_MS;
}
