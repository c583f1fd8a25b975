/* What else the agent reads of the cluster filesystem: .members, .vmlist,
 * datacenter.cfg and ha/resources.cfg. One input is read as each of them. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "agent/core/ctid.h"
#include "agent/core/observe.h"
#include "common/names.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    g_autoptr(GPtrArray) members = agent_members_parse(text, size);
    g_autoptr(GHashTable) taken = agent_ctid_set_new();
    g_autoptr(AgentSnapshot) snapshot = agent_snapshot_new(0);
    guint32 lower = 0, upper = 0;

    for (guint i = 0; i < members->len; i++) {
        const AgentMember *member = members->pdata[i];

        g_assert_true(pve_name_is_node(member->name));
    }
    agent_ctid_range(text, size, &lower, &upper);
    g_assert_cmpuint(lower, >=, PVE_CTID_MIN);
    g_assert_cmpuint(lower, <, upper);
    g_assert_cmpuint(upper, <=, PVE_CTID_MAX + 1);
    (void)agent_ctid_set_add_vmlist(taken, text, size);
    g_assert_false(g_hash_table_contains(
        taken, GUINT_TO_POINTER(agent_ctid_next(taken, lower, upper))));
    agent_snapshot_add_ha(snapshot, text, size);
    return 0;
}
