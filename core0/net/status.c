/*
 * status.c - org.croft.net.GetStatus.
 */
#include <stdio.h>
#include <string.h>

#include "netd.h"

static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct address *address,
                     bool with_prefix)
{
    char text[ADDRESS_TEXT_MAX];

    yyjson_mut_arr_add_strcpy(doc, list,
                              with_prefix ? address_text_prefix(address, text, sizeof(text))
                                          : address_text(address, text, sizeof(text)));
}

static void add_static_dns(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct config *config,
                           const struct link *link)
{
    for (size_t i = 0; i < config->static_count; i++)
        for (size_t j = 0; strcmp(config->statics[i].interface, link->name) == 0 &&
                           j < config->statics[i].dns_count;
             j++)
            add_text(doc, list, &config->statics[i].dns[j], false);
}

static void add_link(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct config *config,
                     const struct link *link)
{
    yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list), *addresses, *dns;
    const struct address *gateway = link->gateway4.family != 0 ? &link->gateway4 : &link->gateway6;
    char text[ADDRESS_TEXT_MAX];

    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", link->mac[0], link->mac[1],
             link->mac[2], link->mac[3], link->mac[4], link->mac[5]);
    yyjson_mut_obj_add_strcpy(doc, item, "name", link->name);
    yyjson_mut_obj_add_strcpy(doc, item, "mac", text);
    yyjson_mut_obj_add_bool(doc, item, "up", link->up);
    yyjson_mut_obj_add_bool(doc, item, "carrier", link->carrier);
    yyjson_mut_obj_add_str(doc, item, "mode", link_mode_name(link->mode));
    yyjson_mut_obj_add_str(doc, item, "state", link->state);
    addresses = yyjson_mut_obj_add_arr(doc, item, "addresses");
    for (size_t i = 0; i < link->address_count; i++)
        add_text(doc, addresses, &link->addresses[i], true);
    if (gateway->family != 0)
        yyjson_mut_obj_add_strcpy(doc, item, "gateway", address_text(gateway, text, sizeof(text)));
    else
        yyjson_mut_obj_add_null(doc, item, "gateway");
    dns = yyjson_mut_obj_add_arr(doc, item, "dns");
    add_static_dns(doc, dns, config, link);
    for (size_t i = 0; link->has_lease && i < link->lease.dns_count; i++)
        add_text(doc, dns, &link->lease.dns[i], false);
    for (size_t i = 0; i < link->ra_dns_count; i++)
        add_text(doc, dns, &link->ra_dns[i], false);
}

void netd_get_status(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list;

    (void)params;
    yyjson_mut_doc_set_root(doc, root);
    list = yyjson_mut_obj_add_arr(doc, root, "links");
    for (size_t i = 0; i < links_count(netd->links); i++)
        add_link(doc, list, &netd->config, links_get(netd->links, i));
    yyjson_mut_obj_add_bool(doc, root, "online", links_online(netd->links));
    yyjson_mut_obj_add_str(doc, root, "time", clock_state(netd->clock));
    varlink_call_reply(call, doc);
}
