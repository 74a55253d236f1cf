/*
 * hash.h - SHA-256, HMAC, HKDF, random bytes, comparing and wiping of secrets; over mbedTLS and the kernel.
 *
 * None of these can fail for reasons that a caller could handle: a broken mbedTLS build or a kernel without
 * getrandom(2) aborts the program (crash-only), which is safer than going on with bytes that are not random.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

struct sha256 {
    union {
        uint64_t align;
        uint8_t bytes[256]; /* room for mbedTLS's context; checked at compile time */
    } state;
};

void sha256_init(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *data, size_t len);
void sha256_final(struct sha256 *sha, uint8_t ret_hash[SHA256_SIZE]); /* also wipes */
void sha256(const void *data, size_t len, uint8_t ret_hash[SHA256_SIZE]);

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t ret_mac[SHA256_SIZE]);
/* RFC 5869. salt may be NULL (then 32 zero bytes). out_len at most 255 * 32. */
void hkdf_sha256_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                         uint8_t ret_prk[SHA256_SIZE]);
void hkdf_sha256_expand(const uint8_t prk[SHA256_SIZE], const void *info, size_t info_len,
                        void *ret_out, size_t out_len);
/* Both steps without salt, info = label: how the node's keys come from its seed. */
void hkdf_sha256(const void *ikm, size_t ikm_len, const char *label, void *ret_out, size_t out_len);

void crypto_random(void *ret_data,
                   size_t len); /* getrandom(2); blocks until the kernel is seeded */
/* For mbedTLS functions that want a generator: (f_rng, NULL). */
int crypto_random_mbedtls(void *unused, unsigned char *ret_data, size_t len);
bool crypto_equal(const void *a, const void *b, size_t len); /* time independent of the content */
void crypto_wipe(void *data, size_t len);                    /* not removed by the compiler */
