/*
 * links_virtual.c - bonds and VLANs: made as soon as the links below them exist. See links.h.
 */
#include <errno.h>
#include <string.h>

#include "lib/log.h"
#include "links_parts.h"

const struct rtnl_link *links_row(const struct rtnl_link *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static void make_bond(struct links *links, const struct config_bond *bond,
                      const struct rtnl_link *rows, size_t count)
{
    const struct rtnl_link *own = links_row(rows, count, bond->name);
    struct rtnl_link_spec spec = {
        .name = bond->name, .kind = "bond", .bond_mode = bond->mode, .peer_netns_fd = -1};
    struct error err = {0};

    if (own == NULL) {
        if (rtnl_link_new(links->request, &spec, &err) < 0)
            log_error(&err, bond->name);
        return; /* its arrival is an event, and leads here again */
    }
    /* The kernel's driver brings a bond0 of its own unless it is told not to, and the mode of a bond with parts is fixed. */
    if (strcmp(own->kind, "bond") == 0 && own->bond_mode != bond->mode) {
        if (rtnl_link_delete(links->request, own->index, &err) < 0)
            log_error(&err, bond->name);
        return; /* as is its end */
    }
    for (size_t i = 0; i < bond->interface_count; i++) {
        const struct rtnl_link *part = links_row(rows, count, bond->interfaces[i]);

        if (part == NULL || part->master == own->index)
            continue;
        if (rtnl_link_set_up(links->request, part->index, false, &err) < 0 ||
            rtnl_link_set_master(links->request, part->index, own->index, &err) < 0 ||
            rtnl_link_set_up(links->request, part->index, true, &err) < 0)
            log_error(&err, part->name);
        error_clear(&err);
    }
}

void links_make_virtual(struct links *links, const struct rtnl_link *rows, size_t count)
{
    for (size_t i = 0; i < links->config->bond_count; i++)
        make_bond(links, &links->config->bonds[i], rows, count);
    for (size_t i = 0; i < links->config->vlan_count; i++) {
        const struct config_vlan *vlan = &links->config->vlans[i];
        const struct rtnl_link *parent = links_row(rows, count, vlan->interface);
        struct rtnl_link_spec spec = {
            .name = vlan->name, .kind = "vlan", .vlan = vlan->id, .peer_netns_fd = -1};
        struct error err = {0};

        if (parent == NULL || links_row(rows, count, vlan->name) != NULL)
            continue;
        spec.parent = parent->index;
        if (rtnl_link_new(links->request, &spec, &err) < 0)
            log_error(&err, vlan->name);
    }
}
