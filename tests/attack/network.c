// network.c - attacks by the network: reaching what is closed, and frames with somebody else's name on them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

#define WAIT_MS 2500
#define MARK "CROFT-MARK-"

static int resolve(const char *host, const char *port, int type, struct sockaddr_storage *addr,
                   socklen_t *len)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = type},
                    *found;

    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -EADDRNOTAVAIL;
    }
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return addr->ss_family;
}

// ADDRESS PORT: connects, and tells what the peer says first.
static int attack_tcp(char **argument)
{
    struct sockaddr_storage addr;
    socklen_t len, size = sizeof(int);
    char text[128] = "";
    int family = resolve(argument[0], argument[1], SOCK_STREAM, &addr, &len), error = 0;

    if (family < 0) {
        return family;
    }
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&addr, len) < 0 && errno != EINPROGRESS)) {
        return -errno;
    }
    struct pollfd wait = {fd, POLLOUT, 0};
    if (poll(&wait, 1, WAIT_MS) == 0) {
        return -ETIMEDOUT;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        return -error;
    }
    wait.events = POLLIN;
    if (poll(&wait, 1, WAIT_MS) > 0) {
        ssize_t n = read(fd, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
    }
    detail("%s", text);
    return 0;
}

// ADDRESS PORT: a datagram that is answered.
static int attack_udp(char **argument)
{
    struct sockaddr_storage addr;
    socklen_t len;
    char text[128] = "";
    int family = resolve(argument[0], argument[1], SOCK_DGRAM, &addr, &len);

    if (family < 0) {
        return family;
    }
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, len) < 0 || send(fd, "x", 1, 0) < 0) {
        return -errno;
    }
    struct pollfd wait = {fd, POLLIN, 0};
    if (poll(&wait, 1, WAIT_MS) == 0) {
        return -ETIMEDOUT;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n < 0) {
        return -errno;
    }
    text[n] = 0;
    detail("%s", text);
    return 0;
}

// PORT WORDS: answers TCP and UDP on all addresses with the words. Stays.
static int be_server(char **argument)
{
    int on = 0, one = 1;
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)atoi(argument[0]))};
    int tcp = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0),
        udp = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    alarm(0);
    setsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    setsockopt(udp, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(tcp, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(tcp, 128) < 0 ||
        bind(udp, (struct sockaddr *)&addr, sizeof addr) < 0) {
        return -errno;
    }
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[2] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
        poll(fds, 2, -1);
        if (fds[0].revents) {
            int fd = accept4(tcp, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0) {
                (void)!send(fd, argument[1], strlen(argument[1]), MSG_NOSIGNAL);
                close(fd);
            }
        }
        if (fds[1].revents) {
            struct sockaddr_storage from;
            socklen_t len = sizeof from;
            char byte[16];
            if (recvfrom(udp, byte, sizeof byte, 0, (struct sockaddr *)&from, &len) >= 0) {
                (void)!sendto(udp, argument[1], strlen(argument[1]), 0, (struct sockaddr *)&from,
                              len);
            }
        }
    }
}

// ---- frames

static uint16_t sum16(const uint8_t *data, size_t len, uint32_t sum)
{
    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)(data[i] << 8 | data[i + 1]);
    }
    if (len % 2) {
        sum += (uint32_t)(data[len - 1] << 8);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t build_arp(uint8_t *at, const uint8_t *mac, const char *source, const char *target)
{
    static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0, 2}; // a reply
    memcpy(at, head, sizeof head);
    memcpy(at + 8, mac, 6);
    inet_pton(AF_INET, source, at + 14);
    memset(at + 18, 0xff, 6);
    inet_pton(AF_INET, target, at + 24);
    return 28;
}

// A datagram from one port to the next.
static size_t build_ip4(uint8_t *at, const char *source, const char *target, uint16_t port,
                        const char *mark)
{
    size_t payload = strlen(mark), total = 28 + payload;
    at[0] = 0x45;
    put16(at + 2, (uint16_t)total);
    at[8] = 64;
    at[9] = IPPROTO_UDP;
    inet_pton(AF_INET, source, at + 12);
    inet_pton(AF_INET, target, at + 16);
    put16(at + 10, sum16(at, 20, 0));
    put16(at + 20, port);
    put16(at + 22, (uint16_t)(port + 1));
    put16(at + 24, (uint16_t)(8 + payload));
    memcpy(at + 28, mark, payload);
    return total;
}

// An IPv6 packet: `next` in front of `len` bytes at at + 40; a hop-by-hop header between with `hop`.
static size_t build_ip6(uint8_t *at, const char *source, const char *target, uint8_t next,
                        size_t len, bool hop)
{
    uint8_t *body = at + 40 + (hop ? 8 : 0);
    uint32_t sum = (uint32_t)len + next;

    at[0] = 0x60;
    put16(at + 4, (uint16_t)(len + (hop ? 8 : 0)));
    at[6] = hop ? 0 : next;
    at[7] = 255;
    inet_pton(AF_INET6, source, at + 8);
    inet_pton(AF_INET6, target, at + 24);
    if (hop) {
        static const uint8_t pad[] = {0, 0, 1, 4, 0, 0, 0, 0};
        memcpy(at + 40, pad, sizeof pad);
        at[40] = next;
    }
    for (size_t i = 8; i < 40; i += 2) {
        sum += (uint32_t)(at[i] << 8 | at[i + 1]);
    }
    size_t check = next == IPPROTO_UDP ? 6 : 2;
    put16(body + check, 0);
    put16(body + check, sum16(body, len, sum));
    return 40 + (hop ? 8 : 0) + len;
}

static size_t build_icmp6(uint8_t *at, uint8_t type, const char *target, const char *mark)
{
    memset(at, 0, 40);
    at[0] = type;
    size_t len = type == 134 ? 16 : type == 137 ? 40 : 24;
    if (type == 134) {
        at[4] = 64;
        put16(at + 6, 1800);
    } else {
        inet_pton(AF_INET6, target, at + 8);
    }
    if (type == 136) {
        at[4] = 0x20; // override
    }
    // An option of an unknown type carries the mark.
    size_t payload = strlen(mark);
    at[len] = 254;
    at[len + 1] = (uint8_t)((payload + 2 + 7) / 8);
    memset(at + len + 2, 0, 64);
    memcpy(at + len + 2, mark, payload);
    return len + (size_t)at[len + 1] * 8;
}

static int interface_mac(int fd, const char *name, uint8_t mac[6])
{
    struct ifreq request = {0};

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) {
        return -errno;
    }
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    return 0;
}

// INTERFACE NAME KIND MAC SOURCE TARGET: sends one frame to everybody on the link, with a mark "CROFT-MARK-NAME;". MAC "own", or
// whose it claims to be; kind arp-inside: the frame's is the own one and the message's is MAC.
static int attack_frame(char **argument)
{
    const char *kind = argument[2], *source = argument[4], *target = argument[5];
    uint8_t frame[512] = {0}, own[6], claimed[6];
    char mark[64];
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argument[0]), .sll_halen = 6};

    if (fd < 0) {
        return -errno;
    }
    int result = interface_mac(fd, argument[0], own);
    if (result < 0) {
        return result;
    }
    memcpy(claimed, own, 6);
    if (strcmp(argument[3], "own") != 0) {
        sscanf(argument[3], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &claimed[0], &claimed[1], &claimed[2],
               &claimed[3], &claimed[4], &claimed[5]);
    }
    snprintf(mark, sizeof mark, MARK "%s;", argument[1]);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, strcmp(kind, "arp-inside") == 0 ? own : claimed, 6);
    uint8_t *at = frame + 14;
    size_t len;
    if (strncmp(kind, "arp", 3) == 0) {
        put16(frame + 12, ETH_P_ARP);
        len = build_arp(at, claimed, source, target);
        memcpy(at + len, mark, strlen(mark));
        len += strlen(mark);
    } else if (strcmp(kind, "ip4") == 0) {
        put16(frame + 12, ETH_P_IP);
        len = build_ip4(at, source, target, 4000, mark);
    } else if (strcmp(kind, "dhcp") == 0) { // from the server's port to the client's
        put16(frame + 12, ETH_P_IP);
        len = build_ip4(at, source, target, 67, mark);
    } else if (strcmp(kind, "vlan") == 0) {
        put16(frame + 12, ETH_P_8021Q);
        put16(at, 7);
        put16(at + 2, ETH_P_IP);
        len = 4 + build_ip4(at + 4, source, target, 4000, mark);
    } else if (strcmp(kind, "odd") == 0) {
        put16(frame + 12, 0x88b5); // for experiments, IEEE 802
        memcpy(at, mark, strlen(mark));
        len = 46;
    } else {
        static const struct {
            const char *name;
            uint8_t type;
        } types[] = {{"ra", 134}, {"ra-hidden", 134}, {"ns", 135}, {"na", 136}, {"redirect", 137}};
        put16(frame + 12, ETH_P_IPV6);
        len = 0;
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            if (strcmp(types[i].name, kind) == 0) {
                bool hidden = strcmp(kind, "ra-hidden") == 0;
                size_t body = build_icmp6(at + 40 + (hidden ? 8 : 0), types[i].type, target, mark);
                len = build_ip6(at, source, "ff02::1", IPPROTO_ICMPV6, body, hidden);
            }
        }
        if (strcmp(kind, "ip6") == 0 || strcmp(kind, "dhcp6") == 0) {
            size_t payload = strlen(mark);
            put16(at + 40, kind[0] == 'i' ? 4000 : 547);
            put16(at + 42, kind[0] == 'i' ? 4001 : 546);
            put16(at + 44, (uint16_t)(8 + payload));
            memcpy(at + 48, mark, payload);
            len = build_ip6(at, source, target, IPPROTO_UDP, 8 + payload, false);
        }
        if (len == 0) {
            return -EINVAL;
        }
    }
    return outcome(sendto(fd, frame, 14 + len, 0, (struct sockaddr *)&to, sizeof to));
}

// INTERFACE SECONDS: says "listening", and then which marks came in.
static int attack_sniff(char **argument)
{
    static uint8_t frame[65536];
    char seen[2000] = "";
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll on = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(argument[0])};
    time_t end = time(NULL) + atoi(argument[1]);

    alarm(0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&on, sizeof on) < 0) {
        return -errno;
    }
    printf("listening\n");
    fflush(stdout);
    while (time(NULL) < end && !strstr(seen, "last;")) {
        struct pollfd wait = {fd, POLLIN, 0};
        struct sockaddr_ll from;
        socklen_t len = sizeof from;
        if (poll(&wait, 1, 200) <= 0) {
            continue;
        }
        ssize_t n = recvfrom(fd, frame, sizeof frame - 1, 0, (struct sockaddr *)&from, &len);
        if (n <= 0 || from.sll_pkttype == PACKET_OUTGOING) {
            continue;
        }
        frame[n] = 0;
        char *mark = memmem(frame, (size_t)n, MARK, strlen(MARK));
        if (mark) {
            mark += strlen(MARK);
            size_t at = strlen(seen);
            snprintf(seen + at, sizeof seen - at, "%.*s;", (int)strcspn(mark, ";"), mark);
        }
    }
    detail("%s", seen);
    return 0;
}

const struct attack network[] = {
    {"tcp", 2, attack_tcp},     {"udp", 2, attack_udp},     {"server", 2, be_server},
    {"frame", 6, attack_frame}, {"sniff", 2, attack_sniff}, {NULL, 0, NULL},
};
