/*
 * expose.c - published ports and names: the whole set of a reservation, swapped at once. See networks.h.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "networks_parts.h"

static const struct attachment *outward(struct networks *networks, const struct port *port,
                                        bool *ret_attached)
{
    *ret_attached = false;
    for (size_t i = 0; i < networks->state.attachment_count; i++) {
        const struct attachment *row = &networks->state.attachments[i];
        const struct network *network;

        if (row->instance.reservation != port->reservation ||
            row->instance.revision != port->revision ||
            strcmp(row->instance.service, port->service) != 0)
            continue;
        *ret_attached = true;
        network = state_network(&networks->state, row->instance.reservation, row->network);
        if (network != NULL && !network->internal)
            return row;
    }
    return NULL;
}

static const char *protocol_name(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? "tcp" : "udp";
}

static int check_port(struct networks *networks, const struct port *ports, size_t i,
                      struct error *err)
{
    const struct port *port = &ports[i];
    const char *owner = NULL;
    bool attached;

    if (port->local && (port->target < STATE_LOCAL_FIRST || port->target > STATE_LOCAL_LAST))
        return error_set(err, EINVAL, "net.bad-request", NULL,
                         "port %u is none of the node's key-value servers", port->target);
    for (size_t j = 0; j < i; j++)
        if (ports[j].protocol == port->protocol && ports[j].published == port->published &&
            /* two namespaces of one server */
            !(port->local && ports[j].local && ports[j].target == port->target))
            return error_set(err, EINVAL, "net.bad-request", NULL, "port %u/%s is published twice",
                             port->published, protocol_name(port->protocol));
    if (port->inside)
        return 0;
    for (size_t j = 0; j < networks->state.port_count; j++) {
        const struct port *other = &networks->state.ports[j];

        if (!other->inside && other->reservation != port->reservation &&
            other->protocol == port->protocol && other->published == port->published)
            return error_set(err, EADDRINUSE, "net.port-in-use", "publish another port",
                             "port %u/%s of this node is used by another reservation",
                             port->published, protocol_name(port->protocol));
    }
    if (ports_used_by_node(&networks->state, port->protocol, port->published, &owner))
        return error_set(err, EADDRINUSE, "net.port-in-use", "publish another port",
                         "port %u/%s is used by %s", port->published, protocol_name(port->protocol),
                         owner);
    if (!port->local && outward(networks, port, &attached) == NULL)
        return error_set(err, EINVAL, attached ? "net.port-internal" : "net.no-attachment",
                         attached ? "give the service a network that is not internal" : NULL,
                         "service %s publishes port %u but %s", port->service, port->published,
                         attached ? "has only internal networks" : "has no network yet");
    return 0;
}

struct published {
    struct port port;
    struct address target4, target6;
    bool known;
};

static void resolve(struct networks *networks, const struct port *port, struct published *published)
{
    bool attached;
    const struct attachment *attachment = outward(networks, port, &attached);

    *published = (struct published){.port = *port, .known = port->local};
    if (attachment == NULL)
        return;
    attachment_addresses(state_network(&networks->state, port->reservation, attachment->network),
                         attachment, &published->target4, &published->target6);
    published->known = true;
}

static bool still_published(struct networks *networks, const struct published *old)
{
    for (size_t i = 0; i < networks->state.port_count; i++) {
        const struct port *port = &networks->state.ports[i];
        struct published now;

        if (port->protocol != old->port.protocol || port->published != old->port.published ||
            port->target != old->port.target)
            continue;
        resolve(networks, port, &now);
        return now.known && port->local == old->port.local && port->inside == old->port.inside &&
               address_equal(&now.target4, &old->target4);
    }
    return false;
}

int networks_expose(struct networks *networks, uint64_t reservation, const struct port *ports,
                    size_t port_count, const struct name *names, size_t name_count,
                    struct error *err)
{
    struct published *old;
    struct error flush = {0};
    size_t old_count = 0;
    int r = 0;

    for (size_t i = 0; i < port_count; i++) {
        r = check_port(networks, ports, i, err);
        if (r < 0)
            return r;
    }
    old = calloc(networks->state.port_count + 1, sizeof(*old));
    if (old == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    for (size_t i = 0; i < networks->state.port_count; i++)
        if (networks->state.ports[i].reservation == reservation)
            resolve(networks, &networks->state.ports[i], &old[old_count++]);
    if (networks->state.port_count - old_count + port_count > STATE_PORTS_MAX ||
        networks->state.name_count + name_count > STATE_NAMES_MAX)
        r = error_set(err, ENOSPC, "net.too-many-ports", NULL,
                      "this node publishes no more ports or names");
    if (r == 0) {
        state_drop_published(&networks->state, reservation);
        for (size_t i = 0; r == 0 && i < port_count; i++)
            r = state_add_port(&networks->state, &ports[i]);
        for (size_t i = 0; r == 0 && i < name_count; i++)
            r = state_add_name(&networks->state, &names[i]);
        if (r < 0)
            error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    }
    if (r == 0)
        r = networks_commit(networks, reservation, err);
    for (size_t i = 0; r == 0 && i < old_count; i++)
        if (old[i].known && !still_published(networks, &old[i]) &&
            firewall_flush_port(networks->firewall, &old[i].port, &old[i].target4, &old[i].target6,
                                &flush) < 0)
            log_error(&flush, "connections");
    free(old);
    return r;
}
