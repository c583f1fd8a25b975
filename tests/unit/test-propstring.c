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

static void
check_option(const char *key, const char *text, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *stored =
        agent_guestopt_check(agent_guestopt_find(key), text, &error);

    g_assert_cmpstr(stored != NULL ? stored : error->message, ==, expected);
}

static void
test_options(void)
{
    check_option("memory", "+512", "512");
    check_option("memory", "0512", "512");
    check_option("memory", "15", "value must have a minimum value of 16");
    check_option("memory", "1e3", "type check ('integer') failed - got '1e3'");
    check_option("cpulimit", ".5", "0.5");
    check_option("onboot", "yes", "1");
    check_option("cmode", "x",
                 "value 'x' does not have a value in the enumeration 'shell, "
                 "console, tty'");
    check_option("hostname", "a_b",
                 "invalid format - value does not look like a valid DNS name");
    check_option("hostname", "a\n", "value contains a control character");
    check_option("tags", "b;A,a b", "a;b");
    check_option("nameserver", "1.1.1.1,fe80::1%eth0", "1.1.1.1 fe80::1%eth0");
    check_option("nameserver", "1.1.1",
                 "invalid format - value does not look like a valid IP "
                 "address");
    check_option("net0", "type=veth,bridge=vmbr0,name=eth0,ip=10.0.0.2/24",
                 "name=eth0,bridge=vmbr0,ip=10.0.0.2/24,type=veth");
    check_option("net0", "name=averyverylongname0",
                 "invalid format - format error\n"
                 "name: value does not match the regex pattern");
    check_option("net0", "name=e,hwaddr=01:00:00:00:00:00",
                 "invalid format - format error\n"
                 "hwaddr: invalid format - value does not look like a valid "
                 "unicast MAC address");
    check_option("startup", "order=1,up=30", "order=1,up=30");
    check_option("startup", "0",
                 "invalid format - unable to parse startup options");
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
    g_test_add_func("/propstring/names", test_names);
    return g_test_run();
}
