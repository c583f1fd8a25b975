#define G_LOG_DOMAIN "dcdb"
#include "config.h"

#include "pmxcfs/io/corosync-conf.h"

#include <arpa/inet.h>
#include <gio/gio.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>

#include "common/files.h"
#include "common/paths.h"
#include "pmxcfs/core/corosync-text.h"

#define SETTLE_MS 2000
#define TELLER_MS 120000
/* How often to look whether the last writer has closed the file. */
#define WRITER_MS 250
/* The others write their copies meanwhile; the reload concerns all nodes. */
#define RELOAD_DELAY_MS 1000
#define RELOAD_PATIENCE_MS 30000

/* One comparison of the tree's text with the host's file. */
typedef struct {
    /* In. */
    GBytes *text;
    char *node_name;
    gboolean want_reload;
    CfsCorosyncConf *owner; /* loop only; NULL: it is gone */
    /* Out. */
    CfsCorosyncVerdict verdict;
    guint32 old_version;
    GError *error;
} Job;

struct CfsCorosyncConf {
    char *node_name;
    CfsCorosyncConfHandler handler;

    GBytes *text; /* to be taken over; NULL: nothing */
    guint64 inode;
    GHashTable *tellers; /* node ids that have told of a last writer */
    gboolean want_reload;
    guint settle_timer;
    Job *job; /* under way; borrowed */

    GBytes *refused; /* the last one, to say it once */
    guint reload_timer;
    GPid reload_pid; /* 0: none */
    guint reload_watch;
    guint patience_timer;
};

static gboolean on_settled(gpointer data);

static void
job_free(gpointer data)
{
    Job *job = data;

    g_bytes_unref(job->text);
    g_free(job->node_name);
    g_clear_error(&job->error);
    g_free(job);
}

/* In the worker ----------------------------------------------------------- */

static void
add_address(GPtrArray *names, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN];
    const void *bytes = NULL;

    if (address == NULL) {
        return;
    }
    if (address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    } else if (address->sa_family == AF_INET6) {
        bytes =
            &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    }
    if (bytes != NULL &&
        inet_ntop(address->sa_family, bytes, text, sizeof(text)) != NULL) {
        g_ptr_array_add(names, g_strdup(text));
    }
}

/* All that a node list may call this host. Returns: (owned) */
static GStrv
find_self_names(const char *node_name)
{
    GPtrArray *names = g_ptr_array_new();
    struct ifaddrs *interfaces = NULL;
    struct utsname system;

    g_ptr_array_add(names, g_strdup(node_name));
    if (uname(&system) == 0) {
        g_ptr_array_add(names, g_strdup(system.nodename));
    }
    if (getifaddrs(&interfaces) == 0) {
        for (struct ifaddrs *i = interfaces; i != NULL; i = i->ifa_next) {
            if ((i->ifa_flags & IFF_LOOPBACK) == 0) {
                add_address(names, i->ifa_addr);
            }
        }
        freeifaddrs(interfaces);
    }
    g_ptr_array_add(names, NULL);
    return (GStrv)g_ptr_array_free(names, FALSE);
}

static void
run_job(Job *job)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GBytes) host =
        pve_file_read(PVE_COROSYNC_CONF, CFS_MAX_FILE_BYTES, &problem);
    g_auto(GStrv) names = find_self_names(job->node_name);
    gsize size = 0;
    gconstpointer bytes = g_bytes_get_data(job->text, &size);

    if (host == NULL &&
        !g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        job->verdict = CFS_COROSYNC_REFUSE;
        job->error = g_steal_pointer(&problem);
        return;
    }
    job->old_version = host != NULL ? cfs_corosync_text_version(host) : 0;
    job->verdict = cfs_corosync_text_judge(
        job->text, host, (const char *const *)names, &job->error);
    if (job->verdict == CFS_COROSYNC_REPLACE &&
        (!pve_mkdir_parents(PVE_COROSYNC_DIR, 0755, &job->error) ||
         !pve_file_replace(PVE_COROSYNC_CONF, bytes, size, 0644,
                           &job->error))) {
        job->verdict = CFS_COROSYNC_REFUSE;
    }
}

static void
run_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *none)
{
    run_job(data);
    g_task_return_boolean(task, TRUE);
}

/* The reload -------------------------------------------------------------- */

static void
forget_child(CfsCorosyncConf *self)
{
    g_clear_handle_id(&self->reload_watch, g_source_remove);
    g_clear_handle_id(&self->patience_timer, g_source_remove);
    if (self->reload_pid != 0) {
        g_spawn_close_pid(self->reload_pid);
        self->reload_pid = 0;
    }
}

static void
on_reload_ended(GPid pid, int status, gpointer data)
{
    CfsCorosyncConf *self = data;
    g_autoptr(GError) error = NULL;

    self->reload_watch = 0;
    forget_child(self);
    if (g_spawn_check_wait_status(status, &error)) {
        g_message("corosync has read its new configuration");
    } else {
        g_warning("corosync-cfgtool -R failed: %s; corosync will use the new "
                  "configuration when it is started again",
                  error->message);
    }
}

static gboolean
on_reload_late(gpointer data)
{
    CfsCorosyncConf *self = data;

    self->patience_timer = 0;
    (void)kill(self->reload_pid, SIGKILL); /* its end is seen by the watch */
    return G_SOURCE_REMOVE;
}

static gboolean
on_reload(gpointer data)
{
    CfsCorosyncConf *self = data;
    char *argv[] = {(char *)"corosync-cfgtool", (char *)"-R", NULL};
    const GSpawnFlags flags = G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                              G_SPAWN_STDOUT_TO_DEV_NULL |
                              G_SPAWN_STDERR_TO_DEV_NULL;
    g_autoptr(GError) error = NULL;

    if (self->reload_pid != 0) {
        return G_SOURCE_CONTINUE; /* one after the other */
    }
    self->reload_timer = 0;
    if (!g_spawn_async("/", argv, NULL, flags, NULL, NULL, &self->reload_pid,
                       &error)) {
        self->reload_pid = 0;
        g_warning("corosync is not told of its new configuration: %s",
                  error->message);
        return G_SOURCE_REMOVE;
    }
    self->reload_watch =
        g_child_watch_add(self->reload_pid, on_reload_ended, self);
    self->patience_timer =
        g_timeout_add(RELOAD_PATIENCE_MS, on_reload_late, self);
    return G_SOURCE_REMOVE;
}

static void
schedule_reload(CfsCorosyncConf *self)
{
    g_clear_handle_id(&self->reload_timer, g_source_remove);
    self->reload_timer = g_timeout_add(RELOAD_DELAY_MS, on_reload, self);
}

/* Taking over ------------------------------------------------------------- */

static void
log_refusal(CfsCorosyncConf *self, const Job *job)
{
    g_autofree char *text = NULL;

    if (self->refused != NULL && g_bytes_equal(self->refused, job->text)) {
        return;
    }
    g_clear_pointer(&self->refused, g_bytes_unref);
    self->refused = g_bytes_ref(job->text);
    text = g_strdup_printf("corosync.conf is not taken over, %s stays as it "
                           "is: %s",
                           PVE_COROSYNC_CONF, job->error->message);
    g_warning("%s", text);
    self->handler.on_refused(self->handler.data, text);
}

static void
use_result(CfsCorosyncConf *self, const Job *job)
{
    switch (job->verdict) {
    case CFS_COROSYNC_KEEP:
        break;
    case CFS_COROSYNC_REFUSE:
        log_refusal(self, job);
        break;
    case CFS_COROSYNC_REPLACE:
        g_message("wrote new corosync config '%s' (version = %u)",
                  PVE_COROSYNC_CONF, cfs_corosync_text_version(job->text));
        if (job->want_reload && job->old_version > 0) {
            schedule_reload(self);
        }
        break;
    }
}

static void
on_job_done(GObject *source, GAsyncResult *result, gpointer unused)
{
    Job *job = g_task_get_task_data(G_TASK(result));
    CfsCorosyncConf *self = job->owner;

    if (self == NULL) {
        return;
    }
    self->job = NULL;
    use_result(self, job);
    if (self->text != NULL && self->settle_timer == 0) {
        self->settle_timer = g_idle_add(on_settled, self);
    }
}

/* Takes what is to be taken over. Returns: (owned) */
static Job *
job_new(CfsCorosyncConf *self)
{
    Job *job = g_new0(Job, 1);

    job->text = g_steal_pointer(&self->text);
    job->node_name = g_strdup(self->node_name);
    job->want_reload = self->want_reload;
    job->owner = self;
    self->want_reload = FALSE;
    return job;
}

static gboolean
on_settled(gpointer data)
{
    CfsCorosyncConf *self = data;
    g_autoptr(GTask) task = NULL;

    self->settle_timer = 0;
    if (self->job != NULL) {
        return G_SOURCE_REMOVE; /* its end comes back here */
    }
    if (self->inode != 0 &&
        self->handler.is_being_written(self->handler.data, self->inode)) {
        self->settle_timer = g_timeout_add(WRITER_MS, on_settled, self);
        return G_SOURCE_REMOVE;
    }
    self->job = job_new(self);
    task = g_task_new(NULL, NULL, on_job_done, NULL);
    g_task_set_task_data(task, self->job, job_free);
    g_task_run_in_thread(task, run_in_thread);
    return G_SOURCE_REMOVE;
}

/* @inode 0: open descriptors do not matter. */
static void
note_text(CfsCorosyncConf *self,
          const CfsEntry *entry,
          guint64 inode,
          guint delay_ms)
{
    g_clear_pointer(&self->text, g_bytes_unref);
    g_clear_handle_id(&self->settle_timer, g_source_remove);
    if (entry == NULL || cfs_entry_is_directory(entry) || entry->data == NULL) {
        return;
    }
    self->text = g_bytes_ref(entry->data);
    self->inode = inode;
    self->settle_timer = g_timeout_add(delay_ms, on_settled, self);
}

/* How long to wait for more. A node that tells can die before it does. */
static guint
patience_ms(CfsCorosyncConf *self, const CfsEntry *entry, gboolean is_own)
{
    return !is_own && g_hash_table_contains(self->tellers,
                                            GUINT_TO_POINTER(entry->writer))
               ? TELLER_MS
               : SETTLE_MS;
}

void
cfs_corosync_conf_on_settled(CfsCorosyncConf *self,
                             const CfsEntry *entry,
                             guint32 nodeid)
{
    (void)g_hash_table_add(self->tellers, GUINT_TO_POINTER(nodeid));
    if (self->text != NULL && self->inode == entry->inode &&
        self->settle_timer != 0) {
        g_source_remove(self->settle_timer);
        self->settle_timer = g_idle_add(on_settled, self);
    }
}

static gboolean
has_same_content(const CfsEntry *a, const CfsEntry *b)
{
    if (a == NULL || a->data == NULL || b->data == NULL) {
        return FALSE;
    }
    return g_bytes_equal(a->data, b->data);
}

void
cfs_corosync_conf_on_changed(CfsCorosyncConf *self,
                             const CfsChange *change,
                             gboolean is_own)
{
    if (g_strcmp0(change->new_path, CFS_COROSYNC_CONF) == 0) {
        self->want_reload = self->want_reload || is_own;
        note_text(self, change->after, 0, 0);
    } else if (strcmp(change->path, CFS_COROSYNC_CONF) == 0) {
        if (change->after == NULL || change->new_path != NULL) {
            note_text(self, NULL, 0, 0); /* gone: the host's file stays */
        } else if (!has_same_content(change->before, change->after)) {
            self->want_reload = self->want_reload || is_own;
            note_text(self, change->after, change->after->inode,
                      patience_ms(self, change->after, is_own));
        }
    }
}

void
cfs_corosync_conf_on_reloaded(CfsCorosyncConf *self, CfsTree *tree)
{
    self->want_reload = FALSE;
    note_text(self, cfs_tree_lookup(tree, CFS_COROSYNC_CONF), 0, 0);
}

void
cfs_corosync_conf_start(CfsCorosyncConf *self, CfsTree *tree)
{
    Job *job;

    note_text(self, cfs_tree_lookup(tree, CFS_COROSYNC_CONF), 0, 0);
    g_clear_handle_id(&self->settle_timer, g_source_remove);
    if (self->text == NULL) {
        return;
    }
    self->want_reload = TRUE;
    job = job_new(self);
    run_job(job);
    use_result(self, job);
    job_free(job);
}

CfsCorosyncConf *
cfs_corosync_conf_new(const char *node_name,
                      const CfsCorosyncConfHandler *handler)
{
    CfsCorosyncConf *self = g_new0(CfsCorosyncConf, 1);

    self->node_name = g_strdup(node_name);
    self->handler = *handler;
    self->tellers = g_hash_table_new(NULL, NULL);
    return self;
}

void
cfs_corosync_conf_free(CfsCorosyncConf *self)
{
    if (self == NULL) {
        return;
    }
    if (self->job != NULL) {
        self->job->owner = NULL;
    }
    forget_child(self);
    g_clear_handle_id(&self->settle_timer, g_source_remove);
    g_clear_handle_id(&self->reload_timer, g_source_remove);
    g_clear_pointer(&self->text, g_bytes_unref);
    g_clear_pointer(&self->refused, g_bytes_unref);
    g_hash_table_unref(self->tellers);
    g_free(self->node_name);
    g_free(self);
}
