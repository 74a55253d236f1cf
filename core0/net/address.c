/*
 * address.c - see address.h.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t address_size(const struct address *address)
{
    return address->family == AF_INET6 ? 16 : 4;
}

void address_set(struct address *address, uint8_t family, const void *bytes, uint8_t prefix)
{
    *address = (struct address){.family = family, .prefix = prefix};
    memcpy(address->bytes, bytes, address_size(address));
}

int address_parse(const char *text, bool with_prefix, struct address *ret_address)
{
    struct address address = {0};
    char host[ADDRESS_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    unsigned long bits;
    char *end;

    if (len >= sizeof(host) || (slash != NULL) != with_prefix)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, address.bytes) == 1)
        address.family = AF_INET;
    else if (inet_pton(AF_INET6, host, address.bytes) == 1)
        address.family = AF_INET6;
    else
        return -EINVAL;
    bits = 8 * address_size(&address);
    if (with_prefix) {
        unsigned long max = bits;

        if (slash[1] < '0' || slash[1] > '9' || strlen(slash + 1) > 3)
            return -EINVAL;
        bits = strtoul(slash + 1, &end, 10);
        if (*end != '\0' || bits > max)
            return -EINVAL;
    }
    address.prefix = (uint8_t)bits;
    *ret_address = address;
    return 0;
}

const char *address_text(const struct address *address, char *text, size_t size)
{
    if (address->family == 0 ||
        inet_ntop(address->family, address->bytes, text, (socklen_t)size) == NULL)
        snprintf(text, size, "-");
    if (address->scope != 0) {
        char name[IF_NAMESIZE];
        size_t len = strlen(text);

        if (if_indextoname(address->scope, name) != NULL)
            snprintf(text + len, size - len, "%%%s", name);
    }
    return text;
}

const char *address_text_prefix(const struct address *address, char *text, size_t size)
{
    size_t len;

    address_text(address, text, size);
    len = strlen(text);
    snprintf(text + len, size - len, "/%u", address->prefix);
    return text;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned rest = bits % 8;

    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

bool address_in(const struct address *address, const struct address *net)
{
    return address->family == net->family && same_bits(address->bytes, net->bytes, net->prefix);
}

bool address_overlap(const struct address *a, const struct address *b)
{
    return a->prefix < b->prefix ? address_in(b, a) : address_in(a, b);
}

void address_network(const struct address *address, struct address *ret_net)
{
    struct address net = *address;

    for (unsigned bit = net.prefix; bit < 8 * address_size(&net); bit++)
        net.bytes[bit / 8] = (uint8_t)(net.bytes[bit / 8] & ~(0x80u >> (bit % 8)));
    *ret_net = net;
}

bool address_is_link_local(const struct address *address)
{
    if (address->family == AF_INET)
        return address->bytes[0] == 169 && address->bytes[1] == 254;
    return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

bool address_is_loopback(const struct address *address)
{
    static const uint8_t one[16] = {[15] = 1};

    if (address->family == AF_INET)
        return address->bytes[0] == 127;
    return memcmp(address->bytes, one, sizeof(one)) == 0;
}

socklen_t address_socket(const struct address *address, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    memset(ret, 0, sizeof(*ret));
    if (address->family == AF_INET) {
        memcpy(&in4.sin_addr, address->bytes, 4);
        memcpy(ret, &in4, sizeof(in4));
        return sizeof(in4);
    }
    memcpy(&in6.sin6_addr, address->bytes, 16);
    in6.sin6_scope_id = address->scope;
    memcpy(ret, &in6, sizeof(in6));
    return sizeof(in6);
}
