#define G_LOG_DOMAIN "database"
#include "config.h"

#include "pmxcfs/io/dbfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "pmxcfs/core/core-error.h"

/* Inodes between two stretches of a damaged file. */
#define MAX_PROBES 1000000
#define COLUMNS "inode, parent, version, writer, mtime, type, name, data"

const char cfs_dbfile_schema[] =
    "CREATE TABLE tree (  inode INTEGER PRIMARY KEY NOT NULL,"
    "  parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),"
    "  version INTEGER NOT NULL CHECK(typeof(version)=='integer'),"
    "  writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),"
    "  mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),"
    "  type INTEGER NOT NULL CHECK(typeof(type)=='integer'),"
    "  name TEXT NOT NULL,"
    "  data BLOB);";

const char cfs_dbfile_terms_schema[] =
    "CREATE TABLE IF NOT EXISTS pmxcfs_terms ("
    "id INTEGER PRIMARY KEY CHECK (id = 0), term INTEGER NOT NULL,"
    " seen INTEGER NOT NULL, acked INTEGER NOT NULL,"
    " cluster INTEGER NOT NULL, version INTEGER NOT NULL,"
    " history BLOB NOT NULL);";

/* A statement that ends with its scope. */
typedef sqlite3_stmt Query;

static void
query_free(Query *query)
{
    (void)sqlite3_finalize(query);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Query, query_free)

/* An odd table is the file's fault as much as a broken page. */
static gboolean
is_content_code(int code)
{
    code &= 0xff;
    return code == SQLITE_NOTADB || code == SQLITE_CORRUPT ||
           code == SQLITE_ERROR || code == SQLITE_SCHEMA ||
           code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH ||
           code == SQLITE_TOOBIG || code == SQLITE_FORMAT;
}

gboolean
cfs_dbfile_error(sqlite3 *db, const char *what, GError **error)
{
    int code = sqlite3_errcode(db);

    if ((code & 0xff) == SQLITE_FULL || sqlite3_system_errno(db) == ENOSPC) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "%s%s", what,
                    sqlite3_errmsg(db));
        return FALSE;
    }
    g_set_error(error, CFS_ERROR,
                is_content_code(code) ? CFS_ERROR_CONTENT : CFS_ERROR_STORE,
                "%s%s", what, sqlite3_errmsg(db));
    return FALSE;
}

static Query *
prepare(sqlite3 *db, const char *sql, GError **error)
{
    Query *query = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) != SQLITE_OK) {
        cfs_dbfile_error(db, "", error);
        return NULL;
    }
    return query;
}

/* Opening ----------------------------------------------------------------- */

sqlite3 *
cfs_dbfile_open_readonly(const char *path, GError **error)
{
    g_autofree char *log = g_strconcat(path, "-wal", NULL);
    g_autofree char *escaped = g_uri_escape_string(path, "/", TRUE);
    /* Without a log nobody works with the file; opened as usual SQLite would
     * leave an empty one behind. */
    g_autofree char *uri =
        g_strdup_printf("file:%s?%s", escaped,
                        access(log, F_OK) < 0 ? "immutable=1" : "mode=ro");
    sqlite3 *db = NULL;
    struct stat st;

    if (stat(path, &st) < 0) {
        pve_errno_error(error, "open", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT,
                    "%s is no regular file", path);
        return NULL;
    }
    if (sqlite3_open_v2(uri, &db,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        cfs_dbfile_error(db, "", error);
        (void)sqlite3_close(db);
        return NULL;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_timeout(db, 10000);
    return db;
}

/* Reading ----------------------------------------------------------------- */

/* The row the query stands on. Bits that do not fit are dropped, as the
 * reference does. */
static CfsRow *
read_row(Query *query)
{
    gsize size;
    const void *content = sqlite3_column_blob(query, 7);
    gsize content_size = (gsize)sqlite3_column_bytes(query, 7);
    const void *name = sqlite3_column_text(query, 6);
    g_autoptr(GBytes) data = NULL;

    size = (gsize)sqlite3_column_bytes(query, 6);
    if (content_size > 0) {
        data = g_bytes_new(content, content_size);
    }
    return cfs_row_new((guint64)sqlite3_column_int64(query, 0),
                       (guint64)sqlite3_column_int64(query, 1),
                       (guint64)sqlite3_column_int64(query, 2),
                       (guint32)sqlite3_column_int64(query, 3),
                       (guint32)sqlite3_column_int64(query, 4),
                       (guint8)sqlite3_column_int64(query, 5), name, size,
                       data);
}

static gboolean
has_table(sqlite3 *db, const char *name, gboolean *has, GError **error)
{
    g_autoptr(Query) query = prepare(db,
                                     "SELECT 1 FROM sqlite_master"
                                     " WHERE type = 'table' AND name = ?1",
                                     error);
    int code;

    if (query == NULL) {
        return FALSE;
    }
    sqlite3_bind_text(query, 1, name, -1, SQLITE_STATIC);
    code = sqlite3_step(query);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return cfs_dbfile_error(db, "", error);
    }
    *has = code == SQLITE_ROW;
    return TRUE;
}

static gboolean
read_all(sqlite3 *db, GPtrArray *rows, GError **error)
{
    g_autoptr(Query) query = prepare(db, "SELECT " COLUMNS " FROM tree", error);
    int code;

    if (query == NULL) {
        return FALSE;
    }
    while ((code = sqlite3_step(query)) == SQLITE_ROW) {
        g_ptr_array_add(rows, read_row(query));
    }
    return code == SQLITE_DONE || cfs_dbfile_error(db, "reading rows: ", error);
}

/* Adds the inodes that can be listed in this order. Returns the last. */
static gint64
list_inodes(sqlite3 *db, const char *sql, GHashTable *inodes)
{
    g_autoptr(Query) query = prepare(db, sql, NULL);
    gint64 inode = 0;

    while (query != NULL && sqlite3_step(query) == SQLITE_ROW) {
        inode = sqlite3_column_int64(query, 0);
        g_hash_table_add(inodes, g_memdup2(&inode, sizeof(inode)));
    }
    return inode;
}

static gboolean
salvage_row(Query *query, gint64 inode, GPtrArray *rows)
{
    gboolean is_there;

    sqlite3_bind_int64(query, 1, inode);
    is_there = sqlite3_step(query) == SQLITE_ROW;
    if (is_there) {
        g_ptr_array_add(rows, read_row(query));
    }
    (void)sqlite3_reset(query);
    return is_there;
}

/* What a damaged file still gives: from both ends up to the damage, and what
 * can be reached between by its number. */
static void
salvage(sqlite3 *db, GPtrArray *rows, GPtrArray *problems)
{
    g_autoptr(GHashTable) inodes =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autoptr(Query) query =
        prepare(db, "SELECT " COLUMNS " FROM tree WHERE inode = ?1", NULL);
    gint64 low =
        list_inodes(db, "SELECT inode FROM tree ORDER BY inode", inodes);
    gint64 high =
        list_inodes(db, "SELECT inode FROM tree ORDER BY inode DESC", inodes);
    GHashTableIter iter;
    gpointer inode;

    if (query == NULL) {
        return;
    }
    g_hash_table_iter_init(&iter, inodes);
    while (g_hash_table_iter_next(&iter, &inode, NULL)) {
        if (!salvage_row(query, *(gint64 *)inode, rows)) {
            g_ptr_array_add(
                problems,
                g_strdup_printf("lost: the row of inode %016" G_GINT64_MODIFIER
                                "X cannot be read",
                                *(guint64 *)inode));
        }
    }
    for (gint64 i = low; i < high && i - low < MAX_PROBES; i++) {
        if (!g_hash_table_contains(inodes, &i)) {
            (void)salvage_row(query, i, rows);
        }
    }
}

GPtrArray *
cfs_dbfile_read(sqlite3 *db, GPtrArray *problems, GError **error)
{
    g_autoptr(GPtrArray) rows = cfs_rows_new();
    g_autoptr(GError) damage = NULL;
    gboolean has = FALSE;

    if (!has_table(db, "tree", &has, error)) {
        return NULL;
    }
    if (!has || read_all(db, rows, &damage)) {
        return g_steal_pointer(&rows);
    }
    if ((sqlite3_errcode(db) & 0xff) != SQLITE_CORRUPT) {
        g_propagate_error(error, g_steal_pointer(&damage));
        return NULL;
    }
    g_ptr_array_set_size(rows, 0);
    salvage(db, rows, problems);
    g_ptr_array_add(problems, g_strdup_printf("%s: %u rows could be read",
                                              damage->message, rows->len));
    return g_steal_pointer(&rows);
}

/* Terms ------------------------------------------------------------------- */

static gboolean
take_terms(Query *query, CfsDbTerms *terms)
{
    const void *history;
    PveReader reader;

    /* A NULL would read as 0, and a number as a text. */
    for (int i = 0; i < 5; i++) {
        if (sqlite3_column_type(query, i) != SQLITE_INTEGER ||
            (i != 3 && sqlite3_column_int64(query, i) < 0)) {
            return FALSE;
        }
    }
    terms->record.term = (guint64)sqlite3_column_int64(query, 0);
    terms->record.seen = (guint64)sqlite3_column_int64(query, 1);
    terms->record.acked = (guint64)sqlite3_column_int64(query, 2);
    terms->record.cluster_id = (guint64)sqlite3_column_int64(query, 3);
    terms->version = (guint64)sqlite3_column_int64(query, 4);
    history = sqlite3_column_blob(query, 5);
    pve_reader_init(&reader, history, (gsize)sqlite3_column_bytes(query, 5));
    return cfs_term_history_read(&reader, &terms->record);
}

gboolean
cfs_dbfile_read_terms(sqlite3 *db,
                      CfsDbTerms *terms,
                      GPtrArray *problems,
                      GError **error)
{
    g_autoptr(Query) query = NULL;
    gboolean has = FALSE;
    int code;

    memset(terms, 0, sizeof(*terms));
    if (!has_table(db, "pmxcfs_terms", &has, error)) {
        return FALSE;
    }
    if (!has) {
        return TRUE;
    }
    query = prepare(db,
                    "SELECT term, seen, acked, cluster, version, history"
                    " FROM pmxcfs_terms WHERE id = 0",
                    NULL);
    code = query != NULL ? sqlite3_step(query) : SQLITE_ERROR;
    if (code == SQLITE_ROW && take_terms(query, terms)) {
        return TRUE;
    }
    memset(terms, 0, sizeof(*terms));
    if (code != SQLITE_DONE && problems != NULL) {
        g_ptr_array_add(problems,
                        g_strdup("dropped: the record of terms makes no sense,"
                                 " this copy claims none"));
    }
    return TRUE;
}

static int
prepare_put_terms(sqlite3 *db, Query **query)
{
    int code = sqlite3_exec(db, cfs_dbfile_terms_schema, NULL, NULL, NULL);

    return code != SQLITE_OK
               ? code
               : sqlite3_prepare_v2(
                     db,
                     "INSERT INTO pmxcfs_terms"
                     " (id, term, seen, acked, cluster, version, history)"
                     " VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6)"
                     " ON CONFLICT (id) DO UPDATE SET term = ?1, seen = ?2,"
                     " acked = ?3, cluster = ?4, version = ?5, history = ?6",
                     -1, query, NULL);
}

int
cfs_dbfile_put_terms(sqlite3 *db, const CfsDbTerms *terms)
{
    g_autoptr(GByteArray) history = g_byte_array_new();
    g_autoptr(Query) query = NULL;
    int code = prepare_put_terms(db, &query);

    /* Somebody made it otherwise. It is ours, and must not hold up the rest. */
    if ((code & 0xff) == SQLITE_ERROR &&
        sqlite3_exec(db, "DROP TABLE IF EXISTS pmxcfs_terms", NULL, NULL,
                     NULL) == SQLITE_OK) {
        code = prepare_put_terms(db, &query);
    }
    if (code != SQLITE_OK) {
        return code;
    }
    cfs_term_history_write(history, &terms->record);
    sqlite3_bind_int64(query, 1, (sqlite3_int64)terms->record.term);
    sqlite3_bind_int64(query, 2, (sqlite3_int64)terms->record.seen);
    sqlite3_bind_int64(query, 3, (sqlite3_int64)terms->record.acked);
    sqlite3_bind_int64(query, 4, (sqlite3_int64)terms->record.cluster_id);
    sqlite3_bind_int64(query, 5, (sqlite3_int64)terms->version);
    sqlite3_bind_blob64(query, 6, history->len > 0 ? history->data : (void *)"",
                        history->len, SQLITE_STATIC);
    return sqlite3_step(query);
}

/* Writing ----------------------------------------------------------------- */

static gboolean
insert(sqlite3 *db, Query *query, const CfsEntry *entry, GError **error)
{
    gboolean is_root = entry->inode == CFS_ROOT_INODE;
    const char *name = is_root ? CFS_VERSION_RECORD_NAME : entry->name;
    gsize size = 0;
    gconstpointer data = NULL;

    if (entry->data != NULL && !is_root) {
        data = g_bytes_get_data(entry->data, &size);
    }
    sqlite3_bind_int64(query, 1, (sqlite3_int64)entry->inode);
    sqlite3_bind_int64(query, 2, (sqlite3_int64)entry->parent);
    sqlite3_bind_int64(query, 3, (sqlite3_int64)entry->version);
    sqlite3_bind_int64(query, 4, (sqlite3_int64)entry->writer);
    sqlite3_bind_int64(query, 5, (sqlite3_int64)entry->mtime);
    sqlite3_bind_int64(query, 6, is_root ? CFS_TYPE_FILE : entry->type);
    sqlite3_bind_text(query, 7, name, -1, SQLITE_STATIC);
    if (size > 0) {
        sqlite3_bind_blob64(query, 8, data, size, SQLITE_STATIC);
    } else {
        sqlite3_bind_null(query, 8);
    }
    if (sqlite3_step(query) != SQLITE_DONE) {
        return cfs_dbfile_error(db, "writing rows: ", error);
    }
    return sqlite3_reset(query) == SQLITE_OK;
}

static gboolean
insert_all(sqlite3 *db, GPtrArray *entries, GError **error)
{
    g_autoptr(Query) query = prepare(
        db, "INSERT INTO tree (" COLUMNS ") VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
        error);

    if (query == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < entries->len; i++) {
        if (!insert(db, query, entries->pdata[i], error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
execute(sqlite3 *db, const char *sql, GError **error)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           cfs_dbfile_error(db, "", error);
}

static gboolean
insert_terms(sqlite3 *db, const CfsDbTerms *terms, GError **error)
{
    return terms == NULL || cfs_dbfile_put_terms(db, terms) == SQLITE_DONE ||
           cfs_dbfile_error(db, "writing the record of terms: ", error);
}

static gboolean
fill(const char *path,
     GPtrArray *entries,
     const CfsDbTerms *terms,
     GError **error)
{
    sqlite3 *db = NULL;
    gboolean is_done =
        (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                         NULL) == SQLITE_OK ||
         cfs_dbfile_error(db, "", error)) &&
        execute(db,
                "PRAGMA page_size=" CFS_DBFILE_PAGE_BYTES
                "; PRAGMA synchronous=FULL; BEGIN IMMEDIATE",
                error) &&
        execute(db, cfs_dbfile_schema, error) &&
        insert_all(db, entries, error) && insert_terms(db, terms, error) &&
        execute(db, "COMMIT", error);

    (void)sqlite3_close(db);
    return is_done;
}

static void
remove_file(const char *path, const char *tail)
{
    g_autofree char *name = g_strconcat(path, tail, NULL);

    if (unlink(name) < 0 && errno != ENOENT) {
        g_warning("remove %s: %s", name, g_strerror(errno));
    }
}

static gboolean
flush_directory(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    PVE_AUTOFD(fd) = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) {
        return pve_errno_error(error, "flush directory", folder);
    }
    return TRUE;
}

gboolean
cfs_dbfile_write(const char *path,
                 GPtrArray *entries,
                 const CfsDbTerms *terms,
                 GError **error)
{
    g_autofree char *temporary = g_strconcat(path, ".tmp", NULL);
    PVE_AUTOFD(fd) = -1;

    remove_file(temporary, "");
    remove_file(temporary, "-journal");
    fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
              0600);
    if (fd < 0 || fchmod(fd, 0600) < 0) {
        return pve_errno_error(error, "create", temporary);
    }
    if (!fill(temporary, entries, terms, error)) {
        g_prefix_error(error, "write %s: ", temporary);
        remove_file(temporary, "");
        remove_file(temporary, "-journal");
        return FALSE;
    }
    if (rename(temporary, path) < 0) {
        pve_errno_error(error, "rename", temporary);
        remove_file(temporary, "");
        return FALSE;
    }
    return flush_directory(path, error);
}

/* In place ---------------------------------------------------------------- */

char *
cfs_dbfile_new_path(const char *path)
{
    return g_strconcat(path, ".new", NULL);
}

char *
cfs_dbfile_aside(const char *path, const char *what)
{
    gint64 epoch = (gint64)time(NULL);
    char *name = g_strdup_printf("%s.%s-%" G_GINT64_FORMAT, path, what, epoch);

    for (guint i = 1; g_file_test(name, G_FILE_TEST_EXISTS); i++) {
        g_free(name);
        name = g_strdup_printf("%s.%s-%" G_GINT64_FORMAT ".%u", path, what,
                               epoch, i);
    }
    return name;
}

static gboolean
has_bytes(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_size > 0;
}

/* Moves PATH+TAIL to KEEP+TAIL, or removes it; an empty log is nothing. */
static gboolean
clear_away(const char *path, const char *keep, const char *tail, GError **error)
{
    g_autofree char *from = g_strconcat(path, tail, NULL);
    g_autofree char *to = keep != NULL ? g_strconcat(keep, tail, NULL) : NULL;
    gboolean is_worth_it = to != NULL && (tail[0] == '\0' || has_bytes(from));
    int result = is_worth_it ? rename(from, to) : unlink(from);

    if (result < 0 && errno != ENOENT) {
        return pve_errno_error(error, is_worth_it ? "move away" : "remove",
                               from);
    }
    return TRUE;
}

/* The database goes first: while it is there a start takes it, with its log.
 * Without it a start takes the new one, and clears the rest away. */
gboolean
cfs_dbfile_install(const char *path, const char *keep, GError **error)
{
    g_autofree char *fresh = cfs_dbfile_new_path(path);

    if (!clear_away(path, keep, "", error) || !flush_directory(path, error) ||
        !clear_away(path, keep, "-wal", error) ||
        !clear_away(path, keep, "-journal", error) ||
        !clear_away(path, NULL, "-shm", error)) {
        return FALSE;
    }
    if (rename(fresh, path) < 0) {
        return pve_errno_error(error, "rename", fresh);
    }
    return flush_directory(path, error);
}

gboolean
cfs_dbfile_finish(const char *path, gboolean *finished, GError **error)
{
    g_autofree char *fresh = cfs_dbfile_new_path(path);
    g_autofree char *keep = cfs_dbfile_aside(path, "corrupt");
    struct stat st;

    *finished = FALSE;
    if (lstat(path, &st) < 0 && errno == ENOENT && lstat(fresh, &st) == 0 &&
        S_ISREG(st.st_mode)) {
        *finished = TRUE;
        return cfs_dbfile_install(path, keep, error);
    }
    remove_file(fresh, "");
    return TRUE;
}
