#include "config.h"

#include "pmxcfs/core/watch.h"

#include "common/wire.h"

#include <string.h>

typedef struct {
    CfsTree *tree;
    CfsWatch *watch;
} Fixture;

#define MAX_EVENTS 8u

static void
setup(Fixture *f, gconstpointer unused)
{
    f->tree = cfs_tree_new(1);
    f->watch = cfs_watch_new(7, MAX_EVENTS, 4096);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_watch_free(f->watch);
    cfs_tree_free(f->tree);
}

/* As the replica says it. */
static void
apply(Fixture *f, CfsOp *take)
{
    g_autoptr(CfsOp) op = take;
    g_autoptr(GPtrArray) changes = cfs_changes_new();
    CfsEffect effect = {.kind = CFS_EFFECT_CHANGED};

    g_assert_cmpint(cfs_tree_apply(f->tree, op, 3, 1, changes), ==, 0);
    effect.changed.changes = changes;
    effect.changed.version = cfs_tree_root(f->tree)->version;
    effect.changed.writer = 3;
    cfs_watch_on_changed(f->watch, &effect,
                         PVE_EVENT_SYNCED | PVE_EVENT_QUORATE);
}

static CfsWatcher *
watch_paths(Fixture *f, guint32 kinds, const char *paths, gboolean is_read_only)
{
    g_auto(GStrv) words = g_strsplit(paths, " ", -1);
    GPtrArray *prefixes = g_ptr_array_new_with_free_func(g_free);

    for (char **word = words; *word != NULL; word++) {
        g_ptr_array_add(prefixes, g_strdup(*word));
    }
    if (prefixes->len == 0) {
        g_ptr_array_add(prefixes, g_strdup(""));
    }
    return cfs_watcher_new(f->watch, kinds, prefixes, is_read_only);
}

/* Appends "KIND:path>other " of each record. */
static void
describe(GString *out, PveReader *reader)
{
    static const char kinds[] = "CWDRSLQMGKOYX";
    guint32 size = pve_reader_u32(reader);
    guint16 kind = pve_reader_u16(reader);
    const char *path, *other;

    (void)pve_reader_take(reader, PVE_IPC_EVENT_FIXED - 6);
    g_assert_cmpuint(kind, <, PVE_EVENT_N_KINDS);
    path = (const char *)reader->bytes + reader->offset;
    (void)pve_reader_string(reader, strlen(path) + 1);
    other = (const char *)reader->bytes + reader->offset;
    (void)pve_reader_string(reader, strlen(other) + 1);
    g_assert_true(pve_reader_ok(reader));
    g_assert_cmpuint(size, ==,
                     PVE_IPC_EVENT_FIXED + strlen(path) + strlen(other) + 2);
    g_string_append_printf(out, "%c:%s%s%s ", kinds[kind], path,
                           *other != '\0' ? ">" : "", other);
}

/* All that comes next, in messages of at most @max bytes. */
static void
expect_within(CfsWatcher *watcher, gsize max, const char *wanted)
{
    g_autoptr(GString) got = g_string_new(NULL);
    guint64 place;

    do {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        PveReader reader;

        place = cfs_watcher_next(watcher, bytes, max);
        pve_reader_init(&reader, bytes->data, bytes->len);
        while (pve_reader_left(&reader) > 0) {
            describe(got, &reader);
        }
        if (place != 0) {
            cfs_watcher_move(watcher, place);
        }
    } while (place != 0);
    g_assert_cmpstr(got->str, ==, wanted);
}

static void
expect(CfsWatcher *watcher, const char *wanted)
{
    expect_within(watcher, 16384, wanted);
}

static void
write_text(Fixture *f, const char *path, const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

    apply(f, cfs_op_new_write(path, bytes, 0));
}

static void
test_kinds(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) all = watch_paths(f, PVE_EVENT_ALL, "", FALSE);
    g_autoptr(CfsWatcher) quorum =
        watch_paths(f, PVE_EVENT_BIT(PVE_EVENT_QUORUM), "", FALSE);

    apply(f, cfs_op_new(CFS_OP_MKDIR, "d"));
    apply(f, cfs_op_new(CFS_OP_CREATE, "d/f"));
    write_text(f, "d/f", "x");
    cfs_watch_on_settled(f->watch, cfs_tree_lookup(f->tree, "d/f"), "d/f", 2, 9,
                         0);
    apply(f, cfs_op_new_rename("d/f", "g"));
    apply(f, cfs_op_new(CFS_OP_DELETE, "g"));
    cfs_watch_note(f->watch, PVE_EVENT_QUORUM, 9, 1, NULL, NULL);
    cfs_watch_note(f->watch, PVE_EVENT_STATUS, 9, 1, "kv/a", "n1");
    expect(all, "C:d C:d/f W:d/f S:d/f R:d/f>g D:g Q: K:kv/a>n1 ");
    expect(all, "");
    expect(quorum, "Q: ");
    apply(f, cfs_op_new(CFS_OP_DELETE, "d"));
    /* Each in a message of its own. */
    cfs_watch_note(f->watch, PVE_EVENT_LOG, 9, 0, NULL, NULL);
    expect_within(all, 1, "D:d O: ");
}

static void
test_paths(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) some = watch_paths(f, PVE_EVENT_ALL, "a b/c", FALSE);

    apply(f, cfs_op_new(CFS_OP_MKDIR, "a"));
    apply(f, cfs_op_new(CFS_OP_MKDIR, "ab"));
    apply(f, cfs_op_new(CFS_OP_MKDIR, "b"));
    apply(f, cfs_op_new(CFS_OP_MKDIR, "b/c"));
    apply(f, cfs_op_new(CFS_OP_CREATE, "b/c/d"));
    apply(f, cfs_op_new_rename("b/c/d", "e"));
    apply(f, cfs_op_new_rename("e", "a/e"));
    expect(some, "C:a C:b/c C:b/c/d R:b/c/d>e R:e>a/e ");
}

static void
test_private(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) reader = watch_paths(f, PVE_EVENT_ALL, "", TRUE);

    apply(f, cfs_op_new(CFS_OP_MKDIR, "priv"));
    apply(f, cfs_op_new(CFS_OP_CREATE, "priv/a"));
    apply(f, cfs_op_new_rename("priv/a", "priv/b"));
    apply(f, cfs_op_new_rename("priv/b", "b"));
    apply(f, cfs_op_new_rename("b", "priv/c"));
    apply(f, cfs_op_new(CFS_OP_DELETE, "priv/c"));
    expect(reader, "C:b D:b ");
}

static void
test_lost(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) slow = watch_paths(f, PVE_EVENT_ALL, "", FALSE);

    for (guint i = 0; i < MAX_EVENTS; i++) {
        cfs_watch_note(f->watch, PVE_EVENT_LOG, 1, i, NULL, NULL);
    }
    expect(slow, "O: O: O: O: O: O: O: O: ");
    for (guint i = 0; i < MAX_EVENTS + 1; i++) {
        cfs_watch_note(f->watch, PVE_EVENT_LOG, 1, i, NULL, NULL);
    }
    expect(slow, "X: ");
    cfs_watch_note(f->watch, PVE_EVENT_GUESTS, 1, 1, NULL, NULL);
    expect(slow, "G: ");
}

/* The bytes have a bound of their own. */
static void
test_lost_bytes(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) slow = watch_paths(f, PVE_EVENT_ALL, "", FALSE);
    g_autofree char *name = g_strnfill(1500, 'n');

    cfs_watch_note(f->watch, PVE_EVENT_STATUS, 1, 0, name, NULL);
    cfs_watch_note(f->watch, PVE_EVENT_STATUS, 1, 0, name, NULL);
    expect(slow, "X: ");
}

static void
test_seek(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsWatcher) again = watch_paths(f, PVE_EVENT_ALL, "", FALSE);

    for (guint i = 0; i < MAX_EVENTS + 2; i++) {
        cfs_watch_note(f->watch, PVE_EVENT_LOG, 1, i, NULL, NULL);
    }
    g_assert_cmpuint(cfs_watch_last(f->watch), ==, MAX_EVENTS + 2);
    g_assert_false(cfs_watcher_seek(again, 7, 1));
    g_assert_false(cfs_watcher_seek(again, 6, 8));
    g_assert_false(cfs_watcher_seek(again, 7, MAX_EVENTS + 3));
    g_assert_true(cfs_watcher_seek(again, 7, 2));
    g_assert_true(cfs_watcher_seek(again, 7, 8));
    expect(again, "O: O: ");
    g_assert_true(cfs_watcher_seek(again, 7, MAX_EVENTS + 2));
    expect(again, "");
}

#define ADD(name, function)                                                    \
    g_test_add("/watch/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("kinds", test_kinds);
    ADD("paths", test_paths);
    ADD("private", test_private);
    ADD("lost", test_lost);
    ADD("lost-bytes", test_lost_bytes);
    ADD("seek", test_seek);
    return g_test_run();
}
