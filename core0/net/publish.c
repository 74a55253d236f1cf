/*
 * publish.c - what others learn of the links: /etc/resolv.conf, the fact `addresses`, the event `address`.
 */
#include <stdio.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "netd.h"

#define DNS_SERVERS_MAX 3 /* as many as resolvers read (resolv.conf(5)) */

static void write_resolv_conf(struct netd *netd)
{
    struct address servers[DNS_SERVERS_MAX];
    size_t count = links_dns(netd->links, servers, DNS_SERVERS_MAX), old_len = 0;
    char text[ADDRESS_TEXT_MAX];
    char *old = NULL;
    struct buffer out;
    int r = 0;

    buffer_init(&out, 0);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = buffer_printf(&out, "nameserver %s\n", address_text(&servers[i], text, sizeof(text)));
    if (r == 0 && (file_read(netd->resolv_conf, 4096, &old, &old_len) < 0 || old_len != out.len ||
                   (out.len > 0 && memcmp(old, out.data, out.len) != 0))) {
        r = file_write_atomic(netd->resolv_conf, out.len > 0 ? (const void *)out.data : "", out.len,
                              0644);
        if (r < 0)
            log_warn("%s: %s", netd->resolv_conf, strerror(-r));
    }
    file_free_cleanup(&old);
    buffer_done(&out);
}

static bool known(const struct address *list, size_t count, const struct address *address)
{
    for (size_t i = 0; i < count; i++)
        if (address_equal(&list[i], address))
            return true;
    return false;
}

void netd_publish(struct netd *netd)
{
    struct address now[NETD_ADDRESSES_MAX] = {0};
    char text[ADDRESS_TEXT_MAX];
    struct buffer fact;
    size_t count = 0;
    bool changed;

    buffer_init(&fact, 0);
    for (size_t i = 0; i < links_count(netd->links); i++) {
        const struct link *link = links_get(netd->links, i);

        for (size_t j = 0; j < link->address_count && count < NETD_ADDRESSES_MAX; j++) {
            const struct address *address = &link->addresses[j];

            if (address_is_link_local(address) || address_is_loopback(address))
                continue;
            address_text(address, text, sizeof(text));
            if (!known(netd->known, netd->known_count, address)) {
                log_info("%s: address %s", link->name, text);
                notify_event("address", "\"interface\":\"%s\",\"address\":\"%s\"", link->name,
                             text);
            }
            now[count++] = *address;
            (void)buffer_printf(&fact, "%s%s", fact.len > 0 ? " " : "", text);
        }
    }
    changed = count != netd->known_count || memcmp(now, netd->known, count * sizeof(now[0])) != 0;
    memcpy(netd->known, now, count * sizeof(now[0]));
    netd->known_count = count;
    if (changed) {
        notify_fact("addresses", fact.len > 0 ? (const char *)fact.data : "");
        notify_status("%s", fact.len > 0 ? (const char *)fact.data : "no address yet");
    }
    buffer_done(&fact);
    write_resolv_conf(netd);
}
