#include "config.h"

#include "agent/core/holdrec.h"

#include <string.h>

#define BOOT "0f6a1c1e-5d3b-4a52-9f62-0a7f3f6f6b11"
#define DIGEST "da39a3ee5e6b4b0d3255bfef95601890afd80709"
#define TRANSFER "0123456789abcdef0123456789abcdef"

static AgentHoldRec *
parse(const char *text, GError **error)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

    return agent_holdrec_parse(bytes, error);
}

static void
test_round_trip(void)
{
    static const char text[] = "boot-id: " BOOT "\nran: 1\n"
                               "volumes: local:100/a.raw,local:100/b.subvol\n"
                               "digest: " DIGEST "\ntransfer: " TRANSFER "\n"
                               "from: n2\nrequest: web\nresume: 1\nadopting: "
                               "1\nfuture-key: any thing\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentHoldRec) record = parse(text, &error);
    g_autofree char *out = NULL;

    g_assert_no_error(error);
    g_assert_true(record->ran);
    g_assert_true(record->resume);
    g_assert_true(record->adopting);
    g_assert_cmpstr(record->volumes[1], ==, "local:100/b.subvol");
    g_assert_cmpstr(record->request, ==, "web");
    out = agent_holdrec_serialize(record);
    g_assert_cmpstr(out, ==, text);
}

static void
test_smallest(void)
{
    g_autoptr(AgentHoldRec) record = parse("boot-id: " BOOT "\n", NULL);
    const char *const none[] = {NULL};

    g_assert_nonnull(record);
    g_assert_false(record->ran);
    g_assert_null(record->volumes);
    /* Not recorded is not the same as none. */
    g_assert_false(agent_holdrec_has_volumes(record, none));
    agent_holdrec_set_volumes(record, none);
    g_assert_true(agent_holdrec_has_volumes(record, none));
}

static void
test_volumes_are_a_set(void)
{
    g_autoptr(AgentHoldRec) record = agent_holdrec_new(BOOT);
    const char *const ab[] = {"s:b", "s:a", "s:b", NULL};
    const char *const ba[] = {"s:a", "s:b", NULL};
    const char *const more[] = {"s:a", "s:b", "s:c", NULL};

    agent_holdrec_set_volumes(record, ab);
    g_assert_true(agent_holdrec_has_volumes(record, ba));
    g_assert_false(agent_holdrec_has_volumes(record, more));
    g_assert_false(agent_holdrec_has_volumes(record, ba + 1));
}

static void
test_refused(void)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"", "line 1: no boot-id"},
        {"ran: 1\n", "line 1: no boot-id"},
        {"boot-id: x\n", "line 1: bad value"},
        {"boot-id: " BOOT "\nran: 2\n", "line 2: bad value"},
        {"boot-id: " BOOT "\nran: 1\nran: 0\n", "line 3: repeated key"},
        {"boot-id: " BOOT "\nvolumes: nocolon\n", "line 2: bad value"},
        {"boot-id: " BOOT "\ndigest: 12\n", "line 2: bad value"},
        {"boot-id: " BOOT "\ntransfer: $(reboot)\n", "line 2: bad value"},
        {"boot-id: " BOOT "\nfrom: ../n1\n", "line 2: bad value"},
        {"boot-id: " BOOT "\nwhat is this\n", "line 2: no 'key: value'"},
        {"boot-id: " BOOT "\nUpper: 1\n", "line 2: no 'key: value'"},
        {"boot-id: " BOOT "\nrequest: a\tb\n", "line 2: control character"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(parse(rows[i].text, &error));
        g_assert_error(error, AGENT_HOLDREC_ERROR, AGENT_HOLDREC_ERROR_SYNTAX);
        g_assert_cmpstr(error->message, ==, rows[i].message);
    }
}

static void
test_bounds(void)
{
    g_autofree char *big = g_malloc0(AGENT_HOLDREC_MAX_BYTES + 1);
    g_autoptr(GBytes) nul = g_bytes_new_static("boot-id: \0", 10);
    g_autoptr(GBytes) empty = g_bytes_new_static(NULL, 0);
    g_autoptr(GBytes) large = NULL;

    memset(big, '\n', AGENT_HOLDREC_MAX_BYTES + 1);
    large = g_bytes_new_static(big, AGENT_HOLDREC_MAX_BYTES + 1);
    g_assert_null(agent_holdrec_parse(large, NULL));
    g_assert_null(agent_holdrec_parse(nul, NULL));
    g_assert_null(agent_holdrec_parse(empty, NULL));
}

/* What an aborted creation leaves is written last, and gone when it is none. */
static void
test_making(void)
{
    static const char *const list[] = {"a:2", "a:1", NULL};
    static const char *const none[] = {NULL};
    g_autoptr(AgentHoldRec) record =
        agent_holdrec_new("00000000-0000-0000-0000-000000000000");
    g_autoptr(AgentHoldRec) again = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autofree char *with = NULL;
    g_autofree char *without = NULL;

    agent_holdrec_set_making(record, list);
    with = agent_holdrec_serialize(record);
    g_assert_true(g_str_has_suffix(with, "\nmaking: a:1,a:2\n"));
    bytes = g_bytes_new(with, strlen(with));
    again = agent_holdrec_parse(bytes, NULL);
    g_assert_nonnull(again);
    g_assert_cmpstr(again->making[1], ==, "a:2");
    agent_holdrec_set_making(again, none);
    g_assert_null(again->making);
    without = agent_holdrec_serialize(again);
    g_assert_null(strstr(without, "making"));
}

/* Blanks around an id are not part of it, in the text and in a list. */
static void
test_blanks(void)
{
    static const char text[] =
        "boot-id: 00000000-0000-0000-0000-000000000000\nran: 0\n"
        "volumes:  a:2 , a:1\n";
    static const char *const list[] = {" a:1", "a:2 ", NULL};
    g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentHoldRec) record = agent_holdrec_parse(bytes, &error);
    g_autofree char *written = NULL;

    g_assert_no_error(error);
    g_assert_true(agent_holdrec_has_volumes(record, list));
    written = agent_holdrec_serialize(record);
    g_assert_nonnull(strstr(written, "\nvolumes: a:1,a:2\n"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/holdrec/round-trip", test_round_trip);
    g_test_add_func("/holdrec/smallest", test_smallest);
    g_test_add_func("/holdrec/volumes-are-a-set", test_volumes_are_a_set);
    g_test_add_func("/holdrec/refused", test_refused);
    g_test_add_func("/holdrec/bounds", test_bounds);
    g_test_add_func("/holdrec/making", test_making);
    g_test_add_func("/holdrec/blanks", test_blanks);
    return g_test_run();
}
