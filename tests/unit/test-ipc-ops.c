#include "config.h"

#include "common/ipc-proto.h"
#include "pmxcfs/core/guest-props.h"
#include "pmxcfs/core/ipc-ops.h"

#include <errno.h>
#include <string.h>

typedef struct {
    CfsStatus *status;
    CfsReplica *replica;
    CfsWatch *watch;
    CfsIpcShared shared;
    CfsIpcSession *session;
    CfsIpcContext context;
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

    apply(f, cfs_op_new(CFS_OP_CREATE, path));
    if (*text != '\0') {
        apply(f, cfs_op_new_write(path, bytes, 0));
    }
}

static void
setup(Fixture *f, gconstpointer unused)
{
    static const char *const folders[] = {
        "priv", "nodes", "nodes/n1", "nodes/n1/lxc", "nodes/n1/qemu-server"};

    f->status = cfs_status_new("n1");
    f->replica = cfs_replica_new(cfs_tree_new(1), cfs_views_new("n1", 100));
    cfs_views_set_status(cfs_replica_views(f->replica), f->status);
    f->watch = cfs_watch_new(100, 64, 65536);
    f->shared = (CfsIpcShared){.replica = f->replica, .watch = f->watch};
    f->session = cfs_ipc_session_new(&f->shared, FALSE);
    f->context = (CfsIpcContext){.replica = f->replica,
                                 .session = f->session,
                                 .pid = 7,
                                 .time_s = 1000,
                                 .clock_ms = 5000};
    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        apply(f, cfs_op_new(CFS_OP_MKDIR, folders[i]));
    }
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_ipc_session_free(f->session);
    g_assert_cmpuint(f->shared.n_snapshots, ==, 0);
    cfs_watch_free(f->watch);
    cfs_replica_free(f->replica);
    cfs_status_free(f->status);
}

/* Returns: (owned) the answer, or "errno N". */
static char *
ask(Fixture *f, gint32 id, gconstpointer bytes, gsize size)
{
    g_autofree guint8 *payload = g_malloc0(size + 1);
    g_autoptr(GBytes) answer = NULL;
    int verdict;

    if (size > 0) {
        memcpy(payload, bytes, size);
    }
    verdict = cfs_ipc_answer(&f->context, id, payload, size, &answer);
    if (verdict != 0) {
        g_assert_null(answer);
        return g_strdup_printf("errno %d", verdict);
    }
    return answer != NULL && g_bytes_get_size(answer) > 0
               ? g_strndup(g_bytes_get_data(answer, NULL),
                           g_bytes_get_size(answer))
               : g_strdup("");
}

static void
expect(
    Fixture *f, gint32 id, gconstpointer bytes, gsize size, const char *wanted)
{
    g_autofree char *got = ask(f, id, bytes, size);

    g_assert_cmpstr(got, ==, wanted);
}

static void
expect_errno(Fixture *f, gint32 id, gconstpointer bytes, gsize size, int wanted)
{
    g_autofree char *text = g_strdup_printf("errno %d", wanted);

    expect(f, id, bytes, size, text);
}

/* spec/ipc.md 4; row: 9 */
static void
test_find(void)
{
    static const struct {
        const char *text, *name, *value; /* NULL: not there */
    } rows[] = {
        {"lock: backup\n", "lock", "backup"},
        {"lock:backup", "lock", "backup"},
        {"lock:\n", "lock", NULL},
        {"lock:", "lock", NULL},
        {"lock: \n", "lock", NULL},
        {"lock :x\n", "lock", NULL},
        {" lock:x\n", "lock", NULL},
        {"lockx:y\n", "lock", NULL},
        {"Lock:y\n", "lock", NULL},
        {"lock: \t a b\v\f\r\n", "lock", "a b"},
        {"\n\nlock: a\nlock: b\nlock: c\n", "lock", "c"},
        {"lock: a\nlock:\n", "lock", "a"},
        {"[pve:pending]\nlock: a\n", "lock", NULL},
        {"a: 1\n[snap]\nlock: a\n", "lock", NULL},
        {"a: 1\n[snap]\nlock: a\n", "a", "1"},
        {"# comment with lock: nope\n", "# comment with lock", "nope"},
        {":x\n", "", "x"},
        {"", "lock", NULL},
        {"lock", "lock", NULL},
        {"l", "lock", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *value = cfs_guest_prop_find(
            rows[i].text, strlen(rows[i].text), rows[i].name);

        g_test_message("%s", rows[i].text);
        g_assert_cmpstr(value, ==, rows[i].value);
    }
}

static void
test_property(Fixture *f, gconstpointer unused)
{
    put(f, "nodes/n1/lxc/100.conf", "lock: backup\nhostname: ct100\n");
    put(f, "nodes/n1/qemu-server/101.conf", "name: a\"b\\c\x01\xff\n");
    put(f, "nodes/n1/lxc/7.conf", "lock: low\n");
    put(f, "nodes/n1/lxc/102.conf", "");

    expect(f, PVE_IPC_GUEST_PROPERTY, "d\0\0\0lock", 9,
           "{\n\"100\":{\"lock\": \"backup\"}\n}\n");
    expect(
        f, PVE_IPC_GUEST_PROPERTY, "\0\0\0\0lock", 9,
        "{\n\"7\":{\"lock\": \"low\"},\n\"100\":{\"lock\": \"backup\"}\n}\n");
    expect(f, PVE_IPC_GUEST_PROPERTY, "e\0\0\0name", 9,
           "{\n\"101\":{\"name\": \"a\\\"b\\\\c\\u0001?\"}\n}\n");
    expect(f, PVE_IPC_GUEST_PROPERTY, "d\0\0\0none", 9, "{\n\n}\n");
    expect(f, PVE_IPC_GUEST_PROPERTY, "f\0\0\0lock", 9, "{\n\n}\n");
    expect_errno(f, PVE_IPC_GUEST_PROPERTY, "\x07\0\0\0lock", 9, EINVAL);
    expect_errno(f, PVE_IPC_GUEST_PROPERTY, "g\0\0\0lock", 9, ENOENT);
    expect_errno(f, PVE_IPC_GUEST_PROPERTY, "g\0\0\0", 4, ENOENT);
    expect_errno(f, PVE_IPC_GUEST_PROPERTY, "d\0\0\0", 4, EINVAL);
    expect_errno(f, PVE_IPC_GUEST_PROPERTY, "d\0\0", 3, EINVAL);
}

static void
test_properties(Fixture *f, gconstpointer unused)
{
    static const struct {
        const char *payload;
        gsize size;
        int verdict;
    } rows[] = {
        {"d\0\0\0", 4, EINVAL},           {"d\0\0\0\1", 5, EINVAL},
        {"d\0\0\0\0lock", 10, EINVAL},    {"d\0\0\0\1\0", 6, EINVAL},
        {"d\0\0\0\1lock", 9, EINVAL},     {"d\0\0\0\1Lock", 10, EINVAL},
        {"d\0\0\0\1lock\0x", 12, EINVAL}, {"d\0\0\0\2lock", 10, EINVAL},
        {"\x63\0\0\0\0", 5, EINVAL},      {"g\0\0\0\0", 5, ENOENT},
    };

    put(f, "nodes/n1/lxc/100.conf", "lock: backup\nhostname: ct100\n");
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%u", i);
        expect_errno(f, PVE_IPC_GUEST_PROPERTIES, rows[i].payload, rows[i].size,
                     rows[i].verdict);
    }
    expect(f, PVE_IPC_GUEST_PROPERTIES, "d\0\0\0\3hostname\0nosuch\0lock", 26,
           "{\n\"100\":{\"hostname\": \"ct100\",\"lock\": \"backup\"}\n}\n");
    expect(f, PVE_IPC_GUEST_PROPERTIES, "\0\0\0\0\2lock\0lock", 15,
           "{\n\"100\":{\"lock\": \"backup\",\"lock\": \"backup\"}\n}\n");
}

/* row: 10 */
static void
test_token(Fixture *f, gconstpointer unused)
{
    static const struct {
        const char *token;
        gsize size;
        int verdict;
    } rows[] = {
        {"", 0, EINVAL},
        {"", 1, EINVAL},
        {"a@pam!t 1", 9, EINVAL}, /* without its NUL */
        {"a@pam!t\n1", 10, EINVAL},
        {"a@p\0m!t 1", 10, EINVAL},
        {"a@pam!t 1", 10, 0},
        {"b@pam!t 2 ", 11, 0},
        {"b@pam!t 2", 10, ENOENT},
        {"c@pam!t 3\r", 11, 0},
        {"d@pam!t 4", 10, 0},
        {"@pam!t 1", 9, ENOENT},
        {"A@pam!t 1", 10, ENOENT},
    };

    expect_errno(f, PVE_IPC_VERIFY_TOKEN, "a 1", 4, ENOENT);
    put(f, "priv/token.cfg", "a@pam!t 1\nb@pam!t 2 \nc@pam!t 3\r\n\nd@pam!t 4");
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].token);
        if (rows[i].verdict == 0) {
            expect(f, PVE_IPC_VERIFY_TOKEN, rows[i].token, rows[i].size, "");
        } else {
            expect_errno(f, PVE_IPC_VERIFY_TOKEN, rows[i].token, rows[i].size,
                         rows[i].verdict);
        }
    }
}

static void
test_private(Fixture *f, gconstpointer unused)
{
    put(f, "priv/shadow.cfg", "secret");
    expect(f, PVE_IPC_GET_CONFIG, "priv/shadow.cfg", 16, "secret");
    f->context.is_read_only = TRUE;
    expect_errno(f, PVE_IPC_GET_CONFIG, "priv/shadow.cfg", 16, EPERM);
    expect_errno(f, PVE_IPC_GET_CONFIG, "nodes//n1//priv/x", 18, EPERM);
    expect_errno(f, PVE_IPC_GET_CONFIG, "nodes/n1/lxc/priv", 18, ENOENT);
}

/* A file of zeros that came without content. */
static void
test_zeros(Fixture *f, gconstpointer unused)
{
    apply(f, cfs_op_new(CFS_OP_CREATE, "z"));
    apply(f, cfs_op_new_truncate("z", 3));
    {
        guint8 path[] = "z";
        g_autoptr(GBytes) answer = NULL;

        g_assert_cmpint(
            cfs_ipc_answer(&f->context, PVE_IPC_GET_CONFIG, path, 2, &answer),
            ==, 0);
        g_assert_cmpmem(g_bytes_get_data(answer, NULL),
                        g_bytes_get_size(answer), "\0\0\0", 3);
    }
}

static void
padded(guint8 *out, const char *text)
{
    memset(out, 0, 256);
    memcpy(out, text, strlen(text));
}

/* row: 6 */
static void
test_status(Fixture *f, gconstpointer unused)
{
    g_autofree guint8 *set = g_malloc0(256 + 32769);
    guint8 get[512] = {0};

    padded(set, "kv/a");
    padded(get, "kv/a");
    expect_errno(f, PVE_IPC_GET_STATUS, get, 512, ENOENT);
    set[256] = 'x';
    set[257] = 'y';
    expect(f, PVE_IPC_SET_STATUS, set, 258, "");
    expect(f, PVE_IPC_GET_STATUS, get, 512, "xy");
    expect_errno(f, PVE_IPC_GET_STATUS, get, 511, EINVAL);
    padded(get + 256, "n1");
    expect(f, PVE_IPC_GET_STATUS, get, 512, "xy");
    padded(get + 256, "n2");
    expect_errno(f, PVE_IPC_GET_STATUS, get, 512, ENOENT);
    expect_errno(f, PVE_IPC_SET_STATUS, set, 255, EINVAL);
    expect(f, PVE_IPC_SET_STATUS, set, 256 + 32768, "");
    expect_errno(f, PVE_IPC_SET_STATUS, set, 256 + 32769, EFBIG);
    expect(f, PVE_IPC_SET_STATUS, set, 256, "");
    expect_errno(f, PVE_IPC_GET_STATUS, get, 512, ENOENT);
    f->context.is_read_only = TRUE;
    expect_errno(f, PVE_IPC_SET_STATUS, set, 255, EPERM);
}

/* row: 7 */
static void
test_log(Fixture *f, gconstpointer unused)
{
    static const struct {
        const char *payload;
        gsize size;
        int verdict;
    } rows[] = {
        {"", 0, EINVAL},
        {"\6\5\4root\0tag\0", 12, EINVAL},   /* no message */
        {"\6\0\4tag\0hello", 13, EINVAL},    /* no ident */
        {"\6\5\0root\0hello", 14, EINVAL},   /* no tag */
        {"\6\4\4root\0tag\0hi", 14, EINVAL}, /* its NUL is outside */
        {"\6\5\4root\0tag\0hi", 15, 0},      /* with its NUL */
        {"\6\5\4root\0tag\0hi", 14, 0},      /* and without */
        {"\10\5\4root\0tag\0no", 15, 0},     /* not logged */
    };
    g_autofree char *text = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%u", i);
        if (rows[i].verdict != 0) {
            expect_errno(f, PVE_IPC_LOG, rows[i].payload, rows[i].size,
                         rows[i].verdict);
        } else {
            expect(f, PVE_IPC_LOG, rows[i].payload, rows[i].size, "");
        }
    }
    text = ask(f, PVE_IPC_GET_LOG, "\0\0\0\0reservedrese", 17);
    g_assert_nonnull(strstr(text, "\"msg\": \"hi\""));
    g_assert_null(strstr(text, "\"msg\": \"no\""));
    expect_errno(f, PVE_IPC_GET_LOG, "\0\0\0\0reservedrese", 16, EINVAL);
    expect(f, PVE_IPC_GET_LOG, "\0\0\0\0reservedresenobody", 23,
           "{\n\"data\": [\n]\n}\n");
    f->context.is_read_only = TRUE;
    expect_errno(f, PVE_IPC_LOG, "", 0, EPERM);
}

/* More than a message holds: whole lines of it. row: 12 */
static void
test_rrd(Fixture *f, gconstpointer unused)
{
    g_autofree char *value = g_strnfill(4000, '1');
    g_autoptr(GBytes) bytes = g_bytes_new(value, 4001);
    g_autofree char *text = NULL;
    gsize size;

    expect_errno(f, PVE_IPC_RRD_DUMP, "x", 1, EINVAL);
    for (guint i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("rrd/pve-vm-9.0/%u", i);

        g_assert_cmpint(cfs_status_set(f->status, key, bytes, 1000), ==, 0);
    }
    text = ask(f, PVE_IPC_RRD_DUMP, NULL, 0);
    size = strlen(text);
    g_assert_cmpuint(size, >, PVE_IPC_MAX_PAYLOAD - 5000);
    g_assert_cmpuint(size, <=, PVE_IPC_MAX_PAYLOAD);
    g_assert_true(text[size - 1] == '\n');
}

#define ADD(name, function)                                                    \
    g_test_add("/ipc-ops/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ipc-ops/find", test_find);
    ADD("property", test_property);
    ADD("properties", test_properties);
    ADD("token", test_token);
    ADD("private", test_private);
    ADD("zeros", test_zeros);
    ADD("status", test_status);
    ADD("log", test_log);
    ADD("rrd", test_rrd);
    return g_test_run();
}
