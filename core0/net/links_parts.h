/*
 * links_parts.h - what links.c (following the kernel), links_virtual.c (bonds, VLANs) and links_list.c (questions) share.
 */
#pragma once

#include "links.h"

struct links {
    struct loop *loop;
    const struct config *config;
    struct links_options options;
    struct netlink *request, *events;
    struct loop_io *io;
    struct loop_timer *timer; /* the next end of a router's DNS servers */
    bool pending;             /* a refresh is due at the end of this turn */
    struct link *links[LINKS_MAX];
    size_t count;
};

const struct rtnl_link *links_row(const struct rtnl_link *rows, size_t count, const char *name);
/* Makes the bonds and VLANs of boot.json whose links exist; what is there stays. */
void links_make_virtual(struct links *links, const struct rtnl_link *rows, size_t count);
