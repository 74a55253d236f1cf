/*
 * networks.c - see networks.h.
 */
#include "networks_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"

#define BUSY_MAX ((size_t)LINKS_MAX * (LINK_ADDRESSES_MAX + 2 + 2 * LEASE_LIST_MAX))
#define ROUTE_METRIC 100 /* of eth0's default route; eth1's one more */

struct state *networks_state(struct networks *networks)
{
    return &networks->state;
}

int networks_links(struct networks *networks, struct rtnl_link **ret_links, size_t *ret_count,
                   struct error *err)
{
    return rtnl_links(networks->rtnl, ret_links, ret_count, err);
}

int networks_new(const struct links *links, const char *state_path, void (*changed)(void *data),
                 void *data, struct networks **ret_networks, struct error *err)
{
    struct networks *networks = calloc(1, sizeof(*networks));
    struct error bad = {0};
    int r;

    if (networks == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    networks->links = links;
    networks->changed = changed;
    networks->data = data;
    networks->own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    r = networks->own_netns < 0 ? -errno : netlink_open(NETLINK_ROUTE, &networks->rtnl);
    if (r < 0) {
        networks_free(networks);
        return error_set(err, -r, "net.no-netlink", NULL, "opening netlink: %s", strerror(-r));
    }
    /* Written atomically, so a list that cannot be read is a defect: to begin anew is what makes the node work. */
    if (state_load(&networks->state, state_path, &bad) < 0)
        log_error(&bad, "networks");
    if (firewall_new(&networks->firewall, &networks->no_firewall) < 0)
        log_error(&networks->no_firewall, "firewall");
    *ret_networks = networks;
    return 0;
}

void networks_free(struct networks *networks)
{
    if (networks == NULL)
        return;
    state_done(&networks->state);
    firewall_free(networks->firewall);
    netlink_free(networks->rtnl);
    if (networks->own_netns >= 0)
        close(networks->own_netns);
    free(networks);
}

/* ---- networks ---- */

/* Everything that the node's links have to do with; no bridge may stand in its way. */
static size_t busy_prefixes(const struct links *links, struct address *busy)
{
    size_t count = 0;

    for (size_t i = 0; i < links_count(links); i++) {
        const struct link *link = links_get(links, i);

        for (size_t j = 0; j < link->address_count; j++)
            busy[count++] = link->addresses[j];
        if (link->gateway4.family != 0)
            busy[count++] = link->gateway4;
        if (link->gateway6.family != 0)
            busy[count++] = link->gateway6;
        for (size_t j = 0; link->has_lease && j < link->lease.dns_count; j++)
            busy[count++] = link->lease.dns[j];
        for (size_t j = 0; j < link->ra_dns_count; j++)
            busy[count++] = link->ra_dns[j];
    }
    return count;
}

/* The lowest MAC of a card: the same at every boot. */
static void node_mac(const struct links *links, uint8_t mac[RTNL_MAC_LEN])
{
    bool any = false;

    memset(mac, 0, RTNL_MAC_LEN);
    for (size_t i = 0; i < links_count(links); i++) {
        const struct link *link = links_get(links, i);

        if (link->hardware && (!any || memcmp(link->mac, mac, RTNL_MAC_LEN) < 0)) {
            memcpy(mac, link->mac, RTNL_MAC_LEN);
            any = true;
        }
    }
}

int networks_ensure(struct networks *networks, uint64_t reservation, const char *name,
                    bool internal, const struct network **ret_network, struct error *err)
{
    struct network *network = state_network(&networks->state, reservation, name);
    struct address *busy;
    uint8_t mac[RTNL_MAC_LEN];
    int r;

    if (network != NULL && network->internal != internal)
        return error_set(err, EEXIST, "net.conflict", NULL,
                         "network %s of reservation %llu is there with another setting", name,
                         (unsigned long long)reservation);
    if (network == NULL) {
        busy = calloc(BUSY_MAX, sizeof(*busy));
        if (busy != NULL &&
            networks->state.network_count < fault_limit("networks", STATE_NETWORKS_MAX))
            network = state_add_network(&networks->state);
        if (network == NULL) {
            free(busy);
            return error_set(err, ENOSPC, "net.too-many-networks", NULL,
                             "this node holds no more networks");
        }
        network->reservation = reservation;
        network->internal = internal;
        strcpy(network->name, name);
        node_mac(networks->links, mac);
        r = state_choose_subnets(&networks->state, network, busy,
                                 busy_prefixes(networks->links, busy), mac);
        free(busy);
        if (r < 0) {
            networks->state.network_count--;
            return error_set(err, -r, "net.no-subnet", NULL, "no private network is free: %s",
                             strerror(-r));
        }
    }
    r = networks_commit(networks, reservation, err);
    if (r == 0)
        *ret_network = state_network(&networks->state, reservation, name);
    return r;
}

/* ---- attachments ---- */

/* A netlink socket that belongs to another namespace: it stays there after we are back. */
static int open_inside(struct networks *networks, int fd, struct netlink **ret_netlink,
                       struct error *err)
{
    int r = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;

    if (r < 0)
        return error_set(err, -r, "net.bad-namespace", NULL, "entering the namespace: %s",
                         strerror(-r));
    r = netlink_open(NETLINK_ROUTE, ret_netlink);
    /* In the wrong namespace every further step would change a container's network instead of the node's. */
    if (setns(networks->own_netns, CLONE_NEWNET) < 0)
        abort();
    return r < 0 ? error_set(err, -r, "net.no-netlink", NULL, "opening netlink: %s", strerror(-r))
                 : 0;
}

static int default_route(struct netlink *inside, int index, const struct address *gateway,
                         uint32_t metric, struct error *err)
{
    struct rtnl_route route = {.family = gateway->family,
                               .protocol = RTPROT_STATIC,
                               .metric = metric,
                               .index = index,
                               .has_gateway = true};

    memcpy(route.gateway, gateway->bytes, sizeof(route.gateway));
    return rtnl_route_add(inside, &route, err);
}

static int configure_inside(struct netlink *inside, const struct network *network,
                            const struct attachment *attachment, struct error *err)
{
    struct address address4, address6, link;
    uint32_t metric = ROUTE_METRIC + (uint32_t)strtoul(attachment->interface + 3, NULL, 10);
    int index = rtnl_link_index(inside, attachment->interface), r;
    int lo = rtnl_link_index(inside, "lo");

    if (index < 0)
        return error_set(err, -index, "net.kernel", NULL, "%s is not in the namespace",
                         attachment->interface);
    attachment_addresses(network, attachment, &address4, &address6);
    attachment_link_local(attachment, &link);
    if (lo > 0)
        (void)rtnl_link_set_up(inside, lo, true, NULL);
    r = rtnl_link_set_no_autoconf(inside, index, err);
    if (r == 0)
        r = networks_add_address(inside, index, &address4, err);
    if (r == 0)
        r = networks_add_address(inside, index, &address6, err);
    if (r == 0)
        r = networks_add_address(inside, index, &link, err);
    if (r == 0)
        r = rtnl_link_set_up(inside, index, true, err);
    if (r == 0 && !network->internal)
        r = default_route(inside, index, &network->gateway4, metric, err);
    if (r == 0 && !network->internal)
        r = default_route(inside, index, &network->gateway6, metric, err);
    return r;
}

static int make_veth(struct networks *networks, const struct attachment *attachment, int fd,
                     struct error *err)
{
    uint64_t hash =
        state_hash("port", attachment->instance.reservation, attachment->instance.revision,
                   attachment->instance.service, attachment->network);
    uint8_t mac[RTNL_MAC_LEN] = {0x02}, peer_mac[RTNL_MAC_LEN];
    char alias[64];
    struct rtnl_link_spec spec = {
        .name = attachment->host_interface,
        .kind = "veth",
        .alias = alias,
        .mac = mac,
        .peer_name = attachment->interface,
        .peer_mac = peer_mac,
        .peer_netns_fd = fd,
    };

    attachment_mac(attachment, peer_mac);
    memcpy(mac + 1, &hash, RTNL_MAC_LEN - 1);
    snprintf(alias, sizeof(alias), "croft %llu-%u-%.30s",
             (unsigned long long)attachment->instance.reservation, attachment->instance.revision,
             attachment->instance.service);
    return rtnl_link_new(networks->rtnl, &spec, err);
}

/* Is the other end of an existing veth in the namespace behind fd. */
static bool leads_into(struct networks *networks, const struct rtnl_link *veth, int fd)
{
    int id = rtnl_netns_id(networks->rtnl, fd, NULL);

    return id >= 0 && veth->netnsid == id;
}

static int plug_into(struct networks *networks, const struct network *network,
                     const struct attachment *attachment, int fd, struct error *err)
{
    struct rtnl_link *links;
    const struct rtnl_link *veth;
    struct netlink *inside = NULL;
    size_t count;
    int r = rtnl_links(networks->rtnl, &links, &count, err);

    if (r < 0)
        return r;
    veth = networks_find_link(links, count, attachment->host_interface);
    if (veth != NULL && !leads_into(networks, veth, fd)) {
        /* The namespace of an earlier start that somebody still holds. */
        r = rtnl_link_delete(networks->rtnl, veth->index, err);
        veth = NULL;
    }
    if (r == 0 && veth == NULL)
        r = make_veth(networks, attachment, fd, err);
    free(links);
    if (r == 0)
        r = open_inside(networks, fd, &inside, err);
    if (r == 0)
        r = configure_inside(inside, network, attachment, err);
    netlink_free(inside);
    return r;
}

static int open_namespace(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return error_set(err, errno, "net.bad-namespace", NULL, "%.200s: %s", path,
                         strerror(errno));
    if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
        close(fd);
        return error_set(err, EINVAL, "net.bad-namespace", NULL, "%.200s is no network namespace",
                         path);
    }
    return fd;
}

int networks_attach(struct networks *networks, const struct instance *instance, const char *name,
                    const char *netns, const struct attachment **ret_attachment, struct error *err)
{
    const struct network *network = state_network(&networks->state, instance->reservation, name);
    struct attachment *attachment;
    cleanup_close int fd = -1;
    int r;

    if (network == NULL)
        return error_set(err, ENOENT, "net.no-network", "call EnsureNetwork first",
                         "reservation %llu has no network %s",
                         (unsigned long long)instance->reservation, name);
    fd = open_namespace(netns, err);
    if (fd < 0)
        return fd;
    attachment = state_attachment(&networks->state, instance, name);
    if (attachment == NULL) {
        attachment = state_add_attachment(&networks->state);
        if (attachment == NULL)
            return error_set(err, ENOSPC, "net.too-many-attachments", NULL,
                             "this node holds no more interfaces");
        attachment->instance = *instance;
        strcpy(attachment->network, name);
        r = state_choose_host(&networks->state, attachment, fault_limit("hosts", STATE_HOSTS_MAX));
        if (r < 0) {
            networks->state.attachment_count--;
            return error_set(err, -r, "net.no-address", NULL, "network %s is full", name);
        }
        r = state_save(&networks->state, err);
        if (r < 0)
            return r;
    }
    /* The rules first: converge() plugs the new interface in when they know it. */
    r = plug_into(networks, network, attachment, fd, err);
    if (r == 0)
        r = networks_converge(networks, instance->reservation, err);
    if (r == 0)
        *ret_attachment = state_attachment(&networks->state, instance, name);
    return r;
}

/* ---- ends ---- */

/* The addresses of an instance, as prefixes of one host each. */
static void flush_instance(struct networks *networks, const struct attachment *attachment)
{
    const struct network *network =
        state_network(&networks->state, attachment->instance.reservation, attachment->network);
    struct address address4, address6;
    struct error err = {0};

    if (network == NULL || networks->firewall == NULL)
        return;
    attachment_addresses(network, attachment, &address4, &address6);
    address4.prefix = 32;
    address6.prefix = 128;
    if (firewall_flush_net(networks->firewall, &address4, &address6, &err) < 0)
        log_error(&err, "connections");
}

int networks_detach(struct networks *networks, const struct instance *instance, struct error *err)
{
    struct attachment *old;
    size_t count = 0;
    int r;

    if (state_attachment(&networks->state, instance, NULL) == NULL)
        return 0;
    old = calloc(networks->state.attachment_count, sizeof(*old));
    if (old == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    for (size_t i = 0; i < networks->state.attachment_count; i++)
        if (instance_equal(&networks->state.attachments[i].instance, instance))
            old[count++] = networks->state.attachments[i];
    state_drop_attachments(&networks->state, instance->reservation, instance);
    r = networks_commit(networks, instance->reservation, err);
    for (size_t i = 0; i < count; i++)
        flush_instance(networks, &old[i]);
    free(old);
    return r;
}

int networks_remove(struct networks *networks, uint64_t reservation, struct error *err)
{
    struct network *old = calloc(networks->state.network_count + 1, sizeof(*old));
    struct error flush = {0};
    size_t count = 0;
    int r;

    if (old == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    for (size_t i = 0; i < networks->state.network_count; i++)
        if (networks->state.networks[i].reservation == reservation)
            old[count++] = networks->state.networks[i];
    state_drop_published(&networks->state, reservation);
    state_drop_attachments(&networks->state, reservation, NULL);
    state_drop_networks(&networks->state, reservation);
    r = networks_commit(networks, reservation, err);
    for (size_t i = 0; i < count && networks->firewall != NULL; i++)
        if (firewall_flush_net(networks->firewall, &old[i].gateway4, &old[i].gateway6, &flush) < 0)
            log_error(&flush, "connections");
    free(old);
    return r;
}
