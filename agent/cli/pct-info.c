/* pct list, status, config: what is there. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/cli/pct.h"
#include "agent/core/guestopts.h"
#include "agent/io/configs.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "common/files.h"

/* --- list --- */

static const PctOption list_options[] = {{"all", 0, PCT_BOOLEAN}, {NULL}};
static const PctCommand list_command = {"list", "pct list [OPTIONS]",
                                        list_options, 0, 0};

static AgentGuestConf *
load_of(const char *node, guint32 ctid)
{
    g_autofree char *path = agent_configs_path(node, ctid);
    g_autoptr(GBytes) bytes = pve_file_read(path, 0, NULL);

    if (bytes == NULL) {
        return NULL;
    }
    return agent_guestconf_parse(ctid, g_bytes_get_data(bytes, NULL),
                                 g_bytes_get_size(bytes), NULL);
}

/* @status: what runs on other nodes is not known here. */
static void
print_row(const AgentGuestConf *conf, const char *status, const char *node)
{
    g_autofree char *id = g_strdup_printf("%u", agent_guestconf_ctid(conf));
    g_autofree char *name = agent_guestconf_hostname(conf);
    const char *lock = agent_guestconf_lock(conf);
    const char *reason = NULL;

    printf("%-10s %-10s %-12s %-20s", id, status, lock != NULL ? lock : "",
           name);
    if (node != NULL) {
        printf(" %-10s", node);
    }
    printf("\n");
    if (agent_guestconf_is_broken(conf, &reason)) {
        fprintf(stderr, "CT %s: %s\n", id, reason);
    }
}

static void
print_header(gboolean with_node)
{
    printf("%-10s %-10s %-12s %-20s", "VMID", "Status", "Lock", "Name");
    if (with_node) {
        printf(" %-10s", "Node");
    }
    printf("\n");
}

static gint
by_ctid(gconstpointer a, gconstpointer b)
{
    guint32 x = agent_guestconf_ctid(*(AgentGuestConf *const *)a);
    guint32 y = agent_guestconf_ctid(*(AgentGuestConf *const *)b);

    return (x > y) - (x < y);
}

/* Adds the configurations of @node to @rows, and notes whose they are. */
static void
collect(const char *node, GPtrArray *rows, GHashTable *nodes)
{
    g_autoptr(GArray) ids = agent_configs_list(node);

    for (guint i = 0; i < ids->len; i++) {
        guint32 ctid = g_array_index(ids, guint32, i);
        AgentGuestConf *conf = load_of(node, ctid);

        if (conf != NULL) {
            g_ptr_array_add(rows, conf);
            g_hash_table_insert(nodes, conf, g_strdup(node));
        }
    }
}

static const char *
status_of(guint32 ctid, const char *node)
{
    if (strcmp(node, agent_holds_node()) != 0) {
        return "-";
    }
    return agent_ops_is_running(ctid) ? "running" : "stopped";
}

int
pct_list(int argc, char **argv)
{
    g_auto(PctArgs) args = {0};
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_guestconf_free);
    g_autoptr(GHashTable) owners =
        g_hash_table_new_full(NULL, NULL, NULL, g_free);
    gboolean all;

    if (!pct_args_parse(&args, &list_command, argc, argv)) {
        return PCT_EXIT_FAILED;
    }
    all = pct_args_get_bool(&args, "all", FALSE);
    if (all) {
        g_auto(GStrv) nodes = agent_configs_nodes();

        for (char **node = nodes; *node != NULL; node++) {
            collect(*node, rows, owners);
        }
    } else {
        collect(agent_holds_node(), rows, owners);
    }
    g_ptr_array_sort(rows, by_ctid);
    for (guint i = 0; i < rows->len; i++) {
        const char *node = g_hash_table_lookup(owners, rows->pdata[i]);

        if (i == 0) {
            print_header(all);
        }
        print_row(rows->pdata[i],
                  status_of(agent_guestconf_ctid(rows->pdata[i]), node),
                  all ? node : NULL);
    }
    return 0;
}

/* --- status --- */

static const PctOption status_options[] = {{"verbose", 0, PCT_BOOLEAN}, {NULL}};
static const PctCommand status_command = {
    "status", "pct status <vmid> [OPTIONS]", status_options, 1, 1};

static void
print_verbose(const AgentGuestConf *conf, gboolean running)
{
    g_autofree char *name = agent_guestconf_hostname(conf);
    const char *lock = agent_guestconf_lock(conf);
    const char *tags = agent_guestconf_get(conf, "tags");
    guint64 cores = agent_guestconf_get_uint(conf, "cores", 0);

    printf("cpus: %" G_GUINT64_FORMAT "\n",
           cores != 0 ? cores : (guint64)g_get_num_processors());
    if (lock != NULL) {
        printf("lock: %s\n", lock);
    }
    printf("maxmem: %" G_GUINT64_FORMAT "\n",
           agent_guestconf_get_uint(conf, "memory", 512) << 20);
    printf("maxswap: %" G_GUINT64_FORMAT "\n",
           agent_guestconf_get_uint(conf, "swap", 0) << 20);
    printf("name: %s\n", name);
    printf("status: %s\n", running ? "running" : "stopped");
    if (tags != NULL) {
        printf("tags: %s\n", tags);
    }
    if (agent_guestconf_is_template(conf)) {
        printf("template: 1\n");
    }
    printf("type: lxc\nvmid: %u\n", agent_guestconf_ctid(conf));
}

int
pct_status(int argc, char **argv)
{
    g_auto(PctArgs) args = {0};
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GError) error = NULL;
    gboolean running;
    guint32 ctid;

    if (!pct_args_parse(&args, &status_command, argc, argv)) {
        return PCT_EXIT_FAILED;
    }
    ctid = pct_target(&status_command, &args, argc, argv);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    conf = agent_configs_load(ctid, &error);
    if (conf == NULL) {
        return pct_fail(error);
    }
    running = agent_ops_is_running(ctid);
    if (pct_args_get_bool(&args, "verbose", FALSE)) {
        print_verbose(conf, running);
    } else {
        printf("status: %s\n", running ? "running" : "stopped");
    }
    return 0;
}

/* --- config --- */

static const PctOption config_options[] = {
    {"current", 0, PCT_BOOLEAN}, {"snapshot", 0, PCT_VALUE}, {NULL}};
static const PctCommand config_command = {
    "config", "pct config <vmid> [OPTIONS]", config_options, 1, 1};

/* A description has many lines; here it is one. */
static void
print_encoded(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        guchar c = (guchar)*p;

        if (c < 0x20 || c == '%' || c == ':' || c >= 0x7f) {
            printf("%%%02X", c);
        } else {
            putchar(c);
        }
    }
}

static void
print_config(const AgentGuestConf *conf)
{
    g_auto(GStrv) keys = agent_guestconf_keys(conf);

    for (char **key = keys; *key != NULL; key++) {
        printf("%s: ", *key);
        if (strcmp(*key, "description") == 0) {
            print_encoded(agent_guestconf_get(conf, *key));
        } else {
            printf("%s", agent_guestconf_get(conf, *key));
        }
        printf("\n");
    }
    for (const char *const *env = agent_guestconf_env(conf); *env != NULL;
         env++) {
        printf("env: %s\n", *env);
    }
    for (guint i = 0; i < agent_guestconf_n_raw(conf); i++) {
        const char *key, *value;

        agent_guestconf_raw(conf, i, &key, &value);
        printf("%s: %s\n", key, value);
    }
}

static int
print_view(const PctArgs *args, const AgentGuestConf *conf)
{
    const char *snapshot = pct_args_get(args, "snapshot");
    g_autoptr(AgentGuestConf) view = NULL;

    if (snapshot != NULL) {
        view = agent_guestconf_snapshot(conf, snapshot);
        if (view == NULL) {
            fprintf(stderr, "snapshot '%s' does not exist\n", snapshot);
            return PCT_EXIT_FAILED;
        }
    } else if (!pct_args_get_bool(args, "current", FALSE)) {
        view = agent_guestconf_with_pending(conf);
    }
    print_config(view != NULL ? view : conf);
    return 0;
}

int
pct_config(int argc, char **argv)
{
    g_auto(PctArgs) args = {0};
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    if (!pct_args_parse(&args, &config_command, argc, argv)) {
        return PCT_EXIT_FAILED;
    }
    if (pct_args_get(&args, "snapshot") != NULL &&
        pct_args_get_bool(&args, "current", FALSE)) {
        g_autoptr(GPtrArray) problems = g_ptr_array_new();

        g_ptr_array_add(problems, (gpointer) "snapshot: cannot use 'snapshot' "
                                             "parameter with 'current'");
        g_ptr_array_add(problems, (gpointer) "current: cannot use 'snapshot' "
                                             "parameter with 'current'");
        return pct_bad_parameters(&config_command, problems);
    }
    ctid = pct_target(&config_command, &args, argc, argv);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    conf = agent_configs_load(ctid, &error);
    return conf != NULL ? print_view(&args, conf) : pct_fail(error);
}
