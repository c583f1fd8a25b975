#include "config.h"

#include "pmxcfs/core/clog.h"
#include "tests/unit/capture.h"

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

static guint
count_entries(const char *text)
{
    guint n = 0;

    for (const char *p = text; (p = strstr(p, "\"uid\"")) != NULL; p++) {
        n++;
    }
    return n;
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

/* The beginning of the STATE captured in spec/replication.md 10.4, behind its
 * header, ended after the second entry. */
#define CAPTURED                                                               \
    "b800 0000 6000 0000 0000 0000 6000 0000"                                  \
    "0100 0000 bff2 016b 522c d1a4 ab47 181e"                                  \
    "bf53 bc1d 46e2 d14d d902 0000 0605 0508"                                  \
    "1500 0000 6370 6731 0072 6f6f 7400 636c"                                  \
    "7573 7465 7200 7374 6172 7469 6e67 2063"                                  \
    "6c75 7374 6572 206c 6f67 0000 0000 0000"                                  \
    "0800 0000 b800 0000 0100 0000 c1f2 016b"                                  \
    "2949 cea4 abe1 141e bf53 bc1d 46e2 d14d"                                  \
    "0c03 0000 0605 0508 1500 0000 6370 6732"                                  \
    "0072 6f6f 7400 636c 7573 7465 7200 7374"                                  \
    "6172 7469 6e67 2063 6c75 7374 6572 206c"                                  \
    "6f67 0000 0000 0000"

/* As captured, but for the room to spare that we do not send. */
static void
test_ring(void)
{
    g_autoptr(CfsClog) one = cfs_clog_new("cpg1");
    g_autoptr(CfsClog) two = cfs_clog_new("cpg2");
    const CfsClogEntry first = {0x6b01f2bf, 729,       6,
                                "root",     "cluster", "starting cluster log"};
    const CfsClogEntry second = {0x6b01f2c1, 780,       6,
                                 "root",     "cluster", "starting cluster log"};
    g_autoptr(GBytes) entry = cfs_clog_add(two, &second);
    g_autoptr(GBytes) ring = NULL;

    g_bytes_unref(cfs_clog_add(one, &first));
    g_assert_true(cfs_clog_insert(one, entry));
    ring = cfs_clog_ring(one);
    capture_assert(ring, CAPTURED);
}

/* Returns: (owned) @ring as the reference sends it: 128 KiB. */
static GBytes *
as_reference(GBytes *ring)
{
    guint8 *bytes = g_malloc0(CFS_CLOG_SIZE);
    gsize size = 0;
    gconstpointer from = g_bytes_get_data(ring, &size);

    memcpy(bytes, from, size);
    bytes[0] = bytes[1] = bytes[3] = 0;
    bytes[2] = 2;
    return g_bytes_new_take(bytes, CFS_CLOG_SIZE);
}

/* Returns: (owned) what a log holds after taking one ring. @n_bad: expected. */
static char *
text_of_ring(GBytes *ring, guint n_bad)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n9");
    g_autoptr(GPtrArray) rings = g_ptr_array_new();

    g_ptr_array_add(rings, ring);
    g_assert_cmpuint(cfs_clog_merge(log, rings), ==, n_bad);
    return cfs_clog_text(log, 10000, NULL);
}

#define CAPTURED_TEXT                                                          \
    "{\n\"data\": [\n{\"uid\": 1, \"time\": 1795289793, \"pri\": 6, \"tag\": " \
    "\"cluster\", \"pid\": 780, \"node\": \"cpg2\", \"user\": \"root\", "      \
    "\"msg\": \"starting cluster log\"},\n{\"uid\": 1, \"time\": 1795289791, " \
    "\"pri\": 6, \"tag\": \"cluster\", \"pid\": 729, \"node\": \"cpg1\", "     \
    "\"user\": \"root\", \"msg\": \"starting cluster log\"}\n]\n}\n"

static void
test_decode_ring(void)
{
    g_autoptr(GBytes) ours = capture_bytes(CAPTURED);
    g_autoptr(GBytes) theirs = as_reference(ours);
    g_autofree char *one = text_of_ring(ours, 0);
    g_autofree char *two = text_of_ring(theirs, 0);

    g_assert_cmpstr(one, ==, CAPTURED_TEXT);
    g_assert_cmpstr(two, ==, CAPTURED_TEXT);
}

static void
put(guint8 *at, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

/* A ring that went around: newest at its beginning, older ones at its end. */
static void
test_ring_around(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autofree guint8 *bytes = g_malloc0(CFS_CLOG_SIZE);
    g_autofree char *text = NULL;
    g_autoptr(GBytes) ring = NULL;
    guint32 places[] = {CFS_CLOG_SIZE - 400, CFS_CLOG_SIZE - 200, 8, 208};

    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GBytes) entry = add(log, i + 1, "root", "x");
        gsize size = 0;
        gconstpointer from = g_bytes_get_data(entry, &size);

        memcpy(bytes + places[i], from, size);
        put(bytes + places[i], i > 0 ? places[i - 1] : 700);
        put(bytes + places[i] + 4, places[i] + 200);
    }
    put(bytes, CFS_CLOG_SIZE);
    put(bytes + 4, 208);
    ring = g_bytes_new(bytes, CFS_CLOG_SIZE);
    text = text_of_ring(ring, 0);
    /* What the oldest points at was overwritten by what came after. */
    g_assert_cmpuint(count_entries(text), ==, 4);
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

/* Full many times over: the newest are always there, in order. */
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
    /* Older than what is there, and no duplicate: a clock was set back. */
    g_assert_true(cfs_clog_insert(here, one));
    g_assert_false(cfs_clog_insert(here, one));
    text = cfs_clog_text(here, 50, NULL);
    g_assert_cmpuint(count_entries(text), ==, 2);
}

/* Own entries never bear a time before the last one. */
static void
test_clock_set_back(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autofree char *text = NULL;

    cfs_clog_set_next_uid(log, 77);
    log_text(log, 100, "root", "one");
    log_text(log, 50, "root", "two");
    text = cfs_clog_text(log, 50, NULL);
    g_assert_nonnull(strstr(text, "\"uid\": 78, \"time\": 100"));
}

/* The reference shows 1587 entries of 80 bytes. */
static void
test_retention(void)
{
    g_autoptr(CfsClog) log = cfs_clog_new("n1");
    g_autofree char *text = NULL;

    for (guint i = 1; i <= 3000; i++) {
        g_autoptr(GBytes) entry = add(log, i, "root", "123456789012345678");

        g_assert_cmpuint(g_bytes_get_size(entry), ==, 80);
    }
    g_assert_cmpuint(cfs_clog_length(log), ==, 1587);
    text = cfs_clog_text(log, 10000, NULL);
    g_assert_nonnull(strstr(text, "\"uid\": 3000,"));
    g_assert_null(strstr(text, "\"uid\": 1413,"));
}

/* Members that logged apart have the same log after a merge, each entry once,
 * whoever's ring comes first; and again, when they merge again. */
static void
test_merge(void)
{
    CfsClog *logs[] = {cfs_clog_new("n1"), cfs_clog_new("n2"),
                       cfs_clog_new("n3")};
    g_autofree char *first = NULL;

    for (guint i = 0; i < 2000; i++) {
        guint who = (guint)g_test_rand_int_range(0, 3);
        g_autoptr(GBytes) entry = add(logs[who], i / 7, "root", "message");

        for (guint k = 0; k < 3; k++) {
            if (k != who && g_test_rand_int_range(0, 3) > 0) {
                g_assert_true(cfs_clog_insert(logs[k], entry));
            }
        }
    }
    for (guint round = 0; round < 2; round++) {
        g_autoptr(GPtrArray) rings =
            g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);

        for (guint k = 0; k < 3; k++) {
            g_ptr_array_add(rings, cfs_clog_ring(logs[k]));
        }
        for (guint k = 0; k < 3; k++) {
            g_autofree char *text = NULL;

            g_assert_cmpuint(cfs_clog_merge(logs[k], rings), ==, 0);
            text = cfs_clog_text(logs[k], 10000, NULL);
            if (first == NULL) {
                first = g_steal_pointer(&text);
                continue;
            }
            g_assert_cmpstr(text, ==, first);
        }
    }
    for (guint k = 0; k < 3; k++) {
        g_assert_cmpuint(cfs_clog_length(logs[k]), >, 1200);
        cfs_clog_free(logs[k]);
    }
}

/* Every byte of a ring may be wrong: what is left is read, nothing more. */
static void
test_hostile_ring(void)
{
    g_autoptr(GBytes) good = capture_bytes(CAPTURED);
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(good, &size);

    for (gsize cut = 0; cut < size; cut++) {
        g_autoptr(GBytes) part = g_bytes_new_from_bytes(good, 0, cut);
        g_autofree char *text = text_of_ring(part, 1);

        g_assert_cmpuint(count_entries(text), ==, 0);
    }
    for (guint i = 0; i < 20000; i++) {
        g_autofree guint8 *copy = g_memdup2(bytes, size);
        g_autoptr(GBytes) bad = NULL;
        g_autoptr(GPtrArray) rings = g_ptr_array_new();
        g_autoptr(CfsClog) log = cfs_clog_new("n9");

        for (gint n = g_test_rand_int_range(1, 4); n > 0; n--) {
            copy[g_test_rand_int_range(0, (gint32)size)] =
                (guint8)g_test_rand_int();
        }
        bad = g_bytes_new(copy, size);
        g_ptr_array_add(rings, bad);
        (void)cfs_clog_merge(log, rings);
        g_assert_cmpuint(cfs_clog_length(log), <=, 2);
    }
}

/* Entries that point at each other: none is read twice. */
static void
test_ring_of_loops(void)
{
    g_autoptr(GBytes) good = capture_bytes(CAPTURED);
    static const guint32 prevs[] = {0x60, 0x61, 0x68, 0xb8, 0xffffffff, 4};

    for (guint i = 0; i < G_N_ELEMENTS(prevs); i++) {
        g_autofree guint8 *copy =
            g_memdup2(g_bytes_get_data(good, NULL), g_bytes_get_size(good));
        g_autoptr(GBytes) bad = NULL;
        g_autofree char *text = NULL;

        put(copy + 0x60, prevs[i]);
        bad = g_bytes_new(copy, g_bytes_get_size(good));
        text = text_of_ring(bad, 0);
        g_assert_cmpuint(count_entries(text), ==, 1);
    }
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
    g_test_add_func("/clog/decode-ring", test_decode_ring);
    g_test_add_func("/clog/ring-around", test_ring_around);
    g_test_add_func("/clog/clock-set-back", test_clock_set_back);
    g_test_add_func("/clog/retention", test_retention);
    g_test_add_func("/clog/merge", test_merge);
    g_test_add_func("/clog/hostile-ring", test_hostile_ring);
    g_test_add_func("/clog/ring-of-loops", test_ring_of_loops);
    return g_test_run();
}
