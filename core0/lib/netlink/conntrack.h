/*
 * conntrack.h - the kernel's table of connections: reading it and ending some (ctnetlink).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/netlink/netlink.h"

struct conntrack_tuple {
    uint8_t src[16], dst[16]; /* IPv4: the first 4 bytes */
    uint16_t sport, dport;    /* 0 for protocols without ports */
};

struct conntrack_entry {
    uint8_t family;   /* AF_INET, AF_INET6 */
    uint8_t protocol; /* IPPROTO_… */
    uint16_t zone;
    struct conntrack_tuple original, reply;
};

/* One message body (fuzzed). 0 or -EBADMSG. */
int conntrack_parse(const uint8_t *body, size_t len, struct conntrack_entry *ret_entry);

/* Ends every connection for which `match` says true. Returns how many, or -errno. */
int conntrack_flush(struct netlink *netlink,
                    bool (*match)(const struct conntrack_entry *entry, void *data), void *data,
                    struct error *err);
