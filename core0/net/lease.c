/*
 * lease.c - see lease.h.
 */
#include "lease.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define ND_OPTION_RDNSS 25
#define IP_HEADER 20
#define UDP_HEADER 8
#define BOOTP_HEADER 240 /* with the cookie */
#define PORT_SERVER 67
#define PORT_CLIENT 68

enum option {
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_DNS = 6,
    OPTION_NTP = 42,
    OPTION_REQUESTED = 50,
    OPTION_SECONDS = 51,
    OPTION_OVERLOAD = 52,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_MAX_SIZE = 57,
    OPTION_RENEW = 58,
    OPTION_REBIND = 59,
    OPTION_CLIENT = 61,
    OPTION_ROUTES = 121,
    OPTION_END = 255,
};

static const uint8_t cookie[4] = {99, 130, 83, 99};

/* ---- writing ---- */

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, (uint16_t)(value >> 16));
    put16(p + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint8_t *put_option(uint8_t *p, uint8_t option, const void *data, uint8_t len)
{
    *p++ = option;
    *p++ = len;
    memcpy(p, data, len);
    return p + len;
}

size_t lease_write_message(const struct dhcp_question *question, uint8_t message[DHCP_MESSAGE_SIZE])
{
    static const uint8_t wanted[] = {OPTION_MASK,    OPTION_ROUTER, OPTION_DNS,    OPTION_NTP,
                                     OPTION_SECONDS, OPTION_RENEW,  OPTION_REBIND, OPTION_ROUTES};
    uint8_t type = (uint8_t)question->type, size[2], id[7] = {1};
    uint8_t *p = message + BOOTP_HEADER;

    memset(message, 0, DHCP_MESSAGE_SIZE);
    message[0] = 1; /* request */
    message[1] = 1; /* Ethernet */
    message[2] = 6;
    put32(message + 4, question->xid);
    put16(message + 8, question->elapsed);
    if (question->client.family != 0)
        memcpy(message + 12, question->client.bytes, 4);
    memcpy(message + 28, question->mac, 6);
    memcpy(message + 236, cookie, sizeof(cookie));
    p = put_option(p, OPTION_TYPE, &type, 1);
    memcpy(id + 1, question->mac, 6);
    p = put_option(p, OPTION_CLIENT, id, sizeof(id));
    put16(size, LEASE_PACKET_MAX);
    p = put_option(p, OPTION_MAX_SIZE, size, sizeof(size));
    if (question->requested.family != 0)
        p = put_option(p, OPTION_REQUESTED, question->requested.bytes, 4);
    if (question->server.family != 0)
        p = put_option(p, OPTION_SERVER, question->server.bytes, 4);
    p = put_option(p, OPTION_WANTED, wanted, sizeof(wanted));
    *p = OPTION_END;
    return DHCP_MESSAGE_SIZE;
}

static uint16_t ip_sum(const uint8_t *header)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < IP_HEADER; i += 2)
        sum += get16(header + i);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

size_t lease_write_packet(const struct dhcp_question *question, uint8_t *packet, size_t max)
{
    size_t len = IP_HEADER + UDP_HEADER + DHCP_MESSAGE_SIZE;
    uint8_t *udp = packet + IP_HEADER;

    if (max < len)
        return 0;
    memset(packet, 0, IP_HEADER + UDP_HEADER);
    packet[0] = 0x45;
    put16(packet + 2, (uint16_t)len);
    packet[8] = 64;
    packet[9] = IPPROTO_UDP;
    if (question->client.family != 0)
        memcpy(packet + 12, question->client.bytes, 4);
    memset(packet + 16, 0xff, 4);
    put16(packet + 10, ip_sum(packet));
    put16(udp, PORT_CLIENT);
    put16(udp + 2, PORT_SERVER);
    put16(udp + 4, UDP_HEADER + DHCP_MESSAGE_SIZE); /* no checksum: 0 says so (RFC 768) */
    lease_write_message(question, udp + UDP_HEADER);
    return len;
}

/* ---- reading ---- */

/* What the options say, before it is known whether all of it belongs together. */
struct answer {
    uint8_t type, overload;
    struct lease lease;
    bool has_mask, has_routes;
    uint8_t mask[4];
    struct address default_route; /* from option 121 */
};

static void take_list(const uint8_t *data, size_t len, struct address *list, size_t *count)
{
    for (size_t at = 0; at + 4 <= len && *count < LEASE_LIST_MAX; at += 4) {
        static const uint8_t none[4];

        /* Routers that have no server to name send 0.0.0.0. */
        if (memcmp(data + at, none, 4) != 0)
            address_set(&list[(*count)++], AF_INET, data + at, 32);
    }
}

/* RFC 3442: bits, the network's bytes that count, the gateway. Only the default route is taken. */
static int take_routes(const uint8_t *data, size_t len, struct answer *answer)
{
    while (len > 0) {
        size_t bytes = ((size_t)data[0] + 7) / 8;

        if (data[0] > 32 || len < 1 + bytes + 4)
            return -EBADMSG;
        if (data[0] == 0)
            address_set(&answer->default_route, AF_INET, data + 1, 32);
        data += 1 + bytes + 4;
        len -= 1 + bytes + 4;
    }
    answer->has_routes = true;
    return 0;
}

static int take_option(uint8_t option, const uint8_t *data, size_t len, struct answer *answer)
{
    struct lease *lease = &answer->lease;
    struct address routers[LEASE_LIST_MAX];
    size_t count = 0;

    switch (option) {
    case OPTION_TYPE:
    case OPTION_OVERLOAD:
        if (len != 1)
            return -EBADMSG;
        *(option == OPTION_TYPE ? &answer->type : &answer->overload) = data[0];
        return 0;
    case OPTION_MASK:
        if (len != 4)
            return -EBADMSG;
        memcpy(answer->mask, data, 4);
        answer->has_mask = true;
        return 0;
    case OPTION_ROUTER:
        take_list(data, len, routers, &count);
        if (count > 0)
            lease->gateway = routers[0];
        return 0;
    case OPTION_DNS:
        take_list(data, len, lease->dns, &lease->dns_count);
        return 0;
    case OPTION_NTP:
        take_list(data, len, lease->ntp, &lease->ntp_count);
        return 0;
    case OPTION_SERVER:
        if (len != 4)
            return -EBADMSG;
        address_set(&lease->server, AF_INET, data, 32);
        return 0;
    case OPTION_SECONDS:
    case OPTION_RENEW:
    case OPTION_REBIND:
        if (len != 4)
            return -EBADMSG;
        *(option == OPTION_SECONDS ? &lease->seconds
          : option == OPTION_RENEW ? &lease->renew
                                   : &lease->rebind) = get32(data);
        return 0;
    case OPTION_ROUTES:
        return take_routes(data, len, answer);
    default:
        return 0;
    }
}

static int read_options(const uint8_t *data, size_t len, struct answer *answer)
{
    while (len > 0 && data[0] != OPTION_END) {
        size_t size;

        if (data[0] == OPTION_PAD) {
            data++;
            len--;
            continue;
        }
        if (len < 2 || (size = data[1]) > len - 2 ||
            take_option(data[0], data + 2, size, answer) < 0)
            return -EBADMSG;
        data += 2 + size;
        len -= 2 + size;
    }
    return 0;
}

/* Bits of a netmask; -EBADMSG for one with a hole. */
static int mask_bits(const uint8_t *mask)
{
    uint32_t bits = get32(mask);
    int count = 0;

    while (count < 32 && (bits & (1u << 31)) != 0) {
        bits <<= 1;
        count++;
    }
    return bits == 0 ? count : -EBADMSG;
}

static int check_lease(struct answer *answer, const uint8_t *yiaddr)
{
    struct lease *lease = &answer->lease;
    int bits = 24; /* a missing mask is left to us; who sends none means a small network */

    if (answer->has_mask)
        bits = mask_bits(answer->mask);
    if (bits < 1 || yiaddr[0] == 0 || yiaddr[0] == 127 || yiaddr[0] >= 224)
        return -EBADMSG;
    address_set(&lease->address, AF_INET, yiaddr, (uint8_t)bits);
    if (answer->has_routes)
        lease->gateway = answer->default_route; /* it replaces the router option */
    if (lease->seconds == 0)
        lease->seconds = 3600; /* an offer may leave it open */
    if (lease->seconds == LEASE_FOREVER)
        return 0;
    if (lease->rebind == 0 || lease->rebind >= lease->seconds)
        lease->rebind = (uint32_t)((uint64_t)lease->seconds * 7 / 8);
    if (lease->renew == 0 || lease->renew > lease->rebind)
        lease->renew = lease->seconds / 2;
    return 0;
}

static int read_message(const uint8_t *p, size_t len, uint32_t xid, const uint8_t mac[6],
                        struct answer *answer)
{
    if (len < BOOTP_HEADER || p[0] != 2 || p[1] != 1 || p[2] != 6 || get32(p + 4) != xid ||
        memcmp(p + 28, mac, 6) != 0 || memcmp(p + 236, cookie, sizeof(cookie)) != 0)
        return -EBADMSG;
    if (read_options(p + BOOTP_HEADER, len - BOOTP_HEADER, answer) < 0)
        return -EBADMSG;
    /* Two fields of BOOTP may carry options that did not fit. */
    if ((answer->overload & 1) != 0 && read_options(p + 108, 128, answer) < 0)
        return -EBADMSG;
    if ((answer->overload & 2) != 0 && read_options(p + 44, 64, answer) < 0)
        return -EBADMSG;
    return 0;
}

int lease_read_packet(const uint8_t *packet, size_t len, uint32_t xid, const uint8_t mac[6],
                      enum dhcp_type *ret_type, struct lease *ret_lease)
{
    struct answer answer = {0};
    const uint8_t *udp;
    size_t header, total, size;

    if (len < IP_HEADER || packet[0] >> 4 != 4)
        return -EBADMSG;
    header = (size_t)(packet[0] & 15) * 4;
    total = get16(packet + 2);
    if (header < IP_HEADER || total > len || total < header + UDP_HEADER ||
        packet[9] != IPPROTO_UDP || (get16(packet + 6) & 0x3fff) != 0)
        return -EBADMSG; /* a fragment is none: servers stay below 1,500 bytes */
    udp = packet + header;
    size = get16(udp + 4);
    if (get16(udp) != PORT_SERVER || get16(udp + 2) != PORT_CLIENT || size < UDP_HEADER ||
        size > total - header)
        return -EBADMSG;
    if (read_message(udp + UDP_HEADER, size - UDP_HEADER, xid, mac, &answer) < 0)
        return -EBADMSG;
    if (answer.type != DHCP_OFFER && answer.type != DHCP_ACK && answer.type != DHCP_NAK)
        return -EBADMSG;
    if (answer.type == DHCP_NAK)
        answer.lease = (struct lease){.server = answer.lease.server};
    else if (check_lease(&answer, udp + UDP_HEADER + 16) < 0)
        return -EBADMSG;
    *ret_type = (enum dhcp_type)answer.type;
    *ret_lease = answer.lease;
    return 0;
}

int lease_parse_rdnss(const uint8_t *options, size_t len, struct address *servers, size_t max,
                      size_t *count, uint32_t *ret_seconds)
{
    uint32_t seconds = UINT32_MAX;

    while (len >= 8) {
        size_t size = (size_t)options[1] * 8; /* type, length in units of 8 bytes */

        if (size == 0 || size > len)
            return -EBADMSG;
        if (options[0] == ND_OPTION_RDNSS && size >= 24 && (size - 8) % 16 == 0) {
            uint32_t lifetime = (uint32_t)options[4] << 24 | (uint32_t)options[5] << 16 |
                                (uint32_t)options[6] << 8 | options[7];

            if (lifetime < seconds)
                seconds = lifetime;
            for (size_t at = 8; at < size && *count < max; at += 16)
                address_set(&servers[(*count)++], AF_INET6, options + at, 128);
        }
        options += size;
        len -= size;
    }
    if (len != 0)
        return -EBADMSG;
    *ret_seconds = seconds;
    return 0;
}
