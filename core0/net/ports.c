/*
 * ports.c - which ports the node's own programs use; see networks.h.
 *
 * A published port is taken before any program sees it, so publishing one that the node listens on would cut the node
 * off (or hand its callers to a tenant). What listens is read from /proc/net: trying to bind would take away a port for
 * a moment and mistakes an outgoing connection for a listener.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "networks.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TCP_STATE_LISTEN 10
#define UDP_STATE_UNCONNECTED 7

/* Ports that belong to the node even while nothing listens. */
static const struct {
    uint8_t protocol;
    uint16_t first, last;
    const char *owner;
} reserved[] = {
    {IPPROTO_TCP, STATE_GATE_PORT, STATE_GATE_PORT, "the node's remote listener"},
    {IPPROTO_TCP, STATE_LOCAL_FIRST, STATE_LOCAL_LAST, "the node's key-value servers"},
    {IPPROTO_UDP, 68, 68, "the node's DHCP client"},
    {IPPROTO_UDP, 546, 546, "the node's DHCP client"},
};

static int hex_byte(const char *text, uint8_t *ret)
{
    unsigned value = 0;

    for (unsigned i = 0; i < 2; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (unsigned)(c - '0');
        else if (c >= 'A' && c <= 'F')
            value = value << 4 | (unsigned)(c - 'A' + 10);
        else
            return -EBADMSG;
    }
    *ret = (uint8_t)value;
    return 0;
}

int ports_parse_line(const char *line, uint8_t family, struct address *ret_address,
                     uint16_t *ret_port, unsigned *ret_state)
{
    size_t size = family == AF_INET ? 4 : 16;
    uint8_t bytes[16], high, low, state;
    const char *p = strchr(line, ':');

    /* "   0: 0100007F:0035 00000000:0000 0A …": address in words of the machine's byte order */
    if (p == NULL)
        return -EBADMSG;
    p++;
    p += strspn(p, " ");
    if (strnlen(p, 2 * (2 * size + 6) + 2) < 2 * (2 * size + 6) + 2)
        return -EBADMSG;
    for (size_t i = 0; i < size; i++)
        if (hex_byte(p + 2 * i, &bytes[(i & ~(size_t)3) + 3 - (i & 3)]) < 0)
            return -EBADMSG;
    p += 2 * size;
    if (p[0] != ':' || hex_byte(p + 1, &high) < 0 || hex_byte(p + 3, &low) < 0 || p[5] != ' ')
        return -EBADMSG;
    p += 6 + 2 * size + 5;
    if (p[0] != ' ' || hex_byte(p + 1, &state) < 0)
        return -EBADMSG;
    address_set(ret_address, family, bytes, (uint8_t)(8 * size));
    *ret_port = (uint16_t)(high << 8 | low);
    *ret_state = state;
    return 0;
}

static bool is_gateway(const struct state *state, const struct address *address)
{
    for (size_t i = 0; i < state->network_count; i++)
        if (address_equal(&state->networks[i].gateway4, address) ||
            address_equal(&state->networks[i].gateway6, address))
            return true;
    return false;
}

/* Ports from which the kernel chooses for outgoing connections. */
static bool is_ephemeral(uint16_t port)
{
    unsigned low = 32768, high = 60999;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

    if (file != NULL) {
        if (fscanf(file, "%u %u", &low, &high) != 2) {
            low = 32768;
            high = 60999;
        }
        fclose(file);
    }
    return port >= low && port <= high;
}

bool ports_used_by_node(const struct state *state, uint8_t protocol, uint16_t port,
                        const char **ret_owner)
{
    static const struct {
        const char *path;
        uint8_t protocol, family;
        unsigned listening;
    } tables[] = {
        {"/proc/net/tcp", IPPROTO_TCP, AF_INET, TCP_STATE_LISTEN},
        {"/proc/net/tcp6", IPPROTO_TCP, AF_INET6, TCP_STATE_LISTEN},
        {"/proc/net/udp", IPPROTO_UDP, AF_INET, UDP_STATE_UNCONNECTED},
        {"/proc/net/udp6", IPPROTO_UDP, AF_INET6, UDP_STATE_UNCONNECTED},
    };
    bool used = false;

    for (size_t i = 0; i < COUNT(reserved); i++) {
        if (reserved[i].protocol == protocol && port >= reserved[i].first &&
            port <= reserved[i].last) {
            *ret_owner = reserved[i].owner;
            return true;
        }
    }
    /* An unconnected UDP socket on a port of that range is somebody waiting for answers, which belong to its own
     * connections; it is gone in a moment. */
    if (protocol == IPPROTO_UDP && is_ephemeral(port))
        return false;
    for (size_t i = 0; i < COUNT(tables) && !used; i++) {
        char line[512];
        FILE *file;

        if (tables[i].protocol != protocol || (file = fopen(tables[i].path, "re")) == NULL)
            continue;
        while (!used && fgets(line, sizeof(line), file) != NULL) {
            struct address address;
            uint16_t number;
            unsigned status;

            used = ports_parse_line(line, tables[i].family, &address, &number, &status) == 0 &&
                   number == port && status == tables[i].listening &&
                   !address_is_loopback(&address) && !is_gateway(state, &address);
        }
        fclose(file);
    }
    if (used)
        *ret_owner = "a program of the node";
    return used;
}
