/*
 * networks_parts.h - what networks.c (requests), converge.c (the kernel follows) and expose.c (ports, names) share.
 */
#pragma once

#include "networks.h"

struct networks {
    const struct links *links;
    struct state state;
    struct firewall *firewall; /* NULL: the kernel has none */
    struct error no_firewall;
    struct netlink *rtnl;
    int own_netns;
    void (*changed)(void *data);
    void *data;
};

/* Saves the state, then lets the kernel follow. */
int networks_commit(struct networks *networks, uint64_t reservation, struct error *err);
const struct rtnl_link *networks_find_link(const struct rtnl_link *links, size_t count,
                                           const char *name);
/* Gives a link of this or another namespace an address, without duplicate address detection. */
int networks_add_address(struct netlink *netlink, int index, const struct address *address,
                         struct error *err);
