/* One member of the status group: what it sends, byte by byte, and what it
 * takes. Clusters of them are in tests/sim. */
#include "config.h"

#include "pmxcfs/core/status.h"
#include "tests/unit/capture.h"

#include <errno.h>
#include <string.h>

#define NOW 0x6b01f2cau

typedef struct {
    CfsStatus *status;
    GQueue effects; /* of CfsStatusEffect, that nobody looked at yet */
    gint64 clock_ms;
    guint wakes;
} Fixture;

static const CfsMember peer = {1, 10};
static const CfsMember self = {2, 20};

static void
on_wake(gpointer data)
{
    ((Fixture *)data)->wakes++;
}

static void
setup(Fixture *f, gconstpointer name)
{
    g_autoptr(GPtrArray) nodes =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);

    f->status = cfs_status_new(name != NULL ? name : "cpg2");
    g_queue_init(&f->effects);
    cfs_status_set_wake(f->status, on_wake, f);
    g_ptr_array_add(nodes, cfs_node_new(1, "cpg1"));
    g_ptr_array_add(nodes, cfs_node_new(2, "cpg2"));
    cfs_status_set_cluster(f->status, "tb", 1, nodes);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    g_queue_clear_full(&f->effects, (GDestroyNotify)cfs_status_effect_free);
    cfs_status_free(f->status);
}

static void
step(Fixture *f, CfsStatusEvent event)
{
    event.time_s = NOW;
    event.clock_ms = f->clock_ms;
    cfs_status_step(f->status, &event, &f->effects);
}

static void
flush(Fixture *f)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_FLUSH};

    step(f, event);
}

static void
change(Fixture *f, guint n_members, gboolean has_joined)
{
    static const CfsMember both[] = {{1, 10}, {2, 20}};
    CfsStatusEvent event = {.kind = CFS_STATUS_CONFCHG};

    event.confchg.members = n_members == 1 ? &self : both;
    event.confchg.n_members = n_members;
    event.confchg.has_joined = has_joined;
    step(f, event);
}

static void
hear_bytes(Fixture *f, CfsMember sender, GBytes *bytes)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_MESSAGE};

    event.message.sender = sender;
    event.message.bytes = bytes;
    step(f, event);
}

static void
hear(Fixture *f, CfsMember sender, const char *hex)
{
    g_autoptr(GBytes) bytes = capture_bytes(hex);

    hear_bytes(f, sender, bytes);
}

/* Takes the effects up to the next of @kind. Returns: (owned) it, or NULL. */
static CfsStatusEffect *
next(Fixture *f, CfsStatusEffectKind kind)
{
    CfsStatusEffect *effect;

    while ((effect = g_queue_pop_head(&f->effects)) != NULL &&
           effect->kind != kind) {
        cfs_status_effect_free(effect);
    }
    return effect;
}

/* Returns: (owned) the next message that was sent. */
static GBytes *
sent(Fixture *f)
{
    g_autoptr(CfsStatusEffect) effect = next(f, CFS_STATUS_EFFECT_SEND);

    g_assert_nonnull(effect);
    return g_bytes_ref(effect->message);
}

static void
assert_silent(Fixture *f)
{
    g_assert_null(next(f, CFS_STATUS_EFFECT_SEND));
}

/* 256 bytes with @key in front, filled up with @fill. */
static void
put_key(GString *hex, const char *key, const char *fill)
{
    for (guint i = 0; i < 256; i++) {
        if (i <= strlen(key)) {
            g_string_append_printf(hex, "%02x", (guint8)key[i]);
        } else {
            g_string_append(hex, fill);
        }
    }
}

/* Returns: (owned) an UPDATE in hex. */
static char *
update(guint count, const char *key, const char *fill, const char *value)
{
    GString *hex = g_string_new("0000 0100 00000000 caf2016b 00000000");

    g_string_append_printf(hex, "%02x000000 00000000", count);
    put_key(hex, key, fill);
    g_string_append(hex, value);
    return g_string_free(hex, FALSE);
}

static void
set(Fixture *f, const char *key, const char *text)
{
    g_autoptr(GBytes) value = g_bytes_new(text, strlen(text));

    g_assert_cmpint(cfs_status_set(f->status, key, value, NOW), ==, 0);
}

static void
tell(Fixture *f, const char *key, const char *value)
{
    g_autofree char *message = update(1, key, "55", value);

    hear(f, peer, message);
}

static void
assert_value(Fixture *f, const char *node, const char *key, const char *text)
{
    GBytes *value = cfs_status_get(f->status, node, key);

    if (text == NULL) {
        g_assert_null(value);
        return;
    }
    g_assert_nonnull(value);
    g_assert_cmpmem(g_bytes_get_data(value, NULL), g_bytes_get_size(value),
                    text, strlen(text));
}

static void
connect_alone(Fixture *f)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_CONNECTED, .self = self};

    step(f, event);
    change(f, 1, TRUE);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_SYNCED);
}

#define EPOCH "04000000|caf2016b|01000000|0a000000"
#define SYNC_START "0100 0000 00000000 caf2016b 00000000" EPOCH
#define STATE_HEAD "0200 0000 00000000 caf2016b 00000000" EPOCH
/* A ring of the captured entry of cpg1, spec 10.4. */
#define RING                                                                   \
    "60000000|08000000|00000000|60000000"                                      \
    "01000000|bff2016b|522cd1a4ab47181e"                                       \
    "bf53bc1d46e2d14d|d9020000|06|05|05|08"                                    \
    "15000000|6370673100|726f6f7400|636c"                                      \
    "757374657200 7374617274696e6720 63"                                       \
    "6c7573746572206c6f6700 00000000 00"

/* Hears of the peer, and goes with it through a synchronisation. Returns with
 * what is sent at its end still to be looked at. */
static void
sync_with_peer(Fixture *f, const char *peers_state)
{
    g_autofree char *state = g_strconcat(STATE_HEAD, peers_state, NULL);
    g_autoptr(GBytes) ours = NULL;

    change(f, 2, TRUE);
    assert_silent(f); /* the peer is the lowest */
    hear(f, peer, SYNC_START);
    ours = sent(f);
    hear(f, peer, state);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_START_SYNC);
    hear_bytes(f, self, ours);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_SYNCED);
}

/* --- bytes ---------------------------------------------------------------- */

/* Captured in spec 10.2, but for what the reference leaves behind the key. */
static void
test_update_bytes(Fixture *f, gconstpointer unused)
{
    g_autofree char *ip = update(2, "nodeip", "00", "31302e39382e302e3300");
    g_autofree char *gone = update(3, "kv/test", "00", "");
    g_autofree char *address =
        update(4, "nodeip", "00", "31302e39382e302e3300");
    g_autoptr(GBytes) value = g_bytes_new_static("10.98.0.3", 10);
    g_autoptr(GBytes) first = NULL, second = NULL, third = NULL, last = NULL;

    connect_alone(f);
    g_assert_cmpint(cfs_status_set(f->status, "nodeip", value, NOW), ==, 0);
    change(f, 1, FALSE);
    first = sent(f);
    g_assert_cmpuint(g_bytes_get_size(first), ==, 290);
    sync_with_peer(f, RING);
    second = sent(f);
    capture_assert(second, ip);
    set(f, "kv/test", "");
    flush(f);
    third = sent(f);
    g_assert_cmpuint(g_bytes_get_size(third), ==, 280);
    capture_assert(third, gone);
    g_assert_cmpint(cfs_status_set(f->status, "nodeip", value, NOW), ==, 0);
    flush(f);
    last = sent(f);
    capture_assert(last, address);
    assert_silent(f);
}

#define LOG_CAPTURED                                                           \
    "0000|0300|00000000|cdf2016b|00000000"                                     \
    "0900000000000000|0000000000000000"                                        \
    "02000000|cdf2016b|2949cea4abe1141e"                                       \
    "61bb95bf5d9af60b|0c030000|06|05|09|05"                                    \
    "0a000000|6370673200|726f6f744070616d00|7461673100|68656c6c6f206c6f6700"   \
    "00000000"

/* As captured, but for time and count of the header. */
static void
test_log_bytes(Fixture *f, gconstpointer unused)
{
    g_autoptr(GBytes) found = NULL, captured = capture_bytes(LOG_CAPTURED);
    const guint8 *a, *b;

    connect_alone(f);
    cfs_status_log(f->status, 6, "root@pam", "tag1", 780, "first", 1);
    sync_with_peer(f, RING);
    assert_silent(f); /* the state said it */
    cfs_status_log(f->status, 6, "root@pam", "tag1", 780, "hello log",
                   0x6b01f2cd);
    flush(f);
    found = sent(f);
    g_assert_cmpuint(g_bytes_get_size(found), ==, 101);
    a = g_bytes_get_data(found, NULL);
    b = g_bytes_get_data(captured, NULL);
    g_assert_cmpmem(a, 8, b, 8);
    g_assert_cmpmem(a + 24, 77, b + 24, 77);
}

static void
test_log_decoded(Fixture *f, gconstpointer unused)
{
    g_autofree char *text = NULL, *again = NULL;

    connect_alone(f);
    sync_with_peer(f, RING);
    hear(f, peer, LOG_CAPTURED);
    hear(f, peer, LOG_CAPTURED);
    text = cfs_status_clog_json(f->status, 0, "");
    g_assert_cmpstr(
        text, ==,
        "{\n\"data\": [\n{\"uid\": 2, \"time\": 1795289805, \"pri\": 6, "
        "\"tag\": \"tag1\", \"pid\": 780, \"node\": \"cpg2\", \"user\": "
        "\"root@pam\", \"msg\": \"hello log\"},\n{\"uid\": 1, \"time\": "
        "1795289791, \"pri\": 6, \"tag\": \"cluster\", \"pid\": 729, \"node\": "
        "\"cpg1\", \"user\": \"root\", \"msg\": \"starting cluster log\"}\n"
        "]\n}\n");
    again = cfs_status_clog_json(f->status, 1, "root@pam");
    g_assert_nonnull(strstr(again, "hello log"));
}

/* SYNC_START when we are the lowest; a state without entries is not empty. */
static void
test_state_bytes(Fixture *f, gconstpointer unused)
{
    static const CfsMember members[] = {{2, 20}, {3, 30}};
    CfsStatusEvent event = {.kind = CFS_STATUS_CONFCHG};
    g_autoptr(GBytes) start = NULL, state = NULL;

    connect_alone(f);
    event.confchg.members = members;
    event.confchg.n_members = 2;
    event.confchg.has_joined = TRUE;
    step(f, event);
    start = sent(f);
    capture_assert(start, "0100 0000 00000000 caf2016b 00000000"
                          "02000000 caf2016b 02000000 14000000");
    hear_bytes(f, self, start);
    state = sent(f);
    capture_assert(state, "0200 0000 00000000 caf2016b 00000000"
                          "02000000 caf2016b 02000000 14000000"
                          "10000000 00000000 00000000 00000000");
}

/* --- keys ----------------------------------------------------------------- */

static void
test_verdicts(Fixture *f, gconstpointer unused)
{
    g_autofree char *big = g_malloc0(32769);
    g_autofree char *name = g_strnfill(256, 'x');
    g_autoptr(GBytes) fits = g_bytes_new(big, 32768);
    g_autoptr(GBytes) too_big = g_bytes_new(big, 32769);
    g_autoptr(GBytes) open = g_bytes_new("1", 1);
    g_autoptr(GBytes) none = g_bytes_new(NULL, 0);

    g_assert_cmpint(cfs_status_set(f->status, "k", fits, 1), ==, 0);
    g_assert_cmpint(cfs_status_set(f->status, "k", too_big, 1), ==, EFBIG);
    g_assert_cmpint(cfs_status_set(f->status, name, open, 1), ==, EINVAL);
    g_assert_cmpint(cfs_status_set(f->status, "a\"b", open, 1), ==, EINVAL);
    g_assert_cmpint(cfs_status_set(f->status, "rrd/a", open, 1), ==, EINVAL);
    g_assert_cmpint(cfs_status_set(f->status, "rrd/a", none, 1), ==, EINVAL);
    g_assert_cmpint(cfs_status_set(f->status, "nodeip", open, 1), ==, EINVAL);
    g_assert_cmpint(cfs_status_set(f->status, "gone", none, 1), ==, 0);
    g_assert_null(cfs_status_get(f->status, "", "nodeip"));
    g_assert_null(cfs_status_get(f->status, "nobody", "k"));
    g_assert_nonnull(cfs_status_get(f->status, "cpg2", "k"));
    connect_alone(f);
    sync_with_peer(f, RING);
}

/* Many sets of a key before it can be sent are one message, the last value. */
static void
test_coalesced(Fixture *f, gconstpointer unused)
{
    g_autoptr(GBytes) first = NULL;
    g_autofree char *expected = update(1, "kv/a", "00", "333939");

    connect_alone(f);
    sync_with_peer(f, RING);
    for (guint i = 0; i < 400; i++) {
        g_autofree char *text = g_strdup_printf("%u", i);

        set(f, "kv/a", text);
    }
    g_assert_cmpuint(f->wakes, >, 0);
    flush(f);
    first = sent(f);
    capture_assert(first, expected);
    assert_silent(f);
    flush(f);
    assert_silent(f);
}

/* What is set while members synchronise goes out after it, once. */
static void
test_set_while_synchronising(Fixture *f, gconstpointer unused)
{
    g_autofree char *state = g_strconcat(STATE_HEAD, RING, NULL);
    g_autofree char *kept = update(1, "kept", "00", "31");
    g_autofree char *gone = update(2, "gone", "00", "");
    g_autoptr(GBytes) ours = NULL, first = NULL, second = NULL, log = NULL;

    connect_alone(f);
    set(f, "gone", "1");
    set(f, "kept", "1");
    change(f, 2, TRUE);
    hear(f, peer, SYNC_START);
    ours = sent(f);
    set(f, "gone", "");
    cfs_status_log(f->status, 6, "root", "tag", 1, "late", NOW);
    flush(f);
    assert_silent(f);
    hear(f, peer, state);
    hear_bytes(f, self, ours);
    first = sent(f);
    capture_assert(first, kept);
    second = sent(f);
    capture_assert(second, gone);
    log = sent(f);
    g_assert_cmpint(((const guint8 *)g_bytes_get_data(log, NULL))[2], ==, 3);
    assert_silent(f);
}

static void
test_peers_keys(Fixture *f, gconstpointer unused)
{
    GString *out = g_string_new(NULL);
    g_autofree char *text = NULL;

    connect_alone(f);
    sync_with_peer(f, RING);
    tell(f, "kv/a", "3100");
    g_assert_cmpmem(
        g_bytes_get_data(cfs_status_get(f->status, "cpg1", "kv/a"), NULL), 2,
        "1", 2);
    tell(f, "nodeip", "312e322e332e3400");
    tell(f, "rrd/pve2-node/x", "3a3500");
    tell(f, "rrd/bad", "3a35");
    text = cfs_nodelist_text(cfs_status_nodelist(f->status), TRUE);
    g_assert_nonnull(strstr(text, "\"cpg1\": { \"id\": 1, \"online\": 1, "
                                  "\"ip\": \"1.2.3.4\"}"));
    g_assert_cmpstr(cfs_status_rrd_dump(f->status, NOW, NULL), ==,
                    "pve2-node/x::5\n");
    cfs_nodelist_append_versions(cfs_status_nodelist(f->status), out);
    g_assert_cmpstr(out->str, ==,
                    "\"kvstore\": {\n\"cpg2\": {\n}\n,\n\"cpg1\": {\n\"kv/a\": "
                    "1}\n}\n");
    g_string_free(out, TRUE);
    tell(f, "kv/a", "");
    assert_value(f, "cpg1", "kv/a", NULL);
}

/* A peer that began anew: what it tells again stays, the rest goes when its
 * address says that this was all. */
static void
test_peer_restarts(Fixture *f, gconstpointer unused)
{
    connect_alone(f);
    sync_with_peer(f, RING);
    tell(f, "old", "31");
    tell(f, "both", "31");
    change(f, 1, FALSE);
    assert_value(f, "cpg1", "old", "1"); /* outlives its node */
    sync_with_peer(f, RING);
    tell(f, "both", "32");
    tell(f, "new", "32");
    assert_value(f, "cpg1", "old", "1");
    tell(f, "nodeip", "312e322e332e3400");
    assert_value(f, "cpg1", "old", NULL);
    assert_value(f, "cpg1", "both", "2");
    assert_value(f, "cpg1", "new", "2");
    tell(f, "nodeip", "312e322e332e3400");
    assert_value(f, "cpg1", "both", "2");
}

/* Our own keys of an earlier start are taken back, unless they are set. */
static void
test_own_restart(Fixture *f, gconstpointer unused)
{
    g_autofree char *saved = NULL;
    g_autofree char *old = update(1, "old", "00", "");
    g_autofree char *again = update(2, "again", "00", "32");
    g_autoptr(GBytes) first = NULL, second = NULL;

    cfs_status_restore_keys(f->status, "old\nagain\nrrd/x\nnodeip\na\"b\n\n");
    set(f, "again", "2");
    saved = cfs_status_save_keys(f->status);
    g_assert_cmpstr(saved, ==, "again\nold\n");
    connect_alone(f);
    flush(f);
    assert_silent(f); /* nobody to tell */
    sync_with_peer(f, RING);
    first = sent(f);
    second = sent(f);
    capture_assert(first, old);
    capture_assert(second, again);
}

/* --- the machine ---------------------------------------------------------- */

/* Messages that come while states are collected are applied in the order of
 * their counts; those of who went are dropped. */
static void
test_early(Fixture *f, gconstpointer unused)
{
    g_autofree char *state = g_strconcat(STATE_HEAD, RING, NULL);
    g_autofree char *one = update(1, "k", "00", "31");
    g_autofree char *two = update(2, "k", "00", "32");
    g_autofree char *other = update(3, "k", "00", "33");
    g_autoptr(GBytes) ours = NULL;

    connect_alone(f);
    change(f, 2, TRUE);
    hear(f, peer, two);
    hear(f, peer, one);
    hear(f, (CfsMember){7, 70}, other);
    assert_value(f, "cpg1", "k", NULL);
    hear(f, peer, SYNC_START);
    ours = sent(f);
    hear(f, peer, state);
    hear_bytes(f, self, ours);
    assert_value(f, "cpg1", "k", "2");
}

/* Our own part of the queue goes out again when somebody joins (7.2, 4a). */
static void
test_resend(Fixture *f, gconstpointer unused)
{
    g_autofree char *mine = update(5, "k", "00", "31");
    g_autofree char *theirs = update(6, "k", "00", "31");
    g_autoptr(GBytes) again = NULL;

    connect_alone(f);
    change(f, 2, TRUE);
    hear(f, self, mine);
    hear(f, peer, theirs);
    change(f, 2, FALSE);
    assert_silent(f);
    change(f, 2, TRUE);
    again = sent(f);
    capture_assert(again, mine);
    change(f, 2, TRUE);
    assert_silent(f);
}

/* What cannot be understood throws nobody out. */
static void
test_strange(Fixture *f, gconstpointer unused)
{
    static const char *const messages[] = {
        "",
        "00",
        "0000 0100 00000000 caf2016b 00000000", /* no count */
        "0200 0000 00000000 caf2016b 00000000", /* no epoch */
        "0000 0100 00000000 caf2016b 00000000 0100000000000000 6b00",
        "0000 0200 00000000 caf2016b 00000000 0100000000000000",
        "0000 0300 00000000 caf2016b 00000000 0100000000000000 00",
        "0300 0000 00000000 caf2016b 00000000" EPOCH,
        "0400 0000 00000000 caf2016b 00000000" EPOCH,
        "0500 0000 00000000 caf2016b 00000000" EPOCH,
        "ffff 0000 00000000 caf2016b 00000000" EPOCH,
        STATE_HEAD,
    };

    connect_alone(f);
    sync_with_peer(f, RING);
    for (guint i = 0; i < G_N_ELEMENTS(messages); i++) {
        hear(f, peer, messages[i]);
        g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_SYNCED);
    }
    change(f, 2, FALSE);
    hear(f, peer, SYNC_START);
    for (guint i = 0; i < G_N_ELEMENTS(messages); i++) {
        hear(f, peer, messages[i]);
        g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_START_SYNC);
    }
}

/* An empty state, a damaged one and a second one do not hang the round. */
static void
test_bad_states(Fixture *f, gconstpointer unused)
{
    g_autoptr(GBytes) ours = NULL;

    connect_alone(f);
    sync_with_peer(f, "");
    sync_with_peer(f, "ffffffff 08000000 00");
    change(f, 2, FALSE);
    hear(f, peer, SYNC_START);
    ours = sent(f);
    hear(f, peer, STATE_HEAD RING);
    hear(f, peer, STATE_HEAD);
    hear(f, (CfsMember){7, 70}, STATE_HEAD);
    hear_bytes(f, self, ours);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_SYNCED);
}

/* A second SYNC_START of one membership is answered, too (7.3). */
static void
test_second_sync_start(Fixture *f, gconstpointer unused)
{
    g_autoptr(GBytes) first = NULL, second = NULL;

    connect_alone(f);
    change(f, 2, TRUE);
    hear(f, peer, SYNC_START);
    first = sent(f);
    hear(f, peer,
         "0100 0000 00000000 caf2016b 00000000"
         "05000000 caf2016b 01000000 0a000000");
    second = sent(f);
    hear_bytes(f, self, first);
    hear(f, peer, STATE_HEAD RING); /* of the first epoch */
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_START_SYNC);
    hear_bytes(f, self, second);
    hear(f, peer,
         "0200 0000 00000000 caf2016b 00000000"
         "05000000 caf2016b 01000000 0a000000" RING);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_SYNCED);
}

static void
test_newer_protocol(Fixture *f, gconstpointer unused)
{
    g_autoptr(CfsStatusEffect) out = NULL;
    CfsStatusEvent gone = {.kind = CFS_STATUS_DISCONNECTED};

    connect_alone(f);
    sync_with_peer(f, RING);
    hear(f, peer, "0000 0100 01000000 caf2016b 00000000 0100000000000000");
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_OUT);
    out = next(f, CFS_STATUS_EFFECT_LEAVE);
    g_assert_nonnull(out);
    g_assert_cmpuint(out->delay_ms, >=, 10000);
    change(f, 2, TRUE);
    g_assert_cmpint(cfs_status_mode(f->status), ==, CFS_STATUS_OUT);
    step(f, gone);
    connect_alone(f);
}

/* We are thrown out again and again: the pauses grow. */
static void
test_back_off(Fixture *f, gconstpointer unused)
{
    CfsStatusEvent gone = {.kind = CFS_STATUS_DISCONNECTED};
    CfsStatusEvent without = {.kind = CFS_STATUS_CONFCHG};
    guint last_ms = 0;

    without.confchg.members = &peer;
    without.confchg.n_members = 1;
    for (guint i = 0; i < 4; i++) {
        g_autoptr(CfsStatusEffect) out = NULL;

        connect_alone(f);
        step(f, without);
        out = next(f, CFS_STATUS_EFFECT_LEAVE);
        g_assert_nonnull(out);
        g_assert_cmpuint(out->delay_ms, >, last_ms);
        last_ms = out->delay_ms;
        step(f, gone);
    }
}

/* --- members -------------------------------------------------------------- */

static void
test_online(Fixture *f, gconstpointer unused)
{
    CfsNodelist *nodes = cfs_status_nodelist(f->status);
    guint32 version = cfs_nodelist_version(nodes);
    CfsStatusEvent gone = {.kind = CFS_STATUS_DISCONNECTED};
    g_autofree char *both = NULL, *alone = NULL;

    connect_alone(f);
    g_assert_cmpuint(cfs_nodelist_version(nodes), >, version);
    change(f, 2, TRUE);
    both = cfs_nodelist_text(nodes, TRUE);
    g_assert_nonnull(strstr(both, "\"cpg1\": { \"id\": 1, \"online\": 1"));
    step(f, gone);
    alone = cfs_nodelist_text(nodes, FALSE);
    g_assert_nonnull(strstr(alone, "\"cpg1\": { \"id\": 1, \"online\": 0"));
    g_assert_nonnull(strstr(alone, "\"cpg2\": { \"id\": 2, \"online\": 1"));
}

/* A node that goes from the configuration takes its keys along; one that we
 * hear before we read of it loses none. */
static void
test_configuration(Fixture *f, gconstpointer unused)
{
    g_autoptr(GPtrArray) fewer =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);

    connect_alone(f);
    sync_with_peer(f, RING);
    tell(f, "k", "31");
    g_ptr_array_add(fewer, cfs_node_new(2, "cpg2"));
    cfs_status_set_cluster(f->status, "tb", 2, fewer);
    assert_value(f, "cpg1", "k", NULL);
    g_ptr_array_add(fewer, cfs_node_new(1, "cpg1"));
    cfs_status_set_cluster(f->status, "tb", 3, fewer);
    assert_value(f, "cpg1", "k", "1"); /* it was online all the time */
    change(f, 1, FALSE);
    g_ptr_array_set_size(fewer, 1);
    cfs_status_set_cluster(f->status, "tb", 4, fewer);
    g_ptr_array_add(fewer, cfs_node_new(1, "cpg1"));
    cfs_status_set_cluster(f->status, "tb", 5, fewer);
    assert_value(f, "cpg1", "k", NULL);
}

/* Without room nothing is sent, but this node's watchers are told. */
static void
test_busy(Fixture *f, gconstpointer unused)
{
    CfsStatusEvent busy = {.kind = CFS_STATUS_FLUSH, .is_busy = TRUE};
    g_autoptr(CfsStatusEffect) told = NULL;
    g_autoptr(GBytes) message = NULL;

    connect_alone(f);
    sync_with_peer(f, RING);
    flush(f); /* what the configuration changed */
    assert_silent(f);
    set(f, "kv/a", "1");
    step(f, busy);
    told = next(f, CFS_STATUS_EFFECT_CHANGED);
    g_assert_nonnull(told);
    g_assert_cmpstr(told->key, ==, "kv/a");
    g_assert_cmpstr(told->node, ==, "cpg2");
    assert_silent(f);
    flush(f);
    message = sent(f);
}

static void
on_trace(gpointer data, GLogLevelFlags level, const char *text)
{
    guint *n_warnings = data;

    *n_warnings += level == G_LOG_LEVEL_WARNING;
}

/* Who does not answer is named, once; nonsense fills no log. */
static void
test_complaints(Fixture *f, gconstpointer unused)
{
    guint n_warnings = 0;

    connect_alone(f);
    cfs_status_set_trace(f->status, on_trace, &n_warnings);
    change(f, 2, TRUE);
    hear(f, peer, SYNC_START);
    f->clock_ms += 4000;
    flush(f);
    g_assert_cmpuint(n_warnings, ==, 0);
    f->clock_ms += 2000;
    flush(f);
    flush(f);
    g_assert_cmpuint(n_warnings, ==, 1);
    for (guint i = 0; i < 100; i++) {
        hear(f, peer, "00");
    }
    g_assert_cmpuint(n_warnings, ==, 2);
    f->clock_ms += 60000;
    hear(f, peer, "00");
    g_assert_cmpuint(n_warnings, ==, 3);
}

#define ADD(name, function)                                                    \
    g_test_add("/status/" name, Fixture, NULL, setup, function, teardown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("update-bytes", test_update_bytes);
    ADD("log-bytes", test_log_bytes);
    ADD("log-decoded", test_log_decoded);
    ADD("state-bytes", test_state_bytes);
    ADD("verdicts", test_verdicts);
    ADD("coalesced", test_coalesced);
    ADD("set-while-synchronising", test_set_while_synchronising);
    ADD("peers-keys", test_peers_keys);
    ADD("peer-restarts", test_peer_restarts);
    ADD("own-restart", test_own_restart);
    ADD("early", test_early);
    ADD("resend", test_resend);
    ADD("strange", test_strange);
    ADD("bad-states", test_bad_states);
    ADD("second-sync-start", test_second_sync_start);
    ADD("newer-protocol", test_newer_protocol);
    ADD("back-off", test_back_off);
    ADD("online", test_online);
    ADD("configuration", test_configuration);
    ADD("busy", test_busy);
    ADD("complaints", test_complaints);
    return g_test_run();
}
