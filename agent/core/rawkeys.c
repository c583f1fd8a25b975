#include "config.h"

#include "agent/core/rawkeys.h"

#include <string.h>

/* Each may be given; `.*` stands for anything behind it. */
static const char *const allowed[] = {
    "lxc.apparmor.allow_incomplete",
    "lxc.apparmor.allow_nesting",
    "lxc.apparmor.profile",
    "lxc.apparmor.raw",
    "lxc.arch",
    "lxc.autodev",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.cgroup2.*",
    "lxc.console.logfile",
    "lxc.console.path",
    "lxc.devtty.dir",
    "lxc.environment",
    "lxc.environment.hooks",
    "lxc.environment.runtime",
    "lxc.group",
    "lxc.hook.autodev",
    "lxc.hook.clone",
    "lxc.hook.destroy",
    "lxc.hook.mount",
    "lxc.hook.post-stop",
    "lxc.hook.pre-mount",
    "lxc.hook.pre-start",
    "lxc.hook.start",
    "lxc.hook.stop",
    "lxc.hook.version",
    "lxc.idmap",
    "lxc.include",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.gid",
    "lxc.init.groups",
    "lxc.init.uid",
    "lxc.kmsg",
    "lxc.log.file",
    "lxc.log.level",
    "lxc.mount.auto",
    "lxc.mount.entry",
    "lxc.mount.fstab",
    "lxc.net.*",
    "lxc.prlimit.*",
    "lxc.pty.max",
    "lxc.rootfs.mount",
    "lxc.seccomp.notify.cookie",
    "lxc.seccomp.notify.proxy",
    "lxc.seccomp.profile",
    "lxc.selinux.context",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.start.auto",
    "lxc.start.delay",
    "lxc.start.order",
    "lxc.sysctl.fs.mqueue",
    "lxc.sysctl.kernel.msgmax",
    "lxc.sysctl.kernel.msgmnb",
    "lxc.sysctl.kernel.msgmni",
    "lxc.sysctl.kernel.sem",
    "lxc.sysctl.kernel.shm_rmid_forced",
    "lxc.sysctl.kernel.shmall",
    "lxc.sysctl.kernel.shmmax",
    "lxc.sysctl.kernel.shmmni",
    "lxc.tty.dir",
    "lxc.tty.max",
    "lxc.uts.name",
};

/* Names from before LXC 3. */
static const struct {
    const char *old;
    const char *new;
} renamed[] = {
    {"lxc.aa_allow_incomplete", "lxc.apparmor.allow_incomplete"},
    {"lxc.aa_profile", "lxc.apparmor.profile"},
    {"lxc.console", "lxc.console.path"},
    {"lxc.devttydir", "lxc.tty.dir"},
    {"lxc.haltsignal", "lxc.signal.halt"},
    {"lxc.id_map", "lxc.idmap"},
    {"lxc.init_cmd", "lxc.init.cmd"},
    {"lxc.logfile", "lxc.log.file"},
    {"lxc.loglevel", "lxc.log.level"},
    {"lxc.mount", "lxc.mount.fstab"},
    {"lxc.network.flags", "lxc.net.INDEX.flags"},
    {"lxc.network.hwaddr", "lxc.net.INDEX.hwaddr"},
    {"lxc.network.ipv4", "lxc.net.INDEX.ipv4.address"},
    {"lxc.network.ipv4.gateway", "lxc.net.INDEX.ipv4.gateway"},
    {"lxc.network.ipv6", "lxc.net.INDEX.ipv6.address"},
    {"lxc.network.ipv6.gateway", "lxc.net.INDEX.ipv6.gateway"},
    {"lxc.network.link", "lxc.net.INDEX.link"},
    {"lxc.network.mtu", "lxc.net.INDEX.mtu"},
    {"lxc.network.name", "lxc.net.INDEX.name"},
    {"lxc.network.script.down", "lxc.net.INDEX.script.down"},
    {"lxc.network.script.up", "lxc.net.INDEX.script.up"},
    {"lxc.network.type", "lxc.net.INDEX.type"},
    {"lxc.pts", "lxc.pty.max"},
    {"lxc.rebootsignal", "lxc.signal.reboot"},
    {"lxc.se_context", "lxc.selinux.context"},
    {"lxc.seccomp", "lxc.seccomp.profile"},
    {"lxc.stopsignal", "lxc.signal.stop"},
    {"lxc.tty", "lxc.tty.max"},
    {"lxc.utsname", "lxc.uts.name"},
};

static const struct {
    const char *key;
    const char *why;
} refused[] = {
    {"lxc.rootfs.options",
     "lxc.rootfs.options is not supported, please use mount point options in "
     "the \"rootfs\" key"},
    {"lxc.rootfs.path", "lxc.rootfs.path is auto generated from rootfs"},
};

void
agent_rawkey_clear(AgentRawKey *self)
{
    g_clear_pointer(&self->name, g_free);
}

static const char *
find_renamed(const char *key)
{
    for (guint i = 0; i < G_N_ELEMENTS(renamed); i++) {
        if (strcmp(key, renamed[i].old) == 0) {
            return renamed[i].new;
        }
    }
    return NULL;
}

static gboolean
is_allowed(const char *key)
{
    for (guint i = 0; i < G_N_ELEMENTS(allowed); i++) {
        gsize n = strlen(allowed[i]);

        if (allowed[i][n - 1] == '*'
                ? strncmp(key, allowed[i], n - 1) == 0 && key[n - 1] != '\0'
                : strcmp(key, allowed[i]) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

static const char *
why_refused(const char *key)
{
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        if (strcmp(key, refused[i].key) == 0) {
            return refused[i].why;
        }
    }
    return NULL;
}

static gboolean
is_below(const char *key, const char *prefix)
{
    return g_str_has_prefix(key, prefix) && key[strlen(prefix)] != '\0';
}

void
agent_rawkey_judge(const char *key, AgentRawKey *result)
{
    const char *today = find_renamed(key);

    result->name = NULL;
    if (today != NULL) {
        result->verdict = AGENT_RAW_RENAMED;
        result->name = g_strdup(today);
    } else if (is_below(key, "lxc.limit.")) {
        result->verdict = AGENT_RAW_LIMIT;
        result->name = agent_rawkey_current(key);
    } else if (is_below(key, "lxc.cgroup.")) {
        result->verdict = AGENT_RAW_CGROUP;
    } else if (is_allowed(key)) {
        result->verdict = AGENT_RAW_FINE;
    } else {
        result->verdict = AGENT_RAW_REFUSED;
        result->name = g_strdup(why_refused(key));
    }
}

char *
agent_rawkey_current(const char *key)
{
    const char *today = find_renamed(key);

    if (is_below(key, "lxc.limit.")) {
        return g_strconcat("lxc.prlimit.", key + strlen("lxc.limit."), NULL);
    }
    /* liblxc 5.0.2 has lost the allowed name and kept the other one. */
    if (strcmp(key, "lxc.devtty.dir") == 0) {
        return g_strdup("lxc.tty.dir");
    }
    /* What was one per container is numbered today: there is no one name. */
    return g_strdup(today != NULL && strstr(today, ".INDEX.") == NULL ? today
                                                                      : key);
}
