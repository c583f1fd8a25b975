/* test-group-cpg.c - the group over a libcpg that refuses and interrupts.
 *
 * The connector and the library are ours here: the linker takes those of this
 * file instead.
 */
#include "config.h"

#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <string.h>

#include "pmxcfs/core/entry.h"
#include "pmxcfs/io/connector.h"
#include "pmxcfs/io/group.h"

/* The fakes: one connection at a time. */
static CfsConnectorHandler connector;
static guint n_opens;
static GArray *verdicts; /* of cs_error_t: of the next calls; then CS_OK */
static GPtrArray *sent;  /* of GBytes: each that was taken */
static guint n_calls;

struct CfsConnector {
    int unused;
};
static CfsConnector the_connector;

CfsConnector *
cfs_connector_new(const CfsConnectorClass *class,
                  gpointer argument,
                  const CfsConnectorHandler *handler)
{
    connector = *handler;
    return &the_connector;
}

void
cfs_connector_open(CfsConnector *self, guint delay_ms)
{
    n_opens++;
}

void
cfs_connector_close(CfsConnector *self)
{
}

void
cfs_connector_free(CfsConnector *self, guint patience_ms)
{
}

gboolean
cfs_connector_fail(GError **error, const char *what, int code)
{
    return FALSE;
}

cs_error_t
cpg_mcast_joined(cpg_handle_t handle,
                 cpg_guarantee_t guarantee,
                 const struct iovec *iovec,
                 unsigned int iov_len)
{
    cs_error_t code = CS_OK;

    g_assert_cmpint(guarantee, ==, CPG_TYPE_AGREED);
    g_assert_cmpuint(iov_len, ==, 1); /* each piece is a fragment */
    n_calls++;
    if (verdicts->len > 0) {
        code = g_array_index(verdicts, cs_error_t, 0);
        g_array_remove_index(verdicts, 0);
    }
    if (code == CS_OK) {
        g_ptr_array_add(sent, g_bytes_new(iovec->iov_base, iovec->iov_len));
    }
    return code;
}

cs_error_t
cpg_initialize(cpg_handle_t *handle, cpg_callbacks_t *callbacks)
{
    return CS_ERR_LIBRARY;
}

cs_error_t
cpg_finalize(cpg_handle_t handle)
{
    return CS_OK;
}

cs_error_t
cpg_local_get(cpg_handle_t handle, unsigned int *local_nodeid)
{
    return CS_ERR_LIBRARY;
}

cs_error_t
cpg_fd_get(cpg_handle_t handle, int *fd)
{
    return CS_ERR_LIBRARY;
}

cs_error_t
cpg_join(cpg_handle_t handle, const struct cpg_name *group)
{
    return CS_ERR_LIBRARY;
}

cs_error_t
cpg_dispatch(cpg_handle_t handle, cs_dispatch_flags_t dispatch_types)
{
    return CS_ERR_TRY_AGAIN;
}

cs_error_t
cpg_context_get(cpg_handle_t handle, void **context)
{
    return CS_ERR_BAD_HANDLE;
}

cs_error_t
cpg_context_set(cpg_handle_t handle, void *context)
{
    return CS_OK;
}

/* ------------------------------------------------------------------------- */

typedef struct {
    CfsGroup *group;
    guint n_connected, n_disconnected;
} Fixture;

static void
on_connected(gpointer data, CfsMember self)
{
    Fixture *f = data;

    f->n_connected++;
}

static void
on_disconnected(gpointer data)
{
    Fixture *f = data;

    f->n_disconnected++;
}

static void
on_bundle(gpointer data)
{
}

static void
connect_group(void)
{
    const CfsConnection connection = {.handle = 7, .fd = -1, .nodeid = 1};

    connector.on_open(connector.data, &connection);
}

static void
setup(Fixture *f, gconstpointer unused)
{
    const CfsGroupHandler handler = {.begin = on_bundle,
                                     .end = on_bundle,
                                     .connected = on_connected,
                                     .disconnected = on_disconnected,
                                     .data = f};

    verdicts = g_array_new(FALSE, FALSE, sizeof(cs_error_t));
    sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    n_calls = 0;
    n_opens = 0;
    f->group = cfs_group_cpg_new(CFS_GROUP_DATABASE, &handler);
    connect_group();
    g_assert_cmpuint(f->n_connected, ==, 1);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_group_free(f->group);
    g_ptr_array_unref(sent);
    g_array_unref(verdicts);
}

static void
answer(cs_error_t code, guint times)
{
    for (guint i = 0; i < times; i++) {
        g_array_append_val(verdicts, code);
    }
}

static void
send_text(Fixture *f, const char *text)
{
    g_autoptr(GBytes) message = g_bytes_new(text, strlen(text));

    cfs_group_send(f->group, message);
}

static void
wait_for_sent(guint n)
{
    while (sent->len < n) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(sent->len, ==, n);
}

static void
assert_sent(guint i, gconstpointer bytes, gsize size)
{
    gsize got_size;
    gconstpointer got = g_bytes_get_data(sent->pdata[i], &got_size);

    g_assert_cmpmem(got, got_size, bytes, size);
}

/* A write of a whole file is more than corosync takes in one piece. When the
 * members change between two fragments the others drop what they have of it
 * (spec/replication.md 1.3). */
static void
test_interrupt_sends_the_whole_again(Fixture *f, gconstpointer unused)
{
    gsize size = CFS_MAX_FILE_BYTES + 200;
    g_autofree char *bytes = g_malloc(size);
    g_autoptr(GBytes) message = NULL;

    for (gsize i = 0; i < size; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    message = g_bytes_new(bytes, size);
    answer(CS_ERR_INTERRUPT, 2);
    cfs_group_send(f->group, message);
    send_text(f, "behind it");
    g_assert_cmpuint(sent->len, ==, 0);
    wait_for_sent(2);
    assert_sent(0, bytes, size);
    assert_sent(1, "behind it", 9);
    g_assert_cmpuint(n_calls, ==, 4);
}

static void
test_order_is_kept(Fixture *f, gconstpointer unused)
{
    static const char *const texts[] = {"a", "b", "c", "d"};

    answer(CS_ERR_TRY_AGAIN, 1);
    send_text(f, texts[0]);
    send_text(f, texts[1]);
    answer(CS_ERR_TRY_AGAIN, 2);
    send_text(f, texts[2]);
    send_text(f, texts[3]);
    wait_for_sent(4);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        assert_sent(i, texts[i], 1);
    }
}

/* What waits is of the old membership. */
static void
test_a_lost_connection_drops_what_waits(Fixture *f, gconstpointer unused)
{
    answer(CS_ERR_TRY_AGAIN, 1);
    answer(CS_ERR_LIBRARY, 1);
    send_text(f, "waits");
    g_test_expect_message("dcdb", G_LOG_LEVEL_WARNING, "*is lost*");
    while (f->n_disconnected == 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_test_assert_expected_messages();
    g_assert_cmpuint(n_opens, ==, 2); /* it tries again */
    send_text(f, "to nobody");
    connect_group();
    send_text(f, "anew");
    g_assert_cmpuint(sent->len, ==, 1);
    assert_sent(0, "anew", 4);
}

static void
test_leaving_sends_no_more(Fixture *f, gconstpointer unused)
{
    answer(CS_ERR_TRY_AGAIN, 1);
    send_text(f, "waits");
    cfs_group_leave(f->group, CFS_GROUP_NEVER);
    send_text(f, "too late");
    while (f->n_disconnected == 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(sent->len, ==, 0);
    g_assert_cmpuint(n_opens, ==, 1);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*function)(Fixture *f, gconstpointer unused);
    } tests[] = {
        {"/group-cpg/interrupt", test_interrupt_sends_the_whole_again},
        {"/group-cpg/order", test_order_is_kept},
        {"/group-cpg/lost", test_a_lost_connection_drops_what_waits},
        {"/group-cpg/leave", test_leaving_sends_no_more},
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].function,
                   teardown);
    }
    return g_test_run();
}
