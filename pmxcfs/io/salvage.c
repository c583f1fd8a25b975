#define G_LOG_DOMAIN "dcdb"
#include "config.h"

#include "pmxcfs/io/salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/files.h"
#include "pmxcfs/io/dbfile.h"

#define FOLDER_MODE 0700
#define FILE_MODE 0600
#define DATABASE_NAME "config.db"
#define TREE_NAME "tree"
#define PATIENCE_US (3 * G_USEC_PER_SEC)
/* What an entry needs beside its content, and what must stay free. */
#define ROW_BYTES 256u
#define FILE_BYTES 4096u
#define SPARE_DATABASE_BYTES (32u << 20)
#define SPARE_TREE_BYTES (1u << 20)

/* Shared by the loop and the thread. */
typedef struct {
    gatomicrefcount refs;
    char *folder;
    GMainContext *context;
    GMutex mutex; /* guards all below */
    GCond idle;
    guint n_jobs;
    CfsSalvageSays says; /* NULL: nobody listens any more */
    gpointer data;
} Shared;

struct CfsSalvage {
    Shared *shared;
    GThreadPool *pool;
};

typedef struct {
    Shared *shared; /* owned reference */
    GPtrArray *whole;
    GPtrArray *overruled;
    CfsMember leader;
    GDateTime *time;
} Job;

typedef struct {
    Shared *shared; /* owned reference */
    char *text;
} Line;

static Shared *
shared_ref(Shared *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

static void
shared_unref(Shared *self)
{
    if (!g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    g_mutex_clear(&self->mutex);
    g_cond_clear(&self->idle);
    g_main_context_unref(self->context);
    g_free(self->folder);
    g_free(self);
}

static void
job_free(Job *job)
{
    g_ptr_array_unref(job->whole);
    g_ptr_array_unref(job->overruled);
    g_date_time_unref(job->time);
    shared_unref(job->shared);
    g_free(job);
}

/* Saying it --------------------------------------------------------------- */

static void
line_free(gpointer data)
{
    Line *line = data;

    shared_unref(line->shared);
    g_free(line->text);
    g_free(line);
}

/* On the loop. */
static gboolean
on_line(gpointer data)
{
    Line *line = data;
    CfsSalvageSays says;

    g_mutex_lock(&line->shared->mutex);
    says = line->shared->says;
    g_mutex_unlock(&line->shared->mutex);
    if (says != NULL) {
        says(line->shared->data, line->text);
    }
    return G_SOURCE_REMOVE;
}

/* Takes @text. */
static void
say(Job *job, char *text)
{
    GSource *source = g_idle_source_new();
    Line *line = g_new0(Line, 1);

    g_warning("%s", text);
    line->shared = shared_ref(job->shared);
    line->text = text;
    g_source_set_callback(source, on_line, line, line_free);
    (void)g_source_attach(source, job->shared->context);
    g_source_unref(source);
}

/* Writing ------------------------------------------------------------------
 */

/* Returns: (owned) a new folder named by the time, or NULL. */
static char *
make_folder(Job *job, GError **error)
{
    g_autofree char *name = g_date_time_format(job->time, "%Y-%m-%dT%H-%M-%SZ");
    char *path = NULL;

    if (!pve_mkdir_parents(job->shared->folder, FOLDER_MODE, error)) {
        return NULL;
    }
    for (guint i = 0; i < 1000; i++) {
        g_free(path);
        path = i == 0 ? g_build_filename(job->shared->folder, name, NULL)
                      : g_strdup_printf("%s/%s.%03u", job->shared->folder, name,
                                        i);
        if (mkdir(path, FOLDER_MODE) == 0) {
            return path;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    pve_errno_error(error, "create", path);
    g_free(path);
    return NULL;
}

/* The live database must find its room after us: what we need, and as much for
 * it, and @spare. */
static gboolean
check_room(const char *folder, guint64 needed, guint64 spare, GError **error)
{
    struct statvfs disk;
    guint64 wanted = 2 * needed + spare, free_bytes;

    if (statvfs(folder, &disk) < 0) {
        return pve_errno_error(error, "look at", folder);
    }
    free_bytes = (guint64)disk.f_bavail * disk.f_frsize;
    if (free_bytes >= wanted) {
        return TRUE;
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                "too little room on the disk of %s: %" G_GUINT64_FORMAT
                " KiB are free, %" G_GUINT64_FORMAT
                " KiB are needed so that the database has its room",
                folder, free_bytes >> 10, wanted >> 10);
    return FALSE;
}

/* Names come from other nodes. */
static gboolean
is_plain(const char *name)
{
    return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens the folder @name in @folder, made if need be. Returns: (owned) a
 * descriptor, or -1. */
static int
open_folder(int folder, const char *name)
{
    if (!is_plain(name)) {
        errno = EINVAL;
        return -1;
    }
    if (mkdirat(folder, name, FOLDER_MODE) < 0 && errno != EEXIST) {
        return -1;
    }
    return openat(folder, name,
                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static gboolean
write_file(int folder, const char *name, const CfsEntry *entry)
{
    PVE_AUTOFD(fd) = -1;
    g_autofree guint8 *bytes = NULL;

    if (!is_plain(name)) {
        errno = EINVAL;
        return FALSE;
    }
    fd =
        openat(folder, name,
               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return FALSE;
    }
    if (entry->data != NULL) {
        gconstpointer data = g_bytes_get_data(entry->data, NULL);

        return pve_write_all(fd, data, entry->size);
    }
    bytes = g_malloc0(entry->size);
    return pve_write_all(fd, bytes, entry->size);
}

/* At its path below the folder @top. */
static gboolean
write_entry(int top, const CfsOverruled *item)
{
    g_auto(GStrv) parts = g_strsplit(item->path, "/", -1);
    guint n = g_strv_length(parts);
    PVE_AUTOFD(folder) = dup(top);

    for (guint i = 0; i + 1 < n && folder >= 0; i++) {
        int next = open_folder(folder, parts[i]);

        pve_autofd_clear(&folder);
        folder = next;
    }
    if (folder < 0 || n == 0) {
        return FALSE;
    }
    if (cfs_entry_is_directory(item->entry)) {
        PVE_AUTOFD(made) = open_folder(folder, parts[n - 1]);

        return made >= 0;
    }
    return write_file(folder, parts[n - 1], item->entry);
}

/* All that can be kept is kept; FALSE with the first failure otherwise. */
static gboolean
write_tree(Job *job, const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, TREE_NAME, NULL);
    PVE_AUTOFD(top) = -1;
    gboolean is_whole = TRUE;
    guint64 needed = 0;

    for (guint i = 0; i < job->overruled->len; i++) {
        const CfsOverruled *item = job->overruled->pdata[i];

        needed += item->entry->size + FILE_BYTES;
    }
    if (!check_room(folder, needed, SPARE_TREE_BYTES, error)) {
        return FALSE;
    }
    if (mkdir(path, FOLDER_MODE) < 0) {
        return pve_errno_error(error, "create", path);
    }
    top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        return pve_errno_error(error, "open", path);
    }
    for (guint i = 0; i < job->overruled->len; i++) {
        const CfsOverruled *item = job->overruled->pdata[i];

        if (!write_entry(top, item)) {
            if (is_whole) {
                pve_errno_error(error, "keep", item->path);
            }
            is_whole = FALSE;
        }
    }
    if (syncfs(top) < 0 && is_whole) {
        return pve_errno_error(error, "flush", path);
    }
    return is_whole;
}

/* Old ones -----------------------------------------------------------------
 */

static void
remove_below(int parent, const char *name)
{
    PVE_AUTOFD(fd) =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autoptr(GDir) dir = NULL;
    const char *entry;

    if (fd < 0) {
        (void)unlinkat(parent, name, 0);
        return;
    }
    dir = g_dir_open(path, 0, NULL);
    while (dir != NULL && (entry = g_dir_read_name(dir)) != NULL) {
        remove_below(fd, entry);
    }
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

/* Those that are named as ours are; whatever else is there is not ours to
 * remove. Newest first. */
static GPtrArray *
list_folders(const char *folder)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (g_regex_match_simple(
                "^\\d{4}-\\d\\d-\\d\\dT\\d\\d-\\d\\d-\\d\\dZ(\\.\\d+)?$", name,
                0, 0)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort(names, compare_names);
    return names;
}

static void
remove_old(const char *folder)
{
    g_autoptr(GPtrArray) names = list_folders(folder);
    PVE_AUTOFD(fd) = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guint n_databases = 0;

    for (guint i = 0; i < names->len && fd >= 0; i++) {
        const char *name = names->pdata[i];
        g_autofree char *database =
            g_build_filename(folder, name, DATABASE_NAME, NULL);

        if (i >= CFS_SALVAGE_FOLDERS) {
            remove_below(fd, name);
            continue;
        }
        if (g_file_test(database, G_FILE_TEST_EXISTS) &&
            ++n_databases > CFS_SALVAGE_DATABASES) {
            (void)unlink(database);
            (void)unlinkat(fd, name, AT_REMOVEDIR); /* where nothing is left */
        }
    }
}

/* The thread --------------------------------------------------------------- */

/* What there is to say of entries that were overruled. */
static void
report(Job *job, const char *folder, const GError *failure)
{
    g_autofree char *what = g_strdup_printf(
        "synchronised from %u/%u, which overruled entries of this node: %u",
        job->leader.nodeid, job->leader.pid, job->overruled->len);

    say(job,
        failure == NULL
            ? g_strdup_printf("%s. They are kept on it in %s", what, folder)
            : g_strdup_printf("%s. They could not all be kept in %s: %s", what,
                              folder, failure->message));
}

static void
keep_database(Job *job, const char *folder)
{
    g_autofree char *path = g_build_filename(folder, DATABASE_NAME, NULL);
    g_autoptr(GError) error = NULL;
    guint64 needed = 0;

    for (guint i = 0; i < job->whole->len; i++) {
        needed += ((const CfsEntry *)job->whole->pdata[i])->size + ROW_BYTES;
    }
    if (!check_room(folder, needed, SPARE_DATABASE_BYTES, &error) ||
        !cfs_dbfile_write(path, job->whole, NULL, &error)) {
        g_warning("the copy of this node before the synchronisation is not "
                  "kept: %s",
                  error->message);
        (void)rmdir(folder);
        return;
    }
    g_message("the copy of this node before the synchronisation from %u/%u is "
              "%s",
              job->leader.nodeid, job->leader.pid, path);
}

/* What was overruled first: it is smaller, and there may be little room. */
static void
keep(Job *job)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = make_folder(job, &error);

    if (folder == NULL) {
        g_warning("the copy of this node before the synchronisation is not "
                  "kept: %s",
                  error->message);
        if (job->overruled->len > 0) {
            report(job, job->shared->folder, error);
        }
        return;
    }
    if (job->overruled->len > 0) {
        (void)write_tree(job, folder, &error);
        report(job, folder, error);
    }
    keep_database(job, folder);
    remove_old(job->shared->folder);
}

static void
run_job(gpointer data, gpointer unused)
{
    Job *job = data;
    Shared *shared = shared_ref(job->shared);

    keep(job);
    job_free(job);
    g_mutex_lock(&shared->mutex);
    shared->n_jobs--;
    g_cond_signal(&shared->idle);
    g_mutex_unlock(&shared->mutex);
    shared_unref(shared);
}

/* The loop ----------------------------------------------------------------- */

CfsSalvage *
cfs_salvage_new(const char *folder, CfsSalvageSays says, gpointer data)
{
    CfsSalvage *self = g_new0(CfsSalvage, 1);
    Shared *shared = g_new0(Shared, 1);

    g_atomic_ref_count_init(&shared->refs);
    g_mutex_init(&shared->mutex);
    g_cond_init(&shared->idle);
    shared->folder = g_strdup(folder);
    shared->context = g_main_context_ref_thread_default();
    shared->says = says;
    shared->data = data;
    self->shared = shared;
    self->pool = g_thread_pool_new(run_job, NULL, 1, FALSE, NULL);
    return self;
}

void
cfs_salvage_keep(CfsSalvage *self,
                 GPtrArray *whole,
                 GPtrArray *overruled,
                 CfsMember leader)
{
    Job *job = g_new0(Job, 1);

    job->shared = shared_ref(self->shared);
    job->whole = g_ptr_array_ref(whole);
    job->overruled = g_ptr_array_ref(overruled);
    job->leader = leader;
    job->time = g_date_time_new_now_utc();
    g_mutex_lock(&self->shared->mutex);
    self->shared->n_jobs++;
    g_mutex_unlock(&self->shared->mutex);
    (void)g_thread_pool_push(self->pool, job, NULL);
}

void
cfs_salvage_free(CfsSalvage *self)
{
    gint64 until = g_get_monotonic_time() + PATIENCE_US;
    gboolean is_done;

    if (self == NULL) {
        return;
    }
    g_mutex_lock(&self->shared->mutex);
    self->shared->says = NULL;
    while (
        self->shared->n_jobs > 0 &&
        g_cond_wait_until(&self->shared->idle, &self->shared->mutex, until)) {
    }
    is_done = self->shared->n_jobs == 0;
    g_mutex_unlock(&self->shared->mutex);
    if (!is_done) {
        g_warning("the disk is slow: what the last synchronisation overruled "
                  "may not be kept whole in %s",
                  self->shared->folder);
    }
    g_thread_pool_free(self->pool, !is_done, is_done);
    shared_unref(self->shared);
    g_free(self);
}
