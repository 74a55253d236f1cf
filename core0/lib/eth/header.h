/*
 * header.h - a block header rebuilt from JSON-RPC fields: its hash is computed here, never taken from the answer.
 */
#pragma once

#include <stdint.h>
#include <yyjson.h>

#include "lib/buffer.h"
#include "lib/error.h"

struct eth_header {
    uint64_t number;
    uint64_t timestamp; /* Unix seconds */
    uint64_t gas_limit;
    uint64_t base_fee; /* wei; 0 before London, UINT64_MAX when it does not fit */
    uint8_t hash[32];
    uint8_t parent[32];
    uint8_t state_root[32];
    uint8_t receipts_root[32];
};

/* Rebuilds the header's RLP (forks up to Osaka: fields follow from which are present, and must be present in order),
 * and compares its Keccak-256 with the block's "hash". Error code chain.bad-header. */
int eth_header_from_json(yyjson_val *block, struct eth_header *ret_header, struct error *err);
/* Only the RLP; appended to out. */
int eth_header_rlp(yyjson_val *block, struct buffer *out, struct error *err);
/* Fills the struct from RLP alone (the hash is that of the bytes). 0 or -EBADMSG. */
int eth_header_from_rlp(const uint8_t *rlp, size_t len, struct eth_header *ret_header);
