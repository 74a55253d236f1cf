/*
 * heads.h - learns of new blocks: eth_subscribe newHeads over WebSocket, checked for life, with polling as fall-back.
 *
 * Every endpoint of the client is tried as WebSocket (http as ws on the same port) until one subscribes. While subscribed a
 * ping goes out every 4 s; 4 s without its pong, or 30 s without a head that one eth_blockNumber contradicts, make it a dead
 * connection. While no WebSocket works eth_getBlockByNumber("latest") is asked every 5 s. So a change is learned of within
 * a second normally, and within 15 s when the connection is black-holed and another endpoint or connection works.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/eth/rpc.h"

struct eth_heads;

/* A head that differs from the one before (a reorganisation may lower the number). Unverified: number and hash as the
 * endpoint says. Also called once after each (re)connection. */
typedef void eth_heads_fn(uint64_t number, const uint8_t hash[32], void *data);
/* reachable: some endpoint answered last time. err is set when not. Called on changes only. */
typedef void eth_heads_state_fn(bool reachable, bool subscribed, const struct error *err,
                                void *data);

int eth_heads_new(struct loop *loop, struct eth_rpc *rpc, eth_heads_fn *fn,
                  eth_heads_state_fn *state_fn, void *data, struct eth_heads **ret_heads);
void eth_heads_free(struct eth_heads *heads);
/* WebSocket messages sent (pings not counted); what it asks over HTTP counts in eth_rpc_requests(). */
uint64_t eth_heads_requests(const struct eth_heads *heads);
