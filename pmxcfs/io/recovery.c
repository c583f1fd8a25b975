#define G_LOG_DOMAIN "database"
#include "config.h"

#include "pmxcfs/io/recovery.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "pmxcfs/core/core-error.h"
#include "pmxcfs/io/dbfile.h"

#define COROSYNC_CONF "corosync.conf"
#define MAX_LOGGED 500u
/* For the log of changes and its index, and a few changes. */
#define LEAST_ROOM (64u * 1024)

/* A folder, a pipe, a device: nothing that SQLite can say much about. Links
 * are left to the opener, which refuses them. */
static gboolean
is_foreign_kind(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && !S_ISREG(st.st_mode) &&
           !S_ISLNK(st.st_mode);
}

/* Only what the file is to blame for becomes a note; the rest is an error. */
static gboolean
note_content(GPtrArray *problems, GError *failure, GError **error)
{
    if (!g_error_matches(failure, CFS_ERROR, CFS_ERROR_CONTENT)) {
        g_propagate_error(error, failure);
        return FALSE;
    }
    g_ptr_array_add(problems, g_strdup(failure->message));
    g_error_free(failure);
    return TRUE;
}

/* Only reading works: there is no room, or the disk is read-only. SQLite tells
 * of both in many ways. */
static gboolean
is_unwritable(const char *path)
{
    struct statvfs disk;

    return statvfs(path, &disk) == 0 &&
           ((disk.f_flag & ST_RDONLY) != 0 ||
            (guint64)disk.f_bavail * disk.f_frsize < LEAST_ROOM);
}

/* Returns: (owned) the rows of a file that cannot be opened to write, or NULL
 * with @failure, which said so, in @error. */
static GPtrArray *
read_unwritable(CfsRecovery *self,
                GPtrArray *problems,
                GError *failure,
                GError **error)
{
    g_autofree char *log = g_strconcat(self->path, "-wal", NULL);
    GPtrArray *rows = NULL;
    struct stat st;
    sqlite3 *db;

    /* What the attempt left behind: with it SQLite wants room even to read. */
    if (lstat(log, &st) == 0 && st.st_size == 0) {
        (void)unlink(log);
    }
    db = cfs_dbfile_open_readonly(self->path, NULL);
    if (db != NULL) {
        rows = cfs_dbfile_read(db, problems, NULL);
        (void)cfs_dbfile_read_terms(db, &self->terms, problems, NULL);
        (void)sqlite3_close(db);
    }
    if (rows == NULL || rows->len == 0) {
        g_clear_pointer(&rows, g_ptr_array_unref);
        g_propagate_error(error, failure);
        return NULL;
    }
    g_critical("%s can be read, not written: %s", self->path, failure->message);
    g_error_free(failure);
    self->is_unwritable = TRUE;
    return rows;
}

/* Returns: (owned) the rows, none where they cannot be read, or NULL. */
static GPtrArray *
read_rows(CfsRecovery *self,
          CfsStore **store,
          GPtrArray *problems,
          GError **error)
{
    g_autofree char *log = g_strconcat(self->path, "-wal", NULL);
    GError *failure = NULL;
    GPtrArray *rows;

    *store = NULL;
    if (is_foreign_kind(self->path) || is_foreign_kind(log)) {
        g_ptr_array_add(
            problems, g_strdup_printf("%s is no regular file",
                                      is_foreign_kind(log) ? log : self->path));
        return cfs_rows_new();
    }
    *store = cfs_store_open(self->path, &failure);
    if (*store == NULL && is_unwritable(self->path)) {
        return read_unwritable(self, problems, failure, error);
    }
    if (*store == NULL) {
        return note_content(problems, failure, error) ? cfs_rows_new() : NULL;
    }
    rows = cfs_store_load(*store, problems, &failure);
    if (rows == NULL) {
        g_clear_pointer(store, cfs_store_abandon);
        return note_content(problems, failure, error) ? cfs_rows_new() : NULL;
    }
    return rows;
}

static gboolean
has_row_named(GPtrArray *rows, const char *name)
{
    for (guint i = 0; i < rows->len; i++) {
        const CfsRow *row = rows->pdata[i];
        gsize size = 0;
        const char *bytes = g_bytes_get_data(row->name, &size);

        if (size == strlen(name) && memcmp(bytes, name, size) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
judge(CfsRecovery *self, GPtrArray *rows, GPtrArray *problems)
{
    self->repair = cfs_repair_rows(rows);
    self->has_saved = self->repair->entries->len > 1;
    self->has_damage = problems->len > 0 || self->repair->decisions->len > 0;
    self->may_lack_cluster =
        problems->len > 0 ||
        (self->has_damage && has_row_named(rows, COROSYNC_CONF));
    for (guint i = 0; i < problems->len; i++) {
        cfs_repair_note(self->repair, "%s", (char *)problems->pdata[i]);
    }
}

CfsRecovery *
cfs_recovery_open(const char *path, CfsStore **store, GError **error)
{
    g_autoptr(CfsRecovery) self = g_new0(CfsRecovery, 1);
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) rows = NULL;
    gboolean is_finished = FALSE;

    self->path = g_strdup(path);
    if (!cfs_dbfile_finish(path, &is_finished, error)) {
        return NULL;
    }
    if (is_finished) {
        g_message("%s: took over the file that was being put in place", path);
    }
    rows = read_rows(self, store, problems, error);
    if (rows == NULL) {
        return NULL;
    }
    if (rows->len == 0 && problems->len == 0) {
        self->is_new = TRUE;
        return g_steal_pointer(&self);
    }
    judge(self, rows, problems);
    return g_steal_pointer(&self);
}

void
cfs_recovery_free(CfsRecovery *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_pointer(&self->repair, cfs_repair_free);
    g_free(self->path);
    g_free(self);
}

void
cfs_recovery_lower(CfsRecovery *self)
{
    if (!self->has_saved) {
        /* As a new node; that loses to all that was worked with, and to what
         * another node could save. */
        cfs_repair_note(self->repair, "nothing could be saved: this node "
                                      "starts as a new one");
        return;
    }
    cfs_repair_lower(self->repair);
    cfs_repair_note(self->repair,
                    "in a cluster every other copy overrules what is left: "
                    "the tree goes on from version %u",
                    CFS_CLAIM_VERSION);
}

static gboolean
replace(CfsRecovery *self, CfsStore **store, GError **error)
{
    g_autofree char *fresh = cfs_dbfile_new_path(self->path);
    g_autofree char *keep = cfs_dbfile_aside(self->path, "corrupt");

    g_clear_pointer(store, cfs_store_abandon);
    /* What had to be repaired claims no term: any whole copy is newer. */
    if (!cfs_dbfile_write(fresh, self->repair->entries, NULL, error) ||
        !cfs_dbfile_install(self->path, keep, error)) {
        return FALSE;
    }
    g_warning("%s had to be repaired; what was there is %s", self->path, keep);
    *store = cfs_store_open(self->path, error);
    return *store != NULL;
}

gboolean
cfs_recovery_finish(CfsRecovery *self, CfsStore **store, GError **error)
{
    GPtrArray *decisions = self->repair->decisions;

    if (self->is_unwritable) {
        /* It writes what is in memory once there is room. */
        *store = cfs_store_new_unwritable(self->path, decisions->len > 0);
        /* What had to be repaired claims no term. */
        if (decisions->len == 0) {
            cfs_store_set_terms(*store, &self->terms);
        }
    }
    if (decisions->len == 0) {
        return TRUE;
    }
    for (guint i = 0; i < MIN(decisions->len, MAX_LOGGED); i++) {
        g_warning("%s", (char *)decisions->pdata[i]);
    }
    if (decisions->len > MAX_LOGGED) {
        g_warning("and %u more: pmxcfs-db check tells all",
                  decisions->len - MAX_LOGGED);
    }
    return self->is_unwritable || replace(self, store, error);
}
