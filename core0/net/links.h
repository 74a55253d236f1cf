/*
 * links.h - the node's own links: what the kernel has, what boot.json wants, and the difference.
 *
 * Every event of the kernel leads to the same step: read links, addresses and routes again, do what is missing. So
 * a link that appears late, a carrier that returns and a netd that was restarted are one code path, and a link that
 * gets nothing holds up no other.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "config.h"
#include "lease.h"
#include "lib/error.h"
#include "lib/loop.h"
#include "lib/netlink/rtnl.h"

#define LINK_ADDRESSES_MAX 16
#define LINKS_MAX 64

enum link_mode { LINK_NONE, LINK_DHCP, LINK_STATIC };

struct dhcp_client;
struct links;

struct link {
    struct links *links;
    int index;
    char name[IF_NAMESIZE];
    uint8_t mac[RTNL_MAC_LEN];
    bool hardware; /* no kind: a card of the machine (or in tests the end of a veth) */
    bool up, carrier;
    bool below; /* part of a bond: carries no addresses itself */
    enum link_mode mode;
    const char *state;                            /* in words */
    struct address addresses[LINK_ADDRESSES_MAX]; /* with prefix; link-local ones too */
    size_t address_count;
    struct address gateway4, gateway6;
    bool has_lease;
    struct lease lease;
    struct address ra_dns[LEASE_LIST_MAX];
    size_t ra_dns_count;
    uint64_t ra_dns_until; /* us of the loop's clock */
    struct dhcp_client *dhcp;
};

struct links_options {
    void (*changed)(void *data); /* addresses, gateways, servers: something is different now */
    void *data;
};

int links_new(struct loop *loop, const struct config *config, const struct links_options *options,
              struct links **ret_links, struct error *err);
void links_free(struct links *links);
size_t links_count(const struct links *links);
const struct link *links_get(const struct links *links, size_t i);

bool links_online(const struct links *links); /* any default route */
/* How many addresses, but link-local ones, and default routes there are. */
size_t links_ways(const struct links *links);
/* DNS servers of all links, best first, no duplicates. Returns the count. */
size_t links_dns(const struct links *links, struct address *servers, size_t max);
/* NTP servers from DHCP. */
size_t links_ntp(const struct links *links, struct address *servers, size_t max);
const char *link_mode_name(enum link_mode mode);
