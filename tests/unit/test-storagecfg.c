#include "config.h"

#include "agent/core/storagecfg.h"

#include <string.h>

static AgentStorageCfg *
parse(const char *text)
{
    return agent_storagecfg_parse(text, strlen(text), NULL);
}

static void
check_use(const AgentStorageCfg *cfg,
          const char *id,
          const char *content,
          const char *expected)
{
    g_autoptr(GError) error = NULL;
    const AgentStorage *storage =
        agent_storagecfg_use(cfg, id, "n1", content, &error);

    g_assert_cmpstr(storage != NULL ? storage->path : error->message, ==,
                    expected);
}

static void
test_implicit_local(void)
{
    g_autoptr(AgentStorageCfg) none = parse("");
    g_autoptr(AgentStorageCfg) other =
        parse("dir: local\n\tpath /srv\n\tcontent iso\n");
    g_autoptr(AgentStorageCfg) own =
        parse("dir: local\n\tpath /var/lib/vz/\n\tcontent iso\n\tnodes n9\n");

    check_use(none, "local", "rootdir", "/var/lib/vz");
    check_use(other, "local", "rootdir", "/var/lib/vz");
    check_use(own, "local", "iso", "/var/lib/vz");
    check_use(own, "local", "rootdir",
              "storage 'local' does not support container directories");
}

static void
test_use(void)
{
    g_autoptr(AgentStorageCfg) cfg =
        parse("# a comment\n"
              "dir: data\n\tpath /srv//data\n\tcontent rootdir,images\n"
              "\tpath /twice\n\n"
              "\tpath /stray\n"
              "dir: off\n\tpath /off\n\tdisable\n\n"
              "dir: far\n\tpath /far\n\tnodes n2,n3\n\n"
              "zfspool: tank\n\tpool tank\n\tcontent rootdir\n\n"
              "dir: x\n\tpath /x\n");

    check_use(cfg, "data", "rootdir", "/srv/data");
    check_use(cfg, "off", "rootdir", "storage 'off' is disabled");
    check_use(cfg, "far", "rootdir",
              "storage 'far' is not available on node 'n1'");
    check_use(cfg, "tank", "rootdir",
              "storage 'tank' is of type 'zfspool', only 'dir' with a path "
              "can be used");
    check_use(cfg, "x", "rootdir", "storage 'x' does not exist");
}

static void
check_volume(const char *id, const char *relative, guint32 owner)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentVolume) volume = agent_volume_parse(id, &error);

    g_assert_cmpstr(volume != NULL ? volume->relative : NULL, ==, relative);
    g_assert_cmpuint(volume != NULL ? volume->owner : 0, ==, owner);
}

static void
test_volumes(void)
{
    check_volume("local:100/subvol-100-disk-0.subvol",
                 "images/100/subvol-100-disk-0.subvol", 100);
    check_volume("local:100/vm-100-disk-1.raw", "images/100/vm-100-disk-1.raw",
                 100);
    check_volume("local:vztmpl/a.tar.zst", "template/cache/a.tar.zst", 0);
    check_volume("local:vztmpl/../x", NULL, 0);
    check_volume("local:100/../../etc.raw", NULL, 0);
    check_volume("local:1x/a.raw", NULL, 0);
    check_volume("local:100/a.qcow2", NULL, 0);
    check_volume("l:100/a.raw", NULL, 0);
    check_volume("/a/b", NULL, 0);
}

static void
test_requests(void)
{
    g_autofree char *storage = NULL;
    g_autofree char *none = NULL;
    guint64 mib = 99;

    g_assert_true(agent_volume_request_parse("local:0.25", &storage, &mib));
    g_assert_cmpstr(storage, ==, "local");
    g_assert_cmpuint(mib, ==, 256);
    g_assert_false(agent_volume_request_parse("local:1/a.raw", &none, &mib));
    g_assert_false(agent_volume_request_parse("local:99999999", &none, &mib));
    g_assert_false(agent_volume_request_parse(":1", &none, &mib));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/storagecfg/implicit-local", test_implicit_local);
    g_test_add_func("/storagecfg/use", test_use);
    g_test_add_func("/storagecfg/volumes", test_volumes);
    g_test_add_func("/storagecfg/requests", test_requests);
    return g_test_run();
}
