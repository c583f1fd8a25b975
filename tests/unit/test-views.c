#include "config.h"

#include "pmxcfs/core/message.h"
#include "pmxcfs/core/views.h"

#include <errno.h>
#include <string.h>

typedef struct {
    CfsStatus *status;
    CfsViews *views;
    CfsTree *tree;
} Fixture;

static void
setup(Fixture *f, gconstpointer unused)
{
    f->status = cfs_status_new("n1");
    f->views = cfs_views_new("n1", 1795284823);
    cfs_views_set_status(f->views, f->status);
    f->tree = cfs_tree_new(1);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_views_free(f->views);
    cfs_status_free(f->status);
    cfs_tree_free(f->tree);
}

static char *
text_of(Fixture *f, const char *name)
{
    int position = cfs_views_find(name);

    g_assert_cmpint(position, >=, 0);
    return cfs_views_text(f->views, (guint)position, f->tree);
}

static void
apply(Fixture *f, CfsOp *take)
{
    g_autoptr(CfsOp) op = take;
    g_autoptr(GPtrArray) changes = cfs_changes_new();

    g_assert_cmpint(cfs_tree_apply(f->tree, op, 0, 1, changes), ==, 0);
    cfs_views_on_changes(f->views, op, changes);
}

static guint
count_of(Fixture *f, const char *path)
{
    g_autofree char *text = text_of(f, ".version");
    g_autofree char *key = g_strdup_printf("\"%s\": ", path);
    const char *at = strstr(text, key);

    g_assert_nonnull(at);
    return (guint)g_ascii_strtoull(at + strlen(key), NULL, 10);
}

/* The measured rows of spec/filesystem.md 9; row: 9/version/reload */
static void
test_observed(Fixture *f, gconstpointer unused)
{
    g_autoptr(GBytes) data = g_bytes_new_static("x", 1);

    apply(f, cfs_op_new(CFS_OP_CREATE, "storage.cfg"));
    apply(f, cfs_op_new_write("storage.cfg", data, 0));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 2);
    apply(f, cfs_op_new_mtime("storage.cfg", 5));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 3);
    apply(f, cfs_op_new(CFS_OP_CREATE, "tmp"));
    apply(f, cfs_op_new_rename("tmp", "storage.cfg"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 4);
    apply(f, cfs_op_new_rename("storage.cfg", "away"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 5);
    apply(f, cfs_op_new_rename("away", "storage.cfg"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 6);
    apply(f, cfs_op_new(CFS_OP_DELETE, "storage.cfg"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 7);
    apply(f, cfs_op_new(CFS_OP_MKDIR, "storage.cfg"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 7);
    apply(f, cfs_op_new(CFS_OP_DELETE, "storage.cfg"));
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 8);
    cfs_views_on_reload(f->views);
    g_assert_cmpuint(count_of(f, "storage.cfg"), ==, 9);
    g_assert_cmpuint(count_of(f, "mapping/usb.cfg"), ==, 1);
}

/* row: 9/members/cluster */
static void
test_members(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) nodes =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);
    CfsMember one = {1, 100};
    g_autoptr(GBytes) ip = g_bytes_new_static("10.99.0.1", 10);
    g_autofree char *before = text_of(f, ".members");
    g_autofree char *after = NULL;

    g_assert_cmpstr(before, ==,
                    "{\n\"nodename\": \"n1\",\n\"version\": 1\n}\n");
    g_assert_cmpint(cfs_status_set(f->status, "nodeip", ip, 1), ==, 0);
    g_ptr_array_add(nodes, cfs_node_new(1, "n1"));
    g_ptr_array_add(nodes, cfs_node_new(3, "n3"));
    cfs_status_set_cluster(f->status, "tb", 1, nodes);
    cfs_nodelist_set_online(cfs_status_nodelist(f->status), &one, 1);
    cfs_views_set_quorate(f->views, TRUE);
    after = text_of(f, ".members");
    g_assert_cmpstr(
        after, ==,
        "{\n\"nodename\": \"n1\",\n\"version\": 4,\n\"cluster\": { \"name\": "
        "\"tb\", \"version\": 1, \"nodes\": 2, \"quorate\": 1 },\n"
        "\"nodelist\": {\n"
        "  \"n1\": { \"id\": 1, \"online\": 1, \"ip\": \"10.99.0.1\"},\n"
        "  \"n3\": { \"id\": 3, \"online\": 0}\n  }\n}\n");
}

static void
test_vmlist(Fixture *f, gconstpointer unused)
{
    g_autofree char *empty = text_of(f, ".vmlist");
    g_autofree char *one = NULL;

    g_assert_cmpstr(empty, ==, "{\n\"version\": 0\n\n}\n");
    apply(f, cfs_op_new(CFS_OP_MKDIR, "nodes"));
    apply(f, cfs_op_new(CFS_OP_MKDIR, "nodes/n1"));
    apply(f, cfs_op_new(CFS_OP_MKDIR, "nodes/n1/lxc"));
    apply(f, cfs_op_new(CFS_OP_CREATE, "nodes/n1/lxc/100.conf"));
    one = text_of(f, ".vmlist");
    g_assert_cmpstr(one, ==,
                    "{\n\"version\": 1,\n\"ids\": {\n\"100\": { \"node\": "
                    "\"n1\", \"type\": \"lxc\", \"version\": 1 }}\n\n}\n");
}

static void
test_links(Fixture *f, gconstpointer unused)
{
    g_autofree char *lxc = text_of(f, "lxc");
    g_autofree char *local = text_of(f, "local");

    g_assert_cmpstr(lxc, ==, "nodes/n1/lxc");
    g_assert_cmpstr(local, ==, "nodes/n1");
    g_assert_cmpint(cfs_views_find("lxcx"), ==, -1);
    g_assert_cmpuint(cfs_views_mode((guint)cfs_views_find("lxc"), FALSE), ==,
                     0555);
    g_assert_cmpuint(cfs_views_mode((guint)cfs_views_find(".vmlist"), FALSE),
                     ==, 0440);
}

/* .debug takes exactly what the reference takes, .version nothing. */
static void
test_writing(Fixture *f, gconstpointer unused)
{
    static const struct {
        const char *view;
        const char *bytes;
        guint64 offset;
        int taken;
        gboolean debug;
    } rows[] = {
        {".debug", "1\n", 0, 2, TRUE},       {".debug", "0", 0, -EIO, TRUE},
        {".debug", "0\n", 1, -EIO, TRUE},    {".debug", "2\n", 0, -EIO, TRUE},
        {".debug", "0\nmore", 0, 2, FALSE},  {".debug", "", 0, -EIO, FALSE},
        {".version", "1\n", 0, -EIO, FALSE}, {"local", "1\n", 0, -EIO, FALSE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = NULL;

        g_assert_cmpint(cfs_views_write(f->views,
                                        (guint)cfs_views_find(rows[i].view),
                                        rows[i].bytes, strlen(rows[i].bytes),
                                        rows[i].offset),
                        ==, rows[i].taken);
        text = text_of(f, ".debug");
        g_assert_cmpstr(text, ==, rows[i].debug ? "1\n" : "0\n");
    }
    g_assert_cmpint(cfs_views_truncate((guint)cfs_views_find(".debug")), ==, 0);
    g_assert_cmpint(cfs_views_truncate((guint)cfs_views_find(".members")), ==,
                    EIO);
    g_assert_cmpuint(cfs_views_mode((guint)cfs_views_find(".debug"), FALSE), ==,
                     0640);
}

/* The whole text, key by key. */
static void
test_version(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = text_of(f, ".version");

    g_assert_true(g_str_has_prefix(
        text, "{\n\"starttime\": 1795284823,\n\"clinfo\": 1,\n\"vmlist\": 0,\n"
              "\"corosync.conf\": 0,\n\"corosync.conf.new\": 0,\n"));
    g_assert_true(g_str_has_suffix(
        text, "\"mapping/usb.cfg\": 0,\n\"kvstore\": {\n\"n1\": {\n}\n}\n}\n"));
}

#define ADD(name, function)                                                    \
    g_test_add("/views/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("observed", test_observed);
    ADD("members", test_members);
    ADD("vmlist", test_vmlist);
    ADD("links", test_links);
    ADD("writing", test_writing);
    ADD("version", test_version);
    return g_test_run();
}
