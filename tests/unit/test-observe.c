#include "config.h"

#include "agent/core/observe.h"

#include <string.h>

#define BOOT "0f6a1c1e-5d3b-4a52-9f62-0a7f3f6f6b11"
#define S G_USEC_PER_SEC

/* --- building pictures --- */

static AgentSnapshot *
picture(gint64 time_us)
{
    AgentSnapshot *now = agent_snapshot_new(time_us);

    now->complete = TRUE;
    now->quorate = TRUE;
    now->session = g_strdup("one");
    now->epoch = g_strdup("1");
    return now;
}

static void
put(AgentSnapshot *now,
    AgentFileKind kind,
    const char *node,
    guint32 ctid,
    guint64 inode,
    const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
    g_autofree char *name =
        kind == AGENT_FILE_CONF      ? g_strdup_printf("%u.conf", ctid)
        : kind == AGENT_FILE_REQUEST ? g_strdup("new-x.conf")
                                     : g_strdup_printf("%u", ctid);

    g_ptr_array_add(now->files,
                    agent_file_new(kind, node, name, ctid, inode, bytes));
}

static void
conf(AgentSnapshot *now, const char *node, guint64 inode, const char *text)
{
    put(now, AGENT_FILE_CONF, node, 100, inode, text);
}

static void
run(AgentSnapshot *now, guint32 ctid)
{
    g_array_append_val(now->running, ctid);
}

/* Hands the picture over. */
static void
feed(AgentObserver *self, AgentSnapshot *now)
{
    agent_observer_update(self, now);
    agent_snapshot_unref(now);
}

/* The same; returns what is known of 100. */
static const AgentGuest *
show(AgentObserver *self, AgentSnapshot *now)
{
    feed(self, now);
    g_assert_cmpuint(agent_observer_guests(self)->len, ==, 1);
    return g_ptr_array_index(agent_observer_guests(self), 0);
}

/* --- settled --- */

static void
test_quiet_for_two_seconds(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S);
    const AgentGuest *guest;

    conf(now, "n1", 7, "state: started\n");
    guest = show(o, now);
    g_assert_false(guest->settled);
    g_assert_null(guest->conf);

    now = picture(12 * S - 1);
    conf(now, "n1", 7, "state: started\n");
    g_assert_false(show(o, now)->settled);

    now = picture(12 * S);
    conf(now, "n1", 7, "state: started\n");
    guest = show(o, now);
    g_assert_true(guest->settled);
    g_assert_cmpint(agent_guestconf_wants_running(guest->conf), ==, 1);
}

static void
test_each_write_starts_over(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now;

    for (int i = 0; i < 5; i++) {
        g_autofree char *text = g_strdup_printf("memory: %d\n", 512 + i);

        now = picture((10 + i) * S);
        conf(now, "n1", 7, text);
        g_assert_false(show(o, now)->settled);
    }
    now = picture(16 * S);
    conf(now, "n1", 7, "memory: 516\n");
    g_assert_true(show(o, now)->settled);
    /* The same text in another file is another file. */
    now = picture(17 * S);
    conf(now, "n1", 8, "memory: 516\n");
    g_assert_false(show(o, now)->settled);
}

/* The filesystem may know that nobody is in the midst of it. */
static void
test_whole_at_once(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S), *next = picture(10 * S + 1);
    const AgentGuest *guest;

    conf(now, "n1", 7, "state: started\n");
    ((AgentFile *)now->files->pdata[0])->whole = TRUE;
    guest = show(o, now);
    g_assert_true(guest->settled);
    g_assert_nonnull(guest->conf);
    /* What is written next is not. */
    conf(next, "n1", 7, "state: st");
    g_assert_false(show(o, next)->settled);
}

static void
test_rename_stays_settled(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S);

    conf(now, "n1", 7, "a: 1\n");
    show(o, now);
    now = picture(12 * S);
    conf(now, "n1", 7, "a: 1\n");
    g_assert_true(show(o, now)->settled);
    now = picture(12 * S + 1);
    conf(now, "n2", 7, "a: 1\n");
    g_assert_true(show(o, now)->settled);
    /* Moved and changed at once: not settled. */
    now = picture(12 * S + 2);
    conf(now, "n3", 7, "a: 2\n");
    g_assert_false(show(o, now)->settled);
}

static void
test_request_becomes_settled_conf(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S);
    const AgentRequest *request;

    put(now, AGENT_FILE_REQUEST, "n1", 0, 7, "a: 1\n");
    put(now, AGENT_FILE_REQUEST, "n2", 0, 8, "b: 1\n");
    feed(o, now);
    g_assert_cmpuint(agent_observer_requests(o)->len, ==, 1);
    now = picture(12 * S);
    put(now, AGENT_FILE_REQUEST, "n1", 0, 7, "a: 1\n");
    feed(o, now);
    request = g_ptr_array_index(agent_observer_requests(o), 0);
    g_assert_true(request->settled);
    now = picture(13 * S);
    conf(now, "n1", 7, "a: 1\n");
    g_assert_true(show(o, now)->settled);
}

/* --- steady --- */

static void
test_steady_needs_two_pictures(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S);

    conf(now, "n1", 7, "a: 1\n");
    g_assert_false(show(o, now)->steady);
    now = picture(11 * S);
    conf(now, "n1", 7, "a: 2\n");
    g_assert_true(show(o, now)->steady);
    now = picture(12 * S);
    conf(now, "n1", 7, "a: 2\n");
    put(now, AGENT_FILE_HOLD, "n2", 100, 9, "boot-id: " BOOT "\n");
    g_assert_false(show(o, now)->steady);
    /* A rename seen twice. */
    now = picture(13 * S);
    conf(now, "n1", 7, "a: 2\n");
    conf(now, "n2", 7, "a: 2\n");
    put(now, AGENT_FILE_HOLD, "n2", 100, 9, "boot-id: " BOOT "\n");
    g_assert_false(show(o, now)->steady);
}

/* --- deletions --- */

/* A picture with container 100 running and held here, no file. */
static AgentSnapshot *
without_file(gint64 time_us)
{
    AgentSnapshot *now = picture(time_us);

    put(now, AGENT_FILE_HOLD, "n1", 100, 9, "boot-id: " BOOT "\nran: 1\n");
    run(now, 100);
    return now;
}

static void
begin(AgentObserver *o)
{
    AgentSnapshot *now = without_file(10 * S);

    conf(now, "n1", 7, "a: 1\n");
    g_assert_cmpint(show(o, now)->deletion, ==, AGENT_DELETION_NONE);
}

static void
test_seen_deletion_is_confirmed(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    gint64 t = 11 * S;

    begin(o);
    for (; t < 41 * S; t += S) {
        g_assert_cmpint(show(o, without_file(t))->deletion, ==,
                        AGENT_DELETION_SEEN);
    }
    g_assert_cmpint(show(o, without_file(t))->deletion, ==,
                    AGENT_DELETION_CONFIRMED);
}

static void
test_file_comes_back(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now;

    begin(o);
    show(o, without_file(11 * S));
    now = without_file(12 * S);
    conf(now, "n1", 8, "a: 1\n");
    g_assert_cmpint(show(o, now)->deletion, ==, AGENT_DELETION_NONE);
    g_assert_cmpint(show(o, without_file(13 * S))->deletion, ==,
                    AGENT_DELETION_SEEN);
    g_assert_cmpint(show(o, without_file(17 * S))->deletion, ==,
                    AGENT_DELETION_SEEN);
}

static void
test_missing_is_not_deleted(void)
{
    g_autoptr(AgentObserver) fresh = agent_observer_new("n1");
    g_autoptr(AgentObserver) other = agent_observer_new("n1");
    g_autoptr(AgentObserver) gap = agent_observer_new("n1");
    g_autoptr(AgentObserver) blind = agent_observer_new("n1");
    AgentSnapshot *now;

    /* After our own start. */
    g_assert_cmpint(show(fresh, without_file(10 * S))->deletion, ==,
                    AGENT_DELETION_NONE);
    /* Another tree: the filesystem was restarted. */
    begin(other);
    now = without_file(11 * S);
    g_free(now->session);
    now->session = g_strdup("two");
    g_assert_cmpint(show(other, now)->deletion, ==, AGENT_DELETION_NONE);
    /* Nothing was seen for a while. */
    begin(gap);
    g_assert_cmpint(show(gap, without_file(16 * S))->deletion, ==,
                    AGENT_DELETION_NONE);
    /* It went away while there was no quorum. */
    begin(blind);
    now = without_file(11 * S);
    now->quorate = FALSE;
    g_assert_cmpint(show(blind, now)->deletion, ==, AGENT_DELETION_NONE);
    g_assert_cmpint(show(blind, without_file(12 * S))->deletion, ==,
                    AGENT_DELETION_NONE);
}

static void
test_membership_change_hides_a_deletion(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now;

    begin(o);
    now = without_file(11 * S);
    g_free(now->epoch);
    now->epoch = g_strdup("2");
    g_assert_cmpint(show(o, now)->deletion, ==, AGENT_DELETION_NONE);
}

static void
test_lost_quorum_starts_the_clock_again(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now;
    gint64 t;

    begin(o);
    for (t = 11 * S; t < 40 * S; t += S) {
        show(o, without_file(t));
    }
    now = without_file(t);
    now->quorate = FALSE;
    show(o, now);
    for (t += S; t < 70 * S; t += S) {
        g_assert_cmpint(show(o, without_file(t))->deletion, ==,
                        AGENT_DELETION_SEEN);
    }
    show(o, without_file(t));
    g_assert_cmpint(show(o, without_file(t + S))->deletion, ==,
                    AGENT_DELETION_CONFIRMED);
}

static void
test_incomplete_picture_says_nothing(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now;

    begin(o);
    now = picture(11 * S);
    now->complete = FALSE;
    feed(o, now);
    g_assert_cmpuint(agent_observer_guests(o)->len, ==, 0);
    now = without_file(12 * S);
    conf(now, "n1", 7, "a: 1\n");
    g_assert_cmpint(show(o, now)->deletion, ==, AGENT_DELETION_NONE);
}

static void
test_recently_removed(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    g_autofree char *soon = NULL;
    g_autofree char *late = NULL;
    AgentSnapshot *now = picture(10 * S);

    put(now, AGENT_FILE_FOREIGN, "n3", 101, 7, "");
    feed(o, now);
    feed(o, picture(11 * S));
    soon = agent_observer_recently_removed(o);
    g_assert_cmpstr(soon, ==, "101");
    feed(o, picture(71 * S));
    late = agent_observer_recently_removed(o);
    g_assert_cmpstr(late, ==, "");
}

/* --- records, offers, members --- */

static void
test_records_and_offers(void)
{
    g_autoptr(AgentObserver) o = agent_observer_new("n1");
    AgentSnapshot *now = picture(10 * S);
    const AgentGuest *guest;

    conf(now, "n2", 7, "a: 1\n");
    put(now, AGENT_FILE_HOLD, "n1", 100, 9, "boot-id: " BOOT "\nran: 1\n");
    put(now, AGENT_FILE_OFFER, "n2", 100, 11,
        "boot-id: " BOOT "\ntransfer: 0123456789abcdef0123456789abcdef\n");
    put(now, AGENT_FILE_OFFER, "n3", 100, 12, "rubbish");
    guest = show(o, now);
    g_assert_true(guest->own_present);
    g_assert_true(guest->own->ran);
    g_assert_cmpuint(guest->n_other, ==, 0);
    g_assert_nonnull(guest->owner_offer);

    now = picture(11 * S);
    conf(now, "n1", 7, "a: 1\n");
    put(now, AGENT_FILE_HOLD, "n1", 100, 9, "rubbish");
    put(now, AGENT_FILE_HOLD, "n2", 100, 10, "rubbish");
    guest = show(o, now);
    g_assert_true(guest->own_present);
    g_assert_null(guest->own);
    g_assert_nonnull(guest->own_problem);
    g_assert_cmpuint(guest->n_other, ==, 1);
    g_assert_cmpstr(guest->holder, ==, "n2");
}

static void
test_members(void)
{
    static const char text[] =
        "{\n\"nodename\": \"n1\",\n\"version\": 7,\n\"cluster\": { \"name\": "
        "\"tb\", \"version\": 1, \"nodes\": 3, \"quorate\": 1 },\n"
        "\"nodelist\": {\n"
        "  \"n1\": { \"id\": 1, \"online\": 1, \"ip\": \"10.99.0.1\"},\n"
        "  \"n3\": { \"id\": 3, \"online\": 0}\n  }\n}\n";
    g_autoptr(GPtrArray) members = agent_members_parse(text, strlen(text));
    const AgentMember *first, *second;

    g_assert_cmpuint(members->len, ==, 2);
    first = g_ptr_array_index(members, 0);
    second = g_ptr_array_index(members, 1);
    g_assert_cmpstr(first->name, ==, "n1");
    g_assert_true(first->online);
    g_assert_cmpstr(first->ip, ==, "10.99.0.1");
    g_assert_false(second->online);
    g_assert_null(second->ip);
    /* Every cut of it ends without members or with whole ones. */
    for (gsize size = 0; size < strlen(text); size++) {
        g_autofree char *cut = g_strndup(text, size);
        g_autoptr(GPtrArray) some = agent_members_parse(cut, size);

        g_assert_true(some->len == 0 || some->len == 2);
    }
}

static void
test_ha(void)
{
    static const char text[] = "vm: 7\n\nct: 101\n\tstate started\nct: x\n";
    g_autoptr(AgentSnapshot) now = picture(0);

    agent_snapshot_add_ha(now, text, strlen(text));
    g_assert_cmpuint(g_hash_table_size(now->ha), ==, 1);
    g_assert_true(g_hash_table_contains(now->ha, GUINT_TO_POINTER(101)));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/observe/settled/quiet", test_quiet_for_two_seconds);
    g_test_add_func("/observe/settled/write", test_each_write_starts_over);
    g_test_add_func("/observe/settled/whole", test_whole_at_once);
    g_test_add_func("/observe/settled/rename", test_rename_stays_settled);
    g_test_add_func("/observe/settled/request",
                    test_request_becomes_settled_conf);
    g_test_add_func("/observe/steady", test_steady_needs_two_pictures);
    g_test_add_func("/observe/deletion/seen", test_seen_deletion_is_confirmed);
    g_test_add_func("/observe/deletion/back", test_file_comes_back);
    g_test_add_func("/observe/deletion/missing", test_missing_is_not_deleted);
    g_test_add_func("/observe/deletion/membership",
                    test_membership_change_hides_a_deletion);
    g_test_add_func("/observe/deletion/quorum",
                    test_lost_quorum_starts_the_clock_again);
    g_test_add_func("/observe/incomplete",
                    test_incomplete_picture_says_nothing);
    g_test_add_func("/observe/recently-removed", test_recently_removed);
    g_test_add_func("/observe/records", test_records_and_offers);
    g_test_add_func("/observe/members", test_members);
    g_test_add_func("/observe/ha", test_ha);
    return g_test_run();
}
