/*
 * tx.h - EIP-1559 transactions: building and signing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/crypto/ecdsa.h"

struct eth_tx {
    uint64_t chain_id;
    uint64_t nonce;
    uint64_t max_priority_fee; /* wei per gas */
    uint64_t max_fee;
    uint64_t gas;
    uint8_t to[ETH_ADDRESS_SIZE];
    uint8_t value[32]; /* wei, big-endian */
    const uint8_t *data;
    size_t data_len;
};

/* Appends the signed transaction (type byte 2 and RLP) to out; ret_hash is its transaction hash. 0, -EINVAL, -ENOMEM. */
int eth_tx_sign(const struct eth_tx *tx, const uint8_t key[ECDSA_KEY_SIZE], struct buffer *out,
                uint8_t ret_hash[32]);
