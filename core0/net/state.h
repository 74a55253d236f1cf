/*
 * state.h - what provd asked for: networks, attachments, ports, names. The intention; the kernel is made to follow.
 *
 * Kept as one JSON file on tmpfs, written before the kernel is changed: a netd that is killed anywhere finds it and
 * converges (networks.h), and what the kernel holds beyond it is removed. It does not outlive a reboot, as no bridge
 * does. Numbers and addresses are derived from names by a hash, so that they are mostly the same after a reboot too.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "lib/error.h"
#include "lib/netlink/rtnl.h"

#define STATE_NETWORKS_MAX 4096    /* of the node */
#define STATE_ATTACHMENTS_MAX 8192 /* of the node; 253 per network, by its /24 */
#define STATE_HOSTS_MAX 253        /* of a network: .2 to .254 of its /24 */
#define STATE_PORTS_MAX 4096       /* of the node */
#define STATE_NAMES_MAX 16384      /* of the node */
#define STATE_SERVICE_MAX 63
#define STATE_NAME_MAX 253
#define STATE_GATE_PORT 4443 /* TCP: the remote listener, as in lib/grid/access.h */
/* Targets that a local port may have: the node's key-value servers (core0/storage/space_server.c). */
#define STATE_LOCAL_FIRST 61000
#define STATE_LOCAL_LAST 61063
#define STATE_FILE_MAX ((size_t)16 << 20)

struct instance {
    uint64_t reservation;
    uint32_t revision;
    char service[STATE_SERVICE_MAX + 1];
};

struct network {
    uint64_t reservation;
    char name[STATE_SERVICE_MAX + 1];
    bool internal;
    char bridge[IF_NAMESIZE];
    struct address gateway4; /* …1/24 */
    struct address gateway6; /* …::1/64 */
};

struct attachment {
    struct instance instance;
    char network[STATE_SERVICE_MAX + 1];
    uint8_t host;                /* last part of both addresses, 2 … 254 */
    char interface[IF_NAMESIZE]; /* inside: eth0, eth1 */
    char host_interface[IF_NAMESIZE];
};

struct port {
    uint64_t reservation;
    uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
    uint16_t published, target;
    uint32_t revision;
    char service[STATE_SERVICE_MAX + 1];
    /* The target is a program of the node instead of a container: `service` is then a name of its own, which the
     * reservation's containers find at their gateways. */
    bool local;
    bool inside; /* local only: for these containers alone, not for the world */
};

struct name {
    uint64_t reservation;
    char network[STATE_SERVICE_MAX + 1];
    char name[STATE_NAME_MAX + 1]; /* lower case */
    uint32_t revision;
    char service[STATE_SERVICE_MAX + 1];
};

struct state {
    const char *path;
    uint8_t ula[6]; /* fd and 40 bits; zeros: not chosen yet */
    struct network *networks;
    struct attachment *attachments;
    struct port *ports;
    struct name *names;
    size_t network_count, attachment_count, port_count, name_count;
};

void state_done(struct state *state);
/* Absent: an empty state. -EBADMSG with *err: it cannot be read; the state is empty then. */
int state_load(struct state *state, const char *path, struct error *err);
int state_parse(struct state *state, const char *text, size_t len, struct error *err);
int state_save(const struct state *state, struct error *err);

struct network *state_network(struct state *state, uint64_t reservation, const char *name);
struct attachment *state_attachment(struct state *state, const struct instance *instance,
                                    const char *network);
/* NULL when the limit or memory is reached. Pointers into the lists end with the next addition. */
struct network *state_add_network(struct state *state);
struct attachment *state_add_attachment(struct state *state);
int state_add_port(struct state *state, const struct port *port);
int state_add_name(struct state *state, const struct name *name);
bool instance_equal(const struct instance *a, const struct instance *b);

/* Removes the rows that `which` picks; each list alone. */
void state_drop_networks(struct state *state, uint64_t reservation);
void state_drop_attachments(struct state *state, uint64_t reservation,
                            const struct instance *instance);
void state_drop_published(struct state *state, uint64_t reservation); /* ports and names */

/* Puts networks, attachments and ports into an order of their own: rules and answers then tell nothing about the
 * order of the calls, so the same wishes make the same rules whatever came between. Pointers into the lists end. */
void state_sort(struct state *state);

/* Addresses and MACs that follow from the rows. */
void attachment_addresses(const struct network *network, const struct attachment *attachment,
                          struct address *ret_4, struct address *ret_6);
void attachment_mac(const struct attachment *attachment, uint8_t mac[RTNL_MAC_LEN]);
void attachment_link_local(const struct attachment *attachment, struct address *ret_address);

/* Chooses bridge name and subnets of a new network: none that another network or one of the `busy` prefixes (the
 * node's links, gateways, servers) overlaps. -ENOSPC. */
int state_choose_subnets(struct state *state, struct network *network, const struct address *busy,
                         size_t busy_count, const uint8_t *node_mac);
/* Chooses host number and names of a new attachment, of `most` hosts (STATE_HOSTS_MAX). -ENOSPC. */
int state_choose_host(struct state *state, struct attachment *attachment, size_t most);

uint64_t state_hash(const char *kind, uint64_t reservation, uint32_t revision, const char *a,
                    const char *b);
