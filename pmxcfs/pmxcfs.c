/* pmxcfs.c - options, wiring, start and stop in order. */
#define G_LOG_DOMAIN "main"
#include "config.h"

#include <glib-unix.h>
#include <grp.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/paths.h"
#include "pmxcfs/core/core-error.h"
#include "pmxcfs/core/corosync-text.h"
#include "pmxcfs/core/replica.h"
#include "pmxcfs/io/corosync-conf.h"
#include "pmxcfs/io/effects.h"
#include "pmxcfs/io/fuse.h"
#include "pmxcfs/io/group.h"
#include "pmxcfs/io/ipc.h"
#include "pmxcfs/io/lock-timers.h"
#include "pmxcfs/io/members.h"
#include "pmxcfs/io/notifier.h"
#include "pmxcfs/io/process.h"
#include "pmxcfs/io/quorum.h"
#include "pmxcfs/io/recovery.h"
#include "pmxcfs/io/rrd.h"
#include "pmxcfs/io/status-effects.h"
#include "pmxcfs/io/store.h"

#define GROUP_NAME "www-data"
#define EXIT_USAGE 1
#define EXIT_FAILED 255

typedef struct {
    gboolean is_debug;
    gboolean is_foreground;
    gboolean is_local;
} Options;

typedef struct {
    Options options;
    char *node_name;
    char *ip; /* that its name resolves to */
    gid_t group_id;
    int lock;
    int parent;         /* -1: nobody waits for us */
    guint32 start_time; /* of clients' caches */
    GMainLoop *loop;
    gboolean has_failed;
    gboolean is_store_lost; /* its thread may still be in there */

    CfsMetrics *metrics;
    CfsStore *store;
    CfsSalvage *salvage;
    CfsReplica *replica;
    CfsEffects *effects;
    CfsStatus *status;
    CfsStatusEffects *status_effects;
    CfsRrd *rrd;
    CfsLockTimers *lock_timers;
    CfsFuse *fuse;
    CfsIpc *ipc;
    CfsQuorum *quorum;
    CfsMembers *members;
    CfsGroup *group;
    gboolean is_cluster;            /* never changes while we run */
    CfsCorosyncConf *corosync_conf; /* NULL: local mode */
} Daemon;

/* Before the fork --------------------------------------------------------- */

static gboolean
print_version(const char *name, const char *value, gpointer data, GError **e)
{
    g_print("%s\n", PACKAGE_STRING);
    exit(EXIT_SUCCESS);
}

/* Exits when there is nothing to run. */
static void
parse_options(Options *options, int *argc, char ***argv)
{
    GOptionEntry entries[] = {
        {"debug", 'd', 0, G_OPTION_ARG_NONE, &options->is_debug,
         "Turn on debug messages", NULL},
        {"foreground", 'f', 0, G_OPTION_ARG_NONE, &options->is_foreground,
         "Do not daemonize server", NULL},
        {"local", 'l', 0, G_OPTION_ARG_NONE, &options->is_local,
         "Force local mode (ignore corosync.conf, force quorum)", NULL},
        {"version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK,
         (gpointer)print_version, "Print the version", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("");
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(
        context, "The cluster filesystem: serves " PVE_MOUNT_DIR ".");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        g_critical("option parsing failed: %s", error->message);
        exit(EXIT_USAGE);
    }
    if (*argc > 1) {
        g_critical("too many arguments");
        exit(EXIT_FAILED);
    }
    pve_log_set_debug(options->is_debug);
}

/* Returns: (owned) the kernel's host name up to the first dot, or NULL. */
static char *
find_node_name(GError **error)
{
    struct utsname system;
    char *name;

    if (uname(&system) < 0) {
        pve_errno_error(error, "read", "the host name");
        return NULL;
    }
    name = g_strndup(system.nodename, strcspn(system.nodename, "."));
    if (name[0] == '\0' || strchr(name, '/') != NULL) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONFIG,
                    "the host name '%s' cannot name a node", system.nodename);
        g_clear_pointer(&name, g_free);
    }
    return name;
}

static gboolean
find_group(gid_t *id, GError **error)
{
    const struct group *group = getgrnam(GROUP_NAME);

    if (group == NULL) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONFIG,
                    "Unable to get " GROUP_NAME " group ID");
        return FALSE;
    }
    *id = group->gr_gid;
    return TRUE;
}

static gboolean
prepare(Daemon *self, GError **error)
{
    self->node_name = find_node_name(error);
    if (self->node_name == NULL) {
        return FALSE;
    }
    self->ip = cfs_process_resolve(self->node_name, error);
    if (self->ip == NULL) {
        return FALSE;
    }
    g_message("resolved node name '%s' to '%s' for default node IP address",
              self->node_name, self->ip);
    if (!find_group(&self->group_id, error) ||
        !cfs_process_make_directories(self->group_id, error)) {
        return FALSE;
    }
    self->lock = cfs_process_lock(error);
    return self->lock >= 0;
}

/* The database ------------------------------------------------------------ */

static gboolean
apply_first(CfsTree *tree, CfsOp *op, guint32 now)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    g_autoptr(CfsOp) owned = op;

    return cfs_tree_apply(tree, owned, 0, now, changes) == 0;
}

/* A host that has a corosync.conf and no database becomes a cluster of one.
 * Create and write as two versions: nodes that do this in the same second
 * then have the same tree. */
static void
import_corosync_conf(CfsTree *tree, guint32 now)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text =
        pve_file_read(PVE_COROSYNC_CONF, CFS_MAX_FILE_BYTES, &error);

    if (text == NULL) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            g_warning("not imported: %s", error->message);
        }
        return;
    }
    if (apply_first(tree, cfs_op_new(CFS_OP_CREATE, CFS_COROSYNC_CONF), now) &&
        (g_bytes_get_size(text) == 0 ||
         apply_first(tree, cfs_op_new_write(CFS_COROSYNC_CONF, text, 0),
                     now))) {
        g_message("imported %s into a new database", PVE_COROSYNC_CONF);
    }
}

/* One transaction: a database that is cut off while it is made is new again
 * at the next start. */
static CfsTree *
create_tree(Daemon *self, GError **error)
{
    guint32 now = (guint32)time(NULL);
    g_autoptr(CfsTree) tree = cfs_tree_new(now);
    g_autoptr(GPtrArray) entries = NULL;

    if (!self->options.is_local) {
        import_corosync_conf(tree, now);
    }
    entries = cfs_tree_entries(tree);
    if (!cfs_store_create(self->store, entries, error)) {
        return NULL;
    }
    return g_steal_pointer(&tree);
}

/* A host in a cluster must not come up alone because the row that says so
 * went. */
static void
restore_corosync_conf(Daemon *self, CfsRecovery *recovery)
{
    guint32 now = (guint32)time(NULL);
    g_autoptr(CfsTree) tree = NULL;

    if (self->options.is_local || !recovery->may_lack_cluster) {
        return;
    }
    tree = cfs_tree_new_from_entries(recovery->repair->entries, NULL);
    g_assert(tree != NULL); /* a repair makes a tree */
    if (cfs_tree_lookup(tree, CFS_COROSYNC_CONF) == NULL) {
        import_corosync_conf(tree, now);
        g_ptr_array_unref(recovery->repair->entries);
        recovery->repair->entries = cfs_tree_entries(tree);
    }
}

/* What was saved takes the place of the database, which is kept. In a cluster
 * any whole copy overrules it. */
static CfsTree *
use_recovery(Daemon *self, CfsRecovery *recovery, GError **error)
{
    g_autoptr(CfsTree) tree = NULL;

    restore_corosync_conf(self, recovery);
    tree = cfs_tree_new_from_entries(recovery->repair->entries, error);
    if (tree == NULL) {
        return NULL;
    }
    if (!self->options.is_local &&
        cfs_tree_lookup(tree, CFS_COROSYNC_CONF) != NULL) {
        if (recovery->has_damage) {
            cfs_recovery_lower(recovery);
        }
    } else {
        cfs_repair_raise(recovery->repair);
    }
    g_clear_pointer(&tree, cfs_tree_free);
    if (!cfs_recovery_finish(recovery, &self->store, error)) {
        return NULL;
    }
    return cfs_tree_new_from_entries(recovery->repair->entries, error);
}

/* After the fork: locks of SQLite do not outlive one (W1). */
static CfsTree *
load_tree(Daemon *self, GError **error)
{
    g_autoptr(CfsRecovery) recovery =
        cfs_recovery_open(PVE_DATABASE, &self->store, error);

    if (recovery == NULL) {
        return NULL;
    }
    return recovery->is_new ? create_tree(self, error)
                            : use_recovery(self, recovery, error);
}

static void
on_trace(gpointer data, GLogLevelFlags level, const char *text)
{
    g_log("dcdb", level, "%s", text);
}

/* What the daemon itself has to say to all. */
static void
log_to_cluster(gpointer data, int priority, const char *text)
{
    Daemon *self = data;

    cfs_status_log(self->status, (guint)priority, "root", "cluster",
                   (guint32)getpid(), text, (guint32)time(NULL));
}

/* corosync.conf ----------------------------------------------------------- */

static gboolean
is_being_written(gpointer data, guint64 inode)
{
    Daemon *self = data;

    return self->fuse != NULL && cfs_fuse_is_being_written(self->fuse, inode);
}

static void
warn_cluster(gpointer data, const char *text)
{
    log_to_cluster(data, LOG_WARNING, text);
}

static void
on_tree_changed(gpointer data, const CfsChange *change, gboolean is_own)
{
    Daemon *self = data;

    if (self->corosync_conf != NULL) {
        cfs_corosync_conf_on_changed(self->corosync_conf, change, is_own);
    }
}

static void
on_tree_reloaded(gpointer data)
{
    Daemon *self = data;

    if (self->corosync_conf != NULL) {
        cfs_corosync_conf_on_reloaded(self->corosync_conf,
                                      cfs_replica_tree(self->replica));
    }
    if (self->ipc != NULL) {
        cfs_ipc_on_reloaded(self->ipc);
    }
}

static void
on_tree_applied(gpointer data, const CfsEffect *effect)
{
    Daemon *self = data;

    if (self->ipc != NULL) {
        cfs_ipc_on_applied(self->ipc, effect);
    }
}

static void
on_tree_settled(gpointer data, const CfsEffect *effect)
{
    Daemon *self = data;

    if (self->corosync_conf != NULL) {
        cfs_corosync_conf_on_settled(self->corosync_conf, effect->settled.entry,
                                     effect->settled.node);
    }
    if (self->ipc != NULL) {
        cfs_ipc_on_settled(self->ipc, effect);
    }
}

static void
on_turn(gpointer data)
{
    Daemon *self = data;

    if (self->ipc != NULL) {
        cfs_ipc_on_turn(self->ipc);
    }
}

static void
on_status_changed(gpointer data, const CfsStatusEffect *effect)
{
    Daemon *self = data;

    if (self->ipc != NULL) {
        cfs_ipc_on_status(self->ipc, effect);
    }
}

static void
choose_mode(Daemon *self)
{
    CfsTree *tree = cfs_replica_tree(self->replica);
    const CfsEffectsWatcher watcher = {.on_changed = on_tree_changed,
                                       .on_reloaded = on_tree_reloaded,
                                       .on_applied = on_tree_applied,
                                       .on_settled = on_tree_settled,
                                       .on_turn = on_turn,
                                       .on_log = log_to_cluster,
                                       .data = self};
    const CfsCorosyncConfHandler handler = {.is_being_written =
                                                is_being_written,
                                            .on_refused = warn_cluster,
                                            .data = self};

    self->is_cluster = !self->options.is_local &&
                       cfs_tree_lookup(tree, CFS_COROSYNC_CONF) != NULL;
    if (self->is_cluster) {
        self->corosync_conf = cfs_corosync_conf_new(self->node_name, &handler);
        cfs_corosync_conf_start(self->corosync_conf, tree);
    }
    cfs_effects_set_watcher(self->effects, &watcher);
}

static GPtrArray *
on_snapshot(gpointer data)
{
    Daemon *self = data;

    return cfs_tree_entries(cfs_replica_tree(self->replica));
}

/* Before the database: what it has to say goes into the cluster log. */
static void
open_status(Daemon *self)
{
    g_autoptr(GBytes) ip = g_bytes_new(self->ip, strlen(self->ip) + 1);
    const CfsStatusWatcher watcher = {.on_changed = on_status_changed,
                                      .data = self};

    self->status = cfs_status_new(self->node_name);
    cfs_status_set_next_uid(self->status, self->start_time);
    self->status_effects = cfs_status_effects_new(self->status);
    cfs_status_effects_set_watcher(self->status_effects, &watcher);
    self->rrd = cfs_rrd_new(PVE_RRDCACHED_SOCKET, PVE_RRD_DIR);
    cfs_status_effects_set_archive(self->status_effects, cfs_rrd_add,
                                   self->rrd);
    (void)cfs_status_set(self->status, "nodeip", ip, self->start_time);
    log_to_cluster(self, LOG_INFO, "starting cluster log");
}

static void
on_collect(gpointer data, CfsMetrics *metrics)
{
    Daemon *self = data;

    cfs_metrics_set(metrics, CFS_METRIC_START_TIME, self->start_time);
    cfs_process_collect(metrics);
    cfs_effects_collect(self->effects);
    if (self->fuse != NULL) {
        cfs_fuse_collect(self->fuse);
    }
}

static CfsMetrics *
open_metrics(Daemon *self)
{
    self->metrics = cfs_metrics_new();
    cfs_metrics_set_collect(self->metrics, on_collect, self);
    return self->metrics;
}

static gboolean
open_database(Daemon *self, GError **error)
{
    CfsTree *tree = load_tree(self, error);
    CfsDbTerms terms;
    CfsViews *views;

    if (tree == NULL) {
        g_log("database", G_LOG_LEVEL_CRITICAL, "%s", (*error)->message);
        g_clear_error(error);
        g_set_error(error, CFS_ERROR, CFS_ERROR_STORE,
                    "memdb_open failed - unable to open database '%s'",
                    PVE_DATABASE);
        return FALSE;
    }
    views = cfs_views_new(self->node_name, self->start_time);
    cfs_views_set_status(views, self->status);
    cfs_views_set_metrics(views, open_metrics(self));
    self->replica = cfs_replica_new(tree, views);
    cfs_replica_set_trace(self->replica, on_trace, NULL);
    cfs_store_load_terms(self->store, &terms);
    cfs_replica_restore_terms(self->replica, &terms.record, terms.version);
    self->lock_timers = cfs_lock_timers_new(self->replica);
    self->effects = cfs_effects_new(self->replica);
    cfs_effects_set_metrics(self->effects, self->metrics);
    cfs_effects_set_store(self->effects, self->store);
    self->salvage = cfs_salvage_new(PVE_RECOVERY_DIR, warn_cluster, self);
    cfs_effects_set_salvage(self->effects, self->salvage);
    cfs_store_set_snapshot(self->store, on_snapshot, self);
    return cfs_store_start(self->store, cfs_effects_stored, self->effects,
                           error);
}

/* The group --------------------------------------------------------------- */

static void
on_begin(gpointer data)
{
    Daemon *self = data;

    cfs_effects_begin(self->effects);
}

static void
on_end(gpointer data)
{
    Daemon *self = data;

    cfs_effects_end(self->effects);
}

static void
on_connected(gpointer data, CfsMember member)
{
    Daemon *self = data;

    cfs_effects_connected(self->effects, member);
}

static void
on_disconnected(gpointer data)
{
    Daemon *self = data;

    cfs_effects_disconnected(self->effects);
}

/* Quorum first: what was held back for the old membership must not be applied
 * by a node that has just lost it. */
static void
on_confchg(gpointer data,
           const CfsMember *members,
           guint n_members,
           gboolean has_joined)
{
    Daemon *self = data;

    if (self->quorum != NULL) {
        cfs_quorum_dispatch(self->quorum);
    }
    cfs_effects_confchg(self->effects, members, n_members, has_joined);
}

static void
on_message(gpointer data, CfsMember sender, GBytes *bytes)
{
    Daemon *self = data;

    cfs_effects_message(self->effects, sender, bytes);
}

static void
on_quorum(gpointer data, gboolean quorate, guint n_nodes)
{
    Daemon *self = data;

    cfs_effects_quorum(self->effects, quorate, n_nodes);
}

static void
on_members(gpointer data,
           const char *cluster_name,
           guint32 config_version,
           GPtrArray *nodes)
{
    Daemon *self = data;

    cfs_status_set_cluster(self->status, cluster_name, config_version, nodes);
    cfs_effects_nodes(self->effects, nodes->len);
}

/* Some cluster tools look only there. */
static void
warn_of_hosts(Daemon *self)
{
    g_autoptr(GBytes) text = pve_file_read("/etc/hosts", 1 << 20, NULL);
    g_auto(GStrv) words = NULL;

    if (text != NULL) {
        words = g_strsplit_set(g_bytes_get_data(text, NULL), " \t\n", -1);
        for (guint i = 0; words[i] != NULL; i++) {
            gsize length = strcspn(words[i], ".");

            if (length == strlen(self->node_name) &&
                strncmp(words[i], self->node_name, length) == 0) {
                return;
            }
        }
    }
    g_warning("/etc/hosts has no line for node '%s': other programs will not "
              "find its address",
              self->node_name);
}

static void
join_cluster(Daemon *self)
{
    const CfsGroupHandler handler = {.begin = on_begin,
                                     .end = on_end,
                                     .connected = on_connected,
                                     .disconnected = on_disconnected,
                                     .confchg = on_confchg,
                                     .message = on_message,
                                     .data = self};

    if (self->is_cluster) {
        warn_of_hosts(self);
        self->quorum = cfs_quorum_new(on_quorum, self);
        self->members = cfs_members_new(on_members, self);
        self->group = cfs_group_cpg_new(CFS_GROUP_DATABASE, &handler);
        cfs_status_effects_join(self->status_effects);
    } else {
        g_message("local mode: no cluster, always quorate");
        cfs_effects_quorum(self->effects, TRUE, 1);
        self->group = cfs_group_alone_new(&handler);
    }
    cfs_effects_set_group(self->effects, self->group);
}

/* Start and stop ---------------------------------------------------------- */

static void
on_mount_ready(gpointer data)
{
    Daemon *self = data;
    g_autoptr(GError) error = NULL;

    cfs_process_lower_restart_flag();
    if (self->parent < 0) {
        return;
    }
    if (!cfs_process_write_pid(&error)) {
        g_warning("%s", error->message);
    }
    pve_log_init("pmxcfs", FALSE, TRUE);
    cfs_process_started(self->parent);
    self->parent = -1;
}

static void
on_mount_ended(gpointer data)
{
    Daemon *self = data;

    g_critical("%s was unmounted by somebody else", PVE_MOUNT_DIR);
    self->has_failed = TRUE;
    g_main_loop_quit(self->loop);
}

static gboolean
on_stop_signal(gpointer data)
{
    Daemon *self = data;

    g_main_loop_quit(self->loop);
    return G_SOURCE_CONTINUE;
}

static gboolean
start(Daemon *self, GError **error)
{
    const CfsFuseHandler handler = {
        .on_ready = on_mount_ready, .on_ended = on_mount_ended, .data = self};

    self->start_time = cfs_process_start_time();
    open_status(self);
    if (!open_database(self, error)) {
        return FALSE;
    }
    if (self->options.is_foreground && !cfs_process_write_pid(error)) {
        return FALSE;
    }
    choose_mode(self);
    self->fuse = cfs_fuse_new(self->effects, self->group_id, &handler, error);
    if (self->fuse == NULL ||
        !cfs_fuse_start(self->fuse, PVE_MOUNT_DIR, error)) {
        return FALSE;
    }
    self->ipc = cfs_ipc_new(self->effects, self->group_id, self->start_time);
    join_cluster(self);
    return TRUE;
}

/* Each step works on what is there: a start can fail anywhere. */
static void
stop(Daemon *self)
{
    if (self->fuse != NULL) {
        g_message("teardown filesystem");
        cfs_process_raise_restart_flag(self->group_id);
        g_clear_pointer(&self->ipc, cfs_ipc_free);
        cfs_fuse_stop(self->fuse);
    }
    if (self->effects != NULL) {
        cfs_effects_set_group(self->effects, NULL);
        cfs_effects_set_watcher(self->effects, NULL);
    }
    g_clear_pointer(&self->corosync_conf, cfs_corosync_conf_free);
    g_clear_pointer(&self->status_effects, cfs_status_effects_free);
    g_clear_pointer(&self->rrd, cfs_rrd_free);
    g_clear_pointer(&self->group, cfs_group_free);
    g_clear_pointer(&self->members, cfs_members_free);
    g_clear_pointer(&self->quorum, cfs_quorum_free);
    if (self->store != NULL && !cfs_store_close(self->store)) {
        self->has_failed = TRUE;
        self->is_store_lost = TRUE;
    }
    g_clear_pointer(&self->lock_timers, cfs_lock_timers_free);
    g_clear_pointer(&self->fuse, cfs_fuse_free);
    g_clear_pointer(&self->effects, cfs_effects_free);
    g_clear_pointer(&self->salvage, cfs_salvage_free);
    g_clear_pointer(&self->replica, cfs_replica_free);
    g_clear_pointer(&self->metrics, cfs_metrics_free);
    g_clear_pointer(&self->status, cfs_status_free);
    cfs_process_remove_pid();
}

static void
run(Daemon *self)
{
    static const int stop_signals[] = {SIGTERM, SIGINT, SIGHUP};
    g_autoptr(GError) error = NULL;

    self->loop = g_main_loop_new(NULL, FALSE);
    for (guint i = 0; i < G_N_ELEMENTS(stop_signals); i++) {
        (void)g_unix_signal_add(stop_signals[i], on_stop_signal, self);
    }
    if (start(self, &error)) {
        g_main_loop_run(self->loop);
    } else {
        g_critical("%s", error->message);
        self->has_failed = TRUE;
    }
    stop(self);
    g_main_loop_unref(self->loop);
}

int
main(int argc, char **argv)
{
    Daemon self = {.lock = -1, .parent = -1};
    g_autoptr(GError) error = NULL;

    if (argc == 2 && strcmp(argv[1], CFS_NOTIFIER_OPTION) == 0) {
        return cfs_notifier_serve();
    }
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    (void)umask(027);
    (void)signal(SIGPIPE, SIG_IGN);
    pve_log_init("pmxcfs", TRUE, TRUE);
    parse_options(&self.options, &argc, &argv);
    if (!prepare(&self, &error)) {
        g_critical("%s", error->message);
        self.has_failed = TRUE;
    } else {
        if (!self.options.is_foreground) {
            self.parent = cfs_process_fork(PVE_MOUNT_DIR "/local");
        }
        run(&self);
    }
    g_message("exit proxmox configuration filesystem (%d)",
              self.has_failed ? -1 : 0);
    if (self.is_store_lost) {
        _exit(EXIT_FAILED); /* at once: nothing may be torn down under it */
    }
    g_free(self.node_name);
    g_free(self.ip);
    pve_autofd_clear(&self.lock);
    return self.has_failed ? EXIT_FAILED : EXIT_SUCCESS;
}
