/*
 * names.c - see names.h.
 */
#include "names.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Names that say something about the farm's own network. Its resolver knows them; a tenant must not learn them. */
static const char *const private_zones[] = {
    /* RFC 6761, 6762, 8375, and what home routers use */
    "local",
    "localhost",
    "localdomain",
    "internal",
    "home.arpa",
    "lan",
    "home",
    "fritz.box",
    /* reverse names of the closed ranges, RFC 6303 */
    "10.in-addr.arpa",
    "168.192.in-addr.arpa",
    "254.169.in-addr.arpa",
    "127.in-addr.arpa",
    "c.f.ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
};
/* 16 … 31.172.in-addr.arpa and 64 … 127.100.in-addr.arpa */
static const struct {
    const char *suffix;
    unsigned first, last;
} private_ranges[] = {{"172.in-addr.arpa", 16, 31}, {"100.in-addr.arpa", 64, 127}};

/* Is `name` the zone or below it; *ret_above is where the rest ends (the dot before the zone). */
static bool is_below(const char *name, const char *zone, size_t *ret_above)
{
    size_t len = strlen(name), zone_len = strlen(zone);

    if (len < zone_len || strcmp(name + len - zone_len, zone) != 0)
        return false;
    if (len != zone_len && name[len - zone_len - 1] != '.')
        return false;
    *ret_above = len == zone_len ? 0 : len - zone_len - 1;
    return true;
}

static bool is_private(const char *name)
{
    size_t above;

    for (size_t i = 0; i < COUNT(private_zones); i++)
        if (is_below(name, private_zones[i], &above))
            return true;
    for (size_t i = 0; i < COUNT(private_ranges); i++) {
        unsigned number = 0;
        size_t at;

        if (!is_below(name, private_ranges[i].suffix, &above) || above == 0)
            continue;
        at = above;
        while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9' && above - at < 3)
            at--;
        for (size_t j = at; j < above; j++)
            number = number * 10 + (unsigned)(name[j] - '0');
        if (number >= private_ranges[i].first && number <= private_ranges[i].last)
            return true;
    }
    return false;
}

static const struct attachment *find_source(struct state *state, const struct network *network,
                                            const struct address *source)
{
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *row = &state->attachments[i];
        struct address address4, address6;

        if (row->instance.reservation != network->reservation ||
            strcmp(row->network, network->name) != 0)
            continue;
        attachment_addresses(network, row, &address4, &address6);
        if (address_equal(&address4, source) || address_equal(&address6, source))
            return row;
    }
    return NULL;
}

static size_t add_addresses(struct state *state, const struct name *name, struct address *addresses,
                            size_t count, size_t max)
{
    struct instance instance = {.reservation = name->reservation, .revision = name->revision};
    const struct attachment *attachment;
    const struct network *network;

    strcpy(instance.service, name->service);
    attachment = state_attachment(state, &instance, name->network);
    network = state_network(state, name->reservation, name->network);
    if (attachment != NULL && network != NULL && count + 2 <= max) {
        attachment_addresses(network, attachment, &addresses[count], &addresses[count + 1]);
        count += 2;
    }
    return count;
}

enum names_verdict names_look_up(struct state *state, const struct network *network,
                                 const struct address *source, const struct dns_question *question,
                                 struct address *addresses, size_t max, size_t *ret_count)
{
    const struct attachment *asker = find_source(state, network, source);
    bool here = false;

    *ret_count = 0;
    for (size_t i = 0; i < state->name_count; i++) {
        const struct name *name = &state->names[i];

        if (name->reservation != network->reservation || strcmp(name->name, question->name) != 0)
            continue;
        if (strcmp(name->network, network->name) != 0 &&
            (asker == NULL || state_attachment(state, &asker->instance, name->network) == NULL))
            continue;
        here = true;
        *ret_count = add_addresses(state, name, addresses, *ret_count, max);
    }
    for (size_t i = 0; i < state->port_count; i++) {
        const struct port *port = &state->ports[i];

        if (!port->local || port->reservation != network->reservation ||
            strcmp(port->service, question->name) != 0 || *ret_count + 2 > max)
            continue;
        here = true;
        addresses[(*ret_count)++] = network->gateway4;
        addresses[(*ret_count)++] = network->gateway6;
    }
    if (here)
        return NAMES_HERE;
    /* A single label is a service's name, or one of the farm's own machines; only the root's own records are public. */
    if (strchr(question->name, '.') == NULL && question->name[0] != '\0' &&
        question->type != DNS_TYPE_NS && question->type != DNS_TYPE_SOA &&
        question->type != DNS_TYPE_DS && question->type != DNS_TYPE_DNSKEY)
        return NAMES_NOBODY;
    if (is_private(question->name) || network->internal)
        return NAMES_NOBODY;
    return NAMES_FORWARD;
}
