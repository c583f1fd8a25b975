/* Paths inside a hostile tree. */
#include "config.h"

#include "agent/io/safepath.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/io/child.h"
#include "common/files.h"

/* BASE/outside with a file, BASE/root as the container's root. */
typedef struct {
    char *base;
    char *outside; /* a file */
    int root;
} World;

static void
set_up(World *world, gconstpointer unused)
{
    g_autofree char *root = NULL;

    world->base = g_dir_make_tmp("safepath-XXXXXX", NULL);
    g_assert_nonnull(world->base);
    world->outside = g_build_filename(world->base, "outside", NULL);
    g_assert_true(g_file_set_contents(world->outside, "secret", -1, NULL));
    root = g_build_filename(world->base, "root", NULL);
    g_assert_cmpint(g_mkdir(root, 0755), ==, 0);
    world->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(world->root, >=, 0);
}

static void
tear_down(World *world, gconstpointer unused)
{
    (void)close(world->root);
    g_assert_true(agent_child_remove_tree(world->base, NULL));
    g_free(world->outside);
    g_free(world->base);
}

static void
check_outside(const World *world)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(world->outside, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "secret");
}

static void
put(const World *world, const char *name, const char *text)
{
    PVE_AUTOFD(fd) =
        openat(world->root, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    g_assert_true(pve_write_all(fd, text, strlen(text)));
}

/* Links are the container's: "/" and ".." end at its root. */
static void
test_links_stay_inside(World *world, gconstpointer unused)
{
    g_autofree char *text = NULL;
    gsize size = 0;

    g_assert_cmpint(symlinkat("../outside", world->root, "up"), ==, 0);
    g_assert_cmpint(symlinkat(world->outside, world->root, "abs"), ==, 0);
    g_assert_cmpint(symlinkat("/proc/self/root", world->root, "magic"), ==, 0);
    g_assert_cmpint(symlinkat("/inside", world->root, "fine"), ==, 0);
    put(world, "inside", "hello");
    g_assert_null(agent_safe_read(world->root, "up", 100, NULL));
    g_assert_null(agent_safe_read(world->root, "abs", 100, NULL));
    g_assert_null(agent_safe_read(world->root, "../outside", 100, NULL));
    g_assert_null(agent_safe_read(world->root, "magic/etc/passwd", 100, NULL));
    text = agent_safe_read(world->root, "fine", 4, &size);
    g_assert_cmpmem(text, size, "hell", 4);
}

/* A file that is none is not opened: a FIFO would block, a device might do
 * worse. */
static void
test_only_regular_files(World *world, gconstpointer unused)
{
    g_assert_cmpint(mkfifoat(world->root, "fifo", 0644), ==, 0);
    g_assert_null(agent_safe_read(world->root, "fifo", 100, NULL));
    g_assert_cmpint(agent_safe_open_regular(world->root, "fifo", O_WRONLY), <,
                    0);
    g_assert_cmpint(errno, ==, EINVAL);
    if (mknodat(world->root, "null", S_IFCHR | 0666, makedev(1, 3)) == 0) {
        g_assert_cmpint(agent_safe_open_regular(world->root, "null", O_WRONLY),
                        <, 0);
        g_assert_cmpint(errno, ==, EINVAL);
    }
}

static void
test_directories_through_no_link(World *world, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    PVE_AUTOFD(fd) = agent_safe_make_directory(world->root, "/a//b/c", getuid(),
                                               getgid(), &error);
    struct stat st;

    g_assert_no_error(error);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fstatat(world->root, "a/b/c", &st, 0), ==, 0);
    g_assert_cmpint(symlinkat("..", world->root, "a/way"), ==, 0);
    g_assert_cmpint(agent_safe_make_directory(world->root, "a/way/x", getuid(),
                                              getgid(), &error),
                    ==, -1);
    g_assert_cmpstr(error->message, ==, "symlink encountered at: a/way/x");
    g_clear_error(&error);
    g_assert_cmpint(agent_safe_make_directory(world->root, "a/../../x",
                                              getuid(), getgid(), &error),
                    ==, -1);
    g_assert_nonnull(error);
}

/* A link in the place of the file is replaced, not written through. */
static void
test_replace(World *world, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    g_assert_cmpint(mkdirat(world->root, "etc", 0755), ==, 0);
    g_assert_cmpint(symlinkat(world->outside, world->root, "etc/hostname"), ==,
                    0);
    agent_safe_replace(world->root, "etc", "hostname", "web\n", getuid(),
                       getgid(), &error);
    g_assert_no_error(error);
    check_outside(world);
    text = agent_safe_read(world->root, "etc/hostname", 100, NULL);
    g_assert_cmpstr(text, ==, "web\n");
}

/* Deeper than there are descriptors; links in it are not followed. */
static void
test_remove_tree(World *world, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(world->base, "root", NULL);
    int fd = dup(world->root);

    for (guint i = 0; i < 3000; i++) {
        int next;

        g_assert_cmpint(mkdirat(fd, "d", 0755), ==, 0);
        next = openat(fd, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        (void)close(fd);
        fd = next;
    }
    g_assert_cmpint(symlinkat(world->outside, fd, "link"), ==, 0);
    g_assert_cmpint(symlinkat(world->base, fd, "directory"), ==, 0);
    (void)close(fd);
    agent_child_remove_tree(path, &error);
    g_assert_no_error(error);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    check_outside(world);
    g_assert_true(agent_child_remove_tree(path, &error));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(World *, gconstpointer);
    } tests[] = {
        {"/safepath/links-stay-inside", test_links_stay_inside},
        {"/safepath/only-regular-files", test_only_regular_files},
        {"/safepath/directories", test_directories_through_no_link},
        {"/safepath/replace", test_replace},
        {"/safepath/remove-tree", test_remove_tree},
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, World, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
