#include "config.h"

#include "agent/io/scan.h"

#include "agent/io/treewatch.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Modification times are whole seconds: a file that changed a moment ago may
 * have changed again within the same second. */
#define DOUBT_US (3 * G_USEC_PER_SEC)
/* The filesystem's own limit for a file (spec/filesystem.md 12). */
#define MAX_FILE_BYTES (1024u * 1024u)
#define MAX_FILES 200000u
#define GAP_MS 20u

/* What was last read of one path. */
typedef struct {
    guint64 inode;
    gint64 size;
    gint64 mtime;
    GBytes *content;
    gint64 changed_us;
    guint round;
} Cached;

/* Belongs to the worker thread. */
typedef struct {
    GHashTable *cache; /* path -> Cached */
    guint round;
    char *guests; /* the guest list's version in the last round */
    gboolean reread;
    AgentTreeWatch *watch;
} Scanner;

struct AgentSource {
    gint references;
    GMutex mutex; /* protects what follows, down to the blank line */
    gboolean stopped;
    gboolean kicked;

    guint interval_ms;
    AgentSourceFunc callback;
    gpointer data;
    GMainContext *context;
    GMainContext *worker; /* the thread's */
};

/* One kind of file per folder of a node. */
typedef struct {
    const char *folder;
    gboolean (*classify)(const char *name, AgentFileKind *kind, guint32 *ctid);
} Folder;

static AgentRunningFunc list_running;

void
agent_source_set_running_func(AgentRunningFunc running)
{
    list_running = running;
}

/* --- names --- */

static guint32
ctid_of_conf(const char *name)
{
    g_autofree char *stem = NULL;

    if (!g_str_has_suffix(name, ".conf")) {
        return 0;
    }
    stem = g_strndup(name, strlen(name) - strlen(".conf"));
    return pve_ctid_parse(stem);
}

static gboolean
classify_lxc(const char *name, AgentFileKind *kind, guint32 *ctid)
{
    *ctid = ctid_of_conf(name);
    *kind = *ctid != 0 ? AGENT_FILE_CONF : AGENT_FILE_REQUEST;
    return *ctid != 0 || strcmp(name, "new.conf") == 0 ||
           (g_str_has_prefix(name, "new-") && g_str_has_suffix(name, ".conf"));
}

static gboolean
classify_foreign(const char *name, AgentFileKind *kind, guint32 *ctid)
{
    *kind = AGENT_FILE_FOREIGN;
    *ctid = ctid_of_conf(name);
    return *ctid != 0;
}

static gboolean
classify_hold(const char *name, AgentFileKind *kind, guint32 *ctid)
{
    *kind = AGENT_FILE_HOLD;
    *ctid = pve_ctid_parse(name);
    return *ctid != 0;
}

static gboolean
classify_offer(const char *name, AgentFileKind *kind, guint32 *ctid)
{
    *kind = AGENT_FILE_OFFER;
    *ctid = pve_ctid_parse(name);
    return *ctid != 0;
}

static const Folder folders[] = {
    {"lxc", classify_lxc},
    {"lxc-holds", classify_hold},
    {"lxc-incoming", classify_offer},
    {"qemu-server", classify_foreign},
    {"openvz", classify_foreign},
};

gboolean
agent_scan_classify(const char *folder,
                    const char *name,
                    AgentFileKind *kind,
                    guint32 *ctid)
{
    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        if (strcmp(folders[i].folder, folder) == 0) {
            return folders[i].classify(name, kind, ctid);
        }
    }
    return FALSE;
}

/* --- files --- */

static void
cached_free(gpointer data)
{
    Cached *self = data;

    g_clear_pointer(&self->content, g_bytes_unref);
    g_free(self);
}

static Cached *
cached_for(Scanner *self, const char *path)
{
    Cached *cached = g_hash_table_lookup(self->cache, path);

    if (cached == NULL) {
        cached = g_new0(Cached, 1);
        g_hash_table_insert(self->cache, g_strdup(path), cached);
    }
    cached->round = self->round;
    return cached;
}

/* Returns: (owned, nullable) the content, read again where it may differ. */
static GBytes *
content_of(Scanner *self, const char *path, const struct stat *st, gint64 now)
{
    Cached *cached = cached_for(self, path);
    gboolean same = cached->inode == st->st_ino &&
                    cached->size == st->st_size &&
                    cached->mtime == st->st_mtime;

    if (!same) {
        cached->inode = st->st_ino;
        cached->size = st->st_size;
        cached->mtime = st->st_mtime;
        cached->changed_us = now;
    }
    if (cached->content == NULL || self->reread || !same ||
        now - cached->changed_us < DOUBT_US) {
        g_clear_pointer(&cached->content, g_bytes_unref);
        cached->content = pve_file_read(path, MAX_FILE_BYTES, NULL);
    }
    return cached->content != NULL ? g_bytes_ref(cached->content) : NULL;
}

/* A name that went away while we looked is as if never seen. */
static gboolean
add_file(Scanner *self,
         AgentSnapshot *now,
         const char *node,
         const char *directory,
         const char *name,
         const Folder *folder)
{
    g_autofree char *path = g_strconcat(directory, "/", name, NULL);
    g_autoptr(AgentFile) file = NULL;
    AgentFileKind kind = AGENT_FILE_CONF;
    guint32 ctid = 0;
    struct stat st;

    if (!folder->classify(name, &kind, &ctid)) {
        return TRUE;
    }
    if (lstat(path, &st) < 0) {
        return errno == ENOENT;
    }
    if (!S_ISREG(st.st_mode)) {
        return TRUE;
    }
    if (now->files->len >= MAX_FILES) {
        return FALSE;
    }
    file = agent_file_new(kind, node, name, ctid, st.st_ino, NULL);
    file->size = st.st_size;
    file->mtime = st.st_mtime;
    if (kind != AGENT_FILE_FOREIGN) {
        file->content = content_of(self, path, &st, now->time_us);
    }
    g_ptr_array_add(now->files, g_steal_pointer(&file));
    return TRUE;
}

static gboolean
scan_folder(Scanner *self,
            AgentSnapshot *now,
            const char *node,
            const Folder *folder)
{
    g_autofree char *path =
        g_strconcat(PVE_MOUNT_DIR "/nodes/", node, "/", folder->folder, NULL);
    DIR *dir = opendir(path);
    struct dirent *entry;
    gboolean ok = TRUE;

    if (dir == NULL) {
        return errno == ENOENT || errno == ENOTDIR;
    }
    errno = 0;
    while (ok && (entry = readdir(dir)) != NULL) {
        ok = add_file(self, now, node, path, entry->d_name, folder);
        errno = 0;
    }
    ok = ok && errno == 0;
    (void)closedir(dir);
    return ok;
}

static gboolean
scan_nodes(Scanner *self, AgentSnapshot *now)
{
    DIR *dir = opendir(PVE_MOUNT_DIR "/nodes");
    struct dirent *entry;
    gboolean ok = TRUE;

    if (dir == NULL) {
        return FALSE;
    }
    errno = 0;
    while (ok && (entry = readdir(dir)) != NULL) {
        if (pve_name_is_node(entry->d_name)) {
            for (guint i = 0; ok && i < G_N_ELEMENTS(folders); i++) {
                ok = scan_folder(self, now, entry->d_name, &folders[i]);
            }
        }
        errno = 0;
    }
    ok = ok && errno == 0;
    (void)closedir(dir);
    return ok;
}

/* --- the rest of the tree --- */

/* Returns: (owned) the digits after "KEY": in a .version text, or "". */
static char *
version_of(const char *text, gsize size, const char *key)
{
    g_autofree char *quoted = g_strdup_printf("\"%s\":", key);
    const char *at = g_strstr_len(text, (gssize)size, quoted);
    const char *end = text + size;
    const char *stop;

    if (at == NULL) {
        return g_strdup("");
    }
    at += strlen(quoted);
    while (at < end && *at == ' ') {
        at++;
    }
    stop = at;
    while (stop < end && g_ascii_isdigit(*stop)) {
        stop++;
    }
    return g_strndup(at, (gsize)(stop - at));
}

/* The daemon's start and the mount say whether this is the same tree as in
 * the last picture. */
static void
scan_version(Scanner *self, AgentSnapshot *now, const struct stat *root)
{
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/.version", MAX_FILE_BYTES, NULL);
    gsize size = 0;
    const char *text = bytes != NULL ? g_bytes_get_data(bytes, &size) : "";
    g_autofree char *start = version_of(text, size, "starttime");
    g_autofree char *guests = version_of(text, size, "vmlist");

    now->session =
        g_strdup_printf("%s %" G_GUINT64_FORMAT, start, (guint64)root->st_dev);
    now->epoch = version_of(text, size, "clinfo");
    self->reread = g_strcmp0(self->guests, guests) != 0;
    g_free(self->guests);
    self->guests = g_steal_pointer(&guests);
}

/* @storages, @ha: nullable. */
static void
add_cluster(AgentSnapshot *now, GBytes *members, GBytes *storages, GBytes *ha)
{
    if (members != NULL) {
        g_ptr_array_unref(now->members);
        now->members = agent_members_parse(g_bytes_get_data(members, NULL),
                                           g_bytes_get_size(members));
    }
    for (guint i = 0; i < now->members->len; i++) {
        const AgentMember *member = g_ptr_array_index(now->members, i);

        now->world = now->world * 31 + g_str_hash(member->name) +
                     (member->online ? 1 : 0);
    }
    now->world ^= storages != NULL ? g_bytes_hash(storages) : 0;
    if (ha != NULL) {
        agent_snapshot_add_ha(now, g_bytes_get_data(ha, NULL),
                              g_bytes_get_size(ha));
    }
}

static void
scan_cluster(AgentSnapshot *now)
{
    g_autoptr(GBytes) members =
        pve_file_read(PVE_MOUNT_DIR "/.members", MAX_FILE_BYTES, NULL);
    g_autoptr(GBytes) storages =
        pve_file_read(PVE_MOUNT_DIR "/storage.cfg", MAX_FILE_BYTES, NULL);
    g_autoptr(GBytes) ha =
        pve_file_read(PVE_MOUNT_DIR "/ha/resources.cfg", MAX_FILE_BYTES, NULL);

    add_cluster(now, members, storages, ha);
}

/* FALSE: neither there nor missing. */
static gboolean
read_config(PveIpcClient *client,
            const char *path,
            GBytes **content,
            GError **error)
{
    g_autoptr(GError) reason = NULL;
    int verdict = 0;

    *content = pve_ipc_call(client, PVE_IPC_GET_CONFIG, path, strlen(path) + 1,
                            &verdict, &reason);
    if (*content == NULL && verdict != ENOENT) {
        g_propagate_error(error, g_steal_pointer(&reason));
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_scan_add_cluster(AgentSnapshot *now,
                       PveIpcClient *client,
                       GBytes *members,
                       GError **error)
{
    g_autoptr(GBytes) storages = NULL;
    g_autoptr(GBytes) ha = NULL;

    if (!read_config(client, "storage.cfg", &storages, error) ||
        !read_config(client, "ha/resources.cfg", &ha, error)) {
        return FALSE;
    }
    add_cluster(now, members, storages, ha);
    now->epoch = version_of(g_bytes_get_data(members, NULL),
                            g_bytes_get_size(members), "version");
    return TRUE;
}

/* --- this machine --- */

static void
scan_departed(AgentSnapshot *now)
{
    DIR *dir = opendir(PVE_LXC_DIR);
    struct dirent *entry;

    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        guint32 ctid = pve_ctid_parse(entry->d_name);
        g_autofree char *note = g_strconcat(entry->d_name, "/departed", NULL);

        if (ctid != 0 && faccessat(dirfd(dir), note, F_OK, 0) == 0) {
            g_array_append_val(now->departed, ctid);
        }
    }
    (void)closedir(dir);
}

static gboolean
is_stale(gpointer key, gpointer value, gpointer data)
{
    return ((Cached *)value)->round != ((Scanner *)data)->round;
}

/* What runs is looked at first: a record that vanishes between the two looks
 * then belongs to a picture that is not steady. */
static void
scan_machine(AgentSnapshot *now)
{
    if (list_running != NULL) {
        g_array_unref(now->running);
        now->running = list_running();
    }
    scan_departed(now);
}

static AgentSnapshot *
scan(Scanner *self)
{
    AgentSnapshot *now = agent_snapshot_new(g_get_monotonic_time());
    struct stat root, local;

    self->round++;
    scan_machine(now);
    if (agent_treewatch_fill(self->watch, now)) {
        return now;
    }
    if (stat(PVE_MOUNT_DIR, &root) < 0) {
        return now;
    }
    scan_version(self, now, &root);
    now->quorate = lstat(PVE_MOUNT_DIR "/local", &local) == 0 &&
                   (local.st_mode & S_IWUSR) != 0;
    scan_cluster(now);
    now->complete = scan_nodes(self, now);
    g_hash_table_foreach_remove(self->cache, is_stale, self);
    return now;
}

/* --- the thread --- */

typedef struct {
    AgentSource *source;
    AgentSnapshot *snapshot;
} Delivery;

static void
source_unref(AgentSource *self)
{
    if (g_atomic_int_dec_and_test(&self->references)) {
        g_mutex_clear(&self->mutex);
        g_main_context_unref(self->context);
        g_main_context_unref(self->worker);
        g_free(self);
    }
}

static gboolean
deliver(gpointer data)
{
    Delivery *delivery = data;
    gboolean stopped;

    g_mutex_lock(&delivery->source->mutex);
    stopped = delivery->source->stopped;
    g_mutex_unlock(&delivery->source->mutex);
    if (!stopped) {
        delivery->source->callback(delivery->snapshot, delivery->source->data);
    }
    return G_SOURCE_REMOVE;
}

static void
delivery_free(gpointer data)
{
    Delivery *delivery = data;

    agent_snapshot_unref(delivery->snapshot);
    source_unref(delivery->source);
    g_free(delivery);
}

static void
post(AgentSource *self, AgentSnapshot *snapshot)
{
    Delivery *delivery = g_new(Delivery, 1);

    g_atomic_int_inc(&self->references);
    delivery->source = self;
    delivery->snapshot = snapshot;
    g_main_context_invoke_full(self->context, G_PRIORITY_DEFAULT, deliver,
                               delivery, delivery_free);
}

static gboolean
is_stopped_or_kicked(AgentSource *self, gboolean *stopped)
{
    gboolean kicked;

    g_mutex_lock(&self->mutex);
    *stopped = self->stopped;
    kicked = self->kicked;
    self->kicked = FALSE;
    g_mutex_unlock(&self->mutex);
    return *stopped || kicked;
}

static gboolean
on_interval(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Waits so long, or until @watch (nullable) has something. Returns: FALSE when
 * there is no next round. */
static gboolean
wait_ms(AgentSource *self, guint ms, AgentTreeWatch *watch, gboolean *kicked)
{
    g_autoptr(GSource) timer = g_timeout_source_new(ms);
    gboolean is_over = FALSE, stopped = FALSE;

    g_source_set_callback(timer, on_interval, &is_over, NULL);
    (void)g_source_attach(timer, self->worker);
    do {
        (void)g_main_context_iteration(self->worker, TRUE);
        *kicked = is_stopped_or_kicked(self, &stopped);
    } while (!*kicked && !is_over &&
             (watch == NULL || !agent_treewatch_is_dirty(watch)));
    g_source_destroy(timer);
    return !stopped;
}

/* Many changes make one round. */
static gboolean
wait_for_round(AgentSource *self, AgentTreeWatch *watch)
{
    guint gap_ms = MIN(GAP_MS, self->interval_ms);
    gboolean kicked;

    if (!wait_ms(self, gap_ms, NULL, &kicked)) {
        return FALSE;
    }
    return kicked || agent_treewatch_is_dirty(watch) ||
           wait_ms(self, self->interval_ms - gap_ms, watch, &kicked);
}

static gpointer
work(gpointer data)
{
    AgentSource *self = data;
    Scanner scanner = {0};

    g_main_context_push_thread_default(self->worker);
    scanner.watch = agent_treewatch_new();
    scanner.cache =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, cached_free);
    do {
        post(self, scan(&scanner));
    } while (wait_for_round(self, scanner.watch));
    g_hash_table_unref(scanner.cache);
    g_free(scanner.guests);
    agent_treewatch_free(scanner.watch);
    g_main_context_pop_thread_default(self->worker);
    source_unref(self);
    return NULL;
}

AgentSource *
agent_source_new(guint interval_ms, AgentSourceFunc callback, gpointer data)
{
    AgentSource *self = g_new0(AgentSource, 1);

    self->references = 2;
    g_mutex_init(&self->mutex);
    self->interval_ms = interval_ms;
    self->callback = callback;
    self->data = data;
    self->context = g_main_context_ref_thread_default();
    self->worker = g_main_context_new();
    g_thread_unref(g_thread_new("scan", work, self));
    return self;
}

void
agent_source_kick(AgentSource *self)
{
    g_mutex_lock(&self->mutex);
    self->kicked = TRUE;
    g_mutex_unlock(&self->mutex);
    g_main_context_wakeup(self->worker);
}

/* The thread is left to itself: it may hang in the filesystem, and it ends
 * when it comes back. */
void
agent_source_free(AgentSource *self)
{
    if (self == NULL) {
        return;
    }
    g_mutex_lock(&self->mutex);
    self->stopped = TRUE;
    g_mutex_unlock(&self->mutex);
    g_main_context_wakeup(self->worker);
    source_unref(self);
}
