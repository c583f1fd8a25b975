#include "config.h"

#include "pmxcfs/core/ipc-session.h"

#include "common/wire.h"

#include <errno.h>
#include <string.h>

typedef struct {
    CfsReplica *replica;
    CfsWatch *watch;
    CfsIpcShared shared;
    CfsIpcSession *session;
} Fixture;

static void
apply(Fixture *f, CfsOp *take)
{
    g_autoptr(CfsOp) op = take;

    g_assert_cmpint(
        cfs_tree_apply(cfs_replica_tree(f->replica), op, 0, 1, NULL), ==, 0);
}

static void
put(Fixture *f, const char *path, const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

    if (cfs_tree_lookup(cfs_replica_tree(f->replica), path) == NULL) {
        apply(f, cfs_op_new(CFS_OP_CREATE, path));
    }
    apply(f, cfs_op_new_write(path, bytes, 0));
}

static void
setup(Fixture *f, gconstpointer unused)
{
    f->replica = cfs_replica_new(cfs_tree_new(1), cfs_views_new("n1", 100));
    f->watch = cfs_watch_new(100, 64, 65536);
    f->shared = (CfsIpcShared){.replica = f->replica, .watch = f->watch};
    f->session = cfs_ipc_session_new(&f->shared, FALSE);
    apply(f, cfs_op_new(CFS_OP_MKDIR, "priv"));
    put(f, "priv/key", "secret");
    put(f, "a.cfg", "one");
    apply(f, cfs_op_new(CFS_OP_MKDIR, "d"));
    put(f, "d/b.cfg", "two");
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_ipc_session_free(f->session);
    g_assert_cmpuint(f->shared.n_snapshots, ==, 0);
    cfs_watch_free(f->watch);
    cfs_replica_free(f->replica);
}

static guint32
hold(CfsIpcSession *session, gint64 clock_ms)
{
    g_autoptr(GBytes) answer = NULL;
    PveReader none, reader;

    pve_reader_init(&none, NULL, 0);
    g_assert_cmpint(cfs_ipc_session_snapshot(session, &none, clock_ms, &answer),
                    ==, 0);
    pve_reader_init_bytes(&reader, answer);
    return pve_reader_u32(&reader);
}

static int
list(CfsIpcSession *session,
     guint32 id,
     guint32 position,
     const char *prefix,
     GBytes **answer)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    PveReader reader;

    pve_write_u32(bytes, id);
    pve_write_u32(bytes, position);
    pve_write_u32(bytes, 1000);
    pve_write_string(bytes, prefix);
    pve_reader_init(&reader, bytes->data, bytes->len);
    return cfs_ipc_session_list(session, &reader, 0, answer);
}

/* Returns: (owned) "path=content " of each entry of a whole listing. */
static char *
listing(CfsIpcSession *session, guint32 id, const char *prefix)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GBytes) answer = NULL;
    PveReader reader;

    g_assert_cmpint(list(session, id, 0, prefix, &answer), ==, 0);
    pve_reader_init_bytes(&reader, answer);
    g_assert_cmpuint(pve_reader_u32(&reader), ==, 0);
    while (pve_reader_left(&reader) > 0) {
        guint32 size = pve_reader_u32(&reader), content;
        const char *path;

        (void)pve_reader_take(&reader, 8 * 3 + 4 * 3);
        content = pve_reader_u32(&reader);
        (void)pve_reader_u8(&reader);
        path = (const char *)reader.bytes + reader.offset;
        g_assert_nonnull(pve_reader_string(&reader, size - content - 45));
        g_string_append_printf(out, "%s=%.*s ", path, (int)content,
                               (const char *)pve_reader_take(&reader, content));
        g_assert_true(pve_reader_ok(&reader));
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void
expect_listing(CfsIpcSession *session,
               guint32 id,
               const char *prefix,
               const char *wanted)
{
    g_autofree char *got = listing(session, id, prefix);

    g_assert_cmpstr(got, ==, wanted);
}

/* What was held stays as it was. */
static void
test_snapshot(Fixture *f, gconstpointer unused)
{
    guint32 id = hold(f->session, 0);

    put(f, "a.cfg", "new");
    apply(f, cfs_op_new(CFS_OP_DELETE, "d/b.cfg"));
    expect_listing(f->session, id, "",
                   "= priv= priv/key=secret a.cfg=one d= d/b.cfg=two ");
    expect_listing(f->session, id, "//d/", "d= d/b.cfg=two ");
    expect_listing(f->session, id, "a.cfg", "a.cfg=one ");
    expect_listing(f->session, id, "a", "");
    id = hold(f->session, 0);
    expect_listing(f->session, id, "a.cfg", "a.cfg=new ");
}

static void
test_private(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsIpcSession) reader = cfs_ipc_session_new(&f->shared, TRUE);

    expect_listing(reader, hold(reader, 0), "", "= a.cfg=one d= d/b.cfg=two ");
    expect_listing(reader, hold(reader, 0), "priv", "");
}

static int
read_part(CfsIpcSession *session,
          guint32 id,
          guint64 inode,
          const char *path,
          guint32 offset,
          GBytes **answer)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    PveReader reader;

    pve_write_u32(bytes, id);
    pve_write_u64(bytes, inode);
    pve_write_u32(bytes, offset);
    pve_write_u32(bytes, 100);
    pve_write_string(bytes, path);
    pve_reader_init(&reader, bytes->data, bytes->len);
    return cfs_ipc_session_read(session, &reader, 0, answer);
}

static void
expect_read(Fixture *f,
            guint32 id,
            guint64 inode,
            const char *path,
            guint32 offset,
            const char *wanted)
{
    g_autoptr(GBytes) answer = NULL;

    g_assert_cmpint(read_part(f->session, id, inode, path, offset, &answer), ==,
                    0);
    g_assert_cmpmem((const guint8 *)g_bytes_get_data(answer, NULL) + 45,
                    g_bytes_get_size(answer) - 45, wanted, strlen(wanted));
}

static int
read_verdict(CfsIpcSession *session,
             guint32 id,
             guint64 inode,
             const char *path)
{
    g_autoptr(GBytes) answer = NULL;

    return read_part(session, id, inode, path, 0, &answer);
}

static void
test_read(Fixture *f, gconstpointer unused)
{
    CfsTree *tree = cfs_replica_tree(f->replica);
    guint64 inode = cfs_tree_lookup(tree, "a.cfg")->inode;
    guint64 key = cfs_tree_lookup(tree, "priv/key")->inode;
    guint32 id = hold(f->session, 0);
    g_autoptr(CfsIpcSession) reader = cfs_ipc_session_new(&f->shared, TRUE);

    put(f, "a.cfg", "new");
    expect_read(f, 0, 0, "/a.cfg", 0, "new");
    expect_read(f, 0, inode, "", 1, "ew");
    expect_read(f, 0, inode, "", 3, "");
    expect_read(f, 0, inode, "", G_MAXUINT32, "");
    expect_read(f, id, inode, "", 0, "one");
    g_assert_cmpint(read_verdict(f->session, 0, 0, "no"), ==, ENOENT);
    g_assert_cmpint(read_verdict(f->session, 0, 0, "d"), ==, EISDIR);
    g_assert_cmpint(read_verdict(f->session, 0, 999, ""), ==, ENOENT);
    g_assert_cmpint(read_verdict(f->session, 99, inode, ""), ==, ESTALE);
    g_assert_cmpint(read_verdict(reader, 0, 0, "priv/none"), ==, EPERM);
    g_assert_cmpint(read_verdict(reader, 0, key, ""), ==, EPERM);
    g_assert_cmpint(read_verdict(reader, hold(reader, 0), key, ""), ==, EPERM);
}

/* What is held is bounded, in number and in time. */
static void
test_bounds(Fixture *f, gconstpointer unused)
{
    CfsIpcSession *all[CFS_IPC_ALL_SNAPSHOTS];
    guint32 first = hold(f->session, 0);
    g_autoptr(GBytes) answer = NULL;
    PveReader none;

    (void)hold(f->session, 0);
    (void)hold(f->session, 0);
    g_assert_cmpuint(f->shared.n_snapshots, ==, CFS_IPC_SNAPSHOTS);
    g_assert_cmpint(list(f->session, first, 0, "", &answer), ==, ESTALE);
    for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
        all[i] = cfs_ipc_session_new(&f->shared, FALSE);
        if (f->shared.n_snapshots < CFS_IPC_ALL_SNAPSHOTS) {
            (void)hold(all[i], 5);
        }
    }
    pve_reader_init(&none, NULL, 0);
    g_assert_cmpint(cfs_ipc_session_snapshot(all[15], &none, 0, &answer), ==,
                    EBUSY);
    cfs_ipc_session_expire(all[0], 5 + CFS_IPC_SNAPSHOT_MS);
    g_assert_cmpuint(f->shared.n_snapshots, ==, CFS_IPC_ALL_SNAPSHOTS);
    cfs_ipc_session_expire(all[0], 6 + CFS_IPC_SNAPSHOT_MS);
    g_assert_cmpuint(f->shared.n_snapshots, ==, CFS_IPC_ALL_SNAPSHOTS - 1);
    for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
        cfs_ipc_session_free(all[i]);
    }
}

static int
subscribe(Fixture *f, const void *bytes, gsize size)
{
    g_autoptr(GBytes) answer = NULL;
    PveReader reader;

    pve_reader_init(&reader, bytes, size);
    return cfs_ipc_session_subscribe(f->session, &reader, &answer);
}

static void
test_subscribe(Fixture *f, gconstpointer unused)
{
    guint8 request[24] = {0xff};

    g_assert_cmpint(subscribe(f, request, 22), ==, 0);
    g_assert_nonnull(cfs_ipc_session_watcher(f->session));
    g_assert_cmpint(subscribe(f, request, 21), ==, EINVAL);
    g_assert_cmpint(subscribe(f, request, 23), ==, EINVAL);
    request[20] = 1;
    g_assert_cmpint(subscribe(f, request, 22), ==, EINVAL);
    g_assert_cmpint(subscribe(f, request, 23), ==, 0);
    request[22] = 'x';
    g_assert_cmpint(subscribe(f, request, 23), ==, EINVAL);
    g_assert_cmpint(subscribe(f, request, 24), ==, 0);
    request[20] = 255;
    g_assert_cmpint(subscribe(f, request, 24), ==, E2BIG);
}

#define ADD(name, function)                                                    \
    g_test_add("/ipc-session/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("snapshot", test_snapshot);
    ADD("private", test_private);
    ADD("read", test_read);
    ADD("bounds", test_bounds);
    ADD("subscribe", test_subscribe);
    return g_test_run();
}
