#include "config.h"

#include "pmxcfs/core/diagnosis.h"

#include <string.h>

static void
add_node(CfsFacts *facts, guint32 id, const char *name)
{
    CfsNodeFacts *node = cfs_facts_node(facts, id);

    node->name = g_strdup(name);
    node->is_linked = id == 1 ? CFS_FACT_UNKNOWN : CFS_FACT_YES;
    node->is_online = CFS_FACT_YES;
    node->has_clock = CFS_FACT_YES;
}

/* Node n1 of three, where all is well. */
static CfsFacts *
facts_of_a_good_node(void)
{
    CfsFacts *facts = cfs_facts_new();

    facts->node_name = g_strdup("n1");
    facts->mount = CFS_MOUNT_SERVED;
    facts->mount_type = g_strdup("fuse");
    facts->is_daemon_running = CFS_FACT_YES;
    facts->is_daemon_stopped = CFS_FACT_NO;
    facts->is_writable = CFS_FACT_YES;
    facts->is_cluster = CFS_FACT_YES;
    facts->is_quorate = CFS_FACT_YES;
    facts->sync_state = g_strdup("synced");
    facts->is_durable = CFS_FACT_YES;
    facts->daemon_version = g_strdup("1");
    facts->tool_version = g_strdup("1");
    facts->is_corosync_running = CFS_FACT_YES;
    facts->does_corosync_answer = CFS_FACT_YES;
    facts->own_id = 1;
    add_node(facts, 1, "n1");
    add_node(facts, 2, "n2");
    add_node(facts, 3, "n3");
    facts->conf_version_host = facts->conf_version_tree = 4;
    facts->hosts = CFS_HOSTS_FINE;
    facts->disk_free = G_GINT64_CONSTANT(1) << 40;
    facts->is_database_good = CFS_FACT_YES;
    return facts;
}

/* @wanted: causes in their order, warnings with a '?'. @text: in the first of
 * them, or NULL. */
static void
expect(const CfsFacts *facts, const char *wanted, const char *text)
{
    g_autoptr(GPtrArray) findings = cfs_diagnose(facts);
    g_autoptr(GString) got = g_string_new(NULL);

    for (guint i = 0; i < findings->len; i++) {
        const CfsFinding *finding = findings->pdata[i];

        g_string_append_printf(got, "%s%s%s", i > 0 ? " " : "", finding->cause,
                               finding->is_warning ? "?" : "");
        g_assert_cmpuint(strlen(finding->advice), >, 10);
    }
    g_assert_cmpstr(got->str, ==, wanted);
    if (text != NULL) {
        const CfsFinding *first = findings->pdata[0];

        g_test_message("%s", first->text);
        g_assert_nonnull(strstr(first->text, text));
    }
}

static void
set_text(char **text, const char *value)
{
    g_free(*text);
    *text = g_strdup(value);
}

static void
test_nothing_known_nothing_wrong(void)
{
    g_autoptr(CfsFacts) good = facts_of_a_good_node();
    g_autoptr(CfsFacts) unknown = cfs_facts_new();

    expect(good, "", NULL);
    g_assert_cmpstr(cfs_facts_verdict(good), ==, "writable");
    expect(unknown, "", NULL);
    g_assert_cmpstr(cfs_facts_verdict(unknown), ==, "unknown");
}

static void
test_the_daemon(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();

    facts->mount = CFS_MOUNT_FOREIGN;
    set_text(&facts->mount_type, "tmpfs");
    expect(facts, "foreign-mount", "'tmpfs'");
    g_assert_cmpstr(cfs_facts_verdict(facts), ==, "absent");
    facts->mount = CFS_MOUNT_NONE;
    expect(facts, "not-mounted", NULL);
    facts->mount = CFS_MOUNT_HANGS;
    expect(facts, "daemon-hangs", NULL);
    facts->is_daemon_stopped = CFS_FACT_YES;
    expect(facts, "daemon-stopped", NULL);
    facts->is_daemon_running = CFS_FACT_NO;
    facts->mount = CFS_MOUNT_DEAD;
    expect(facts, "daemon", "died");
    facts->mount = CFS_MOUNT_NONE;
    expect(facts, "daemon", "not running");
}

static void
test_the_cluster(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();
    CfsNodeFacts *n3 = cfs_facts_node(facts, 3);

    n3->is_linked = n3->is_online = CFS_FACT_NO;
    expect(facts, "link?", "n3");
    cfs_facts_node(facts, 2)->is_linked = CFS_FACT_NO;
    facts->is_quorate = CFS_FACT_NO;
    facts->is_writable = CFS_FACT_NO;
    expect(facts, "link no-quorum", "n2, n3");
    g_assert_cmpstr(cfs_facts_verdict(facts), ==, "read-only");
    /* It follows from this. */
    facts->does_corosync_answer = CFS_FACT_NO;
    expect(facts, "corosync-hangs", NULL);
    facts->is_corosync_running = CFS_FACT_NO;
    expect(facts, "corosync", NULL);
    /* Alone there is no such thing. */
    facts->is_cluster = CFS_FACT_NO;
    expect(facts, "", NULL);
}

static void
test_stale(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();

    cfs_facts_node(facts, 2)->is_online = CFS_FACT_NO;
    expect(facts, "peer-away?", "n2");
    set_text(&facts->sync_state, "update");
    expect(facts, "not-synced peer-away?", "'update'");
    g_assert_cmpstr(cfs_facts_verdict(facts), ==, "stale");
}

static void
test_names(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();

    facts->hosts = CFS_HOSTS_LOOPBACK;
    set_text(&facts->address, "127.0.1.1");
    expect(facts, "hosts", "127.0.1.1");
    facts->hosts = CFS_HOSTS_FOREIGN;
    expect(facts, "hosts", "no address of this host");
    facts->hosts = CFS_HOSTS_MISSING;
    expect(facts, "hosts", "has no address");
    facts->hosts = CFS_HOSTS_FINE;
    set_text(&facts->node_name, "n3");
    expect(facts, "name-clash", "name of node 3; this is node 1");
    set_text(&facts->node_name, "n1");
    set_text(&cfs_facts_node(facts, 3)->name, "n2");
    expect(facts, "name-clash", "nodes 2 and 3 are both 'n2'");
}

static void
test_clocks(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();

    cfs_facts_node(facts, 2)->clock_ahead_s = 2; /* on its way */
    expect(facts, "", NULL);
    cfs_facts_node(facts, 2)->clock_ahead_s = 3600;
    expect(facts, "clock?", "n2 is 60 min ahead of this node's");
    cfs_facts_node(facts, 2)->clock_ahead_s = -20;
    expect(facts, "clock?", "n2 is 20 s behind this node's");
    /* Of three, the one that two differ from. */
    cfs_facts_node(facts, 3)->clock_ahead_s = -20;
    expect(facts, "clock?", "of this node is 20 s ahead of those");
    cfs_facts_node(facts, 2)->clock_ahead_s = 300000;
    cfs_facts_node(facts, 3)->clock_ahead_s = 300000;
    expect(facts, "clock?", "of this node is 3 days behind those");
}

static void
test_the_disk(void)
{
    g_autoptr(CfsFacts) facts = facts_of_a_good_node();

    facts->disk_free = 10 << 20;
    expect(facts, "disk-low?", "10240 KiB");
    facts->is_durable = CFS_FACT_NO;
    expect(facts, "disk", NULL);
    facts->disk_free = 0;
    expect(facts, "disk-full", NULL);
    facts->disk_free = -1;
    facts->is_durable = CFS_FACT_UNKNOWN;
    facts->is_database_good = CFS_FACT_NO;
    set_text(&facts->database_problem, "no rows");
    expect(facts, "database", "no rows");
    /* What is broken comes before what may break. */
    facts->conf_version_tree = 5;
    set_text(&facts->daemon_version, "0");
    expect(facts, "database corosync-conf? version?", NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/diagnosis/well", test_nothing_known_nothing_wrong);
    g_test_add_func("/diagnosis/daemon", test_the_daemon);
    g_test_add_func("/diagnosis/cluster", test_the_cluster);
    g_test_add_func("/diagnosis/stale", test_stale);
    g_test_add_func("/diagnosis/names", test_names);
    g_test_add_func("/diagnosis/clocks", test_clocks);
    g_test_add_func("/diagnosis/disk", test_the_disk);
    return g_test_run();
}
