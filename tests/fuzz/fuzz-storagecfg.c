/* storage.cfg, and each of its lines as a volume id: no volume lies outside of
 * its storage. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/storagecfg.h"

#include <string.h>

static void
check_volume(const char *text)
{
    g_autoptr(AgentVolume) volume = agent_volume_parse(text, NULL);
    g_autofree char *storage = NULL;
    g_autofree char *whole = NULL;
    guint64 mib = 0;

    if (agent_volume_request_parse(text, &storage, &mib)) {
        g_assert_cmpuint(mib, <=, 1024 * 1024 * 1024);
    }
    if (volume == NULL) {
        return;
    }
    whole = g_canonicalize_filename(volume->relative, "/base");
    g_assert_true(g_str_has_prefix(whole, "/base/"));
    g_assert_cmpstr(whole + strlen("/base/"), ==, volume->relative);
    g_assert_nonnull(agent_volume_content(volume));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) diagnostics = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(AgentStorageCfg) cfg =
        agent_storagecfg_parse((const char *)data, size, diagnostics);
    g_autofree char *copy = g_strndup((const char *)data, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);
    const AgentStorage *local = agent_storagecfg_find(cfg, "local");

    g_assert_nonnull(local);
    g_assert_cmpstr(local->path, ==, "/var/lib/vz");
    for (char **line = lines; *line != NULL; line++) {
        g_autoptr(GError) error = NULL;
        const AgentStorage *storage =
            agent_storagecfg_use(cfg, *line, "n1", "rootdir", &error);

        g_assert_true((storage == NULL) == (error != NULL));
        g_assert_true(storage == NULL || *storage->path == '/');
        check_volume(*line);
    }
    return 0;
}
