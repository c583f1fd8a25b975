/* The local socket as its clients see it: each row of the operations, with
 * captured bytes, against a running daemon whose node is called "ipcl".
 *
 * test-ipc.py starts that daemon and runs this. `ipc-conform call ID HEX` makes
 * one request and prints the answer: "errno N" or the payload in hex;
 * `ipc-conform hold` stays connected; `ipc-conform fuzz N SEED` makes N
 * requests of all kinds of nonsense.
 *
 * The numbers in the names of tests are those of spec/ipc.md 10. */
#include "config.h"

#include "common/ipc-proto.h"

#include <errno.h>
#include <glib.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <qb/qbipcc.h>

#define TIMEOUT_MS 30000
#define ETC "/etc/pve/"

typedef struct {
    gint32 id;
    gint32 error; /* 0 or a negative errno */
    GBytes *payload;
} Answer;

static qb_ipcc_connection_t *connection;
static guint8 received[PVE_IPC_MAX_MESSAGE];

static qb_ipcc_connection_t *
connect_or_fail(void)
{
    qb_ipcc_connection_t *c =
        qb_ipcc_connect(PVE_IPC_SERVICE, PVE_IPC_MAX_MESSAGE);

    g_assert_nonnull(c);
    return c;
}

static void
answer_clear(Answer *answer)
{
    g_clear_pointer(&answer->payload, g_bytes_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Answer, answer_clear)

/* @claimed: the size in the header. */
static void
call_claiming(qb_ipcc_connection_t *c,
              gint32 id,
              gint32 claimed,
              gconstpointer payload,
              gsize size,
              Answer *answer)
{
    struct qb_ipc_request_header header = {.id = id, .size = claimed};
    struct iovec parts[2] = {{.iov_base = &header, .iov_len = sizeof(header)},
                             {.iov_base = (gpointer)payload, .iov_len = size}};
    const struct qb_ipc_response_header *got = (gpointer)received;
    ssize_t n = qb_ipcc_sendv_recv(c, parts, size > 0 ? 2 : 1, received,
                                   sizeof(received), TIMEOUT_MS);

    g_assert_cmpint(n, >=, (ssize_t)PVE_IPC_ANSWER_HEADER);
    g_assert_cmpint(got->size, ==, n);
    for (guint at = 4; at < PVE_IPC_ANSWER_HEADER; at += 8) {
        g_assert_cmpint(memcmp(received + at, "\0\0\0", 4), ==, 0);
    }
    answer->id = got->id;
    answer->error = got->error;
    answer->payload = g_bytes_new(received + PVE_IPC_ANSWER_HEADER,
                                  (gsize)n - PVE_IPC_ANSWER_HEADER);
    g_assert_true(got->error == 0 || n == PVE_IPC_ANSWER_HEADER);
}

static void
call_with(qb_ipcc_connection_t *c,
          gint32 id,
          gconstpointer payload,
          gsize size,
          Answer *answer)
{
    call_claiming(c, id, (gint32)(PVE_IPC_REQUEST_HEADER + size), payload, size,
                  answer);
    g_assert_cmpint(answer->id, ==, id);
}

/* Returns 0 or a positive errno. */
static int
verdict_of(gint32 id, gconstpointer payload, gsize size)
{
    g_auto(Answer) answer = {0};

    call_with(connection, id, payload, size, &answer);
    return -answer.error;
}

/* Returns: (owned) the payload, which must be there or "", as a string. */
static char *
text_of(gint32 id, gconstpointer payload, gsize size)
{
    g_auto(Answer) answer = {0};
    gconstpointer bytes;
    gsize n;

    call_with(connection, id, payload, size, &answer);
    g_assert_cmpint(answer.error, ==, 0);
    bytes = g_bytes_get_data(answer.payload, &n);
    return n > 0 ? g_strndup(bytes, n) : g_strdup("");
}

static void
write_file(const char *path, const char *text, gssize size)
{
    g_autofree char *full = g_strconcat(ETC, path, NULL);
    g_autofree char *parent = g_path_get_dirname(full);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    (void)g_file_set_contents_full(full, text, size, G_FILE_SET_CONTENTS_NONE,
                                   0644, &error);
    g_assert_no_error(error);
}

static char *
read_file(const char *path)
{
    g_autofree char *full = g_strconcat(ETC, path, NULL);
    char *text = NULL;

    g_assert_true(g_file_get_contents(full, &text, NULL, NULL));
    return text;
}

static guint
number_after(const char *text, const char *key)
{
    g_autofree char *quoted = g_strdup_printf("\"%s\": ", key);
    const char *at = strstr(text, quoted);

    g_assert_nonnull(at);
    return (guint)g_ascii_strtoull(at + strlen(quoted), NULL, 10);
}

/* --- captured bytes ------------------------------------------------------- */

static int
nibble(char c)
{
    return c == '.' ? 0 : g_ascii_xdigit_value(c);
}

static void
append_hex(GByteArray *out, const char *hex)
{
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        guint8 byte = (guint8)(nibble(hex[0]) << 4 | nibble(hex[1]));

        g_byte_array_append(out, &byte, 1);
    }
}

/* Returns: (owned) the text with each run of digits as one '#'. */
static char *
without_numbers(gconstpointer bytes, gsize size)
{
    g_autofree char *text = g_strndup(bytes, size);
    g_autoptr(GRegex) digits = g_regex_new("[0-9]+", 0, 0, NULL);

    return g_regex_replace_literal(digits, text, -1, 0, "#", 0, NULL);
}

static void
compare(const char *name, const GByteArray *wanted, const Answer *answer)
{
    gsize size = wanted->len - PVE_IPC_ANSWER_HEADER, n;
    gconstpointer want = wanted->data + PVE_IPC_ANSWER_HEADER;
    gconstpointer got = g_bytes_get_data(answer->payload, &n);
    gint32 error;

    memcpy(&error, wanted->data + 16, sizeof(error));
    g_assert_cmpint(answer->error, ==, GINT32_FROM_LE(error));
    if (*name == '~') {
        g_autofree char *a = without_numbers(want, size);
        g_autofree char *b = without_numbers(got, n);

        g_assert_cmpstr(b, ==, a);
    } else {
        g_assert_cmpmem(got, n, want, size);
    }
}

static void
run_row(const char *name, GByteArray *request, GByteArray *wanted)
{
    g_auto(Answer) answer = {0};
    gint32 id;

    if (request->len == 0) {
        return;
    }
    g_test_message("%s", name);
    memcpy(&id, request->data, sizeof(id));
    call_with(connection, id, request->data + PVE_IPC_REQUEST_HEADER,
              request->len - PVE_IPC_REQUEST_HEADER, &answer);
    compare(name, wanted, &answer);
    g_byte_array_set_size(request, 0);
    g_byte_array_set_size(wanted, 0);
}

static void
test_captured(void)
{
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "golden/ipc-operations.txt", NULL);
    g_autoptr(GByteArray) request = g_byte_array_new();
    g_autoptr(GByteArray) wanted = g_byte_array_new();
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    const char *name = "";

    write_file("storage.cfg", "hello\n", -1);
    write_file("nodes/ipcl/lxc/100.conf", "lock: backup\nhostname: ct100\n",
               -1);
    write_file("priv/token.cfg", "root@pam!t1 aaaa-bbbb\n", -1);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        if (g_str_has_prefix(*line, "> ")) {
            append_hex(request, *line + 2);
        } else if (g_str_has_prefix(*line, "< ")) {
            append_hex(wanted, *line + 2);
        } else if (**line != '#' && **line != '\0') {
            run_row(name, request, wanted);
            name = *line;
        }
    }
    run_row(name, request, wanted);
}

/* --- who may -------------------------------------------------------------- */

/* Runs @check as that user in a process of its own; it returns 0 if well. */
static int
run_as(uid_t uid, gid_t gid, int (*check)(void))
{
    int status = 0;
    pid_t child = fork();

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
            setresuid(uid, uid, uid) != 0) {
            _exit(99);
        }
        _exit(check());
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int
connect_errno(void)
{
    qb_ipcc_connection_t *c =
        qb_ipcc_connect(PVE_IPC_SERVICE, PVE_IPC_MAX_MESSAGE);

    return c != NULL ? 0 : errno;
}

static gid_t
www_data(void)
{
    const struct group *group = getgrnam("www-data");

    g_assert_nonnull(group);
    return group->gr_gid;
}

/* row: 3, and the table of 1.1 */
static void
test_strangers(void)
{
    g_assert_cmpint(run_as(1000, 1000, connect_errno), ==, EACCES);
    g_assert_cmpint(run_as(1000, 0, connect_errno), ==, EACCES);
    g_assert_cmpint(run_as(0, 1, connect_errno), ==, EACCES);
    g_assert_cmpint(run_as(1000, www_data(), connect_errno), ==, 0);
    g_assert_cmpint(run_as(0, www_data(), connect_errno), ==, 0);
}

static int
wanted_verdict(gint32 id, const char *text, int verdict)
{
    int got = verdict_of(id, text, strlen(text) + 1);

    if (got != verdict) {
        g_printerr("# op %d %s: %d, not %d\n", id, text, got, verdict);
    }
    return got != verdict;
}

static int
check_read_only(void)
{
    static const struct {
        const char *path;
        int verdict;
    } rows[] = {
        {"storage.cfg", 0},
        {"/priv/token.cfg", EPERM},
        {"priv", EPERM},
        {"//priv//nosuch", EPERM},
        {"private", ENOENT},
        {"nodes/ipcl/priv/f", EPERM},
        {"nodes//ipcl/priv/f", EPERM},
        {"nodes/ipcl//priv/f", EPERM},
        {"/nodes/ipcl/priv", EPERM},
        {"nodes/ipcl/lxc/100.conf", 0},
    };
    int failed = 0;

    connection = connect_or_fail();
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        failed +=
            wanted_verdict(PVE_IPC_GET_CONFIG, rows[i].path, rows[i].verdict);
    }
    failed += wanted_verdict(PVE_IPC_VERIFY_TOKEN, "root@pam!t1 aaaa-bbbb", 0);
    failed += verdict_of(PVE_IPC_FS_VERSION, NULL, 0) != 0;
    failed += verdict_of(PVE_IPC_GET_LOG, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                         17) != 0;
    qb_ipcc_disconnect(connection);
    return failed;
}

/* row: 2 */
static void
test_read_only(void)
{
    g_assert_cmpint(run_as(33, www_data(), check_read_only), ==, 0);
    g_assert_cmpint(run_as(0, www_data(), check_read_only), ==, 0);
}

/* --- sizes and headers ---------------------------------------------------- */

/* row: 4 */
static void
test_unknown(void)
{
    static const gint32 ids[] = {0,  9,  14,         255,       -1,
                                 -2, -4, G_MININT32, G_MAXINT32};

    for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_test_message("%d", ids[i]);
        g_assert_cmpint(verdict_of(ids[i], NULL, 0), ==, ECHRNG);
    }
}

/* row: 5 */
static void
test_no_payload(void)
{
    g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, "x", 1), ==, EINVAL);
    g_assert_cmpint(verdict_of(PVE_IPC_CLUSTER_INFO, "x", 1), ==, EINVAL);
    g_assert_cmpint(verdict_of(PVE_IPC_GUEST_LIST, "x", 1), ==, EINVAL);
}

/* row: 13 */
static void
test_forged_header(void)
{
    static const gint32 sizes[] = {0,
                                   1,
                                   15,
                                   17,
                                   -1,
                                   G_MAXINT32,
                                   G_MININT32,
                                   2000000000,
                                   (gint32)PVE_IPC_MAX_MESSAGE,
                                   (gint32)PVE_IPC_MAX_MESSAGE + 1};

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_auto(Answer) answer = {0};

        g_test_message("%d", sizes[i]);
#ifdef CFS_IPC_SHM
        if (sizes[i] >= 16 && sizes[i] <= (gint32)PVE_IPC_MAX_MESSAGE) {
            continue; /* how much was sent cannot be seen there */
        }
#endif
        call_claiming(connection, PVE_IPC_GET_CONFIG, sizes[i], NULL, 0,
                      &answer);
        g_assert_cmpint(answer.error, ==, -EINVAL);
        g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, NULL, 0), ==, 0);
    }
}

/* row: 11 */
static void
test_large_file(void)
{
    gsize sizes[] = {1048552, 1048553, 1048576};
    static const char name[] = "large.cfg";

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = g_strnfill(sizes[i], 'x');
        g_auto(Answer) answer = {0};

        write_file(name, text, (gssize)sizes[i]);
        call_with(connection, PVE_IPC_GET_CONFIG, name, sizeof(name), &answer);
        if (i > 0) {
            g_assert_cmpint(answer.error, ==, -EMSGSIZE);
        } else {
            g_assert_cmpint(answer.error, ==, 0);
            g_assert_cmpmem(g_bytes_get_data(answer.payload, NULL),
                            g_bytes_get_size(answer.payload), text, sizes[i]);
        }
    }
    g_assert_cmpint(unlink(ETC "large.cfg"), ==, 0);
}

/* 1.2: one long property, asked for again and again. */
static void
test_large_properties(void)
{
    g_autofree char *value = g_strnfill(9000, 'x');
    g_autofree char *text = g_strconcat("tags: ", value, "\n", NULL);
    guint8 request[5 + 255 * 5] = {102, 0, 0, 0, 255};

    write_file("nodes/ipcl/lxc/102.conf", text, -1);
    for (guint i = 0; i < 255; i++) {
        memcpy(request + 5 + i * 5, "tags", 5);
    }
    g_assert_cmpint(
        verdict_of(PVE_IPC_GUEST_PROPERTIES, request, sizeof(request)), ==,
        EMSGSIZE);
    g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, NULL, 0), ==, 0);
    g_assert_cmpint(unlink(ETC "nodes/ipcl/lxc/102.conf"), ==, 0);
}

/* --- operations ----------------------------------------------------------- */

/* row: 1 */
static void
test_versions_are_true(void)
{
    g_autofree char *text = text_of(PVE_IPC_FS_VERSION, NULL, 0);
    g_autofree char *info = text_of(PVE_IPC_CLUSTER_INFO, NULL, 0);
    g_autofree char *guests = text_of(PVE_IPC_GUEST_LIST, NULL, 0);

    g_assert_cmpuint(number_after(text, "starttime"), >, 0);
    g_assert_cmpuint(number_after(text, "clinfo"), >=, 1);
    g_assert_cmpuint(number_after(text, "vmlist"), >=, 1);
    g_assert_cmpuint(number_after(text, "clinfo"), ==,
                     number_after(info, "version"));
    g_assert_cmpuint(number_after(text, "vmlist"), ==,
                     number_after(guests, "version"));
}

/* 3.1: the texts are those of the mount. */
static void
test_same_as_mount(void)
{
    static const struct {
        gint32 id;
        const char *file;
    } rows[] = {{PVE_IPC_FS_VERSION, ".version"},
                {PVE_IPC_CLUSTER_INFO, ".members"},
                {PVE_IPC_GUEST_LIST, ".vmlist"}};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *socket = text_of(rows[i].id, NULL, 0);
        g_autofree char *mount = read_file(rows[i].file);

        g_assert_cmpstr(socket, ==, mount);
    }
}

/* row: 14 */
static void
test_own_write_is_seen(void)
{
    guint last = 0;

    for (guint i = 0; i < 200; i++) {
        g_autofree char *wrote = g_strdup_printf("dir: %u\n", i);
        g_autofree char *version = NULL;
        g_autofree char *read = NULL;
        guint now;

        write_file("storage.cfg", wrote, -1);
        version = text_of(PVE_IPC_FS_VERSION, NULL, 0);
        read = text_of(PVE_IPC_GET_CONFIG, "storage.cfg", 12);
        now = number_after(version, "storage.cfg");
        g_assert_cmpuint(now, !=, last);
        g_assert_cmpstr(read, ==, wrote);
        last = now;
    }
}

/* 3.6 */
static void
test_config(void)
{
    static const struct {
        const char *payload;
        gsize size;
        int verdict;
    } rows[] = {
        {"", 0, EINVAL},
        {"\0", 1, ENOENT},
        {"/", 2, ENOENT},
        {"storage.cfgX", 12, 0}, /* the last byte becomes the NUL */
        {"///storage.cfg//", 17, 0},
        {"storage.cfg\0junk", 17, 0},
        {"./storage.cfg", 14, ENOENT},
        {"nodes/../storage.cfg", 21, ENOENT},
        {"nodes", 6, ENOENT},
        {"local/lxc/100.conf", 19, ENOENT},
        {".version", 9, ENOENT},
        {"priv/token.cfg", 15, 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].payload);
        g_assert_cmpint(
            verdict_of(PVE_IPC_GET_CONFIG, rows[i].payload, rows[i].size), ==,
            rows[i].verdict);
    }
    write_file("empty.cfg", "", 0);
    g_assert_cmpint(verdict_of(PVE_IPC_GET_CONFIG, "empty.cfg", 10), ==, 0);
}

/* Several answers that are not read at once keep nobody waiting. */
static void
test_slow_reader(void)
{
    qb_ipcc_connection_t *slow = connect_or_fail();
    struct {
        struct qb_ipc_request_header header;
        char path[12];
    } request = {.header = {.id = PVE_IPC_GET_CONFIG, .size = 28},
                 .path = "storage.cfg"};
#ifdef CFS_IPC_SHM
    const guint most = 12; /* nothing holds it up before it is dropped */
#else
    const guint most = 200;
#endif
    g_autofree char *text = g_strnfill(900000, 'y');
    guint n = 0;

    write_file("storage.cfg", text, 900000);
    while (n < most && qb_ipcc_send(slow, &request, 28) == 28) {
        g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, NULL, 0), ==, 0);
        n++;
    }
    g_assert_cmpuint(n, >, 2);
    for (guint i = 0; i < n; i++) {
        ssize_t size =
            qb_ipcc_recv(slow, received, sizeof(received), TIMEOUT_MS);

        g_assert_cmpint(size, ==, 900024);
    }
    qb_ipcc_disconnect(slow);
    write_file("storage.cfg", "hello\n", -1);
}

/* Many come and go. */
static void
test_many_clients(void)
{
    for (guint round = 0; round < 20; round++) {
        qb_ipcc_connection_t *c[10];

        for (guint i = 0; i < G_N_ELEMENTS(c); i++) {
            c[i] = connect_or_fail();
        }
        for (guint i = 0; i < G_N_ELEMENTS(c); i++) {
            g_auto(Answer) answer = {0};

            call_with(c[i], PVE_IPC_FS_VERSION, NULL, 0, &answer);
            g_assert_cmpint(answer.error, ==, 0);
            qb_ipcc_disconnect(c[i]);
        }
    }
}

/* --- one request by hand -------------------------------------------------- */

static int
call_by_hand(const char *id, const char *hex)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_auto(Answer) answer = {0};
    const guint8 *bytes;
    gsize size;

    connection = qb_ipcc_connect(PVE_IPC_SERVICE, PVE_IPC_MAX_MESSAGE);
    if (connection == NULL) {
        g_print("connect %d\n", errno);
        return EXIT_FAILURE;
    }
    append_hex(payload, hex);
    call_with(connection, atoi(id), payload->data, payload->len, &answer);
    if (answer.error != 0) {
        g_print("errno %d\n", -answer.error);
    } else {
        bytes = g_bytes_get_data(answer.payload, &size);
        for (gsize i = 0; i < size; i++) {
            g_print("%02x", bytes[i]);
        }
        g_print("\n");
    }
    qb_ipcc_disconnect(connection);
    return EXIT_SUCCESS;
}

/* --- nonsense ---------------------------------------------------------------
 */

static gint32
random_id(GRand *chance)
{
    switch (g_rand_int_range(chance, 0, 8)) {
    case 0:
        return (gint32)g_rand_int(chance);
    case 1:
        return g_rand_int_range(chance, -4, 20);
    case 2:
    case 3:
        return g_rand_int_range(chance, PVE_IPC_SYNC, PVE_IPC_EVENTS + 2);
    default:
        return g_rand_int_range(chance, 1, 14);
    }
}

static const char *const words[] = {"storage.cfg",
                                    "priv/token.cfg",
                                    "nodes//ipcl/lxc/100.conf",
                                    "kv/a",
                                    "rrd/pve-vm-9.0/100",
                                    "nodeip",
                                    "ipcl",
                                    "root",
                                    "lock",
                                    "hostname"};

/* Fills @out with words, zeros, small numbers and noise. */
static void
fill(GRand *chance, guint8 *out, gsize size)
{
    gsize at = 0;

    while (at < size) {
        const char *word =
            words[g_rand_int_range(chance, 0, G_N_ELEMENTS(words))];
        gsize n = MIN(size - at, strlen(word) + 1);

        switch (g_rand_int_range(chance, 0, 4)) {
        case 0:
            memcpy(out + at, word, n);
            break;
        case 1:
            n = (gsize)g_rand_int_range(chance, 1, 300);
            n = MIN(n, size - at);
            memset(out + at, 0, n);
            break;
        case 2:
            n = 1;
            out[at] = (guint8)g_rand_int_range(chance, 0, 12);
            break;
        default:
            n = 1;
            out[at] = (guint8)g_rand_int(chance);
            break;
        }
        at += n;
    }
}

static gsize
random_size(GRand *chance)
{
    switch (g_rand_int_range(chance, 0, 40)) {
    case 0:
        return (gsize)g_rand_int_range(chance, 0, 200000);
    case 1:
        return (gsize)g_rand_int_range(chance, 0, 16); /* no whole header */
    case 2:
    case 3:
        return 16;
    default:
        return 16 + (gsize)g_rand_int_range(chance, 0, 800);
    }
}

static gint32
random_claim(GRand *chance, gsize size)
{
    switch (g_rand_int_range(chance, 0, 12)) {
    case 0:
        return (gint32)g_rand_int(chance);
    case 1:
        return (gint32)size + g_rand_int_range(chance, -20, 20);
    default:
        return (gint32)size;
    }
}

static void
reconnect(void)
{
    qb_ipcc_disconnect(connection);
    connection = connect_or_fail();
}

/* Each request but a farewell is answered. */
static void
send_nonsense(GRand *chance)
{
    static guint8 request[200016];
    gsize size = random_size(chance);
    struct qb_ipc_request_header header = {.id = random_id(chance),
                                           .size = random_claim(chance, size)};
    ssize_t n;

    fill(chance, request, size);
    memcpy(request, &header, MIN(size, sizeof(header)));
    if (size == 0 || header.id == QB_IPC_MSG_DISCONNECT) {
        return;
    }
    g_assert_cmpint(qb_ipcc_send(connection, request, size), ==, size);
    n = qb_ipcc_recv(connection, received, sizeof(received), TIMEOUT_MS);
    g_assert_cmpint(n, >=, PVE_IPC_ANSWER_HEADER);
}

static int
send_much_nonsense(guint n, guint32 seed)
{
    GRand *chance = g_rand_new_with_seed(seed);

    connection = connect_or_fail();
    for (guint i = 0; i < n; i++) {
        send_nonsense(chance);
        if (g_rand_int_range(chance, 0, 500) == 0) {
            reconnect();
            g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, NULL, 0), ==, 0);
        }
    }
    qb_ipcc_disconnect(connection);
    g_rand_free(chance);
    return EXIT_SUCCESS;
}

/* Stays until it is killed. */
static int
hold(void)
{
    connection = connect_or_fail();
    g_assert_cmpint(verdict_of(PVE_IPC_FS_VERSION, NULL, 0), ==, 0);
    g_print("held\n");
    (void)pause();
    return EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
    int status;

    if (argc == 4 && strcmp(argv[1], "call") == 0) {
        return call_by_hand(argv[2], argv[3]);
    }
    if (argc == 4 && strcmp(argv[1], "fuzz") == 0) {
        return send_much_nonsense((guint)atoi(argv[2]), (guint32)atoi(argv[3]));
    }
    if (argc == 2 && strcmp(argv[1], "hold") == 0) {
        return hold();
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ipc/captured", test_captured);
    g_test_add_func("/ipc/1-versions-are-true", test_versions_are_true);
    g_test_add_func("/ipc/2-read-only", test_read_only);
    g_test_add_func("/ipc/3-strangers", test_strangers);
    g_test_add_func("/ipc/4-unknown", test_unknown);
    g_test_add_func("/ipc/5-no-payload", test_no_payload);
    g_test_add_func("/ipc/11-large-file", test_large_file);
    g_test_add_func("/ipc/13-forged-header", test_forged_header);
    g_test_add_func("/ipc/14-own-write-is-seen", test_own_write_is_seen);
    g_test_add_func("/ipc/large-properties", test_large_properties);
    g_test_add_func("/ipc/same-as-mount", test_same_as_mount);
    g_test_add_func("/ipc/config", test_config);
    g_test_add_func("/ipc/slow-reader", test_slow_reader);
    g_test_add_func("/ipc/many-clients", test_many_clients);
    connection = connect_or_fail();
    status = g_test_run();
    qb_ipcc_disconnect(connection);
    return status;
}
