/*
 * networks.h - bridges, attachments, published ports and names: what org.croft.net promises to provd.
 *
 * Each call changes the state, saves it, and then makes the kernel follow (networks_converge), which is also what a
 * restarted netd does first. So a netd that is killed anywhere leaves something that the next one completes.
 */
#pragma once

#include "firewall.h"
#include "lib/error.h"
#include "links.h"
#include "state.h"

struct networks;

/* links must outlive it. A kernel without nf_tables is no failure here: every request is refused then. changed is
 * called when networks came or went (DNS listens on their gateways). */
int networks_new(const struct links *links, const char *state_path, void (*changed)(void *data),
                 void *data, struct networks **ret_networks, struct error *err);
void networks_free(struct networks *networks);
struct state *networks_state(struct networks *networks);

/* Makes bridges, rules and forwarding those of the state; removes what no state names. A failure of another
 * reservation than this one is only logged; 0: of any is told. */
int networks_converge(struct networks *networks, uint64_t reservation, struct error *err);
/* Something about the links is different: only the rules may change. */
int networks_links_changed(struct networks *networks, struct error *err);

int networks_ensure(struct networks *networks, uint64_t reservation, const char *name,
                    bool internal, const struct network **ret_network, struct error *err);
int networks_attach(struct networks *networks, const struct instance *instance, const char *network,
                    const char *netns, const struct attachment **ret_attachment, struct error *err);
int networks_detach(struct networks *networks, const struct instance *instance, struct error *err);
int networks_expose(struct networks *networks, uint64_t reservation, const struct port *ports,
                    size_t port_count, const struct name *names, size_t name_count,
                    struct error *err);
int networks_remove(struct networks *networks, uint64_t reservation, struct error *err);

/* All links of the kernel: which attachments and bridges are really there. free() the list. */
int networks_links(struct networks *networks, struct rtnl_link **ret_links, size_t *ret_count,
                   struct error *err);

/* ports.c: does a program of the node itself listen there (on more than loopback and gateways). */
bool ports_used_by_node(const struct state *state, uint8_t protocol, uint16_t port,
                        const char **ret_owner);
/* One line of /proc/net/{tcp,udp}{,6} (fuzzed). -EBADMSG: none. */
int ports_parse_line(const char *line, uint8_t family, struct address *ret_address,
                     uint16_t *ret_port, unsigned *ret_state);
