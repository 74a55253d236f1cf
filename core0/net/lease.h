/*
 * lease.h - what a DHCP server or a router said about a link, read from bytes that may be anything.
 *
 * udhcpc runs netd itself as its script; that copy sends its environment to the running netd as one datagram:
 * "event=bound\ninterface=eth0\nip=192.0.2.5\n…". The values come from whoever answers on the farm's network.
 */
#pragma once

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define LEASE_LIST_MAX 4
#define LEASE_MESSAGE_MAX 8192

enum lease_event {
    LEASE_DECONFIG,  /* no lease (any more), also sent once at the start of udhcpc */
    LEASE_BOUND,
    LEASE_RENEW,
    LEASE_NAK,       /* a deconfig follows */
    LEASE_FAIL,      /* nobody answers; udhcpc goes on trying */
    LEASE_TIME,      /* from ntpd: not a lease */
};

struct lease {
    enum lease_event event;
    char interface[IF_NAMESIZE];
    struct address address; /* with prefix; family 0: none */
    struct address gateway;
    struct address server;
    struct address dns[LEASE_LIST_MAX];
    size_t dns_count;
    struct address ntp[LEASE_LIST_MAX];
    size_t ntp_count;
    uint32_t seconds; /* 0: not said */
    unsigned stratum; /* LEASE_TIME: 16 = not synchronised */
};

/* -EBADMSG: no event, no interface, or an address that is none. Unknown keys are passed over. */
int lease_parse(const char *data, size_t len, struct lease *ret_lease);

/* Recursive DNS servers (RFC 8106, section 5.1) among router advertisement options. Appends to servers, up to
 * max in all; *count goes up. *ret_seconds is the smallest lifetime seen. -EBADMSG when malformed. */
int lease_parse_rdnss(const uint8_t *options, size_t len, struct address *servers, size_t max,
                      size_t *count, uint32_t *ret_seconds);
