/*
 * message.h - what a node signs and a relay submits: six kinds of typed messages (docs/formats.md, sections 3 and 11).
 *
 * Everything follows from one table: the EIP-712 type string gives names and types of the members, for the digest, the call's
 * data and the JSON between node and relay alike.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/crypto/ecdsa.h"
#include "lib/error.h"
#include "lib/eth/abi.h"

enum grid_kind {
    GRID_REGISTER,
    GRID_REPORT,
    GRID_PROFILE,
    GRID_KEY_EPOCH,
    GRID_RESULT,
    GRID_JOIN, /* of a Pending node: signed by a join token, without nonce and boot id */
    GRID_KIND_COUNT
};

#define GRID_MEMBERS_MAX 12
#define GRID_MESSAGE_MAX 8192 /* bytes of a message as JSON */
#define GRID_ADDRESSES_MAX 4
#define GRID_HOST_MAX 253

struct grid_kind_info {
    const char *name;  /* "report": also the last part of the relay's path, /v1/report */
    const char *type;  /* EIP-712 */
    const char *call;  /* function that takes it */
    bool reservations; /* verifyingContract is Reservations, else the registry */
    uint64_t gas;      /* more than it ever needs: for when it cannot be estimated yet */
};
extern const struct grid_kind_info grid_kinds[GRID_KIND_COUNT];
int grid_kind_find(const char *name, enum grid_kind *ret_kind); /* -ENOENT */

struct grid_chain {
    uint64_t chain_id;
    uint8_t registry[20];
    uint8_t reservations[20];
};

struct grid_message {
    enum grid_kind kind;
    struct abi_value values[GRID_MEMBERS_MAX];
    size_t count;
    uint8_t signature[ECDSA_SIGNATURE_SIZE];
    uint8_t join[ECDSA_SIGNATURE_SIZE]; /* of a registration */
    bool joined;                        /* join is there */
    uint64_t
        number; /* of GRID_JOIN: the node's, which the contract wants and the token does not sign */
    struct abi_value hosts[GRID_ADDRESSES_MAX]; /* items of `addresses` */
    char host_text[GRID_ADDRESSES_MAX][GRID_HOST_MAX + 1];
};

/* A message refers into itself: copy it with this, never by assignment. */
void grid_message_copy(const struct grid_message *from, struct grid_message *ret_to);

/* Members by name; a programming error (no such member) aborts. */
void grid_message_init(struct grid_message *message, enum grid_kind kind); /* all zero */
void grid_message_set_uint(struct grid_message *message, const char *member, uint64_t value);
void grid_message_set_word(struct grid_message *message, const char *member,
                           const uint8_t word[32]);
void grid_message_set_address(struct grid_message *message, const char *member,
                              const uint8_t address[20]);
int grid_message_set_hosts(struct grid_message *message, const char *const *hosts,
                           size_t count); /* -EINVAL */
uint64_t grid_message_uint(const struct grid_message *message, const char *member);
uint64_t grid_message_nonce(const struct grid_message *message); /* 0: its kind has none */
const uint8_t *grid_message_word(const struct grid_message *message, const char *member);

int grid_message_digest(const struct grid_message *message, const struct grid_chain *chain,
                        uint8_t ret_digest[32]);
int grid_message_sign(struct grid_message *message, const struct grid_chain *chain,
                      const uint8_t key[ECDSA_KEY_SIZE]);
/* Who signed it. -EBADMSG. */
int grid_message_signer(const struct grid_message *message, const struct grid_chain *chain,
                        uint8_t ret_address[20]);
/* A join token's signature over (farm, node). */
int grid_join_digest(const struct grid_chain *chain, uint64_t farm, const uint8_t node[20],
                     uint8_t ret_digest[32]);

/* The call's data; appended. */
int grid_message_call(const struct grid_message *message, struct buffer *out);
/* {"message":{…},"signature":"0x…"[,"join":"0x…"][,"number":N]}; appended. */
int grid_message_to_json(const struct grid_message *message, struct buffer *out);
/* Error code relay.bad-message. */
int grid_message_from_json(enum grid_kind kind, const char *text, size_t len,
                           struct grid_message *ret_message, struct error *err);
