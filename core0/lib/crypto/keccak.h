/*
 * keccak.h - Keccak-256 as Ethereum uses it (the padding of the 2011 submission, not that of SHA3-256).
 *
 * Our own file because no library of the image has it: mbedTLS knows only FIPS 202's SHA-3, whose domain
 * byte differs, and libsecp256k1 has none.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define KECCAK256_SIZE 32

struct keccak {
    uint64_t state[25];
    size_t fill; /* bytes of the block absorbed so far, < 136 */
};

void keccak_init(struct keccak *keccak);
void keccak_update(struct keccak *keccak, const void *data, size_t len);
void keccak_final(struct keccak *keccak, uint8_t ret_hash[KECCAK256_SIZE]);

void keccak256(const void *data, size_t len, uint8_t ret_hash[KECCAK256_SIZE]);
