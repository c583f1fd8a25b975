#include "config.h"

#include "agent/io/cgroups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/files.h"

#define ROOT "/sys/fs/cgroup"

enum { BUSY_WAIT_MS = 5000, BUSY_STEP_MS = 20, MAX_DEPTH = 32 };

static gboolean
is_unified(void)
{
    struct statfs fs;

    return statfs(ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static const char *
unified_root(void)
{
    return is_unified() ? ROOT : ROOT "/unified";
}

static gboolean
has_word(const char *text, const char *word, const char *separators)
{
    g_autofree char *copy = g_strdelimit(g_strdup(text), separators, ' ');
    g_auto(GStrv) words = g_strsplit(g_strstrip(copy), " ", -1);

    return g_strv_contains((const char *const *)words, word);
}

/* Is @controller in one of the lines "7:cpu,cpuacct:/path"? */
static gboolean
is_v1(const char *controller)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL)) {
        return FALSE;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) parts = g_strsplit(*line, ":", 3);

        if (g_strv_length(parts) == 3 && has_word(parts[1], controller, ",")) {
            return TRUE;
        }
    }
    return FALSE;
}

AgentCgroupVersion
agent_cgroups_version(const char *controller)
{
    g_autofree char *path =
        g_strdup_printf("%s/cgroup.controllers", unified_root());
    g_autofree char *text = NULL;

    if (g_file_get_contents(path, &text, NULL, NULL) &&
        has_word(text, controller, "\n")) {
        return AGENT_CGROUP_V2;
    }
    return is_v1(controller) ? AGENT_CGROUP_V1 : AGENT_CGROUP_NONE;
}

gboolean
agent_cgroups_has_memsw(void)
{
    return access(ROOT "/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
}

/* --- leftovers --- */

/* Removes @name in @parent and all below it. FALSE with errno. */
static gboolean
remove_tree(int parent, const char *name, guint depth)
{
    PVE_AUTOFD(fd) =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir;
    struct dirent *entry;
    gboolean fine = TRUE;

    if (fd < 0) {
        return errno == ENOENT;
    }
    dir = fdopendir(fd);
    if (dir == NULL) {
        return FALSE;
    }
    (void)pve_steal_fd(&fd);
    while (fine && depth < MAX_DEPTH && (entry = readdir(dir)) != NULL) {
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
            strcmp(entry->d_name, "..") != 0) {
            fine = remove_tree(dirfd(dir), entry->d_name, depth + 1);
        }
    }
    (void)closedir(dir);
    return fine &&
           (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT);
}

/* A process that just died may still be counted for a moment. */
static gboolean
remove_group(const char *hierarchy, const char *group, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%s", hierarchy, group);
    gint64 end = g_get_monotonic_time() + BUSY_WAIT_MS * 1000;

    while (!remove_tree(AT_FDCWD, path, 0)) {
        if (errno != EBUSY || g_get_monotonic_time() > end) {
            return pve_errno_error(error, "failed to remove directory", path);
        }
        g_usleep(BUSY_STEP_MS * 1000);
    }
    return TRUE;
}

static gboolean
clean_hierarchy(const char *hierarchy, guint32 ctid, GError **error)
{
    g_autofree char *payload = g_strdup_printf("lxc/%u", ctid);
    g_autofree char *monitor = g_strdup_printf("lxc.monitor/%u", ctid);

    return remove_group(hierarchy, payload, error) &&
           remove_group(hierarchy, monitor, error);
}

gboolean
agent_cgroups_clean(guint32 ctid, GError **error)
{
    g_autoptr(GDir) dir = NULL;
    const char *name;

    if (is_unified()) {
        return clean_hierarchy(ROOT, ctid, error);
    }
    dir = g_dir_open(ROOT, 0, NULL);
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(ROOT, name, NULL);

        if (!clean_hierarchy(path, ctid, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* --- freezer --- */

static void
write_if_there(const char *path, const char *text)
{
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && !pve_write_all(fd, text, strlen(text))) {
        g_debug("write '%s' to %s: %s", text, path, g_strerror(errno));
    }
}

void
agent_cgroups_thaw(guint32 ctid)
{
    g_autofree char *v2 =
        g_strdup_printf("%s/lxc/%u/cgroup.freeze", unified_root(), ctid);
    g_autofree char *v1 =
        g_strdup_printf(ROOT "/freezer/lxc/%u/freezer.state", ctid);

    write_if_there(v2, "0");
    write_if_there(v1, "THAWED");
}

/* --- CPUs --- */

static void
append_range(GString *out, int first, int last)
{
    if (out->len > 0) {
        g_string_append_c(out, ',');
    }
    if (first == last) {
        g_string_append_printf(out, "%d", first);
    } else {
        g_string_append_printf(out, "%d-%d", first, last);
    }
}

static char *
format_cpus(const cpu_set_t *set)
{
    GString *out = g_string_new(NULL);
    int first = -1;

    for (int cpu = 0; cpu <= CPU_SETSIZE; cpu++) {
        gboolean is_in = cpu < CPU_SETSIZE && CPU_ISSET((gsize)cpu, set);

        if (is_in && first < 0) {
            first = cpu;
        } else if (!is_in && first >= 0) {
            append_range(out, first, cpu - 1);
            first = -1;
        }
    }
    return g_string_free(out, FALSE);
}

char *
agent_cgroups_pick_cpus(guint64 count)
{
    cpu_set_t set;

    if (count == 0 || sched_getaffinity(0, sizeof(set), &set) < 0 ||
        (guint64)CPU_COUNT(&set) <= count) {
        return NULL;
    }
    while ((guint64)CPU_COUNT(&set) > count) {
        CPU_CLR((gsize)g_random_int_range(0, CPU_SETSIZE), &set);
    }
    return format_cpus(&set);
}
