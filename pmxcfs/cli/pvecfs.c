/* pvecfs.c - the cluster filesystem for people and scripts: how it is, what
 * happened, and what is wrong.
 */
#include "config.h"

#include <json-glib/json-glib.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/paths.h"
#include "common/subcommand.h"
#include "pmxcfs/cli/look.h"
#include "pmxcfs/cli/pvecfs-private.h"
#include "pmxcfs/cli/pvecfs-socket.h"

#define TOOL CFS_PVECFS_TOOL
#define QUICK_MS 3000
#define FOLLOW_US G_USEC_PER_SEC
#define LOG_LINES 50

typedef enum { COLOUR_NONE, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD } Colour;

/* Saying ------------------------------------------------------------------ */

static const char *
paint(Colour colour)
{
    static const char *const codes[] = {
        [COLOUR_NONE] = "\033[0m",
        [COLOUR_GOOD] = "\033[32m",
        [COLOUR_WARN] = "\033[33m",
        [COLOUR_BAD] = "\033[31m",
    };

    return isatty(STDOUT_FILENO) && g_getenv("NO_COLOR") == NULL ? codes[colour]
                                                                 : "";
}

int
cfs_pvecfs_trouble(const char *text)
{
    fprintf(stderr, TOOL ": %s\n", text);
    return CFS_PVECFS_TROUBLE;
}

gboolean
cfs_pvecfs_parse(GOptionEntry *entries,
                 const char *usage,
                 int *argc,
                 char ***argv,
                 int min_words,
                 int max_words)
{
    g_autoptr(GOptionContext) context = g_option_context_new(usage);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        (void)cfs_pvecfs_trouble(error->message);
        return FALSE;
    }
    if (*argc < 1 + min_words || *argc > 1 + max_words) {
        (void)cfs_pvecfs_trouble(*argc > 1 + max_words ? "too many arguments"
                                                       : "too few arguments");
        return FALSE;
    }
    return TRUE;
}

static int
print_json(JsonBuilder *builder, int result)
{
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    g_autofree char *text = json_to_string(root, TRUE);

    printf("%s\n", text);
    return result;
}

static void
json_string(JsonBuilder *builder, const char *name, const char *value)
{
    (void)json_builder_set_member_name(builder, name);
    if (value != NULL) {
        (void)json_builder_add_string_value(builder, value);
    } else {
        (void)json_builder_add_null_value(builder);
    }
}

static void
json_fact(JsonBuilder *builder, const char *name, CfsFact fact)
{
    (void)json_builder_set_member_name(builder, name);
    if (fact == CFS_FACT_UNKNOWN) {
        (void)json_builder_add_null_value(builder);
    } else {
        (void)json_builder_add_boolean_value(builder, fact == CFS_FACT_YES);
    }
}

/* status ------------------------------------------------------------------ */

/* What the metrics say, in the order of the page. */
static const struct {
    const char *key; /* of the JSON */
    const char *title;
    const char *metric;
    gboolean is_bytes;
} numbers[] = {
    {"version", "tree version", "pmxcfs_tree_version", FALSE},
    {"entries", "entries", "pmxcfs_tree_entries", FALSE},
    {"bytes", "content", "pmxcfs_tree_bytes", TRUE},
    {"commits", "commits", "pmxcfs_commits_total", FALSE},
    {"waiting", "requests waiting", "pmxcfs_requests_waiting", FALSE},
    {"waiting_for_disk", "... for the disk", "pmxcfs_answers_waiting_for_disk",
     FALSE},
    {"waiting_for_caches", "caches to clear",
     "pmxcfs_cache_invalidations_waiting", FALSE},
    {"memory", "memory", "process_resident_memory_bytes", TRUE},
};

static Colour
colour_of(const char *verdict)
{
    return strcmp(verdict, "writable") == 0 ? COLOUR_GOOD
           : strcmp(verdict, "stale") == 0  ? COLOUR_WARN
                                            : COLOUR_BAD;
}

static void
print_nodes(const CfsFacts *facts)
{
    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];
        gboolean is_online = node->is_online == CFS_FACT_YES;

        printf("  %4u  %-20s %s%s%s", node->id,
               node->name != NULL ? node->name : "?",
               paint(is_online ? COLOUR_GOOD : COLOUR_BAD),
               is_online ? "online" : "offline", paint(COLOUR_NONE));
        if (node->id == facts->own_id) {
            printf(", this node");
        } else if (node->is_linked == CFS_FACT_NO) {
            printf(", no link");
        }
        if (node->has_clock == CFS_FACT_YES && ABS(node->clock_ahead_s) > 1) {
            printf(", clock %+" G_GINT64_FORMAT " s", node->clock_ahead_s);
        }
        printf("\n");
    }
}

static void
print_number(guint i, const char *metrics)
{
    double value;

    if (!cfs_look_metric(metrics, numbers[i].metric, &value)) {
        return;
    }
    if (numbers[i].is_bytes) {
        g_autofree char *size =
            g_format_size_full((guint64)value, G_FORMAT_SIZE_IEC_UNITS);

        printf("%-18s %s\n", numbers[i].title, size);
    } else {
        printf("%-18s %.0f\n", numbers[i].title, value);
    }
}

static void
print_status(const CfsLook *look)
{
    const CfsFacts *facts = look->facts;
    const char *verdict = cfs_facts_verdict(facts);
    g_autofree char *disk = g_format_size_full(
        (guint64)MAX(facts->disk_free, 0), G_FORMAT_SIZE_IEC_UNITS);

    printf("%-18s %s%s%s on %s\n", PVE_MOUNT_DIR, paint(colour_of(verdict)),
           verdict, paint(COLOUR_NONE), facts->node_name);
    printf("%-18s %s\n", "cluster",
           look->cluster_name != NULL         ? look->cluster_name
           : facts->is_cluster == CFS_FACT_NO ? "none: this node alone"
                                              : "?");
    if (facts->is_quorate != CFS_FACT_UNKNOWN) {
        printf("%-18s %s\n", "quorum",
               facts->is_quorate == CFS_FACT_YES ? "yes" : "no");
    }
    if (facts->sync_state != NULL) {
        printf("%-18s %s\n", "state", facts->sync_state);
    }
    printf("%-18s %s, %s free\n", "database",
           facts->is_durable == CFS_FACT_YES  ? "well"
           : facts->is_durable == CFS_FACT_NO ? "cannot follow"
                                              : "?",
           facts->disk_free >= 0 ? disk : "?");
    for (guint i = 0; i < G_N_ELEMENTS(numbers) && look->metrics != NULL; i++) {
        print_number(i, look->metrics);
    }
    if (facts->nodes->len > 0) {
        printf("nodes\n");
        print_nodes(facts);
    }
}

static void
json_nodes(JsonBuilder *builder, const CfsFacts *facts)
{
    (void)json_builder_set_member_name(builder, "nodes");
    (void)json_builder_begin_array(builder);
    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];

        (void)json_builder_begin_object(builder);
        (void)json_builder_set_member_name(builder, "id");
        (void)json_builder_add_int_value(builder, node->id);
        json_string(builder, "name", node->name);
        json_fact(builder, "online", node->is_online);
        json_fact(builder, "linked", node->is_linked);
        (void)json_builder_set_member_name(builder, "clock_ahead");
        if (node->has_clock == CFS_FACT_YES) {
            (void)json_builder_add_int_value(builder, node->clock_ahead_s);
        } else {
            (void)json_builder_add_null_value(builder);
        }
        (void)json_builder_end_object(builder);
    }
    (void)json_builder_end_array(builder);
}

static void
json_status(JsonBuilder *builder, const CfsLook *look)
{
    const CfsFacts *facts = look->facts;
    double value;

    (void)json_builder_begin_object(builder);
    json_string(builder, "verdict", cfs_facts_verdict(facts));
    json_string(builder, "node", facts->node_name);
    json_string(builder, "cluster", look->cluster_name);
    json_fact(builder, "quorate", facts->is_quorate);
    json_fact(builder, "writable", facts->is_writable);
    json_fact(builder, "durable", facts->is_durable);
    json_string(builder, "state", facts->sync_state);
    json_string(builder, "daemon_version", facts->daemon_version);
    (void)json_builder_set_member_name(builder, "disk_free");
    (void)json_builder_add_int_value(builder, facts->disk_free);
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (look->metrics != NULL &&
            cfs_look_metric(look->metrics, numbers[i].metric, &value)) {
            (void)json_builder_set_member_name(builder, numbers[i].key);
            (void)json_builder_add_int_value(builder, (gint64)value);
        }
    }
    json_nodes(builder, facts);
    (void)json_builder_end_object(builder);
}

static int
run_status(int argc, char **argv)
{
    gboolean is_json = FALSE;
    GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &is_json, "For programs", NULL},
        {NULL}};
    g_autoptr(CfsLook) look = NULL;
    g_autoptr(JsonBuilder) builder = json_builder_new();
    int result;

    if (!cfs_pvecfs_parse(entries, "", &argc, &argv, 0, 0)) {
        return CFS_PVECFS_TROUBLE;
    }
    look = cfs_look(FALSE);
    result = strcmp(cfs_facts_verdict(look->facts), "writable") == 0
                 ? CFS_PVECFS_WELL
                 : CFS_PVECFS_ILL;
    if (is_json) {
        json_status(builder, look);
        return print_json(builder, result);
    }
    print_status(look);
    if (result != CFS_PVECFS_WELL) {
        printf("\n'" TOOL " doctor' says why.\n");
    }
    return result;
}

/* doctor ------------------------------------------------------------------ */

static void
json_findings(JsonBuilder *builder,
              const CfsFacts *facts,
              const GPtrArray *findings)
{
    (void)json_builder_begin_object(builder);
    json_string(builder, "verdict", cfs_facts_verdict(facts));
    json_string(builder, "node", facts->node_name);
    (void)json_builder_set_member_name(builder, "findings");
    (void)json_builder_begin_array(builder);
    for (guint i = 0; i < findings->len; i++) {
        const CfsFinding *finding = findings->pdata[i];

        (void)json_builder_begin_object(builder);
        json_string(builder, "cause", finding->cause);
        json_string(builder, "severity",
                    finding->is_warning ? "warning" : "error");
        json_string(builder, "text", finding->text);
        json_string(builder, "advice", finding->advice);
        (void)json_builder_end_object(builder);
    }
    (void)json_builder_end_array(builder);
    (void)json_builder_end_object(builder);
}

static void
print_findings(const CfsFacts *facts, const GPtrArray *findings)
{
    const char *verdict = cfs_facts_verdict(facts);

    printf("%s is %s%s%s on %s.\n", PVE_MOUNT_DIR, paint(colour_of(verdict)),
           verdict, paint(COLOUR_NONE), facts->node_name);
    if (findings->len == 0) {
        printf("%s\n", strcmp(verdict, "writable") == 0
                           ? "Nothing is wrong."
                           : "No cause was found; 'journalctl -u pmxcfs -u "
                             "corosync' has what the daemons say.");
    }
    for (guint i = 0; i < findings->len; i++) {
        const CfsFinding *finding = findings->pdata[i];

        printf("\n%u. %s%s%s\n   -> %s\n", i + 1,
               paint(finding->is_warning ? COLOUR_WARN : COLOUR_BAD),
               finding->text, paint(COLOUR_NONE), finding->advice);
    }
    if (geteuid() != 0) {
        printf("\nOnly root can look at everything.\n");
    }
}

static int
run_doctor(int argc, char **argv)
{
    gboolean is_json = FALSE;
    GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &is_json, "For programs", NULL},
        {NULL}};
    g_autoptr(CfsLook) look = NULL;
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(JsonBuilder) builder = json_builder_new();
    int result;

    if (!cfs_pvecfs_parse(entries, "", &argc, &argv, 0, 0)) {
        return CFS_PVECFS_TROUBLE;
    }
    look = cfs_look(TRUE);
    findings = cfs_diagnose(look->facts);
    result = findings->len == 0 &&
                     strcmp(cfs_facts_verdict(look->facts), "writable") == 0
                 ? CFS_PVECFS_WELL
                 : CFS_PVECFS_ILL;
    if (is_json) {
        json_findings(builder, look->facts, findings);
        return print_json(builder, result);
    }
    print_findings(look->facts, findings);
    return result;
}

/* metrics ----------------------------------------------------------------- */

/* NULL: said why. */
static char *
read_view(const char *name)
{
    g_autofree char *path = g_build_filename(PVE_MOUNT_DIR, name, NULL);
    const char *const argv[] = {"cat", path, NULL};
    g_autofree char *text = NULL;
    int status;

    switch (cfs_look_run(argv, QUICK_MS, &text, &status)) {
    case CFS_RUN_TIMEOUT:
        (void)cfs_pvecfs_trouble(PVE_MOUNT_DIR " does not answer: '" TOOL
                                               " doctor' says why");
        return NULL;
    case CFS_RUN_FAILED:
        (void)cfs_pvecfs_trouble("cannot run cat");
        return NULL;
    case CFS_RUN_DONE:
        break;
    }
    if (status != 0) {
        (void)cfs_pvecfs_trouble(g_strchomp(text));
        return NULL;
    }
    return g_steal_pointer(&text);
}

static int
run_metrics(int argc, char **argv)
{
    GOptionEntry entries[] = {{NULL}};
    g_autofree char *text = NULL;

    if (!cfs_pvecfs_parse(entries, "", &argc, &argv, 0, 0) ||
        (text = read_view(".metrics")) == NULL) {
        return CFS_PVECFS_TROUBLE;
    }
    return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? CFS_PVECFS_TROUBLE
                                                          : CFS_PVECFS_WELL;
}

/* log --------------------------------------------------------------------- */

static const char *
member_text(JsonObject *entry, const char *name)
{
    return json_object_has_member(entry, name)
               ? json_object_get_string_member(entry, name)
               : "";
}

static void
print_entry(JsonObject *entry)
{
    static const Colour colours[] = {COLOUR_BAD,  COLOUR_BAD,  COLOUR_BAD,
                                     COLOUR_BAD,  COLOUR_WARN, COLOUR_NONE,
                                     COLOUR_NONE, COLOUR_NONE};
    gint64 priority = json_object_get_int_member(entry, "pri");
    g_autoptr(GDateTime) at = g_date_time_new_from_unix_local(
        json_object_get_int_member(entry, "time"));
    g_autofree char *when = g_date_time_format(at, "%F %T");

    printf("%s %s %s[%" G_GINT64_FORMAT "] %s: %s%s%s\n", when,
           member_text(entry, "node"), member_text(entry, "tag"),
           json_object_get_int_member(entry, "pid"), member_text(entry, "user"),
           paint(colours[priority & 7]), member_text(entry, "msg"),
           paint(COLOUR_NONE));
}

/* What makes an entry that one. */
static char *
entry_key(JsonObject *entry)
{
    return g_strdup_printf(
        "%s %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %s",
        member_text(entry, "node"), json_object_get_int_member(entry, "uid"),
        json_object_get_int_member(entry, "time"),
        json_object_get_int_member(entry, "pid"), member_text(entry, "msg"));
}

/* Prints those of the newest @max that @seen has not; the file has the newest
 * first. FALSE: said why. */
static gboolean
print_new(GHashTable *seen, guint max)
{
    g_autofree char *text = read_view(".clusterlog");
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    JsonArray *all;
    guint n;

    if (text == NULL) {
        return FALSE;
    }
    if (!json_parser_load_from_data(parser, text, -1, &error)) {
        (void)cfs_pvecfs_trouble(error->message);
        return FALSE;
    }
    all = json_object_get_array_member(
        json_node_get_object(json_parser_get_root(parser)), "data");
    n = json_array_get_length(all);
    for (guint i = n; i > 0; i--) {
        JsonObject *entry = json_array_get_object_element(all, i - 1);

        if (g_hash_table_add(seen, entry_key(entry)) && i <= max) {
            print_entry(entry);
        }
    }
    return fflush(stdout) == 0;
}

static int
run_log(int argc, char **argv)
{
    gint lines = LOG_LINES;
    gboolean follows = FALSE;
    GOptionEntry entries[] = {
        {"lines", 'n', 0, G_OPTION_ARG_INT, &lines, "The newest N", "N"},
        {"follow", 'f', 0, G_OPTION_ARG_NONE, &follows, "Goes on", NULL},
        {NULL}};
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (!cfs_pvecfs_parse(entries, "", &argc, &argv, 0, 0)) {
        return CFS_PVECFS_TROUBLE;
    }
    if (!print_new(seen, (guint)MAX(lines, 0))) {
        return CFS_PVECFS_TROUBLE;
    }
    while (follows) {
        g_usleep(FOLLOW_US);
        /* While the daemon restarts there is none. */
        (void)print_new(seen, G_MAXUINT);
    }
    return CFS_PVECFS_WELL;
}

static const PveSubcommand commands[] = {
    {"status", "[--json]", "Shows the filesystem, its cluster and its members.",
     run_status},
    {"doctor", "[--json]",
     "Finds why " PVE_MOUNT_DIR " is read-only, stale or absent, and says "
     "what to do.",
     run_doctor},
    {"log", "[-n N] [-f]", "Shows the cluster log, the newest last.", run_log},
    {"watch", "[--json] [PATH...]",
     "Follows changes as they come: of these paths and what is below.",
     cfs_pvecfs_watch},
    {"get", "KEY [NODE]", "Writes out a status key of this or another node.",
     cfs_pvecfs_get},
    {"set", "KEY [VALUE]", "Sets a status key of this node; from stdin.",
     cfs_pvecfs_set},
    {"sync", "", "Waits until all that was applied here is on stable storage.",
     cfs_pvecfs_sync},
    {"metrics", "", "Writes out the daemon's numbers for Prometheus.",
     run_metrics},
    {NULL}};

int
main(int argc, char **argv)
{
    (void)setlocale(LC_ALL, "");
    return pve_subcommand_main(TOOL, commands, argc, argv);
}
