#include "config.h"

#include "agent/io/install.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/guestos.h"
#include "agent/io/child.h"
#include "agent/io/mounts.h"
#include "agent/io/ops.h"
#include "agent/io/safepath.h"
#include "common/files.h"

enum { HEADER_BYTES = 512, MAX_OS_RELEASE = 65536, MAX_COMPLAINT = 2000 };

/* --- which archive --- */

static const struct {
    const char *mark;
    gsize size, offset;
    const char *option; /* of tar */
} formats[] = {
    {"\x1f\x8b", 2, 0, "--gzip"},
    {"\x28\xb5\x2f\xfd", 4, 0, "--zstd"},
    {"\xfd"
     "7zXZ",
     5, 0, "--xz"},
    {"BZh", 3, 0, "--bzip2"},
    /* "ustar" in the first header; tar ignores the option in our use. */
    {"ustar", 5, 257, "--no-auto-compress"},
};

const char *
agent_install_identify(const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    guint8 bytes[HEADER_BYTES] = {0};
    struct stat st;

    if (fd < 0) {
        pve_errno_error(error, "open", path);
        return NULL;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        read(fd, bytes, sizeof(bytes)) > 0) {
        for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
            if (memcmp(bytes + formats[i].offset, formats[i].mark,
                       formats[i].size) == 0) {
                return formats[i].option;
            }
        }
    }
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "file does not look like a template archive: %s", path);
    return NULL;
}

/* --- unpacking --- */

typedef struct {
    const char *option; /* of tar */
    char *uid_map;      /* nullable: privileged */
    char *gid_map;
    int archive;  /* its descriptor */
    int tree;     /* O_PATH of the tree's root */
    int complain; /* where tar's stderr goes */
    int ready;    /* reads a byte when the id map is written */
    int unshared; /* writes a byte when the user namespace is there */
} Unpack;

/* Makes this process the container's root: what it writes belongs to the
 * container, what it may do elsewhere is nothing. */
static gboolean
become_mapped_root(const Unpack *self)
{
    char byte = 'u';

    if (self->uid_map == NULL) {
        return TRUE;
    }
    return unshare(CLONE_NEWUSER) == 0 &&
           pve_write_all(self->unshared, &byte, 1) &&
           read(self->ready, &byte, 1) == 1 && setgroups(0, NULL) == 0 &&
           setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0;
}

/* Leaves the working directory in a copy of the tree's mounts, and makes all
 * others read-only: an archive that escapes its tree finds nothing to write. */
static gboolean
confine(const Unpack *self)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    int copy;

    /* The working directory moves to the new namespace; a descriptor stays. */
    if (fchdir(self->tree) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0) {
        return FALSE;
    }
    /* Stays open: the copy lives as long as its descriptor. */
    copy = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | AT_RECURSIVE);
    return copy >= 0 && fchdir(copy) == 0 &&
           mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &read_only,
                         sizeof(read_only)) == 0;
}

static void __attribute__((noreturn)) run_tar(const Unpack *self)
{
    const char *const argv[] = {"tar",
                                "--extract",
                                "--file=-",
                                self->option,
                                "--numeric-owner",
                                "--same-owner",
                                "--preserve-permissions",
                                "--skip-old-files",
                                "--acls",
                                "--xattrs",
                                "--xattrs-include=user.*",
                                "--xattrs-include=security.capability",
                                "--anchored",
                                "--wildcards",
                                "--exclude=./dev/*",
                                "--exclude=dev/*",
                                NULL};
    char *const environment[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                 (char *)"LC_ALL=C", NULL};

    /* The death signal last: a change of ids clears it. */
    if (!become_mapped_root(self) || !confine(self) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        dup2(self->archive, STDIN_FILENO) < 0 ||
        dup2(self->complain, STDOUT_FILENO) < 0 ||
        dup2(self->complain, STDERR_FILENO) < 0) {
        dprintf(self->complain, "cannot confine tar: %s\n", strerror(errno));
        _exit(125);
    }
    (void)umask(022);
    (void)execvpe("tar", (char *const *)argv, environment);
    dprintf(STDERR_FILENO, "cannot run tar: %s\n", strerror(errno));
    _exit(127);
}

static gboolean
write_map(pid_t pid, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || !pve_write_all(fd, text, strlen(text))) {
        return pve_errno_error(error, "write", path);
    }
    return TRUE;
}

/* In the parent: waits for the user namespace and gives it its ids. */
static gboolean
give_ids(const Unpack *self, pid_t pid, int unshared, int ready, GError **error)
{
    char byte;

    if (self->uid_map == NULL) {
        return TRUE;
    }
    if (read(unshared, &byte, 1) != 1) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "cannot create a user namespace");
        return FALSE;
    }
    if (!write_map(pid, "uid_map", self->uid_map, error) ||
        !write_map(pid, "gid_map", self->gid_map, error)) {
        return FALSE;
    }
    return pve_write_all(ready, "r", 1);
}

/* The last of what tar said. */
static char *
read_tail(int fd)
{
    g_autoptr(GString) tail = g_string_new(NULL);
    char piece[4096];
    ssize_t n;

    while ((n = read(fd, piece, sizeof(piece))) != 0) {
        if (n < 0 && errno != EINTR) {
            break;
        }
        if (n > 0) {
            g_string_append_len(tail, piece, n);
        }
        if (tail->len > MAX_COMPLAINT) {
            g_string_erase(tail, 0, (gssize)(tail->len - MAX_COMPLAINT));
        }
    }
    return g_utf8_make_valid(g_strstrip(tail->str), -1);
}

static gboolean
judge(int status, const char *complaint, GError **error)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return TRUE;
    }
    g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                "extracting the archive failed (tar %s %d)%s%s",
                WIFEXITED(status) ? "exited with" : "was killed by signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                *complaint != '\0' ? ": " : "", complaint);
    return FALSE;
}

enum { COMPLAIN, READY, UNSHARED, PIPES };

/* Runs tar in a child, with its three pipes. */
static gboolean
unpack(Unpack *self, GError **error)
{
    int pipes[PIPES][2];
    g_autofree char *complaint = NULL;
    gboolean fine;
    pid_t pid;

    for (guint i = 0; i < PIPES; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) < 0) {
            return pve_errno_error(error, "create", "a pipe");
        }
    }
    self->complain = pipes[COMPLAIN][1];
    self->ready = pipes[READY][0];
    self->unshared = pipes[UNSHARED][1];
    pid = fork();
    if (pid == 0) {
        (void)close(pipes[READY][1]);
        run_tar(self);
    }
    (void)close(pipes[COMPLAIN][1]);
    (void)close(pipes[READY][0]);
    (void)close(pipes[UNSHARED][1]);
    fine = pid > 0 &&
           give_ids(self, pid, pipes[UNSHARED][0], pipes[READY][1], error);
    (void)close(pipes[READY][1]);
    complaint = read_tail(pipes[COMPLAIN][0]);
    (void)close(pipes[COMPLAIN][0]);
    (void)close(pipes[UNSHARED][0]);
    if (pid < 0) {
        return pve_errno_error(error, "fork", "tar");
    }
    if (!fine) {
        (void)kill(pid, SIGKILL);
        (void)agent_child_wait(pid);
        return FALSE;
    }
    return judge(agent_child_wait(pid), complaint, error);
}

/* --- what it is, and its first start --- */

static const char *
detect_type(int root)
{
    static const char *const places[] = {"etc/os-release",
                                         "usr/lib/os-release"};

    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *text =
            agent_safe_read(root, places[i], MAX_OS_RELEASE, NULL);

        if (text != NULL) {
            return agent_guestos_type(text);
        }
    }
    return NULL;
}

static const char *
detect_arch(int root)
{
    gsize size = 0;
    g_autofree char *header = agent_safe_read(root, "bin/sh", 64, &size);

    return header != NULL ? agent_guestos_arch((const guint8 *)header, size)
                          : NULL;
}

/* An empty machine-id gets a new one at the first start. */
static gboolean
empty_machine_id(int root, GError **error)
{
    PVE_AUTOFD(fd) = agent_safe_open_regular(root, "etc/machine-id", O_WRONLY);

    if (fd < 0) {
        return TRUE;
    }
    if (ftruncate(fd, 0) < 0) {
        return pve_errno_error(error, "empty", "/etc/machine-id");
    }
    return TRUE;
}

static gboolean
write_hostname(const AgentGuestConf *conf, int root, GError **error)
{
    PVE_AUTOFD(etc) = agent_safe_open(root, "etc", O_PATH | O_DIRECTORY, 0);
    g_autofree char *name = agent_guestconf_hostname(conf);
    g_autofree char *first = g_strndup(name, strcspn(name, "."));
    g_autofree char *line = g_strconcat(first, "\n", NULL);
    guint32 uid, gid;

    if (etc < 0) {
        return TRUE; /* no system that reads it */
    }
    agent_guestconf_root_ids(conf, &uid, &gid);
    return agent_safe_replace(root, "etc", "hostname", line, uid, gid, error);
}

/* --- the whole, in a child --- */

typedef struct {
    const AgentGuestConf *conf;
    const AgentStorageCfg *cfg;
    const char *archive;
    const char *option;
} Install;

static gboolean
unpack_into(const Install *self, int root, GError **error)
{
    PVE_AUTOFD(archive) = open(self->archive, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    g_autofree char *uid_map = agent_guestconf_idmap(self->conf, 'u');
    g_autofree char *gid_map = agent_guestconf_idmap(self->conf, 'g');
    Unpack job = {.option = self->option,
                  .uid_map = uid_map,
                  .gid_map = gid_map,
                  .archive = archive,
                  .tree = root};

    if (archive < 0) {
        return pve_errno_error(error, "open", self->archive);
    }
    return unpack(&job, error);
}

/* All volumes: the configuration that names them is written after this. */
static gboolean
flush(const Install *self, int root, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(self->conf, error);

    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        const AgentMount *mount = mounts->pdata[i];
        PVE_AUTOFD(directory) =
            agent_safe_open(root, mount->mp, O_RDONLY | O_DIRECTORY, 0);

        if (directory < 0 || syncfs(directory) < 0) {
            return pve_errno_error(error, "flush", mount->mp);
        }
    }
    return mounts != NULL;
}

static gboolean
prepare(const Install *self, int root, GError **error)
{
    return empty_machine_id(root, error) &&
           write_hostname(self->conf, root, error) && flush(self, root, error);
}

static gboolean
install(gpointer data, char **result, GError **error)
{
    const Install *self = data;
    g_autofree char *rootfs =
        agent_mounts_rootfs(agent_guestconf_ctid(self->conf));
    PVE_AUTOFD(root) = -1;
    const char *type, *arch;

    if (!agent_mounts_unshare(error) ||
        !agent_mounts_attach(self->conf, self->cfg, error)) {
        return FALSE;
    }
    root = open(rootfs, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0) {
        return pve_errno_error(error, "open", rootfs);
    }
    if (!unpack_into(self, root, error) || !prepare(self, root, error)) {
        return FALSE;
    }
    type = detect_type(root);
    arch = detect_arch(root);
    *result = g_strdup_printf("%s %s", type != NULL ? type : "-",
                              arch != NULL ? arch : "-");
    return TRUE;
}

void
agent_installed_clear(AgentInstalled *self)
{
    g_clear_pointer(&self->ostype, g_free);
    g_clear_pointer(&self->arch, g_free);
}

/* The tree must take what is written: `ro` counts from the first start on. */
static AgentGuestConf *
writable_copy(const AgentGuestConf *conf)
{
    AgentGuestConf *copy = agent_guestconf_copy(conf);
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, NULL);

    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        AgentMount *mount = mounts->pdata[i];
        g_autofree char *text = NULL;

        mount->ro = FALSE;
        text = agent_mount_format(mount);
        /* A host directory is not the archive's to write into. */
        if (mount->kind == AGENT_MOUNT_BIND ||
            mount->kind == AGENT_MOUNT_DEVICE) {
            agent_guestconf_unset(copy, mount->key);
        } else {
            agent_guestconf_set(copy, mount->key, text);
        }
    }
    return copy;
}

gboolean
agent_install(const AgentGuestConf *conf,
              const AgentStorageCfg *cfg,
              const char *archive,
              AgentInstalled *found,
              GError **error)
{
    g_autoptr(AgentGuestConf) writable = writable_copy(conf);
    Install job = {.conf = writable, .cfg = cfg, .archive = archive};
    g_autofree char *result = NULL;
    g_auto(GStrv) words = NULL;

    job.option = agent_install_identify(archive, error);
    if (job.option == NULL) {
        return FALSE;
    }
    printf("extracting archive '%s'\n", archive);
    fflush(stdout);
    if (!agent_child_call(install, &job, &result, error)) {
        return FALSE;
    }
    words = g_strsplit(result, " ", 2);
    g_assert(g_strv_length(words) == 2);
    found->ostype = strcmp(words[0], "-") != 0 ? g_strdup(words[0]) : NULL;
    found->arch = strcmp(words[1], "-") != 0 ? g_strdup(words[1]) : NULL;
    return TRUE;
}
