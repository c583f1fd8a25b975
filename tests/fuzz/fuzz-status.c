/* What a member of the status group hears and is asked, one after another: a
 * byte that says what, the size of its bytes in two, and those. It may not fall
 * over, not leave but for a newer protocol, and shows JSON. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/status.h"
#include "tests/fuzz/json-scan.h"

static const CfsMember self = {2, 20};
static const CfsMember all[] = {{1, 10}, {2, 20}, {3, 30}};

static void
step(CfsStatus *status, CfsStatusEvent event, GPtrArray *own)
{
    GQueue effects = G_QUEUE_INIT;
    CfsStatusEffect *effect;

    event.time_s = 1000;
    event.clock_ms = 1000;
    cfs_status_step(status, &event, &effects);
    while ((effect = g_queue_pop_head(&effects)) != NULL) {
        if (effect->kind == CFS_STATUS_EFFECT_SEND) {
            g_ptr_array_add(own, g_bytes_ref(effect->message));
        }
        if (effect->kind == CFS_STATUS_EFFECT_LEAVE) {
            g_assert_cmpuint(effect->delay_ms, >=, 10000);
        }
        cfs_status_effect_free(effect);
    }
}

static void
hear(CfsStatus *status, CfsMember sender, GBytes *bytes, GPtrArray *own)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_MESSAGE};

    event.message.sender = sender;
    event.message.bytes = bytes;
    step(status, event, own);
}

static void
change(CfsStatus *status, guint kind, GPtrArray *own)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_CONFCHG};

    event.confchg.members = (kind & 1) != 0 ? all : &self;
    event.confchg.n_members = (kind & 1) != 0 ? 3 : 1;
    event.confchg.has_joined = (kind & 2) != 0;
    step(status, event, own);
}

/* What we sent comes back. */
static void
hear_own(CfsStatus *status, GPtrArray *own)
{
    g_autoptr(GBytes) bytes = NULL;

    if (own->len > 0) {
        bytes = g_ptr_array_steal_index(own, 0);
        hear(status, self, bytes, own);
    }
}

static void
ask(CfsStatus *status, GBytes *bytes)
{
    gsize size = 0;
    const char *data = g_bytes_get_data(bytes, &size);
    gsize length = MIN(size, 20);
    g_autofree char *key = g_strndup(data != NULL ? data : "", length);
    g_autoptr(GBytes) value =
        g_bytes_new_from_bytes(bytes, length, size - length);

    (void)cfs_status_set(status, key, value, 1000);
    (void)cfs_status_get(status, key, key);
    cfs_status_log(status, (guint)size % 10, key, key, 1, key, 1000);
    cfs_status_restore_keys(status, key);
}

static void
play(CfsStatus *status, guint what, GBytes *bytes, GPtrArray *own)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_FLUSH};

    if (what % 8 < 3) {
        hear(status, all[what % 8], bytes, own);
    } else if (what % 8 == 3) {
        change(status, what / 8, own);
    } else if (what % 8 == 4) {
        ask(status, bytes);
    } else if (what % 8 == 5) {
        hear_own(status, own);
    } else if (what % 8 == 6) {
        event.kind = CFS_STATUS_CONNECTED;
        event.self = self;
        step(status, event, own);
    } else {
        event.kind =
            (what & 8) != 0 ? CFS_STATUS_DISCONNECTED : CFS_STATUS_FLUSH;
        step(status, event, own);
    }
}

static void
check(CfsStatus *status)
{
    CfsNodelist *nodes = cfs_status_nodelist(status);
    g_autofree char *log = cfs_status_clog_json(status, G_MAXUINT, NULL);
    g_autofree char *members = cfs_nodelist_text(nodes, TRUE);
    G_GNUC_UNUSED g_autofree char *keys = cfs_status_save_keys(status);
    GString *versions = g_string_new(NULL);

    cfs_nodelist_append_versions(nodes, versions);
    g_assert_true(json_scan(log));
    g_assert_true(json_scan(members));
    g_assert_true(json_scan(versions->str));
    (void)cfs_status_rrd_dump(status, 1000, NULL);
    g_string_free(versions, TRUE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsStatus) status = cfs_status_new("n2");
    g_autoptr(GPtrArray) nodes =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);
    g_autoptr(GPtrArray) own =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    CfsStatusEvent event = {.kind = CFS_STATUS_CONNECTED, .self = self};

    g_ptr_array_add(nodes, cfs_node_new(1, "n1"));
    g_ptr_array_add(nodes, cfs_node_new(2, "n2"));
    cfs_status_set_cluster(status, "fuzz", 1, nodes);
    step(status, event, own);
    change(status, 3, own);
    while (size >= 3) {
        gsize length = MIN(data[1] + (gsize)data[2] * 256, size - 3);
        g_autoptr(GBytes) bytes = g_bytes_new(data + 3, length);

        play(status, data[0], bytes, own);
        data += 3 + length;
        size -= 3 + length;
    }
    check(status);
    return 0;
}
