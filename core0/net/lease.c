/*
 * lease.c - see lease.h.
 */
#include "lease.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ND_OPTION_RDNSS 25

static const struct {
    const char *name;
    enum lease_event event;
} events[] = {
    {"deconfig", LEASE_DECONFIG}, {"bound", LEASE_BOUND},   {"renew", LEASE_RENEW},
    {"nak", LEASE_NAK},           {"leasefail", LEASE_FAIL}, {"step", LEASE_TIME},
    {"stratum", LEASE_TIME},      {"periodic", LEASE_TIME}, {"unsync", LEASE_TIME},
};

struct fields {
    struct lease lease;
    bool has_event;
    struct address mask;
    bool unsync;
};

static int take_event(struct fields *fields, const char *value)
{
    for (size_t i = 0; i < COUNT(events); i++) {
        if (strcmp(value, events[i].name) == 0) {
            fields->lease.event = events[i].event;
            fields->has_event = true;
            fields->unsync = strcmp(value, "unsync") == 0;
            return 0;
        }
    }
    return -EBADMSG;
}

static int take_interface(struct fields *fields, const char *value)
{
    if (value[0] == '\0' || strlen(value) >= IF_NAMESIZE)
        return -EBADMSG;
    strcpy(fields->lease.interface, value);
    return 0;
}

static int take_v4(const char *value, struct address *dest)
{
    struct address address;

    if (address_parse(value, false, &address) < 0 || address.family != AF_INET)
        return -EBADMSG;
    *dest = address;
    return 0;
}

static int take_ip(struct fields *fields, const char *value)
{
    return take_v4(value, &fields->lease.address);
}

static int take_subnet(struct fields *fields, const char *value)
{
    return take_v4(value, &fields->mask);
}

static int take_server(struct fields *fields, const char *value)
{
    /* Only shown; a server that says nonsense here may still give a good lease. */
    (void)take_v4(value, &fields->lease.server);
    return 0;
}

/* Space-separated; what is more than the list holds is not needed. */
static int take_list(const char *value, struct address *list, size_t *count)
{
    while (*value != '\0') {
        size_t len = strcspn(value, " ");
        char item[ADDRESS_TEXT_MAX];

        if (len >= sizeof(item))
            return -EBADMSG;
        memcpy(item, value, len);
        item[len] = '\0';
        if (len > 0 && *count < LEASE_LIST_MAX) {
            if (take_v4(item, &list[*count]) < 0)
                return -EBADMSG;
            (*count)++;
        }
        value += len;
        value += strspn(value, " ");
    }
    return 0;
}

static int take_router(struct fields *fields, const char *value)
{
    struct address routers[LEASE_LIST_MAX];
    size_t count = 0;

    if (take_list(value, routers, &count) < 0)
        return -EBADMSG;
    if (count > 0)
        fields->lease.gateway = routers[0];
    return 0;
}

static int take_dns(struct fields *fields, const char *value)
{
    return take_list(value, fields->lease.dns, &fields->lease.dns_count);
}

static int take_ntp(struct fields *fields, const char *value)
{
    return take_list(value, fields->lease.ntp, &fields->lease.ntp_count);
}

static int take_number(const char *value, unsigned long max, unsigned long *ret)
{
    char *end;
    unsigned long number;

    if (value[0] < '0' || value[0] > '9' || strlen(value) > 10)
        return -EBADMSG;
    number = strtoul(value, &end, 10);
    if (*end != '\0' || number > max)
        return -EBADMSG;
    *ret = number;
    return 0;
}

static int take_seconds(struct fields *fields, const char *value)
{
    unsigned long number;

    if (take_number(value, UINT32_MAX, &number) < 0)
        return -EBADMSG;
    fields->lease.seconds = (uint32_t)number;
    return 0;
}

static int take_stratum(struct fields *fields, const char *value)
{
    unsigned long number;

    if (take_number(value, 255, &number) < 0)
        return -EBADMSG;
    fields->lease.stratum = (unsigned)number;
    return 0;
}

static const struct {
    const char *key;
    int (*take)(struct fields *fields, const char *value);
} keys[] = {
    {"event", take_event},     {"interface", take_interface}, {"ip", take_ip},
    {"subnet", take_subnet},   {"router", take_router},       {"dns", take_dns},
    {"ntpsrv", take_ntp},      {"lease", take_seconds},       {"serverid", take_server},
    {"stratum", take_stratum},
};

/* Bits of a netmask; -EBADMSG for one with a hole. */
static int mask_bits(const struct address *mask)
{
    uint32_t bits = (uint32_t)mask->bytes[0] << 24 | (uint32_t)mask->bytes[1] << 16 |
                    (uint32_t)mask->bytes[2] << 8 | mask->bytes[3];
    int count = 0;

    while (count < 32 && (bits & (1u << 31)) != 0) {
        bits <<= 1;
        count++;
    }
    return bits == 0 ? count : -EBADMSG;
}

static int take_line(struct fields *fields, const char *line, size_t len)
{
    const char *equals = memchr(line, '=', len);
    char value[1024];
    size_t key_len;

    if (equals == NULL)
        return 0;
    key_len = (size_t)(equals - line);
    for (size_t i = 0; i < COUNT(keys); i++) {
        size_t value_len = len - key_len - 1;

        if (strlen(keys[i].key) != key_len || memcmp(keys[i].key, line, key_len) != 0)
            continue;
        if (value_len >= sizeof(value) || memchr(equals + 1, '\0', value_len) != NULL)
            return -EBADMSG;
        memcpy(value, equals + 1, value_len);
        value[value_len] = '\0';
        return keys[i].take(fields, value);
    }
    return 0;
}

int lease_parse(const char *data, size_t len, struct lease *ret_lease)
{
    struct fields fields = {0};
    struct lease *lease = &fields.lease;

    if (len > LEASE_MESSAGE_MAX)
        return -EBADMSG;
    while (len > 0) {
        const char *newline = memchr(data, '\n', len);
        size_t line = newline != NULL ? (size_t)(newline - data) : len;

        if (take_line(&fields, data, line) < 0)
            return -EBADMSG;
        line += newline != NULL ? 1 : 0;
        data += line;
        len -= line;
    }
    if (!fields.has_event || (lease->interface[0] == '\0' && lease->event != LEASE_TIME))
        return -EBADMSG;
    if (fields.unsync)
        lease->stratum = 16;
    if (lease->event == LEASE_BOUND || lease->event == LEASE_RENEW) {
        int bits = 24; /* RFC 2131 leaves a missing mask to us; servers that send none mean a small net */

        if (fields.mask.family != 0)
            bits = mask_bits(&fields.mask);
        if (bits < 1 || lease->address.family == 0 || address_is_loopback(&lease->address) ||
            lease->address.bytes[0] == 0 || lease->address.bytes[0] >= 224)
            return -EBADMSG;
        lease->address.prefix = (uint8_t)bits;
    }
    *ret_lease = *lease;
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
