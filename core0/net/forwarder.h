/*
 * forwarder.h - the DNS server on every bridge's gateway: service names here, the rest from the links' servers.
 *
 * Over UDP and TCP. Each forwarded question has a socket, a random port and a random number of its own, so that an
 * answer cannot be guessed. All is bounded: questions in flight, by node and by network, connections, sizes, time.
 */
#pragma once

#include "lib/loop.h"
#include "links.h"
#include "state.h"

struct forwarder;

int forwarder_new(struct loop *loop, struct state *state, const struct links *links,
                  struct forwarder **ret_forwarder);
void forwarder_free(struct forwarder *forwarder);
/* Listens on the gateways of the state's networks and nowhere else. */
void forwarder_follow(struct forwarder *forwarder);
