#include "config.h"

#include "agent/core/guestconf.h"
#include "agent/core/guestopts.h"

#include <string.h>

static AgentGuestConf *
parse(const char *text)
{
    return agent_guestconf_parse(105, text, strlen(text), NULL);
}

static void
check_rewritten(const char *text, const char *expected)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    g_autofree char *written = agent_guestconf_serialize(conf);
    g_autoptr(AgentGuestConf) again = parse(written);
    g_autofree char *twice = agent_guestconf_serialize(again);

    g_assert_cmpstr(written, ==, expected);
    g_assert_cmpstr(twice, ==, expected);
}

/* The table at the end of spec section 3. */
static void
test_round_trip(void)
{
    check_rewritten("onboot: yes\n", "onboot: 1\n");
    check_rewritten("memory: 0512\n", "memory: 512\n");
    check_rewritten("lxc.cap.keep =b  \n", "lxc.cap.keep: b\n");
    check_rewritten("#b: c%41 \xc3\xa9\n", "#b%3A cA %C3%A9\n");
    check_rewritten("# a\ndescription: old%0Ax\n", "# a\n#old\n#x\n");
    check_rewritten("swap:  99   \n", "swap: 99\n");
    check_rewritten("[PVE:Pending]\nmemory: 16\n",
                    "\n[pve:pending]\nmemory: 16\n");
    check_rewritten("memory: 1\r\nmemory: 2\r\n", "memory: 2\n");
    check_rewritten("#\n#%zz%0\n", "#\n#%25zz%250\n");
    check_rewritten("tags: \n", "");
    check_rewritten("lxc.environment.runtime: A=1\nlxc.environment.runtime=B=2",
                    "lxc.environment.runtime: A=1\n"
                    "lxc.environment.runtime: B=2\n");
    check_rewritten("env: A=1\nenv: B=2\n", "lxc.environment.runtime: A=1\n"
                                            "lxc.environment.runtime: B=2\n");
    check_rewritten("[pve:pending]\ndelete: b;a, b  !c\n",
                    "\n[pve:pending]\ndelete: !c,a,b\n");
    check_rewritten("[s1]\n  snapstate: prepare \n[pending]\ndelete: x\n",
                    "\n[pending]\ndelete: x\n\n[s1]\nsnapstate: prepare\n");
    check_rewritten("snapstate: delete\nmemory: 16\n", "memory: 16\n");
    check_rewritten("rootfs: local:1/a.raw\nunused0: local:1/a.raw\n"
                    "unused1: local:1/b.raw\n",
                    "rootfs: local:1/a.raw\nunused1: local:1/b.raw\n");
}

static void
test_whole_file(void)
{
    static const char text[] =
        "#hello%3A 100%25\n"
        "arch: amd64\nhostname: t105\nmemory: 256\nmp10: /x,mp=/x\n"
        "mp2: /y,mp=/y\n"
        "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:EE:B5:FE,ip=dhcp,"
        "type=veth\n"
        "ostype: debian\nparent: s1\n"
        "rootfs: local:105/vm-105-disk-0.raw,size=51M\nswap: 512\ntags: a;b\n"
        "lxc.cgroup2.devices.allow: c 10:200 rwm\n"
        "\n[pve:pending]\ndelete: features,mp1\ntimezone: host\n"
        "\n[s1]\n#my snap%3A 1%25\narch: amd64\nsnaptime: 1795285942\n";

    check_rewritten(text, text);
}

/* What we do not understand is nobody's to lose. */
static void
test_unknown_is_kept(void)
{
    check_rewritten("memory: 16\nsome garbage\n  swap: 1\nfuture: x\n",
                    "future: x\nmemory: 16\nsome garbage\n  swap: 1\n");
    check_rewritten("delete: x\nlxc.rootfs.path: /\nlxc.bogus: 1\ntty: 1\n",
                    "tty: 1\ndelete: x\nlxc.rootfs.path: /\n"
                    "lxc.bogus: 1\n");
    check_rewritten("memory: 16\n[a]\nmemory: 99\n\n[s1]\nmemory: 32\n",
                    "memory: 16\n\n[s1]\nmemory: 32\n\n[a]\nmemory: 99\n");
}

static void
check_broken(const char *text, const char *expected)
{
    g_autoptr(AgentGuestConf) conf = parse(text);
    const char *reason = NULL;

    g_assert_cmpint(agent_guestconf_is_broken(conf, &reason), ==,
                    expected != NULL);
    g_assert_cmpstr(reason, ==, expected);
}

static void
test_broken(void)
{
    check_broken("memory: 512\nfuture: x\nlxc.foo: bar\n#c\n", NULL);
    check_broken("memory: 512\nstate started\n",
                 "line 2: neither 'option: value' nor a comment");
    check_broken("\nmemory: lots\n",
                 "line 2: memory: type check ('integer') failed - got 'lots'");
    check_broken("state: on\n",
                 "line 1: state: value 'on' does not have a value in the "
                 "enumeration 'started, stopped'");
    check_broken("net0: name=eth0,brid",
                 "line 1: net0: value without key, but schema does not define "
                 "a default key");
    check_broken("[snap\nmemory: 1\n", "line 1: not a section header");
    check_broken("memory: 1\n[s1]\ngarbage\nmemory: x\n", NULL);
}

static void
test_nul(void)
{
    static const char text[] = "memory: 5\0\nswap: 1\n";
    g_autoptr(AgentGuestConf) conf =
        agent_guestconf_parse(105, text, sizeof(text) - 1, NULL);
    const char *reason = NULL;

    g_assert_true(agent_guestconf_is_broken(conf, &reason));
    g_assert_cmpstr(reason, ==, "line 1: a NUL byte");
    g_assert_cmpstr(agent_guestconf_get(conf, "swap"), ==, "1");
}

/* What a line is reported as; NULL: not at all. Every such line is kept. */
static const struct {
    const char *line;
    const char *said; /* without "vm 105 - " */
} said[] = {
    {"future: x",
     "unable to parse value of 'future' - unknown setting 'future'"},
    {"garbage", "unable to parse config: garbage"},
    {" memory: 1", "unable to parse config:  memory: 1"},
    {"memory:", "unable to parse config: memory:"},
    {"Memory: 1", "unable to parse config: Memory: 1"},
    {"my-key: 1", "unable to parse config: my-key: 1"},
    {"delete: x", "property 'delete' is only allowed in [pve:pending]"},
    {"memory: -1", "unable to parse value of 'memory' - type check "
                   "('integer') failed - got '-1'"},
    {"memory: 1", NULL},
    {"cpulimit: 1e3", "unable to parse value of 'cpulimit' - type check "
                      "('number') failed - got '1e3'"},
    {"onboot: maybe", "unable to parse value of 'onboot' - type check "
                      "('boolean') failed - got 'maybe'"},
    {"arch: vax", NULL},
    {"hostname: a_b", "unable to parse value of 'hostname' - value does not "
                      "look like a valid DNS name"},
    {"tags: !", "unable to parse value of 'tags' - invalid characters in tag"},
    {"net0: name=e,mtu=1", "unable to parse value of 'net0' - format error\n"
                           "mtu: value must have a minimum value of 64"},
    {"lxc.rootfs.path: /",
     "lxc.rootfs.path: lxc.rootfs.path is auto generated from rootfs"},
    {"lxc.rootfs.options = ro",
     "lxc.rootfs.options: lxc.rootfs.options is not supported, please use "
     "mount point options in the \"rootfs\" key"},
    {"lxc.limit.nofile: 5",
     "lxc.limit.nofile: lxc.limit.* was renamed to lxc.prlimit.*"},
    {"lxc.cgroup.cpu.shares = 5",
     "lxc.cgroup.cpu.shares is deprecated, this will be a hard error in the "
     "future!"},
    {"lxc.id_map: u 0 1 2",
     "lxc.id_map is deprecated and was renamed to lxc.idmap"},
    {"lxc.network.ipv4: 1.1.1.1/8",
     "lxc.network.ipv4 is deprecated and was renamed to "
     "lxc.net.INDEX.ipv4.address"},
    {"lxc.devttydir: x",
     "lxc.devttydir is deprecated and was renamed to lxc.tty.dir"},
    {"lxc.tty.dir: x", NULL},
    {"lxc.cgroup2.memory.max: 5", NULL},
    {"lxc.bogus: 1", "unable to parse config: lxc.bogus: 1"},
    {"lxc.cap.drop : x", "unable to parse config: lxc.cap.drop : x"},
};

static void
test_diagnostics(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(said); i++) {
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(AgentGuestConf) conf = agent_guestconf_parse(
            105, said[i].line, strlen(said[i].line), lines);
        g_autofree char *expected =
            g_strdup_printf("vm 105 - %s", said[i].said);
        g_autofree char *written = agent_guestconf_serialize(conf);

        g_assert_cmpuint(lines->len, ==, said[i].said != NULL ? 1 : 0);
        if (said[i].said != NULL) {
            g_assert_cmpstr(lines->pdata[0], ==, expected);
        }
        if (strchr(said[i].line, '=') == NULL) {
            g_assert_nonnull(strstr(written, said[i].line));
        }
    }
}

static void
check_refused(const char *key, const char *value, const char *expected)
{
    g_autoptr(AgentGuestConf) conf = agent_guestconf_new(105);
    g_autoptr(GError) error = NULL;

    agent_guestconf_set(conf, key, value);
    g_assert_cmpint(agent_guestconf_is_writable(conf, &error), ==,
                    expected == NULL);
    g_assert_cmpstr(error != NULL ? error->message : NULL, ==, expected);
}

/* A value that ends its line could write others. */
static void
test_writable(void)
{
    g_autoptr(AgentGuestConf) conf = agent_guestconf_new(105);

    check_refused("hookscript", "a\nlxc.hook.start: /x",
                  "detected invalid newline inside property 'hookscript'");
    check_refused("entrypoint", "a\x01",
                  "detected invalid control character inside property "
                  "'entrypoint'");
    check_refused("entrypoint", "a\tb", NULL);
    check_refused("description", "a\nb", NULL);
    agent_guestconf_add_env(conf, "A=1\nlxc.hook.start: /x");
    g_assert_false(agent_guestconf_is_writable(conf, NULL));
}

static void
test_queries(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("state: started\nunprivileged: 1\nlock: backup\n");
    g_autofree char *name = agent_guestconf_hostname(conf);
    g_autofree char *map = agent_guestconf_idmap(conf, 'u');
    guint32 uid, gid;

    g_assert_cmpint(agent_guestconf_wants_running(conf), ==, 1);
    agent_guestconf_set(conf, "state", "stopped");
    g_assert_cmpint(agent_guestconf_wants_running(conf), ==, 0);
    agent_guestconf_unset(conf, "state");
    g_assert_cmpint(agent_guestconf_wants_running(conf), ==, -1);
    g_assert_cmpstr(agent_guestconf_lock(conf), ==, "backup");
    g_assert_cmpstr(name, ==, "CT105");
    g_assert_cmpstr(map, ==, "0 100000 65536\n");
    agent_guestconf_root_ids(conf, &uid, &gid);
    g_assert_cmpuint(uid, ==, 100000);
    g_assert_cmpuint(gid, ==, 100000);
}

static void
test_own_idmap(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("lxc.idmap: u 1 5 1\nlxc.idmap: u 0 200000 1\n"
              "lxc.idmap: g 0 300000 65536\n");
    g_autofree char *map = agent_guestconf_idmap(conf, 'u');
    guint32 uid, gid;

    g_assert_true(agent_guestconf_is_unprivileged(conf));
    g_assert_cmpstr(map, ==, "1 5 1\n0 200000 1\n");
    agent_guestconf_root_ids(conf, &uid, &gid);
    g_assert_cmpuint(uid, ==, 200000);
    g_assert_cmpuint(gid, ==, 300000);
}

static void
test_mounts(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentGuestConf) conf =
        parse("mp10: /b,mp=/b,ro=1\nrootfs: local:0\n"
              "mp2: local:105/x.raw,mp=/c,size=1G\nmp3: /dev/sdb,mp=/d\n");
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, &error);
    const AgentMount *m;

    g_assert_no_error(error);
    g_assert_cmpuint(mounts->len, ==, 4);
    m = mounts->pdata[0];
    g_assert_cmpstr(m->key, ==, "rootfs");
    g_assert_cmpint(m->kind, ==, AGENT_MOUNT_REQUEST);
    m = mounts->pdata[1];
    g_assert_cmpint(m->kind, ==, AGENT_MOUNT_VOLUME);
    g_assert_cmpint(m->size_bytes, ==, 1 << 30);
    m = mounts->pdata[2];
    g_assert_cmpint(m->kind, ==, AGENT_MOUNT_DEVICE);
    m = mounts->pdata[3];
    g_assert_cmpint(m->kind, ==, AGENT_MOUNT_BIND);
    g_assert_true(m->ro);
}

static void
test_volumes(void)
{
    g_autoptr(AgentGuestConf) conf = parse(
        "rootfs: local:105/b.raw\nmp0: local:105/a.raw,mp=/a\nmp1: /x,mp=/x\n"
        "mp2: local:8,mp=/y\nunused0: local:105/c.raw\n"
        "[s1]\nrootfs: local:105/b.raw\nmp0: local:105/old.raw,mp=/a\n");
    g_auto(GStrv) volumes = agent_guestconf_volumes(conf);
    g_autofree char *all = g_strjoinv(" ", volumes);

    g_assert_cmpstr(all, ==,
                    "local:105/a.raw local:105/b.raw local:105/c.raw "
                    "local:105/old.raw");
}

static void
test_pending(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("memory: 512\ntty: 1\nrootfs: local:105/a.raw\n[pve:pending]\n"
              "memory: 256\nmp0: local:4,mp=/a\ndelete: tty,unused1\n");
    g_autoptr(AgentGuestConf) view = agent_guestconf_with_pending(conf);
    g_autofree char *merged = agent_guestconf_serialize(view);

    g_assert_cmpstr(merged, ==,
                    "memory: 256\nmp0: local:4,mp=/a\n"
                    "rootfs: local:105/a.raw\n");
}

static void
test_snapshot(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("memory: 1\n[s1]\nmemory: 2\nsnapstate: prepare\n");
    g_autoptr(AgentGuestConf) view = agent_guestconf_snapshot(conf, "s1");

    g_assert_cmpstr(agent_guestconf_get(view, "memory"), ==, "2");
    g_assert_cmpstr(agent_guestconf_get(view, "snapstate"), ==, "prepare");
    g_assert_null(agent_guestconf_snapshot(conf, "s2"));
}

/* Any prefix of a file, and any damage to it, can be read and written. */
static void
test_damage(void)
{
    static const char text[] =
        "#a%41\nrootfs: local:105/a.raw,size=4G\nlxc.idmap: u 0 1 2\n"
        "[pve:pending]\ndelete: a\n[s1]\nsnaptime: 1\n[x";

    for (gsize i = 0; i <= strlen(text); i++) {
        for (guint byte = 0; byte < 256; byte += 15) {
            g_autofree char *damaged = g_strdup(text);
            g_autoptr(AgentGuestConf) conf = NULL;
            g_autofree char *written = NULL;

            damaged[i] = (char)byte;
            conf = agent_guestconf_parse(105, damaged, i + 1, NULL);
            written = agent_guestconf_serialize(conf);
            g_assert_nonnull(written);
        }
    }
}

/* What is no volume id is none of the container's volumes: it would end an item
 * or a line of the hold record. */
static void
test_odd_volumes(void)
{
    g_autoptr(AgentGuestConf) conf =
        parse("rootfs: local:1/a.raw\nmp0: local:1/\tb.raw,mp=/b\n"
              "mp1: local:1/c .raw ,mp=/c\nunused0: x,local:1/d.raw\n"
              "unused1: nothing\nunused2: local:1/e.raw\n");
    g_auto(GStrv) volumes = agent_guestconf_volumes(conf);
    g_autofree char *all = g_strjoinv("|", volumes);

    g_assert_cmpstr(all, ==, "local:1/a.raw|local:1/e.raw");
}

/* A value with '=' needs its key. */
static void
test_equals_in_volume(void)
{
    g_autoptr(AgentMount) mount =
        agent_mount_parse("rootfs", "volume=local:a=b,ro=1", NULL);
    g_autofree char *text = agent_mount_format(mount);

    g_assert_cmpstr(text, ==, "volume=local:a=b,ro=1");
}

/* --- random files --- */

static const char *
pick(const char *const *list)
{
    return list[g_test_rand_int_range(0, (gint32)g_strv_length((char **)list))];
}

/* Returns: (owned) a value that @rule takes. */
static char *
random_value(const AgentValueRule *rule)
{
    static const char *const texts[] = {"/a b/c",
                                        "local:105/a.raw",
                                        "10.0.0.1",
                                        "::1",
                                        "10.0.0.1/8",
                                        "dhcp",
                                        "fe80::1/64",
                                        "a.b-c",
                                        "BC:24:11:EE:B5:FE",
                                        "eth0",
                                        "5;6",
                                        "order=1,up=2",
                                        "/dev/fuse",
                                        "0640",
                                        "noatime;nodev",
                                        "u:0:1:2;g:0:1:2",
                                        "nfs;cifs",
                                        "A=b c",
                                        "Europe/Vienna",
                                        "\xc3\xbc",
                                        "UTC",
                                        "s_1",
                                        NULL};

    if (rule->choices != NULL) {
        return g_strdup(pick(rule->choices));
    }
    switch (rule->type) {
    case AGENT_VALUE_BOOLEAN:
        return g_strdup_printf("%d", g_test_rand_int_range(0, 2));
    case AGENT_VALUE_INTEGER:
    case AGENT_VALUE_NUMBER:
        return g_strdup_printf(
            "%" G_GINT64_FORMAT,
            rule->min + g_test_rand_int_range(
                            0, 1 + (gint32)MIN(9, rule->max - rule->min)));
    case AGENT_VALUE_SIZE:
        return agent_size_format((gint64)g_test_rand_int_range(0, 99) << 20);
    default:
        break;
    }
    for (guint i = 0; i < 500; i++) {
        const char *text = pick(texts);
        g_autofree char *taken = agent_value_check(rule, text, NULL);

        if (taken != NULL) {
            return g_steal_pointer(&taken);
        }
    }
    g_assert_not_reached();
}

static char *
random_props(const AgentPropKey *schema)
{
    g_autoptr(GHashTable) props =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        if (key->is_mandatory || key->is_default ||
            g_test_rand_int_range(0, 3) == 0) {
            char *value = random_value(&key->rule);

            if (strchr(value, ',') == NULL) {
                g_hash_table_replace(props, g_strdup(key->name), value);
            } else {
                g_free(value);
            }
        }
    }
    return agent_props_format(schema, props);
}

static gint
by_line(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A section with some of all options there are; but for unusedN, which go when
 * their volume is used. */
static void
append_random_section(GString *out)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    if (g_test_rand_bit()) {
        g_string_append(out, "#notes%3A \n#\n#%C3%BC\n");
    }
    for (const AgentGuestOpt *opt = agent_guestopts(); opt->name != NULL;
         opt++) {
        g_autofree char *key =
            opt->count > 0
                ? g_strdup_printf("%s%d", opt->name,
                                  g_test_rand_int_range(0, (gint32)opt->count))
                : g_strdup(opt->name);
        g_autofree char *value = opt->props != NULL ? random_props(opt->props)
                                                    : random_value(&opt->rule);

        if (g_test_rand_bit() && !(opt->flags & AGENT_OPT_REPEAT) &&
            *value != '\0' && strcmp(opt->name, "unused") != 0 &&
            strcmp(key, "description") != 0 && strcmp(key, "snapstate") != 0) {
            g_ptr_array_add(lines, g_strdup_printf("%s: %s\n", key, value));
        }
    }
    g_ptr_array_sort(lines, by_line);
    for (guint i = 0; i < lines->len; i++) {
        g_string_append(out, lines->pdata[i]);
    }
    if (g_test_rand_bit()) {
        g_string_append(out, "lxc.environment.runtime: A=1\n"
                             "lxc.environment.runtime: B=x y\n"
                             "lxc.cap.drop: \nlxc.cap.drop: sys_time\n");
    }
    if (g_test_rand_int_range(0, 4) == 0) {
        g_string_append(out, "  what is this\nlxc.bogus = 1\n");
    }
}

/* Parse, write, parse is the identity, and the first text is the second. */
static void
test_random(void)
{
    for (guint i = 0; i < 300; i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(AgentGuestConf) conf = NULL;
        g_autofree char *written = NULL;

        append_random_section(text);
        if (g_test_rand_bit()) {
            g_string_append(text, "\n[pve:pending]\ndelete: a,b\n");
        }
        for (const char *name = "ab"; *name != '\0'; name++) {
            if (g_test_rand_bit()) {
                g_string_append_printf(text, "\n[s%c]\n", *name);
                append_random_section(text);
            }
        }
        conf = parse(text->str);
        written = agent_guestconf_serialize(conf);
        g_assert_cmpstr(written, ==, text->str);
        g_assert_true(agent_guestconf_is_writable(conf, NULL));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guestconf/round-trip", test_round_trip);
    g_test_add_func("/guestconf/whole-file", test_whole_file);
    g_test_add_func("/guestconf/unknown-is-kept", test_unknown_is_kept);
    g_test_add_func("/guestconf/broken", test_broken);
    g_test_add_func("/guestconf/nul", test_nul);
    g_test_add_func("/guestconf/diagnostics", test_diagnostics);
    g_test_add_func("/guestconf/writable", test_writable);
    g_test_add_func("/guestconf/queries", test_queries);
    g_test_add_func("/guestconf/own-idmap", test_own_idmap);
    g_test_add_func("/guestconf/mounts", test_mounts);
    g_test_add_func("/guestconf/volumes", test_volumes);
    g_test_add_func("/guestconf/pending", test_pending);
    g_test_add_func("/guestconf/random", test_random);
    g_test_add_func("/guestconf/snapshot", test_snapshot);
    g_test_add_func("/guestconf/damage", test_damage);
    g_test_add_func("/guestconf/odd-volumes", test_odd_volumes);
    g_test_add_func("/guestconf/equals-in-volume", test_equals_in_volume);
    return g_test_run();
}
