/*
 * dhcp_client.h - a DHCP client for one link (RFC 2131): asks, holds, renews, rebinds, and follows what it is told.
 *
 * It sends and receives through a packet socket, so that it works without an address and whatever the firewall says;
 * a renewal goes to its server from the address that is in use. It changes nothing itself: links.c does, as told.
 */
#pragma once

#include "lease.h"
#include "lib/loop.h"

enum dhcp_event {
    DHCP_EVENT_BOUND,  /* the lease is given, also for a renewal */
    DHCP_EVENT_LOST,   /* refused (NAK) or run out: the address must not be used any more */
    DHCP_EVENT_SILENT, /* nobody answers; it goes on asking */
};

/* lease: only for DHCP_EVENT_BOUND. The client may be freed inside. */
typedef void dhcp_client_fn(enum dhcp_event event, const struct lease *lease, void *data);

struct dhcp_client;

/* wish: an address to keep if the server lets us (family 0: none). Starts at once. */
int dhcp_client_new(struct loop *loop, int ifindex, const uint8_t mac[6],
                    const struct address *wish, dhcp_client_fn *fn, void *data,
                    struct dhcp_client **ret_client);
/* Forgets the lease without giving it back: the next client on this link asks for the same address. */
void dhcp_client_free(struct dhcp_client *client);
