/*
 * netd.h - what the parts of netd share.
 */
#pragma once

#include <stdbool.h>

#include "clock.h"
#include "config.h"
#include "forwarder.h"
#include "helper.h"
#include "lib/varlink.h"
#include "links.h"
#include "networks.h"

#define NETD_ADDRESSES_MAX ((size_t)LINKS_MAX * 4)

struct netd {
    struct loop *loop;
    struct config config;
    struct links *links;
    struct networks *networks;
    struct forwarder *forwarder;
    struct clock *clock;
    struct helper_socket *helpers;
    const char *resolv_conf;
    char last_failure[sizeof(((struct error *)NULL)->message)];
    struct address known[NETD_ADDRESSES_MAX]; /* addresses that were told as events */
    size_t known_count;
};

/* publish.c: what others learn of the links: resolv.conf, facts, events. */
void netd_publish(struct netd *netd);

/* status.c */
varlink_method_fn netd_get_status;

/* service.c */
varlink_method_fn netd_ensure_network;
varlink_method_fn netd_attach;
varlink_method_fn netd_detach;
varlink_method_fn netd_expose;
varlink_method_fn netd_remove_reservation;
varlink_method_fn netd_list;
