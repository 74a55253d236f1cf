/*
 * address.h - IP addresses and prefixes as values: parsing, printing, comparing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_MAX 64 /* "ffff:…:255.255.255.255/128" with room */

/* family 0: no address. IPv4 uses the first 4 bytes, the rest is zero, so that two values compare by memcmp. */
struct address {
    uint8_t family; /* AF_INET, AF_INET6, 0 */
    uint8_t prefix; /* bits; 32 or 128 for a host */
    uint8_t bytes[16];
    uint32_t scope; /* of an IPv6 link-local address: index of its link; 0: none */
};

size_t address_size(const struct address *address); /* 4, 16 */
void address_set(struct address *address, uint8_t family, const void *bytes, uint8_t prefix);
/* "192.0.2.1", "2001:db8::1", with "/LEN" if `with_prefix` (required then). -EINVAL. */
int address_parse(const char *text, bool with_prefix, struct address *ret_address);
const char *address_text(const struct address *address, char *text, size_t size); /* no length */
const char *address_text_prefix(const struct address *address, char *text,
                                size_t size);                         /* with /LEN */
bool address_equal(const struct address *a, const struct address *b); /* prefix lengths apart */
bool address_in(const struct address *address,
                const struct address *net); /* is `address` inside `net` */
bool address_overlap(const struct address *a,
                     const struct address *b); /* do two prefixes share one */
void address_network(const struct address *address,
                     struct address *ret_net); /* host bits cleared */
bool address_is_link_local(const struct address *address);
bool address_is_loopback(const struct address *address);
/* For connect(2) and its kin; returns the length. */
socklen_t address_socket(const struct address *address, uint16_t port,
                         struct sockaddr_storage *ret);
