/* A request as it is on the local socket, by a client that may or may not
 * write: the first byte says which; then the operation and the payload. */
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
make_replica(void)
{
    static const char text[] = "lock: backup\ntags: a;b\n[snap]\nlock: x\n";
    static const char *const folders[] = {"priv", "nodes", "nodes/n1",
                                          "nodes/n1/lxc"};
    static const char *const files[] = {"priv/token.cfg", "storage.cfg",
                                        "nodes/n1/lxc/100.conf"};
    g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));
    CfsTree *tree = cfs_tree_new(1);

    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        put(tree, cfs_op_new(CFS_OP_MKDIR, folders[i]));
    }
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        put(tree, cfs_op_new(CFS_OP_CREATE, files[i]));
        put(tree, cfs_op_new_write(files[i], bytes, 0));
    }
    return cfs_replica_new(tree, cfs_views_new("n1", 1));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsStatus) status = NULL;
    g_autoptr(CfsReplica) replica = NULL;
    g_autofree guint8 *payload = NULL;
    g_autoptr(GBytes) answer = NULL;
    CfsIpcContext context = {.pid = 1, .time_s = 1};
    int verdict;

    if (size < 2 || size - 2 > PVE_IPC_MAX_MESSAGE) {
        return 0;
    }
    replica = make_replica();
    status = cfs_status_new("n1");
    cfs_views_set_status(cfs_replica_views(replica), status);
    context.replica = replica;
    context.is_read_only = data[0] & 1;
    payload = g_malloc(size - 1);
    memcpy(payload, data + 2, size - 2);
    payload[size - 2] = '\0';
    verdict = cfs_ipc_answer(&context, data[1], payload, size - 2, &answer);
    g_assert_true(verdict >= 0 && (verdict == 0 || answer == NULL));
    g_assert_true(answer == NULL ||
                  g_bytes_get_size(answer) <= PVE_IPC_MAX_PAYLOAD);
    return 0;
}
