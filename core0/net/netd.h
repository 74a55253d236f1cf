/*
 * netd.h - what the parts of netd share.
 */
#pragma once

#include <stdbool.h>

#include "clock.h"
#include "config.h"
#include "dhcp.h"
#include "links.h"
#include "lib/varlink.h"

#define NETD_ADDRESSES_MAX (LINKS_MAX * 4)

struct netd {
    struct loop *loop;
    struct config config;
    struct links *links;
    struct clock *clock;
    struct dhcp_socket *helpers;
    const char *resolv_conf;
    struct address known[NETD_ADDRESSES_MAX]; /* addresses that were told as events */
    size_t known_count;
};

/* publish.c: what others learn of the links: resolv.conf, facts, events. */
void netd_publish(struct netd *netd);

/* status.c */
varlink_method_fn netd_get_status;
