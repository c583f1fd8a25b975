#include "config.h"

#include "pmxcfs/core/dirlock.h"

#include <string.h>

#define LOCK_DIR "priv/lock"
/* As many times are saved, and as many requests noted; there are a handful. */
#define MAX_SAVED 10000u
#define MAX_EXPECTED 1000u

typedef struct {
    guint8 checksum[CFS_DIGEST_SIZE];
    gint64 since_ms;
} Lock;

typedef struct {
    CfsOp *request;
    gint64 deadline_ms;
} Expected;

struct CfsDirlock {
    GHashTable *locks; /* path -> Lock */
    GQueue expected;   /* of Expected, by deadline */
    gboolean is_changed;
};

static void
expected_free(gpointer data)
{
    Expected *self = data;

    cfs_op_free(self->request);
    g_free(self);
}

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
    cfs_dirlock_forget_expected(self);
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
    self->is_changed = TRUE;
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
    self->is_changed = TRUE;
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

/* --- the grace ------------------------------------------------------------ */

static gboolean
is_expected(CfsDirlock *self, const CfsOp *request)
{
    for (GList *l = self->expected.head; l != NULL; l = l->next) {
        const CfsOp *other = ((const Expected *)l->data)->request;

        if (strcmp(other->path, request->path) == 0 &&
            memcmp(other->checksum, request->checksum, CFS_DIGEST_SIZE) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

void
cfs_dirlock_expect_removal(CfsDirlock *self,
                           const CfsOp *request,
                           gint64 clock_ms)
{
    Expected *expected;

    if (self->expected.length >= MAX_EXPECTED || is_expected(self, request)) {
        return;
    }
    expected = g_new0(Expected, 1);
    expected->request = cfs_op_copy(request);
    expected->deadline_ms = clock_ms + CFS_LOCK_GRACE_MS;
    g_queue_push_tail(&self->expected, expected);
}

CfsOp *
cfs_dirlock_take_overdue(CfsDirlock *self, gint64 clock_ms)
{
    Expected *first = g_queue_peek_head(&self->expected);
    CfsOp *request;

    if (first == NULL || first->deadline_ms > clock_ms) {
        return NULL;
    }
    request = g_steal_pointer(&first->request);
    expected_free(g_queue_pop_head(&self->expected));
    return request;
}

void
cfs_dirlock_forget_expected(CfsDirlock *self)
{
    g_queue_clear_full(&self->expected, expected_free);
}

/* --- over a restart ------------------------------------------------------- */

static void
append_digest(GString *out, const guint8 *digest)
{
    for (guint i = 0; i < CFS_DIGEST_SIZE; i++) {
        g_string_append_printf(out, "%02x", digest[i]);
    }
}

static gboolean
parse_digest(const char *text, guint8 *digest)
{
    if (strlen(text) != 2 * (gsize)CFS_DIGEST_SIZE) {
        return FALSE;
    }
    for (guint i = 0; i < CFS_DIGEST_SIZE; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]);
        int low = g_ascii_xdigit_value(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return FALSE;
        }
        digest[i] = (guint8)(high << 4 | low);
    }
    return TRUE;
}

/* A line each: time, checksum, path. */
char *
cfs_dirlock_save(CfsDirlock *self)
{
    GString *out;
    GHashTableIter iter;
    gpointer path, value;
    guint n = 0;

    if (!self->is_changed) {
        return NULL;
    }
    self->is_changed = FALSE;
    out = g_string_new(NULL);
    g_hash_table_iter_init(&iter, self->locks);
    while (n++ < MAX_SAVED && g_hash_table_iter_next(&iter, &path, &value)) {
        const Lock *lock = value;
        g_autofree char *escaped = g_uri_escape_bytes(path, strlen(path), "/");

        g_string_append_printf(out, "%" G_GINT64_FORMAT " ", lock->since_ms);
        append_digest(out, lock->checksum);
        g_string_append_printf(out, " %s\n", escaped);
    }
    return g_string_free(out, FALSE);
}

static void
restore_line(CfsDirlock *self, const char *line, gint64 clock_ms)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 3);
    g_autoptr(GBytes) path = NULL;
    g_autofree Lock *lock = g_new0(Lock, 1);
    gsize size = 0;
    const char *bytes;

    if (g_strv_length(words) != 3 ||
        !g_ascii_string_to_signed(words[0], 10, 0, clock_ms, &lock->since_ms,
                                  NULL) ||
        !parse_digest(words[1], lock->checksum)) {
        return;
    }
    path = g_uri_unescape_bytes(words[2], -1, NULL, NULL);
    if (path != NULL) {
        bytes = g_bytes_get_data(path, &size);
        g_hash_table_replace(self->locks, g_strndup(bytes, size),
                             g_steal_pointer(&lock));
    }
}

void
cfs_dirlock_restore(CfsDirlock *self, const char *text, gint64 clock_ms)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", (int)MAX_SAVED + 1);

    for (guint i = 0; lines[i] != NULL && i < MAX_SAVED; i++) {
        restore_line(self, lines[i], clock_ms);
    }
}
