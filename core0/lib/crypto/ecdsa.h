/*
 * ecdsa.h - secp256k1 signatures with recovery, and the addresses that Ethereum makes of keys.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ECDSA_KEY_SIZE 32
#define ECDSA_SIGNATURE_SIZE 65 /* r ‖ s ‖ v, v = 27 or 28; s in the lower half (EIP-2) */
#define ETH_ADDRESS_SIZE 20

bool ecdsa_key_valid(const uint8_t key[ECDSA_KEY_SIZE]); /* in 1 … n-1 */
void ecdsa_key_generate(uint8_t ret_key[ECDSA_KEY_SIZE]);

enum ecdsa_curve { ECDSA_SECP256K1, ECDSA_P256 };
/* A private key from 32 secret bytes: int(HKDF-SHA256(seed, label, 48 bytes)) mod (n - 1) + 1, big-endian, n the curve's
 * order (docs/formats.md, section 9; FIPS 186-5 A.2.1). */
void ecdsa_key_derive(const uint8_t seed[32], const char *label, enum ecdsa_curve curve,
                      uint8_t ret_key[ECDSA_KEY_SIZE]);
/* 64 bytes x ‖ y; 0 or -EINVAL. */
int ecdsa_public(const uint8_t key[ECDSA_KEY_SIZE], uint8_t ret_public[64]);
int ecdsa_address(const uint8_t key[ECDSA_KEY_SIZE], uint8_t ret_address[ETH_ADDRESS_SIZE]);
/* Deterministic (RFC 6979). 0 or -EINVAL (bad key). */
int ecdsa_sign(const uint8_t key[ECDSA_KEY_SIZE], const uint8_t digest[32],
               uint8_t ret_signature[ECDSA_SIGNATURE_SIZE]);
/* The address that signed, or -EBADMSG. v 0/1 is taken as 27/28; a high s is refused as OpenZeppelin does. */
int ecdsa_recover(const uint8_t digest[32], const uint8_t signature[ECDSA_SIGNATURE_SIZE],
                  uint8_t ret_address[ETH_ADDRESS_SIZE]);
