/*
 * hpke.h - X25519 (RFC 7748) and HPKE (RFC 9180), base mode, one message per key:
 * DHKEM(X25519, HKDF-SHA256) / HKDF-SHA256 / AES-256-GCM. This is how reservations are sealed to a node.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"

#define X25519_SIZE 32
#define HPKE_OVERHEAD (X25519_SIZE + 16) /* enc and the tag of AES-GCM */

void x25519_generate(uint8_t ret_private[X25519_SIZE], uint8_t ret_public[X25519_SIZE]);
int x25519_public(const uint8_t private_key[X25519_SIZE], uint8_t ret_public[X25519_SIZE]);
/* 0, or -EINVAL for a peer's key of small order (all-zero result, RFC 7748 section 6.1). */
int x25519_shared(const uint8_t private_key[X25519_SIZE], const uint8_t peer[X25519_SIZE],
                  uint8_t ret_shared[X25519_SIZE]);

/* Appends enc ‖ ciphertext to out. aad may be NULL. 0, -EINVAL (bad public key), -ENOMEM, -EFBIG. */
int hpke_seal(const uint8_t public_key[X25519_SIZE], const void *info, size_t info_len,
              const void *aad, size_t aad_len, const void *plain, size_t plain_len,
              struct buffer *out);
/* As hpke_seal with the ephemeral key and the AEAD given (1: AES-128-GCM, 2: AES-256-GCM): for test vectors only, as RFC 9180
 * prints none for X25519 with AES-256. */
int hpke_seal_with(unsigned aead, const uint8_t ephemeral[X25519_SIZE],
                   const uint8_t public_key[X25519_SIZE], const void *info, size_t info_len,
                   const void *aad, size_t aad_len, const void *plain, size_t plain_len,
                   struct buffer *out);
/* Appends the plaintext to out. -EBADMSG: it was not sealed to this key with this info and aad. */
int hpke_open(const uint8_t private_key[X25519_SIZE], const void *info, size_t info_len,
              const void *aad, size_t aad_len, const void *sealed, size_t sealed_len,
              struct buffer *out);
