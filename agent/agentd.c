/* pve-lxc-agent - holds true on this node what the files say (DESIGN.md 3).
 *
 * The loop takes in snapshots, plans, and starts children; nothing in it
 * waits. The same program, with other words, is those children, and answers
 * the agents of other nodes over ssh.
 */
#include "config.h"

#include "agent/core/observe.h"
#include "agent/core/plan.h"
#include "agent/io/holds.h"
#include "agent/io/migrate.h"
#include "agent/io/ops.h"
#include "agent/io/runner.h"
#include "agent/io/scan.h"
#include "agent/io/steps.h"
#include "common/files.h"
#include "common/log.h"
#include "common/names.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCAN_INTERVAL_MS 250
#define MAX_STEPS 4
/* A container that ran this long was started well. */
#define STABLE_US (60 * G_USEC_PER_SEC)
/* Steps that end well but change nothing are failures after so many. */
#define MAX_REPEATS 3
#define BUSY_DELAY_US G_USEC_PER_SEC
#define STATUS_FILE PVE_AGENT_RUN_DIR "/status"
#define LOCK_FILE PVE_AGENT_RUN_DIR "/lock"
#define DIRECTORIES_KEY "directories"

/* What the daemon remembers of one container or request. */
typedef struct {
    AgentBackoff backoff;
    AgentVerb verb; /* of the last step */
    guint repeats;
    gint64 finished_us;
    gint64 running_since_us; /* 0: does not run */
    char *report;            /* the plan's */
    char *failure;           /* the last step's */
    const char *rule;
    guint round;
} Memory;

typedef struct {
    char *boot_id;
    GMainLoop *loop;
    AgentSource *source;
    AgentObserver *observer;
    AgentRunner *runner;
    GHashTable *memories; /* key -> Memory */
    char *status;         /* what the status file says */
    char *session;        /* of the tree whose directories we made */
    gboolean seen;        /* a complete picture, ever */
    gboolean complete;
    gboolean quorate;
    guint round;
    gint64 directories_not_before_us;
} Daemon;

static void
memory_free(gpointer data)
{
    Memory *self = data;

    g_free(self->report);
    g_free(self->failure);
    g_free(self);
}

static Memory *
memory_of(Daemon *self, const char *key)
{
    Memory *memory = g_hash_table_lookup(self->memories, key);

    if (memory == NULL) {
        memory = g_new0(Memory, 1);
        g_hash_table_insert(self->memories, g_strdup(key), memory);
    }
    memory->round = self->round;
    return memory;
}

/* --- telling people: once per change --- */

static void
set_report(const char *key, Memory *memory, const char *report)
{
    if (g_strcmp0(memory->report, report) == 0) {
        return;
    }
    if (report != NULL) {
        g_message("container %s: %s", key, report);
    }
    g_free(memory->report);
    memory->report = g_strdup(report);
}

static void
set_failure(const char *key, Memory *memory, const char *failure)
{
    if (g_strcmp0(memory->failure, failure) == 0) {
        return;
    }
    if (failure != NULL) {
        g_warning("container %s: %s", key, failure);
    }
    g_free(memory->failure);
    memory->failure = g_strdup(failure);
}

static int
compare_keys(gconstpointer a, gconstpointer b)
{
    return strcmp(a, b);
}

/* One line per container that has something to say: for `pct list`. */
static void
write_status(Daemon *self)
{
    g_autoptr(GList) keys = g_hash_table_get_keys(self->memories);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    keys = g_list_sort(keys, compare_keys);
    for (GList *l = keys; l != NULL; l = l->next) {
        const Memory *memory = g_hash_table_lookup(self->memories, l->data);
        const char *say =
            memory->failure != NULL ? memory->failure : memory->report;

        if (say != NULL) {
            g_autofree char *line = g_strdelimit(g_strdup(say), "\r\n", ' ');

            g_string_append_printf(text, "%s %s\n", (const char *)l->data,
                                   line);
        }
    }
    if (g_strcmp0(self->status, text->str) == 0) {
        return;
    }
    g_free(self->status);
    self->status = g_strdup(text->str);
    if (!pve_file_replace(STATUS_FILE, text->str, text->len, 0644, &error)) {
        g_warning("%s", error->message);
    }
}

/* --- steps --- */

static gboolean
may_step(Daemon *self,
         const char *key,
         Memory *memory,
         AgentVerb verb,
         guint generation,
         gint64 picture_us)
{
    /* A picture older than the end of the last step tells the past. */
    return !agent_runner_is_busy(self->runner, key) &&
           picture_us > memory->finished_us &&
           agent_backoff_allows(&memory->backoff, generation * 31 + (guint)verb,
                                g_get_monotonic_time());
}

static void
start_step(Daemon *self,
           const char *key,
           Memory *memory,
           AgentVerb verb,
           const char *argument,
           const char *more)
{
    const char *const words[] = {"step", agent_verb_name(verb), argument, more,
                                 NULL};

    if (!agent_runner_start(self->runner, key, words)) {
        return;
    }
    g_debug("container %s: step %s", key, agent_verb_name(verb));
    memory->repeats = memory->verb == verb ? memory->repeats + 1 : 0;
    memory->verb = verb;
}

static void
on_directories_made(Daemon *self, int status, const char *reason)
{
    if (status != 0) {
        g_warning("directories of this node: %s", reason);
        g_clear_pointer(&self->session, g_free);
        self->directories_not_before_us =
            g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    }
}

static void
on_step_done(const char *key, int status, const char *reason, gpointer data)
{
    Daemon *self = data;
    gint64 now_us = g_get_monotonic_time();
    Memory *memory;

    if (strcmp(key, DIRECTORIES_KEY) == 0) {
        on_directories_made(self, status, reason);
        return;
    }
    memory = memory_of(self, key);
    memory->finished_us = now_us;
    g_debug("container %s: step %s ended with %d", key,
            agent_verb_name(memory->verb), status);
    if (status == AGENT_STEP_BUSY) {
        g_debug("container %s: %s", key, reason);
        memory->backoff.not_before_us = now_us + BUSY_DELAY_US;
    } else if (status != AGENT_STEP_DONE) {
        agent_backoff_failed(&memory->backoff, now_us);
        set_failure(key, memory, reason);
    } else {
        set_failure(key, memory, NULL);
        /* A start that ends well may still end soon: it counts until the
         * container has run for a while. */
        if (memory->verb == AGENT_VERB_START ||
            memory->repeats >= MAX_REPEATS) {
            agent_backoff_failed(&memory->backoff, now_us);
        } else {
            agent_backoff_reset(&memory->backoff);
        }
    }
    agent_source_kick(self->source);
}

/* --- from facts to steps --- */

static void
note_running(Memory *memory, gboolean running, gint64 now_us)
{
    if (!running) {
        memory->running_since_us = 0;
    } else if (memory->running_since_us == 0) {
        memory->running_since_us = now_us;
    } else if (now_us - memory->running_since_us >= STABLE_US) {
        agent_backoff_reset(&memory->backoff);
    }
}

static void
consider_guest(Daemon *self, const AgentGuest *guest, const AgentSnapshot *now)
{
    g_autofree char *key = g_strdup_printf("%u", guest->ctid);
    g_autofree char *digest = NULL;
    g_auto(AgentPlan) plan = {0};
    Memory *memory = memory_of(self, key);
    AgentFacts facts;

    agent_facts_from_guest(&facts, guest, now, agent_holds_node(),
                           self->boot_id);
    agent_plan_guest(&facts, &plan);
    if (memory->rule != plan.rule) {
        g_debug("container %s: %s", key, plan.rule);
        memory->rule = plan.rule;
    }
    note_running(memory, guest->running, now->time_us);
    if (!guest->steady || agent_runner_is_busy(self->runner, key)) {
        return;
    }
    set_report(key, memory, plan.report);
    if (plan.verb == AGENT_VERB_NONE) {
        /* While a file is being written the failure still stands: our own
         * start may have written it. */
        if (facts.settled || facts.owner == AGENT_OWNER_NONE) {
            set_failure(key, memory, NULL);
        }
        return;
    }
    if (!may_step(self, key, memory, plan.verb, guest->generation,
                  now->time_us)) {
        return;
    }
    if (guest->settled && guest->file->content != NULL) {
        digest =
            g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, guest->file->content);
    }
    start_step(self, key, memory, plan.verb, key, digest);
}

static void
consider_request(Daemon *self,
                 const AgentRequest *request,
                 const AgentSnapshot *now)
{
    const char *file = request->file->name;
    g_autofree char *not_free = NULL;
    Memory *memory = memory_of(self, file);

    if (!request->settled || !now->quorate ||
        !may_step(self, file, memory, AGENT_VERB_ALLOCATE, request->generation,
                  now->time_us)) {
        return;
    }
    not_free = agent_observer_recently_removed(self->observer);
    start_step(self, file, memory, AGENT_VERB_ALLOCATE, file, not_free);
}

/* Our directories, once per tree: a new database has none. */
static void
consider_directories(Daemon *self, const AgentSnapshot *now)
{
    const char *const words[] = {"directories", NULL};

    if (!now->quorate || g_strcmp0(self->session, now->session) == 0 ||
        now->time_us < self->directories_not_before_us) {
        return;
    }
    if (agent_runner_start(self->runner, DIRECTORIES_KEY, words)) {
        g_free(self->session);
        self->session = g_strdup(now->session);
    }
}

static void
note_cluster(Daemon *self, const AgentSnapshot *now)
{
    if (!self->seen || self->complete != now->complete) {
        if (!now->complete) {
            g_warning("%s cannot be read; nothing is started or stopped",
                      PVE_MOUNT_DIR);
        } else if (self->seen) {
            g_message("%s can be read again", PVE_MOUNT_DIR);
        }
    }
    if (now->complete && (!self->seen || self->quorate != now->quorate)) {
        g_message("%s", now->quorate
                            ? "quorate"
                            : "no quorum; nothing is started or stopped");
    }
    self->seen = TRUE;
    self->complete = now->complete;
    self->quorate = now->quorate;
}

static gboolean
is_forgotten(gpointer key, gpointer value, gpointer data)
{
    Daemon *self = data;

    return ((Memory *)value)->round != self->round &&
           !agent_runner_is_busy(self->runner, key);
}

static void
on_snapshot(AgentSnapshot *now, gpointer data)
{
    Daemon *self = data;
    const GPtrArray *guests, *requests;

    note_cluster(self, now);
    agent_observer_update(self->observer, now);
    if (!now->complete) {
        return;
    }
    self->round++;
    consider_directories(self, now);
    guests = agent_observer_guests(self->observer);
    for (guint i = 0; i < guests->len; i++) {
        consider_guest(self, g_ptr_array_index(guests, i), now);
    }
    requests = agent_observer_requests(self->observer);
    for (guint i = 0; i < requests->len; i++) {
        consider_request(self, g_ptr_array_index(requests, i), now);
    }
    g_hash_table_foreach_remove(self->memories, is_forgotten, self);
    write_status(self);
}

/* --- the process --- */

static gboolean
on_terminate(gpointer data)
{
    Daemon *self = data;

    g_message("ends; containers go on running");
    g_main_loop_quit(self->loop);
    return G_SOURCE_REMOVE;
}

static void
write_pid_file(void)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    g_autoptr(GError) error = NULL;

    if (!pve_file_replace(PVE_AGENT_PID_FILE, text, strlen(text), 0644,
                          &error)) {
        g_warning("%s", error->message);
    }
}

/* Returns: the descriptor that holds the lock, or -1 with @error set. */
static int
lock_instance(GError **error)
{
    PVE_AUTOFD(fd) = -1;

    if (!pve_mkdir_parents(PVE_AGENT_RUN_DIR, 0755, error)) {
        return -1;
    }
    fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        pve_errno_error(error, "open", LOCK_FILE);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
                    "another pve-lxc-agent runs on this node (lock %s)",
                    LOCK_FILE);
        return -1;
    }
    return pve_steal_fd(&fd);
}

static void
run_loop(Daemon *self)
{
    guint term, interrupt;

    self->loop = g_main_loop_new(NULL, FALSE);
    self->memories =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, memory_free);
    self->observer = agent_observer_new(agent_holds_node());
    self->runner = agent_runner_new(MAX_STEPS, on_step_done, self);
    self->source = agent_source_new(SCAN_INTERVAL_MS, on_snapshot, self);
    term = g_unix_signal_add(SIGTERM, on_terminate, self);
    interrupt = g_unix_signal_add(SIGINT, on_terminate, self);
    g_main_loop_run(self->loop);
    agent_source_free(self->source);
    agent_runner_free(self->runner);
    agent_observer_free(self->observer);
    g_hash_table_unref(self->memories);
    g_main_loop_unref(self->loop);
    g_free(self->status);
    g_free(self->session);
    /* The one that fired is gone already. */
    for (guint i = 0; i < 2; i++) {
        GSource *left =
            g_main_context_find_source_by_id(NULL, i == 0 ? term : interrupt);

        if (left != NULL) {
            g_source_destroy(left);
        }
    }
}

static int
serve(int ready_fd, gboolean foreground)
{
    Daemon self = {0};
    g_autoptr(GError) error = NULL;
    PVE_AUTOFD(lock) = lock_instance(&error);

    if (lock >= 0) {
        self.boot_id = agent_holds_boot_id(&error);
    }
    if (self.boot_id == NULL) {
        fprintf(stderr, "pve-lxc-agent: %s\n", error->message);
        return EXIT_FAILURE;
    }
    write_pid_file();
    agent_source_set_running_func(agent_ops_running);
    g_message("starts on node %s", agent_holds_node());
    if (ready_fd >= 0) {
        (void)pve_write_all(ready_fd, "", 1);
        (void)close(ready_fd);
    }
    if (!foreground) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        for (int fd = 0; null >= 0 && fd <= 2; fd++) {
            (void)dup2(null, fd);
        }
        pve_autofd_clear(&null);
    }
    run_loop(&self);
    g_free(self.boot_id);
    (void)unlink(PVE_AGENT_PID_FILE);
    return EXIT_SUCCESS;
}

/* The parent waits until the child says that it is ready, or ends. */
static int
serve_in_background(void)
{
    int ends[2];
    char byte;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        perror("pve-lxc-agent: pipe");
        return EXIT_FAILURE;
    }
    pid = fork();
    if (pid < 0) {
        perror("pve-lxc-agent: fork");
        return EXIT_FAILURE;
    }
    if (pid == 0) {
        (void)close(ends[0]);
        (void)setsid();
        if (chdir("/") < 0) {
            return EXIT_FAILURE;
        }
        return serve(ends[1], FALSE);
    }
    (void)close(ends[1]);
    return read(ends[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- the same program as a child, or called over ssh --- */

static void
be_a_child(void)
{
    /* Nothing that ends the daemon, or its terminal, ends us half way. */
    (void)setsid();
    pve_log_init("pve-lxc-agent", TRUE, TRUE);
}

static int
run_step(int argc, char **argv)
{
    be_a_child();
    pve_log_set_debug(g_getenv("PVE_AGENT_DEBUG") != NULL);
    return agent_step_main(argc - 1, argv + 1);
}

static int
run_query(int argc, char **argv)
{
    guint32 ctid = argc == 2 ? pve_ctid_parse(argv[1]) : 0;

    if (ctid == 0) {
        fprintf(stderr, "usage: pve-lxc-agent query CTID\n");
        return EXIT_FAILURE;
    }
    return agent_step_query(ctid);
}

static int
run_receive(int argc, char **argv)
{
    guint32 ctid = argc == 3 ? pve_ctid_parse(argv[1]) : 0;
    g_autoptr(GError) error = NULL;

    if (ctid == 0 || !agent_transfer_id_is_valid(argv[2])) {
        fprintf(stderr, "usage: pve-lxc-agent receive CTID TRANSFER-ID\n");
        return EXIT_FAILURE;
    }
    pve_log_init("pve-lxc-agent", FALSE, TRUE);
    if (!agent_migrate_receive(ctid, argv[2], STDIN_FILENO, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int
run_directories(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    be_a_child();
    if (!agent_holds_make_directories(&error)) {
        (void)pve_write_all(AGENT_STEP_REASON_FD, error->message,
                            strlen(error->message));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static const struct {
    const char *word;
    int (*run)(int argc, char **argv);
} words[] = {
    {"step", run_step},
    {"query", run_query},
    {"receive", run_receive},
    {"directories", run_directories},
};

static int
serve_with_options(int argc, char **argv)
{
    gboolean foreground = FALSE, debug = FALSE, version = FALSE;
    const GOptionEntry entries[] = {
        {"foreground", 'f', 0, G_OPTION_ARG_NONE, &foreground,
         "Do not go to the background, log to standard error", NULL},
        {"debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Log every decision",
         NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version,
         "Print the version and end", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(
        context, "Holds true on this node what the container files below "
                 "/etc/pve say.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "pve-lxc-agent: %s\n",
                error != NULL ? error->message : "too many arguments");
        return EXIT_FAILURE;
    }
    if (version) {
        printf("pve-lxc-agent %s\n", PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    pve_log_init("pve-lxc-agent", foreground, !foreground);
    pve_log_set_debug(debug);
    if (debug) {
        (void)g_setenv("PVE_AGENT_DEBUG", "1", TRUE);
    }
    return foreground ? serve(-1, TRUE) : serve_in_background();
}

int
main(int argc, char **argv)
{
    (void)setlocale(LC_ALL, "");
    (void)umask(022);
    for (guint i = 0; argc > 1 && i < G_N_ELEMENTS(words); i++) {
        if (strcmp(argv[1], words[i].word) == 0) {
            return words[i].run(argc - 1, argv + 1);
        }
    }
    return serve_with_options(argc, argv);
}
