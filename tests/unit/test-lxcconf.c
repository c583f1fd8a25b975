#include "config.h"

#include "agent/core/lxcconf.h"

#include <errno.h>
#include <string.h>

static const char *const includes[] = {"common.conf", "userns.conf",
                                       "debian.common.conf",
                                       "debian.userns.conf", NULL};

/* What 5.0.2 does not know, of what we use. */
static gboolean
knows_key(const char *key)
{
    static const char *const unknown[] = {"lxc.environment.runtime", "lxc.kmsg",
                                          NULL};

    return !g_strv_contains(unknown, key);
}

static GHashTable *
nodes_new(void)
{
    static const struct {
        const char *path;
        AgentNode node;
    } known[] = {
        {"/dev/null", {0, 'c', 1, 3}},
        {"/dev/sd a", {0, 'b', 8, 0}},
        {"/dev/loop-control", {0, 'c', 10, 237}},
        {"/dev/shm", {0, 0, 0, 0}},
        {"/dev/secret", {EACCES, 0, 0, 0}},
        {"/dev/gone", {ENOENT, 0, 0, 0}},
    };
    GHashTable *nodes = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
        g_hash_table_insert(nodes, (gpointer)known[i].path,
                            (gpointer)&known[i].node);
    }
    return nodes;
}

static AgentLxcFacts
facts_of(AgentCgroupVersion version, GHashTable *bridges, GHashTable *nodes)
{
    AgentLxcFacts facts = {
        .memory = version,
        .cpu = version,
        .cpuset = version,
        .has_memsw = TRUE,
        .includes = includes,
        .bridge_mtus = bridges,
        .nodes = nodes,
        .cpus = "1,5",
        .script_up = "/usr/libexec/pmxcfs-lxc/lxcnetaddbr",
        .knows_key = knows_key,
    };

    return facts;
}

static GHashTable *
bridges_new(void)
{
    GHashTable *bridges = g_hash_table_new(g_str_hash, g_str_equal);

    g_hash_table_insert(bridges, (gpointer) "vmbr0", GUINT_TO_POINTER(1500));
    return bridges;
}

static AgentGuestConf *
parse(const char *text)
{
    return agent_guestconf_parse(100, text, strlen(text), NULL);
}

static void
check_golden(const char *text,
             AgentCgroupVersion version,
             const char *golden,
             const char *expected_warnings)
{
    g_autoptr(GHashTable) bridges = bridges_new();
    g_autoptr(GHashTable) nodes = nodes_new();
    AgentLxcFacts facts = facts_of(version, bridges, nodes);
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autofree char *made =
        agent_lxcconf_generate(conf, &facts, warnings, &error);
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "golden", golden, NULL);
    g_autofree char *expected = NULL;
    g_autofree char *all = NULL;

    g_assert_no_error(error);
    g_file_get_contents(path, &expected, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(made, ==, expected);
    g_ptr_array_add(warnings, NULL);
    all = g_strjoinv("\n", (char **)warnings->pdata);
    g_assert_cmpstr(all, ==, expected_warnings);
}

/* The example of spec 2.6. */
static void
test_unprivileged_v2(void)
{
    check_golden("arch: amd64\ncores: 2\nfeatures: nesting=1\nhostname: web1\n"
                 "memory: 512\n"
                 "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:2F:8A:01\n"
                 "ostype: debian\nrootfs: local:100/a.raw\nswap: 512\n"
                 "unprivileged: 1\n",
                 AGENT_CGROUP_V2, "lxc-unprivileged-v2.conf", "");
}

static void
test_privileged_v1(void)
{
    check_golden(
        "arch: amd64\nconsole: 0\ncpulimit: 0.5\ncpuunits: 1\n"
        "entrypoint: /bin/app --x\nfeatures: fuse=1,mount=nfs;cifs,mknod=1\n"
        "memory: 256\nostype: alpine\nrootfs: local:100/a.raw\nswap: 128\n"
        "net2: name=eth2,bridge=vmbr0,mtu=1400,tag=5,firewall=1,rate=3\n"
        "net10: name=eth10,bridge=vmbr0,ip=10.0.0.2/8,gw=10.0.0.1,"
        "host-managed=1\n"
        "lxc.environment.runtime: A=1\nlxc.kmsg: 1\nlxc.tty: 3\n"
        "lxc.cgroup2.memory.max: 5\ndev0: /dev/null\n"
        "dev2: /dev/sd a,deny-write=1\ndev10: /dev/loop-control\n",
        AGENT_CGROUP_V1, "lxc-privileged-v1.conf",
        "dev10: the control of loop devices is not passed through\n"
        "net2: 'tag' and 'trunks' are not supported and ignored\n"
        "net2: 'firewall' is not supported and ignored\n"
        "net2: 'rate' is not supported and ignored\n"
        "lxc.kmsg: this LXC library does not know the key, ignored\n"
        "lxc.tty is deprecated and was renamed to lxc.tty.max");
}

static void
check_error(const char *text, const char *expected)
{
    g_autoptr(GHashTable) bridges = bridges_new();
    g_autoptr(GHashTable) nodes = nodes_new();
    AgentLxcFacts facts = facts_of(AGENT_CGROUP_V2, bridges, nodes);
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GError) error = NULL;

    g_assert_null(agent_lxcconf_generate(conf, &facts, NULL, &error));
    g_assert_cmpstr(error->message, ==, expected);
}

#define BASE "arch: amd64\nostype: debian\nrootfs: local:100/a.raw\n"

static void
test_errors(void)
{
    check_error("ostype: debian\n", "missing 'arch' - internal error");
    check_error("arch: amd64\n", "missing 'ostype' - internal error");
    check_error("arch: amd64\nostype: debian\n",
                "missing 'rootfs' configuration");
    check_error(BASE "dev0: mode=0600\n",
                "Path is not defined for passthrough device dev0");
    check_error(BASE "dev0: /dev/gone\n", "Device /dev/gone does not exist");
    check_error(BASE "dev0: /dev/secret\n",
                "Error accessing device /dev/secret");
    check_error(BASE "dev0: /dev/shm\n", "/dev/shm is not a device");
    check_error(BASE "net0: name=eth0\n", "net0: missing bridge configuration");
    check_error(BASE "net0: name=eth0,bridge=vmbr1\n",
                "bridge 'vmbr1' does not exist");
    check_error(BASE "net0: name=eth0,bridge=vmbr0,mtu=9000\n",
                "net0: MTU size '9000' is bigger than bridge MTU '1500'");
}

static void
test_seccomp(void)
{
    g_autoptr(AgentGuestConf) plain = parse("unprivileged: 1\n");
    g_autoptr(AgentGuestConf) keyctl =
        parse("unprivileged: 1\nfeatures: keyctl=1\n");
    g_autoptr(AgentGuestConf) privileged = parse("memory: 16\n");
    g_autofree char *a =
        agent_lxcconf_seccomp(plain, "2\ndenylist\n[all]", TRUE);
    g_autofree char *b = agent_lxcconf_seccomp(keyctl, "2\n", TRUE);

    g_assert_cmpstr(a, ==,
                    "2\ndenylist\n[all]\n"
                    "ioctl errno 1 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\n"
                    "keyctl errno 38\nsocket errno 97 [0,38,SCMP_CMP_EQ]\n");
    g_assert_null(strstr(b, "keyctl"));
    g_assert_null(agent_lxcconf_seccomp(privileged, "2\n", TRUE));
}

/* The proxy's lines, only where somebody answers. */
static void
test_mknod(void)
{
    static const char text[] =
        BASE "unprivileged: 1\nfeatures: mknod=1,keyctl=1\n";
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GHashTable) bridges = bridges_new();
    g_autoptr(GHashTable) nodes = nodes_new();
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    AgentLxcFacts facts = facts_of(AGENT_CGROUP_V2, bridges, nodes);
    g_autofree char *without =
        agent_lxcconf_generate(conf, &facts, warnings, NULL);
    g_autofree char *with = NULL;
    g_autofree char *rules = agent_lxcconf_seccomp(conf, "2\n", TRUE);
    g_autofree char *plain = agent_lxcconf_seccomp(conf, "2\n", FALSE);

    g_assert_null(strstr(without, "notify"));
    g_assert_cmpuint(warnings->len, ==, 1);
    facts.mknod_proxy = "/run/pve-lxc-syscalld/socket";
    with = agent_lxcconf_generate(conf, &facts, warnings, NULL);
    g_assert_nonnull(strstr(
        with, "lxc.seccomp.notify.proxy = unix:/run/pve-lxc-syscalld/socket\n"
              "lxc.seccomp.notify.cookie = 100\n"
              "lxc.seccomp.profile = /var/lib/lxc/100/rules.seccomp\n"));
    g_assert_cmpuint(warnings->len, ==, 1);
    g_assert_null(strstr(plain, "mknod"));
    g_assert_cmpstr(rules, ==,
                    "2\nioctl errno 1 [1,0x9400,SCMP_CMP_MASKED_EQ,0xff00]\n"
                    "mknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                    "mknod notify [1,24576,SCMP_CMP_MASKED_EQ,61440]\n"
                    "mknodat notify [2,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                    "mknodat notify [2,24576,SCMP_CMP_MASKED_EQ,61440]\n"
                    "socket errno 97 [0,38,SCMP_CMP_EQ]\n");
}

static void
check_warning(const char *text, const char *expected)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GHashTable) bridges = bridges_new();
    g_autoptr(GHashTable) nodes = nodes_new();
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    AgentLxcFacts facts = facts_of(AGENT_CGROUP_V2, bridges, nodes);
    g_autofree char *made =
        agent_lxcconf_generate(conf, &facts, warnings, NULL);

    g_assert_nonnull(made);
    g_assert_cmpuint(warnings->len, ==, 1);
    g_assert_cmpstr(warnings->pdata[0], ==, expected);
}

static void
test_warnings(void)
{
    check_warning(BASE "unprivileged: 1\nfeatures: mknod=1,keyctl=1\n"
                       "lxc.seccomp.profile: /x\n",
                  "explicitly configured lxc.seccomp.profile overrides the "
                  "following settings: keyctl, mknod");
    check_warning(BASE "features: fuse=1,nesting=1,mount=nfs\n"
                       "lxc.apparmor.profile: unconfined\n",
                  "explicitly configured lxc.apparmor.profile overrides the "
                  "following settings: features:fuse, features:mount, "
                  "features:nesting");
    check_warning(BASE "lxc.idmap: u 0 100000 65536\n"
                       "lxc.idmap: u 1000 1000 1\n",
                  "lxc.idmap: invalid map entry 'u 1000 1000 1': container "
                  "uid 1000 is also mapped by entry 'u 0 100000 65536'");
    check_warning(BASE "lxc.idmap: what\n",
                  "lxc.idmap: failed to parse idmap: what");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lxcconf/unprivileged-v2", test_unprivileged_v2);
    g_test_add_func("/lxcconf/privileged-v1", test_privileged_v1);
    g_test_add_func("/lxcconf/errors", test_errors);
    g_test_add_func("/lxcconf/seccomp", test_seccomp);
    g_test_add_func("/lxcconf/mknod", test_mknod);
    g_test_add_func("/lxcconf/warnings", test_warnings);
    return g_test_run();
}
