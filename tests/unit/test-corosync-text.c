#include "config.h"

#include "pmxcfs/core/core-error.h"
#include "pmxcfs/core/corosync-text.h"

#include <string.h>

static const char *const self_names[] = {"n1", "10.0.0.1", NULL};

#define TOTEM(version)                                                         \
    "totem {\n  version: 2\n  cluster_name: tb\n  config_version: " version    \
    "\n}\n"
#define NODES                                                                  \
    "nodelist {\n  node {\n    name: n1\n    nodeid: 1\n    ring0_addr: "      \
    "10.0.0.9\n  }\n  node {\n    name: n2\n  }\n}\n"

static GBytes *
bytes_of(const char *text)
{
    return g_bytes_new_static(text, strlen(text));
}

/* What is wrong with it; NULL: nothing. */
static char *
fault_of(const char *text)
{
    g_autoptr(GBytes) bytes = bytes_of(text);
    g_autoptr(GError) error = NULL;

    if (cfs_corosync_text_check(bytes, self_names, &error)) {
        g_assert_no_error(error);
        return NULL;
    }
    g_assert_error(error, CFS_ERROR, CFS_ERROR_CONTENT);
    return g_strdup(error->message);
}

static void
test_check(void)
{
    static const struct {
        const char *text;
        const char *fault;
    } rows[] = {
        {TOTEM("7") NODES, NULL},
        {"# a comment {\n\n" TOTEM("7") NODES
         "logging {\n  debug: a { b\n  x: }\n}\n",
         NULL},
        {TOTEM("7") "nodelist {\n node {\n ring0_addr: 10.0.0.1\n }\n}\n",
         NULL},
        {TOTEM("7") "nodelist {\n node {\n name: n3\n ring0_addr: 10.0.0.1\n"
                    " }\n}\n",
         "its nodelist lacks this node"},
        {TOTEM("7"), "it has no section nodelist"},
        {TOTEM("7") "nodelist {\n}\n", "its nodelist lacks this node"},
        {NODES, "section totem has no 'version: 2'"},
        {TOTEM("0") NODES, "line 4: config_version must be a number above 0"},
        {TOTEM("-1") NODES, "line 4: config_version must be a number above 0"},
        {TOTEM("4294967296") NODES,
         "line 4: config_version must be a number above 0"},
        {"totem {\n version: 2\n cluster_name: x\n}\n# config_version: 5\n",
         "section totem has no config_version above 0"},
        {"totem {\n version: 2\n config_version: 1\n}\n",
         "section totem has no cluster_name"},
        {TOTEM("7") "nodelist {\n  node {\n    name: n1\n  }\n",
         "section 'nodelist' is not closed by '}'"},
        {TOTEM("7") NODES "}\n",
         "line 16: '}' without a section that it could close"},
        {"totem { version: 2 }\n", "line 1: more text behind '{'"},
        {"{\n}\n", "line 1: a section without a name"},
        {TOTEM("7") NODES "logg",
         "line 16: neither a section, nor 'key: value', nor '}'"},
        {"", "section totem has no 'version: 2'"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *fault = fault_of(rows[i].text);

        g_assert_cmpstr(fault, ==, rows[i].fault);
    }
}

/* Each beginning of a text, as a slow editor writes it, is refused until all
 * that matters is there. */
static void
test_beginnings(void)
{
    const char *whole = TOTEM("7") NODES;
    gsize size = strlen(whole);

    /* Without the last newline it is whole already. */
    for (gsize i = 0; i + 1 < size; i++) {
        g_autofree char *part = g_strndup(whole, i);
        g_autofree char *fault = fault_of(part);

        g_assert_nonnull(fault);
    }
}

static void
test_hostile(void)
{
    g_autoptr(GString) deep = g_string_new(NULL);
    g_autoptr(GBytes) nul = g_bytes_new_static("totem {\n\0}\n", 11);
    g_autofree char *fault = NULL;

    for (guint i = 0; i < 1000; i++) {
        g_string_append(deep, "a {\n");
    }
    fault = fault_of(deep->str);
    g_assert_cmpstr(fault, ==, "line 17: sections are nested too deeply");
    g_assert_cmpuint(cfs_corosync_text_version(nul), ==, 0);
}

static CfsCorosyncVerdict
judge(const char *text, const char *host, gboolean expect_error)
{
    g_autoptr(GBytes) bytes = bytes_of(text);
    g_autoptr(GBytes) old = host != NULL ? bytes_of(host) : NULL;
    g_autoptr(GError) error = NULL;
    CfsCorosyncVerdict verdict =
        cfs_corosync_text_judge(bytes, old, self_names, &error);

    g_assert_true((error != NULL) == expect_error);
    return verdict;
}

/* row: 11/empty, row: 11/no-version */
static void
test_judge(void)
{
    static const struct {
        const char *text;
        const char *host;
        CfsCorosyncVerdict verdict;
    } rows[] = {
        {"", TOTEM("1") NODES, CFS_COROSYNC_KEEP},
        {TOTEM("2") NODES, TOTEM("2") NODES, CFS_COROSYNC_KEEP},
        {"broken", "broken", CFS_COROSYNC_KEEP},
        {TOTEM("2") NODES, NULL, CFS_COROSYNC_REPLACE},
        {TOTEM("2") NODES, "", CFS_COROSYNC_REPLACE},
        {TOTEM("2") NODES, "broken", CFS_COROSYNC_REPLACE},
        {TOTEM("2") NODES, TOTEM("1") NODES, CFS_COROSYNC_REPLACE},
        {TOTEM("2") NODES "\n", TOTEM("2") NODES, CFS_COROSYNC_REFUSE},
        {TOTEM("1") NODES, TOTEM("2") NODES, CFS_COROSYNC_REFUSE},
        {TOTEM("3"), TOTEM("2") NODES, CFS_COROSYNC_REFUSE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpint(judge(rows[i].text, rows[i].host,
                              rows[i].verdict == CFS_COROSYNC_REFUSE),
                        ==, rows[i].verdict);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/corosync-text/check", test_check);
    g_test_add_func("/corosync-text/beginnings", test_beginnings);
    g_test_add_func("/corosync-text/hostile", test_hostile);
    g_test_add_func("/corosync-text/judge", test_judge);
    return g_test_run();
}
