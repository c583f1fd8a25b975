/* What a merge overruled is kept, and bounds are held. */
#include "config.h"

#include "pmxcfs/io/dbfile.h"
#include "pmxcfs/io/salvage.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

typedef struct {
    char *folder;
    GMainLoop *loop;
    GPtrArray *lines;
} World;

static void
on_line(gpointer data, const char *text)
{
    World *world = data;

    g_ptr_array_add(world->lines, g_strdup(text));
    g_main_loop_quit(world->loop);
}

static GPtrArray *
make_whole(void)
{
    g_autoptr(GBytes) data = g_bytes_new_static("content", 7);
    GPtrArray *whole =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_entry_unref);

    g_ptr_array_add(whole,
                    cfs_entry_new(0, 0, 9, 1, 5, CFS_TYPE_DIRECTORY, "", NULL));
    g_ptr_array_add(
        whole, cfs_entry_new(2, 0, 2, 1, 5, CFS_TYPE_DIRECTORY, "priv", NULL));
    g_ptr_array_add(whole,
                    cfs_entry_new(3, 2, 9, 1, 5, CFS_TYPE_FILE, "key", data));
    return whole;
}

static void
add(GPtrArray *overruled, const char *path, CfsEntry *entry)
{
    CfsOverruled *item = g_new0(CfsOverruled, 1);

    item->path = g_strdup(path);
    item->entry = cfs_entry_ref(entry);
    g_ptr_array_add(overruled, item);
}

static GPtrArray *
make_overruled(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)cfs_overruled_free);
}

static World
new_world(void)
{
    World world = {
        .folder = g_dir_make_tmp("salvage-XXXXXX", NULL),
        .loop = g_main_loop_new(NULL, FALSE),
        .lines = g_ptr_array_new_with_free_func(g_free),
    };

    g_assert_nonnull(world.folder);
    return world;
}

static void
remove_all(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_all(child);
    }
    (void)g_remove(path);
}

static void
end_world(World *world)
{
    remove_all(world->folder);
    g_free(world->folder);
    g_main_loop_unref(world->loop);
    g_ptr_array_unref(world->lines);
}

/* Returns: (owned) the folders below, sorted. */
static GPtrArray *
list(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_ptr_array_add(names, g_build_filename(path, name, NULL));
    }
    return names;
}

static void
assert_file(const char *folder, const char *path, const char *text)
{
    g_autofree char *whole = g_build_filename(folder, path, NULL);
    g_autofree char *found = NULL;
    struct stat st;

    g_assert_true(g_file_get_contents(whole, &found, NULL, NULL));
    g_assert_cmpstr(found, ==, text);
    g_assert_cmpint(g_stat(whole, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
}

static void
test_kept(void)
{
    World world = new_world();
    g_autofree char *folder = g_build_filename(world.folder, "recovery", NULL);
    CfsSalvage *salvage = cfs_salvage_new(folder, on_line, &world);
    g_autoptr(GPtrArray) whole = make_whole();
    g_autoptr(GPtrArray) overruled = make_overruled();
    g_autoptr(GPtrArray) folders = NULL;
    g_autoptr(CfsEntry) zeros =
        cfs_entry_new_sized(5, 0, 5, 1, 5, 3, CFS_TYPE_FILE, "zeros", NULL);
    struct stat st;

    add(overruled, "priv", whole->pdata[1]);
    add(overruled, "priv/key", whole->pdata[2]);
    add(overruled, "deep/down/zeros", zeros);
    cfs_salvage_keep(salvage, whole, overruled, (CfsMember){1, 7});
    g_main_loop_run(world.loop);
    cfs_salvage_free(salvage);
    g_assert_nonnull(
        strstr(world.lines->pdata[0],
               "from 1/7, which overruled entries of this node: 3."));
    folders = list(folder);
    g_assert_cmpuint(folders->len, ==, 1);
    g_assert_cmpint(g_stat(folders->pdata[0], &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
    assert_file(folders->pdata[0], "tree/priv/key", "content");
    assert_file(folders->pdata[0], "tree/deep/down/zeros", "");
    {
        g_autofree char *path =
            g_build_filename(folders->pdata[0], "config.db", NULL);
        sqlite3 *db = cfs_dbfile_open_readonly(path, NULL);
        g_autoptr(GPtrArray) rows = cfs_dbfile_read(db, NULL, NULL);

        g_assert_cmpuint(rows->len, ==, whole->len);
        (void)sqlite3_close(db);
    }
    end_world(&world);
}

/* Paths come from other nodes: none leads out of the folder. */
static void
test_hostile_paths(void)
{
    static const char *const paths[] = {"../out", "a/../../out", "..", "."};
    World world = new_world();
    g_autofree char *folder = g_build_filename(world.folder, "recovery", NULL);
    g_autofree char *out = g_build_filename(world.folder, "out", NULL);
    CfsSalvage *salvage = cfs_salvage_new(folder, on_line, &world);
    g_autoptr(GPtrArray) whole = make_whole();
    g_autoptr(GPtrArray) overruled = make_overruled();
    g_autoptr(GPtrArray) folders = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        add(overruled, paths[i], whole->pdata[2]);
    }
    add(overruled, "/good", whole->pdata[2]);
    add(overruled, "good", whole->pdata[2]);
    cfs_salvage_keep(salvage, whole, overruled, (CfsMember){1, 7});
    g_main_loop_run(world.loop);
    cfs_salvage_free(salvage);
    g_assert_false(g_file_test(out, G_FILE_TEST_EXISTS));
    folders = list(folder);
    g_assert_cmpuint(folders->len, ==, 1);
    assert_file(folders->pdata[0], "tree/good", "content");
    end_world(&world);
}

/* Five copies and fifty folders, the newest. What is not ours stays. */
static void
test_bounds(void)
{
    World world = new_world();
    CfsSalvage *salvage = cfs_salvage_new(world.folder, on_line, &world);
    g_autoptr(GPtrArray) whole = make_whole();
    g_autoptr(GPtrArray) none = make_overruled();
    g_autoptr(GPtrArray) some = make_overruled();
    g_autofree char *foreign = g_build_filename(world.folder, "mine", NULL);
    g_autoptr(GPtrArray) folders = NULL;
    guint n_databases = 0;

    add(some, "f", whole->pdata[2]);
    g_assert_cmpint(g_mkdir(foreign, 0700), ==, 0);
    for (guint i = 0; i < 8; i++) {
        cfs_salvage_keep(salvage, whole, none, (CfsMember){1, 7});
    }
    for (guint i = 0; i < 60; i++) {
        cfs_salvage_keep(salvage, whole, some, (CfsMember){1, 7});
    }
    /* Only so long is waited for at the end; on a slow disk, one at most. */
    while (world.lines->len < 60) {
        g_main_loop_run(world.loop);
    }
    cfs_salvage_free(salvage);
    folders = list(world.folder);
    for (guint i = 0; i < folders->len; i++) {
        g_autofree char *path =
            g_build_filename(folders->pdata[i], "config.db", NULL);

        n_databases += g_file_test(path, G_FILE_TEST_EXISTS);
    }
    g_assert_cmpuint(n_databases, ==, CFS_SALVAGE_DATABASES);
    g_assert_cmpuint(folders->len, <=, CFS_SALVAGE_FOLDERS + 1);
    g_assert_cmpuint(folders->len, >=, 40);
    g_assert_true(g_file_test(foreign, G_FILE_TEST_IS_DIR));
    end_world(&world);
}

/* Nowhere to keep it: said to all, and nothing else happens. */
static void
test_no_room(void)
{
    World world = new_world();
    g_autofree char *folder = g_build_filename(world.folder, "file", NULL);
    CfsSalvage *salvage;
    g_autoptr(GPtrArray) whole = make_whole();
    g_autoptr(GPtrArray) overruled = make_overruled();

    g_assert_true(g_file_set_contents(folder, "x", 1, NULL));
    salvage = cfs_salvage_new(folder, on_line, &world);
    add(overruled, "f", whole->pdata[2]);
    cfs_salvage_keep(salvage, whole, overruled, (CfsMember){1, 7});
    g_main_loop_run(world.loop);
    cfs_salvage_free(salvage);
    g_assert_nonnull(strstr(world.lines->pdata[0], "could not all"));
    end_world(&world);
}

/* A full disk: nothing is written, and that is said. */
static void
test_full_disk(void)
{
    World world = new_world();
    CfsSalvage *salvage;
    g_autoptr(GPtrArray) whole = make_whole();
    g_autoptr(GPtrArray) overruled = make_overruled();
    g_autoptr(GPtrArray) left = NULL;

    if (mount("salvage", world.folder, "tmpfs", 0, "size=512k") != 0) {
        g_test_skip("needs root");
        end_world(&world);
        return;
    }
    salvage = cfs_salvage_new(world.folder, on_line, &world);
    add(overruled, "f", whole->pdata[2]);
    cfs_salvage_keep(salvage, whole, overruled, (CfsMember){1, 7});
    g_main_loop_run(world.loop);
    cfs_salvage_free(salvage);
    g_assert_nonnull(strstr(world.lines->pdata[0], "too little room"));
    left = list(world.folder);
    g_assert_cmpuint(left->len, ==, 0);
    g_assert_cmpint(umount(world.folder), ==, 0);
    end_world(&world);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* Warnings are what is tested. */
    (void)g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);
    g_test_add_func("/salvage/kept", test_kept);
    g_test_add_func("/salvage/hostile-paths", test_hostile_paths);
    g_test_add_func("/salvage/bounds", test_bounds);
    g_test_add_func("/salvage/no-room", test_no_room);
    g_test_add_func("/salvage/full-disk", test_full_disk);
    return g_test_run();
}
