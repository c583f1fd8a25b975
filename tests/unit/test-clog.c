#include "config.h"

#include "pmxcfs/core/clog.h"

#include <string.h>

/* Returns: (owned) */
static GBytes *
add(CfsClog *log, guint32 time, const char *user, const char *message)
{
    const CfsClogEntry entry = {.time = time,
                                .pid = 780,
                                .priority = 6,
                                .user = user,
                                .tag = "tag1",
                                .message = message};

    return cfs_clog_add(log, &entry);
}

static void
log_text(CfsClog *log, guint32 time, const char *user, const char *message)
{
    g_bytes_unref(add(log, time, user, message));
}

static void
test_empty(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autofree char *text = cfs_clog_text(log, 50, NULL);

    g_assert_cmpstr(text, ==, "{\n\"data\": [\n]\n}\n");
}

/* The message captured in spec/replication.md 10.4, behind its header. */
static void
test_bytes(void)
{
    static const guint8 expected[] = {
        0,    0,    0,    0,    0,    0,    0,    0,    2,    0,    0,
        0,    0xcd, 0xf2, 0x01, 0x6b, 0x29, 0x49, 0xce, 0xa4, 0xab, 0xe1,
        0x14, 0x1e, 0x61, 0xbb, 0x95, 0xbf, 0x5d, 0x9a, 0xf6, 0x0b, 0x0c,
        0x03, 0,    0,    6,    5,    9,    5,    0x0a, 0,    0,    0,
        'c',  'p',  'g',  '2',  0,    'r',  'o',  'o',  't',  '@',  'p',
        'a',  'm',  0,    't',  'a',  'g',  '1',  0,    'h',  'e',  'l',
        'l',  'o',  ' ',  'l',  'o',  'g',  0,    0,    0,    0,    0};
    g_autoptr(CfsClog) log = cfs_clog_new("cpg2");
    g_autoptr(GBytes) second = NULL;

    log_text(log, 1795289800, "root@pam", "first");
    second = add(log, 0x6b01f2cd, "root@pam", "hello log");
    g_assert_cmpmem(g_bytes_get_data(second, NULL), g_bytes_get_size(second),
                    expected, sizeof(expected));
}

/* As the STATE captured there. */
static void
test_ring(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("cpg1");
    CfsClogEntry start = {0x6b01f2bf, 729,       6,
                          "root",     "cluster", "starting cluster log"};
    g_autoptr(GBytes) ring = NULL;
    gsize size = 0;
    const guint8 *bytes;
    static const guint8 head[] = {0, 0, 2, 0, 0x60, 0, 0, 0,
                                  0, 0, 0, 0, 0x60, 0, 0, 0};

    g_bytes_unref(cfs_clog_add(log, &start));
    log_text(log, 0x6b01f2c1, "root", "x");
    ring = cfs_clog_ring(log);
    bytes = g_bytes_get_data(ring, &size);
    g_assert_cmpuint(size, ==, 131072);
    g_assert_cmpmem(bytes, 16, head, 16);
    g_assert_cmpuint(bytes[0x60], ==, 8);
}

static void
test_text(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autofree char *text = NULL, *roots = NULL, *newest = NULL;

    log_text(log, 1, "root", "one");
    log_text(log, 2, "a\"b\\c\xff", "C:\\temp \"q\" \xc3\xa9 \n");
    text = cfs_clog_text(log, 50, NULL);
    roots = cfs_clog_text(log, 50, "root");
    newest = cfs_clog_text(log, 1, NULL);

#define ONE                                                                    \
    "{\"uid\": 1, \"time\": 1, \"pri\": 6, \"tag\": \"tag1\", \"pid\": 780, "  \
    "\"node\": \"n1\", \"user\": \"root\", \"msg\": \"one\"}"
#define TWO                                                                    \
    "{\"uid\": 2, \"time\": 2, \"pri\": 6, \"tag\": \"tag1\", \"pid\": 780, "  \
    "\"node\": \"n1\", \"user\": \"a\\\"b\\\\c?\", \"msg\": \"C:\\\\temp "     \
    "\\\"q\\\" \\u00e9 #010\"}"
    g_assert_cmpstr(text, ==, "{\n\"data\": [\n" TWO ",\n" ONE "\n]\n}\n");
    g_assert_cmpstr(roots, ==, "{\n\"data\": [\n" ONE "\n]\n}\n");
    g_assert_cmpstr(newest, ==, "{\n\"data\": [\n" TWO "\n]\n}\n");
}

static void
test_escape(void)
{
    static const char *const rows[][2] = {
        {"plain", "plain"},
        {"a\"b", "a\\\"b"},
        {"\x01\x7f\n", "#001#127#010"},
        {"\xc3\xa4\xe2\x82\xac", "\\u00e4\\u20ac"},
        {"x\xf0\x9f\x98\x80y", "xy"},
        {"bad \xff\xc3 \"", "bad ?? \\\""},
        {"back\\slash", "back\\slash"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *escaped = cfs_clog_escape(rows[i][0]);

        g_assert_cmpstr(escaped, ==, rows[i][1]);
    }
}

static guint
count_entries(const char *text)
{
    guint n = 0;

    for (const char *p = text; (p = strstr(p, "\"uid\"")) != NULL; p++) {
        n++;
    }
    return n;
}

/* Around the ring many times: the newest are always there, in order. */
static void
test_wrap(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");

    for (guint i = 1; i <= 3000; i++) {
        gsize size = (gsize)g_test_rand_int_range(0, 4500);
        g_autofree char *message = g_strnfill(size, 'x');
        g_autoptr(GBytes) entry = add(log, i, "root", message);
        g_autofree char *text = NULL;
        const char *at;

        g_assert_cmpuint(g_bytes_get_size(entry), <=, CFS_CLOG_MAX_ENTRY);
        if (i % 50 != 0) {
            continue;
        }
        text = cfs_clog_text(log, 10000, NULL);
        g_assert_cmpuint(count_entries(text), >=, MIN(i, 29));
        at = text;
        for (guint k = i; (at = strstr(at, "\"uid\": ")) != NULL; k--, at++) {
            g_assert_cmpuint(g_ascii_strtoull(at + 7, NULL, 10), ==, k);
        }
    }
}

static void
test_insert(void)
{
    g_autoptr(CfsClog) here = cfs_clog_new("n1");
    g_autoptr(CfsClog) there = cfs_clog_new("n2");
    g_autoptr(GBytes) one = add(there, 10, "root", "one");
    g_autoptr(GBytes) two = add(there, 10, "root", "two");
    g_autofree char *text = NULL;

    g_assert_true(cfs_clog_insert(here, two));
    g_assert_false(cfs_clog_insert(here, two));
    g_assert_false(cfs_clog_insert(here, one));
    text = cfs_clog_text(here, 50, NULL);
    g_assert_cmpuint(count_entries(text), ==, 1);
}

/* Every byte of an entry may be wrong. */
static void
test_hostile(void)
{
    g_autoptr(CfsClog) there = cfs_clog_new("n2");
    g_autoptr(GBytes) good = add(there, 10, "root", "message");
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(good, &size);

    for (gsize cut = 0; cut < size; cut++) {
        g_autoptr(CfsClog) here = cfs_clog_new("n1");
        g_autoptr(GBytes) part = g_bytes_new_from_bytes(good, 0, cut);

        g_assert_false(cfs_clog_insert(here, part));
    }
    for (guint i = 0; i < 5000; i++) {
        g_autoptr(CfsClog) here = cfs_clog_new("n1");
        g_autofree guint8 *copy = g_memdup2(bytes, size);
        g_autoptr(GBytes) bad = NULL;
        g_autofree char *text = NULL;

        copy[g_test_rand_int_range(0, (gint32)size)] =
            (guint8)g_test_rand_int();
        bad = g_bytes_new(copy, size);
        (void)cfs_clog_insert(here, bad);
        text = cfs_clog_text(here, 50, NULL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/clog/empty", test_empty);
    g_test_add_func("/clog/bytes", test_bytes);
    g_test_add_func("/clog/ring", test_ring);
    g_test_add_func("/clog/text", test_text);
    g_test_add_func("/clog/escape", test_escape);
    g_test_add_func("/clog/wrap", test_wrap);
    g_test_add_func("/clog/insert", test_insert);
    g_test_add_func("/clog/hostile", test_hostile);
    return g_test_run();
}
