/*
 * lease.h - what a DHCP server or a router said about a link, read from bytes that may be anything.
 *
 * Messages of DHCP (RFC 2131, options RFC 2132 and 3442) and the DNS option of router advertisements (RFC 8106).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define LEASE_LIST_MAX 4
#define LEASE_FOREVER UINT32_MAX
#define LEASE_PACKET_MAX                                                                           \
    1500 /* of what is read; a server keeps to 576 unless told otherwise (option 57) */

enum dhcp_type {
    DHCP_DISCOVER = 1,
    DHCP_OFFER,
    DHCP_REQUEST,
    DHCP_DECLINE,
    DHCP_ACK,
    DHCP_NAK,
    DHCP_RELEASE,
};

struct lease {
    struct address address; /* with prefix; family 0: none */
    struct address gateway; /* family 0: none */
    struct address server;
    struct address dns[LEASE_LIST_MAX];
    size_t dns_count;
    struct address ntp[LEASE_LIST_MAX];
    size_t ntp_count;
    uint32_t seconds;       /* LEASE_FOREVER */
    uint32_t renew, rebind; /* T1, T2: seconds after the start */
};

/* A question to a server; addresses of family 0 are left out. */
struct dhcp_question {
    enum dhcp_type type;
    uint32_t xid;
    uint16_t elapsed; /* seconds since the first question */
    uint8_t mac[6];
    struct address client;    /* ciaddr: the address that is in use */
    struct address requested; /* option 50 */
    struct address server;    /* option 54 */
};

#define DHCP_MESSAGE_SIZE 300 /* BOOTP's least, which some relays insist on */

/* The payload of a UDP datagram. Returns its length. */
size_t lease_write_message(const struct dhcp_question *question,
                           uint8_t message[DHCP_MESSAGE_SIZE]);
/* The same as an IPv4 packet to everybody, as long as there is no address to send from. */
size_t lease_write_packet(const struct dhcp_question *question, uint8_t *packet, size_t max);
/* An IPv4 packet as it was received. -EBADMSG: no answer to this number and MAC, malformed, or an address that no
 * machine can have. For a NAK only `server` is set. */
int lease_read_packet(const uint8_t *packet, size_t len, uint32_t xid, const uint8_t mac[6],
                      enum dhcp_type *ret_type, struct lease *ret_lease);

/* Recursive DNS servers (RFC 8106, section 5.1) among router advertisement options. Appends to servers, up to
 * max in all; *count goes up. *ret_seconds is the smallest lifetime seen. -EBADMSG when malformed. */
int lease_parse_rdnss(const uint8_t *options, size_t len, struct address *servers, size_t max,
                      size_t *count, uint32_t *ret_seconds);
