#include "config.h"

#include "pmxcfs/core/announce.h"

#include <string.h>

typedef struct {
    CfsGuests *guests;
    CfsAnnounce *announce;
} Fixture;

static void
put(Fixture *f, const char *text)
{
    PveGuestPath path;

    g_assert_true(pve_guest_path_parse(text, &path));
    cfs_guests_put(f->guests, &path);
}

static void
setup(Fixture *f, gconstpointer unused)
{
    static const guint32 counters[] = {7, 8};

    f->guests = cfs_guests_new();
    put(f, "nodes/n1/lxc/100.conf");
    f->announce = cfs_announce_new(counters, G_N_ELEMENTS(counters), f->guests);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_announce_free(f->announce);
    cfs_guests_free(f->guests);
}

/* "ID NODE VERSION ..." as shown. */
static char *
list(Fixture *f)
{
    g_autoptr(GArray) guests = cfs_announce_list(f->announce);
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < guests->len; i++) {
        const CfsGuest *guest = &g_array_index(guests, CfsGuest, i);

        g_string_append_printf(out, "%u %s %u ", guest->id, guest->node,
                               guest->version);
    }
    return g_string_free(out, FALSE);
}

static void
assert_list(Fixture *f, const char *wanted)
{
    g_autofree char *shown = list(f);

    g_assert_cmpstr(shown, ==, wanted);
}

static void
test_counters(Fixture *f, gconstpointer unused)
{
    guint64 first, second;

    g_assert_cmpuint(cfs_announce_end_step(f->announce, f->guests), ==, 0);
    cfs_announce_counter(f->announce, 0, 9);
    first = cfs_announce_end_step(f->announce, f->guests);
    cfs_announce_counter(f->announce, 0, 10);
    cfs_announce_counter(f->announce, 1, 11);
    second = cfs_announce_end_step(f->announce, f->guests);
    g_assert_cmpuint(first, !=, 0);
    g_assert_cmpuint(second, >, first);
    g_assert_cmpuint(cfs_announce_value(f->announce, 0), ==, 7);
    cfs_announce_release(f->announce, first);
    g_assert_cmpuint(cfs_announce_value(f->announce, 0), ==, 9);
    g_assert_cmpuint(cfs_announce_value(f->announce, 1), ==, 8);
    cfs_announce_release(f->announce, second);
    g_assert_cmpuint(cfs_announce_value(f->announce, 0), ==, 10);
    g_assert_cmpuint(cfs_announce_value(f->announce, 1), ==, 11);
}

/* The list is shown as it was when the step ended, not as it is. */
static void
test_guests(Fixture *f, gconstpointer unused)
{
    guint64 made, moved, dropped;

    put(f, "nodes/n2/lxc/101.conf");
    cfs_announce_guest(f->announce, 101);
    made = cfs_announce_end_step(f->announce, f->guests);
    put(f, "nodes/n3/lxc/101.conf");
    cfs_announce_guest(f->announce, 101);
    moved = cfs_announce_end_step(f->announce, f->guests);
    cfs_guests_drop(f->guests, 100);
    cfs_announce_guest(f->announce, 100);
    dropped = cfs_announce_end_step(f->announce, f->guests);
    assert_list(f, "100 n1 1 ");
    g_assert_cmpuint(cfs_announce_list_version(f->announce), ==, 1);
    cfs_announce_release(f->announce, made);
    assert_list(f, "100 n1 1 101 n2 2 ");
    cfs_announce_release(f->announce, moved);
    assert_list(f, "100 n1 1 101 n3 3 ");
    cfs_announce_release(f->announce, dropped);
    assert_list(f, "101 n3 3 ");
    g_assert_cmpuint(cfs_announce_list_version(f->announce), ==, 4);
}

/* What is older goes with it. */
static void
test_reload(Fixture *f, gconstpointer unused)
{
    guint64 step;

    cfs_announce_guest(f->announce, 100);
    (void)cfs_announce_end_step(f->announce, f->guests);
    cfs_guests_drop(f->guests, 100);
    put(f, "nodes/n9/lxc/900.conf");
    cfs_announce_all_guests(f->announce);
    step = cfs_announce_end_step(f->announce, f->guests);
    assert_list(f, "100 n1 1 ");
    cfs_announce_release(f->announce, step);
    assert_list(f, "900 n9 2 ");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/announce/counters", Fixture, NULL, setup, test_counters,
               teardown);
    g_test_add("/announce/guests", Fixture, NULL, setup, test_guests, teardown);
    g_test_add("/announce/reload", Fixture, NULL, setup, test_reload, teardown);
    return g_test_run();
}
