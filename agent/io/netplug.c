#include "config.h"

#include "agent/io/netplug.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/io/container.h"
#include "agent/io/ops.h"
#include "common/files.h"

enum { MAX_NETS = 32, REQUEST_BYTES = 512, REPLY_BYTES = 32768 };

/* One request, aligned for the kernel: its header, what it is about, and
 * attributes directly behind that. */
typedef struct {
    struct nlmsghdr header;
    union {
        struct ifinfomsg info;
        struct ifaddrmsg address;
        struct rtmsg route;
    };
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

/* The same for a message that is about something else than a link. */
static void
request_init_other(Request *self, guint16 type, guint16 flags, gsize size)
{
    request_init(self, type, flags);
    self->header.nlmsg_len = (guint32)NLMSG_LENGTH(size);
    memset(self->attributes, 0, sizeof(self->attributes));
}

static void
request_add(Request *self, guint16 type, gconstpointer data, gsize size)
{
    gsize at = NLMSG_ALIGN(self->header.nlmsg_len);
    struct rtattr attribute = {.rta_len = (guint16)RTA_LENGTH(size),
                               .rta_type = type};

    g_assert(at + RTA_SPACE(size) <= sizeof(*self));
    memcpy((char *)self + at, &attribute, sizeof(attribute));
    if (size > 0) {
        memcpy((char *)self + at + RTA_LENGTH(0), data, size);
    }
    self->header.nlmsg_len = (guint32)(at + RTA_SPACE(size));
}

static void
request_add_text(Request *self, guint16 type, const char *text)
{
    request_add(self, type, text, strlen(text) + 1);
}

/* An attribute that holds others: returns where it begins. */
static gsize
request_open(Request *self, guint16 type, gconstpointer data, gsize size)
{
    gsize at = NLMSG_ALIGN(self->header.nlmsg_len);

    request_add(self, type, data, size);
    return at;
}

static void
request_close(Request *self, gsize at)
{
    struct rtattr attribute;

    memcpy(&attribute, (char *)self + at, sizeof(attribute));
    attribute.rta_len = (guint16)(self->header.nlmsg_len - at);
    memcpy((char *)self + at, &attribute, sizeof(attribute));
}

/* Sends on @fd and reads one answer. Returns 0, or an errno; the answer is in
 * @reply when it is no acknowledgement. */
static int
exchange_on(int fd, Request *request, Reply *reply)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
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

static int
netlink_open(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
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

static gboolean
find_link(int fd, const char *name, AgentLink *link, GError **error)
{
    g_autofree Reply *reply = g_new0(Reply, 1);
    Request request;
    int e;

    memset(link, 0, sizeof(*link));
    if (strlen(name) >= IFNAMSIZ) {
        return FALSE;
    }
    request_init(&request, RTM_GETLINK, 0);
    request_add_text(&request, IFLA_IFNAME, name);
    e = exchange_on(fd, &request, reply);
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

gboolean
agent_link_find(const char *name, AgentLink *link, GError **error)
{
    PVE_AUTOFD(fd) = netlink_open();

    return find_link(fd, name, link, error);
}

static gboolean
change_on(int fd,
          Request *request,
          const char *what,
          const char *name,
          GError **error)
{
    g_autofree Reply *reply = g_new0(Reply, 1);
    int e = exchange_on(fd, request, reply);

    if (e != 0) {
        errno = e;
        return pve_errno_error(error, what, name);
    }
    return TRUE;
}

static gboolean
change(Request *request, const char *what, const char *name, GError **error)
{
    PVE_AUTOFD(fd) = netlink_open();

    return change_on(fd, request, what, name, error);
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
set_up_on(int fd, const char *name, int index, gboolean up, GError **error)
{
    Request request;

    request_init(&request, RTM_NEWLINK, NLM_F_ACK);
    request.info.ifi_index = index;
    request.info.ifi_change = IFF_UP;
    request.info.ifi_flags = up ? IFF_UP : 0;
    return change_on(fd, &request, up ? "bring up" : "bring down", name, error);
}

static gboolean
set_up(const char *name, int index, gboolean up, GError **error)
{
    PVE_AUTOFD(fd) = netlink_open();

    return set_up_on(fd, name, index, up, error);
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

/* Out of its bridge, if it is in one. */
static gboolean
release(const char *name, int index, GError **error)
{
    guint32 none = 0;
    Request request;

    request_init(&request, RTM_NEWLINK, NLM_F_ACK);
    request.info.ifi_index = index;
    request_add(&request, IFLA_MASTER, &none, sizeof(none));
    return change(&request, "take out of its bridge", name, error);
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
        return set_up(interface, port.index, FALSE, error) &&
               release(interface, port.index, error);
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

/* --- a running container --- */

/* One interface of one container that runs. */
typedef struct {
    char *host; /* vethCTIDiN */
    int netns;  /* the container's */
    int inner;  /* a netlink socket in there */
} Inside;

static void
inside_clear(Inside *self)
{
    g_clear_pointer(&self->host, g_free);
    pve_autofd_clear(&self->netns);
    pve_autofd_clear(&self->inner);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Inside, inside_clear)

/* Calls @work in another network namespace, and comes back. Returns what it
 * returned; -1 with errno when there is no way in. */
static int
work_in(int netns, int (*work)(gpointer data), gpointer data)
{
    PVE_AUTOFD(own) = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int result, saved;

    if (own < 0 || setns(netns, CLONE_NEWNET) < 0) {
        return -1;
    }
    result = work(data);
    saved = errno;
    if (setns(own, CLONE_NEWNET) < 0) {
        g_error("cannot return to the host's network namespace: %s",
                g_strerror(errno));
    }
    errno = saved;
    return result;
}

/* A socket belongs for ever to the namespace it was made in. */
static int
open_socket(gpointer data)
{
    (void)data;
    return netlink_open();
}

static gboolean
inside_open(Inside *self, guint32 ctid, guint index, GError **error)
{
    pid_t init = agent_container_init_pid(ctid);
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int)init);

    self->host = g_strdup_printf("veth%ui%u", ctid, index);
    self->netns = init > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    self->inner =
        self->netns >= 0 ? work_in(self->netns, open_socket, NULL) : -1;
    if (self->inner < 0) {
        return pve_errno_error(error, "enter", path);
    }
    return TRUE;
}

/* The guest may have renamed or removed it. */
static gboolean
find_inner(const Inside *self,
           const AgentNet *net,
           AgentLink *link,
           GError **error)
{
    g_autoptr(GError) local = NULL;

    if (find_link(self->inner, net->name, link, &local)) {
        return TRUE;
    }
    if (local == NULL) {
        errno = ENODEV;
        return pve_errno_error(error, "look up interface", net->name);
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
parse_mac(const char *text, guint8 *bytes)
{
    for (guint i = 0; i < 6; i++) {
        int high = g_ascii_xdigit_value(text[3 * i]);
        int low = high >= 0 ? g_ascii_xdigit_value(text[3 * i + 1]) : -1;

        if (low < 0) {
            return FALSE;
        }
        bytes[i] = (guint8)(high * 16 + low);
    }
    return TRUE;
}

/* Both ends at once, the inner one where it belongs: nothing is ever half
 * moved. */
static gboolean
make_pair(const Inside *self, const AgentNet *net, guint mtu, GError **error)
{
    struct ifinfomsg peer = {.ifi_family = AF_UNSPEC};
    guint32 namespace = (guint32)self->netns;
    guint32 size = mtu;
    gsize info, data, inner;
    guint8 mac[6];
    Request request;

    request_init(&request, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    request_add_text(&request, IFLA_IFNAME, self->host);
    request_add(&request, IFLA_MTU, &size, sizeof(size));
    info = request_open(&request, IFLA_LINKINFO, NULL, 0);
    request_add_text(&request, IFLA_INFO_KIND, "veth");
    data = request_open(&request, IFLA_INFO_DATA, NULL, 0);
    inner = request_open(&request, VETH_INFO_PEER, &peer, sizeof(peer));
    request_add_text(&request, IFLA_IFNAME, net->name);
    if (net->hwaddr != NULL && parse_mac(net->hwaddr, mac)) {
        request_add(&request, IFLA_ADDRESS, mac, sizeof(mac));
    }
    request_add(&request, IFLA_MTU, &size, sizeof(size));
    request_add(&request, IFLA_NET_NS_FD, &namespace, sizeof(namespace));
    request_close(&request, inner);
    request_close(&request, data);
    request_close(&request, info);
    return change(&request, "make interface", self->host, error);
}

static gboolean
set_mtu(const Inside *self, const AgentNet *net, guint mtu, GError **error)
{
    guint32 size = mtu;
    AgentLink link;
    Request request;

    if (!find_inner(self, net, &link, error)) {
        return FALSE;
    }
    request_init(&request, RTM_NEWLINK, NLM_F_ACK);
    request.info.ifi_index = link.index;
    request_add(&request, IFLA_MTU, &size, sizeof(size));
    return change_on(self->inner, &request, "set the MTU of", net->name, error);
}

/* --- addresses in a running container --- */

typedef struct {
    int family;
    guint8 bytes[16];
    gsize size;
    guint8 prefix;
} Address;

/* `1.2.3.4/24`, or without a prefix. FALSE: a word like dhcp, or NULL. */
static gboolean
parse_address(const char *text, Address *address)
{
    g_autofree char *host = NULL;
    const char *slash = text != NULL ? strchr(text, '/') : NULL;

    if (text == NULL) {
        return FALSE;
    }
    host =
        slash != NULL ? g_strndup(text, (gsize)(slash - text)) : g_strdup(text);
    address->family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
    address->size = address->family == AF_INET6 ? 16 : 4;
    address->prefix = slash != NULL
                          ? (guint8)g_ascii_strtoull(slash + 1, NULL, 10)
                          : (guint8)(address->size * 8);
    return inet_pton(address->family, host, address->bytes) == 1;
}

static gboolean
change_address(const Inside *self,
               const AgentNet *net,
               const Address *address,
               gboolean is_new,
               GError **error)
{
    AgentLink link;
    Request request;

    if (!find_inner(self, net, &link, error)) {
        return FALSE;
    }
    request_init_other(&request, is_new ? RTM_NEWADDR : RTM_DELADDR,
                       is_new ? NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
                              : NLM_F_ACK,
                       sizeof(struct ifaddrmsg));
    request.address = (struct ifaddrmsg){.ifa_family = (guint8)address->family,
                                         .ifa_prefixlen = address->prefix,
                                         .ifa_index = (guint32)link.index};
    request_add(&request, IFA_LOCAL, address->bytes, address->size);
    request_add(&request, IFA_ADDRESS, address->bytes, address->size);
    return change_on(self->inner, &request,
                     is_new ? "give an address to" : "take an address from",
                     net->name, error);
}

/* A default route by @gateway; with @is_direct a route to it, first. */
static gboolean
change_route(const Inside *self,
             const AgentNet *net,
             const Address *gateway,
             gboolean is_new,
             gboolean is_direct,
             GError **error)
{
    AgentLink link;
    Request request;
    guint32 device;

    if (!find_inner(self, net, &link, error)) {
        return FALSE;
    }
    device = (guint32)link.index;
    request_init_other(&request, is_new ? RTM_NEWROUTE : RTM_DELROUTE,
                       is_new ? NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
                              : NLM_F_ACK,
                       sizeof(struct rtmsg));
    request.route = (struct rtmsg){
        .rtm_family = (guint8)gateway->family,
        .rtm_dst_len = (guint8)(is_direct ? gateway->size * 8 : 0),
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_BOOT,
        .rtm_scope = is_direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST};
    request_add(&request, is_direct ? RTA_DST : RTA_GATEWAY, gateway->bytes,
                gateway->size);
    request_add(&request, RTA_OIF, &device, sizeof(device));
    return change_on(self->inner, &request, "set the gateway of", net->name,
                     error);
}

/* Is @gateway in the network of @address? */
static gboolean
is_near(const Address *address, const Address *gateway)
{
    guint whole = address->prefix / 8, bits = address->prefix % 8;

    if (address->family != gateway->family ||
        memcmp(address->bytes, gateway->bytes, whole) != 0) {
        return FALSE;
    }
    return bits == 0 ||
           (address->bytes[whole] ^ gateway->bytes[whole]) >> (8 - bits) == 0;
}

static gboolean
set_gateway(const Inside *self,
            const AgentNet *net,
            const char *ip,
            const char *gw,
            GError **error)
{
    Address address, gateway;

    if (!parse_address(gw, &gateway)) {
        return TRUE;
    }
    if (!(parse_address(ip, &address) && is_near(&address, &gateway)) &&
        !change_route(self, net, &gateway, TRUE, TRUE, error)) {
        return FALSE;
    }
    return change_route(self, net, &gateway, TRUE, FALSE, error);
}

/* Which interface's sysctl, in the namespace of whoever opens it. */
static int
promote_secondaries(gpointer data)
{
    g_autofree char *path = g_strdup_printf(
        "/proc/sys/net/ipv4/conf/%s/promote_secondaries", (char *)data);
    PVE_AUTOFD(fd) = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && pve_write_all(fd, "1", 1) ? 0 : -1;
}

/* An IPv4 address takes others of its network along when it goes, unless the
 * interface promotes them. */
static void
remove_address(const Inside *self, const AgentNet *net, const Address *address)
{
    if (address->family == AF_INET &&
        work_in(self->netns, promote_secondaries, net->name) < 0) {
        g_debug("%s: promote_secondaries: %s", net->name, g_strerror(errno));
    }
    (void)change_address(self, net, address, FALSE, NULL);
}

/* The new address first, the old one last: a connection to the old one may be
 * the one that this command came by. */
static gboolean
change_family(const Inside *self,
              const AgentNet *net,
              const char *old_ip,
              const char *new_ip,
              const char *old_gw,
              const char *new_gw,
              GError **error)
{
    gboolean is_same = g_strcmp0(old_ip, new_ip) == 0;
    Address address;

    if (!is_same && parse_address(new_ip, &address) &&
        !change_address(self, net, &address, TRUE, error)) {
        return FALSE;
    }
    if ((!is_same || g_strcmp0(old_gw, new_gw) != 0) &&
        !set_gateway(self, net, new_ip, new_gw, error)) {
        return FALSE;
    }
    if (new_gw == NULL && parse_address(old_gw, &address)) {
        /* Gone with its address, or by the guest's own hand. */
        (void)change_route(self, net, &address, FALSE, FALSE, NULL);
    }
    if (!is_same && parse_address(old_ip, &address)) {
        remove_address(self, net, &address);
    }
    return TRUE;
}

static gboolean
change_addresses(const Inside *self,
                 const AgentNet *old,
                 const AgentNet *new,
                 GError **error)
{
    return change_family(self, new, old != NULL ? old->ip : NULL, new->ip,
                         old != NULL ? old->gw : NULL, new->gw, error) &&
           change_family(self, new, old != NULL ? old->ip6 : NULL, new->ip6,
                         old != NULL ? old->gw6 : NULL, new->gw6, error);
}

/* --- a change of netN --- */

/* The MTU of the interface inside. 0: an error. */
static guint
inner_mtu(const AgentNet *net, GError **error)
{
    AgentLink bridge;

    if (net->bridge == NULL) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "missing bridge configuration");
        return 0;
    }
    if (!agent_link_find(net->bridge, &bridge, NULL)) {
        g_set_error(error, AGENT_OPS_ERROR, AGENT_OPS_ERROR_FAILED,
                    "bridge '%s' does not exist", net->bridge);
        return 0;
    }
    return net->mtu != 0 ? net->mtu : bridge.mtu;
}

static gboolean
add_pair(const Inside *self, const AgentNet *net, GError **error)
{
    guint mtu = inner_mtu(net, error);
    AgentLink link;

    if (mtu == 0 || !make_pair(self, net, mtu, error)) {
        return FALSE;
    }
    if (agent_netplug(self->host, net, error) &&
        find_inner(self, net, &link, error) &&
        set_up_on(self->inner, net->name, link.index, TRUE, error) &&
        change_addresses(self, NULL, net, error)) {
        return TRUE;
    }
    (void)agent_link_delete(self->host, NULL);
    return FALSE;
}

static gboolean
replace_pair(const Inside *self,
             const AgentNet *old,
             const AgentNet *new,
             GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!agent_link_delete(self->host, error)) {
        return FALSE;
    }
    if (new == NULL || add_pair(self, new, error)) {
        return TRUE;
    }
    if (old != NULL && !add_pair(self, old, &local)) {
        g_printerr("restoring old network due to hot-plug failure for %s "
                   "failed - %s\n",
                   self->host, local->message);
    }
    return FALSE;
}

static gboolean
adjust_pair(const Inside *self,
            const AgentNet *old,
            const AgentNet *new,
            GError **error)
{
    guint mtu = inner_mtu(new, error);

    if (mtu == 0) {
        return FALSE;
    }
    if ((g_strcmp0(old->bridge, new->bridge) != 0 ||
         old->link_down != new->link_down || old->tag != new->tag ||
         old->firewall != new->firewall ||
         g_strcmp0(old->trunks, new->trunks) != 0) &&
        !agent_netplug(self->host, new, error)) {
        if (!agent_netplug(self->host, old, NULL)) {
            g_printerr("restoring old network due to hot-plug failure for %s "
                       "failed\n",
                       self->host);
        }
        return FALSE;
    }
    return set_mtu(self, new, mtu, error) &&
           change_addresses(self, old, new, error);
}

static AgentNet *
net_of(const AgentGuestConf *conf, const char *key)
{
    const char *value = agent_guestconf_get(conf, key);

    return value != NULL ? agent_net_parse(key, value, NULL) : NULL;
}

gboolean
agent_netplug_change(guint32 ctid,
                     const char *key,
                     const AgentGuestConf *was,
                     const AgentGuestConf *now,
                     GError **error)
{
    g_autoptr(AgentNet) old = net_of(was, key);
    g_autoptr(AgentNet) new = net_of(now, key);
    g_auto(Inside) self = {.netns = -1, .inner = -1};

    if (old == NULL && new == NULL) {
        return TRUE;
    }
    if (!inside_open(&self, ctid, new != NULL ? new->index : old->index,
                     error)) {
        return FALSE;
    }
    if (old == NULL || new == NULL || strcmp(old->name, new->name) != 0 ||
        g_strcmp0(old->hwaddr, new->hwaddr) != 0) {
        return replace_pair(&self, old, new, error);
    }
    return adjust_pair(&self, old, new, error);
}
