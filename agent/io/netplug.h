/* netplug.h - host interfaces and bridges, by rtnetlink(7).
 *
 * /sys/class/net shows the namespace in which that sysfs was mounted, so it is
 * not asked.
 *
 * Owner   the caller.
 * Errors  GError in G_FILE_ERROR or AGENT_OPS_ERROR.
 * Thread  one, which changes its network namespace for a moment; blocking, but
 *         the kernel answers at once.
 * Source  spec/container-runtime.md 6 and 9.
 */
#ifndef AGENT_NETPLUG_H
#define AGENT_NETPLUG_H

#include "agent/core/guestconf.h"

typedef struct {
    int index;
    guint mtu;
    gboolean is_bridge;
} AgentLink;

/* FALSE without an error: there is no such interface. */
gboolean agent_link_find(const char *name, AgentLink *link, GError **error);
/* No such interface is no error. */
gboolean agent_link_delete(const char *name, GError **error);
/* Puts @interface, the host end of @net, into its bridge: the bridge's MTU, no
 * IPv6 on the port, up; with link_down it is left down and apart. */
gboolean
agent_netplug(const char *interface, const AgentNet *net, GError **error);
/* Brings interface @key of a running container from what @was says of it to
 * what @now does: made, removed, made anew where name or address of the card
 * changed, else put into its bridge, given its MTU and its addresses. On
 * failure the old one is there again. */
gboolean agent_netplug_change(guint32 ctid,
                              const char *key,
                              const AgentGuestConf *was,
                              const AgentGuestConf *now,
                              GError **error);
/* Deletes vethCTIDiN for every N that may exist. */
void agent_netplug_clean(guint32 ctid);

#endif
