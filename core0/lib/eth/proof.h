/*
 * proof.h - Merkle-Patricia proofs (yellow paper, appendix D; EIP-1186): what eth_getProof answers, checked.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"

struct eth_proof_node {
    const uint8_t *data;
    size_t len;
};

#define ETH_PROOF_NODES_MAX 64       /* a path has at most 64 nibbles */
#define ETH_PROOF_NODE_SIZE_MAX 1024 /* bytes; a branch of 16 hashes and a value has less */

/* Follows key (32 bytes: the hash of address or slot) from root through nodes.
 * 1: it is there, *ret_value points into the last node. 0: it is proved to be absent. -EBADMSG: the proof proves nothing.
 * Nodes that the path does not need are refused too. */
int eth_proof_follow(const uint8_t root[32], const uint8_t *key, size_t key_len,
                     const struct eth_proof_node *nodes, size_t count, const uint8_t **ret_value,
                     size_t *ret_len);

struct eth_account {
    uint64_t nonce;
    uint8_t balance[32];
    uint8_t storage_root[32];
    uint8_t code_hash[32];
};

/* The account of an eth_getProof result. An absent one: zeroes with the hashes of the empty trie and no code, and 0;
 * a present one: 1. Error code chain.bad-proof. */
int eth_proof_account(yyjson_val *result, const uint8_t state_root[32], const uint8_t address[20],
                      struct eth_account *ret_account, struct error *err);
/* The value of one slot under a storage root from the same result (zero where absent). 0 or -EBADMSG with chain.bad-proof. */
int eth_proof_slot(yyjson_val *result, const uint8_t storage_root[32], const uint8_t slot[32],
                   uint8_t ret_value[32], struct error *err);
/* Both: the values of `count` slots of the account under a state root. An account that is absent or has no code is an error. */
int eth_proof_slots(yyjson_val *result, const uint8_t state_root[32], const uint8_t address[20],
                    const uint8_t (*slots)[32], size_t count, uint8_t (*ret_values)[32],
                    struct error *err);
