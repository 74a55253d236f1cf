/*
 * networks.c - see networks.h.
 */
#include "networks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BUSY_MAX (LINKS_MAX * (LINK_ADDRESSES_MAX + 2 + 2 * LEASE_LIST_MAX))
#define ROUTE_METRIC 100 /* of eth0's default route; eth1's one more */

struct networks {
    const struct links *links;
    struct state state;
    struct firewall *firewall; /* NULL: the kernel has none */
    struct error no_firewall;
    struct netlink *rtnl;
    int own_netns;
    void (*changed)(void *data);
    void *data;
};

struct state *networks_state(struct networks *networks)
{
    return &networks->state;
}

int networks_links(struct networks *networks, struct rtnl_link **ret_links, size_t *ret_count,
                   struct error *err)
{
    return rtnl_links(networks->rtnl, ret_links, ret_count, err);
}

/* ---- the kernel's side ---- */

static const struct {
    const char *path, *value;
} forwarding[] = {
    /* Links that appear later take nothing by themselves: links.c says what each is to do. */
    {"/proc/sys/net/ipv4/conf/all/rp_filter", "0"},
    {"/proc/sys/net/ipv4/conf/default/rp_filter", "1"},
    {"/proc/sys/net/ipv4/conf/all/accept_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/default/accept_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/all/send_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/default/send_redirects", "0"},
    {"/proc/sys/net/ipv4/conf/all/accept_source_route", "0"},
    {"/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts", "1"},
    {"/proc/sys/net/ipv6/conf/all/accept_redirects", "0"},
    {"/proc/sys/net/ipv6/conf/default/accept_redirects", "0"},
    {"/proc/sys/net/ipv6/conf/default/accept_ra", "0"},
    {"/proc/sys/net/ipv6/conf/all/forwarding", "1"},
    {"/proc/sys/net/ipv4/ip_forward", "1"},
};

/* Bridged frames are not routed packets: the inet rules are not for them. Absent when the kernel cannot do it. */
static const char *const bridge_filters[] = {
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    "/proc/sys/net/bridge/bridge-nf-call-arptables",
};

static const struct {
    const char *family, *key, *value;
} bridge_settings[] = {
    {"ipv4", "rp_filter", "1"},
    {"ipv4", "send_redirects", "0"},
    {"ipv4", "accept_redirects", "0"},
    {"ipv4", "accept_source_route", "0"},
    /* Only the own gateway answers on a bridge, not another address of the node. */
    {"ipv4", "arp_ignore", "1"},
    {"ipv6", "accept_ra", "0"},
    {"ipv6", "accept_redirects", "0"},
    {"ipv6", "accept_dad", "0"},
};

static void set_forwarding(void)
{
    for (size_t i = 0; i < COUNT(forwarding); i++) {
        int r = file_write_text(forwarding[i].path, forwarding[i].value);

        if (r < 0)
            log_warn("%s: %s", forwarding[i].path, strerror(-r));
    }
    for (size_t i = 0; i < COUNT(bridge_filters); i++)
        (void)file_write_text(bridge_filters[i], "0");
}

static const struct rtnl_link *find_link(const struct rtnl_link *links, size_t count,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(links[i].name, name) == 0)
            return &links[i];
    return NULL;
}

static int add_address(struct netlink *netlink, int index, const struct address *address,
                       struct error *err)
{
    struct rtnl_address row = {
        .index = index,
        .family = address->family,
        .prefix = address->prefix,
        .scope = address_is_link_local(address) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    };

    memcpy(row.address, address->bytes, sizeof(row.address));
    return rtnl_address_add(netlink, &row, true, err);
}

static int make_bridge(struct networks *networks, const struct network *network,
                       const struct rtnl_link *links, size_t count, struct error *err)
{
    const struct rtnl_link *existing = find_link(links, count, network->bridge);
    uint64_t hash = state_hash("bridge", network->reservation, 0, network->name, "");
    uint8_t mac[RTNL_MAC_LEN] = {0x02};
    char alias[64];
    struct rtnl_link_spec spec = {.name = network->bridge,
                                  .kind = "bridge",
                                  .mac = mac,
                                  .alias = alias,
                                  .peer_netns_fd = -1};
    int index, r;

    /* Up is the last step: what is up is whole. */
    if (existing != NULL && (existing->flags & IFF_UP) != 0)
        return 0;
    memcpy(mac + 1, &hash, RTNL_MAC_LEN - 1);
    snprintf(alias, sizeof(alias), "croft %llu/%.40s", (unsigned long long)network->reservation,
             network->name);
    if (existing == NULL) {
        r = rtnl_link_new(networks->rtnl, &spec, err);
        if (r < 0)
            return r;
    }
    index = existing != NULL ? existing->index : rtnl_link_index(networks->rtnl, network->bridge);
    if (index < 0)
        return error_set(err, -index, "net.kernel", NULL, "%s is gone", network->bridge);
    for (size_t i = 0; i < COUNT(bridge_settings); i++) {
        char path[128];

        snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", bridge_settings[i].family,
                 network->bridge, bridge_settings[i].key);
        (void)file_write_text(path, bridge_settings[i].value);
    }
    r = add_address(networks->rtnl, index, &network->gateway4, err);
    if (r == 0)
        r = add_address(networks->rtnl, index, &network->gateway6, err);
    return r < 0 ? r : rtnl_link_set_up(networks->rtnl, index, true, err);
}

static bool is_wanted(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state->network_count; i++)
        if (strcmp(state->networks[i].bridge, name) == 0)
            return true;
    for (size_t i = 0; i < state->attachment_count; i++)
        if (strcmp(state->attachments[i].host_interface, name) == 0)
            return true;
    return false;
}

static bool is_made_by_us(const struct rtnl_link *link)
{
    return (strncmp(link->name, "cb", 2) == 0 && strcmp(link->kind, "bridge") == 0) ||
           (strncmp(link->name, "cv", 2) == 0 && strcmp(link->kind, "veth") == 0);
}

static int remove_unwanted(struct networks *networks, const struct rtnl_link *links, size_t count,
                           struct error *err)
{
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        int r;

        if (!is_made_by_us(&links[i]) || is_wanted(&networks->state, links[i].name))
            continue;
        r = rtnl_link_delete(networks->rtnl, links[i].index, NULL);
        /* Gone meanwhile with its namespace: as wished. */
        if (r < 0 && r != -ENODEV)
            result = error_set(err, -r, "net.kernel", NULL, "removing %s: %s", links[i].name,
                               strerror(-r));
    }
    return result;
}

/* The node's end of an interface: on its bridge and up, after the rules know it. */
static int plug(struct networks *networks, const struct attachment *attachment,
                const struct rtnl_link *links, size_t count, struct error *err)
{
    const struct network *network = state_network(
        &networks->state, attachment->instance.reservation, attachment->network);
    const struct rtnl_link *port = find_link(links, count, attachment->host_interface);
    const struct rtnl_link *bridge =
        network != NULL ? find_link(links, count, network->bridge) : NULL;
    int r;

    if (port == NULL || bridge == NULL || (port->master == bridge->index && (port->flags & IFF_UP)))
        return 0;
    r = rtnl_link_set_no_autoconf(networks->rtnl, port->index, err);
    if (r == 0)
        r = rtnl_link_set_master(networks->rtnl, port->index, bridge->index, err);
    if (r == 0)
        r = rtnl_bridge_port_set(networks->rtnl, port->index, false, err);
    return r < 0 ? r : rtnl_link_set_up(networks->rtnl, port->index, true, err);
}

static int apply_rules(struct networks *networks, struct error *err)
{
    bool first;
    int r;

    if (networks->firewall == NULL) {
        if (err != NULL && !error_is_set(err))
            *err = networks->no_firewall;
        return -ENOTSUP;
    }
    first = !firewall_ready(networks->firewall);
    r = firewall_apply(networks->firewall, &networks->state, networks->links, err);
    /* Nothing is forwarded before there are rules. */
    if (r == 0 && first)
        set_forwarding();
    return r;
}

int networks_links_changed(struct networks *networks, struct error *err)
{
    return apply_rules(networks, err);
}

/* One reservation's trouble is not another's: who asked for `reservation` hears of that one (0: of all). */
static int keep_failure(int result, int r, uint64_t owner, uint64_t reservation, struct error *from,
                        struct error *err)
{
    if (r == 0)
        return result;
    if (owner != reservation && reservation != 0) {
        log_error(from, "networks");
        r = 0;
    } else if (err != NULL && !error_is_set(err)) {
        *err = *from;
    }
    error_clear(from);
    return result < 0 ? result : r;
}

int networks_converge(struct networks *networks, uint64_t reservation, struct error *err)
{
    struct state *state = &networks->state;
    struct rtnl_link *links = NULL;
    struct error one = {0};
    size_t count = 0;
    int r = apply_rules(networks, err);

    if (r == 0)
        r = rtnl_links(networks->rtnl, &links, &count, err);
    if (r < 0)
        return r;
    r = remove_unwanted(networks, links, count, err);
    for (size_t i = 0; i < state->network_count; i++)
        r = keep_failure(r, make_bridge(networks, &state->networks[i], links, count, &one),
                         state->networks[i].reservation, reservation, &one, err);
    free(links);
    links = NULL;
    if (rtnl_links(networks->rtnl, &links, &count, err) < 0)
        return -EIO;
    for (size_t i = 0; i < state->attachment_count; i++)
        r = keep_failure(r, plug(networks, &state->attachments[i], links, count, &one),
                         state->attachments[i].instance.reservation, reservation, &one, err);
    free(links);
    networks->changed(networks->data);
    return r;
}

/* Saves the state, then lets the kernel follow. */
static int commit(struct networks *networks, uint64_t reservation, struct error *err)
{
    int r = state_save(&networks->state, err);

    return r < 0 ? r : networks_converge(networks, reservation, err);
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

int networks_ensure(struct networks *networks, uint64_t reservation, const char *name, bool internal,
                    const struct network **ret_network, struct error *err)
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
        network = busy != NULL ? state_add_network(&networks->state) : NULL;
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
    r = commit(networks, reservation, err);
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
        r = add_address(inside, index, &address4, err);
    if (r == 0)
        r = add_address(inside, index, &address6, err);
    if (r == 0)
        r = add_address(inside, index, &link, err);
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
    uint64_t hash = state_hash("port", attachment->instance.reservation,
                               attachment->instance.revision, attachment->instance.service,
                               attachment->network);
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
    veth = find_link(links, count, attachment->host_interface);
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
        return error_set(err, errno, "net.bad-namespace", NULL, "%.200s: %s", path, strerror(errno));
    if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
        close(fd);
        return error_set(err, EINVAL, "net.bad-namespace", NULL,
                         "%.200s is no network namespace", path);
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
        r = state_choose_host(&networks->state, attachment);
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
    const struct network *network = state_network(
        &networks->state, attachment->instance.reservation, attachment->network);
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
    r = commit(networks, instance->reservation, err);
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
    r = commit(networks, reservation, err);
    for (size_t i = 0; i < count && networks->firewall != NULL; i++)
        if (firewall_flush_net(networks->firewall, &old[i].gateway4, &old[i].gateway6, &flush) < 0)
            log_error(&flush, "connections");
    free(old);
    return r;
}

/* ---- ports and names ---- */

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

    for (size_t j = 0; j < i; j++)
        if (ports[j].protocol == port->protocol && ports[j].published == port->published)
            return error_set(err, EINVAL, "net.bad-request", NULL, "port %u/%s is published twice",
                             port->published, protocol_name(port->protocol));
    for (size_t j = 0; j < networks->state.port_count; j++) {
        const struct port *other = &networks->state.ports[j];

        if (other->reservation != port->reservation && other->protocol == port->protocol &&
            other->published == port->published)
            return error_set(err, EADDRINUSE, "net.port-in-use", "publish another port",
                             "port %u/%s of this node is used by another reservation",
                             port->published, protocol_name(port->protocol));
    }
    if (ports_used_by_node(&networks->state, port->protocol, port->published, &owner))
        return error_set(err, EADDRINUSE, "net.port-in-use", "publish another port",
                         "port %u/%s is used by %s", port->published, protocol_name(port->protocol),
                         owner);
    if (outward(networks, port, &attached) == NULL)
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

    *published = (struct published){.port = *port};
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
        return now.known && address_equal(&now.target4, &old->target4);
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
        r = commit(networks, reservation, err);
    for (size_t i = 0; r == 0 && i < old_count; i++)
        if (old[i].known && !still_published(networks, &old[i]) &&
            firewall_flush_port(networks->firewall, &old[i].port, &old[i].target4, &old[i].target6,
                                &flush) < 0)
            log_error(&flush, "connections");
    free(old);
    return r;
}
