/*
 * converge.c - makes the kernel follow the state: rules, bridges, ports of bridges, forwarding. See networks.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/log.h"
#include "networks_parts.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    const char *path, *value;
} forwarding[] = {
    /* Links that appear later take nothing by themselves: links.c says what each is to do. */
    {"/proc/sys/net/ipv4/conf/all/rp_filter", "0"},
    {"/proc/sys/net/ipv4/conf/default/rp_filter", "1"},
    {"/proc/sys/net/ipv4/conf/all/accept_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/default/accept_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/all/send_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/default/send_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/all/accept_source_route", "0"},
    {"/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts", "1"},
    {"/proc/sys/net/ipv6/conf/all/accept_redirects", "0"},
    {"/proc/sys/net/ipv6/conf/default/accept_redirects", "0"},
    {"/proc/sys/net/ipv6/conf/default/accept_ra", "0"},
    /* Incomplete datagrams of all that is routed share one queue for each family: room for a dozen containers that send as many as
     * they may (FRAGMENTS_RATE in firewall.c), and not for long. */
    {"/proc/sys/net/ipv4/ipfrag_high_thresh", "33554432"},
    {"/proc/sys/net/ipv4/ipfrag_time", "5"},
    {"/proc/sys/net/netfilter/nf_conntrack_frag6_high_thresh", "33554432"},
    {"/proc/sys/net/netfilter/nf_conntrack_frag6_timeout", "5"},
    {"/proc/sys/net/ipv6/conf/all/forwarding", "1"},
    {"/proc/sys/net/ipv4/ip_forward", "1"},
};

/* Bridged frames are not routed packets: the inet rules are not for them. Absent when the kernel cannot do it. */
static const char *const bridge_filters[] = {
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    "/proc/sys/net/bridge/bridge-nf-call-arptables",
};

static const struct {
    const char *family, *key, *value;
} bridge_settings[] = {
    {"ipv4", "rp_filter", "1"},
    {"ipv4", "send_redirects", "0"},
    {"ipv4", "accept_redirects", "0"},
    {"ipv4", "accept_source_route", "0"},
    /* Only the own gateway answers on a bridge, not another address of the node. */
    {"ipv4", "arp_ignore", "1"},
    {"ipv6", "accept_ra", "0"},
    {"ipv6", "accept_redirects", "0"},
    {"ipv6", "accept_dad", "0"},
};

static void set_forwarding(void)
{
    for (size_t i = 0; i < COUNT(forwarding); i++) {
        int r = file_write_text(forwarding[i].path, forwarding[i].value);

        if (r < 0)
            log_warn("%s: %s", forwarding[i].path, strerror(-r));
    }
    for (size_t i = 0; i < COUNT(bridge_filters); i++)
        (void)file_write_text(bridge_filters[i], "0");
}

const struct rtnl_link *networks_find_link(const struct rtnl_link *links, size_t count,
                                           const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(links[i].name, name) == 0)
            return &links[i];
    return NULL;
}

int networks_add_address(struct netlink *netlink, int index, const struct address *address,
                         struct error *err)
{
    struct rtnl_address row = {
        .index = index,
        .family = address->family,
        .prefix = address->prefix,
        .scope = address_is_link_local(address) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    };

    memcpy(row.address, address->bytes, sizeof(row.address));
    return rtnl_address_add(netlink, &row, true, err);
}

static int make_bridge(struct networks *networks, const struct network *network,
                       const struct rtnl_link *links, size_t count, struct error *err)
{
    const struct rtnl_link *existing = networks_find_link(links, count, network->bridge);
    uint64_t hash = state_hash("bridge", network->reservation, 0, network->name, "");
    uint8_t mac[RTNL_MAC_LEN] = {0x02};
    char alias[64];
    struct rtnl_link_spec spec = {
        .name = network->bridge, .kind = "bridge", .mac = mac, .alias = alias, .peer_netns_fd = -1};
    int index, r;

    /* Up is the last step: what is up is whole. */
    if (existing != NULL && (existing->flags & IFF_UP) != 0)
        return 0;
    memcpy(mac + 1, &hash, RTNL_MAC_LEN - 1);
    snprintf(alias, sizeof(alias), "croft %llu/%.40s", (unsigned long long)network->reservation,
             network->name);
    if (existing == NULL) {
        r = rtnl_link_new(networks->rtnl, &spec, err);
        if (r < 0)
            return r;
    }
    index = existing != NULL ? existing->index : rtnl_link_index(networks->rtnl, network->bridge);
    if (index < 0)
        return error_set(err, -index, "net.kernel", NULL, "%s is gone", network->bridge);
    for (size_t i = 0; i < COUNT(bridge_settings); i++) {
        char path[128];

        snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", bridge_settings[i].family,
                 network->bridge, bridge_settings[i].key);
        (void)file_write_text(path, bridge_settings[i].value);
    }
    r = networks_add_address(networks->rtnl, index, &network->gateway4, err);
    if (r == 0)
        r = networks_add_address(networks->rtnl, index, &network->gateway6, err);
    return r < 0 ? r : rtnl_link_set_up(networks->rtnl, index, true, err);
}

static bool is_wanted(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state->network_count; i++)
        if (strcmp(state->networks[i].bridge, name) == 0)
            return true;
    for (size_t i = 0; i < state->attachment_count; i++)
        if (strcmp(state->attachments[i].host_interface, name) == 0)
            return true;
    return false;
}

static bool is_made_by_us(const struct rtnl_link *link)
{
    return (strncmp(link->name, "cb", 2) == 0 && strcmp(link->kind, "bridge") == 0) ||
           (strncmp(link->name, "cv", 2) == 0 && strcmp(link->kind, "veth") == 0);
}

static int remove_unwanted(struct networks *networks, const struct rtnl_link *links, size_t count,
                           struct error *err)
{
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        int r;

        if (!is_made_by_us(&links[i]) || is_wanted(&networks->state, links[i].name))
            continue;
        r = rtnl_link_delete(networks->rtnl, links[i].index, NULL);
        /* Gone meanwhile with its namespace: as wished. */
        if (r < 0 && r != -ENODEV)
            result = error_set(err, -r, "net.kernel", NULL, "removing %s: %s", links[i].name,
                               strerror(-r));
    }
    return result;
}

/* The node's end of an interface: on its bridge and up, after the rules know it. */
static int plug(struct networks *networks, const struct attachment *attachment,
                const struct rtnl_link *links, size_t count, struct error *err)
{
    const struct network *network =
        state_network(&networks->state, attachment->instance.reservation, attachment->network);
    const struct rtnl_link *port = networks_find_link(links, count, attachment->host_interface);
    const struct rtnl_link *bridge =
        network != NULL ? networks_find_link(links, count, network->bridge) : NULL;
    int r;

    if (port == NULL || bridge == NULL || (port->master == bridge->index && (port->flags & IFF_UP)))
        return 0;
    r = rtnl_link_set_no_autoconf(networks->rtnl, port->index, err);
    if (r == 0)
        r = rtnl_link_set_master(networks->rtnl, port->index, bridge->index, err);
    if (r == 0)
        r = rtnl_bridge_port_set(networks->rtnl, port->index, false, err);
    return r < 0 ? r : rtnl_link_set_up(networks->rtnl, port->index, true, err);
}

static int apply_rules(struct networks *networks, struct error *err)
{
    bool first;
    int r;

    if (networks->firewall == NULL) {
        if (err != NULL && !error_is_set(err))
            *err = networks->no_firewall;
        return -ENOTSUP;
    }
    first = !firewall_ready(networks->firewall);
    r = firewall_apply(networks->firewall, &networks->state, networks->links, err);
    /* Nothing is forwarded before there are rules. */
    if (r == 0 && first)
        set_forwarding();
    return r;
}

int networks_links_changed(struct networks *networks, struct error *err)
{
    return apply_rules(networks, err);
}

/* One reservation's trouble is not another's: who asked for `reservation` hears of that one (0: of all). */
static int keep_failure(int result, int r, uint64_t owner, uint64_t reservation, struct error *from,
                        struct error *err)
{
    if (r == 0)
        return result;
    if (owner != reservation && reservation != 0) {
        log_error(from, "networks");
        r = 0;
    } else if (err != NULL && !error_is_set(err)) {
        *err = *from;
    }
    error_clear(from);
    return result < 0 ? result : r;
}

int networks_converge(struct networks *networks, uint64_t reservation, struct error *err)
{
    struct state *state = &networks->state;
    struct rtnl_link *links = NULL;
    struct error one = {0};
    size_t count = 0;
    int r;

    state_sort(state);
    r = apply_rules(networks, err);
    if (r == 0)
        r = rtnl_links(networks->rtnl, &links, &count, err);
    if (r < 0)
        return r;
    r = remove_unwanted(networks, links, count, err);
    for (size_t i = 0; i < state->network_count; i++)
        r = keep_failure(r, make_bridge(networks, &state->networks[i], links, count, &one),
                         state->networks[i].reservation, reservation, &one, err);
    free(links);
    links = NULL;
    if (rtnl_links(networks->rtnl, &links, &count, err) < 0)
        return -EIO;
    for (size_t i = 0; i < state->attachment_count; i++)
        r = keep_failure(r, plug(networks, &state->attachments[i], links, count, &one),
                         state->attachments[i].instance.reservation, reservation, &one, err);
    free(links);
    networks->changed(networks->data);
    return r;
}

int networks_commit(struct networks *networks, uint64_t reservation, struct error *err)
{
    int r = state_save(&networks->state, err);

    return r < 0 ? r : networks_converge(networks, reservation, err);
}
