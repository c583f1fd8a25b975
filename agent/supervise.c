/* pve-lxc-supervise CTID - one per running container: its LXC monitor.
 *
 *     starter: lock, prepare, claim
 *               |
 *               +--> mount --> run --> clean up --+--> exit
 *               |                                 |
 *               +<---- prepare, claim <-----------+ reboot from inside:
 *                                                   exec ourselves
 *
 * It holds the container's run lock from before it mounts anything until
 * nothing of the run is left. Who started it may die: it has its own session,
 * no terminal and no descriptor of theirs, and liblxc moves it into
 * lxc.monitor/CTID. What it is given is in supervisor.h.
 * (spec/container-runtime.md 13.2)
 *
 *   pve-lxc-supervise CTID              a first run
 *   pve-lxc-supervise --again CTID      after a reboot
 *   pve-lxc-supervise --post-stop ...   as liblxc's hook: a failure there makes
 *                                       liblxc give up on a reboot
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/io/configs.h"
#include "agent/io/container.h"
#include "agent/io/devices.h"
#include "agent/io/hookscript.h"
#include "agent/io/lockfile.h"
#include "agent/io/mounts.h"
#include "agent/io/prepare.h"
#include "agent/io/supervisor.h"
#include "common/files.h"
#include "common/log.h"
#include "common/names.h"

#define SELF AGENT_SUPERVISOR

enum {
    STATUS_FD = AGENT_SUPERVISOR_STATUS_FD,
    LOCK_FD = AGENT_SUPERVISOR_LOCK_FD,
    MAX_REASON = 4096,
};

typedef struct {
    guint32 ctid;
    int status;    /* -1: nobody listens */
    int namespace; /* the host's mount namespace */
    gint64 claimed_us;
} Run;

/* Nobody may be there to read it any more. */
static void
tell(const Run *self, const char *reason)
{
    if (self->status >= 0) {
        (void)pve_write_all(self->status, reason, strlen(reason));
    }
}

static void
report(const Run *self, const char *reason)
{
    g_warning("CT %u: %s", self->ctid, reason);
    tell(self, reason);
}

static gboolean
mount_all(const Run *self, const AgentGuestConf *conf, GError **error)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();

    return agent_prepare_check_claim(self->claimed_us, error) &&
           agent_mounts_unshare(error) &&
           agent_mounts_attach(conf, cfg, error) &&
           agent_devices_make(conf, error);
}

/* Words of init's command: liblxc would split them without minding quotes. */
static gboolean
init_words(const AgentGuestConf *conf, char ***words, GError **error)
{
    const char *entrypoint = agent_guestconf_get(conf, "entrypoint");

    *words = NULL;
    return entrypoint == NULL ||
           g_shell_parse_argv(entrypoint, NULL, words, error);
}

/* A hook's own words are better than what liblxc makes of its exit status. */
static char *
failure_reason(guint32 ctid, const char *log)
{
    g_autofree char *path = agent_prepare_reason_path(ctid);
    g_autoptr(GBytes) bytes = pve_file_read(path, MAX_REASON, NULL);

    if (bytes != NULL && g_bytes_get_size(bytes) > 0) {
        return g_strchomp(g_strdup(g_bytes_get_data(bytes, NULL)));
    }
    return agent_container_log_reason(log);
}

static AgentRunEnd
run(const Run *self, const AgentGuestConf *conf, char **words)
{
    g_autofree char *log = agent_prepare_log_path(self->ctid);
    g_autofree char *reasons = agent_prepare_reason_path(self->ctid);
    AgentRunEnd end;

    (void)unlink(reasons);
    end = agent_container_run(self->ctid, SELF " --post-stop", words, log,
                              agent_guestconf_get_bool(conf, "debug", FALSE));
    if (end == AGENT_RUN_FAILED) {
        g_autofree char *reason = failure_reason(self->ctid, log);

        report(self, reason);
    } else {
        tell(self, "it ended at once");
    }
    return end;
}

/* Mounts are gone when we are; the rest goes now. */
static void
clean_up(const Run *self)
{
    g_autoptr(GError) error = NULL;

    if (!agent_prepare_clean(self->ctid, &error)) {
        g_warning("CT %u: %s", self->ctid, error->message);
    }
}

/* A new image of ourselves, in the host's mount namespace: this run's mounts
 * end with its namespace. The lock passes over. */
static void
exec_again(const Run *self)
{
    g_autofree char *id = g_strdup_printf("%u", self->ctid);
    char *const argv[] = {(char *)SELF, (char *)"--again", id, NULL};

    if (fcntl(LOCK_FD, F_SETFD, 0) < 0 ||
        setns(self->namespace, CLONE_NEWNS) < 0 || chdir("/") < 0) {
        g_warning("CT %u: cannot restart: %s", self->ctid, g_strerror(errno));
        return;
    }
    (void)execv(SELF, argv);
    g_warning("CT %u: exec " SELF ": %s", self->ctid, g_strerror(errno));
}

/* The script as the file names it now: it may be another than at the start. */
static void
run_last_hook(const Run *self, const AgentGuestConf *conf)
{
    g_autoptr(AgentGuestConf) now = agent_configs_load(self->ctid, NULL);

    agent_hookscript_try(now != NULL ? now : conf, "post-stop");
}

static int
supervise(Run *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentGuestConf) conf = agent_configs_load(self->ctid, &error);
    g_auto(GStrv) words = NULL;
    AgentRunEnd end;

    if (conf == NULL) {
        report(self, error->message);
        return 1;
    }
    if (!init_words(conf, &words, &error) || !mount_all(self, conf, &error)) {
        agent_hookscript_try(conf, "post-stop");
        report(self, error->message);
        return 1;
    }
    end = run(self, conf, words);
    clean_up(self);
    if (end == AGENT_RUN_REBOOT) {
        exec_again(self);
    } else {
        run_last_hook(self, conf);
    }
    return end == AGENT_RUN_ENDED ? 0 : 1;
}

/* The file may have changed, or moved, since the last start. */
static gboolean
prepare_again(Run *self, GError **error)
{
    g_autoptr(AgentLock) mutex = agent_lock_config(self->ctid, error);

    return mutex != NULL &&
           agent_prepare_start(self->ctid, TRUE, &self->claimed_us, error);
}

static int
start_again(Run *self)
{
    g_autoptr(GError) error = NULL;

    if (!prepare_again(self, &error)) {
        g_warning("CT %u stays stopped after its reboot: %s", self->ctid,
                  error->message);
        return 1;
    }
    return supervise(self);
}

static int
start_first(Run *self)
{
    const char *claim = g_getenv(AGENT_SUPERVISOR_CLAIM);

    self->status = STATUS_FD;
    self->claimed_us = claim != NULL ? g_ascii_strtoll(claim, NULL, 10) : 0;
    return supervise(self);
}

/* Descriptors of our starter's, or of the run before. */
static gboolean
take_descriptors(Run *self, gboolean is_again)
{
    struct stat st;

    if (fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC) < 0 ||
        (!is_again && (fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC) < 0 ||
                       fstat(STATUS_FD, &st) < 0 || !S_ISFIFO(st.st_mode)))) {
        return FALSE;
    }
    (void)close_range(LOCK_FD + 1, ~0U, 0);
    if (is_again) {
        (void)close(STATUS_FD);
    }
    self->namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    return self->namespace >= 0;
}

/* Nothing of who started us may matter. */
static void
settle(void)
{
    sigset_t none;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    (void)signal(SIGHUP, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)umask(022);
    if (chdir("/") < 0) {
        g_warning("chdir /: %s", g_strerror(errno));
    }
}

int
main(int argc, char **argv)
{
    gboolean is_again = argc == 3 && strcmp(argv[1], "--again") == 0;
    Run self = {.status = -1, .namespace = -1};

    if (argc > 1 && strcmp(argv[1], "--post-stop") == 0) {
        return g_strcmp0(g_getenv("LXC_TARGET"), "reboot") == 0 ? 1 : 0;
    }
    pve_log_init("pve-lxc-supervise", TRUE, TRUE);
    self.ctid = argc == 2 || is_again ? pve_ctid_parse(argv[argc - 1]) : 0;
    if (self.ctid == 0 || !take_descriptors(&self, is_again)) {
        fprintf(stderr, "pve-lxc-supervise is started by pct and the agent\n");
        return 255;
    }
    settle();
    return is_again ? start_again(&self) : start_first(&self);
}
