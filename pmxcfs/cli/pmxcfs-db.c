/* pmxcfs-db.c - looks at, copies and mends a database offline.
 *
 * Reading never writes to a database, its log or its locks, so a database in
 * use can be looked at. What writes refuses a database that a daemon holds.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"
#include "common/subcommand.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/core/tree.h"
#include "pmxcfs/io/dbfile.h"

#define TOOL "pmxcfs-db"
#define LOCK_NAME ".pmxcfs.lockfile"
/* More than a path of the kernel's can have, less than a stack. */
#define MAX_DEPTH 2048u

enum { RESULT_OK = 0, RESULT_DIFFERENT = 1, RESULT_TROUBLE = 2 };

/* A command's arguments. */
typedef struct {
    char *database;
    gboolean is_long;
    gboolean is_recursive;
} Options;

static void
options_clear(Options *self)
{
    g_free(self->database);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

/* What a file holds. */
typedef struct {
    GPtrArray *rows;
    GPtrArray *problems; /* of reading */
    CfsRepair *repair;
    CfsTree *tree;
    CfsDbTerms terms;
} Content;

static void
content_free(Content *self)
{
    g_clear_pointer(&self->rows, g_ptr_array_unref);
    g_clear_pointer(&self->problems, g_ptr_array_unref);
    g_clear_pointer(&self->repair, cfs_repair_free);
    g_clear_pointer(&self->tree, cfs_tree_free);
    g_free(self);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Content, content_free)

typedef sqlite3 Database;

static void
database_close(Database *db)
{
    (void)sqlite3_close(db);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Database, database_close)

/* Saying ------------------------------------------------------------------ */

static int
trouble(const GError *error)
{
    fprintf(stderr, TOOL ": %s\n", error->message);
    return RESULT_TROUBLE;
}

static gboolean refuse(GError **error, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static gboolean
refuse(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error != NULL) {
        *error = g_error_new_valist(CFS_ERROR, CFS_ERROR_CONFIG, format, args);
    }
    va_end(args);
    return FALSE;
}

/* Returns: (owned) @name without what a terminal or a line would suffer from.
 */
static char *
show(const char *name)
{
    char *text = g_strdup(name);

    for (char *p = text; *p != '\0'; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = '?';
        }
    }
    return text;
}

static void
print_hex(FILE *out, gconstpointer bytes, gsize size)
{
    const guint8 *p = bytes;

    for (gsize i = 0; i < size; i++) {
        fprintf(out, "%02x", p[i]);
    }
}

/* Output that did not reach its file is trouble. */
static int
finish_output(int result)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        fprintf(stderr, TOOL ": write: %s\n", g_strerror(errno));
        return RESULT_TROUBLE;
    }
    return result;
}

/* Arguments --------------------------------------------------------------- */

/* Between @least and @most words must be left behind the options. */
static gboolean
parse(Options *options,
      int *argc,
      char ***argv,
      const char *what,
      int least,
      int most,
      GError **error)
{
    const GOptionEntry entries[] = {
        {"database", 'd', 0, G_OPTION_ARG_FILENAME, &options->database,
         "The database (" PVE_DATABASE ")", "FILE"},
        {"long", 'l', 0, G_OPTION_ARG_NONE, &options->is_long,
         "ls: all there is to know", NULL},
        {"recursive", 'R', 0, G_OPTION_ARG_NONE, &options->is_recursive,
         "ls: with all below", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(what);
    g_autofree char *name = g_strconcat(TOOL " ", (*argv)[0], NULL);

    g_set_prgname(name);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error)) {
        return FALSE;
    }
    if (*argc > 1 && strcmp((*argv)[1], "--") == 0) {
        (*argv)[1] = (*argv)[0];
        (*argv)++;
        (*argc)--;
    }
    if (*argc - 1 < least || *argc - 1 > most) {
        return refuse(error, "usage: %s %s %s", TOOL, (*argv)[0], what);
    }
    if (options->database == NULL) {
        options->database = g_strdup(PVE_DATABASE);
    }
    return TRUE;
}

/* Loading ----------------------------------------------------------------- */

static Content *
load(const char *path, GError **error)
{
    g_autoptr(Content) self = g_new0(Content, 1);
    g_autoptr(Database) db = cfs_dbfile_open_readonly(path, error);

    if (db == NULL) {
        return NULL;
    }
    self->problems = g_ptr_array_new_with_free_func(g_free);
    self->rows = cfs_dbfile_read(db, self->problems, error);
    if (self->rows == NULL) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    if (!cfs_dbfile_read_terms(db, &self->terms, self->problems, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    if (self->rows->len == 0 && self->problems->len == 0) {
        refuse(error, "%s: an empty database", path);
        return NULL;
    }
    self->repair = cfs_repair_rows(self->rows);
    self->tree = cfs_tree_new_from_entries(self->repair->entries, error);
    return self->tree != NULL ? g_steal_pointer(&self) : NULL;
}

/* As a node on its own would do at its start. */
static void
raise_version(Content *self)
{
    cfs_repair_raise(self->repair);
    cfs_tree_free(self->tree);
    self->tree = cfs_tree_new_from_entries(self->repair->entries, NULL);
    g_assert(self->tree != NULL);
}

static guint
count_findings(const Content *self)
{
    return self->problems->len + self->repair->decisions->len;
}

/* For the commands that look at the tree: what they show is not all. */
static Content *
load_tree(const char *path, GError **error)
{
    Content *self = load(path, error);

    if (self != NULL && count_findings(self) > 0) {
        fprintf(stderr,
                TOOL ": %s has %u faults, shown is what a repair would keep "
                     "(see: " TOOL " check)\n",
                path, count_findings(self));
    }
    return self;
}

static void
print_findings(const Content *self)
{
    for (guint i = 0; i < self->problems->len; i++) {
        printf("%s\n", (const char *)self->problems->pdata[i]);
    }
    for (guint i = 0; i < self->repair->decisions->len; i++) {
        printf("%s\n", (const char *)self->repair->decisions->pdata[i]);
    }
}

/* Takes the daemon's lock beside @database for the life of this process. */
static gboolean
lock_database(const char *database, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(database);
    g_autofree char *path = g_build_filename(folder, LOCK_NAME, NULL);
    gboolean is_ours = strcmp(path, PVE_LOCK_FILE) == 0;
    PVE_AUTOFD(fd) =
        open(path, O_RDWR | O_CLOEXEC | (is_ours ? O_CREAT : 0), 0600);

    if (fd < 0) {
        /* Elsewhere no daemon ever was. */
        return errno == ENOENT || pve_errno_error(error, "open", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK
                   ? refuse(error,
                            "%s is in use: stop pmxcfs first (systemctl stop "
                            "pve-cluster)",
                            database)
                   : pve_errno_error(error, "lock", path);
    }
    (void)pve_steal_fd(&fd);
    return TRUE;
}

static gboolean
must_not_exist(const char *path, GError **error)
{
    struct stat st;

    if (lstat(path, &st) == 0) {
        return refuse(error, "%s exists: it is not overwritten", path);
    }
    return errno == ENOENT || pve_errno_error(error, "look at", path);
}

/* check ------------------------------------------------------------------- */

/* Returns the number of lines that SQLite has to say about the file. */
static guint
check_pages(const char *path, GError **error)
{
    g_autoptr(Database) db = cfs_dbfile_open_readonly(path, error);
    sqlite3_stmt *query = NULL;
    guint n = 0;
    int code;

    if (db == NULL) {
        return 0;
    }
    code = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &query, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        const char *text;

        code = sqlite3_step(query);
        if (code != SQLITE_ROW) {
            break;
        }
        text = (const char *)sqlite3_column_text(query, 0);
        if (g_strcmp0(text, "ok") != 0) {
            printf("damaged: %s\n", text);
            n++;
        }
    }
    if (code != SQLITE_DONE) {
        cfs_dbfile_error(db, "", error);
    }
    (void)sqlite3_finalize(query);
    return n;
}

static void
print_totals(const char *path, CfsTree *tree)
{
    g_autoptr(GArray) guests = cfs_guests_list(cfs_tree_guests(tree));

    printf("%s: version %" G_GUINT64_FORMAT ", %u entries, %" G_GUINT64_FORMAT
           " bytes, %u guests\n",
           path, cfs_tree_root(tree)->version, cfs_tree_n_entries(tree) - 1,
           cfs_tree_total_bytes(tree), guests->len);
}

static gboolean
has_terms(const Content *content)
{
    const CfsDbTerms none = {0};

    return memcmp(&content->terms, &none, sizeof(none)) != 0;
}

static void
print_terms(const Content *content)
{
    const CfsTermRecord *record = &content->terms.record;

    if (has_terms(content)) {
        printf("term %" G_GUINT64_FORMAT ", known safe up to version "
               "%" G_GUINT64_FORMAT ", cluster id %016" G_GINT64_MODIFIER "x\n",
               record->term, record->acked, record->cluster_id);
    }
}

static int
run_check(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;
    guint n;

    if (!parse(&options, &argc, &argv, "[-d FILE]", 0, 0, &error)) {
        return trouble(error);
    }
    content = load(options.database, &error);
    if (content == NULL) {
        return trouble(error);
    }
    raise_version(content);
    n = check_pages(options.database, &error);
    if (error != NULL) {
        printf("damaged: %s\n", error->message);
        n++;
    }
    print_findings(content);
    n += count_findings(content);
    print_totals(options.database, content->tree);
    print_terms(content);
    if (n > 0) {
        printf("%u faults\n", n);
    }
    return finish_output(n > 0 ? RESULT_DIFFERENT : RESULT_OK);
}

/* ls, cat ----------------------------------------------------------------- */

static void
print_entry(const CfsEntry *entry, const char *name, gboolean is_long)
{
    g_autofree char *shown = show(name);
    g_autoptr(GDateTime) when = NULL;
    g_autofree char *date = NULL;
    const char *mark = cfs_entry_is_directory(entry) ? "/" : "";

    if (!is_long) {
        printf("%s%s\n", shown, mark);
        return;
    }
    when = g_date_time_new_from_unix_utc(entry->mtime);
    date = g_date_time_format(when, "%Y-%m-%dT%H:%M:%SZ");
    printf("%c %8" G_GUINT64_FORMAT " %8" G_GUINT64_FORMAT " %5u %8u %s %s%s\n",
           cfs_entry_is_directory(entry) ? 'd' : '-', entry->inode,
           entry->version, entry->writer, entry->size, date, shown, mark);
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp((*(CfsEntry *const *)a)->name, (*(CfsEntry *const *)b)->name);
}

/* @prefix: what stands before the names; with all below if asked for. */
static void
list(CfsTree *tree,
     guint64 directory,
     const char *prefix,
     const Options *options,
     guint depth)
{
    g_autoptr(GPtrArray) children = cfs_tree_children(tree, directory);

    g_ptr_array_sort(children, compare_names);
    for (guint i = 0; i < children->len; i++) {
        const CfsEntry *entry = children->pdata[i];
        g_autofree char *name = g_strconcat(prefix, entry->name, NULL);

        print_entry(entry, name, options->is_long);
        if (options->is_recursive && cfs_entry_is_directory(entry) &&
            depth < MAX_DEPTH) {
            g_autofree char *below = g_strconcat(name, "/", NULL);

            list(tree, entry->inode, below, options, depth + 1);
        }
    }
}

/* Returns: (borrowed) what is at @path, with or without a leading slash. */
static CfsEntry *
find(CfsTree *tree, const char *path, GError **error)
{
    CfsEntry *entry = cfs_tree_lookup(tree, path);

    if (entry == NULL) {
        refuse(error, "%s: not in the database", path);
    }
    return entry;
}

static int
run_ls(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;
    const CfsEntry *entry;

    if (!parse(&options, &argc, &argv, "[-lR] [-d FILE] [PATH]", 0, 1,
               &error)) {
        return trouble(error);
    }
    content = load_tree(options.database, &error);
    entry = content != NULL
                ? find(content->tree, argc > 1 ? argv[1] : "", &error)
                : NULL;
    if (entry == NULL) {
        return trouble(error);
    }
    if (cfs_entry_is_directory(entry)) {
        list(content->tree, entry->inode, "", &options, 0);
    } else {
        print_entry(entry, argv[1], options.is_long);
    }
    return finish_output(RESULT_OK);
}

/* Returns: (owned) the content, zeros where there is only a size. */
static GBytes *
bytes_of(const CfsEntry *entry)
{
    guint8 *bytes = g_malloc(MAX(entry->size, 1));
    gsize size = cfs_entry_read(entry, 0, entry->size, bytes);

    return g_bytes_new_take(bytes, size);
}

static int
run_cat(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;
    g_autoptr(GBytes) bytes = NULL;
    const CfsEntry *entry;

    if (!parse(&options, &argc, &argv, "[-d FILE] PATH", 1, 1, &error)) {
        return trouble(error);
    }
    content = load_tree(options.database, &error);
    entry = content != NULL ? find(content->tree, argv[1], &error) : NULL;
    if (entry != NULL && cfs_entry_is_directory(entry)) {
        refuse(&error, "%s: is a directory", argv[1]);
    }
    if (error != NULL) {
        return trouble(error);
    }
    bytes = bytes_of(entry);
    (void)fwrite(g_bytes_get_data(bytes, NULL), 1, g_bytes_get_size(bytes),
                 stdout);
    return finish_output(RESULT_OK);
}

/* dump, digest ------------------------------------------------------------ */

static void
dump_name(GBytes *name)
{
    gsize size = 0;
    const char *bytes = g_bytes_get_data(name, &size);
    gboolean is_plain = TRUE;

    for (gsize i = 0; i < size; i++) {
        is_plain = is_plain && !g_ascii_iscntrl(bytes[i]);
    }
    if (!is_plain) {
        printf("CAST(X'");
        print_hex(stdout, bytes, size);
        printf("' AS TEXT)");
        return;
    }
    putchar('\'');
    for (gsize i = 0; i < size; i++) {
        if (bytes[i] == '\'') {
            putchar('\'');
        }
        putchar(bytes[i]);
    }
    putchar('\'');
}

static void
dump_row(const CfsRow *row)
{
    gsize size = 0;
    gconstpointer data =
        row->data != NULL ? g_bytes_get_data(row->data, &size) : NULL;

    printf("INSERT INTO tree VALUES(%" G_GINT64_FORMAT ",%" G_GINT64_FORMAT
           ",%" G_GINT64_FORMAT ",%u,%u,%u,",
           (gint64)row->inode, (gint64)row->parent, (gint64)row->version,
           row->writer, row->mtime, row->type);
    dump_name(row->name);
    if (data != NULL) {
        printf(",X'");
        print_hex(stdout, data, size);
        printf("');\n");
    } else {
        printf(",NULL);\n");
    }
}

static void
dump_terms(const Content *content)
{
    const CfsTermRecord *record = &content->terms.record;
    g_autoptr(GByteArray) history = g_byte_array_new();

    if (!has_terms(content)) {
        return;
    }
    cfs_term_history_write(history, record);
    printf("%s\nINSERT INTO pmxcfs_terms VALUES(0,%" G_GINT64_FORMAT
           ",%" G_GINT64_FORMAT ",%" G_GINT64_FORMAT ",%" G_GINT64_FORMAT
           ",%" G_GINT64_FORMAT ",X'",
           cfs_dbfile_terms_schema, (gint64)record->term, (gint64)record->seen,
           (gint64)record->acked, (gint64)record->cluster_id,
           (gint64)content->terms.version);
    print_hex(stdout, history->data, history->len);
    printf("');\n");
}

static int
run_dump(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;

    if (!parse(&options, &argc, &argv, "[-d FILE]", 0, 0, &error) ||
        (content = load(options.database, &error)) == NULL) {
        return trouble(error);
    }
    printf("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n%s\n",
           cfs_dbfile_schema);
    for (guint i = 0; i < content->rows->len; i++) {
        dump_row(content->rows->pdata[i]);
    }
    dump_terms(content);
    printf("COMMIT;\n");
    for (guint i = 0; i < content->problems->len; i++) {
        fprintf(stderr, TOOL ": %s\n", (char *)content->problems->pdata[i]);
    }
    return finish_output(content->problems->len > 0 ? RESULT_DIFFERENT
                                                    : RESULT_OK);
}

static int
run_digest(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;
    g_autoptr(GBytes) index = NULL;
    g_autofree char *sum = NULL;
    guint8 checksum[CFS_DIGEST_SIZE];
    const CfsEntry *root;

    if (!parse(&options, &argc, &argv, "[-d FILE]", 0, 0, &error) ||
        (content = load_tree(options.database, &error)) == NULL) {
        return trouble(error);
    }
    root = cfs_tree_root(content->tree);
    index = cfs_tree_index(content->tree);
    sum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, index);
    cfs_tree_checksum(content->tree, checksum);
    printf("version  %" G_GUINT64_FORMAT "\nwriter   %u\nmtime    %u\n"
           "entries  %u\nbytes    %" G_GUINT64_FORMAT "\nindex    %s\n"
           "checksum ",
           root->version, root->writer, root->mtime,
           cfs_tree_n_entries(content->tree),
           cfs_tree_total_bytes(content->tree), sum);
    print_hex(stdout, checksum, sizeof(checksum));
    putchar('\n');
    return finish_output(RESULT_OK);
}

/* diff -------------------------------------------------------------------- */

static int
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Returns: (owned array of owned paths) all of both trees, sorted, once. */
static GPtrArray *
all_paths(CfsTree *a, CfsTree *b)
{
    CfsTree *trees[] = {a, b};
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);

    for (guint t = 0; t < G_N_ELEMENTS(trees); t++) {
        g_autoptr(GPtrArray) entries = cfs_tree_entries(trees[t]);

        for (guint i = 0; i < entries->len; i++) {
            const CfsEntry *entry = entries->pdata[i];
            g_autofree char *path = cfs_tree_path(trees[t], entry->inode);

            if (g_hash_table_add(seen, path)) {
                g_ptr_array_add(paths, g_steal_pointer(&path));
            }
        }
    }
    g_ptr_array_sort(paths, compare_texts);
    return paths;
}

static void
say_change(GString *out, const char *what, guint64 a, guint64 b)
{
    if (a != b) {
        g_string_append_printf(
            out, "%s%s %" G_GUINT64_FORMAT " > %" G_GUINT64_FORMAT,
            out->len > 0 ? ", " : "", what, a, b);
    }
}

/* Returns: (owned) how they differ; empty: not at all. */
static char *
compare_entries(const CfsEntry *a, const CfsEntry *b)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GBytes) x = bytes_of(a);
    g_autoptr(GBytes) y = bytes_of(b);

    say_change(out, "type", a->type, b->type);
    say_change(out, "inode", a->inode, b->inode);
    say_change(out, "version", a->version, b->version);
    say_change(out, "writer", a->writer, b->writer);
    say_change(out, "mtime", a->mtime, b->mtime);
    say_change(out, "size", a->size, b->size);
    if (!g_bytes_equal(x, y)) {
        g_string_append_printf(out, "%scontent", out->len > 0 ? ", " : "");
    }
    return g_string_free(out, FALSE);
}

/* TRUE when it had nothing to say. */
static gboolean
diff_path(CfsTree *a, CfsTree *b, const char *path)
{
    const CfsEntry *x = cfs_tree_lookup(a, path);
    const CfsEntry *y = cfs_tree_lookup(b, path);
    g_autofree char *shown = show(path[0] != '\0' ? path : "/");
    g_autofree char *how = NULL;

    if (x == NULL || y == NULL) {
        printf("%c %s\n", x == NULL ? '+' : '-', shown);
        return FALSE;
    }
    how = compare_entries(x, y);
    if (how[0] == '\0') {
        return TRUE;
    }
    printf("~ %s (%s)\n", shown, how);
    return FALSE;
}

/* TRUE when it had nothing to say. Where neither was in a cluster of ours there
 * is nothing to compare. */
static gboolean
diff_terms(const Content *a, const Content *b)
{
    const CfsTermRecord *x = &a->terms.record, *y = &b->terms.record;

    if (x->term == y->term && x->cluster_id == y->cluster_id) {
        return TRUE;
    }
    printf("~ term (%" G_GUINT64_FORMAT " of cluster id %016" G_GINT64_MODIFIER
           "x, %" G_GUINT64_FORMAT " of %016" G_GINT64_MODIFIER "x)\n",
           x->term, x->cluster_id, y->term, y->cluster_id);
    return FALSE;
}

static int
run_diff(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) a = NULL, b = NULL;
    g_autoptr(GPtrArray) paths = NULL;
    gboolean is_equal = TRUE;

    if (!parse(&options, &argc, &argv, "A B", 2, 2, &error) ||
        (a = load_tree(argv[1], &error)) == NULL ||
        (b = load_tree(argv[2], &error)) == NULL) {
        return trouble(error);
    }
    paths = all_paths(a->tree, b->tree);
    for (guint i = 0; i < paths->len; i++) {
        is_equal &= diff_path(a->tree, b->tree, paths->pdata[i]);
    }
    is_equal &= diff_terms(a, b);
    return finish_output(is_equal ? RESULT_OK : RESULT_DIFFERENT);
}

/* extract ----------------------------------------------------------------- */

static gboolean
extract_file(int folder, const CfsEntry *entry, GError **error)
{
    g_autoptr(GBytes) bytes = bytes_of(entry);
    const struct timespec times[2] = {{.tv_sec = entry->mtime},
                                      {.tv_sec = entry->mtime}};
    PVE_AUTOFD(fd) =
        openat(folder, entry->name,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 ||
        !pve_write_all(fd, g_bytes_get_data(bytes, NULL),
                       g_bytes_get_size(bytes)) ||
        futimens(fd, times) < 0) {
        return pve_errno_error(error, "write", entry->name);
    }
    return TRUE;
}

static gboolean
extract_into(
    CfsTree *tree, guint64 directory, int folder, guint depth, GError **error)
{
    g_autoptr(GPtrArray) children = cfs_tree_children(tree, directory);

    if (depth > MAX_DEPTH) {
        return refuse(error, "directories are nested too deep");
    }

    for (guint i = 0; i < children->len; i++) {
        const CfsEntry *entry = children->pdata[i];
        PVE_AUTOFD(below) = -1;

        if (!cfs_entry_is_directory(entry)) {
            if (!extract_file(folder, entry, error)) {
                return FALSE;
            }
            continue;
        }
        if (mkdirat(folder, entry->name, 0700) < 0 ||
            (below = openat(folder, entry->name,
                            O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) <
                0) {
            return pve_errno_error(error, "create directory", entry->name);
        }
        if (!extract_into(tree, entry->inode, below, depth + 1, error)) {
            g_prefix_error(error, "%s/: ", entry->name);
            return FALSE;
        }
    }
    return TRUE;
}

static int
run_extract(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;
    PVE_AUTOFD(folder) = -1;

    if (!parse(&options, &argc, &argv, "[-d FILE] DIR", 1, 1, &error) ||
        (content = load_tree(options.database, &error)) == NULL) {
        return trouble(error);
    }
    /* A new one: nothing of it was put there by somebody else. */
    if (mkdir(argv[1], 0700) < 0 ||
        (folder = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        pve_errno_error(&error, "create directory", argv[1]);
        return trouble(error);
    }
    if (!extract_into(content->tree, CFS_ROOT_INODE, folder, 0, &error)) {
        return trouble(error);
    }
    return RESULT_OK;
}

/* create ------------------------------------------------------------------ */

static gboolean
apply(CfsTree *tree, CfsOp *op, const char *name, GError **error)
{
    g_autoptr(CfsOp) owned = op;
    int verdict = cfs_tree_apply(tree, owned, 0, (guint32)time(NULL), NULL);

    return verdict == 0 || refuse(error, "%s: %s", name, g_strerror(verdict));
}

static gboolean
add_file(CfsTree *tree, const char *folder, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GBytes) bytes = NULL;
    struct stat st;

    if (lstat(path, &st) < 0) {
        return pve_errno_error(error, "look at", path);
    }
    if (!S_ISREG(st.st_mode)) {
        fprintf(stderr, TOOL ": %s is no regular file, left out\n", path);
        return TRUE;
    }
    bytes = pve_file_read(path, CFS_MAX_FILE_BYTES, error);
    return bytes != NULL &&
           apply(tree, cfs_op_new(CFS_OP_CREATE, name), path, error) &&
           (g_bytes_get_size(bytes) == 0 ||
            apply(tree, cfs_op_new_write(name, bytes, 0), path, error));
}

/* The order of names, so that the same files make the same database. */
static CfsTree *
tree_of_folder(const char *folder, GError **error)
{
    g_autoptr(CfsTree) tree = cfs_tree_new((guint32)time(NULL));
    g_autoptr(GDir) dir = g_dir_open(folder, 0, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    if (dir == NULL) {
        return NULL;
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, compare_texts);
    for (guint i = 0; i < names->len; i++) {
        if (!add_file(tree, folder, names->pdata[i], error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&tree);
}

static int
run_create(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(CfsTree) tree = NULL;
    g_autoptr(GPtrArray) entries = NULL;

    if (!parse(&options, &argc, &argv, "[-d FILE] DIR", 1, 1, &error) ||
        !must_not_exist(options.database, &error) ||
        !lock_database(options.database, &error) ||
        (tree = tree_of_folder(argv[1], &error)) == NULL) {
        return trouble(error);
    }
    entries = cfs_tree_entries(tree);
    if (!cfs_dbfile_write(options.database, entries, NULL, &error)) {
        return trouble(error);
    }
    print_totals(options.database, tree);
    return finish_output(RESULT_OK);
}

/* backup, restore, repair -------------------------------------------------- */

static gboolean
copy_pages(Database *from, Database *to, GError **error)
{
    sqlite3_backup *copy = sqlite3_backup_init(to, "main", from, "main");
    int code;

    if (copy == NULL) {
        return cfs_dbfile_error(to, "", error);
    }
    code = sqlite3_backup_step(copy, -1);
    (void)sqlite3_backup_finish(copy);
    if (code != SQLITE_DONE) {
        return cfs_dbfile_error(to, "", error);
    }
    /* A backup is one file. */
    return sqlite3_exec(to, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL) ==
               SQLITE_OK ||
           cfs_dbfile_error(to, "", error);
}

static gboolean
copy_database(const char *path, const char *target, GError **error)
{
    g_autoptr(Database) from = cfs_dbfile_open_readonly(path, error);
    g_autoptr(Database) to = NULL;
    PVE_AUTOFD(fd) = -1;

    if (from == NULL) {
        return FALSE;
    }
    fd = open(target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return pve_errno_error(error, "create", target);
    }
    pve_autofd_clear(&fd);
    if (sqlite3_open_v2(target, &to, SQLITE_OPEN_READWRITE, NULL) !=
        SQLITE_OK) {
        return cfs_dbfile_error(to, "", error);
    }
    return copy_pages(from, to, error);
}

static int
run_backup(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;

    if (!parse(&options, &argc, &argv, "[-d FILE] NEWFILE", 1, 1, &error) ||
        !must_not_exist(argv[1], &error)) {
        return trouble(error);
    }
    if (!copy_database(options.database, argv[1], &error)) {
        (void)unlink(argv[1]);
        g_prefix_error(&error, "backup of %s: ", options.database);
        return trouble(error);
    }
    return RESULT_OK;
}

static gboolean
put_in_place(const char *path, const Content *content, GError **error)
{
    g_autofree char *fresh = cfs_dbfile_new_path(path);
    g_autofree char *keep = cfs_dbfile_aside(path, "before-restore");

    if (!cfs_dbfile_write(fresh, content->repair->entries,
                          has_terms(content) ? &content->terms : NULL, error) ||
        !cfs_dbfile_install(path, keep, error)) {
        return FALSE;
    }
    if (g_file_test(keep, G_FILE_TEST_EXISTS)) {
        printf("what was there is %s\n", keep);
    }
    return TRUE;
}

static int
run_restore(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;

    if (!parse(&options, &argc, &argv, "[-d FILE] BACKUP", 1, 1, &error) ||
        !lock_database(options.database, &error) ||
        (content = load(argv[1], &error)) == NULL) {
        return trouble(error);
    }
    if (count_findings(content) > 0) {
        refuse(&error,
               "%s has %u faults: make a good one of it with " TOOL
               " repair -d %s NEWFILE",
               argv[1], count_findings(content), argv[1]);
        return trouble(error);
    }
    if (!put_in_place(options.database, content, &error)) {
        return trouble(error);
    }
    print_totals(options.database, content->tree);
    return finish_output(RESULT_OK);
}

static int
run_repair(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(Content) content = NULL;

    if (!parse(&options, &argc, &argv, "[-d FILE] NEWFILE", 1, 1, &error) ||
        !must_not_exist(argv[1], &error) ||
        (content = load(options.database, &error)) == NULL) {
        return trouble(error);
    }
    raise_version(content);
    /* As at a start of the daemon: what was repaired claims no term. */
    if (!cfs_dbfile_write(argv[1], content->repair->entries, NULL, &error)) {
        return trouble(error);
    }
    print_findings(content);
    print_totals(argv[1], content->tree);
    return finish_output(RESULT_OK);
}

static const PveSubcommand commands[] = {
    {"check", "[-d FILE]", "Says what is wrong with a database.", run_check},
    {"ls", "[-lR] [-d FILE] [PATH]", "Lists a directory.", run_ls},
    {"cat", "[-d FILE] PATH", "Writes out a file.", run_cat},
    {"dump", "[-d FILE]", "Writes out all rows as SQL.", run_dump},
    {"digest", "[-d FILE]",
     "Prints what members compare: equal lines, equal trees.", run_digest},
    {"diff", "A B", "Tells how database B differs from A.", run_diff},
    {"extract", "[-d FILE] DIR", "Writes the tree into a new directory.",
     run_extract},
    {"create", "[-d FILE] DIR",
     "Makes a new database of the files directly in DIR.", run_create},
    {"backup", "[-d FILE] NEWFILE", "Copies a database, also one in use.",
     run_backup},
    {"restore", "[-d FILE] BACKUP",
     "Puts a copy in the place of the database, which is kept.", run_restore},
    {"repair", "[-d FILE] NEWFILE",
     "Writes what makes a tree to NEWFILE and tells each decision.",
     run_repair},
    {NULL}};

int
main(int argc, char **argv)
{
    (void)setlocale(LC_ALL, "");
    (void)umask(077);
    return pve_subcommand_main(TOOL, commands, argc, argv);
}
