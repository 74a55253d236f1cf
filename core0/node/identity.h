/*
 * identity.h - the node's seed and sealing keys, kept on every pool.
 *
 * File <pools>/<uuid>/identity/identity.json, mode 0600: {"version":1,"protection":"none","address","generation","seed","keys":[…]}.
 * A sealing key lies in two shares, which xor to it: one in identity.json, the other in a block of its own in epoch-<N>.share beside
 * it, which is overwritten where it lies when the key is destroyed (docs/decisions/0161). The key itself is never written.
 * The generation rises with every change. Same address: the highest generation wins and refreshes the others. Several
 * addresses: the one on most pools, a tie is refused; pools of another address are left alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define IDENTITY_KEYS_MAX 128 /* sealing keys kept: ten years of months */
#define IDENTITY_POOLS_MAX 128
#define IDENTITY_KEY_LIFE ((int64_t)30 * 86400) /* seconds: a new epoch at least monthly */

struct sealing_key {
    uint32_t epoch;
    int64_t created; /* Unix seconds */
    uint8_t private_key[32];
    uint8_t public_key[32];
    uint8_t share[32]; /* the one of its own file */
};

struct identity {
    uint8_t seed[32];
    uint64_t generation;
    struct sealing_key keys[IDENTITY_KEYS_MAX]; /* by epoch, rising */
    size_t key_count;
    /* derived */
    uint8_t key[32]; /* secp256k1 */
    uint8_t address[20];
    uint8_t tls_key_hash[32];
    char foreign[512]; /* pools that hold another identity, for a person; "" if none */
};

/* Finds or makes the identity on the pools under `pools`. Errors: node.no-pool, node.identity-conflict, node.identity-damaged. */
int identity_open(const char *pools, int64_t now, struct identity *ret_identity, struct error *err);
/* Writes it to every pool that is empty or has the same address. At least one must take it. */
int identity_save(const char *pools, struct identity *identity, struct error *err);
/* A new sealing key with this epoch, the current one from now on; saved before it returns. */
int identity_rotate(const char *pools, struct identity *identity, uint32_t epoch, int64_t now,
                    struct error *err);
/* Destroys every key that `needed` does not want, but for the current one: saves, then overwrites their shares on every pool.
 * Returns how many. */
int identity_forget(const char *pools, struct identity *identity,
                    bool (*needed)(const struct sealing_key *key, const void *data),
                    const void *data, struct error *err);
/* Whether a new key is due at this time. */
bool identity_due(const struct identity *identity, int64_t now);
/* The P-256 key of the node's listener, which the seed gives and whose hash the registration holds. The caller wipes it. */
void identity_tls_key(const struct identity *identity, uint8_t ret_key[32]);
const struct sealing_key *identity_key(const struct identity *identity,
                                       uint32_t epoch); /* NULL: unknown */
const struct sealing_key *identity_current(const struct identity *identity);
void identity_wipe(struct identity *identity);
