#include "config.h"

#include "pmxcfs/cli/look.h"

#include <errno.h>
#include <ifaddrs.h>
#include <json-glib/json-glib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/files.h"
#include "common/paths.h"

#define QUICK_MS 3000
#define DATABASE_MS 30000

static CfsFact
fact(gboolean is_so)
{
    return is_so ? CFS_FACT_YES : CFS_FACT_NO;
}

static char *
read_text(const char *path)
{
    g_autoptr(GBytes) bytes = pve_file_read(path, 1 << 20, NULL);

    return bytes != NULL ? g_strdup(g_bytes_get_data(bytes, NULL)) : NULL;
}

/* Processes --------------------------------------------------------------- */

/* Is the process of that pid file one of that program? @state: (out, nullable)
 * the letter of proc(5). */
static CfsFact
is_running(const char *pid_file, const char *program, char *state)
{
    g_autofree char *text = read_text(pid_file);
    g_autofree char *path = NULL, *stat = NULL, *wanted = NULL;
    const char *after;

    if (text == NULL || atoi(text) <= 0) {
        return CFS_FACT_NO;
    }
    path = g_strdup_printf("/proc/%d/stat", atoi(text));
    stat = read_text(path);
    wanted = g_strdup_printf("(%s) ", program);
    after = stat != NULL ? strstr(stat, wanted) : NULL;
    if (after == NULL || after[strlen(wanted)] == 'Z') {
        return CFS_FACT_NO;
    }
    if (state != NULL) {
        *state = after[strlen(wanted)];
    }
    return CFS_FACT_YES;
}

static void
look_at_processes(CfsFacts *facts)
{
    char state = 0;

    facts->is_daemon_running = is_running(PVE_PID_FILE, "pmxcfs", &state);
    facts->is_daemon_stopped = fact(state == 'T' || state == 't');
    facts->is_corosync_running =
        is_running("/run/corosync.pid", "corosync", NULL);
}

/* The mount --------------------------------------------------------------- */

/* Of the topmost mount there: its type; NULL: none. @has_fuse: one of ours may
 * be below. */
static char *
find_mount(gboolean *has_fuse)
{
    g_autofree char *text = read_text("/proc/self/mountinfo");
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    char *type = NULL;

    *has_fuse = FALSE;
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", -1);
        guint n = g_strv_length(words), dash = 6;

        if (n < 10 || strcmp(words[4], PVE_MOUNT_DIR) != 0) {
            continue;
        }
        while (dash + 1 < n && strcmp(words[dash], "-") != 0) {
            dash++;
        }
        g_free(type);
        type = g_strdup(words[MIN(dash + 1, n - 1)]);
        *has_fuse = *has_fuse || strcmp(type, "fuse") == 0;
    }
    return type;
}

static CfsRun
read_view(const char *name, char **text, int *status)
{
    g_autofree char *path = g_build_filename(PVE_MOUNT_DIR, name, NULL);
    const char *const argv[] = {"cat", path, NULL};

    return cfs_look_run(argv, QUICK_MS, text, status);
}

static void
look_at_views(CfsLook *self)
{
    g_autofree char *members = NULL, *metrics = NULL;
    CfsFacts *facts = self->facts;
    int status;

    switch (read_view(".members", &members, &status)) {
    case CFS_RUN_TIMEOUT:
        facts->mount = CFS_MOUNT_HANGS;
        return;
    case CFS_RUN_FAILED:
        return;
    case CFS_RUN_DONE:
        break;
    }
    if (status != 0) {
        facts->mount = strstr(members, "No such file") != NULL
                           ? CFS_MOUNT_FOREIGN
                           : CFS_MOUNT_DEAD;
        return;
    }
    facts->mount = CFS_MOUNT_SERVED;
    self->members = g_steal_pointer(&members);
    if (read_view(".metrics", &metrics, &status) == CFS_RUN_DONE &&
        status == 0) {
        self->metrics = g_steal_pointer(&metrics);
    }
}

static void
look_at_writable(CfsFacts *facts)
{
    const char *const argv[] = {"stat", "-c", "%A", PVE_MOUNT_DIR "/local",
                                NULL};
    g_autofree char *text = NULL;
    int status;

    if (cfs_look_run(argv, QUICK_MS, &text, &status) == CFS_RUN_DONE &&
        status == 0) {
        facts->is_writable = fact(g_str_has_prefix(text, "lrw"));
    }
}

static void
look_at_mount(CfsLook *self)
{
    CfsFacts *facts = self->facts;
    gboolean has_fuse;

    facts->mount_type = find_mount(&has_fuse);
    if (!has_fuse) {
        facts->mount = facts->mount_type == NULL ||
                               facts->is_daemon_running != CFS_FACT_YES
                           ? CFS_MOUNT_NONE
                           : CFS_MOUNT_FOREIGN;
    } else if (strcmp(facts->mount_type, "fuse") != 0) {
        facts->mount = CFS_MOUNT_FOREIGN;
    } else {
        look_at_views(self);
    }
    if (facts->mount == CFS_MOUNT_SERVED) {
        look_at_writable(facts);
    }
}

/* What the daemon says ---------------------------------------------------- */

gboolean
cfs_look_metric(const char *metrics, const char *name, double *value)
{
    gsize length = strlen(name);
    const char *line = metrics;

    while (line != NULL && *line != '\0') {
        if (strncmp(line, name, length) == 0 && line[length] == ' ') {
            *value = g_ascii_strtod(line + length + 1, NULL);
            return TRUE;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return FALSE;
}

/* The value of the label of the only line of @family that is 1. */
static char *
label_of(const char *metrics, const char *family)
{
    g_autofree char *pattern =
        g_strdup_printf("^%s\\{[a-z]+=\"([^\"]*)\"\\} 1$", family);
    g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;

    return g_regex_match(regex, metrics, 0, &match)
               ? g_match_info_fetch(match, 1)
               : NULL;
}

static void
take_clocks(CfsFacts *facts, const char *metrics)
{
    for (guint i = 0; i < facts->nodes->len; i++) {
        CfsNodeFacts *node = facts->nodes->pdata[i];
        g_autofree char *name = g_strdup_printf(
            "pmxcfs_clock_ahead_seconds{nodeid=\"%u\"}", node->id);
        double value;

        if (cfs_look_metric(metrics, name, &value)) {
            node->has_clock = CFS_FACT_YES;
            node->clock_ahead_s = (gint64)value;
        }
    }
}

static void
take_metrics(CfsFacts *facts, const char *metrics)
{
    double value;

    facts->sync_state = label_of(metrics, "pmxcfs_sync_state");
    facts->daemon_version = label_of(metrics, "pmxcfs_build_info");
    if (cfs_look_metric(metrics, "pmxcfs_quorate", &value)) {
        facts->is_quorate = fact(value > 0);
    }
    if (cfs_look_metric(metrics, "pmxcfs_durable", &value)) {
        facts->is_durable = fact(value > 0);
    }
    take_clocks(facts, metrics);
}

static void
take_member(JsonObject *list, const char *name, JsonNode *value, gpointer data)
{
    JsonObject *member = json_node_get_object(value);
    CfsNodeFacts *node =
        cfs_facts_node(data, (guint32)json_object_get_int_member(member, "id"));

    if (node->name == NULL) {
        node->name = g_strdup(name);
    }
    node->is_online = fact(json_object_get_int_member(member, "online") != 0);
}

static void
take_members(CfsLook *self)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *root, *cluster;

    if (!json_parser_load_from_data(parser, self->members, -1, NULL) ||
        !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser))) {
        return;
    }
    root = json_node_get_object(json_parser_get_root(parser));
    if (!json_object_has_member(root, "cluster")) {
        return; /* local mode */
    }
    cluster = json_object_get_object_member(root, "cluster");
    self->cluster_name =
        g_strdup(json_object_get_string_member(cluster, "name"));
    self->facts->is_quorate =
        fact(json_object_get_int_member(cluster, "quorate") != 0);
    if (json_object_has_member(root, "nodelist")) {
        json_object_foreach_member(
            json_object_get_object_member(root, "nodelist"), take_member,
            self->facts);
    }
}

/* corosync ---------------------------------------------------------------- */

typedef void (*TakeKey)(CfsFacts *facts, const char *key, const char *value);

/* "KEY (TYPE) = VALUE" of corosync-cmapctl(8). FALSE: no answer. */
static gboolean
read_keys(CfsFacts *facts, const char *const *argv, TakeKey take)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int status;
    CfsRun run = cfs_look_run(argv, QUICK_MS, &text, &status);

    if (run != CFS_RUN_DONE || status != 0) {
        if (run != CFS_RUN_FAILED) {
            facts->does_corosync_answer = CFS_FACT_NO;
        }
        return FALSE;
    }
    facts->does_corosync_answer = CFS_FACT_YES;
    lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        char *type = strstr(lines[i], " (");
        char *value = type != NULL ? strstr(type, ") = ") : NULL;

        if (value != NULL) {
            *type = '\0';
            take(facts, lines[i], g_strstrip(value + 4));
        }
    }
    return TRUE;
}

/* nodelist.node.N.*: their order is ours; N counts from 0. */
typedef struct {
    guint32 id;
    char *name;
} Listed;

static Listed listed[128]; /* of one run of the tool */

static void
take_config_key(CfsFacts *facts, const char *key, const char *value)
{
    char field[16];
    guint position;

    if (strcmp(key, "runtime.votequorum.this_node_id") == 0) {
        facts->own_id = (guint32)g_ascii_strtoull(value, NULL, 10);
    } else if (sscanf(key, "nodelist.node.%u.%15s", &position, field) == 2 &&
               position < G_N_ELEMENTS(listed)) {
        if (strcmp(field, "nodeid") == 0) {
            listed[position].id = (guint32)g_ascii_strtoull(value, NULL, 10);
        } else if (strcmp(field, "name") == 0) {
            g_free(listed[position].name);
            listed[position].name = g_strdup(value);
        }
    }
}

static void
take_link_key(CfsFacts *facts, const char *key, const char *value)
{
    CfsNodeFacts *node;
    char field[16];
    guint id, link;

    if (sscanf(key, "stats.knet.node%u.link%u.%15s", &id, &link, field) != 3 ||
        strcmp(field, "connected") != 0) {
        return;
    }
    node = cfs_facts_node(facts, id);
    if (node->is_linked != CFS_FACT_YES) {
        node->is_linked = fact(strcmp(value, "1") == 0);
    }
}

static void
look_at_corosync(CfsFacts *facts)
{
    static const char *const config[] = {"corosync-cmapctl", NULL};
    static const char *const links[] = {"corosync-cmapctl", "-m", "stats",
                                        "stats.knet.", NULL};

    if (facts->is_corosync_running == CFS_FACT_NO ||
        !read_keys(facts, config, take_config_key)) {
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(listed); i++) {
        if (listed[i].id != 0) {
            CfsNodeFacts *node = cfs_facts_node(facts, listed[i].id);

            g_free(node->name);
            node->name = g_steal_pointer(&listed[i].name);
        }
    }
    (void)read_keys(facts, links, take_link_key);
    if (facts->own_id != 0) {
        cfs_facts_node(facts, facts->own_id)->is_linked = CFS_FACT_UNKNOWN;
    }
}

static guint64
conf_version(const char *text)
{
    const char *found = text != NULL ? strstr(text, "config_version:") : NULL;

    return found != NULL
               ? g_ascii_strtoull(found + strlen("config_version:"), NULL, 10)
               : 0;
}

static void
look_at_conf(CfsFacts *facts)
{
    g_autofree char *host = read_text(PVE_COROSYNC_CONF);
    g_autofree char *tree = NULL;
    int status;

    if (facts->mount != CFS_MOUNT_SERVED) {
        facts->is_cluster = host != NULL ? CFS_FACT_YES : CFS_FACT_UNKNOWN;
        return;
    }
    if (read_view("corosync.conf", &tree, &status) == CFS_RUN_DONE) {
        facts->is_cluster = fact(status == 0);
        facts->conf_version_host = conf_version(host);
        facts->conf_version_tree = status == 0 ? conf_version(tree) : 0;
    }
}

/* Names and disk ---------------------------------------------------------- */

static gboolean
is_loopback(const char *address)
{
    return g_str_has_prefix(address, "127.") || strcmp(address, "::1") == 0;
}

static gboolean
is_own_address(const char *address)
{
    struct ifaddrs *all = NULL;
    gboolean found = FALSE;

    if (getifaddrs(&all) < 0) {
        return TRUE; /* who knows */
    }
    for (struct ifaddrs *a = all; a != NULL && !found; a = a->ifa_next) {
        char text[NI_MAXHOST];
        socklen_t size;

        if (a->ifa_addr == NULL || (a->ifa_addr->sa_family != AF_INET &&
                                    a->ifa_addr->sa_family != AF_INET6)) {
            continue;
        }
        size = a->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                 : sizeof(struct sockaddr_in6);
        found = getnameinfo(a->ifa_addr, size, text, sizeof(text), NULL, 0,
                            NI_NUMERICHOST) == 0 &&
                strcmp(text, address) == 0;
    }
    freeifaddrs(all);
    return found;
}

/* As the daemon looks: the first address that is not of this host alone. */
static void
look_at_hosts(CfsFacts *facts)
{
    const char *const argv[] = {"getent", "ahosts", facts->node_name, NULL};
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;
    int status;

    if (cfs_look_run(argv, 2 * QUICK_MS, &text, &status) != CFS_RUN_DONE) {
        return;
    }
    facts->hosts = CFS_HOSTS_MISSING;
    words = g_strsplit(text, "\n", -1);
    for (guint i = 0; status == 0 && words[i] != NULL; i++) {
        g_autofree char *address =
            g_strndup(words[i], strcspn(words[i], " \t"));

        if (address[0] == '\0') {
            continue;
        }
        g_free(facts->address);
        facts->address = g_steal_pointer(&address);
        facts->hosts = CFS_HOSTS_LOOPBACK;
        if (!is_loopback(facts->address)) {
            facts->hosts = is_own_address(facts->address) ? CFS_HOSTS_FINE
                                                          : CFS_HOSTS_FOREIGN;
            return;
        }
    }
}

static void
look_at_disk(CfsFacts *facts)
{
    struct statvfs st;

    if (statvfs(PVE_STATE_DIR, &st) == 0) {
        facts->disk_free = (gint64)(st.f_bavail * st.f_frsize);
    }
}

static void
look_at_database(CfsFacts *facts)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self != NULL ? g_path_get_dirname(self) : NULL;
    g_autofree char *near =
        folder != NULL ? g_build_filename(folder, "pmxcfs-db", NULL) : NULL;
    const char *const argv[] = {
        near != NULL && g_file_test(near, G_FILE_TEST_IS_EXECUTABLE)
            ? near
            : "pmxcfs-db",
        "check", NULL};
    g_autofree char *text = NULL;
    int status;

    if (geteuid() != 0 || !g_file_test(PVE_DATABASE, G_FILE_TEST_EXISTS) ||
        cfs_look_run(argv, DATABASE_MS, &text, &status) != CFS_RUN_DONE) {
        return;
    }
    facts->is_database_good = fact(status == 0);
    if (status != 0) {
        text[strcspn(text, "\n")] = '\0';
        facts->database_problem = g_steal_pointer(&text);
    }
}

/* ------------------------------------------------------------------------- */

CfsLook *
cfs_look(gboolean deep)
{
    CfsLook *self = g_new0(CfsLook, 1);
    CfsFacts *facts = cfs_facts_new();
    struct utsname system;

    self->facts = facts;
    facts->tool_version = g_strdup(PACKAGE_VERSION);
    if (uname(&system) == 0) {
        facts->node_name =
            g_strndup(system.nodename, strcspn(system.nodename, "."));
    }
    look_at_processes(facts);
    look_at_mount(self);
    look_at_conf(facts);
    if (facts->is_cluster != CFS_FACT_NO) {
        look_at_corosync(facts);
    }
    if (self->members != NULL) {
        take_members(self);
    }
    if (self->metrics != NULL) {
        take_metrics(facts, self->metrics);
    }
    look_at_disk(facts);
    if (deep) {
        look_at_hosts(facts);
        look_at_database(facts);
    }
    return self;
}

void
cfs_look_free(CfsLook *self)
{
    if (self != NULL) {
        cfs_facts_free(self->facts);
        g_free(self->members);
        g_free(self->metrics);
        g_free(self->cluster_name);
        g_free(self);
    }
}
