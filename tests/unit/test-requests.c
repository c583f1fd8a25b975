#include "config.h"

#include "agent/core/requests.h"

#include <string.h>

static void
test_names(void)
{
    static const struct {
        const char *file;
        const char *name;
    } rows[] = {
        {"new.conf", ""},        {"new-web.conf", "web"},
        {"new-a.b.conf", "a.b"}, {"new-.conf", NULL},
        {"new-web", NULL},       {"renew-web.conf", NULL},
        {"new-../x.conf", NULL}, {"new-web.conf.tmp.7", NULL},
        {"100.conf", NULL},      {"new-a b.conf", "a b"},
        {"new- a.conf", NULL},   {"new-a .conf", NULL},
        {"new-a\nb.conf", NULL}, {"new-a\bb.conf", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = agent_request_name(rows[i].file);

        g_assert_cmpstr(name, ==, rows[i].name);
    }
}

/* The failed file's name is three bytes longer, and must fit too. */
static void
test_long_names(void)
{
    g_autofree char *fits = g_strnfill(243, 'x');
    g_autofree char *fitting = g_strdup_printf("new-%s.conf", fits);
    g_autofree char *long_one = g_strdup_printf("new-%sx.conf", fits);
    g_autofree char *name = agent_request_name(fitting);
    g_autofree char *failed = agent_request_failed_file(fits);

    g_assert_cmpstr(name, ==, fits);
    g_assert_cmpuint(strlen(failed), ==, 255);
    g_assert_null(agent_request_name(long_one));
}

static void
test_failed_file(void)
{
    g_autofree char *plain = agent_request_failed_file("");
    g_autofree char *named = agent_request_failed_file("web");

    g_assert_cmpstr(plain, ==, "failed.conf");
    g_assert_cmpstr(named, ==, "failed-web.conf");
}

static void
test_failed_text(void)
{
    g_autoptr(GBytes) first = g_bytes_new_static("rootfs: local:1\n", 16);
    g_autofree char *once =
        agent_request_failed_text(first, "no space: 100% full\nstate: started");
    g_autoptr(GBytes) second = g_bytes_new(once, strlen(once));
    g_autofree char *twice = agent_request_failed_text(second, "again");

    g_assert_cmpstr(once, ==,
                    "#failed%3A no space%3A 100%25 full%0Astate%3A started\n"
                    "rootfs: local:1\n");
    g_assert_cmpstr(twice, ==, "#failed%3A again\nrootfs: local:1\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/requests/names", test_names);
    g_test_add_func("/requests/long-names", test_long_names);
    g_test_add_func("/requests/failed-file", test_failed_file);
    g_test_add_func("/requests/failed-text", test_failed_text);
    return g_test_run();
}
