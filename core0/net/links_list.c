/*
 * links_list.c - what others ask about the links. See links.h.
 */
#include "links_parts.h"

static const char *const mode_names[] = {
    [LINK_NONE] = "none", [LINK_DHCP] = "dhcp", [LINK_STATIC] = "static"};

const char *link_mode_name(enum link_mode mode)
{
    return mode_names[mode];
}

size_t links_count(const struct links *links)
{
    return links->count;
}

const struct link *links_get(const struct links *links, size_t i)
{
    return links->links[i];
}

bool links_online(const struct links *links)
{
    for (size_t i = 0; i < links->count; i++)
        if (links->links[i]->gateway4.family != 0 || links->links[i]->gateway6.family != 0)
            return true;
    return false;
}

size_t links_ways(const struct links *links)
{
    size_t ways = 0;

    for (size_t i = 0; i < links->count; i++) {
        const struct link *link = links->links[i];

        for (size_t a = 0; a < link->address_count; a++)
            ways += address_is_link_local(&link->addresses[a]) ? 0 : 1;
        ways += link->gateway4.family != 0 ? 1 : 0;
        ways += link->gateway6.family != 0 ? 1 : 0;
    }
    return ways;
}

static size_t add_unique(struct address *list, size_t count, size_t max, const struct address *item)
{
    for (size_t i = 0; i < count; i++)
        if (address_equal(&list[i], item))
            return count;
    if (count < max)
        list[count++] = *item;
    return count;
}

size_t links_dns(const struct links *links, struct address *servers, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < links->config->static_count; i++)
        for (size_t j = 0; j < links->config->statics[i].dns_count; j++)
            count = add_unique(servers, count, max, &links->config->statics[i].dns[j]);
    for (size_t i = 0; i < links->count; i++)
        for (size_t j = 0; links->links[i]->has_lease && j < links->links[i]->lease.dns_count; j++)
            count = add_unique(servers, count, max, &links->links[i]->lease.dns[j]);
    for (size_t i = 0; i < links->count; i++)
        for (size_t j = 0; j < links->links[i]->ra_dns_count; j++)
            count = add_unique(servers, count, max, &links->links[i]->ra_dns[j]);
    return count;
}

size_t links_ntp(const struct links *links, struct address *servers, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < links->count; i++)
        for (size_t j = 0; links->links[i]->has_lease && j < links->links[i]->lease.ntp_count; j++)
            count = add_unique(servers, count, max, &links->links[i]->lease.ntp[j]);
    return count;
}
