/* pct list, status, config, pending: what is there. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/cli/pct-output.h"
#include "agent/cli/pct.h"
#include "agent/core/guestopts.h"
#include "agent/io/configs.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "common/files.h"

/* --- list --- */

const PctOption pct_list_options[] = {
    {"all", 0, PCT_BOOLEAN, NULL, "0", "The containers of all nodes.", PCT_ANY},
    {NULL}};

static AgentGuestConf *
load_of(const char *node, guint32 ctid, char **digest)
{
    g_autofree char *path = agent_configs_path(node, ctid);
    g_autoptr(GBytes) bytes = pve_file_read(path, 0, NULL);

    if (bytes == NULL) {
        return NULL;
    }
    if (digest != NULL) {
        *digest = g_compute_checksum_for_bytes(G_CHECKSUM_SHA1, bytes);
    }
    return agent_guestconf_parse(ctid, g_bytes_get_data(bytes, NULL),
                                 g_bytes_get_size(bytes), NULL);
}

AgentGuestConf *
pct_load(guint32 ctid, char **digest, GError **error)
{
    g_autofree char *owner = agent_configs_owner(ctid);
    AgentGuestConf *conf = load_of(owner, ctid, digest);

    /* With the words for a file that is not there. */
    return conf != NULL ? conf : agent_configs_load(ctid, error);
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
        AgentGuestConf *conf = load_of(node, ctid, NULL);

        if (conf != NULL) {
            g_ptr_array_add(rows, conf);
            g_hash_table_insert(nodes, conf, g_strdup(node));
        }
    }
}

/* One look at what runs serves all rows. */
typedef struct {
    GPtrArray *confs;   /* AgentGuestConf, by id */
    GHashTable *owners; /* conf to node */
    GArray *running;    /* guint32 */
} Rows;

static const char *
status_of(const Rows *rows, guint32 ctid, const char *node)
{
    if (strcmp(node, agent_holds_node()) != 0) {
        return "-";
    }
    for (guint i = 0; i < rows->running->len; i++) {
        if (g_array_index(rows->running, guint32, i) == ctid) {
            return "running";
        }
    }
    return "stopped";
}

static void
print_rows(const Rows *rows, gboolean all)
{
    for (guint i = 0; i < rows->confs->len; i++) {
        const AgentGuestConf *conf = rows->confs->pdata[i];
        const char *node = g_hash_table_lookup(rows->owners, conf);

        if (i == 0) {
            print_header(all);
        }
        print_row(conf, status_of(rows, agent_guestconf_ctid(conf), node),
                  all ? node : NULL);
    }
}

static JsonNode *
rows_to_json(const Rows *rows)
{
    g_autoptr(JsonArray) list = json_array_new();

    for (guint i = 0; i < rows->confs->len; i++) {
        const AgentGuestConf *conf = rows->confs->pdata[i];
        const char *node = g_hash_table_lookup(rows->owners, conf);
        const char *lock = agent_guestconf_lock(conf);
        guint32 ctid = agent_guestconf_ctid(conf);
        g_autofree char *name = agent_guestconf_hostname(conf);
        JsonObject *row = json_object_new();

        json_object_set_int_member(row, "vmid", ctid);
        json_object_set_string_member(row, "status",
                                      status_of(rows, ctid, node));
        json_object_set_string_member(row, "name", name);
        json_object_set_string_member(row, "node", node);
        if (lock != NULL) {
            json_object_set_string_member(row, "lock", lock);
        }
        json_array_add_object_element(list, row);
    }
    return json_node_init_array(json_node_alloc(), list);
}

int
pct_list(const PctArgs *args)
{
    g_autoptr(GPtrArray) confs =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_guestconf_free);
    g_autoptr(GHashTable) owners =
        g_hash_table_new_full(NULL, NULL, NULL, g_free);
    g_autoptr(GArray) running = agent_ops_running();
    const Rows rows = {.confs = confs, .owners = owners, .running = running};
    gboolean all = pct_args_get_bool(args, "all", FALSE);

    if (all) {
        g_auto(GStrv) nodes = agent_configs_nodes();

        for (char **node = nodes; *node != NULL; node++) {
            collect(*node, confs, owners);
        }
    } else {
        collect(agent_holds_node(), confs, owners);
    }
    g_ptr_array_sort(confs, by_ctid);
    if (pct_output_is_data(args)) {
        pct_output(args, rows_to_json(&rows));
    } else {
        print_rows(&rows, all);
    }
    return 0;
}

/* --- status --- */

const PctOption pct_status_options[] = {
    {"verbose", 0, PCT_BOOLEAN, NULL, "0", "All that is known.", PCT_ANY},
    {NULL}};

static void
put_number(JsonObject *object, const char *key, guint64 value)
{
    json_object_set_int_member(object, key, (gint64)value);
}

static void
put_text(JsonObject *object, const char *key, const char *value)
{
    if (value != NULL) {
        json_object_set_string_member(object, key, value);
    }
}

static JsonObject *
status_to_json(const AgentGuestConf *conf, gboolean running, gboolean verbose)
{
    JsonObject *object = json_object_new();
    g_autofree char *name = agent_guestconf_hostname(conf);
    guint64 cores = agent_guestconf_get_uint(conf, "cores", 0);

    put_text(object, "status", running ? "running" : "stopped");
    if (!verbose) {
        return object;
    }
    put_number(object, "cpus",
               cores != 0 ? cores : (guint64)g_get_num_processors());
    put_text(object, "lock", agent_guestconf_lock(conf));
    put_number(object, "maxmem",
               agent_guestconf_get_uint(conf, "memory", 512) << 20);
    put_number(object, "maxswap",
               agent_guestconf_get_uint(conf, "swap", 0) << 20);
    put_text(object, "name", name);
    put_text(object, "tags", agent_guestconf_get(conf, "tags"));
    if (agent_guestconf_is_template(conf)) {
        put_number(object, "template", 1);
    }
    put_text(object, "type", "lxc");
    put_number(object, "vmid", agent_guestconf_ctid(conf));
    return object;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(a, b);
}

/* `key: value`, by key. */
static void
print_members(JsonObject *object)
{
    GList *names = g_list_sort(json_object_get_members(object), by_text);

    for (GList *name = names; name != NULL; name = name->next) {
        JsonNode *value = json_object_get_member(object, name->data);

        if (json_node_get_value_type(value) == G_TYPE_STRING) {
            printf("%s: %s\n", (const char *)name->data,
                   json_node_get_string(value));
        } else {
            printf("%s: %" G_GINT64_FORMAT "\n", (const char *)name->data,
                   json_node_get_int(value));
        }
    }
    g_list_free(names);
}

int
pct_status(const PctArgs *args)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid = pct_target(args);

    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    conf = agent_configs_load(ctid, &error);
    if (conf == NULL) {
        return pct_fail(error);
    }
    object = status_to_json(conf, agent_ops_is_running(ctid),
                            pct_args_get_bool(args, "verbose", FALSE));
    if (pct_output_is_data(args)) {
        pct_output(args, json_node_init_object(json_node_alloc(), object));
    } else {
        print_members(object);
    }
    return 0;
}

/* --- config --- */

const PctOption pct_config_options[] = {
    {"current", 0, PCT_BOOLEAN, NULL, "0",
     "What is in effect, without pending changes.", PCT_ANY},
    {"snapshot", 0, PCT_VALUE, "<string>", NULL, "What a snapshot says.",
     PCT_SNAPSHOT},
    {NULL}};

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
print_option(const char *key, const char *value)
{
    printf("%s: ", key);
    if (strcmp(key, "description") == 0) {
        print_encoded(value);
    } else {
        printf("%s", value);
    }
    printf("\n");
}

/* One line a variable. */
static void
print_env(const AgentGuestConf *conf)
{
    for (const char *const *env = agent_guestconf_env(conf); *env != NULL;
         env++) {
        printf("env: %s\n", *env);
    }
}

static void
print_config(const AgentGuestConf *conf)
{
    g_auto(GStrv) keys = agent_guestconf_section_keys(conf, AGENT_SECTION_MAIN);

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *value =
            agent_guestconf_peek(conf, AGENT_SECTION_MAIN, *key);

        if (strcmp(*key, "env") == 0) {
            print_env(conf);
        } else {
            print_option(*key, value);
        }
    }
    for (guint i = 0; i < agent_guestconf_n_raw(conf); i++) {
        const char *key, *value;

        agent_guestconf_raw(conf, i, &key, &value);
        printf("%s: %s\n", key, value);
    }
}

static JsonNode *
config_to_json(const AgentGuestConf *conf, const char *digest)
{
    g_autoptr(JsonObject) object = json_object_new();
    g_auto(GStrv) keys = agent_guestconf_section_keys(conf, AGENT_SECTION_MAIN);
    JsonArray *raw = json_array_new();

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *value =
            agent_guestconf_peek(conf, AGENT_SECTION_MAIN, *key);

        pct_output_set_option(object, *key, *key, value);
    }
    for (guint i = 0; i < agent_guestconf_n_raw(conf); i++) {
        const char *key, *value;
        JsonArray *pair = json_array_new();

        agent_guestconf_raw(conf, i, &key, &value);
        json_array_add_string_element(pair, key);
        json_array_add_string_element(pair, value);
        json_array_add_array_element(raw, pair);
    }
    if (json_array_get_length(raw) > 0) {
        json_object_set_array_member(object, "lxc", raw);
    } else {
        json_array_unref(raw);
    }
    json_object_set_string_member(object, "digest", digest);
    return json_node_init_object(json_node_alloc(), object);
}

static int
print_view(const PctArgs *args, const AgentGuestConf *conf, const char *digest)
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
    if (pct_output_is_data(args)) {
        pct_output(args, config_to_json(view != NULL ? view : conf, digest));
    } else {
        print_config(view != NULL ? view : conf);
    }
    return 0;
}

int
pct_config(const PctArgs *args)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autofree char *digest = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid;

    if (pct_args_get(args, "snapshot") != NULL &&
        pct_args_get_bool(args, "current", FALSE)) {
        g_autoptr(GPtrArray) problems = g_ptr_array_new();

        g_ptr_array_add(problems, (gpointer) "snapshot: cannot use 'snapshot' "
                                             "parameter with 'current'");
        g_ptr_array_add(problems, (gpointer) "current: cannot use 'snapshot' "
                                             "parameter with 'current'");
        return pct_bad_parameters(args, problems);
    }
    ctid = pct_guest_id(args);
    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    conf = pct_load(ctid, &digest, &error);
    return conf != NULL ? print_view(args, conf, digest) : pct_fail(error);
}

/* --- pending --- */

/* What stands and what shall stand, of one option. */
typedef struct {
    char *key;
    char *now;  /* nullable */
    char *then; /* nullable */
    gboolean is_deleted;
} Entry;

static void
entry_free(gpointer data)
{
    Entry *self = data;

    g_free(self->key);
    g_free(self->now);
    g_free(self->then);
    g_free(self);
}

static void
add_entries(GPtrArray *entries,
            const AgentGuestConf *conf,
            char **keys,
            char **deleted,
            gboolean only_new)
{
    for (char **key = keys; *key != NULL; key++) {
        Entry *entry = g_new0(Entry, 1);

        entry->key = g_strdup(*key);
        entry->now = agent_guestconf_peek(conf, AGENT_SECTION_MAIN, *key);
        entry->then = agent_guestconf_peek(conf, AGENT_SECTION_PENDING, *key);
        entry->is_deleted = g_strv_contains((const char *const *)deleted, *key);
        if (only_new && entry->now != NULL) {
            entry_free(entry);
        } else {
            g_ptr_array_add(entries, entry);
        }
    }
}

static gint
by_key(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const Entry *const *)a)->key,
                  (*(const Entry *const *)b)->key);
}

static GPtrArray *
entries_of(const AgentGuestConf *conf)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);
    g_auto(GStrv) now = agent_guestconf_section_keys(conf, AGENT_SECTION_MAIN);
    g_auto(GStrv) then =
        agent_guestconf_section_keys(conf, AGENT_SECTION_PENDING);
    g_auto(GStrv) deleted = agent_guestconf_deletions(conf);

    add_entries(entries, conf, now, deleted, FALSE);
    add_entries(entries, conf, then, deleted, TRUE);
    g_ptr_array_sort(entries, by_key);
    return entries;
}

/* A variable of the environment is a line of its own. */
static void
print_change(const char *mark, const char *key, const char *value)
{
    g_auto(GStrv) lines =
        strcmp(key, "env") == 0 ? g_strsplit(value, "\n", -1) : NULL;

    for (char **line = lines; line != NULL && *line != NULL; line++) {
        printf("%s env: %s\n", mark, *line);
    }
    if (lines == NULL) {
        printf("%s ", mark);
        print_option(key, value);
    }
}

static void
print_entry(const Entry *entry)
{
    if (entry->is_deleted) {
        if (entry->now != NULL) {
            print_change("del", entry->key, entry->now);
        }
        return;
    }
    if (entry->now != NULL) {
        print_change("cur", entry->key, entry->now);
    }
    if (entry->then != NULL) {
        print_change("new", entry->key, entry->then);
    }
}

static JsonNode *
entries_to_json(GPtrArray *entries)
{
    g_autoptr(JsonArray) list = json_array_new();

    for (guint i = 0; i < entries->len; i++) {
        const Entry *entry = entries->pdata[i];
        JsonObject *row = json_object_new();

        json_object_set_string_member(row, "key", entry->key);
        if (entry->now != NULL) {
            pct_output_set_option(row, "value", entry->key, entry->now);
        }
        if (entry->then != NULL && !entry->is_deleted) {
            pct_output_set_option(row, "pending", entry->key, entry->then);
        }
        if (entry->is_deleted) {
            json_object_set_int_member(row, "delete", 1);
        }
        json_array_add_object_element(list, row);
    }
    return json_node_init_array(json_node_alloc(), list);
}

int
pct_pending(const PctArgs *args)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GError) error = NULL;
    guint32 ctid = pct_guest_id(args);

    if (ctid == 0) {
        return PCT_EXIT_FAILED;
    }
    conf = pct_load(ctid, NULL, &error);
    if (conf == NULL) {
        return pct_fail(error);
    }
    entries = entries_of(conf);
    if (pct_output_is_data(args)) {
        pct_output(args, entries_to_json(entries));
        return 0;
    }
    for (guint i = 0; i < entries->len; i++) {
        print_entry(entries->pdata[i]);
    }
    return 0;
}
