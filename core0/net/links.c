/*
 * links.c - see links.h.
 */
#include "links_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_arp.h>
#include <netinet/icmp6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dhcp_client.h"
#include "lib/file.h"
#include "lib/log.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define METRIC_FIRST 100 /* of the first link's default route; each further link one more */

static struct link *find(struct links *links, const char *name)
{
    for (size_t i = 0; i < links->count; i++)
        if (strcmp(links->links[i]->name, name) == 0)
            return links->links[i];
    return NULL;
}

static void log_failure(int r, const struct link *link, struct error *err)
{
    if (r < 0)
        log_error(err, link->name);
    error_clear(err);
}

/* ---- settings of a link ---- */

static const struct {
    const char *family, *key, *value;
} sysctls[] = {
    /* A machine with two links may be answered over the other one: loose, not strict. */
    {"ipv4", "rp_filter", "2"},
    {"ipv4", "accept_redirects", "0"},
    {"ipv4", "secure_redirects", "0"},
    {"ipv4", "send_redirects", "0"},
    {"ipv4", "accept_source_route", "0"},
    /* Each link speaks for its own addresses only. */
    {"ipv4", "arp_ignore", "1"},
    {"ipv4", "arp_announce", "2"},
    /* 2: router advertisements count although this machine forwards (for its containers). */
    {"ipv6", "accept_ra", "2"},
    {"ipv6", "accept_redirects", "0"},
    {"ipv6", "accept_source_route", "0"},
    /* Otherwise a bridge's address may be taken as the better source, where the link has only a site-local one:
     * for what the node sends, and for what containers send through it. */
    {"ipv6", "use_oif_addrs_only", "1"},
};

static void set_sysctls(const char *name)
{
    for (size_t i = 0; i < COUNT(sysctls); i++) {
        char path[128];
        int r;

        snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", sysctls[i].family, name,
                 sysctls[i].key);
        r = file_write_text(path, sysctls[i].value);
        if (r < 0)
            log_warn("%s: %s", path, strerror(-r));
    }
}

static bool is_bond_part(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->bond_count; i++)
        for (size_t j = 0; j < config->bonds[i].interface_count; j++)
            if (strcmp(config->bonds[i].interfaces[j], name) == 0)
                return true;
    return false;
}

static enum link_mode wanted_mode(const struct config *config, const char *name)
{
    if (is_bond_part(config, name))
        return LINK_NONE;
    for (size_t i = 0; i < config->static_count; i++)
        if (strcmp(config->statics[i].interface, name) == 0)
            return LINK_STATIC;
    return config->dhcp ? LINK_DHCP : LINK_NONE;
}

/* Cards, and what boot.json asks for on top of them; not what netd makes for containers, nor the bond0 that the
 * kernel's driver brings along. */
static bool is_ours(const struct config *config, const struct rtnl_link *link)
{
    if (link->type != ARPHRD_ETHER || (link->flags & IFF_LOOPBACK) != 0)
        return false;
    if (strncmp(link->name, "cb", 2) == 0 || strncmp(link->name, "cv", 2) == 0)
        return false;
    for (size_t i = 0; i < config->bond_count; i++)
        if (strcmp(config->bonds[i].name, link->name) == 0)
            return true;
    for (size_t i = 0; i < config->vlan_count; i++)
        if (strcmp(config->vlans[i].name, link->name) == 0)
            return true;
    return link->kind[0] == '\0' || strcmp(link->kind, "veth") == 0;
}

/* ---- DHCP ---- */

static dhcp_client_fn on_dhcp;

static void dhcp_start(struct links *links, struct link *link)
{
    struct address wish = {0};
    int r;

    /* The address that a predecessor had, or that this link had before its carrier went. */
    for (size_t i = 0; i < link->address_count && wish.family == 0; i++)
        if (link->addresses[i].family == AF_INET && !address_is_link_local(&link->addresses[i]))
            wish = link->addresses[i];
    r = dhcp_client_new(links->loop, link->index, link->mac, &wish, on_dhcp, link, &link->dhcp);
    if (r < 0)
        log_warn("%s: asking for an address: %s", link->name, strerror(-r));
    link->state = "asking for an address";
}

static void dhcp_stop(struct link *link)
{
    dhcp_client_free(link->dhcp);
    link->dhcp = NULL;
}

static void set_route(struct links *links, struct link *link, const struct address *gateway,
                      const struct address *own, uint8_t protocol)
{
    struct rtnl_route route = {
        .family = gateway->family,
        .protocol = protocol,
        .metric = METRIC_FIRST + (uint32_t)link->index,
        .index = link->index,
    };
    struct error err = {0};
    int r;

    if (!address_in(gateway, own)) {
        /* A gateway beyond the own network (hosters do so): first the way to it. */
        route.prefix = gateway->prefix;
        route.scope = RT_SCOPE_LINK;
        memcpy(route.dst, gateway->bytes, sizeof(route.dst));
        log_failure(rtnl_route_add(links->request, &route, &err), link, &err);
        route.prefix = 0;
        route.scope = RT_SCOPE_UNIVERSE;
        memset(route.dst, 0, sizeof(route.dst));
    }
    route.has_gateway = true;
    memcpy(route.gateway, gateway->bytes, sizeof(route.gateway));
    r = rtnl_route_add(links->request, &route, &err);
    log_failure(r, link, &err);
}

/* Removes default routes of a protocol that do not lead to `keep` (NULL: all of them). */
static void drop_routes(struct links *links, const struct link *link, uint8_t protocol,
                        const struct address *keep)
{
    struct rtnl_route *routes;
    size_t count;

    if (rtnl_routes(links->request, AF_INET, &routes, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (routes[i].index == link->index && routes[i].protocol == protocol &&
            (keep == NULL || !routes[i].has_gateway ||
             memcmp(routes[i].gateway, keep->bytes, sizeof(routes[i].gateway)) != 0))
            (void)rtnl_route_delete(links->request, &routes[i], NULL);
    }
    free(routes);
}

/* Gives the link this IPv4 address and takes every other one away. */
static void set_address(struct links *links, struct link *link, const struct address *address,
                        uint32_t seconds)
{
    struct rtnl_address row = {.index = link->index,
                               .family = address->family,
                               .prefix = address->prefix,
                               .valid = seconds != 0 ? seconds : RTNL_FOREVER,
                               .preferred = seconds != 0 ? seconds : RTNL_FOREVER};
    struct rtnl_address *rows;
    struct error err = {0};
    size_t count;

    memcpy(row.address, address->bytes, sizeof(row.address));
    log_failure(rtnl_address_add(links->request, &row, false, &err), link, &err);
    if (address->family != AF_INET || rtnl_addresses(links->request, &rows, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].index == link->index && rows[i].family == AF_INET &&
            (memcmp(rows[i].address, row.address, 4) != 0 || rows[i].prefix != row.prefix))
            (void)rtnl_address_delete(links->request, &rows[i], NULL);
    }
    free(rows);
}

static void drop_addresses(struct links *links, const struct link *link)
{
    struct rtnl_address *rows;
    size_t count;

    if (rtnl_addresses(links->request, &rows, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (rows[i].index == link->index && rows[i].family == AF_INET)
            (void)rtnl_address_delete(links->request, &rows[i], NULL);
    free(rows);
}

static void take_lease(struct links *links, struct link *link, const struct lease *lease)
{
    struct address net;

    link->lease = *lease;
    link->has_lease = true;
    link->state = "address from DHCP";
    address_network(&lease->address, &net);
    set_address(links, link, &lease->address, lease->seconds);
    drop_routes(links, link, RTPROT_DHCP, lease->gateway.family != 0 ? &lease->gateway : NULL);
    if (lease->gateway.family != 0)
        set_route(links, link, &lease->gateway, &net, RTPROT_DHCP);
}

static void schedule(struct links *links);

static void on_dhcp(enum dhcp_event event, const struct lease *lease, void *data)
{
    struct link *link = data;

    switch (event) {
    case DHCP_EVENT_BOUND:
        take_lease(link->links, link, lease);
        break;
    case DHCP_EVENT_LOST:
        log_warn("%s: the address is not ours any more", link->name);
        link->has_lease = false;
        link->state = "asking for an address";
        drop_routes(link->links, link, RTPROT_DHCP, NULL);
        drop_addresses(link->links, link);
        break;
    case DHCP_EVENT_SILENT:
        link->state = "no DHCP server answers";
        break;
    }
    schedule(link->links);
}

/* ---- from the kernel ---- */

/* Asks routers to speak now instead of at their next regular time. */
static void solicit(const struct link *link)
{
    struct nd_router_solicit question = {.nd_rs_type = ND_ROUTER_SOLICIT};
    struct sockaddr_in6 routers = {.sin6_family = AF_INET6, .sin6_scope_id = (uint32_t)link->index};
    int hops = 255;
    cleanup_close int fd =
        socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);

    if (fd < 0)
        return;
    inet_pton(AF_INET6, "ff02::2", &routers.sin6_addr);
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops));
    (void)sendto(fd, &question, sizeof(question), 0, (struct sockaddr *)&routers, sizeof(routers));
}

static void adopt(struct links *links, const struct rtnl_link *row)
{
    struct link *link;
    struct error err = {0};

    if (links->count == LINKS_MAX) {
        log_warn("%s is left alone: this node has more than %d links", row->name, LINKS_MAX);
        return;
    }
    link = calloc(1, sizeof(*link));
    if (link == NULL)
        return;
    links->links[links->count++] = link;
    *link = (struct link){.links = links, .index = row->index, .hardware = row->kind[0] == '\0'};
    strcpy(link->name, row->name);
    memcpy(link->mac, row->mac, sizeof(link->mac));
    link->mode = wanted_mode(links->config, link->name);
    link->below = is_bond_part(links->config, link->name);
    link->state = link->mode == LINK_NONE ? "not used" : "no carrier";
    set_sysctls(link->name);
    log_info("%s: found, %s", link->name, link_mode_name(link->mode));
    /* Part of a bond: it may only join while it is down. */
    if (!link->below && (row->flags & IFF_UP) == 0)
        log_failure(rtnl_link_set_up(links->request, link->index, true, &err), link, &err);
}

static void forget(struct links *links, size_t i)
{
    struct link *link = links->links[i];

    log_info("%s: gone", link->name);
    dhcp_stop(link);
    free(link);
    links->links[i] = links->links[--links->count];
}

/* The static addresses of a link, each time: adding what is there already changes nothing. */
static void apply_static(struct links *links, struct link *link)
{
    for (size_t i = 0; i < links->config->static_count; i++) {
        const struct config_static *entry = &links->config->statics[i];
        struct address net;

        if (strcmp(entry->interface, link->name) != 0)
            continue;
        address_network(&entry->address, &net);
        set_address(links, link, &entry->address, 0);
        if (entry->gateway.family != 0)
            set_route(links, link, &entry->gateway, &net, RTPROT_STATIC);
    }
    link->state = "static address";
}

static void carrier_changed(struct links *links, struct link *link)
{
    log_info("%s: carrier %s", link->name, link->carrier ? "found" : "lost");
    if (!link->carrier) {
        /* The address stays: a cable that is moved keeps connections. */
        dhcp_stop(link);
        link->state = link->mode == LINK_NONE ? "not used" : "no carrier";
        return;
    }
    if (link->mode == LINK_STATIC)
        apply_static(links, link);
    if (link->mode == LINK_DHCP && link->dhcp == NULL) {
        /* Perhaps another network: ask anew, with the old address as a wish. */
        link->has_lease = false;
        dhcp_start(links, link);
    }
    if (!link->below)
        solicit(link);
}

static void read_addresses(struct links *links)
{
    struct rtnl_address *rows;
    size_t count;

    for (size_t i = 0; i < links->count; i++)
        links->links[i]->address_count = 0;
    if (rtnl_addresses(links->request, &rows, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < links->count; j++) {
            struct link *link = links->links[j];

            if (link->index != rows[i].index || link->address_count == LINK_ADDRESSES_MAX ||
                (rows[i].flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0)
                continue;
            address_set(&link->addresses[link->address_count++], rows[i].family, rows[i].address,
                        rows[i].prefix);
        }
    }
    free(rows);
}

static void read_gateways(struct links *links)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};

    for (size_t f = 0; f < COUNT(families); f++) {
        struct rtnl_route *rows;
        size_t count;

        if (rtnl_routes(links->request, families[f], &rows, &count, NULL) < 0)
            continue;
        for (size_t j = 0; j < links->count; j++) {
            struct link *link = links->links[j];
            struct address *gateway = families[f] == AF_INET ? &link->gateway4 : &link->gateway6;

            *gateway = (struct address){0};
            for (size_t i = 0; i < count; i++)
                if (rows[i].index == link->index && rows[i].prefix == 0 && rows[i].has_gateway &&
                    rows[i].table == RT_TABLE_MAIN && rows[i].type == RTN_UNICAST)
                    address_set(gateway, families[f], rows[i].gateway,
                                families[f] == AF_INET ? 32 : 128);
        }
        free(rows);
    }
}

static void read_links(struct links *links)
{
    struct rtnl_link *rows;
    size_t count;
    struct error err = {0};

    if (rtnl_links(links->request, &rows, &count, &err) < 0) {
        log_error(&err, "links");
        return;
    }
    for (size_t i = links->count; i-- > 0;) {
        const struct rtnl_link *row = links_row(rows, count, links->links[i]->name);

        if (row == NULL || row->index != links->links[i]->index || !is_ours(links->config, row))
            forget(links, i);
    }
    for (size_t i = 0; i < count; i++)
        if (is_ours(links->config, &rows[i]) && find(links, rows[i].name) == NULL)
            adopt(links, &rows[i]);
    links_make_virtual(links, rows, count);
    /* Addresses first: a predecessor's is the wish of a new udhcpc. */
    read_addresses(links);
    for (size_t i = 0; i < count; i++) {
        struct link *link = find(links, rows[i].name);
        bool carrier;

        if (link == NULL)
            continue;
        link->up = (rows[i].flags & IFF_UP) != 0;
        if (memcmp(link->mac, rows[i].mac, sizeof(link->mac)) != 0) {
            /* A bond takes the MAC of its first part: to a DHCP server that is another machine. */
            memcpy(link->mac, rows[i].mac, sizeof(link->mac));
            if (link->dhcp != NULL) {
                dhcp_stop(link);
                dhcp_start(links, link);
            }
        }
        carrier = link->up && rows[i].carrier;
        if (carrier != link->carrier) {
            link->carrier = carrier;
            carrier_changed(links, link);
        }
    }
    free(rows);
}

static void expire_dns(struct links *links)
{
    uint64_t now = loop_clock(), next = UINT64_MAX;

    for (size_t i = 0; i < links->count; i++) {
        struct link *link = links->links[i];

        if (link->ra_dns_count > 0 && link->ra_dns_until <= now)
            link->ra_dns_count = 0;
        if (link->ra_dns_count > 0 && link->ra_dns_until < next)
            next = link->ra_dns_until;
    }
    if (next != UINT64_MAX)
        loop_timer_set(links->timer, next);
}

static void refresh(struct links *links)
{
    read_links(links);
    read_addresses(links);
    read_gateways(links);
    expire_dns(links);
}

static void on_pending(void *data)
{
    struct links *links = data;

    links->pending = false;
    refresh(links);
    links->options.changed(links->options.data);
}

static void schedule(struct links *links)
{
    if (!links->pending && loop_defer(links->loop, on_pending, links) == 0)
        links->pending = true;
}

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    schedule(data);
}

/* A router advertisement's options that the kernel hands on, because they are not its own business. */
static void take_nd(struct links *links, const uint8_t *body, size_t len)
{
    struct nduseroptmsg header;
    struct address servers[LEASE_LIST_MAX];
    uint32_t seconds = 0;
    size_t count = 0, options;

    if (len < sizeof(header))
        return;
    memcpy(&header, body, sizeof(header));
    options = header.nduseropt_opts_len;
    if (header.nduseropt_family != AF_INET6 || header.nduseropt_icmp_type != ND_ROUTER_ADVERT ||
        options > len - sizeof(header) ||
        lease_parse_rdnss(body + sizeof(header), options, servers, LEASE_LIST_MAX, &count,
                          &seconds) < 0 ||
        count == 0)
        return;
    for (size_t i = 0; i < links->count; i++) {
        struct link *link = links->links[i];

        if (link->index != header.nduseropt_ifindex)
            continue;
        memcpy(link->ra_dns, servers, count * sizeof(servers[0]));
        for (size_t j = 0; j < count; j++)
            if (address_is_link_local(&link->ra_dns[j]))
                link->ra_dns[j].scope = (uint32_t)link->index;
        link->ra_dns_count = seconds == 0 ? 0 : count;
        link->ra_dns_until =
            seconds == UINT32_MAX ? UINT64_MAX : loop_clock() + (uint64_t)seconds * 1000000;
    }
}

static int on_message(const struct nlmsghdr *header, const uint8_t *body, size_t len, void *user)
{
    if (header->nlmsg_type == RTM_NEWNDUSEROPT)
        take_nd(user, body, len);
    return 0;
}

static void on_event(struct loop_io *io, int fd, uint32_t events, void *data)
{
    struct links *links = data;

    (void)io, (void)fd, (void)events;
    /* -ENOBUFS: events were lost. What they would have said is read now either way. */
    (void)netlink_receive(links->events, on_message, links);
    schedule(links);
}

int links_new(struct loop *loop, const struct config *config, const struct links_options *options,
              struct links **ret_links, struct error *err)
{
    static const unsigned groups[] = {RTNLGRP_LINK,
                                      RTNLGRP_IPV4_IFADDR,
                                      RTNLGRP_IPV6_IFADDR,
                                      RTNLGRP_IPV4_ROUTE,
                                      RTNLGRP_IPV6_ROUTE,
                                      RTNLGRP_ND_USEROPT,
                                      0};
    struct links *links = calloc(1, sizeof(*links));
    int r = links == NULL ? -ENOMEM : 0;

    if (r == 0) {
        links->loop = loop;
        links->config = config;
        links->options = *options;
        r = netlink_open(NETLINK_ROUTE, &links->request);
    }
    if (r == 0)
        r = netlink_open_events(NETLINK_ROUTE, groups, &links->events);
    if (r == 0)
        r = loop_timer_add(loop, on_timer, links, &links->timer);
    if (r == 0)
        r = loop_io_add(loop, netlink_fd(links->events), EPOLLIN, on_event, links, &links->io);
    if (r < 0) {
        links_free(links);
        return error_set(err, -r, "net.no-netlink", NULL, "watching links: %s", strerror(-r));
    }
    /* Without it the machine does not reach even its own addresses. */
    r = rtnl_link_index(links->request, "lo");
    if (r > 0)
        r = rtnl_link_set_up(links->request, r, true, NULL);
    if (r < 0)
        log_warn("lo: %s", strerror(-r));
    schedule(links);
    *ret_links = links;
    return 0;
}

void links_free(struct links *links)
{
    if (links == NULL)
        return;
    for (size_t i = 0; i < links->count; i++) {
        dhcp_stop(links->links[i]);
        free(links->links[i]);
    }
    loop_io_del(links->io);
    loop_timer_del(links->timer);
    netlink_free(links->events);
    netlink_free(links->request);
    free(links);
}
