#define G_LOG_DOMAIN "database"
#include "config.h"

#include "pmxcfs/io/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"
#include "common/sources.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/io/dbfile.h"
#include "pmxcfs/io/priorities.h"

#define BUSY_TIMEOUT_MS 10000
/* Whoever stops us kills us after 10 s. */
#define CLOSE_BUSY_TIMEOUT_MS 2000
#define RETRY_US G_USEC_PER_SEC
#define LOOK_US G_USEC_PER_SEC
#define CLOSE_PATIENCE_US (5 * G_USEC_PER_SEC)
/* How long a stop waits for what the kernel does not give back. */
#define DISK_PATIENCE_US (6 * G_USEC_PER_SEC)

/* The log is brought into the database when it has grown by this much and
 * nobody waits; at the latest by that much. */
#define LOG_FRAME_BYTES 24u /* before each page */
#define LOG_IDLE_BYTES (4u << 20)
#define LOG_MAX_BYTES (16u << 20)
/* What SQLite's index of a log of 35 MiB takes. */
#define INDEX_BYTES (512u << 10)

typedef enum {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_PUT,
    STATEMENT_DELETE,
    N_STATEMENTS,
} Statement;

static const char *const statement_sql[N_STATEMENTS] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_ROLLBACK] = "ROLLBACK",
    /* Not REPLACE: a row that keeps its size is changed page by page, so that
     * a piece of a large file costs that piece. */
    [STATEMENT_PUT] = "INSERT INTO tree (inode, parent, version, writer,"
                      " mtime, type, name, data)"
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                      " ON CONFLICT (inode) DO UPDATE SET parent = ?2,"
                      " version = ?3, writer = ?4, mtime = ?5, type = ?6,"
                      " name = ?7, data = ?8",
    [STATEMENT_DELETE] = "DELETE FROM tree WHERE inode = ?1",
};

typedef struct {
    CfsStoreFlushed done;
    gpointer data;
    guint64 id;
    int verdict;
} Flush;

/* Which file a name stood for. */
typedef struct {
    gboolean is_known;
    dev_t device;
    ino_t inode;
} FileId;

struct CfsStore {
    char *path;
    char *log_path;
    int index_fd; /* -1: none */
    /* The opener's, then the thread's. */
    sqlite3 *db; /* NULL: it could not be opened again */
    sqlite3_stmt *statements[N_STATEMENTS];
    FileId file_id;
    FileId log_id;
    gboolean is_kept; /* the first file we put in place keeps the old one */
    guint page_bytes;
    /* In pages; the thread's. */
    guint log_size;
    guint log_checkpointed; /* up to here it is in the database */
    guint log_grown;        /* since it was counted */
    gboolean has_bad_checkpoint;

    CfsStoreReport report;
    gpointer report_data;
    CfsStoreSnapshot snapshot;
    gpointer snapshot_data;
    GThread *thread;

    GMutex mutex; /* guards all below */
    CfsTiming timing;
    guint64 n_failed, n_rows, n_checkpoints;
    guint64 log_bytes; /* written to it, since we began */
    GCond wake;
    GHashTable *pending;       /* inode -> CfsEntry, or NULL: delete */
    CfsDbTerms *pending_terms; /* NULL: unchanged */
    CfsDbTerms *terms;         /* the newest; NULL: none */
    guint64 submitted;         /* number of the newest in pending */
    gboolean is_wanted;        /* the thread may take pending */
    gboolean is_closing;
    gboolean is_done;     /* the thread needs nothing of us any more */
    gint64 retry_at;      /* monotonic; 0: the last attempt went well */
    gint64 look_at;       /* monotonic */
    gboolean is_detached; /* our files are not those at our path */
    GPtrArray *whole;     /* then: everything, once the loop gave it */
    CfsDbTerms *whole_terms;
    guint64 whole_number; /* all up to this is in it */
    GQueue flushes;       /* of Flush, waiting */
    GQueue answers;       /* of Flush, decided */
    guint64 committed;
    int problem;
    int report_fd;         /* an eventfd that wakes the loop */
    gboolean is_reporting; /* ... and will */
    guint report_watch;    /* the loop's */
};

static void
entry_free(gpointer entry)
{
    if (entry != NULL) {
        cfs_entry_unref(entry);
    }
}

static CfsDbTerms *
copy_terms(const CfsDbTerms *terms)
{
    return terms != NULL ? g_memdup2(terms, sizeof(*terms)) : NULL;
}

static void
set_terms(CfsDbTerms **place, const CfsDbTerms *terms)
{
    CfsDbTerms *copy = copy_terms(terms);

    g_free(*place);
    *place = copy;
}

static GHashTable *
rows_new(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                 entry_free);
}

/* The newer row wins: @row is newer than what @rows has. @row: (takes) */
static void
rows_set(GHashTable *rows, guint64 inode, CfsEntry *row)
{
    g_hash_table_replace(rows, g_memdup2(&inode, sizeof(inode)), row);
}

static gboolean
sqlite_error(CfsStore *self, const char *what, GError **error)
{
    return cfs_dbfile_error(self->db, what, error);
}

static int
errno_of(sqlite3 *db, int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    default:
        return sqlite3_system_errno(db) == ENOSPC ? ENOSPC : EIO;
    }
}

/* Opening ----------------------------------------------------------------- */

/* Before SQLite holds a lock on the file; see the header. */
static gboolean
prepare_file(const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                          S_IRUSR | S_IWUSR);

    if (fd < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0) {
        return pve_errno_error(error, "open", path);
    }
    return TRUE;
}

/* Runs @sql; puts the first column of its first row, if any, into @text. */
static gboolean
query_text(CfsStore *self, const char *sql, char **text, GError **error)
{
    sqlite3_stmt *statement = NULL;
    int code;

    code = sqlite3_prepare_v2(self->db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    if (code == SQLITE_ROW && text != NULL) {
        *text = g_strdup((const char *)sqlite3_column_text(statement, 0));
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        sqlite_error(self, "", error);
        (void)sqlite3_finalize(statement);
        return FALSE;
    }
    (void)sqlite3_finalize(statement);
    return TRUE;
}

/* After each commit. */
static int
on_log_grown(gpointer data, sqlite3 *db, const char *name, int n_pages)
{
    CfsStore *self = data;

    if ((guint)n_pages < self->log_size) {
        self->log_size = 0; /* it began anew */
        self->log_checkpointed = 0;
    }
    self->log_grown += (guint)n_pages - self->log_size;
    self->log_size = (guint)n_pages;
    return SQLITE_OK;
}

/* How the file is written; what it holds does not depend on it. */
static gboolean
tune(CfsStore *self, GError **error)
{
    static const char *const pragmas[] = {
        "PRAGMA synchronous=NORMAL",
        /* Removed content becomes zeros where that costs no extra page:
         * Debian's default would write each page of a large file twice. */
        "PRAGMA secure_delete=FAST",
        /* In KiB: one change must not spill before it is committed. */
        "PRAGMA cache_size=-8192",
    };
    g_autofree char *page_bytes = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(pragmas); i++) {
        if (!query_text(self, pragmas[i], NULL, error)) {
            return FALSE;
        }
    }
    if (!query_text(self, "PRAGMA page_size", &page_bytes, error)) {
        return FALSE;
    }
    self->page_bytes = (guint)g_ascii_strtoull(page_bytes, NULL, 10);
    /* In place of SQLite's own, which checkpoints within a commit. */
    (void)sqlite3_wal_hook(self->db, on_log_grown, self);
    return TRUE;
}

static gboolean
configure(CfsStore *self, GError **error)
{
    g_autofree char *mode = NULL;

    (void)sqlite3_extended_result_codes(self->db, 1);
    (void)sqlite3_busy_timeout(self->db, BUSY_TIMEOUT_MS);
    if (!query_text(self, "PRAGMA page_size=" CFS_DBFILE_PAGE_BYTES, NULL,
                    error)) {
        return FALSE;
    }
    if (!query_text(self, "PRAGMA journal_mode=WAL", &mode, error)) {
        g_prefix_error(error, "unable to set WAL mode: ");
        return FALSE;
    }
    if (g_strcmp0(mode, "wal") != 0) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_STORE,
                    "unable to set WAL mode: it is '%s'",
                    mode != NULL ? mode : "");
        return FALSE;
    }
    return tune(self, error);
}

/* SQLite maps the index of its log, and has made sure of one byte in each page
 * of it. Where a block of the file system is smaller than a page, that leaves
 * holes, and on a full disk to write to one of them is SIGBUS, our end: so the
 * blocks are taken before. The descriptor stays open as long as SQLite's: to
 * close it would drop the locks that we have on that file, fcntl(2). */
static void
reserve_index(CfsStore *self)
{
    g_autofree char *path = g_strconcat(self->path, "-shm", NULL);

    self->index_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (self->index_fd >= 0 &&
        fallocate(self->index_fd, FALLOC_FL_KEEP_SIZE, 0, INDEX_BYTES) < 0) {
        g_debug("cannot reserve %s: %s", path, g_strerror(errno));
    }
}

/* Leaves the log for the next opener where @keep_log, else checkpoints it. */
static void
close_connection(CfsStore *self, gboolean keep_log)
{
    for (guint i = 0; i < N_STATEMENTS; i++) {
        (void)sqlite3_finalize(self->statements[i]);
        self->statements[i] = NULL;
    }
    if (self->db == NULL) {
        return;
    }
    (void)sqlite3_db_config(self->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                            (int)keep_log, NULL);
    if (sqlite3_close(self->db) != SQLITE_OK) {
        g_warning("closing %s: %s", self->path, sqlite3_errmsg(self->db));
    }
    if (self->index_fd >= 0) {
        (void)close(self->index_fd);
        self->index_fd = -1;
    }
    self->db = NULL;
    self->log_size = 0;
    self->log_checkpointed = 0;
}

static void
store_free(CfsStore *self)
{
    close_connection(self, TRUE);
    g_hash_table_unref(self->pending);
    g_free(self->pending_terms);
    g_free(self->terms);
    g_queue_clear_full(&self->flushes, g_free);
    g_queue_clear_full(&self->answers, g_free);
    g_clear_handle_id(&self->report_watch, g_source_remove);
    pve_autofd_clear(&self->report_fd);
    g_mutex_clear(&self->mutex);
    g_cond_clear(&self->wake);
    g_clear_pointer(&self->whole, g_ptr_array_unref);
    g_free(self->whole_terms);
    g_free(self->log_path);
    g_free(self->path);
    g_free(self);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsStore, store_free)

static gboolean
open_connection(CfsStore *self, GError **error)
{
    if (!prepare_file(self->path, error)) {
        return FALSE;
    }
    if (sqlite3_open_v2(self->path, &self->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        return sqlite_error(self, "", error);
    }
    if (!configure(self, error)) {
        return FALSE;
    }
    reserve_index(self);
    return TRUE;
}

CfsStore *
cfs_store_new_unwritable(const char *path, gboolean is_kept)
{
    CfsStore *self = g_new0(CfsStore, 1);

    self->path = g_strdup(path);
    self->index_fd = -1;
    self->log_path = g_strconcat(path, "-wal", NULL);
    self->is_kept = is_kept;
    self->report_fd = -1;
    self->pending = rows_new();
    g_mutex_init(&self->mutex);
    g_cond_init(&self->wake);
    return self;
}

CfsStore *
cfs_store_open(const char *path, GError **error)
{
    g_autoptr(CfsStore) self = cfs_store_new_unwritable(path, FALSE);

    return open_connection(self, error) ? g_steal_pointer(&self) : NULL;
}

void
cfs_store_abandon(CfsStore *self)
{
    g_assert(self->thread == NULL);
    store_free(self);
}

/* Loading ----------------------------------------------------------------- */

static gboolean
has_table(CfsStore *self, gboolean *has, GError **error)
{
    g_autofree char *name = NULL;

    if (!query_text(self,
                    "SELECT name FROM sqlite_master"
                    " WHERE type = 'table' AND name = 'tree'",
                    &name, error)) {
        return FALSE;
    }
    *has = name != NULL;
    return TRUE;
}

GPtrArray *
cfs_store_load(CfsStore *self, GPtrArray *problems, GError **error)
{
    return cfs_dbfile_read(self->db, problems, error);
}

void
cfs_store_set_terms(CfsStore *self, const CfsDbTerms *terms)
{
    const CfsDbTerms none = {0};

    if (memcmp(terms, &none, sizeof(none)) != 0) {
        set_terms(&self->terms, terms);
    }
}

void
cfs_store_load_terms(CfsStore *self, CfsDbTerms *terms)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    const CfsDbTerms none = {0};

    *terms = self->terms != NULL ? *self->terms : none;
    if (self->db != NULL &&
        !cfs_dbfile_read_terms(self->db, terms, problems, &error)) {
        g_warning("%s: the record of terms cannot be read: %s", self->path,
                  error->message);
        *terms = none;
    }
    for (guint i = 0; i < problems->len; i++) {
        g_warning("%s: %s", self->path, (char *)problems->pdata[i]);
    }
    cfs_store_set_terms(self, terms);
}

/* Writing ----------------------------------------------------------------- */

static int
run(CfsStore *self, Statement which)
{
    sqlite3_stmt *statement = self->statements[which];
    int code = sqlite3_step(statement);
    int problem = errno_of(self->db, code);

    (void)sqlite3_reset(statement);
    return problem;
}

static int
put_row(CfsStore *self, const CfsEntry *entry)
{
    sqlite3_stmt *put = self->statements[STATEMENT_PUT];
    gboolean is_root = entry->inode == CFS_ROOT_INODE;
    const char *name = is_root ? CFS_VERSION_RECORD_NAME : entry->name;
    gconstpointer data = NULL;
    gsize size = 0;
    int problem;

    if (entry->data != NULL && !is_root) {
        data = g_bytes_get_data(entry->data, &size);
    }
    sqlite3_bind_int64(put, 1, (sqlite3_int64)entry->inode);
    sqlite3_bind_int64(put, 2, (sqlite3_int64)entry->parent);
    sqlite3_bind_int64(put, 3, (sqlite3_int64)entry->version);
    sqlite3_bind_int64(put, 4, (sqlite3_int64)entry->writer);
    sqlite3_bind_int64(put, 5, (sqlite3_int64)entry->mtime);
    sqlite3_bind_int64(put, 6, is_root ? CFS_TYPE_FILE : entry->type);
    sqlite3_bind_text(put, 7, name, -1, SQLITE_STATIC);
    if (size > 0) {
        sqlite3_bind_blob64(put, 8, data, size, SQLITE_STATIC);
    }
    problem = run(self, STATEMENT_PUT);
    (void)sqlite3_clear_bindings(put);
    return problem;
}

static int
delete_row(CfsStore *self, guint64 inode)
{
    sqlite3_bind_int64(self->statements[STATEMENT_DELETE], 1,
                       (sqlite3_int64)inode);
    return run(self, STATEMENT_DELETE);
}

/* All deletes come first: a row may take the name of one that goes. The
 * version record is last. */
static int
write_rows(CfsStore *self, GHashTable *rows)
{
    guint64 root = CFS_ROOT_INODE;
    GHashTableIter iter;
    gpointer inode, row;
    int problem = 0;

    g_hash_table_iter_init(&iter, rows);
    while (problem == 0 && g_hash_table_iter_next(&iter, &inode, &row)) {
        if (row == NULL) {
            problem = delete_row(self, *(guint64 *)inode);
        }
    }
    g_hash_table_iter_init(&iter, rows);
    while (problem == 0 && g_hash_table_iter_next(&iter, &inode, &row)) {
        if (row != NULL && *(guint64 *)inode != root) {
            problem = put_row(self, row);
        }
    }
    row = g_hash_table_lookup(rows, &root);
    if (problem == 0 && row != NULL) {
        problem = put_row(self, row);
    }
    return problem;
}

/* Returns 0, or the errno with everything rolled back. */
static int
write_transaction(CfsStore *self, GHashTable *rows, const CfsDbTerms *terms)
{
    int problem = run(self, STATEMENT_BEGIN);

    if (problem != 0) {
        return problem;
    }
    problem = write_rows(self, rows);
    if (problem == 0 && terms != NULL) {
        problem = errno_of(self->db, cfs_dbfile_put_terms(self->db, terms));
    }
    if (problem == 0) {
        problem = run(self, STATEMENT_COMMIT);
    }
    if (problem != 0 && sqlite3_get_autocommit(self->db) == 0) {
        (void)run(self, STATEMENT_ROLLBACK);
    }
    return problem;
}

static gboolean
prepare_statements(CfsStore *self, GError **error)
{
    for (guint i = 0; i < N_STATEMENTS; i++) {
        if (self->statements[i] == NULL &&
            sqlite3_prepare_v3(self->db, statement_sql[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &self->statements[i],
                               NULL) != SQLITE_OK) {
            return sqlite_error(self, "statement: ", error);
        }
    }
    return TRUE;
}

static gboolean
create_rows(CfsStore *self, GPtrArray *entries, GError **error)
{
    gboolean has = FALSE;

    if (!has_table(self, &has, error)) {
        return FALSE;
    }
    if (!has && sqlite3_exec(self->db, cfs_dbfile_schema, NULL, NULL, NULL) !=
                    SQLITE_OK) {
        return sqlite_error(self, "creating the table: ", error);
    }
    if (!prepare_statements(self, error)) {
        return FALSE;
    }
    for (guint i = 0; i < entries->len; i++) {
        if (put_row(self, entries->pdata[i]) != 0) {
            return sqlite_error(self, "writing the first rows: ", error);
        }
    }
    return TRUE;
}

gboolean
cfs_store_create(CfsStore *self, GPtrArray *entries, GError **error)
{
    if (sqlite3_exec(self->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) !=
        SQLITE_OK) {
        return sqlite_error(self, "begin: ", error);
    }
    if (!create_rows(self, entries, error)) {
        (void)sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
        return FALSE;
    }
    if (sqlite3_exec(self->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        sqlite_error(self, "commit: ", error);
        (void)sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
        return FALSE;
    }
    return TRUE;
}

/* In WAL mode every commit since the last complete checkpoint is in the log;
 * the checkpoint itself flushes the database. So the log is all there is to
 * flush. By SQLite's own descriptor: see the header. */
static int
flush_log(CfsStore *self)
{
    sqlite3_file *log = NULL;

    if (sqlite3_file_control(self->db, "main", SQLITE_FCNTL_JOURNAL_POINTER,
                             &log) != SQLITE_OK ||
        log == NULL || log->pMethods == NULL) {
        return 0; /* nothing was ever written to it */
    }
    if (log->pMethods->xSync(log, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY) !=
        SQLITE_OK) {
        return EIO;
    }
    return 0;
}

/* A failure loses nothing: the log grows, and the next one tries again. */
static void
checkpoint(CfsStore *self)
{
    int code = sqlite3_wal_checkpoint_v2(self->db, NULL,
                                         SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    gboolean is_bad = code != SQLITE_OK && errno_of(self->db, code) != EBUSY;

    if (is_bad && !self->has_bad_checkpoint) {
        g_warning("the log of %s cannot be brought into it: %s", self->path,
                  sqlite3_errmsg(self->db));
    }
    self->has_bad_checkpoint = is_bad;
    self->log_checkpointed = self->log_size;
}

/* Reports ----------------------------------------------------------------- */

/* With the mutex held. Everything is in @entries; takes it. */
static void
set_whole(CfsStore *self, GPtrArray *entries)
{
    g_clear_pointer(&self->whole, g_ptr_array_unref);
    self->whole = entries;
    self->whole_number = self->submitted;
    set_terms(&self->whole_terms, self->terms);
    g_hash_table_remove_all(self->pending);
    g_clear_pointer(&self->pending_terms, g_free);
}

/* On the loop, outside of any change to the tree. */
static void
provide_whole(CfsStore *self)
{
    g_autoptr(GPtrArray) entries = NULL;
    gboolean is_wanted;

    g_mutex_lock(&self->mutex);
    is_wanted = self->is_detached && self->whole == NULL;
    g_mutex_unlock(&self->mutex);
    if (!is_wanted || self->snapshot == NULL) {
        return;
    }
    entries = self->snapshot(self->snapshot_data);
    g_mutex_lock(&self->mutex);
    set_whole(self, g_steal_pointer(&entries));
    g_cond_signal(&self->wake);
    g_mutex_unlock(&self->mutex);
}

/* On the loop. */
static gboolean
deliver_report(int fd, GIOCondition condition, gpointer data)
{
    CfsStore *self = data;
    GQueue answers = G_QUEUE_INIT;
    eventfd_t unused;
    guint64 committed;
    Flush *flush;
    int problem;

    (void)eventfd_read(fd, &unused);
    g_mutex_lock(&self->mutex);
    self->is_reporting = FALSE;
    committed = self->committed;
    problem = self->problem;
    answers = self->answers;
    g_queue_init(&self->answers);
    g_mutex_unlock(&self->mutex);

    provide_whole(self);
    self->report(self->report_data, committed, problem);
    while ((flush = g_queue_pop_head(&answers)) != NULL) {
        flush->done(flush->data, flush->id, flush->verdict);
        g_free(flush);
    }
    return G_SOURCE_CONTINUE;
}

/* With the mutex held. */
static void
schedule_report(CfsStore *self)
{
    if (!self->is_reporting) {
        self->is_reporting = TRUE;
        (void)eventfd_write(self->report_fd, 1);
    }
}

/* With the mutex held. What waits for a flush gets the problem there is. */
static void
fail_flushes(CfsStore *self)
{
    Flush *flush;

    while ((flush = g_queue_pop_head(&self->flushes)) != NULL) {
        flush->verdict = self->problem;
        g_queue_push_tail(&self->answers, flush);
    }
}

/* Files that are taken away (spec/filesystem.md W1) -------------------------
 */

static FileId
identify(const char *path)
{
    struct stat st;
    FileId id = {0};

    if (stat(path, &st) == 0) {
        id.is_known = TRUE;
        id.device = st.st_dev;
        id.inode = st.st_ino;
    }
    return id;
}

/* FALSE also where we cannot tell. */
static gboolean
is_gone(const char *path, const FileId *id)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return errno == ENOENT;
    }
    return st.st_dev != id->device || st.st_ino != id->inode;
}

static gboolean
has_lost_files(CfsStore *self)
{
    if (self->snapshot == NULL) {
        return FALSE; /* nobody could help */
    }
    if (self->db == NULL || is_gone(self->path, &self->file_id)) {
        return TRUE;
    }
    if (!self->log_id.is_known) {
        self->log_id = identify(self->log_path);
        return FALSE;
    }
    return is_gone(self->log_path, &self->log_id);
}

/* From here on the files of our connection are known. The log is made by the
 * first that reads. */
static gboolean
settle(CfsStore *self, GError **error)
{
    if (!query_text(self, "SELECT count(*) FROM sqlite_master", NULL, error) ||
        !prepare_statements(self, error)) {
        return FALSE;
    }
    self->file_id = identify(self->path);
    self->log_id = identify(self->log_path);
    self->look_at = g_get_monotonic_time() + LOOK_US;
    return TRUE;
}

/* What somebody put in our place is kept beside. */
static gboolean
write_anew(CfsStore *self,
           GPtrArray *entries,
           const CfsDbTerms *terms,
           GError **error)
{
    g_autofree char *fresh = cfs_dbfile_new_path(self->path);
    g_autofree char *aside = cfs_dbfile_aside(self->path, "replaced");
    gboolean is_other;

    if (!cfs_dbfile_write(fresh, entries, terms, error)) {
        return FALSE;
    }
    is_other = self->is_kept || (self->file_id.is_known &&
                                 g_file_test(self->path, G_FILE_TEST_EXISTS) &&
                                 is_gone(self->path, &self->file_id));
    close_connection(self, TRUE);
    if (!cfs_dbfile_install(self->path, is_other ? aside : NULL, error) ||
        !open_connection(self, error) || !settle(self, error)) {
        close_connection(self, TRUE);
        return FALSE;
    }
    self->is_kept = FALSE;
    if (is_other) {
        g_message("the database that stood in the place of ours is %s", aside);
    }
    return TRUE;
}

/* With the mutex held, which it gives up while it writes. */
static void
write_whole(CfsStore *self)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_ref(self->whole);
    g_autofree CfsDbTerms *terms = copy_terms(self->whole_terms);
    g_autoptr(GError) error = NULL;
    gboolean is_written;

    g_mutex_unlock(&self->mutex);
    is_written = write_anew(self, entries, terms, &error);
    g_mutex_lock(&self->mutex);
    if (is_written) {
        g_message("wrote %s anew, nothing was lost", self->path);
        g_clear_pointer(&self->whole, g_ptr_array_unref);
        self->is_detached = FALSE;
        self->committed = MAX(self->committed, self->whole_number);
        self->retry_at = 0;
        self->problem = 0;
        self->is_wanted = TRUE;
    } else {
        g_warning("cannot write %s anew: %s", self->path, error->message);
        self->retry_at = g_get_monotonic_time() + RETRY_US;
        self->problem = g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC)
                            ? ENOSPC
                            : EIO;
        fail_flushes(self);
    }
    schedule_report(self);
}

/* With the mutex held. The report asks the loop for everything. */
static void
note_detached(CfsStore *self)
{
    g_warning("%s or its log of changes was removed or replaced: writing it "
              "anew from memory",
              self->path);
    self->is_detached = TRUE;
    schedule_report(self);
}

/* The thread -------------------------------------------------------------- */

/* With the mutex held. */
static gboolean
has_work(CfsStore *self, gint64 now)
{
    if (self->is_closing) {
        return TRUE;
    }
    if (self->retry_at > 0 && now < self->retry_at) {
        return FALSE;
    }
    if (self->is_detached) {
        return self->whole != NULL;
    }
    return self->is_wanted || self->retry_at > 0 || now >= self->look_at ||
           !g_queue_is_empty(&self->flushes);
}

/* With the mutex held. Sleeps until there is something to do. */
static void
wait_for_work(CfsStore *self)
{
    while (!has_work(self, g_get_monotonic_time())) {
        if (self->retry_at > 0) {
            (void)g_cond_wait_until(&self->wake, &self->mutex, self->retry_at);
        } else if (self->is_detached) {
            g_cond_wait(&self->wake, &self->mutex);
        } else {
            (void)g_cond_wait_until(&self->wake, &self->mutex, self->look_at);
        }
    }
}

/* With the mutex held. Rows that could not be written are pending again,
 * where nothing newer came meanwhile. */
static void
put_back(CfsStore *self, GHashTable *rows, const CfsDbTerms *terms)
{
    GHashTableIter iter;
    gpointer inode, row;

    g_hash_table_iter_init(&iter, rows);
    while (g_hash_table_iter_next(&iter, &inode, &row)) {
        if (!g_hash_table_contains(self->pending, inode)) {
            rows_set(self->pending, *(guint64 *)inode,
                     row != NULL ? cfs_entry_ref(row) : NULL);
        }
    }
    if (terms != NULL && self->pending_terms == NULL) {
        set_terms(&self->pending_terms, terms);
    }
}

/* With the mutex held. What the disk said to @rows and @flushes. */
static void
settle_attempt(CfsStore *self,
               GHashTable *rows,
               const CfsDbTerms *terms,
               guint64 number,
               int problem)
{
    if (problem == 0) {
        self->committed = number;
        self->retry_at = 0;
    } else {
        put_back(self, rows, terms);
        self->retry_at = g_get_monotonic_time() + RETRY_US;
    }
    self->problem = problem;
}

/* With the mutex held. */
static void
count_attempt(CfsStore *self, guint n_rows, gint64 began_us)
{
    if (self->problem != 0) {
        self->n_failed++;
    } else if (n_rows > 0) {
        cfs_timing_add(&self->timing, g_get_monotonic_time() - began_us);
        self->n_rows += n_rows;
        self->log_bytes +=
            (guint64)self->log_grown * (self->page_bytes + LOG_FRAME_BYTES);
        self->log_grown = 0;
    }
}

/* With the mutex held, which it gives up while it writes. */
static void
write_pending(CfsStore *self)
{
    g_autoptr(GHashTable) rows = g_steal_pointer(&self->pending);
    g_autofree CfsDbTerms *terms = g_steal_pointer(&self->pending_terms);
    guint64 number = self->submitted;
    GQueue flushes = self->flushes;
    gint64 began_us = g_get_monotonic_time();
    int problem = 0, flush_problem;
    gboolean has_lost;
    Flush *flush;

    self->pending = rows_new();
    self->is_wanted = FALSE;
    g_queue_init(&self->flushes);
    g_mutex_unlock(&self->mutex);

    if (g_hash_table_size(rows) > 0 || terms != NULL) {
        problem = write_transaction(self, rows, terms);
    }
    flush_problem = problem;
    if (problem == 0 && !g_queue_is_empty(&flushes)) {
        flush_problem = flush_log(self);
    }
    has_lost = has_lost_files(self);

    g_mutex_lock(&self->mutex);
    self->look_at = g_get_monotonic_time() + LOOK_US;
    if (has_lost) {
        put_back(self, rows, terms);
        /* Those that wait go on waiting. */
        while ((flush = g_queue_pop_tail(&flushes)) != NULL) {
            g_queue_push_head(&self->flushes, flush);
        }
        self->retry_at = 0;
        note_detached(self);
        return;
    }
    settle_attempt(self, rows, terms, number, problem);
    count_attempt(self, g_hash_table_size(rows), began_us);
    while ((flush = g_queue_pop_head(&flushes)) != NULL) {
        flush->verdict = flush_problem;
        g_queue_push_tail(&self->answers, flush);
    }
    schedule_report(self);
}

/* With the mutex held. Nobody wants anything: are the files still there? */
static void
look(CfsStore *self)
{
    gboolean has_lost;

    g_mutex_unlock(&self->mutex);
    has_lost = has_lost_files(self);
    g_mutex_lock(&self->mutex);
    self->look_at = g_get_monotonic_time() + LOOK_US;
    if (has_lost) {
        note_detached(self);
    }
}

/* With the mutex held. */
static void
write_next(CfsStore *self)
{
    if (self->is_detached) {
        write_whole(self);
    } else if (self->is_wanted || self->retry_at > 0 || self->is_closing ||
               !g_queue_is_empty(&self->flushes)) {
        write_pending(self);
    } else {
        look(self);
    }
}

/* With the mutex held, which it gives up if it has to do something. After the
 * report: nobody waits for this. */
static void
tend_log(CfsStore *self)
{
    guint64 grown =
        (guint64)(self->log_size - self->log_checkpointed) * self->page_bytes;
    gboolean is_idle = !has_work(self, g_get_monotonic_time());

    /* On a full disk the next transaction may find its room in the log. */
    if (grown >= LOG_MAX_BYTES || (grown >= LOG_IDLE_BYTES && is_idle) ||
        (grown > 0 && self->problem == ENOSPC)) {
        g_mutex_unlock(&self->mutex);
        checkpoint(self);
        g_mutex_lock(&self->mutex);
        self->n_checkpoints++;
    }
}

/* With the mutex held. */
static gboolean
has_rest(CfsStore *self)
{
    return (self->is_detached && self->whole != NULL) ||
           (!self->is_detached && (g_hash_table_size(self->pending) > 0 ||
                                   self->pending_terms != NULL));
}

/* With the mutex held. The last chance of what is pending. The loop, which
 * waits for us, has left the whole tree in case the files are gone. */
static void
write_rest(CfsStore *self)
{
    gint64 until = g_get_monotonic_time() + CLOSE_PATIENCE_US;

    if (self->db != NULL) {
        (void)sqlite3_busy_timeout(self->db, CLOSE_BUSY_TIMEOUT_MS);
    }
    if (!self->is_detached && has_lost_files(self)) {
        note_detached(self);
    }
    while (has_rest(self)) {
        write_next(self);
        if (self->problem == 0) {
            continue;
        }
        if (g_get_monotonic_time() >= until) {
            break;
        }
        /* Nobody signals any more: this is a pause. */
        while (g_cond_wait_until(&self->wake, &self->mutex, self->retry_at)) {
        }
    }
}

static gpointer
write_loop(gpointer data)
{
    CfsStore *self = data;

    g_mutex_lock(&self->mutex);
    while (!self->is_closing) {
        wait_for_work(self);
        if (!self->is_closing) {
            write_next(self);
            tend_log(self);
        }
    }
    write_rest(self);
    self->is_done = TRUE;
    g_cond_broadcast(&self->wake);
    g_mutex_unlock(&self->mutex);
    return NULL;
}

void
cfs_store_set_snapshot(CfsStore *self, CfsStoreSnapshot snapshot, gpointer data)
{
    g_assert(self->thread == NULL);
    self->snapshot = snapshot;
    self->snapshot_data = data;
}

gboolean
cfs_store_start(CfsStore *self,
                CfsStoreReport report,
                gpointer data,
                GError **error)
{
    g_assert(self->thread == NULL);
    if (self->db == NULL) {
        self->is_detached = TRUE;
        self->problem = ENOSPC;
    } else if (!settle(self, error)) {
        return FALSE;
    }
    self->report = report;
    self->report_data = data;
    self->report_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->report_fd < 0) {
        return pve_errno_error(error, "eventfd", "of the database's thread");
    }
    self->report_watch = pve_fd_watch(self->report_fd, G_IO_IN,
                                      CFS_PRIORITY_STORE, deliver_report, self);
    if (self->is_detached) {
        schedule_report(self);
    }
    self->thread = g_thread_new("store", write_loop, self);
    return TRUE;
}

/* The loop's side --------------------------------------------------------- */

guint64
cfs_store_submit(CfsStore *self,
                 GPtrArray *puts,
                 GArray *deletes,
                 const CfsDbTerms *terms)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) lock =
        g_mutex_locker_new(&self->mutex);

    for (guint i = 0; deletes != NULL && i < deletes->len; i++) {
        rows_set(self->pending, g_array_index(deletes, guint64, i), NULL);
    }
    for (guint i = 0; puts != NULL && i < puts->len; i++) {
        CfsEntry *entry = puts->pdata[i];

        rows_set(self->pending, entry->inode, cfs_entry_ref(entry));
    }
    if (terms != NULL) {
        set_terms(&self->pending_terms, terms);
        set_terms(&self->terms, terms);
    }
    return ++self->submitted;
}

void
cfs_store_commit(CfsStore *self)
{
    g_mutex_lock(&self->mutex);
    self->is_wanted = TRUE;
    g_mutex_unlock(&self->mutex);
    /* Not before: the thread would wake up only to wait for the mutex. */
    g_cond_signal(&self->wake);
}

void
cfs_store_flush(CfsStore *self, CfsStoreFlushed done, gpointer data, guint64 id)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) lock =
        g_mutex_locker_new(&self->mutex);
    Flush *flush = g_new0(Flush, 1);

    flush->done = done;
    flush->data = data;
    flush->id = id;
    if (self->problem != 0) {
        /* What is not even written is not stable; do not wait for a retry. */
        flush->verdict = self->problem;
        g_queue_push_tail(&self->answers, flush);
        schedule_report(self);
        return;
    }
    g_queue_push_tail(&self->flushes, flush);
    g_cond_signal(&self->wake);
}

void
cfs_store_collect(CfsStore *self, CfsMetrics *metrics)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) lock =
        g_mutex_locker_new(&self->mutex);
    guint64 n = 0;

    for (guint i = 0; i < CFS_TIMING_BUCKETS; i++) {
        n += self->timing.counts[i];
    }
    cfs_metrics_set_timing(metrics, CFS_TIMING_COMMIT, &self->timing);
    cfs_metrics_set(metrics, CFS_METRIC_COMMITS, n);
    cfs_metrics_set(metrics, CFS_METRIC_COMMITS_FAILED, self->n_failed);
    cfs_metrics_set(metrics, CFS_METRIC_ROWS_WRITTEN, self->n_rows);
    cfs_metrics_set(metrics, CFS_METRIC_CHECKPOINTS, self->n_checkpoints);
    cfs_metrics_set(metrics, CFS_METRIC_LOG_BYTES_WRITTEN, self->log_bytes);
}

/* FALSE: the thread is asleep in the kernel, on a disk that hangs. */
static gboolean
wait_for_thread(CfsStore *self)
{
    gint64 until = g_get_monotonic_time() + DISK_PATIENCE_US;
    gboolean is_done;

    g_mutex_lock(&self->mutex);
    while (!self->is_done &&
           g_cond_wait_until(&self->wake, &self->mutex, until)) {
    }
    is_done = self->is_done;
    g_mutex_unlock(&self->mutex);
    if (is_done) {
        (void)g_thread_join(self->thread);
    }
    return is_done;
}

static gboolean
end_thread(CfsStore *self)
{
    GPtrArray *entries =
        self->snapshot != NULL ? self->snapshot(self->snapshot_data) : NULL;

    g_clear_handle_id(&self->report_watch, g_source_remove);
    g_mutex_lock(&self->mutex);
    /* Only for the case that it is needed: pending stays. */
    if (self->whole == NULL) {
        self->whole = g_steal_pointer(&entries);
        self->whole_number = self->submitted;
        set_terms(&self->whole_terms, self->terms);
    }
    self->is_closing = TRUE;
    g_cond_broadcast(&self->wake);
    g_mutex_unlock(&self->mutex);
    g_clear_pointer(&entries, g_ptr_array_unref);
    if (!wait_for_thread(self)) {
        return FALSE;
    }
    return TRUE;
}

gboolean
cfs_store_close(CfsStore *self)
{
    guint n_lost;

    if (self->thread != NULL) {
        if (!end_thread(self)) {
            /* Nothing of it can be freed under its feet. */
            g_critical("the disk of %s hangs: ending without it, its last "
                       "changes are lost here",
                       self->path);
            return FALSE;
        }
    }
    n_lost = g_hash_table_size(self->pending);
    if (self->is_detached) {
        n_lost = MAX(n_lost, self->whole != NULL ? self->whole->len : 1);
    }
    if (n_lost > 0) {
        g_critical("%u changes could not be written to %s: %s", n_lost,
                   self->path, g_strerror(self->problem));
    }
    close_connection(self, FALSE);
    store_free(self);
    return n_lost == 0;
}
