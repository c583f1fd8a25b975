/* Feeds a fuzz target its corpus, every cut of each input, and a few thousand
 * seeded mutations. The folder is tests/fuzz/corpus/NAME, NAME from fuzz-NAME.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <string.h>

static char *
corpus_folder(void)
{
    g_autofree char *program = g_path_get_basename(g_get_prgname());
    const char *name = strstr(program, "fuzz-");

    g_assert_nonnull(name);
    return g_test_build_filename(G_TEST_DIST, "fuzz", "corpus",
                                 name + strlen("fuzz-"), NULL);
}

/* A copy of exactly @size bytes, so that a sanitizer sees every step past the
 * end. */
static void
feed(const guint8 *bytes, gsize size)
{
    g_autofree guint8 *copy = g_malloc(MAX(size, 1));

    memcpy(copy, bytes, size);
    g_assert_cmpint(LLVMFuzzerTestOneInput(copy, size), ==, 0);
}

static void
feed_mutations(const guint8 *bytes, gsize size)
{
    g_autofree guint8 *copy = g_memdup2(bytes, size);

    for (guint i = 0; i < 500 && size > 0; i++) {
        guint changes = (guint)g_test_rand_int_range(1, 5);

        memcpy(copy, bytes, size);
        while (changes-- > 0) {
            copy[g_test_rand_int_range(0, (gint32)size)] =
                (guint8)(g_test_rand_bit() ? g_test_rand_int()
                                           : (g_test_rand_bit() ? 0xff : 0));
        }
        feed(copy, size);
    }
}

static void
replay(gconstpointer data)
{
    const char *path = data;
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize size = 0;

    g_file_get_contents(path, &bytes, &size, &error);
    g_assert_no_error(error);
    for (gsize cut = 0; cut <= MIN(size, 4096); cut++) {
        feed((const guint8 *)bytes, cut);
    }
    feed((const guint8 *)bytes, size);
    feed_mutations((const guint8 *)bytes, size);
}

int
main(int argc, char **argv)
{
    g_autofree char *folder = NULL;
    g_autoptr(GDir) dir = NULL;
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    g_test_init(&argc, &argv, NULL);
    folder = corpus_folder();
    dir = g_dir_open(folder, 0, NULL);
    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir)) != NULL) {
        char *path = g_build_filename(folder, name, NULL);
        g_autofree char *test = g_strconcat("/fuzz/", name, NULL);

        g_ptr_array_add(paths, path);
        g_test_add_data_func(test, path, replay);
    }
    g_assert_cmpuint(paths->len, >, 0);
    return g_test_run();
}
