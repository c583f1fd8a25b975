#include "config.h"

#include "agent/io/cgroups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/files.h"

#define ROOT "/sys/fs/cgroup"

typedef struct {
    char *controllers; /* as in /proc/PID/cgroup; "": the unified one */
    char *base;        /* the directory that lxc/CTID is made in */
} Hierarchy;

enum { BUSY_WAIT_MS = 5000, BUSY_STEP_MS = 20, MAX_DEPTH = 32 };

static gboolean
has_word(const char *text, const char *word, const char *separators)
{
    g_autofree char *copy = g_strdelimit(g_strdup(text), separators, ' ');
    g_auto(GStrv) words = g_strsplit(g_strstrip(copy), " ", -1);

    return g_strv_contains((const char *const *)words, word);
}

/* Returns: (owned) where the hierarchy of a line's controllers is mounted, or
 * NULL. Those of v1 that are mounted together have links by their names. */
static char *
mount_of(const char *controllers)
{
    g_auto(GStrv) names = g_strsplit(controllers, ",", 2);
    const char *name = names[0] != NULL ? names[0] : "";
    g_autofree char *path = NULL;

    if (*name == '\0') {
        struct statfs fs;
        gboolean alone =
            statfs(ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;

        path = g_strdup(alone ? ROOT : ROOT "/unified");
    } else {
        path = g_build_filename(
            ROOT, g_str_has_prefix(name, "name=") ? name + 5 : name, NULL);
    }
    return g_file_test(path, G_FILE_TEST_IS_DIR) ? g_steal_pointer(&path)
                                                 : NULL;
}

/* "7:cpu,cpuacct:/path" of pid 1: liblxc puts its groups beside that process,
 * outside of systemd's init.scope. Returns: (owned), or NULL. */
static Hierarchy *
hierarchy_of_line(const char *line)
{
    g_auto(GStrv) parts = g_strsplit(line, ":", 3);
    g_autofree char *mountpoint = NULL;
    g_autofree char *own = NULL;
    Hierarchy *self;

    if (g_strv_length(parts) != 3 || strstr(parts[2], "/..") != NULL) {
        return NULL;
    }
    mountpoint = mount_of(parts[1]);
    if (mountpoint == NULL) {
        return NULL;
    }
    own = g_strdup(parts[2]);
    if (g_str_has_suffix(own, "/init.scope")) {
        own[strlen(own) - strlen("/init.scope")] = '\0';
    }
    self = g_new0(Hierarchy, 1);
    self->controllers = g_strdup(parts[1]);
    self->base = g_build_filename(mountpoint, own, NULL);
    return self;
}

static void
hierarchy_free(Hierarchy *self)
{
    g_free(self->controllers);
    g_free(self->base);
    g_free(self);
}

/* Returns: (owned) of Hierarchy. */
static GPtrArray *
hierarchies(void)
{
    GPtrArray *all =
        g_ptr_array_new_with_free_func((GDestroyNotify)hierarchy_free);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/1/cgroup", &text, NULL, NULL)) {
        return all;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        Hierarchy *hierarchy = hierarchy_of_line(*line);

        if (hierarchy != NULL) {
            g_ptr_array_add(all, hierarchy);
        }
    }
    return all;
}

/* Returns: (borrowed) the one of @controller; "" is the unified one. */
static const Hierarchy *
find_hierarchy(GPtrArray *all, const char *controller)
{
    for (guint i = 0; i < all->len; i++) {
        const Hierarchy *hierarchy = all->pdata[i];

        if (*controller == '\0'
                ? *hierarchy->controllers == '\0'
                : has_word(hierarchy->controllers, controller, ",")) {
            return hierarchy;
        }
    }
    return NULL;
}

AgentCgroupVersion
agent_cgroups_version(const char *controller)
{
    g_autoptr(GPtrArray) all = hierarchies();
    const Hierarchy *unified = find_hierarchy(all, "");

    if (unified != NULL) {
        g_autofree char *path =
            g_build_filename(unified->base, "cgroup.controllers", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL) &&
            has_word(text, controller, "\n")) {
            return AGENT_CGROUP_V2;
        }
    }
    return find_hierarchy(all, controller) != NULL ? AGENT_CGROUP_V1
                                                   : AGENT_CGROUP_NONE;
}

gboolean
agent_cgroups_has_memsw(void)
{
    g_autoptr(GPtrArray) all = hierarchies();
    const Hierarchy *memory = find_hierarchy(all, "memory");
    g_autofree char *path = NULL;

    if (memory == NULL) {
        return FALSE;
    }
    path = g_build_filename(memory->base, "memory.memsw.limit_in_bytes", NULL);
    return access(path, F_OK) == 0;
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
    g_autoptr(GPtrArray) all = hierarchies();

    for (guint i = 0; i < all->len; i++) {
        const Hierarchy *hierarchy = all->pdata[i];

        if (!clean_hierarchy(hierarchy->base, ctid, error)) {
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

static void
thaw(const Hierarchy *hierarchy,
     guint32 ctid,
     const char *file,
     const char *text)
{
    g_autofree char *path = NULL;

    if (hierarchy != NULL) {
        path = g_strdup_printf("%s/lxc/%u/%s", hierarchy->base, ctid, file);
        write_if_there(path, text);
    }
}

void
agent_cgroups_thaw(guint32 ctid)
{
    g_autoptr(GPtrArray) all = hierarchies();

    thaw(find_hierarchy(all, ""), ctid, "cgroup.freeze", "0");
    thaw(find_hierarchy(all, "freezer"), ctid, "freezer.state", "THAWED");
}

/* --- limits --- */

/* The outer group: the container cannot write it. FALSE with errno. */
static gboolean
write_limit(const Hierarchy *hierarchy, guint32 ctid, const AgentLimit *limit)
{
    g_autofree char *path =
        g_strdup_printf("%s/lxc/%u/%s", hierarchy->base, ctid, limit->file);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && pve_write_all(fd, limit->value, strlen(limit->value));
}

/* Returns the first limit that the kernel refused, with errno; NULL: none. */
static const AgentLimit *
write_limits(const Hierarchy *hierarchy,
             guint32 ctid,
             const GPtrArray *limits,
             gboolean is_backwards)
{
    for (guint i = 0; i < limits->len; i++) {
        const AgentLimit *limit =
            limits->pdata[is_backwards ? limits->len - 1 - i : i];

        if (!write_limit(hierarchy, ctid, limit)) {
            return limit;
        }
    }
    return NULL;
}

/* Memory may not be above memory and swap together, not even for a moment: one
 * of the two orders is right. */
static gboolean
limit_controller(guint32 ctid,
                 const char *controller,
                 AgentCgroupVersion version,
                 const GPtrArray *limits,
                 GError **error)
{
    g_autoptr(GPtrArray) all = hierarchies();
    const Hierarchy *hierarchy =
        find_hierarchy(all, version == AGENT_CGROUP_V2 ? "" : controller);
    const AgentLimit *refused;

    if (version == AGENT_CGROUP_NONE || hierarchy == NULL) {
        return TRUE;
    }
    if (write_limits(hierarchy, ctid, limits, FALSE) == NULL) {
        return TRUE;
    }
    refused = write_limits(hierarchy, ctid, limits, TRUE);
    if (refused != NULL) {
        g_autofree char *what =
            g_strdup_printf("write '%s' to", refused->value);

        return pve_errno_error(error, what, refused->file);
    }
    return TRUE;
}

gboolean
agent_cgroups_limit(const AgentGuestConf *conf, GError **error)
{
    guint32 ctid = agent_guestconf_ctid(conf);
    AgentCgroupVersion memory = agent_cgroups_version("memory");
    AgentCgroupVersion cpu = agent_cgroups_version("cpu");
    g_autoptr(GPtrArray) sizes =
        agent_limits_memory(conf, memory, agent_cgroups_has_memsw());
    g_autoptr(GPtrArray) shares = agent_limits_cpu(conf, cpu, TRUE);

    return limit_controller(ctid, "memory", memory, sizes, error) &&
           limit_controller(ctid, "cpu", cpu, shares, error);
}

/* --- devices --- */

/* The outer group first: the inner one may not have more. */
static gboolean
write_rule(const Hierarchy *hierarchy,
           guint32 ctid,
           const char *file,
           const char *rule,
           GError **error)
{
    static const char *const groups[] = {"", "/ns", NULL};

    for (guint i = 0; groups[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf(
            "%s/lxc/%u%s/%s", hierarchy->base, ctid, groups[i], file);
        PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 || !pve_write_all(fd, rule, strlen(rule))) {
            return pve_errno_error(error, "write", path);
        }
    }
    return TRUE;
}

gboolean
agent_cgroups_allow_device(
    guint32 ctid, char type, dev_t device, gboolean deny_write, GError **error)
{
    g_autoptr(GPtrArray) all = hierarchies();
    const Hierarchy *hierarchy = find_hierarchy(all, "devices");
    g_autofree char *name =
        g_strdup_printf("%c %u:%u", type, major(device), minor(device));
    g_autofree char *deny = g_strconcat(name, " w", NULL);
    g_autofree char *allow = g_strconcat(name, deny_write ? " r" : " rw", NULL);

    return hierarchy == NULL ||
           ((!deny_write ||
             write_rule(hierarchy, ctid, "devices.deny", deny, error)) &&
            write_rule(hierarchy, ctid, "devices.allow", allow, error));
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

static gboolean
write_cpus(const char *base,
           guint32 ctid,
           const char *group,
           const char *list,
           GError **error)
{
    g_autofree char *path =
        g_strdup_printf("%s/lxc/%u%s/cpuset.cpus", base, ctid, group);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    return (fd >= 0 && pve_write_all(fd, list, strlen(list))) ||
           pve_errno_error(error, "write", path);
}

/* What the group of all containers may use. */
static char *
all_cpus(const char *base)
{
    static const char *const files[] = {
        "cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus", NULL};

    for (guint i = 0; files[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("%s/lxc/%s", base, files[i]);
        char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL)) {
            return g_strstrip(text);
        }
    }
    return NULL;
}

/* The outer group may not be smaller than the inner one, at no time. */
gboolean
agent_cgroups_set_cpus(guint32 ctid, guint64 count, GError **error)
{
    AgentCgroupVersion version = agent_cgroups_version("cpuset");
    g_autoptr(GPtrArray) all = hierarchies();
    const Hierarchy *hierarchy =
        find_hierarchy(all, version == AGENT_CGROUP_V2 ? "" : "cpuset");
    g_autofree char *whole = NULL;
    g_autofree char *list = agent_cgroups_pick_cpus(count);

    if (version == AGENT_CGROUP_NONE || hierarchy == NULL) {
        return TRUE;
    }
    whole = all_cpus(hierarchy->base);
    if (whole == NULL) {
        return TRUE;
    }
    return write_cpus(hierarchy->base, ctid, "", whole, error) &&
           write_cpus(hierarchy->base, ctid, "/ns", list != NULL ? list : whole,
                      error) &&
           write_cpus(hierarchy->base, ctid, "", list != NULL ? list : whole,
                      error);
}
