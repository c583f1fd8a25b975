#include "config.h"

#include "pmxcfs/core/kv.h"

#include <errno.h>
#include <string.h>

/* Returns the verdict. */
static int
set(CfsKv *kv, const char *key, const char *text)
{
    g_autoptr(GBytes) value = g_bytes_new(text, strlen(text));

    return cfs_kv_set(kv, key, value);
}

static void
assert_value(CfsKv *kv, const char *key, const char *text)
{
    GBytes *value = cfs_kv_get(kv, key);

    if (text == NULL) {
        g_assert_null(value);
        return;
    }
    g_assert_nonnull(value);
    g_assert_cmpmem(g_bytes_get_data(value, NULL), g_bytes_get_size(value),
                    text, strlen(text));
}

/* A version is never seen twice with another content. */
static void
test_versions(void)
{
    g_autoptr(CfsKv) kv = cfs_kv_new(CFS_KV_MAX_BYTES);

    g_assert_cmpuint(cfs_kv_version(kv, "a"), ==, 0);
    g_assert_cmpint(set(kv, "a", "1"), ==, 0);
    g_assert_cmpuint(cfs_kv_version(kv, "a"), ==, 1);
    g_assert_cmpint(set(kv, "a", "1"), ==, 0);
    g_assert_cmpuint(cfs_kv_version(kv, "a"), ==, 2);
    g_assert_cmpint(set(kv, "a", ""), ==, 0);
    assert_value(kv, "a", NULL);
    g_assert_cmpint(set(kv, "a", ""), ==, 0);
    g_assert_cmpint(set(kv, "a", "2"), ==, 0);
    g_assert_cmpuint(cfs_kv_version(kv, "a"), ==, 3);
    assert_value(kv, "a", "2");
}

static void
test_bounds(void)
{
    g_autoptr(CfsKv) kv = cfs_kv_new(1000);
    g_autofree char *half = g_strnfill(500, 'x');
    guint n = 0;

    g_assert_cmpint(set(kv, "a", half), ==, 0);
    g_assert_cmpint(set(kv, "b", half), ==, ENOSPC);
    assert_value(kv, "b", NULL);
    g_assert_cmpint(set(kv, "a", half), ==, 0); /* in its own place */
    g_assert_cmpint(set(kv, "a", ""), ==, 0);
    g_assert_cmpint(set(kv, "b", half), ==, 0);
    g_assert_cmpint(set(kv, "b", ""), ==, 0);
    for (guint i = 0; i < 100; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);

        n += set(kv, key, "x") == 0;
    }
    g_assert_cmpuint(n, <, 20); /* small ones cost, too */
}

static void
test_sweep(void)
{
    g_autoptr(CfsKv) kv = cfs_kv_new(CFS_KV_MAX_BYTES);
    g_autoptr(GPtrArray) gone = NULL;

    (void)set(kv, "old", "1");
    (void)set(kv, "both", "1");
    cfs_kv_mark(kv);
    (void)set(kv, "both", "2");
    (void)set(kv, "new", "2");
    gone = cfs_kv_sweep(kv);
    g_assert_cmpuint(gone->len, ==, 1);
    g_assert_cmpstr(gone->pdata[0], ==, "old");
    assert_value(kv, "old", NULL);
    assert_value(kv, "both", "2");
    assert_value(kv, "new", "2");
}

static void
test_text(void)
{
    g_autoptr(CfsKv) kv = cfs_kv_new(CFS_KV_MAX_BYTES);
    g_autoptr(GString) empty = g_string_new(NULL);
    g_autoptr(GString) text = g_string_new(NULL);

    cfs_kv_append_versions(kv, empty);
    g_assert_cmpstr(empty->str, ==, "{\n}\n");
    (void)set(kv, "kv/b", "1");
    (void)set(kv, "a\"\\\n\xff", "1"); /* as a peer may call it */
    (void)set(kv, "kv/b", "1");
    cfs_kv_append_versions(kv, text);
    g_assert_cmpstr(text->str, ==,
                    "{\n\"a\\\"\\\\\\u000a?\": 1,\n\"kv/b\": 2}\n");
}

static void
test_names(void)
{
    g_autofree char *longest = g_strnfill(255, 'x');
    g_autofree char *longer = g_strnfill(256, 'x');
    static const char *const good[] = {"", "tasklist", "kv/a b", "kv/\xc3\xa4"};
    static const char *const bad[] = {"a\"b", "a\\b", "a\nb", "\x7f", "\xff"};

    g_assert_true(cfs_kv_is_name(longest));
    g_assert_false(cfs_kv_is_name(longer));
    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(cfs_kv_is_name(good[i]));
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(cfs_kv_is_name(bad[i]));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kv/versions", test_versions);
    g_test_add_func("/kv/bounds", test_bounds);
    g_test_add_func("/kv/sweep", test_sweep);
    g_test_add_func("/kv/text", test_text);
    g_test_add_func("/kv/names", test_names);
    return g_test_run();
}
