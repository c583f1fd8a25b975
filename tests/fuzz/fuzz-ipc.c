/* A request as it is on the local socket, by a client that may or may not
 * write: the first byte says which; then the operation, ours from 128 on,
 * and the payload. There is a snapshot to ask about. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/ipc-proto.h"
#include "pmxcfs/core/ipc-ops.h"

#include <string.h>

static void
put(CfsTree *tree, CfsOp *take)
{
    g_autoptr(CfsOp) op = take;

    (void)cfs_tree_apply(tree, op, 0, 1, NULL);
}

/* What there is to find: files, guests, a token. */
static CfsReplica *
make_replica(CfsStatus *status)
{
    static const char text[] = "lock: backup\ntags: a;b\n[snap]\nlock: x\n";
    static const char *const folders[] = {"priv", "nodes", "nodes/n1",
                                          "nodes/n1/lxc"};
    static const char *const files[] = {"priv/token.cfg", "storage.cfg",
                                        "nodes/n1/lxc/100.conf"};
    g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));
    CfsViews *views = cfs_views_new("n1", 1);
    CfsTree *tree = cfs_tree_new(1);

    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        put(tree, cfs_op_new(CFS_OP_MKDIR, folders[i]));
    }
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        put(tree, cfs_op_new(CFS_OP_CREATE, files[i]));
        put(tree, cfs_op_new_write(files[i], bytes, 0));
    }
    cfs_views_set_status(views, status);
    return cfs_replica_new(tree, views);
}

/* A snapshot to ask about. */
static void
hold(const CfsIpcContext *context)
{
    g_autoptr(GBytes) answer = NULL;
    guint8 nothing = 0;

    g_assert_cmpint(
        cfs_ipc_answer(context, PVE_IPC_SNAPSHOT, &nothing, 0, &answer), ==, 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsStatus) status = NULL;
    g_autoptr(CfsReplica) replica = NULL;
    g_autoptr(CfsWatch) watch = NULL;
    CfsIpcShared shared = {0};
    g_autoptr(CfsIpcSession) session = NULL;
    g_autofree guint8 *payload = NULL;
    g_autoptr(GBytes) answer = NULL;
    CfsIpcContext context = {.pid = 1, .time_s = 1};
    gint32 id;
    int verdict;

    if (size < 2 || size - 2 > PVE_IPC_MAX_MESSAGE) {
        return 0;
    }
    status = cfs_status_new("n1");
    replica = make_replica(status);
    watch = cfs_watch_new(1, 16, 4096);
    cfs_watch_note(watch, PVE_EVENT_LOG, 1, 0, NULL, NULL);
    shared.replica = replica;
    shared.watch = watch;
    context.replica = replica;
    context.is_read_only = data[0] & 1;
    session = cfs_ipc_session_new(&shared, context.is_read_only);
    context.session = session;
    id = data[1] < 128 ? data[1] : PVE_IPC_SYNC + data[1] - 128;
    if (id == PVE_IPC_LIST || id == PVE_IPC_READ || id == PVE_IPC_RELEASE) {
        hold(&context);
    }
    payload = g_malloc(size - 1);
    memcpy(payload, data + 2, size - 2);
    payload[size - 2] = '\0';
    verdict = cfs_ipc_answer(&context, id, payload, size - 2, &answer);
    g_assert_true(verdict >= 0 && (verdict == 0 || answer == NULL));
    g_assert_true(answer == NULL ||
                  g_bytes_get_size(answer) <= PVE_IPC_MAX_PAYLOAD);
    return 0;
}
