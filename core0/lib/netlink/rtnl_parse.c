/*
 * rtnl_parse.c - rtnetlink messages into structs; see rtnl.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/netlink/rtnl.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIST_MAX 65536 /* rows of one list; a node has hundreds */

size_t rtnl_family_size(uint8_t family)
{
    return family == AF_INET6 ? 16 : 4;
}

/* len includes the NUL, which the policy has checked; what is longer than the field is cut. */
static void copy_text(char *dest, size_t size, const struct netlink_attr *attr)
{
    size_t len = attr->data == NULL ? 0 : (size_t)attr->len - 1;

    if (len >= size)
        len = size - 1;
    if (len > 0)
        memcpy(dest, attr->data, len);
    dest[len] = '\0';
}

static const struct netlink_policy link_policy[] = {
    [IFLA_ADDRESS] = {NETLINK_BYTES, 0, 32},     [IFLA_IFNAME] = {NETLINK_TEXT, 1, IF_NAMESIZE - 1},
    [IFLA_MASTER] = {NETLINK_BYTES, 4, 4},       [IFLA_LINKINFO] = {NETLINK_BYTES, 0, UINT16_MAX},
    [IFLA_IFALIAS] = {NETLINK_TEXT, 0, 255},     [IFLA_CARRIER] = {NETLINK_BYTES, 1, 1},
    [IFLA_LINK_NETNSID] = {NETLINK_BYTES, 4, 4},
};

static const struct netlink_policy linkinfo_policy[] = {
    [IFLA_INFO_KIND] = {NETLINK_TEXT, 1, 64},
    [IFLA_INFO_DATA] = {NETLINK_BYTES, 0, UINT16_MAX},
};

static const struct netlink_policy bond_policy[] = {
    [IFLA_BOND_MODE] = {NETLINK_BYTES, 1, 1},
};

/* Each kind of link has attributes of its own in IFLA_INFO_DATA. */
static int parse_linkinfo(const struct netlink_attr *linkinfo, struct rtnl_link *link)
{
    struct netlink_attr info[COUNT(linkinfo_policy)], bond[COUNT(bond_policy)];
    int r =
        netlink_parse(linkinfo->data, linkinfo->len, linkinfo_policy, COUNT(linkinfo_policy), info);

    if (r < 0)
        return r;
    copy_text(link->kind, sizeof(link->kind), &info[IFLA_INFO_KIND]);
    if (strcmp(link->kind, "bond") != 0 || info[IFLA_INFO_DATA].data == NULL)
        return 0;
    r = netlink_parse(info[IFLA_INFO_DATA].data, info[IFLA_INFO_DATA].len, bond_policy,
                      COUNT(bond_policy), bond);
    if (r == 0)
        link->bond_mode = netlink_attr_u8(&bond[IFLA_BOND_MODE]);
    return r;
}

int rtnl_link_parse(const uint8_t *body, size_t len, struct rtnl_link *ret_link)
{
    struct netlink_attr attrs[COUNT(link_policy)];
    struct rtnl_link link = {.netnsid = -1};
    struct ifinfomsg header;
    int r;

    if (len < sizeof(header))
        return -EBADMSG;
    memcpy(&header, body, sizeof(header));
    r = netlink_parse(body + sizeof(header), len - sizeof(header), link_policy, COUNT(link_policy),
                      attrs);
    if (r < 0 || header.ifi_index <= 0)
        return -EBADMSG;
    link.index = header.ifi_index;
    link.type = header.ifi_type;
    link.flags = header.ifi_flags;
    link.master = (int)netlink_attr_u32(&attrs[IFLA_MASTER]);
    link.carrier = netlink_attr_u8(&attrs[IFLA_CARRIER]) != 0;
    if (attrs[IFLA_LINK_NETNSID].data != NULL)
        link.netnsid = (int)netlink_attr_u32(&attrs[IFLA_LINK_NETNSID]);
    if (attrs[IFLA_ADDRESS].data != NULL && attrs[IFLA_ADDRESS].len == RTNL_MAC_LEN)
        memcpy(link.mac, attrs[IFLA_ADDRESS].data, RTNL_MAC_LEN);
    copy_text(link.name, sizeof(link.name), &attrs[IFLA_IFNAME]);
    copy_text(link.alias, sizeof(link.alias), &attrs[IFLA_IFALIAS]);
    if (attrs[IFLA_LINKINFO].data != NULL) {
        r = parse_linkinfo(&attrs[IFLA_LINKINFO], &link);
        if (r < 0)
            return r;
    }
    *ret_link = link;
    return 0;
}

static const struct netlink_policy address_policy[] = {
    [IFA_ADDRESS] = {NETLINK_BYTES, 4, 16},
    [IFA_LOCAL] = {NETLINK_BYTES, 4, 16},
    [IFA_CACHEINFO] = {NETLINK_BYTES, sizeof(struct ifa_cacheinfo), UINT16_MAX},
    [IFA_FLAGS] = {NETLINK_BYTES, 4, 4},
};

int rtnl_address_parse(const uint8_t *body, size_t len, struct rtnl_address *ret_address)
{
    struct rtnl_address address = {.valid = RTNL_FOREVER, .preferred = RTNL_FOREVER};
    struct netlink_attr attrs[COUNT(address_policy)];
    const struct netlink_attr *local;
    struct ifaddrmsg header;
    int r;

    if (len < sizeof(header))
        return -EBADMSG;
    memcpy(&header, body, sizeof(header));
    r = netlink_parse(body + sizeof(header), len - sizeof(header), address_policy,
                      COUNT(address_policy), attrs);
    if (r < 0 || header.ifa_index == 0 ||
        (header.ifa_family != AF_INET && header.ifa_family != AF_INET6))
        return -EBADMSG;
    /* On a point-to-point link IFA_ADDRESS is the other side; ours is IFA_LOCAL where it exists. */
    local = attrs[IFA_LOCAL].data != NULL ? &attrs[IFA_LOCAL] : &attrs[IFA_ADDRESS];
    if (local->data == NULL || local->len != rtnl_family_size(header.ifa_family) ||
        header.ifa_prefixlen > 8 * rtnl_family_size(header.ifa_family))
        return -EBADMSG;
    address.index = (int)header.ifa_index;
    address.family = header.ifa_family;
    address.prefix = header.ifa_prefixlen;
    address.scope = header.ifa_scope;
    address.flags =
        attrs[IFA_FLAGS].data != NULL ? netlink_attr_u32(&attrs[IFA_FLAGS]) : header.ifa_flags;
    memcpy(address.address, local->data, local->len);
    if (attrs[IFA_CACHEINFO].data != NULL) {
        struct ifa_cacheinfo info;

        memcpy(&info, attrs[IFA_CACHEINFO].data, sizeof(info));
        address.valid = info.ifa_valid;
        address.preferred = info.ifa_prefered;
    }
    *ret_address = address;
    return 0;
}

static const struct netlink_policy route_policy[] = {
    [RTA_DST] = {NETLINK_BYTES, 4, 16},     [RTA_OIF] = {NETLINK_BYTES, 4, 4},
    [RTA_GATEWAY] = {NETLINK_BYTES, 4, 16}, [RTA_PRIORITY] = {NETLINK_BYTES, 4, 4},
    [RTA_TABLE] = {NETLINK_BYTES, 4, 4},
};

int rtnl_route_parse(const uint8_t *body, size_t len, struct rtnl_route *ret_route)
{
    struct netlink_attr attrs[COUNT(route_policy)];
    struct rtnl_route route = {0};
    struct rtmsg header;
    size_t size;
    int r;

    if (len < sizeof(header))
        return -EBADMSG;
    memcpy(&header, body, sizeof(header));
    size = rtnl_family_size(header.rtm_family);
    r = netlink_parse(body + sizeof(header), len - sizeof(header), route_policy,
                      COUNT(route_policy), attrs);
    if (r < 0 || (header.rtm_family != AF_INET && header.rtm_family != AF_INET6) ||
        header.rtm_dst_len > 8 * size)
        return -EBADMSG;
    if ((attrs[RTA_DST].data != NULL && attrs[RTA_DST].len != size) ||
        (attrs[RTA_GATEWAY].data != NULL && attrs[RTA_GATEWAY].len != size))
        return -EBADMSG;
    route.family = header.rtm_family;
    route.prefix = header.rtm_dst_len;
    route.protocol = header.rtm_protocol;
    route.type = header.rtm_type;
    route.scope = header.rtm_scope;
    route.table =
        attrs[RTA_TABLE].data != NULL ? netlink_attr_u32(&attrs[RTA_TABLE]) : header.rtm_table;
    route.metric = netlink_attr_u32(&attrs[RTA_PRIORITY]);
    route.index = (int)netlink_attr_u32(&attrs[RTA_OIF]);
    if (attrs[RTA_DST].data != NULL)
        memcpy(route.dst, attrs[RTA_DST].data, size);
    if (attrs[RTA_GATEWAY].data != NULL) {
        route.has_gateway = true;
        memcpy(route.gateway, attrs[RTA_GATEWAY].data, size);
    }
    *ret_route = route;
    return 0;
}

/* ---- lists ---- */

/* The three lists differ in the type asked for, the header's size and the parser. */
struct list {
    uint16_t type;
    size_t row;
    uint8_t *rows;
    size_t count, capacity;
};

static int list_add(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    struct list *list = user;
    int r;

    if (header->nlmsg_type != list->type)
        return 0;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 32 : list->capacity * 2;
        void *rows;

        if (capacity > LIST_MAX)
            return -EFBIG;
        rows = reallocarray(list->rows, capacity, list->row);
        if (rows == NULL)
            return -ENOMEM;
        list->rows = rows;
        list->capacity = capacity;
    }
    switch (list->type) {
    case RTM_NEWLINK:
        r = rtnl_link_parse(body, len, (void *)(list->rows + list->count * list->row));
        break;
    case RTM_NEWADDR:
        r = rtnl_address_parse(body, len, (void *)(list->rows + list->count * list->row));
        break;
    default:
        r = rtnl_route_parse(body, len, (void *)(list->rows + list->count * list->row));
        break;
    }
    if (r == 0)
        list->count++;
    /* A row of a kind that we do not know is not ours to judge. */
    return r == -EBADMSG ? 0 : r;
}

static void list_restart(void *user)
{
    struct list *list = user;

    list->count = 0;
}

static int list_run(struct netlink *netlink, uint16_t request, const void *body, size_t body_len,
                    struct list *list, const char *what, struct error *err)
{
    struct netlink_msg msg;
    int r;

    netlink_msg_init(&msg);
    netlink_msg_begin(&msg, request, 0, body, body_len);
    netlink_msg_end(&msg);
    r = netlink_dump(netlink, &msg, list_add, list_restart, list, what, err);
    netlink_msg_done(&msg);
    if (r < 0)
        free(list->rows);
    return r;
}

int rtnl_links(struct netlink *netlink, struct rtnl_link **ret_links, size_t *ret_count,
               struct error *err)
{
    struct list list = {.type = RTM_NEWLINK, .row = sizeof(struct rtnl_link)};
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    int r = list_run(netlink, RTM_GETLINK, &body, sizeof(body), &list, "listing links", err);

    if (r < 0)
        return r;
    *ret_links = (void *)list.rows;
    *ret_count = list.count;
    return 0;
}

int rtnl_addresses(struct netlink *netlink, struct rtnl_address **ret_addresses, size_t *ret_count,
                   struct error *err)
{
    struct list list = {.type = RTM_NEWADDR, .row = sizeof(struct rtnl_address)};
    struct ifaddrmsg body = {.ifa_family = AF_UNSPEC};
    int r = list_run(netlink, RTM_GETADDR, &body, sizeof(body), &list, "listing addresses", err);

    if (r < 0)
        return r;
    *ret_addresses = (void *)list.rows;
    *ret_count = list.count;
    return 0;
}

int rtnl_routes(struct netlink *netlink, uint8_t family, struct rtnl_route **ret_routes,
                size_t *ret_count, struct error *err)
{
    struct list list = {.type = RTM_NEWROUTE, .row = sizeof(struct rtnl_route)};
    struct rtmsg body = {.rtm_family = family};
    int r = list_run(netlink, RTM_GETROUTE, &body, sizeof(body), &list, "listing routes", err);

    if (r < 0)
        return r;
    *ret_routes = (void *)list.rows;
    *ret_count = list.count;
    return 0;
}
