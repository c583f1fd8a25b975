/* datacenter.h - what datacenter.cfg says to those who write containers' files.
 *
 * Owner   the caller clears it.
 * Errors  none: what is not understood is as if it were not there.
 * Thread  any.
 * Source  spec/container-config.md 10; spec/cluster-tools.md, datacenter.cfg.
 */
#ifndef AGENT_DATACENTER_H
#define AGENT_DATACENTER_H

#include <glib.h>

typedef struct {
    /* Three octets, upper case; empty: none, addresses are then local ones. */
    char *mac_prefix;
    gboolean tags_keep_case;
    gboolean tags_keep_order;
} AgentDatacenter;

void agent_datacenter_clear(AgentDatacenter *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AgentDatacenter, agent_datacenter_clear)

void
agent_datacenter_parse(AgentDatacenter *self, const char *text, gsize size);
/* Returns: (owned) a MAC address with the prefix, the rest from @random. */
char *agent_datacenter_mac(const AgentDatacenter *self, guint64 random);

#endif
