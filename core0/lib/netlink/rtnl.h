/*
 * rtnl.h - links, addresses and routes of the kernel (rtnetlink(7)) as plain structs.
 */
#pragma once

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/netlink/netlink.h"

#define RTNL_MAC_LEN 6
#define RTNL_FOREVER UINT32_MAX /* a lifetime that does not end, as in ifa_cacheinfo */

struct rtnl_link {
    int index;
    int master;     /* 0: none */
    uint16_t type;  /* ARPHRD_… */
    uint32_t flags; /* IFF_… */
    bool carrier;
    uint8_t bond_mode; /* kind "bond": BOND_MODE_… */
    int netnsid;       /* of the other end of a veth; -1: here or unknown */
    uint8_t mac[RTNL_MAC_LEN];
    char name[IF_NAMESIZE];
    char kind[16]; /* "veth", "bridge", …; empty: hardware */
    char alias[64];
};

struct rtnl_address {
    int index;
    uint8_t family; /* AF_INET, AF_INET6 */
    uint8_t prefix;
    uint8_t scope;  /* RT_SCOPE_… */
    uint32_t flags; /* IFA_F_… */
    uint8_t address[16];
    uint32_t valid, preferred; /* seconds; RTNL_FOREVER */
};

struct rtnl_route {
    uint8_t family;
    uint8_t prefix;   /* 0 with dst zeros: default */
    uint8_t protocol; /* RTPROT_… */
    uint8_t type;     /* RTN_…; 0: RTN_UNICAST */
    uint8_t scope;
    uint32_t table; /* 0: main */
    uint32_t metric;
    int index; /* outgoing link, 0: none */
    bool has_gateway;
    uint8_t dst[16];
    uint8_t gateway[16];
};

size_t rtnl_family_size(uint8_t family); /* 4 or 16 */

/* Parsers of one message body (fuzzed). 0 or -EBADMSG. */
int rtnl_link_parse(const uint8_t *body, size_t len, struct rtnl_link *ret_link);
int rtnl_address_parse(const uint8_t *body, size_t len, struct rtnl_address *ret_address);
int rtnl_route_parse(const uint8_t *body, size_t len, struct rtnl_route *ret_route);

/* Lists; *ret_… is one block, free() it. */
int rtnl_links(struct netlink *netlink, struct rtnl_link **ret_links, size_t *ret_count,
               struct error *err);
int rtnl_addresses(struct netlink *netlink, struct rtnl_address **ret_addresses, size_t *ret_count,
                   struct error *err);
int rtnl_routes(struct netlink *netlink, uint8_t family, struct rtnl_route **ret_routes,
                size_t *ret_count, struct error *err);

/* What a new link is to be; fields that are 0 or NULL are left to the kernel. */
struct rtnl_link_spec {
    const char *name;
    const char *kind; /* bridge, veth, vlan, bond, dummy */
    const char *alias;
    const uint8_t *mac;
    int parent; /* vlan: the link below */
    uint16_t vlan;
    uint8_t bond_mode;
    const char *peer_name; /* veth: the other end … */
    const uint8_t *peer_mac;
    int peer_netns_fd; /* … and where it is made; -1: here */
};

int rtnl_link_new(struct netlink *netlink, const struct rtnl_link_spec *spec, struct error *err);
int rtnl_link_delete(struct netlink *netlink, int index, struct error *err);
int rtnl_link_set_up(struct netlink *netlink, int index, bool up, struct error *err);
int rtnl_link_set_master(struct netlink *netlink, int index, int master, struct error *err);
/* No address of its own by autoconfiguration (IN6_ADDR_GEN_MODE_NONE). */
int rtnl_link_set_no_autoconf(struct netlink *netlink, int index, struct error *err);
/* A port that learns nothing, floods nothing it must not, and keeps to its own side. */
int rtnl_bridge_port_set(struct netlink *netlink, int index, bool isolated, struct error *err);
int rtnl_link_index(struct netlink *netlink, const char *name); /* > 0 or -errno */

/* Adds or renews. IPv6 addresses are used at once, without duplicate address detection, if `nodad`. */
int rtnl_address_add(struct netlink *netlink, const struct rtnl_address *address, bool nodad,
                     struct error *err);
int rtnl_address_delete(struct netlink *netlink, const struct rtnl_address *address,
                        struct error *err);
int rtnl_route_add(struct netlink *netlink, const struct rtnl_route *route, struct error *err);
int rtnl_route_delete(struct netlink *netlink, const struct rtnl_route *route, struct error *err);

/* The id under which this namespace knows the one behind fd. >= 0; -ENOENT: it knows it not; or -errno. */
int rtnl_netns_id(struct netlink *netlink, int fd, struct error *err);
