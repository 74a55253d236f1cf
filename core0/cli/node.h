/*
 * node.h - a node's record in the registry.
 */
#pragma once

#include "cli/grid.h"

#define NODE_ADDRESSES_MAX 4
#define NODE_ACTIVE 2

struct node_record {
    uint64_t number, farm, nonce, last_report, registered, replaced_by;
    unsigned state, run_mode;
    bool ephemeral;
    uint32_t key_epoch;
    uint8_t identity[20];
    uint8_t boot_id[32], capacity[32], reserved[32], sealing_key[32], tls_key_hash[32],
        image_digest[32];
    char addresses[NODE_ADDRESSES_MAX][256];
    size_t address_count;
};

/* node.unknown when there is none. */
int node_read(const struct grid *grid, uint64_t number, struct node_record *ret_record,
              struct error *err);
const char *node_state_name(unsigned state);
