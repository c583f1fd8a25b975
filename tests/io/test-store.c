#include "config.h"

#include "pmxcfs/io/store.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmxcfs/core/tree.h"

/* A folder of its own, and what the store said last. */
typedef struct {
    char *folder;
    char *path;
    CfsStore *store;
    guint64 committed;
    int problem;
    guint n_reports;
    guint n_failures;
    guint64 flushed_id;
    int flush_verdict;
} Fixture;

static void
setup(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    f->folder = g_dir_make_tmp("test-store-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "config.db", NULL);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    static const char *const tails[] = {"", "-wal", "-shm"};

    for (guint i = 0; i < G_N_ELEMENTS(tails); i++) {
        g_autofree char *path = g_strconcat(f->path, tails[i], NULL);

        (void)g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->path);
    g_free(f->folder);
}

static void
on_report(gpointer data, guint64 committed, int problem)
{
    Fixture *f = data;

    f->committed = committed;
    f->problem = problem;
    f->n_reports++;
    f->n_failures += problem != 0;
}

static void
on_flushed(gpointer data, guint64 id, int verdict)
{
    Fixture *f = data;

    f->flushed_id = id;
    f->flush_verdict = verdict;
}

/* Opens; makes a new database when there is none. */
static void
open_store(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) rows = NULL;

    f->store = cfs_store_open(f->path, &error);
    g_assert_no_error(error);
    rows = cfs_store_load(f->store, problems, &error);
    g_assert_no_error(error);
    if (rows->len == 0) {
        g_autoptr(CfsTree) tree = cfs_tree_new(1234);
        g_autoptr(GPtrArray) entries = cfs_tree_entries(tree);

        g_assert_true(cfs_store_create(f->store, entries, &error));
        g_assert_no_error(error);
    }
    f->committed = 0;
    f->problem = 0;
    g_assert_true(cfs_store_start(f->store, on_report, f, &error));
    g_assert_no_error(error);
}

static void
close_store(Fixture *f)
{
    g_assert_true(cfs_store_close(f->store));
    f->store = NULL;
}

#define WAIT_FOR(condition)                                                    \
    while (!(condition)) {                                                     \
        g_main_context_iteration(NULL, TRUE);                                  \
    }

static CfsEntry *
file(guint64 inode, guint64 version, const char *name, const char *text)
{
    g_autoptr(GBytes) data =
        text[0] != '\0' ? g_bytes_new(text, strlen(text)) : NULL;

    return cfs_entry_new(inode, 0, version, 1, 77, CFS_TYPE_FILE, name, data);
}

/* Hands over one entry with the root at its version; @entry: (takes). */
static guint64
put(Fixture *f, CfsEntry *entry)
{
    g_autoptr(GPtrArray) puts =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);

    g_ptr_array_add(puts, entry);
    g_ptr_array_add(puts, cfs_entry_new(0, 0, entry->version, 1, 77,
                                        CFS_TYPE_DIRECTORY, "", NULL));
    return cfs_store_submit(f->store, puts, NULL, NULL);
}

/* Another connection, as a neighbour's. */
static sqlite3 *
connect_to(const char *path)
{
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    return db;
}

static void
execute(const char *path, const char *sql)
{
    sqlite3 *db = connect_to(path);
    char *message = NULL;

    (void)sqlite3_exec(db, sql, NULL, NULL, &message);
    g_assert_cmpstr(message, ==, NULL);
    g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
}

/* Returns: (owned) the rows of @sql, fields by '|', rows by newlines. */
static char *
query(const char *path, const char *sql)
{
    sqlite3 *db = connect_to(path);
    sqlite3_stmt *row = NULL;
    GString *out = g_string_new(NULL);

    g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &row, NULL), ==, SQLITE_OK);
    while (sqlite3_step(row) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(row); i++) {
            const unsigned char *text = sqlite3_column_text(row, i);

            g_string_append_printf(out, "%s%s", i > 0 ? "|" : "",
                                   text != NULL ? (const char *)text : "NULL");
        }
        g_string_append_c(out, '\n');
    }
    (void)sqlite3_finalize(row);
    g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
    return g_string_free(out, FALSE);
}

#define ALL                                                                    \
    "SELECT inode, parent, version, writer, mtime, type, name, data FROM tree" \
    " ORDER BY inode"

static void
assert_rows(Fixture *f, const char *expected)
{
    g_autofree char *rows = query(f->path, ALL);

    g_assert_cmpstr(rows, ==, expected);
}

/* The schema of spec/filesystem.md 2.1, to the letter. */
static void
test_new(Fixture *f, gconstpointer unused)
{
    g_autofree char *schema = NULL, *mode = NULL, *page_size = NULL;
    struct stat st;

    open_store(f);
    g_assert_cmpint(stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0600);
    close_store(f);

    assert_rows(f, "0|0|1|0|1234|8|__version__|NULL\n");
    schema = query(f->path, "SELECT sql FROM sqlite_master");
    g_assert_cmpstr(
        schema, ==,
        "CREATE TABLE tree (  inode INTEGER PRIMARY KEY NOT NULL,"
        "  parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),"
        "  version INTEGER NOT NULL CHECK(typeof(version)=='integer'),"
        "  writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),"
        "  mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),"
        "  type INTEGER NOT NULL CHECK(typeof(type)=='integer'),"
        "  name TEXT NOT NULL,  data BLOB)\n");
    mode = query(f->path, "PRAGMA journal_mode");
    g_assert_cmpstr(mode, ==, "wal\n");
    page_size = query(f->path, "PRAGMA page_size");
    g_assert_cmpstr(page_size, ==, "512\n");
}

/* A database of the reference keeps its own. */
static void
test_page_size(Fixture *f, gconstpointer unused)
{
    g_autofree char *page_size = NULL;

    execute(f->path, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL;"
                     "CREATE TABLE other (x); DROP TABLE other;");
    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    close_store(f);

    page_size = query(f->path, "PRAGMA page_size");
    g_assert_cmpstr(page_size, ==, "4096\n");
    assert_rows(f, "0|0|2|1|77|8|__version__|NULL\n"
                   "2|0|2|1|77|8|a|x\n");
}

static gsize
file_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (gsize)st.st_size : 0;
}

/* The log does not grow for ever, and nobody waits for its checkpoint. */
static void
test_checkpoint(Fixture *f, gconstpointer unused)
{
    const gsize size = 1 << 20;
    g_autofree char *text = g_strnfill(size, 'x');
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);
    guint64 last = 0;

    open_store(f);
    for (guint64 version = 2; version < 40; version++) {
        memset(text, (int)('A' + version), size);
        last = put(f, file(2, version, "large", text));
        cfs_store_commit(f->store);
        WAIT_FOR(f->committed == last);
    }
    g_assert_cmpuint(file_bytes(f->path), >, size);
    g_assert_cmpuint(file_bytes(log), <, 20 * size);
    close_store(f);
}

/* What was handed over is merged; the latest row of an inode wins. */
static void
test_merge(Fixture *f, gconstpointer unused)
{
    g_autoptr(GArray) deletes = g_array_new(FALSE, FALSE, sizeof(guint64));
    guint64 gone = 2, last;

    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    (void)put(f, file(3, 3, "b", "one"));
    (void)put(f, file(3, 4, "b", "two"));
    g_array_append_val(deletes, gone);
    (void)cfs_store_submit(f->store, NULL, deletes, NULL);
    last = put(f, file(6, 6, "a", ""));
    g_assert_cmpuint(last, ==, 5);
    cfs_store_commit(f->store);
    WAIT_FOR(f->committed == last);

    g_assert_cmpuint(f->n_reports, ==, 1);
    assert_rows(f, "0|0|6|1|77|8|__version__|NULL\n"
                   "3|0|4|1|77|8|b|two\n"
                   "6|0|6|1|77|8|a|NULL\n");
    close_store(f);
}

static void
test_close_writes_the_rest(Fixture *f, gconstpointer unused)
{
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);

    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    close_store(f);

    g_assert_false(g_file_test(log, G_FILE_TEST_EXISTS));
    assert_rows(f, "0|0|2|1|77|8|__version__|NULL\n"
                   "2|0|2|1|77|8|a|x\n");
}

/* Closes the store of @f and gives the rows that the next one finds. */
static GPtrArray *
load_rows(Fixture *f)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    GPtrArray *rows;

    f->store = cfs_store_open(f->path, &error);
    g_assert_no_error(error);
    rows = cfs_store_load(f->store, problems, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(problems->len, ==, 0);
    g_assert_true(cfs_store_close(f->store));
    return rows;
}

static void
test_load(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) rows = NULL;
    const CfsRow *row;

    open_store(f);
    close_store(f);
    /* After a state transfer the record has type 4; bits too many go. */
    execute(f->path, "UPDATE tree SET type = 4, version = 9, mtime = 4294967297"
                     " WHERE inode = 0;"
                     "INSERT INTO tree VALUES"
                     " (7, 0, 8, 4294967298, 5, 264, 'f', x'00ff')");
    rows = load_rows(f);
    g_assert_cmpuint(rows->len, ==, 2);
    row = rows->pdata[0];
    g_assert_cmpuint(row->version, ==, 9);
    g_assert_cmpuint(row->mtime, ==, 1);
    g_assert_cmpuint(row->type, ==, CFS_TYPE_DIRECTORY);
    row = rows->pdata[1];
    g_assert_cmpuint(row->writer, ==, 2);
    g_assert_cmpuint(row->type, ==, CFS_TYPE_FILE);
    g_assert_cmpuint(g_bytes_get_size(row->data), ==, 2);
}

/* What no tree can hold is handed over as it is: core/repair.h judges it. */
static void
test_load_odd_rows(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) rows = NULL;
    const CfsRow *row;

    open_store(f);
    close_store(f);
    execute(f->path, "DELETE FROM tree;"
                     "INSERT INTO tree VALUES (-1, 9, 2, 0, 0, 5, '', NULL);"
                     "INSERT INTO tree VALUES (2, 0, 2, 0, 0, 4,"
                     " CAST(x'610062' AS TEXT), x'00')");
    rows = load_rows(f);
    g_assert_cmpuint(rows->len, ==, 2);
    row = rows->pdata[0];
    g_assert_cmpuint(row->inode, ==, G_MAXUINT64);
    g_assert_cmpuint(row->parent, ==, 9);
    g_assert_cmpuint(row->type, ==, 5);
    g_assert_cmpuint(g_bytes_get_size(row->name), ==, 0);
    row = rows->pdata[1];
    g_assert_cmpuint(g_bytes_get_size(row->name), ==, 3);
    g_assert_cmpuint(g_bytes_get_size(row->data), ==, 1);
}

/* What a damaged file still gives. */
static void
test_load_damaged(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = g_strnfill(3000, 'x');
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *bytes = NULL;
    gsize size = 0;

    open_store(f);
    for (guint i = 2; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);

        (void)put(f, file(i, i, name, text));
    }
    close_store(f);
    g_assert_true(g_file_get_contents(f->path, &bytes, &size, NULL));
    g_assert_cmpuint(size, >, 100 * 4096);
    memset(bytes + 60 * 4096, 0xa5, 2 * 4096);
    g_assert_true(g_file_set_contents(f->path, bytes, (gssize)size, NULL));
    f->store = cfs_store_open(f->path, &error);
    g_assert_no_error(error);
    rows = cfs_store_load(f->store, problems, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(problems->len, >, 0);
    g_assert_cmpuint(rows->len, >, 50);
    g_assert_cmpuint(rows->len, <, 199);
    cfs_store_abandon(f->store);
}

static void
test_no_database(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strnfill(8192, 'x');

    g_assert_true(g_file_set_contents(f->path, text, -1, NULL));
    g_assert_null(cfs_store_open(f->path, &error));
    g_assert_cmpstr(error->message, ==,
                    "unable to set WAL mode: file is not a database");
}

/* A slow neighbour delays; nothing is lost. */
static void
test_locked(Fixture *f, gconstpointer unused)
{
    gint64 until;
    sqlite3 *db;

    open_store(f);
    db = connect_to(f->path);
    g_assert_cmpint(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), ==,
                    SQLITE_OK);
    (void)put(f, file(2, 2, "a", "x"));
    cfs_store_commit(f->store);
    until = g_get_monotonic_time() + G_USEC_PER_SEC / 5;
    while (g_get_monotonic_time() < until) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    g_assert_cmpuint(f->committed, ==, 0);
    g_assert_cmpint(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), ==,
                    SQLITE_OK);
    (void)sqlite3_close(db);
    WAIT_FOR(f->committed == 1);
    g_assert_cmpuint(f->n_failures, ==, 0);
    close_store(f);
}

static void
test_flush(Fixture *f, gconstpointer unused)
{
    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    /* Not told to commit: the flush covers it all the same. */
    cfs_store_flush(f->store, on_flushed, f, 42);
    WAIT_FOR(f->flushed_id == 42);
    g_assert_cmpint(f->flush_verdict, ==, 0);
    g_assert_cmpuint(f->committed, ==, 1);
    cfs_store_flush(f->store, on_flushed, f, 43);
    WAIT_FOR(f->flushed_id == 43);
    close_store(f);
}

/* spec/filesystem.md W1: another program that opens and closes the database
 * must not take our log of changes with it. */
static void
test_survives_readers(Fixture *f, gconstpointer program)
{
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);
    const char *argv[] = {program, "--read", f->path, NULL};
    g_autoptr(GError) error = NULL;
    struct stat before, after;
    int status = -1;

    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    cfs_store_flush(f->store, on_flushed, f, 1);
    WAIT_FOR(f->flushed_id == 1);
    g_assert_cmpint(stat(log, &before), ==, 0);
    (void)g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL, NULL,
                       &status, &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(stat(log, &after), ==, 0);
    g_assert_cmpuint(before.st_ino, ==, after.st_ino);
    close_store(f);
}

/* A full disk is reported, and over when there is room again. */
static void
test_full(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = g_strnfill(CFS_MAX_FILE_BYTES, 'x');

    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", f->folder, "tmpfs", 0, "size=512k") < 0) {
        g_test_skip("needs root for a small disk");
        return;
    }
    open_store(f);
    (void)put(f, file(2, 2, "small", "x"));
    (void)put(f, file(3, 3, "large", text));
    cfs_store_commit(f->store);
    WAIT_FOR(f->problem == ENOSPC);
    g_assert_cmpuint(f->committed, ==, 0);
    cfs_store_flush(f->store, on_flushed, f, 1);
    WAIT_FOR(f->flushed_id == 1);
    g_assert_cmpint(f->flush_verdict, ==, ENOSPC);
    (void)put(f, file(2, 4, "small", "y"));

    g_assert_cmpint(mount("tmpfs", f->folder, "tmpfs", MS_REMOUNT, "size=16m"),
                    ==, 0);
    WAIT_FOR(f->problem == 0 && f->committed == 3);
    close_store(f);
    text[8] = '\0';
    {
        g_autofree char *rows = query(
            f->path, "SELECT inode, version, name, substr(CAST(data AS TEXT),"
                     " 1, 8), length(data) FROM tree ORDER BY inode");
        g_autofree char *expected = g_strdup_printf(
            "0|4|__version__|NULL|NULL\n2|4|small|y|1\n3|3|large|%s|%u\n", text,
            CFS_MAX_FILE_BYTES);

        g_assert_cmpstr(rows, ==, expected);
    }
    g_assert_cmpint(umount2(f->folder, MNT_DETACH), ==, 0);
}

/* What one commit adds to the log of changes. */
static gsize
cost_of(Fixture *f, guint64 version, const char *text, guint pieces)
{
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);
    gsize before = file_bytes(log);
    guint64 number = 0;

    for (guint i = 0; i < pieces; i++) {
        number = put(f, file(2, version + i, "large", text));
    }
    cfs_store_commit(f->store);
    WAIT_FOR(f->committed == number);
    return file_bytes(log) - before;
}

/* spec/filesystem.md W10: a large file is not written again for each piece. */
static void
test_cost(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = g_strnfill(CFS_MAX_FILE_BYTES, 'a');
    const gsize piece = 128 * 1024;

    open_store(f);
    (void)cost_of(f, 1000, text, 1);
    /* One piece of it costs that piece. */
    memset(text, 'b', piece);
    g_assert_cmpuint(cost_of(f, 1001, text, 1), <, piece + 32 * 1024);
    /* What comes while the disk is busy is written once. */
    memset(text, 'c', CFS_MAX_FILE_BYTES);
    g_assert_cmpuint(cost_of(f, 1002, text, 8), <, CFS_MAX_FILE_BYTES + piece);
    /* To let go of pages is cheap. */
    g_assert_cmpuint(cost_of(f, 1010, "", 1), <, 64 * 1024);
    close_store(f);
}

/* The whole tree, as the daemon gives it. */
static GPtrArray *
on_snapshot(gpointer data)
{
    GPtrArray *tree = data;

    return g_ptr_array_copy(tree, (GCopyFunc)(void *)cfs_entry_ref, NULL);
}

static void
put_in_tree(Fixture *f, GPtrArray *tree, guint64 number, const char *text)
{
    g_autofree char *name = g_strdup_printf("f%u", (guint)number);
    CfsEntry *entry = file(number, number, name, text);

    g_ptr_array_add(tree, cfs_entry_ref(entry));
    cfs_entry_unref(tree->pdata[0]);
    tree->pdata[0] =
        cfs_entry_new(0, 0, number, 1, 77, CFS_TYPE_DIRECTORY, "", NULL);
    (void)put(f, entry);
}

static GPtrArray *
start_with_tree(Fixture *f)
{
    GPtrArray *tree =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);
    g_autoptr(GError) error = NULL;

    g_ptr_array_add(
        tree, cfs_entry_new(0, 0, 1, 0, 1234, CFS_TYPE_DIRECTORY, "", NULL));
    f->store = cfs_store_open(f->path, &error);
    g_assert_no_error(error);
    g_assert_true(cfs_store_create(f->store, tree, &error));
    cfs_store_set_snapshot(f->store, on_snapshot, tree);
    g_assert_true(cfs_store_start(f->store, on_report, f, &error));
    return tree;
}

/* A copy of what a start after kill -9 would find. */
static void
assert_rows_after_crash(Fixture *f, const char *expected)
{
    static const char *const tails[] = {"", "-wal"};
    g_autofree char *copy = g_strconcat(f->path, ".copy", NULL);
    g_autofree char *rows = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(tails); i++) {
        g_autofree char *from = g_strconcat(f->path, tails[i], NULL);
        g_autofree char *to = g_strconcat(copy, tails[i], NULL);
        g_autofree char *bytes = NULL;
        gsize size = 0;

        if (g_file_get_contents(from, &bytes, &size, NULL)) {
            g_assert_true(g_file_set_contents(to, bytes, (gssize)size, NULL));
        }
    }
    rows = query(copy, "SELECT inode, name FROM tree ORDER BY inode");
    g_assert_cmpstr(rows, ==, expected);
    (void)g_unlink(copy);
}

#define TERMS                                                                  \
    "SELECT term, seen, acked, cluster, version, hex(history) FROM"            \
    " pmxcfs_terms"

static CfsDbTerms
example_terms(void)
{
    CfsDbTerms terms = {.version = 3};

    terms.record = (CfsTermRecord){
        .term = 7, .seen = 8, .acked = 2, .cluster_id = 9, .n_history = 1};
    terms.record.history[0] = (CfsTermStart){7, 2, 5};
    return terms;
}

static const char terms_row[] = "7|8|2|9|3|0700000000000000"
                                "02000000000000000500000000000000\n";

static void
assert_terms(Fixture *f, const char *expected)
{
    g_autofree char *found = query(f->path, TERMS);

    g_assert_cmpstr(found, ==, expected);
}

/* spec/filesystem.md W1: the log, or all of it, goes while we work. */
static void
test_files_taken_away(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) tree = start_with_tree(f);
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);
    g_autofree char *index = g_strconcat(f->path, "-shm", NULL);
    const CfsDbTerms terms = example_terms();

    put_in_tree(f, tree, 2, "x");
    (void)cfs_store_submit(f->store, NULL, NULL, &terms);
    cfs_store_commit(f->store);
    WAIT_FOR(f->committed == 2);

    g_assert_cmpint(g_unlink(log), ==, 0);
    put_in_tree(f, tree, 3, "y");
    cfs_store_flush(f->store, on_flushed, f, 1);
    WAIT_FOR(f->flushed_id == 1);
    g_assert_cmpint(f->flush_verdict, ==, 0);
    assert_rows_after_crash(f, "0|__version__\n2|f2\n3|f3\n");

    g_assert_cmpint(g_unlink(log) | g_unlink(index) | g_unlink(f->path), ==, 0);
    /* Without any change it is seen too. */
    WAIT_FOR(g_file_test(f->path, G_FILE_TEST_EXISTS) &&
             g_file_test(log, G_FILE_TEST_EXISTS));
    put_in_tree(f, tree, 4, "z");
    cfs_store_flush(f->store, on_flushed, f, 2);
    WAIT_FOR(f->flushed_id == 2);
    assert_rows_after_crash(f, "0|__version__\n2|f2\n3|f3\n4|f4\n");
    close_store(f);
    g_assert_false(g_file_test(log, G_FILE_TEST_EXISTS));
    assert_terms(f, terms_row);
}

static void
test_files_taken_away_at_the_end(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) tree = start_with_tree(f);
    g_autofree char *log = g_strconcat(f->path, "-wal", NULL);

    put_in_tree(f, tree, 2, "x");
    cfs_store_flush(f->store, on_flushed, f, 1);
    WAIT_FOR(f->flushed_id == 1);
    g_assert_cmpint(g_unlink(log), ==, 0);
    put_in_tree(f, tree, 3, "y");
    close_store(f);
    assert_rows_after_crash(f, "0|__version__\n2|f2\n3|f3\n");
}

static int
read_once(const char *path)
{
    g_autofree char *rows = query(path, ALL);

    return rows[0] != '\0' ? 0 : 1;
}

/* Beside the table of the reference, in the transaction of the rows. */
static void
test_terms(Fixture *f, gconstpointer unused)
{
    CfsDbTerms terms = example_terms(), back;
    guint64 last;

    open_store(f);
    (void)put(f, file(2, 2, "a", "x"));
    last = cfs_store_submit(f->store, NULL, NULL, &terms);
    cfs_store_commit(f->store);
    WAIT_FOR(f->committed == last);
    close_store(f);
    assert_terms(f, terms_row);

    f->store = cfs_store_open(f->path, NULL);
    cfs_store_load_terms(f->store, &back);
    g_assert_cmpmem(&back, sizeof(back), &terms, sizeof(terms));
    cfs_store_abandon(f->store);
    f->store = NULL;
}

/* What makes no sense claims nothing, and keeps nobody from starting. */
static void
test_terms_odd(Fixture *f, gconstpointer unused)
{
    static const char *const odd[] = {
        "UPDATE pmxcfs_terms SET history = X'00'",
        "UPDATE pmxcfs_terms SET term = -1",
        "UPDATE pmxcfs_terms SET acked = 'many'",
        "DROP TABLE pmxcfs_terms; CREATE TABLE pmxcfs_terms (id)",
        "DROP TABLE pmxcfs_terms",
    };
    const CfsDbTerms none = {0};

    for (guint i = 0; i < G_N_ELEMENTS(odd); i++) {
        CfsDbTerms terms = example_terms();

        open_store(f);
        (void)cfs_store_submit(f->store, NULL, NULL, &terms);
        close_store(f);
        execute(f->path, odd[i]);
        f->store = cfs_store_open(f->path, NULL);
        cfs_store_load_terms(f->store, &terms);
        g_assert_cmpmem(&terms, sizeof(terms), &none, sizeof(none));
        cfs_store_abandon(f->store);
        f->store = NULL;
        /* ... or from going on. */
        open_store(f);
        terms = example_terms();
        (void)cfs_store_submit(f->store, NULL, NULL, &terms);
        close_store(f);
        assert_terms(f, terms_row);
    }
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--read") == 0) {
        return read_once(argv[2]);
    }
    g_test_init(&argc, &argv, NULL);
    /* Warnings are what these tests provoke. */
    (void)g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);
    g_log_set_fatal_mask("database", G_LOG_FATAL_MASK);
#define ADD(name, function, data)                                              \
    g_test_add("/store/" name, Fixture, data, setup, function, teardown)
    ADD("new", test_new, NULL);
    ADD("page-size", test_page_size, NULL);
    ADD("checkpoint", test_checkpoint, NULL);
    ADD("load", test_load, NULL);
    ADD("load-odd-rows", test_load_odd_rows, NULL);
    ADD("load-damaged", test_load_damaged, NULL);
    ADD("files-taken-away", test_files_taken_away, NULL);
    ADD("files-taken-away-at-the-end", test_files_taken_away_at_the_end, NULL);
    ADD("no-database", test_no_database, NULL);
    ADD("merge", test_merge, NULL);
    ADD("close-writes-the-rest", test_close_writes_the_rest, NULL);
    ADD("cost", test_cost, NULL);
    ADD("locked", test_locked, NULL);
    ADD("flush", test_flush, NULL);
    ADD("survives-readers", test_survives_readers, argv[0]);
    ADD("full", test_full, NULL);
    ADD("terms", test_terms, NULL);
    ADD("terms-odd", test_terms_odd, NULL);
    return g_test_run();
}
