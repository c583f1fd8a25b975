#include "config.h"

#include "agent/core/guestopts.h"

static void
check_size(const char *text, gint64 bytes, const char *printed)
{
    g_autofree char *again = NULL;
    gint64 parsed = -1;

    g_assert_true(agent_size_parse(text, &parsed));
    g_assert_cmpint(parsed, ==, bytes);
    again = agent_size_format(parsed);
    g_assert_cmpstr(again, ==, printed);
}

static void
test_size(void)
{
    gint64 parsed;

    check_size("0", 0, "0T");
    check_size("51M", 51 << 20, "51M");
    check_size("1.5K", 1536, "1536");
    check_size("1024KiB", 1 << 20, "1M");
    check_size("4G", 4LL << 30, "4G");
    g_assert_false(agent_size_parse("4g", &parsed));
    g_assert_false(agent_size_parse("", &parsed));
    g_assert_false(agent_size_parse("-1", &parsed));
    g_assert_false(agent_size_parse("99999999999999999999T", &parsed));
}

/* The canonical form of a mount point, or the message. */
static void
check_mp(const char *text, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) props =
        agent_props_parse(agent_mp_schema, text, &error);
    g_autofree char *canonical =
        props != NULL ? agent_props_format(agent_mp_schema, props) : NULL;

    g_assert_cmpstr(canonical != NULL ? canonical : error->message, ==,
                    expected);
}

static void
test_props(void)
{
    check_mp("size=1024M,ro=yes,mp=/a,local:0", "local:0,mp=/a,ro=1,size=1G");
    check_mp("volume=/x,, ,mp=/a,backup=on", "/x,mp=/a,backup=1");
    check_mp("/x,/y,mp=/a",
             "duplicate key in comma-separated list property: volume");
    check_mp("/x,mp=/a,ro=", "missing key in comma-separated list property");
    check_mp("/x,ro=maybe,zz=1",
             "format error\n"
             "mp: property is missing and it is not optional\n"
             "ro: type check ('boolean') failed - got 'maybe'\n"
             "zz: property is not defined in schema and the schema does not "
             "allow additional properties");
    check_mp("/x,mp=/a/../b",
             "format error\nmp: invalid format - /a/../b contains illegal "
             "character sequences");
}

/* What the command line stores, or says (spec section 4). */
static const struct {
    const char *key, *text, *expected;
} options[] = {
    {"memory", "+512", "512"},
    {"memory", "0512", "512"},
    {"memory", "-0", "value must have a minimum value of 16"},
    {"memory", "15", "value must have a minimum value of 16"},
    {"memory", "-15", "value must have a minimum value of 16"},
    {"memory", "1e3", "type check ('integer') failed - got '1e3'"},
    {"memory", "", "type check ('integer') failed - got ''"},
    {"memory", "16\n", "type check ('integer') failed - got '16\n'"},
    {"tty", "7", "value must have a maximum value of 6"},
    {"cores", "8193", "value must have a maximum value of 8192"},
    {"cpuunits", "500001", "value must have a maximum value of 500000"},
    {"cpulimit", ".5", "0.5"},
    {"cpulimit", "1e3", "1000"},
    {"cpulimit", "2.50", "2.50"},
    {"cpulimit", "-1", "value must have a minimum value of 0"},
    {"cpulimit", "8193", "value must have a maximum value of 8192"},
    {"cpulimit", "inf", "type check ('number') failed - got 'inf'"},
    {"cpulimit", "0x10", "type check ('number') failed - got '0x10'"},
    {"onboot", "yes", "1"},
    {"onboot", "OFF", "0"},
    {"onboot", "2", "type check ('boolean') failed - got '2'"},
    {"cmode", "x",
     "value 'x' does not have a value in the enumeration 'shell, console, "
     "tty'"},
    {"arch", "vax",
     "value 'vax' does not have a value in the enumeration 'amd64, i386, "
     "arm64, armhf, riscv32, riscv64'"},
    {"ostype", "beos",
     "value 'beos' does not have a value in the enumeration 'debian, devuan, "
     "ubuntu, centos, fedora, opensuse, archlinux, alpine, gentoo, nixos, "
     "unmanaged'"},
    {"lock", "x",
     "value 'x' does not have a value in the enumeration 'backup, create, "
     "destroyed, disk, fstrim, migrate, mounted, rollback, snapshot, "
     "snapshot-delete'"},
    {"state", "on",
     "value 'on' does not have a value in the enumeration 'started, stopped'"},
    {"hostname", "a_b",
     "invalid format - value does not look like a valid DNS name"},
    {"hostname", "a\n",
     "invalid format - value does not look like a valid DNS name"},
    {"hostname", "a-.b",
     "invalid format - value does not look like a valid DNS name"},
    {"hostname", "a.b-c.d", "a.b-c.d"},
    {"tags", "b;A,a b", "b;A;a"},
    {"tags", "-x", "invalid format - invalid characters in tag"},
    {"nameserver", "1.1.1.1,fe80::1%eth0", "1.1.1.1 fe80::1%eth0"},
    {"nameserver", "1.1.1",
     "invalid format - value does not look like a valid IP address"},
    {"searchdomain", "a.b;c", "a.b c"},
    {"searchdomain", "a..b",
     "invalid format - value does not look like a valid DNS name"},
    {"timezone", "../x", "invalid format - invalid time zone '../x'"},
    {"timezone", "Europe/Vienna", "Europe/Vienna"},
    {"entrypoint", "a\nb", "value does not match the regex pattern"},
    {"entrypoint", "/bin/a \"b c\"", "/bin/a \"b c\""},
    {"env", "A=b c", "A=b c"},
    {"env", "A-B=c", "value does not match the regex pattern"},
    {"env", "A=b\nc", "value does not match the regex pattern"},
    {"hookscript", "x", "invalid format - unable to parse volume ID 'x'"},
    {"unused0", "x",
     "invalid format - format error\n"
     "volume: invalid format - unable to parse volume ID 'x'"},
    {"startup", "order=1,up=30", "order=1,up=30"},
    {"startup", "order=0", "order=0"},
    {"startup", "0", "invalid format - unable to parse startup options"},
    {"startup", "x=1", "invalid format - unable to parse startup options"},
    {"net0", "type=veth,bridge=vmbr0,name=eth0,ip=10.0.0.2/24",
     "name=eth0,bridge=vmbr0,ip=10.0.0.2/24,type=veth"},
    {"net0", "eth0",
     "invalid format - value without key, but schema does not define a "
     "default key"},
    {"net0", "bridge=b",
     "invalid format - format error\n"
     "name: property is missing and it is not optional"},
    {"net0", "name=averyverylongname0",
     "invalid format - format error\n"
     "name: value does not match the regex pattern"},
    {"net0", "name=e,hwaddr=01:00:00:00:00:00",
     "invalid format - format error\n"
     "hwaddr: invalid format - value does not look like a valid unicast MAC "
     "address"},
    {"net0", "name=e,gw=::1,gw6=1.1.1.1,ip=1.1.1.1/7,ip6=::1/129",
     "invalid format - format error\n"
     "gw6: invalid format - value does not look like a valid IPv6 address\n"
     "gw: invalid format - value does not look like a valid IPv4 address\n"
     "ip6: invalid format - value does not look like a valid ipv6 network "
     "configuration\n"
     "ip: invalid format - value does not look like a valid ipv4 network "
     "configuration"},
    {"net0", "name=e,rate=-1,tag=4095,mtu=1,trunks=1-2,type=tap",
     "invalid format - format error\n"
     "mtu: value must have a minimum value of 64\n"
     "rate: value must have a minimum value of 0\n"
     "tag: value must have a maximum value of 4094\n"
     "trunks: value does not match the regex pattern\n"
     "type: value 'tap' does not have a value in the enumeration 'veth'"},
    {"mp0", "local:8,mp=/a,idmap=u:0:1:0,mountoptions=noatime;suid,size=4g",
     "invalid format - format error\n"
     "idmap: value does not match the regex pattern\n"
     "mountoptions: value does not match the regex pattern\n"
     "size: value does not look like a valid disk size: 4g"},
    {"mp0", "local:8,mp=/a,idmap=u:0:1:1;g:0:1:1,mountoptions=noatime;nodev",
     "local:8,mp=/a,idmap=u:0:1:1;g:0:1:1,mountoptions=noatime;nodev"},
    {"rootfs", "local:8,mp=/",
     "invalid format - format error\n"
     "mp: property is not defined in schema and the schema does not allow "
     "additional properties"},
    {"features", "nesting=1,mount=nfs;cifs", "nesting=1,mount=nfs;cifs"},
    {"features", "flying=1",
     "invalid format - format error\n"
     "flying: property is not defined in schema and the schema does not "
     "allow additional properties"},
    {"dev0", "/dev/fuse,mode=0666,uid=1", "/dev/fuse,mode=0666,uid=1"},
    {"dev0", "mode=0666", "Path has to be defined"},
    {"dev0", "/etc/passwd,mode=666,uid=-1",
     "invalid format - format error\n"
     "mode: value does not match the regex pattern\n"
     "path: invalid format - /etc/passwd is not a valid device path\n"
     "uid: value must have a minimum value of 0"},
};

static void
test_options(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *stored = agent_guestopt_check(
            agent_guestopt_find(options[i].key), options[i].text, &error);

        g_assert_cmpstr(stored != NULL ? stored : error->message, ==,
                        options[i].expected);
    }
}

static void
test_lengths(void)
{
    g_autofree char *name = g_strnfill(256, 'a');
    g_autofree char *notes = g_strnfill(8193, 'x');
    g_autoptr(GError) error = NULL;

    g_assert_null(
        agent_guestopt_check(agent_guestopt_find("hostname"), name, &error));
    g_assert_cmpstr(error->message, ==,
                    "value may only be 255 characters long");
    g_clear_error(&error);
    g_assert_null(agent_guestopt_check(agent_guestopt_find("description"),
                                       notes, &error));
    g_assert_cmpstr(error->message, ==,
                    "value may only be 8192 characters long");
}

static void
check_tags(gboolean keep_case, gboolean keep_order, const char *expected)
{
    g_autofree char *tags =
        agent_guestopt_tags("b;A;a;B b", keep_case, keep_order);

    g_assert_cmpstr(tags, ==, expected);
}

static void
test_tags(void)
{
    check_tags(FALSE, FALSE, "a;b");
    check_tags(TRUE, FALSE, "A;B;a;b");
    check_tags(FALSE, TRUE, "b;a");
    check_tags(TRUE, TRUE, "b;A;a;B");
}

/* Each row can be explained, and what it explains is true. */
static void
test_described(void)
{
    g_autofree char *net = agent_guestopt_describe(agent_guestopt_find("net0"));
    g_autofree char *mp = agent_guestopt_describe(agent_guestopt_find("mp0"));
    g_autofree char *tty = agent_guestopt_describe(agent_guestopt_find("tty"));

    for (const AgentGuestOpt *opt = agent_guestopts(); opt->name != NULL;
         opt++) {
        g_assert_nonnull(opt->text);
        g_assert_true(g_str_has_suffix(opt->text, "."));
        for (const AgentPropKey *key = opt->props;
             key != NULL && key->name != NULL; key++) {
            g_assert_nonnull(key->text);
        }
    }
    g_assert_true(g_str_has_prefix(net, "name=<name> [,bridge=<bridge>]"));
    g_assert_true(
        g_str_has_prefix(mp, "[volume=]<volume> ,mp=<path> [,acl=<boolean>]"));
    g_assert_cmpstr(tty, ==, "<integer> (0 - 6)");
}

static void
test_names(void)
{
    g_assert_nonnull(agent_guestopt_find("net31"));
    g_assert_null(agent_guestopt_find("net32"));
    g_assert_null(agent_guestopt_find("net01"));
    g_assert_null(agent_guestopt_find("net"));
    g_assert_nonnull(agent_guestopt_find("mp255"));
    g_assert_null(agent_guestopt_find("rootfs0"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/propstring/size", test_size);
    g_test_add_func("/propstring/props", test_props);
    g_test_add_func("/propstring/options", test_options);
    g_test_add_func("/propstring/lengths", test_lengths);
    g_test_add_func("/propstring/tags", test_tags);
    g_test_add_func("/propstring/described", test_described);
    g_test_add_func("/propstring/names", test_names);
    return g_test_run();
}
