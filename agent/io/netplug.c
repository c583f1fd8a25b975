#include "config.h"

#include "agent/io/netplug.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/io/ops.h"
#include "common/files.h"

enum { MAX_NETS = 32, REQUEST_BYTES = 512, REPLY_BYTES = 32768 };

/* One request, aligned for the kernel. */
typedef struct {
    struct nlmsghdr header;
    struct ifinfomsg info;
    char attributes[REQUEST_BYTES];
} Request;

typedef union {
    struct nlmsghdr header;
    char bytes[REPLY_BYTES];
} Reply;

static void
request_init(Request *self, guint16 type, guint16 flags)
{
    memset(self, 0, sizeof(*self));
    self->header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
    self->header.nlmsg_type = type;
    self->header.nlmsg_flags = (guint16)(NLM_F_REQUEST | flags);
    self->info.ifi_family = AF_UNSPEC;
}

static void
request_add(Request *self, guint16 type, gconstpointer data, gsize size)
{
    gsize at = NLMSG_ALIGN(self->header.nlmsg_len);
    struct rtattr attribute = {.rta_len = (guint16)RTA_LENGTH(size),
                               .rta_type = type};

    g_assert(at + RTA_SPACE(size) <= sizeof(*self));
    memcpy((char *)self + at, &attribute, sizeof(attribute));
    memcpy((char *)self + at + RTA_LENGTH(0), data, size);
    self->header.nlmsg_len = (guint32)(at + RTA_SPACE(size));
}

/* Sends and reads one answer. Returns 0, or an errno; the answer is in @reply
 * when it is no acknowledgement. */
static int
exchange(Request *request, Reply *reply)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    PVE_AUTOFD(fd) = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    ssize_t n;

    if (fd < 0 || sendto(fd, request, request->header.nlmsg_len, 0,
                         (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
        return errno;
    }
    do {
        n = recv(fd, reply, sizeof(*reply), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno;
    }
    if (!NLMSG_OK(&reply->header, (guint32)n)) {
        return EPROTO;
    }
    if (reply->header.nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *e = NLMSG_DATA(&reply->header);

        return -e->error;
    }
    return 0;
}

/* Finds the attribute of @type among @size @bytes of attributes. Returns:
 * (borrowed) its data, or NULL. */
static const char *
find_attribute(const char *bytes, gsize size, guint16 type, gsize *length)
{
    struct rtattr a;

    while (size >= sizeof(a)) {
        gsize step;

        memcpy(&a, bytes, sizeof(a));
        if (a.rta_len < sizeof(a) || a.rta_len > size) {
            return NULL;
        }
        if (a.rta_type == type) {
            *length = a.rta_len - sizeof(a);
            return bytes + RTA_LENGTH(0);
        }
        step = MIN(RTA_ALIGN(a.rta_len), size);
        bytes += step;
        size -= step;
    }
    return NULL;
}

static void
read_link(const Reply *reply, AgentLink *link)
{
    const gsize start = NLMSG_LENGTH(sizeof(struct ifinfomsg));
    const gsize end = MIN(reply->header.nlmsg_len, sizeof(reply->bytes));
    const char *attributes = reply->bytes + NLMSG_ALIGN(start);
    struct ifinfomsg info;
    const char *found;
    gsize size, length;
    guint32 mtu;

    if (end < NLMSG_ALIGN(start)) {
        return;
    }
    size = end - NLMSG_ALIGN(start);
    memcpy(&info, reply->bytes + NLMSG_LENGTH(0), sizeof(info));
    link->index = info.ifi_index;
    found = find_attribute(attributes, size, IFLA_MTU, &length);
    if (found != NULL && length == sizeof(mtu)) {
        memcpy(&mtu, found, sizeof(mtu));
        link->mtu = mtu;
    }
    found = find_attribute(attributes, size, IFLA_LINKINFO, &length);
    if (found != NULL) {
        found = find_attribute(found, length, IFLA_INFO_KIND, &length);
    }
    link->is_bridge = found != NULL && length >= strlen("bridge") &&
                      strncmp(found, "bridge", length) == 0;
}

gboolean
agent_link_find(const char *name, AgentLink *link, GError **error)
{
    g_autofree Reply *reply = g_new0(Reply, 1);
    Request request;
    int e;

    memset(link, 0, sizeof(*link));
    if (strlen(name) >= IFNAMSIZ) {
        return FALSE;
    }
    request_init(&request, RTM_GETLINK, 0);
    request_add(&request, IFLA_IFNAME, name, strlen(name) + 1);
    e = exchange(&request, reply);
    if (e == ENODEV) {
        return FALSE;
    }
    if (e != 0) {
        errno = e;
        return pve_errno_error(error, "look up interface", name);
    }
    read_link(reply, link);
    return TRUE;
}

static gboolean
change(Request *request, const char *what, const char *name, GError **error)
{
    g_autofree Reply *reply = g_new0(Reply, 1);
    int e = exchange(request, reply);

    if (e != 0) {
        errno = e;
        return pve_errno_error(error, what, name);
    }
    return TRUE;
}

gboolean
agent_link_delete(const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;
    AgentLink link;
    Request request;

    if (!agent_link_find(name, &link, &local)) {
        if (local != NULL) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        return TRUE;
    }
    request_init(&request, RTM_DELLINK, NLM_F_ACK);
    request.info.ifi_index = link.index;
    return change(&request, "delete interface", name, error);
}

void
agent_netplug_clean(guint32 ctid)
{
    for (guint i = 0; i < MAX_NETS; i++) {
        g_autofree char *name = g_strdup_printf("veth%ui%u", ctid, i);
        g_autoptr(GError) error = NULL;

        if (!agent_link_delete(name, &error)) {
            g_warning("%s", error->message);
        }
    }
}

static gboolean
set_up(const char *name, int index, gboolean up, GError **error)
{
    Request request;

    request_init(&request, RTM_NEWLINK, NLM_F_ACK);
    request.info.ifi_index = index;
    request.info.ifi_change = IFF_UP;
    request.info.ifi_flags = up ? IFF_UP : 0;
    return change(&request, up ? "bring up" : "bring down", name, error);
}

/* No address of its own on a port: the host must not answer there. A kernel
 * without IPv6 has no such file. */
static gboolean
disable_ipv6(const char *name, GError **error)
{
    g_autofree char *path =
        g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        return errno == ENOENT ? TRUE : pve_errno_error(error, "open", path);
    }
    return pve_write_all(fd, "1", 1) ? TRUE
                                     : pve_errno_error(error, "write", path);
}

static gboolean
enslave(const char *name, int index, const AgentLink *bridge, GError **error)
{
    guint32 mtu = bridge->mtu;
    guint32 master = (guint32)bridge->index;
    Request request;

    request_init(&request, RTM_NEWLINK, NLM_F_ACK);
    request.info.ifi_index = index;
    request_add(&request, IFLA_MTU, &mtu, sizeof(mtu));
    request_add(&request, IFLA_MASTER, &master, sizeof(master));
    return change(&request, "put into its bridge", name, error);
}

gboolean
agent_netplug(const char *interface, const AgentNet *net, GError **error)
{
    g_autoptr(GError) local = NULL;
    AgentLink port, bridge;

    if (!agent_link_find(interface, &port, &local)) {
        if (local == NULL) {
            errno = ENODEV;
            return pve_errno_error(error, "look up interface", interface);
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (net->link_down) {
        return set_up(interface, port.index, FALSE, error);
    }
    if (!agent_link_find(net->bridge, &bridge, &local)) {
        if (local == NULL) {
            g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                        "bridge '%s' does not exist", net->bridge);
        } else {
            g_propagate_error(error, g_steal_pointer(&local));
        }
        return FALSE;
    }
    if (!bridge.is_bridge) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "'%s' is not a Linux bridge", net->bridge);
        return FALSE;
    }
    return disable_ipv6(interface, error) &&
           enslave(interface, port.index, &bridge, error) &&
           set_up(interface, port.index, TRUE, error);
}
