#include "config.h"

#include "agent/io/container.h"

#include <errno.h>
#include <fcntl.h>
#include <lxc/attach_options.h>
#include <lxc/lxccontainer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/paths.h"

enum {
    ERROR_NUM_REBOOT = 0x17f, /* wait status of init killed by SIGHUP */
    MAX_LOG_BYTES = 1024 * 1024,
    MAX_REASONS = 3,
    EXIT_ATTACH = 255,
};

typedef struct lxc_container LxcContainer;

static void
lxc_object_put(LxcContainer *c)
{
    (void)lxc_container_put(c);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(LxcContainer, lxc_object_put)

static LxcContainer *
open_container(guint32 ctid)
{
    g_autofree char *name = g_strdup_printf("%u", ctid);

    return lxc_container_new(name, PVE_LXC_DIR);
}

gboolean
agent_container_knows_key(const char *key)
{
    return lxc_config_item_is_supported(key);
}

/* --- the log --- */

/* "lxc 100 20261121... ERROR  conf - ../src/conf.c:f:1 - Message": Message. */
static const char *
log_message(const char *line)
{
    const char *p = strstr(line, " - ");

    p = p != NULL ? strstr(p + 3, " - ") : NULL;
    return p != NULL ? p + 3 : NULL;
}

char *
agent_container_log_reason(const char *path)
{
    g_autoptr(GBytes) bytes = pve_file_read(path, MAX_LOG_BYTES, NULL);
    g_auto(GStrv) lines = NULL;
    g_autoptr(GString) reason = g_string_new(NULL);
    guint n = 0;

    if (bytes != NULL) {
        lines = g_strsplit(g_bytes_get_data(bytes, NULL), "\n", -1);
    }
    for (char **line = lines; line != NULL && *line != NULL; line++) {
        const char *message =
            strstr(*line, " ERROR ") != NULL ? log_message(*line) : NULL;

        if (message != NULL && n++ < MAX_REASONS) {
            g_string_append_printf(reason, "%s%s", n > 1 ? "; " : "", message);
        }
    }
    if (reason->len == 0) {
        g_string_append_printf(reason, "no reason in %s", path);
    }
    return g_string_free(g_steal_pointer(&reason), FALSE);
}

static void
log_open(const char *name, const char *file, const char *level)
{
    struct lxc_log log = {.name = name,
                          .lxcpath = PVE_LXC_DIR,
                          .file = file,
                          .level = level,
                          .prefix = "lxc",
                          .quiet = true};

    (void)lxc_log_init(&log);
}

/* --- checking a text --- */

typedef struct {
    const char *path;
    char *log;
} Check;

static gboolean
check(gpointer data, char **result, GError **error)
{
    const Check *self = data;
    g_autoptr(LxcContainer) c = NULL;
    g_autofree char *reason = NULL;

    log_open("check", self->log, "ERROR");
    c = lxc_container_new("check", "/nonexistent");
    if (c != NULL) {
        c->clear_config(c);
        if (c->load_config(c, self->path)) {
            return TRUE;
        }
    }
    reason = agent_container_log_reason(self->log);
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "the LXC library refuses the configuration: %s", reason);
    return FALSE;
}

gboolean
agent_container_check(guint32 ctid, const char *path, GError **error)
{
    Check self = {.path = path,
                  .log = g_strdup_printf(PVE_CT_RUN_DIR "/ct-%u.check", ctid)};
    gboolean fine;

    (void)unlink(self.log);
    fine = agent_child_call(check, &self, NULL, error);
    (void)unlink(self.log);
    g_free(self.log);
    return fine;
}

/* --- a running one --- */

pid_t
agent_container_init_pid(guint32 ctid)
{
    g_autoptr(LxcContainer) c = open_container(ctid);

    return c != NULL ? c->init_pid(c) : -1;
}

/* liblxc says RUNNING before init is executed: until then the process still is
 * a copy of its monitor. */
static gboolean
is_executed(pid_t init)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/exe", (int)init);
    g_autofree char *exe = g_file_read_link(path, NULL);

    /* A replaced program is "... (deleted)". */
    return exe != NULL && strstr(exe, "/pve-lxc-supervise") == NULL;
}

gboolean
agent_container_is_up(guint32 ctid)
{
    g_autoptr(LxcContainer) c = open_container(ctid);
    pid_t init;

    if (c == NULL || g_strcmp0(c->state(c), "RUNNING") != 0) {
        return FALSE;
    }
    init = c->init_pid(c);
    return init > 0 && is_executed(init);
}

gboolean
agent_container_kill(guint32 ctid)
{
    g_autoptr(LxcContainer) c = open_container(ctid);

    return c != NULL && c->stop(c);
}

gboolean
agent_container_shutdown(guint32 ctid, guint timeout_s)
{
    g_autoptr(LxcContainer) c = open_container(ctid);

    return c != NULL && c->shutdown(c, (int)timeout_s);
}

/* HOME, USER and SHELL, which a cleared environment would lack. */
static char *clear_environment[] = {(char *)"HOME=/root", (char *)"USER=root",
                                    (char *)"SHELL=/bin/sh", NULL};

static int
exit_status(int status)
{
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : EXIT_ATTACH;
}

int
agent_container_attach(guint32 ctid, char **argv, gboolean keep_env)
{
    lxc_attach_options_t options = LXC_ATTACH_OPTIONS_DEFAULT;
    lxc_attach_command_t command = {.program = argv[0], .argv = argv};
    g_autoptr(LxcContainer) c = NULL;
    pid_t pid = -1;

    agent_child_close_fds();
    (void)unsetenv("SSL_CERT_FILE");
    (void)unsetenv("SSL_CERT_DIR");
    c = open_container(ctid);
    if (c == NULL) {
        return EXIT_ATTACH;
    }
    options.env_policy = keep_env ? LXC_ATTACH_KEEP_ENV : LXC_ATTACH_CLEAR_ENV;
    if (!keep_env) {
        options.extra_env_vars = clear_environment;
    }
    if (isatty(STDIN_FILENO) || isatty(STDOUT_FILENO) ||
        isatty(STDERR_FILENO)) {
        options.attach_flags |= LXC_ATTACH_TERMINAL;
    }
    if (c->attach(c, lxc_attach_run_command, &command, &options, &pid) != 0) {
        return EXIT_ATTACH;
    }
    return exit_status(agent_child_wait(pid));
}

/* --- the monitor --- */

AgentRunEnd
agent_container_run(guint32 ctid,
                    const char *post_stop,
                    char **init,
                    const char *log_file,
                    gboolean is_debug)
{
    g_autofree char *name = g_strdup_printf("%u", ctid);
    g_autoptr(LxcContainer) c = NULL;
    gboolean fine;

    (void)unlink(log_file);
    log_open(name, log_file, is_debug ? "DEBUG" : "WARN");
    c = open_container(ctid);
    if (c == NULL || !c->is_defined(c) ||
        !c->set_config_item(c, "lxc.hook.post-stop", post_stop) ||
        !c->want_daemonize(c, false)) {
        return AGENT_RUN_FAILED;
    }
    fine = c->start(c, 0, init);
    g_debug("CT %u: start() gave %d, error_num 0x%x", ctid, fine,
            (guint)c->error_num);
    if (c->error_num == ERROR_NUM_REBOOT) {
        return AGENT_RUN_REBOOT;
    }
    return fine ? AGENT_RUN_ENDED : AGENT_RUN_FAILED;
}
