/*
 * firewall.h - the node's whole rule set, computed from the state and the links, replaced in one transaction.
 *
 * Table `inet croft`: what enters the node, what passes between links and bridges, published ports, address
 * translation. Table `bridge croft`: a container sends only as itself. docs/networking.md says what is closed.
 */
#pragma once

#include "lib/error.h"
#include "lib/netlink/netlink.h"
#include "links.h"
#include "state.h"

struct firewall;

int firewall_new(struct firewall **ret_firewall, struct error *err);
void firewall_free(struct firewall *firewall);
/* Makes the kernel's rules those of state and links; nothing is sent when they would be the same. */
int firewall_apply(struct firewall *firewall, struct state *state, const struct links *links,
                   struct error *err);
bool firewall_ready(const struct firewall *firewall); /* was a rule set taken by the kernel */

/* Ends the connections of a port that is published no longer, or of a subnet that is gone. Returns how many. */
int firewall_flush_port(struct firewall *firewall, const struct port *port,
                        const struct address *target4, const struct address *target6,
                        struct error *err);
int firewall_flush_net(struct firewall *firewall, const struct address *net4,
                       const struct address *net6, struct error *err);

/* The closed ranges, for documentation and tests: rows until family 0. */
const struct address *firewall_closed(void);
