/*
 * choose.c - which names, subnets, hosts and MACs: derived by a hash, next free one on a collision. See state.h.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "state.h"

/* Where bridges take their IPv4 subnets from: the first that no link of the node has anything to do with. The range
 * for carriers' NAT comes first, since homes and offices do not number machines from it (RFC 6598). */
static const struct pool {
    uint8_t bytes[4];
    uint8_t prefix;
} pools[] = {
    {{100, 64, 0, 0}, 10},
    {{172, 16, 0, 0}, 12},
    {{10, 0, 0, 0}, 8},
};
#define SUBNET_BITS 24
#define HOST_FIRST 2

/* FNV-1a: spreads names; nothing depends on it being hard to turn round. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

uint64_t state_hash(const char *kind, uint64_t reservation, uint32_t revision, const char *a,
                    const char *b)
{
    uint64_t hash = 0xcbf29ce484222325u;

    hash = hash_bytes(hash, kind, strlen(kind) + 1);
    hash = hash_bytes(hash, &reservation, sizeof(reservation));
    hash = hash_bytes(hash, &revision, sizeof(revision));
    hash = hash_bytes(hash, a, strlen(a) + 1);
    hash = hash_bytes(hash, b, strlen(b) + 1);
    /* FNV's low bits are weak for short differences. */
    hash ^= hash >> 32;
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* 2 letters and 11 hexadecimal digits: 13 of the 15 that fit. */
static void interface_name(char *dest, const char *letters, uint64_t hash)
{
    snprintf(dest, IF_NAMESIZE, "%s%011llx", letters,
             (unsigned long long)(hash & 0xfffffffffffull));
}

static bool is_free(const struct state *state, const struct network *own, const struct address *net,
                    const struct address *busy, size_t busy_count)
{
    for (size_t i = 0; i < state->network_count; i++) {
        const struct network *other = &state->networks[i];

        if (other != own &&
            address_overlap(net, net->family == AF_INET ? &other->gateway4 : &other->gateway6))
            return false;
    }
    for (size_t i = 0; i < busy_count; i++)
        if (address_overlap(net, &busy[i]))
            return false;
    return true;
}

static bool pool_is_quiet(const struct pool *pool, const struct address *busy, size_t count)
{
    struct address net;

    address_set(&net, AF_INET, pool->bytes, pool->prefix);
    for (size_t i = 0; i < count; i++)
        if (address_overlap(&net, &busy[i]))
            return false;
    return true;
}

static int choose_v4(struct state *state, struct network *network, uint64_t hash,
                     const struct address *busy, size_t busy_count)
{
    /* First a pool that is wholly unknown to the links, then any free part of one. */
    for (int quiet = 1; quiet >= 0; quiet--) {
        for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
            uint32_t count = 1u << (SUBNET_BITS - pools[p].prefix);

            if (quiet && !pool_is_quiet(&pools[p], busy, busy_count))
                continue;
            for (uint32_t i = 0; i < count; i++) {
                uint32_t n = (uint32_t)((hash + i) % count);
                uint8_t bytes[4] = {pools[p].bytes[0],
                                    (uint8_t)(pools[p].bytes[1] | (n >> 8 & 0xff)),
                                    (uint8_t)(n & 0xff), 1};
                struct address gateway;

                address_set(&gateway, AF_INET, bytes, SUBNET_BITS);
                if (is_free(state, network, &gateway, busy, busy_count)) {
                    network->gateway4 = gateway;
                    return 0;
                }
            }
        }
    }
    return -ENOSPC;
}

static int choose_v6(struct state *state, struct network *network, uint64_t hash,
                     const struct address *busy, size_t busy_count)
{
    for (uint32_t i = 0; i <= UINT16_MAX; i++) {
        uint16_t n = (uint16_t)(hash + i);
        uint8_t bytes[16] = {[15] = 1};
        struct address gateway;

        memcpy(bytes, state->ula, sizeof(state->ula));
        bytes[6] = (uint8_t)(n >> 8);
        bytes[7] = (uint8_t)n;
        address_set(&gateway, AF_INET6, bytes, 64);
        if (is_free(state, network, &gateway, busy, busy_count)) {
            network->gateway6 = gateway;
            return 0;
        }
    }
    return -ENOSPC;
}

/* RFC 4193: fd and 40 bits, here from the node's card, so that a node keeps its prefix. */
static void choose_ula(struct state *state, const uint8_t *mac)
{
    static const uint8_t none[RTNL_MAC_LEN];
    uint64_t hash = 0;

    if (state->ula[0] != 0)
        return;
    if (memcmp(mac, none, sizeof(none)) != 0)
        hash = state_hash("ula",
                          (uint64_t)mac[0] << 40 | (uint64_t)mac[1] << 32 | (uint64_t)mac[2] << 24 |
                              (uint64_t)mac[3] << 16 | (uint64_t)mac[4] << 8 | mac[5],
                          0, "", "");
    else
        (void)getrandom(&hash, sizeof(hash), 0);
    state->ula[0] = 0xfd;
    for (unsigned i = 0; i < 5; i++)
        state->ula[1 + i] = (uint8_t)(hash >> (8 * i));
}

int state_choose_subnets(struct state *state, struct network *network, const struct address *busy,
                         size_t busy_count, const uint8_t *node_mac)
{
    uint64_t hash = state_hash("network", network->reservation, 0, network->name, "");
    int r;

    choose_ula(state, node_mac);
    interface_name(network->bridge, "cb", hash);
    for (size_t i = 0; i < state->network_count; i++)
        if (&state->networks[i] != network &&
            strcmp(state->networks[i].bridge, network->bridge) == 0)
            return -EEXIST;
    r = choose_v4(state, network, hash >> 8, busy, busy_count);
    return r < 0 ? r : choose_v6(state, network, hash >> 8, busy, busy_count);
}

int state_choose_host(struct state *state, struct attachment *attachment, size_t most)
{
    const struct instance *own = &attachment->instance;
    uint64_t hash = state_hash("attachment", own->reservation, own->revision, own->service,
                               attachment->network);
    bool used[256] = {false}, interfaces[256] = {false};

    interface_name(attachment->host_interface, "cv", hash);
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *other = &state->attachments[i];

        if (other == attachment)
            continue;
        if (strcmp(other->host_interface, attachment->host_interface) == 0)
            return -EEXIST;
        if (other->instance.reservation == own->reservation &&
            strcmp(other->network, attachment->network) == 0)
            used[other->host] = true;
        if (instance_equal(&other->instance, own)) {
            unsigned n = 0;

            if (sscanf(other->interface, "eth%u", &n) == 1 && n < 256)
                interfaces[n] = true;
        }
    }
    for (unsigned i = 0; i < 256; i++) {
        if (!interfaces[i]) {
            snprintf(attachment->interface, sizeof(attachment->interface), "eth%u", i);
            break;
        }
    }
    for (size_t i = 0; i < most; i++) {
        unsigned host = HOST_FIRST + (unsigned)((hash + i) % most);

        if (!used[host]) {
            attachment->host = (uint8_t)host;
            return 0;
        }
    }
    return -ENOSPC;
}

void attachment_addresses(const struct network *network, const struct attachment *attachment,
                          struct address *ret_4, struct address *ret_6)
{
    *ret_4 = network->gateway4;
    ret_4->bytes[3] = attachment->host;
    *ret_6 = network->gateway6;
    ret_6->bytes[15] = attachment->host;
}

void attachment_mac(const struct attachment *attachment, uint8_t mac[RTNL_MAC_LEN])
{
    uint64_t hash =
        state_hash("mac", attachment->instance.reservation, attachment->instance.revision,
                   attachment->instance.service, attachment->network);

    mac[0] = 0x02; /* locally administered, one station */
    for (unsigned i = 1; i < RTNL_MAC_LEN; i++)
        mac[i] = (uint8_t)(hash >> (8 * i));
    /* Unique on its bridge whatever the hash does. */
    mac[RTNL_MAC_LEN - 1] = attachment->host;
}

void attachment_link_local(const struct attachment *attachment, struct address *ret_address)
{
    uint8_t mac[RTNL_MAC_LEN], bytes[16] = {0xfe, 0x80};

    /* RFC 4291, appendix A */
    attachment_mac(attachment, mac);
    bytes[8] = mac[0] ^ 0x02;
    bytes[9] = mac[1];
    bytes[10] = mac[2];
    bytes[11] = 0xff;
    bytes[12] = 0xfe;
    bytes[13] = mac[3];
    bytes[14] = mac[4];
    bytes[15] = mac[5];
    address_set(ret_address, AF_INET6, bytes, 64);
}
