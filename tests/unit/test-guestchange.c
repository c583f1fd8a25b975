#include "config.h"

#include "agent/core/datacenter.h"
#include "agent/core/guestchange.h"
#include "agent/core/limits.h"

#include <string.h>

static AgentGuestConf *
parse(const char *text)
{
    return agent_guestconf_parse(105, text, strlen(text), NULL);
}

/* "memory=1 net0=name=e -tty ~swap": set, delete, revert; ' ' separates. */
static AgentGuestChange *
change_of(const char *words, GError **error)
{
    g_autoptr(AgentGuestChange) change = agent_guestchange_new();
    g_auto(GStrv) list = g_strsplit(words, " ", -1);

    for (char **word = list; *word != NULL; word++) {
        char *equals = strchr(*word, '=');
        gboolean fine = TRUE;

        if (**word == '-') {
            fine = agent_guestchange_delete(change, *word + 1, error);
        } else if (**word == '~') {
            fine = agent_guestchange_revert(change, *word + 1, error);
        } else {
            *equals = '\0';
            agent_guestchange_set(change, *word, equals + 1);
        }
        if (!fine) {
            return NULL;
        }
    }
    return g_steal_pointer(&change);
}

/* Carries all steps out. Returns: (owned) the file, or the message. */
static char *
outcome(const char *text, const char *words, gboolean is_running)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentGuestChange) change = change_of(words, &error);
    g_autoptr(GPtrArray) steps = NULL;

    if (change == NULL ||
        !agent_guestchange_queue(change, conf, NULL, &error)) {
        return g_strdup(error->message);
    }
    steps = agent_guestchange_steps(change, conf, is_running);
    for (guint i = 0; i < steps->len; i++) {
        if (!agent_guestchange_commit(conf, steps->pdata[i], &error)) {
            return g_strdup(error->message);
        }
    }
    return agent_guestconf_serialize(conf);
}

static void
check(const char *text,
      const char *words,
      gboolean is_running,
      const char *expected)
{
    g_autofree char *result = outcome(text, words, is_running);

    g_assert_cmpstr(result, ==, expected);
}

static void
test_stopped(void)
{
    check("memory: 512\ntty: 1\n", "memory=256 -tty swap=0", FALSE,
          "memory: 256\nswap: 0\n");
    /* What was pending before stays, what is named again goes. */
    check("memory: 512\n[pve:pending]\ndelete: arch\narch: i386\ntty: 1\n",
          "arch=arm64", FALSE,
          "arch: arm64\nmemory: 512\n\n[pve:pending]\ntty: 1\n");
    check("memory: 512\n[pve:pending]\nmemory: 1\ntty: 2\n", "~memory", FALSE,
          "memory: 512\n\n[pve:pending]\ntty: 2\n");
    check("tty: 1\n[pve:pending]\ntty: 2\n", "-tty", FALSE, "");
    /* The empty text is a deletion; nothing to do is nothing. */
    check("tags: a\n", "tags=", FALSE, "");
    check("memory: 512\n", "-tty ~swap memory=512", FALSE, "memory: 512\n");
    check("lxc.environment.runtime: A=1\n", "env=B=2\nC=3", FALSE,
          "lxc.environment.runtime: B=2\nlxc.environment.runtime: C=3\n");
    check("lxc.environment.runtime: A=1\n", "-env", FALSE, "");
    check("#a\n", "description=b:\nc", FALSE, "#b%3A\n#c\n");
}

static void
test_running(void)
{
    check("memory: 512\n", "memory=256 tty=1 hostname=x", TRUE,
          "hostname: x\nmemory: 256\n\n[pve:pending]\ntty: 1\n");
    check("arch: amd64\nnet10: name=a\n", "-arch,net10", TRUE,
          "arch: amd64\n\n[pve:pending]\ndelete: arch\n");
    /* A mount point comes and goes at once, a changed one later. */
    check("memory: 512\n", "mp0=/x,mp=/a", TRUE,
          "memory: 512\nmp0: /x,mp=/a\n");
    check("mp0: /x,mp=/a\nmp1: /y,mp=/b\n", "mp0=/x,mp=/c -mp1", TRUE,
          "mp0: /x,mp=/a\n\n[pve:pending]\nmp0: /x,mp=/c\n");
    check("unused0: local:105/a.raw\n", "-unused0 unused1=local:105/b.raw",
          TRUE,
          "\n[pve:pending]\n"
          "unused1: local:105/b.raw\n");
    check("lxc.environment.runtime: A=1\n", "env=B=2", TRUE,
          "lxc.environment.runtime: A=1\n\n[pve:pending]\n"
          "lxc.environment.runtime: B=2\n");
}

/* A volume that nothing names any more is kept as unused. */
static void
test_volumes(void)
{
    check("mp0: local:105/a.raw,mp=/a\nunused0: local:105/z.raw\n", "-mp0",
          FALSE, "unused0: local:105/z.raw\nunused1: local:105/a.raw\n");
    check("mp0: local:105/a.raw,mp=/a\n[s1]\nmp0: local:105/a.raw,mp=/a\n",
          "-mp0", FALSE, "\n[s1]\nmp0: local:105/a.raw,mp=/a\n");
    check("mp0: local:105/a.raw,mp=/a\n", "mp0=local:105/b.raw,mp=/a", FALSE,
          "mp0: local:105/b.raw,mp=/a\nunused0: local:105/a.raw\n");
    check("mp0: local:105/a.raw,mp=/a\n", "mp0=local:105/a.raw,mp=/b", FALSE,
          "mp0: local:105/a.raw,mp=/b\n");
    check("mp0: local:105/a.raw,mp=/a\n", "-mp0 mp1=local:105/a.raw,mp=/b",
          FALSE, "mp1: local:105/a.raw,mp=/b\n");
    check("mp0: /x,mp=/a\n", "-mp0", FALSE, "");
}

static void
test_too_many_unused(void)
{
    g_autoptr(GString) text = g_string_new("mp0: local:105/a.raw,mp=/a\n");

    for (guint i = 0; i < 256; i++) {
        g_string_append_printf(text, "unused%u: local:105/u%u.raw\n", i, i);
    }
    check(text->str, "-mp0", FALSE,
          "Too many unused volumes - please delete them first.");
}

static void
test_messages(void)
{
    static const char guarded[] = "protection: 1\nmp0: local:105/a.raw,mp=/a\n"
                                  "unused0: local:105/b.raw\n";

    check("", "-nosuch", FALSE, "unknown option 'nosuch'");
    check("", "~net32", FALSE, "unknown option 'net32'");
    check("", "tty=1 ~tty", FALSE,
          "you can't use '-tty' and '-revert tty' at the same time");
    check("", "tty=1 -tty", FALSE,
          "you can't use '-tty' and -delete tty' at the same time");
    check("", "-tty ~tty", FALSE,
          "you can't use '-delete tty' and '-revert tty' at the same time");
    check("memory: 16\n", "-memory", FALSE,
          "unable to delete required option 'memory'");
    check("rootfs: /x\n", "-rootfs", FALSE,
          "unable to delete required option 'rootfs'");
    check("ostype: alpine\n", "-ostype", FALSE,
          "unable to delete required option 'ostype'");
    check("unprivileged: 1\n", "-unprivileged", FALSE,
          "unable to delete read-only option: 'unprivileged'");
    check("unprivileged: 1\n", "unprivileged=0", FALSE,
          "unable to modify read-only option: 'unprivileged'");
    check(guarded, "-mp0", FALSE,
          "can't remove CT 105 drive 'mp0' - protection mode enabled");
    check(guarded, "-unused0", FALSE,
          "can't remove CT 105 drive 'unused0' - protection mode enabled");
    check(guarded, "mp1=/x,mp=/b", FALSE,
          "can't update CT 105 drive 'mp1' - protection mode enabled");
    check(guarded, "rootfs=/x", FALSE,
          "can't update CT 105 drive 'rootfs' - protection mode enabled");
    check("", "template=1", FALSE,
          "template: the flag alone makes no template, use 'pct template "
          "105'");
}

static void
test_contradictions(void)
{
    check("", "rootfs=local:4", FALSE,
          "rootfs: 'local:4' asks for a new volume; only its flags may be "
          "changed, or it be set to an existing volume");
    check("", "mp0=/x,mp=data", FALSE,
          "mp0: mount target 'data' must be an absolute path other than '/'");
    check("", "mp0=/x,mp=//", FALSE,
          "mp0: mount target '//' must be an absolute path other than '/'");
    check("mp0: /x,mp=/a/b\n", "mp1=/y,mp=/a//b/", FALSE,
          "mp1: mount target '/a//b/' is already used by mp0");
    check("mp0: /x,mp=/a\n", "mp1=/y,mp=/a -mp0", FALSE, "mp1: /y,mp=/a\n");
    check("net0: name=eth0\n", "net1=name=eth0", FALSE,
          "net1: interface name 'eth0' is already used by net0");
    check("", "net0=name=eth0,ip6=auto,host-managed=1", FALSE,
          "net0: SLAAC is not supported for host-managed network "
          "configuration.");
    check("", "mp0=/x,mp=/a,idmap=u:0:0:10;u:5:20:2", FALSE,
          "mp0: invalid map entry 'u 5 20 2': container uid 5 is also mapped "
          "by entry 'u 0 0 10'");
    check("", "mp0=/x,mp=/a,idmap=g:0:0:10;g:10:9:2", FALSE,
          "mp0: invalid map entry 'g 10 9 2': host gid 9 is also mapped by "
          "entry 'g 0 0 10'");
    check("", "mp0=/x,mp=/a,idmap=u:0:0:10;g:0:0:10", FALSE,
          "mp0: /x,mp=/a,idmap=u:0:0:10;g:0:0:10\n");
}

static void
check_whole(const char *text, const char *expected)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(agent_guestchange_check_whole(conf, &error), ==,
                    expected == NULL);
    g_assert_cmpstr(error != NULL ? error->message : NULL, ==, expected);
}

static void
test_whole(void)
{
    check_whole("rootfs: local:4\nmp0: /x,mp=/a\nmp1: /x,mp=/b\n"
                "net0: name=a\nnet1: name=b\n",
                NULL);
    check_whole("mp0: /x,mp=/a\nmp1: /x,mp=/a/\n",
                "mp0: mount target '/a' is already used by mp1");
    check_whole("net0: name=a\nnet3: name=a\n",
                "net0: interface name 'a' is already used by net3");
}

static void
test_warnings(void)
{
    g_autoptr(AgentGuestConf) conf = parse("memory: 16\n");
    g_autoptr(AgentGuestChange) change = change_of("-tty", NULL);
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);

    g_assert_true(agent_guestchange_queue(change, conf, warnings, NULL));
    g_assert_cmpuint(warnings->len, ==, 1);
    g_assert_cmpstr(warnings->pdata[0], ==,
                    "cannot delete 'tty' - not set in current configuration!");
}

/* What is filed only comes first, then deletions, then values; by name. */
static void
test_order(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("swap: 1\ntags: x\nnet1: name=e\n[pve:pending]\n"
              "delete: tags,net1,swap\nmemory: 20\nhostname: a\narch: i386\n");
    g_autoptr(GPtrArray) steps = agent_guestchange_steps(NULL, conf, TRUE);
    g_autoptr(GString) order = g_string_new(NULL);

    for (guint i = 0; i < steps->len; i++) {
        const AgentGuestStep *step = steps->pdata[i];

        g_string_append_printf(order, "%s%s ", step->is_deletion ? "-" : "",
                               step->key);
    }
    g_assert_cmpstr(order->str, ==, "-tags hostname -net1 -swap memory ");
}

static void
check_limits(const char *text,
             AgentCgroupVersion version,
             gboolean all,
             const char *expected)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autoptr(GPtrArray) memory = agent_limits_memory(conf, version, TRUE);
    g_autoptr(GPtrArray) cpu = agent_limits_cpu(conf, version, all);
    g_autoptr(GString) out = g_string_new(NULL);

    g_ptr_array_extend(memory, cpu, NULL, NULL);
    g_ptr_array_set_free_func(cpu, NULL);
    for (guint i = 0; i < memory->len; i++) {
        const AgentLimit *limit = memory->pdata[i];

        g_string_append_printf(out, "%s=%s ", limit->file, limit->value);
    }
    g_assert_cmpstr(out->str, ==, expected);
}

static void
test_limits(void)
{
    check_limits("memory: 16384\nswap: 1\n", AGENT_CGROUP_V2, FALSE,
                 "memory.max=17179869184 memory.high=17045651456 "
                 "memory.swap.max=1048576 ");
    check_limits("cpulimit: 0.001\ncpuunits: 0\n", AGENT_CGROUP_V2, FALSE,
                 "memory.max=536870912 memory.high=532676608 "
                 "memory.swap.max=0 cpu.max=1000 100000 cpu.weight=1 ");
    check_limits("memory: 64\n", AGENT_CGROUP_V2, TRUE,
                 "memory.max=67108864 memory.high=66584576 "
                 "memory.swap.max=0 cpu.max=max 100000 cpu.weight=100 ");
    check_limits("memory: 64\nswap: 64\ncpulimit: 1.5\ncpuunits: 1\n",
                 AGENT_CGROUP_V1, FALSE,
                 "memory.limit_in_bytes=67108864 "
                 "memory.memsw.limit_in_bytes=134217728 "
                 "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 "
                 "cpu.shares=2 ");
    check_limits("memory: 64\n", AGENT_CGROUP_V1, TRUE,
                 "memory.limit_in_bytes=67108864 "
                 "memory.memsw.limit_in_bytes=67108864 "
                 "cpu.cfs_period_us=100000 cpu.cfs_quota_us=-1 "
                 "cpu.shares=1024 ");
}

static void
check_datacenter(const char *text, const char *mac, gboolean keep)
{
    g_auto(AgentDatacenter) dc = {0};
    g_autofree char *made = NULL;

    agent_datacenter_parse(&dc, text, strlen(text));
    made = agent_datacenter_mac(&dc, 0x060504030201);
    g_assert_cmpstr(made, ==, mac);
    g_assert_cmpint(dc.tags_keep_case, ==, keep);
    g_assert_cmpint(dc.tags_keep_order, ==, keep);
}

static void
test_datacenter(void)
{
    check_datacenter("", "BC:24:11:01:02:03", FALSE);
    check_datacenter("mac_prefix: 02:ab\n", "02:AB:01:02:03:04", FALSE);
    check_datacenter("mac_prefix: 03:ab:cd\n", "BC:24:11:01:02:03", FALSE);
    check_datacenter("mac_prefix: \n", "02:02:03:04:05:06", FALSE);
    check_datacenter("tag-style: case-sensitive=1,ordering=config,shape=dense",
                     "BC:24:11:01:02:03", TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guestchange/stopped", test_stopped);
    g_test_add_func("/guestchange/running", test_running);
    g_test_add_func("/guestchange/volumes", test_volumes);
    g_test_add_func("/guestchange/too-many-unused", test_too_many_unused);
    g_test_add_func("/guestchange/messages", test_messages);
    g_test_add_func("/guestchange/contradictions", test_contradictions);
    g_test_add_func("/guestchange/whole", test_whole);
    g_test_add_func("/guestchange/warnings", test_warnings);
    g_test_add_func("/guestchange/order", test_order);
    g_test_add_func("/guestchange/limits", test_limits);
    g_test_add_func("/guestchange/datacenter", test_datacenter);
    return g_test_run();
}
