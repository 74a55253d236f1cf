/*
 * rtnl.c - changing links, addresses and routes; see rtnl.h.
 */
#include "lib/netlink/rtnl.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/net_namespace.h>
#include <linux/veth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends, sends and frees a message. */
static int finish(struct netlink *netlink, struct netlink_msg *msg, const char *what,
                  struct error *err)
{
    int r;

    netlink_msg_end(msg);
    r = netlink_request(netlink, msg, what, err);
    netlink_msg_done(msg);
    return r;
}

static void link_begin(struct netlink_msg *msg, uint16_t type, uint16_t flags, int index,
                       uint32_t ifi_flags, uint32_t change, uint8_t family)
{
    struct ifinfomsg body = {
        .ifi_family = family, .ifi_index = index, .ifi_flags = ifi_flags, .ifi_change = change};

    netlink_msg_init(msg);
    netlink_msg_begin(msg, type, flags, &body, sizeof(body));
}

static void put_no_autoconf(struct netlink_msg *msg)
{
    netlink_nest_begin(msg, IFLA_AF_SPEC);
    netlink_nest_begin(msg, AF_INET6);
    netlink_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    netlink_nest_end(msg);
    netlink_nest_end(msg);
}

static void put_bridge(struct netlink_msg *msg)
{
    /* Group messages reach every port: with a handful of ports there is nothing to learn, and neighbour
     * discovery, which is multicast, never waits for a querier. */
    netlink_put_u8(msg, IFLA_BR_MCAST_SNOOPING, 0);
    netlink_put_u32(msg, IFLA_BR_STP_STATE, 0);
    netlink_put_u32(msg, IFLA_BR_FORWARD_DELAY, 0);
}

static void put_bond(struct netlink_msg *msg, uint8_t mode)
{
    netlink_put_u8(msg, IFLA_BOND_MODE, mode);
    netlink_put_u32(msg, IFLA_BOND_MIIMON, 100); /* ms between two looks at the carrier */
}

static void put_veth(struct netlink_msg *msg, const struct rtnl_link_spec *spec)
{
    struct ifinfomsg peer = {0};

    netlink_nest_begin_raw(msg, VETH_INFO_PEER, &peer, sizeof(peer));
    if (spec->peer_name != NULL)
        netlink_put_str(msg, IFLA_IFNAME, spec->peer_name);
    if (spec->peer_mac != NULL)
        netlink_put(msg, IFLA_ADDRESS, spec->peer_mac, RTNL_MAC_LEN);
    if (spec->peer_netns_fd >= 0)
        netlink_put_u32(msg, IFLA_NET_NS_FD, (uint32_t)spec->peer_netns_fd);
    netlink_nest_end(msg);
}

int rtnl_link_new(struct netlink *netlink, const struct rtnl_link_spec *spec, struct error *err)
{
    struct netlink_msg msg;
    char what[64];

    link_begin(&msg, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0, AF_UNSPEC);
    netlink_put_str(&msg, IFLA_IFNAME, spec->name);
    if (spec->mac != NULL)
        netlink_put(&msg, IFLA_ADDRESS, spec->mac, RTNL_MAC_LEN);
    if (spec->parent != 0)
        netlink_put_u32(&msg, IFLA_LINK, (uint32_t)spec->parent);
    if (spec->alias != NULL)
        netlink_put(&msg, IFLA_IFALIAS, spec->alias, strlen(spec->alias));
    netlink_nest_begin(&msg, IFLA_LINKINFO);
    netlink_put_str(&msg, IFLA_INFO_KIND, spec->kind);
    netlink_nest_begin(&msg, IFLA_INFO_DATA);
    if (strcmp(spec->kind, "bridge") == 0)
        put_bridge(&msg);
    else if (strcmp(spec->kind, "bond") == 0)
        put_bond(&msg, spec->bond_mode);
    else if (strcmp(spec->kind, "vlan") == 0)
        netlink_put_u16(&msg, IFLA_VLAN_ID, spec->vlan);
    else if (strcmp(spec->kind, "veth") == 0)
        put_veth(&msg, spec);
    netlink_nest_end(&msg);
    netlink_nest_end(&msg);
    snprintf(what, sizeof(what), "making %s %s", spec->kind, spec->name);
    return finish(netlink, &msg, what, err);
}

int rtnl_link_delete(struct netlink *netlink, int index, struct error *err)
{
    struct netlink_msg msg;

    link_begin(&msg, RTM_DELLINK, 0, index, 0, 0, AF_UNSPEC);
    return finish(netlink, &msg, "removing a link", err);
}

int rtnl_link_set_up(struct netlink *netlink, int index, bool up, struct error *err)
{
    struct netlink_msg msg;

    link_begin(&msg, RTM_NEWLINK, 0, index, up ? IFF_UP : 0, IFF_UP, AF_UNSPEC);
    return finish(netlink, &msg, "setting a link up", err);
}

int rtnl_link_set_master(struct netlink *netlink, int index, int master, struct error *err)
{
    struct netlink_msg msg;

    link_begin(&msg, RTM_NEWLINK, 0, index, 0, 0, AF_UNSPEC);
    netlink_put_u32(&msg, IFLA_MASTER, (uint32_t)master);
    return finish(netlink, &msg, "joining a link to its bridge or bond", err);
}

int rtnl_link_set_no_autoconf(struct netlink *netlink, int index, struct error *err)
{
    struct netlink_msg msg;

    link_begin(&msg, RTM_NEWLINK, 0, index, 0, 0, AF_UNSPEC);
    put_no_autoconf(&msg);
    return finish(netlink, &msg, "switching automatic addresses off", err);
}

int rtnl_bridge_port_set(struct netlink *netlink, int index, bool isolated, struct error *err)
{
    struct netlink_msg msg;

    link_begin(&msg, RTM_SETLINK, 0, index, 0, 0, AF_BRIDGE);
    netlink_nest_begin(&msg, IFLA_PROTINFO);
    netlink_put_u8(&msg, IFLA_BRPORT_GUARD, 1);   /* a container speaks no spanning tree */
    netlink_put_u8(&msg, IFLA_BRPORT_PROTECT, 1); /* and never becomes the root port */
    netlink_put_u8(&msg, IFLA_BRPORT_ISOLATED, isolated ? 1 : 0);
    netlink_nest_end(&msg);
    return finish(netlink, &msg, "setting up a bridge port", err);
}

int rtnl_link_index(struct netlink *netlink, const char *name)
{
    struct rtnl_link *links;
    size_t count;
    int r = rtnl_links(netlink, &links, &count, NULL), index = -ENODEV;

    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        if (strcmp(links[i].name, name) == 0)
            index = links[i].index;
    free(links);
    return index;
}

static void address_begin(struct netlink_msg *msg, uint16_t type, uint16_t flags,
                          const struct rtnl_address *address)
{
    struct ifaddrmsg body = {.ifa_family = address->family,
                             .ifa_prefixlen = address->prefix,
                             .ifa_scope = address->scope,
                             .ifa_index = (uint32_t)address->index};
    size_t size = rtnl_family_size(address->family);

    netlink_msg_init(msg);
    netlink_msg_begin(msg, type, flags, &body, sizeof(body));
    netlink_put(msg, IFA_LOCAL, address->address, size);
    netlink_put(msg, IFA_ADDRESS, address->address, size);
}

int rtnl_address_add(struct netlink *netlink, const struct rtnl_address *address, bool nodad,
                     struct error *err)
{
    struct netlink_msg msg;
    struct ifa_cacheinfo info = {.ifa_valid = address->valid, .ifa_prefered = address->preferred};

    address_begin(&msg, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, address);
    if (nodad && address->family == AF_INET6)
        netlink_put_u32(&msg, IFA_FLAGS, IFA_F_NODAD);
    if (address->family == AF_INET && address->prefix < 31) {
        uint32_t ip;

        memcpy(&ip, address->address, sizeof(ip));
        ip |= htonl(UINT32_MAX >> address->prefix);
        netlink_put(&msg, IFA_BROADCAST, &ip, sizeof(ip));
    }
    if (address->valid != 0 && address->valid != RTNL_FOREVER)
        netlink_put(&msg, IFA_CACHEINFO, &info, sizeof(info));
    return finish(netlink, &msg, "adding an address", err);
}

int rtnl_address_delete(struct netlink *netlink, const struct rtnl_address *address,
                        struct error *err)
{
    struct netlink_msg msg;

    address_begin(&msg, RTM_DELADDR, 0, address);
    return finish(netlink, &msg, "removing an address", err);
}

static void route_begin(struct netlink_msg *msg, uint16_t type, uint16_t flags,
                        const struct rtnl_route *route)
{
    uint32_t table = route->table != 0 ? route->table : RT_TABLE_MAIN;
    struct rtmsg body = {
        .rtm_family = route->family,
        .rtm_dst_len = route->prefix,
        .rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC,
        .rtm_protocol = route->protocol,
        .rtm_scope = route->scope,
        .rtm_type = route->type != 0 ? route->type : RTN_UNICAST,
    };
    size_t size = rtnl_family_size(route->family);

    netlink_msg_init(msg);
    netlink_msg_begin(msg, type, flags, &body, sizeof(body));
    netlink_put_u32(msg, RTA_TABLE, table);
    if (route->prefix != 0)
        netlink_put(msg, RTA_DST, route->dst, size);
    if (route->has_gateway)
        netlink_put(msg, RTA_GATEWAY, route->gateway, size);
    if (route->index != 0)
        netlink_put_u32(msg, RTA_OIF, (uint32_t)route->index);
    if (route->metric != 0)
        netlink_put_u32(msg, RTA_PRIORITY, route->metric);
}

int rtnl_route_add(struct netlink *netlink, const struct rtnl_route *route, struct error *err)
{
    struct netlink_msg msg;

    route_begin(&msg, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
    return finish(netlink, &msg, "adding a route", err);
}

int rtnl_route_delete(struct netlink *netlink, const struct rtnl_route *route, struct error *err)
{
    struct netlink_msg msg;

    route_begin(&msg, RTM_DELROUTE, 0, route);
    return finish(netlink, &msg, "removing a route", err);
}

static const struct netlink_policy nsid_policy[] = {
    [NETNSA_NSID] = {NETLINK_BYTES, 4, 4},
};

static int take_nsid(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    struct netlink_attr attrs[NETNSA_NSID + 1];
    int *id = user;

    if (header->nlmsg_type == RTM_NEWNSID && len >= NLMSG_ALIGN(sizeof(struct rtgenmsg)) &&
        netlink_parse(body + NLMSG_ALIGN(sizeof(struct rtgenmsg)),
                      len - NLMSG_ALIGN(sizeof(struct rtgenmsg)), nsid_policy, NETNSA_NSID + 1,
                      attrs) == 0 &&
        attrs[NETNSA_NSID].data != NULL)
        *id = (int)netlink_attr_u32(&attrs[NETNSA_NSID]);
    return 0;
}

int rtnl_netns_id(struct netlink *netlink, int fd, struct error *err)
{
    struct rtgenmsg body = {.rtgen_family = AF_UNSPEC};
    struct netlink_msg msg;
    int id = -1, r;

    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, RTM_GETNSID, 0, &body, sizeof(body));
    netlink_put_u32(&msg, NETNSA_FD, (uint32_t)fd);
    netlink_msg_end(&msg);
    r = netlink_query(netlink, &msg, take_nsid, &id, "asking for a network namespace", err);
    netlink_msg_done(&msg);
    return r < 0 ? r : id >= 0 ? id : -ENOENT;
}
