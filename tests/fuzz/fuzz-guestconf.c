/* A container's file: what is read and written is the same when read and
 * written again, and no line of it is lost. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/guestchange.h"
#include "agent/core/guestconf.h"
#include "agent/core/holdrec.h"

#include <string.h>

static AgentGuestConf *
parse(const char *text, gsize size)
{
    g_autoptr(GPtrArray) diagnostics = g_ptr_array_new_with_free_func(g_free);

    return agent_guestconf_parse(100, text, size, diagnostics);
}

/* The hold record of what the file names can be read again. */
static void
check_record(const AgentGuestConf *conf)
{
    g_auto(GStrv) volumes = agent_guestconf_volumes(conf);
    g_autoptr(AgentHoldRec) record =
        agent_holdrec_new("00000000-0000-0000-0000-000000000000");
    g_autoptr(AgentHoldRec) again = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autofree char *text = NULL;

    agent_holdrec_set_volumes(record, (const char *const *)volumes);
    text = agent_holdrec_serialize(record);
    bytes = g_bytes_new(text, strlen(text));
    if (strlen(text) > AGENT_HOLDREC_MAX_BYTES) {
        return;
    }
    again = agent_holdrec_parse(bytes, &error);
    g_assert_no_error(error);
    g_assert_true(
        agent_holdrec_has_volumes(again, (const char *const *)volumes));
}

/* Pending entries applied one by one come to what the merged view shows, but
 * for the volumes that become unused; and what is written can be read. */
static void
check_application(AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) steps = agent_guestchange_steps(NULL, conf, FALSE);
    g_autoptr(AgentGuestConf) again = NULL;
    g_autofree char *once = NULL;
    g_autofree char *twice = NULL;

    for (guint i = 0; i < steps->len; i++) {
        if (!agent_guestchange_commit(conf, steps->pdata[i], NULL)) {
            return;
        }
    }
    for (guint i = 0; i < steps->len; i++) {
        const AgentGuestStep *step = steps->pdata[i];
        g_autofree char *left =
            agent_guestconf_peek(conf, AGENT_SECTION_PENDING, step->key);

        g_assert_null(left);
    }
    once = agent_guestconf_serialize(conf);
    again = parse(once, strlen(once));
    twice = agent_guestconf_serialize(again);
    g_assert_cmpstr(once, ==, twice);
}

/* All that others ask of a file, whatever is in it. */
static void
ask(AgentGuestConf *conf)
{
    g_auto(GStrv) keys = agent_guestconf_keys(conf);
    g_autofree char *name = agent_guestconf_hostname(conf);
    g_autofree char *uids = agent_guestconf_idmap(conf, 'u');
    g_autofree char *gids = agent_guestconf_idmap(conf, 'g');
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, NULL);
    g_autoptr(GPtrArray) nets = agent_guestconf_nets(conf, NULL);
    g_autoptr(AgentGuestConf) snapshot = agent_guestconf_snapshot(conf, "s1");
    g_autoptr(AgentGuestConf) merged = agent_guestconf_with_pending(conf);
    const char *reason = NULL;
    guint32 uid, gid;

    g_assert_nonnull(keys);
    g_assert_nonnull(name);
    g_assert_true(uids == NULL || agent_guestconf_is_unprivileged(conf));
    g_assert_true(gids == NULL || agent_guestconf_is_unprivileged(conf));
    g_assert_true(mounts == NULL || mounts->len <= 257);
    g_assert_true(nets == NULL || nets->len <= 32);
    g_assert_true(snapshot == NULL || !agent_guestconf_has_pending(snapshot));
    agent_guestconf_root_ids(conf, &uid, &gid);
    (void)agent_guestconf_wants_running(conf);
    g_assert_cmpint(agent_guestconf_is_broken(conf, &reason), ==,
                    reason != NULL);
    g_assert_false(agent_guestconf_has_pending(merged));
    check_record(conf);
    check_application(conf);
}

/* Each line that is not understood stands in the text, whole. */
static void
check_kept(const char *text, gsize size, const char *written)
{
    g_autoptr(GPtrArray) diagnostics = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(AgentGuestConf) conf =
        agent_guestconf_parse(100, text, size, diagnostics);
    static const char said[] = "vm 100 - unable to parse config: ";

    g_assert_nonnull(conf);
    for (guint i = 0; i < diagnostics->len; i++) {
        const char *line = diagnostics->pdata[i];

        if (g_str_has_prefix(line, said)) {
            g_assert_nonnull(strstr(written, line + strlen(said)));
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(AgentGuestConf) conf = parse((const char *)data, size);
    g_autofree char *once = agent_guestconf_serialize(conf);
    g_autoptr(AgentGuestConf) again = parse(once, strlen(once));
    g_autofree char *twice = agent_guestconf_serialize(again);
    g_autoptr(AgentGuestConf) copy = agent_guestconf_copy(conf);
    g_autofree char *copied = agent_guestconf_serialize(copy);

    g_assert_cmpstr(once, ==, twice);
    g_assert_cmpstr(once, ==, copied);
    if (g_utf8_validate_len((const char *)data, size, NULL)) {
        check_kept(once, strlen(once), twice);
    }
    ask(conf);
    return 0;
}
