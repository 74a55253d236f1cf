/*
 * firewall.c - see firewall.h.
 *
 * Names of interfaces carry meaning: cb… is a bridge of containers, cv… the node's end of a container's interface.
 * A rule set that is only prefixes and sets stays right between the moment a bridge is made and the next commit:
 * a container that no set names yet reaches nothing.
 */
#include "firewall.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/netlink/conntrack.h"
#include "lib/netlink/nft.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TABLE "croft"
#define BRIDGES "cb"
#define PORTS "cv"
#define ETH_SOURCE 6
#define IP4_SOURCE 12
#define IP4_DESTINATION 16
#define IP6_SOURCE 8
#define IP6_DESTINATION 24
#define ND_TARGET 8 /* in the ICMPv6 message */
#define ICMP6_SOLICIT 135
#define ICMP6_ADVERTISE 136

struct firewall {
    struct netlink *nft, *conntrack;
    uint8_t *last; /* the batch that the kernel took last */
    size_t last_len;
};

/* Closed to every container: not the internet (RFC 6890 and its kin), or a farm's own machines. */
#define V4(a, b, c, d, bits)                                                                       \
    {                                                                                              \
        AF_INET, bits, {a, b, c, d}, 0                                                             \
    }
#define V6(bits, ...)                                                                              \
    {                                                                                              \
        AF_INET6, bits, {__VA_ARGS__}, 0                                                           \
    }
static const struct address closed[] = {
    V4(0, 0, 0, 0, 8),
    V4(10, 0, 0, 0, 8),
    V4(100, 64, 0, 0, 10),
    V4(127, 0, 0, 0, 8),
    V4(169, 254, 0, 0, 16),
    V4(172, 16, 0, 0, 12),
    V4(192, 0, 0, 0, 24),
    V4(192, 168, 0, 0, 16),
    V4(198, 18, 0, 0, 15),
    V4(224, 0, 0, 0, 4),
    V4(240, 0, 0, 0, 4),
    V6(96, 0),                                        /* ::, ::1, IPv4-compatible */
    V6(96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), /* IPv4-mapped */
    V6(48, 0, 0x64, 0xff, 0x9b, 0, 1),                /* local NAT64, RFC 8215 */
    V6(7, 0xfc),                                      /* unique local */
    V6(10, 0xfe, 0x80),                               /* link-local */
    V6(10, 0xfe, 0xc0),                               /* site-local, deprecated and still in use */
    V6(8, 0xff),                                      /* multicast */
    {0},
};

/* Ways in which a network may carry an IPv4 address inside an IPv6 one to a translator or relay of the farm: the
 * closed IPv4 ranges are closed behind them too. */
static const struct {
    uint8_t bytes[12];
    uint8_t prefix;
} embeddings[] = {
    {{0, 0x64, 0xff, 0x9b}, 96}, /* NAT64, RFC 6052 */
    {{0x20, 0x02}, 16},          /* 6to4, RFC 3056 */
};

const struct address *firewall_closed(void)
{
    return closed;
}

/* ---- inet: the node itself ---- */

static void rule_accept_state(struct nft *nft, const char *chain)
{
    nft_rule(nft, chain);
    nft_match_ct_state(nft, NFT_STATE_ESTABLISHED | NFT_STATE_RELATED);
    nft_verdict(nft, NF_ACCEPT, NULL);
    nft_rule(nft, chain);
    nft_match_ct_state(nft, NFT_STATE_INVALID);
    nft_verdict(nft, NF_DROP, NULL);
}

static const uint8_t icmp4_types[] = {3 /* unreachable */, 8 /* echo */, 11 /* time */,
                                      12 /* parameter */};
static const uint8_t icmp6_types[] = {1,   2,   3,   4,  128 /* echo */,
                                      130, 131, 132, 143 /* listeners */};
/* Neighbour discovery: only with the hop limit of the own link (RFC 4861). */
static const uint8_t nd_types[] = {133, 134, ICMP6_SOLICIT, ICMP6_ADVERTISE};

static void match_hop_limit_255(struct nft *nft)
{
    uint8_t limit = 255;

    nft_match_payload(nft, NFT_PAYLOAD_NETWORK_HEADER, 7, &limit, 1, true);
}

static void rules_input(struct nft *nft)
{
    nft_chain_base(nft, "input", "filter", NF_INET_LOCAL_IN, NFT_PRIORITY_FILTER, NF_DROP);
    nft_chain(nft, "from-containers");
    nft_rule(nft, "input");
    nft_match_iifname(nft, "lo", false, true);
    nft_verdict(nft, NF_ACCEPT, NULL);
    rule_accept_state(nft, "input");
    /* What was published and leads to a program of the node: no other translation ends here. */
    nft_rule(nft, "input");
    nft_match_ct_status(nft, IPS_DST_NAT);
    nft_verdict(nft, NF_ACCEPT, NULL);
    nft_rule(nft, "input");
    nft_match_iifname(nft, BRIDGES, true, true);
    nft_verdict(nft, NFT_GOTO, "from-containers");
    for (size_t i = 0; i < COUNT(icmp4_types); i++) {
        nft_rule(nft, "input");
        nft_match_nfproto(nft, NFPROTO_IPV4);
        nft_match_icmp_type(nft, IPPROTO_ICMP, icmp4_types[i]);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    for (size_t i = 0; i < COUNT(icmp6_types); i++) {
        nft_rule(nft, "input");
        nft_match_nfproto(nft, NFPROTO_IPV6);
        nft_match_icmp_type(nft, IPPROTO_ICMPV6, icmp6_types[i]);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    for (size_t i = 0; i < COUNT(nd_types); i++) {
        nft_rule(nft, "input");
        nft_match_nfproto(nft, NFPROTO_IPV6);
        match_hop_limit_255(nft);
        nft_match_icmp_type(nft, IPPROTO_ICMPV6, nd_types[i]);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    /* The remote listener, for the world; a container's frames went to from-containers above. */
    nft_rule(nft, "input");
    nft_match_port(nft, IPPROTO_TCP, false, STATE_GATE_PORT);
    nft_verdict(nft, NF_ACCEPT, NULL);
    /* Answers of DHCP servers to questions that were broadcast belong to no connection. */
    nft_rule(nft, "input");
    nft_match_nfproto(nft, NFPROTO_IPV4);
    nft_match_port(nft, IPPROTO_UDP, true, 67);
    nft_match_port(nft, IPPROTO_UDP, false, 68);
    nft_verdict(nft, NF_ACCEPT, NULL);
}

/* What one container has under way at once, of a table that the whole node shares: 65,536 entries where there is 1 GiB or more
 * (nf_conntrack_max). Beyond, a new connection is refused and those that are there go on. */
#define CONNECTIONS_MAX 4096
/* Fragments that a container may send out a second, and at once: 300 kB/s of datagrams that are too large for a packet. */
#define FRAGMENTS_RATE 200
#define FRAGMENTS_BURST 200
#define FRAGMENTS_SETS 65536
#define CONNECTIONS_SETS 65536 /* containers that are counted */

static void rules_counted(struct nft *nft, uint32_t connections4, uint32_t connections6)
{
    nft_chain(nft, "counted");
    for (unsigned i = 0; i < 2; i++) {
        bool four = i == 0;

        nft_rule(nft, "counted");
        nft_match_nfproto(nft, four ? NFPROTO_IPV4 : NFPROTO_IPV6);
        nft_match_ct_state(nft, NFT_STATE_NEW);
        nft_match_connections_over(nft, four ? "connections4" : "connections6",
                                   four ? connections4 : connections6,
                                   four ? IP4_SOURCE : IP6_SOURCE,
                                   four ? NFT_FIELD_IPV4 : NFT_FIELD_IPV6, CONNECTIONS_MAX);
        nft_reject(nft);
    }
}

/* From a container: names from the gateway of its own bridge, and what finds that gateway. Nothing else. */
static void rules_from_containers(struct nft *nft, uint32_t gateways4, uint32_t gateways6)
{
    static const uint8_t protocols[] = {IPPROTO_UDP, IPPROTO_TCP};

    nft_rule(nft, "from-containers");
    nft_verdict(nft, NFT_JUMP, "counted");
    for (size_t i = 0; i < COUNT(protocols); i++) {
        struct nft_key key4 = {0}, key6 = {0};

        nft_rule(nft, "from-containers");
        nft_match_nfproto(nft, NFPROTO_IPV4);
        nft_match_port(nft, protocols[i], false, 53);
        nft_key_iifname(nft, &key4);
        nft_key_payload(nft, &key4, NFT_PAYLOAD_NETWORK_HEADER, IP4_DESTINATION, 4);
        nft_match_set(nft, "gateways4", gateways4, true);
        nft_verdict(nft, NF_ACCEPT, NULL);
        nft_rule(nft, "from-containers");
        nft_match_nfproto(nft, NFPROTO_IPV6);
        nft_match_port(nft, protocols[i], false, 53);
        nft_key_iifname(nft, &key6);
        nft_key_payload(nft, &key6, NFT_PAYLOAD_NETWORK_HEADER, IP6_DESTINATION, 16);
        nft_match_set(nft, "gateways6", gateways6, true);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    for (size_t i = 2; i < COUNT(nd_types); i++) {
        nft_rule(nft, "from-containers");
        nft_match_nfproto(nft, NFPROTO_IPV6);
        match_hop_limit_255(nft);
        nft_match_icmp_type(nft, IPPROTO_ICMPV6, nd_types[i]);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    nft_rule(nft, "from-containers");
    nft_reject(nft);
}

/* ---- inet: what passes ---- */

static void rule_closed(struct nft *nft, const struct address *net)
{
    nft_rule(nft, "closed");
    nft_match_address(nft, net->family, false, net->bytes, net->prefix);
    nft_reject(nft);
}

static void rules_closed(struct nft *nft, const struct links *links)
{
    nft_chain(nft, "closed");
    for (const struct address *net = closed; net->family != 0; net++) {
        rule_closed(nft, net);
        for (size_t i = 0; net->family == AF_INET && i < COUNT(embeddings); i++) {
            struct address inside = {.family = AF_INET6,
                                     .prefix = (uint8_t)(embeddings[i].prefix + net->prefix)};

            memcpy(inside.bytes, embeddings[i].bytes, sizeof(embeddings[i].bytes));
            memcpy(inside.bytes + embeddings[i].prefix / 8, net->bytes, 4);
            rule_closed(nft, &inside);
        }
    }
    /* The farm's own machines, where they have public addresses: most homes over IPv6. */
    for (size_t i = 0; i < links_count(links); i++) {
        const struct link *link = links_get(links, i);

        for (size_t j = 0; j < link->address_count; j++) {
            struct address net;

            if (address_is_link_local(&link->addresses[j]))
                continue;
            address_network(&link->addresses[j], &net);
            rule_closed(nft, &net);
        }
    }
}

static void rules_forward(struct nft *nft, uint32_t internal)
{
    struct nft_key key = {0};

    nft_chain_base(nft, "forward", "filter", NF_INET_FORWARD, NFT_PRIORITY_FILTER, NF_DROP);
    rule_accept_state(nft, "forward");
    /* A published port, from wherever: it is open to the world. */
    nft_rule(nft, "forward");
    nft_match_ct_status(nft, IPS_DST_NAT);
    nft_match_oifname(nft, BRIDGES, true, true);
    nft_verdict(nft, NF_ACCEPT, NULL);
    /* What follows is only about containers that begin something. */
    nft_rule(nft, "forward");
    nft_match_iifname(nft, BRIDGES, true, false);
    nft_verdict(nft, NF_DROP, NULL);
    nft_rule(nft, "forward");
    nft_match_oifname(nft, BRIDGES, true, true);
    nft_reject(nft);
    nft_rule(nft, "forward");
    nft_key_iifname(nft, &key);
    nft_match_set(nft, "internal", internal, true);
    nft_reject(nft);
    nft_rule(nft, "forward");
    nft_verdict(nft, NFT_JUMP, "closed");
    nft_rule(nft, "forward");
    nft_verdict(nft, NFT_JUMP, "counted");
    nft_rule(nft, "forward");
    nft_verdict(nft, NF_ACCEPT, NULL);
}

/* ---- inet: translation ---- */

/* Where a published port leads: the first network of the service that is not internal. */
static const struct attachment *port_target(struct state *state, const struct port *port,
                                            const struct network **ret_network)
{
    struct instance instance = {.reservation = port->reservation, .revision = port->revision};

    snprintf(instance.service, sizeof(instance.service), "%s", port->service);
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *attachment = &state->attachments[i];
        const struct network *network;

        if (!instance_equal(&attachment->instance, &instance))
            continue;
        network = state_network(state, instance.reservation, attachment->network);
        if (network != NULL && !network->internal) {
            *ret_network = network;
            return attachment;
        }
    }
    return NULL;
}

static void rules_published(struct nft *nft, struct state *state)
{
    nft_chain(nft, "published");
    for (size_t i = 0; i < state->port_count; i++) {
        const struct port *port = &state->ports[i];
        const struct network *network = NULL;
        const struct attachment *attachment;
        struct address to4, to6;

        if (port->local && !port->inside) {
            nft_rule(nft, "published");
            nft_match_port(nft, port->protocol, false, port->published);
            nft_redirect(nft, port->target);
        }
        if (port->local)
            continue;
        attachment = port_target(state, port, &network);
        if (attachment == NULL)
            continue;
        attachment_addresses(network, attachment, &to4, &to6);
        nft_rule(nft, "published");
        nft_match_nfproto(nft, NFPROTO_IPV4);
        nft_match_port(nft, port->protocol, false, port->published);
        nft_dnat(nft, AF_INET, to4.bytes, port->target);
        nft_rule(nft, "published");
        nft_match_nfproto(nft, NFPROTO_IPV6);
        nft_match_port(nft, port->protocol, false, port->published);
        nft_dnat(nft, AF_INET6, to6.bytes, port->target);
    }
}

/* From a bridge to the gateway of that same bridge: another reservation's containers come from another one. */
static void rules_local(struct nft *nft, const struct state *state, const struct network *network)
{
    for (size_t i = 0; i < state->port_count; i++) {
        const struct port *port = &state->ports[i];
        const struct address *gateways[] = {&network->gateway4, &network->gateway6};

        if (!port->local || port->reservation != network->reservation)
            continue;
        for (size_t j = 0; j < COUNT(gateways); j++) {
            nft_rule(nft, "prerouting");
            nft_match_iifname(nft, network->bridge, false, true);
            nft_match_address(nft, gateways[j]->family, false, gateways[j]->bytes,
                              gateways[j]->family == AF_INET ? 32 : 128);
            nft_match_port(nft, port->protocol, false, port->published);
            nft_redirect(nft, port->target);
        }
    }
}

static void rules_nat(struct nft *nft, struct state *state)
{
    static const uint8_t loopback4[4] = {127}, loopback6[16] = {[15] = 1};

    rules_published(nft, state);
    nft_chain_base(nft, "prerouting", "nat", NF_INET_PRE_ROUTING, NFT_PRIORITY_DSTNAT, NF_ACCEPT);
    nft_chain_base(nft, "output", "nat", NF_INET_LOCAL_OUT, NFT_PRIORITY_DSTNAT, NF_ACCEPT);
    nft_chain_base(nft, "postrouting", "nat", NF_INET_POST_ROUTING, NFT_PRIORITY_SRCNAT, NF_ACCEPT);
    /* The gateways are the node's side of each bridge: names are asked there, and the reservation's own local ports are
     * found there; nothing is published. */
    for (size_t i = 0; i < state->network_count; i++) {
        const struct network *network = &state->networks[i];

        rules_local(nft, state, network);
        nft_rule(nft, "prerouting");
        nft_match_address(nft, AF_INET, false, network->gateway4.bytes, 32);
        nft_verdict(nft, NF_ACCEPT, NULL);
        nft_rule(nft, "prerouting");
        nft_match_address(nft, AF_INET6, false, network->gateway6.bytes, 128);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
    nft_rule(nft, "prerouting");
    nft_match_local_daddr(nft);
    nft_verdict(nft, NFT_JUMP, "published");
    /* The node's own programs reach a published port by the node's addresses, not by loopback, from where an answer
     * could not come back. */
    nft_rule(nft, "output");
    nft_match_address(nft, AF_INET, false, loopback4, 8);
    nft_verdict(nft, NF_ACCEPT, NULL);
    nft_rule(nft, "output");
    nft_match_address(nft, AF_INET6, false, loopback6, 128);
    nft_verdict(nft, NF_ACCEPT, NULL);
    nft_rule(nft, "output");
    nft_match_local_daddr(nft);
    nft_verdict(nft, NFT_JUMP, "published");
    /* Out to a link as the link's address; back into a bridge (hairpin) as its gateway. */
    for (size_t i = 0; i < state->network_count; i++) {
        const struct network *network = &state->networks[i];

        nft_rule(nft, "postrouting");
        nft_match_address(nft, AF_INET, true, network->gateway4.bytes, network->gateway4.prefix);
        nft_masquerade(nft);
        nft_rule(nft, "postrouting");
        nft_match_address(nft, AF_INET6, true, network->gateway6.bytes, network->gateway6.prefix);
        nft_masquerade(nft);
    }
}

static void table_inet(struct nft *nft, struct state *state, const struct links *links)
{
    static const enum nft_field by4[] = {NFT_FIELD_NAME, NFT_FIELD_IPV4};
    static const enum nft_field by6[] = {NFT_FIELD_NAME, NFT_FIELD_IPV6};
    uint32_t gateways4, gateways6, internal, connections4, connections6;

    nft_table_replace(nft, NFPROTO_INET, TABLE);
    connections4 = nft_set_counting(nft, "connections4", NFT_FIELD_IPV4, CONNECTIONS_SETS);
    connections6 = nft_set_counting(nft, "connections6", NFT_FIELD_IPV6, CONNECTIONS_SETS);
    rules_counted(nft, connections4, connections6);
    gateways4 = nft_set(nft, "gateways4", by4, 2);
    gateways6 = nft_set(nft, "gateways6", by6, 2);
    internal = nft_set(nft, "internal", by4, 1);
    for (size_t i = 0; i < state->network_count; i++) {
        const struct network *network = &state->networks[i];
        const void *key4[] = {network->bridge, network->gateway4.bytes};
        const void *key6[] = {network->bridge, network->gateway6.bytes};

        nft_element(nft, "gateways4", gateways4, by4, key4, 2);
        nft_element(nft, "gateways6", gateways6, by6, key6, 2);
        if (network->internal)
            nft_element(nft, "internal", internal, by4, key4, 1);
    }
    rules_input(nft);
    rules_from_containers(nft, gateways4, gateways6);
    rules_closed(nft, links);
    rules_forward(nft, internal);
    rules_nat(nft, state);
}

/* ---- bridge: each container as itself ---- */

static void key_source(struct nft *nft, struct nft_key *key)
{
    nft_key_iifname(nft, key);
    nft_key_payload(nft, key, NFT_PAYLOAD_LL_HEADER, ETH_SOURCE, RTNL_MAC_LEN);
}

static void rules_arp(struct nft *nft, uint32_t own4)
{
    struct nft_key frame = {0}, sender = {0};

    /* Both the frame's and the message's sender must be this port's: nobody answers for another. */
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x0806);
    key_source(nft, &frame);
    nft_key_payload(nft, &frame, NFT_PAYLOAD_NETWORK_HEADER, 14, 4); /* sender's IP address */
    nft_match_set(nft, "own4", own4, false);
    nft_verdict(nft, NF_DROP, NULL);
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x0806);
    nft_key_iifname(nft, &sender);
    nft_key_payload(nft, &sender, NFT_PAYLOAD_NETWORK_HEADER, 8, RTNL_MAC_LEN); /* sender's MAC */
    nft_key_payload(nft, &sender, NFT_PAYLOAD_NETWORK_HEADER, 14, 4);
    nft_match_set(nft, "own4", own4, true);
    nft_verdict(nft, NF_ACCEPT, NULL);
}

static void rules_nd(struct nft *nft, uint32_t own6, uint32_t own6_link)
{
    struct nft_key global = {0}, local = {0}, source = {0};

    /* An advertisement speaks for an address of this port only. */
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x86dd);
    nft_match_icmp_type(nft, IPPROTO_ICMPV6, ICMP6_ADVERTISE);
    key_source(nft, &global);
    nft_key_payload(nft, &global, NFT_PAYLOAD_TRANSPORT_HEADER, ND_TARGET, 16);
    nft_match_set(nft, "own6", own6, false);
    key_source(nft, &local);
    nft_key_payload(nft, &local, NFT_PAYLOAD_TRANSPORT_HEADER, ND_TARGET, 16);
    nft_match_set(nft, "own6-link", own6_link, false);
    nft_verdict(nft, NF_DROP, NULL);
    /* Nobody plays the router or redirects. */
    for (unsigned i = 0; i < 2; i++) {
        nft_rule(nft, "sent");
        nft_match_ethertype(nft, 0x86dd);
        nft_match_icmp_type(nft, IPPROTO_ICMPV6, i == 0 ? 134 : 137);
        nft_verdict(nft, NF_DROP, NULL);
    }
    /* From the link-local address come questions and answers about neighbours, nothing else. */
    for (unsigned i = 2; i < COUNT(nd_types); i++) {
        source.at = 0;
        nft_rule(nft, "sent");
        nft_match_ethertype(nft, 0x86dd);
        nft_match_icmp_type(nft, IPPROTO_ICMPV6, nd_types[i]);
        key_source(nft, &source);
        nft_key_payload(nft, &source, NFT_PAYLOAD_NETWORK_HEADER, IP6_SOURCE, 16);
        nft_match_set(nft, "own6-link", own6_link, true);
        nft_verdict(nft, NF_ACCEPT, NULL);
    }
}

static void rules_ip(struct nft *nft, uint32_t own4, uint32_t own6)
{
    struct nft_key key4 = {0}, key6 = {0};

    /* Nobody hands out addresses: each has its own, and no other would get out. DHCP's servers send from these ports. */
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x0800);
    nft_match_port(nft, IPPROTO_UDP, true, 67);
    nft_verdict(nft, NF_DROP, NULL);
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x86dd);
    nft_match_port(nft, IPPROTO_UDP, true, 547);
    nft_verdict(nft, NF_DROP, NULL);
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x0800);
    key_source(nft, &key4);
    nft_key_payload(nft, &key4, NFT_PAYLOAD_NETWORK_HEADER, IP4_SOURCE, 4);
    nft_match_set(nft, "own4", own4, true);
    nft_verdict(nft, NF_ACCEPT, NULL);
    nft_rule(nft, "sent");
    nft_match_ethertype(nft, 0x86dd);
    key_source(nft, &key6);
    nft_key_payload(nft, &key6, NFT_PAYLOAD_NETWORK_HEADER, IP6_SOURCE, 16);
    nft_match_set(nft, "own6", own6, true);
    nft_verdict(nft, NF_ACCEPT, NULL);
}

/* Incomplete datagrams wait in one queue for all (net.ipv4.ipfrag_high_thresh, nf_conntrack_frag6_high_thresh): nobody fills it.
 * Only what is handed up to be routed counts; containers of one network send each other what they like. */
static void rules_fragments(struct nft *nft)
{
    const uint8_t more_or_offset[] = {0x3f, 0xff};
    uint32_t seen = nft_set_counting(nft, "fragments", NFT_FIELD_NAME, FRAGMENTS_SETS);

    nft_chain_base(nft, "input", "filter", NF_INET_LOCAL_IN, NFT_PRIORITY_FILTER, NF_ACCEPT);
    for (unsigned i = 0; i < 2; i++) {
        nft_rule(nft, "input");
        nft_match_iifname(nft, PORTS, true, true);
        nft_match_ethertype(nft, i == 0 ? 0x0800 : 0x86dd);
        if (i == 0)
            nft_match_any_bit(nft, NFT_PAYLOAD_NETWORK_HEADER, 6, more_or_offset,
                              sizeof(more_or_offset));
        else
            nft_match_exthdr(nft, IPPROTO_FRAGMENT);
        nft_match_rate_over(nft, "fragments", seen, FRAGMENTS_RATE, FRAGMENTS_BURST);
        nft_verdict(nft, NF_DROP, NULL);
    }
}

static void table_bridge(struct nft *nft, struct state *state)
{
    static const enum nft_field by4[] = {NFT_FIELD_NAME, NFT_FIELD_MAC, NFT_FIELD_IPV4};
    static const enum nft_field by6[] = {NFT_FIELD_NAME, NFT_FIELD_MAC, NFT_FIELD_IPV6};
    uint32_t own4, own6, own6_link;

    nft_table_replace(nft, NFPROTO_BRIDGE, TABLE);
    own4 = nft_set(nft, "own4", by4, 3);
    own6 = nft_set(nft, "own6", by6, 3);
    own6_link = nft_set(nft, "own6-link", by6, 3);
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *row = &state->attachments[i];
        const struct network *network =
            state_network(state, row->instance.reservation, row->network);
        struct address address4, address6, link;
        uint8_t mac[RTNL_MAC_LEN];

        if (network == NULL)
            continue;
        attachment_addresses(network, row, &address4, &address6);
        attachment_link_local(row, &link);
        attachment_mac(row, mac);
        nft_element(nft, "own4", own4, by4,
                    (const void *[]){row->host_interface, mac, address4.bytes}, 3);
        nft_element(nft, "own6", own6, by6,
                    (const void *[]){row->host_interface, mac, address6.bytes}, 3);
        nft_element(nft, "own6-link", own6_link, by6,
                    (const void *[]){row->host_interface, mac, link.bytes}, 3);
    }
    nft_chain_base(nft, "prerouting", "filter", NF_INET_PRE_ROUTING, -300, NF_ACCEPT);
    nft_chain(nft, "sent");
    nft_rule(nft, "prerouting");
    nft_match_iifname(nft, PORTS, true, true);
    nft_verdict(nft, NFT_GOTO, "sent");
    rules_arp(nft, own4);
    rules_nd(nft, own6, own6_link);
    rules_ip(nft, own4, own6);
    nft_rule(nft, "sent");
    nft_verdict(nft, NF_DROP, NULL);
    rules_fragments(nft);
}

/* ---- the whole ---- */

int firewall_new(struct firewall **ret_firewall, struct error *err)
{
    struct firewall *firewall = calloc(1, sizeof(*firewall));
    int r = firewall == NULL ? -ENOMEM : 0;

    if (r == 0)
        r = netlink_open(NETLINK_NETFILTER, &firewall->nft);
    if (r == 0)
        r = netlink_open(NETLINK_NETFILTER, &firewall->conntrack);
    if (r < 0) {
        firewall_free(firewall);
        return error_set(err, -r, "net.no-firewall", NULL, "the kernel has no nf_tables: %s",
                         strerror(-r));
    }
    *ret_firewall = firewall;
    return 0;
}

void firewall_free(struct firewall *firewall)
{
    if (firewall == NULL)
        return;
    netlink_free(firewall->nft);
    netlink_free(firewall->conntrack);
    free(firewall->last);
    free(firewall);
}

bool firewall_ready(const struct firewall *firewall)
{
    return firewall->last != NULL;
}

int firewall_apply(struct firewall *firewall, struct state *state, const struct links *links,
                   struct error *err)
{
    struct nft nft;
    uint8_t *copy = NULL;
    size_t len;
    int r;

    nft_begin(&nft);
    table_inet(&nft, state, links);
    table_bridge(&nft, state);
    r = nft_status(&nft);
    len = nft.msg.buf.len;
    if (r == 0 && len == firewall->last_len && memcmp(nft.msg.buf.data, firewall->last, len) == 0) {
        nft_done(&nft);
        return 0;
    }
    if (r == 0)
        copy = malloc(len);
    if (copy == NULL) {
        nft_done(&nft);
        return error_set(err, r < 0 ? -r : ENOMEM, "net.no-firewall", NULL,
                         "building the rules: %s", strerror(r < 0 ? -r : ENOMEM));
    }
    memcpy(copy, nft.msg.buf.data, len);
    r = nft_commit(&nft, firewall->nft, err);
    if (r < 0) {
        free(copy);
        return r;
    }
    free(firewall->last);
    firewall->last = copy;
    firewall->last_len = len;
    return 0;
}

/* ---- connections ---- */

struct flush_port {
    const struct port *port;
    const struct address *target4, *target6;
};

static bool is_port(const struct conntrack_entry *entry, void *data)
{
    const struct flush_port *flush = data;
    const struct address *target = entry->family == AF_INET ? flush->target4 : flush->target6;

    if (entry->protocol != flush->port->protocol || entry->original.dport != flush->port->published)
        return false;
    if (flush->port->local)
        return entry->reply.sport == flush->port->target;
    return memcmp(entry->reply.src, target->bytes, sizeof(entry->reply.src)) == 0;
}

int firewall_flush_port(struct firewall *firewall, const struct port *port,
                        const struct address *target4, const struct address *target6,
                        struct error *err)
{
    struct flush_port flush = {.port = port, .target4 = target4, .target6 = target6};

    return conntrack_flush(firewall->conntrack, is_port, &flush, err);
}

static bool is_net(const struct conntrack_entry *entry, void *data)
{
    const struct address *net = entry->family == AF_INET ? ((const struct address **)data)[0]
                                                         : ((const struct address **)data)[1];
    const uint8_t *ends[] = {entry->original.src, entry->original.dst, entry->reply.src,
                             entry->reply.dst};

    for (size_t i = 0; i < COUNT(ends); i++) {
        struct address end;

        address_set(&end, entry->family, ends[i], 0);
        if (address_in(&end, net))
            return true;
    }
    return false;
}

int firewall_flush_net(struct firewall *firewall, const struct address *net4,
                       const struct address *net6, struct error *err)
{
    const struct address *nets[] = {net4, net6};

    return conntrack_flush(firewall->conntrack, is_net, nets, err);
}
