/*
 * access.h - how a caller proves to a node's gate who it is (docs/formats.md, section 13).
 *
 * The gate hands out a challenge, the caller signs the method's name over it, and the signature travels in the header
 * Authorization of the one call that it is good for. Both sides use these functions.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/crypto/ecdsa.h"
#include "lib/error.h"

#define GRID_ACCESS_NONCE_SIZE 32
#define GRID_ACCESS_METHOD_MAX 32  /* bytes of a method's name */
#define GRID_ACCESS_HEADER_MAX 222 /* characters of the header's value, and the NUL */
#define GRID_CHALLENGE_MAX 1024    /* bytes of a challenge as JSON */
#define GRID_GATE_PORT 4443        /* where a node's gate listens */
#define GRID_ACCESS_SIGNATURE ECDSA_SIGNATURE_SIZE

extern const char grid_access_type[]; /* EIP-712 */

/* What a gate hands out. The caller compares everything but nonce and expires with what it knows from the chain. */
struct grid_challenge {
    uint64_t node;
    uint64_t reservation; /* 0: the node itself, for its farmer */
    uint8_t nonce[GRID_ACCESS_NONCE_SIZE];
    uint64_t expires; /* seconds since 1970 */
    uint64_t chain_id;
    uint8_t reservations[ETH_ADDRESS_SIZE]; /* the contract: verifyingContract */
};

/* The EIP-712 digest of Access over a challenge. 0, -EINVAL (method longer than GRID_ACCESS_METHOD_MAX). */
int grid_access_digest(const struct grid_challenge *challenge, const char *method,
                       uint8_t ret_digest[32]);
/* 0, -EINVAL (method, or a bad key). */
int grid_access_sign(const struct grid_challenge *challenge, const char *method,
                     const uint8_t key[ECDSA_KEY_SIZE],
                     uint8_t ret_signature[GRID_ACCESS_SIGNATURE]);
/* Who signed it. 0, -EINVAL (method), -EBADMSG (no signature of anybody). */
int grid_access_signer(const struct grid_challenge *challenge, const char *method,
                       const uint8_t signature[GRID_ACCESS_SIGNATURE],
                       uint8_t ret_address[ETH_ADDRESS_SIZE]);

/* The value of the header: "Croft nonce=0x…,signature=0x…". */
void grid_access_header_format(const uint8_t nonce[GRID_ACCESS_NONCE_SIZE],
                               const uint8_t signature[GRID_ACCESS_SIGNATURE],
                               char ret_value[GRID_ACCESS_HEADER_MAX]);
/* The same back from len bytes. The scheme's case does not count (RFC 9110, section 11.1), everything else is exact.
 * 0 or -EINVAL. */
int grid_access_header_parse(const char *value, size_t len,
                             uint8_t ret_nonce[GRID_ACCESS_NONCE_SIZE],
                             uint8_t ret_signature[GRID_ACCESS_SIGNATURE]);

/* {"node":N,"reservation":N,"nonce":"0x…","expires":N,"chainId":N,"reservations":"0x…"}; appended. 0 or -ENOMEM. */
int grid_challenge_to_json(const struct grid_challenge *challenge, struct buffer *out);
/* Further members are ignored. Error code gate.bad-answer. */
int grid_challenge_from_json(const char *text, size_t len, struct grid_challenge *ret_challenge,
                             struct error *err);
