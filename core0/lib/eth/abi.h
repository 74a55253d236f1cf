/*
 * abi.h - Solidity's contract ABI, driven by signatures: "propose((uint64,bytes32,bytes,string[]),address)".
 *
 * Known types: uint8…uint256, int8…int256, bool, address, bytes1…bytes32, bytes, string, T[], T[n], (T,…).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"

/* One value; which member counts follows from the type. */
struct abi_value {
    uint8_t word
        [32]; /* atomic types as the ABI pads them (address in the last 20 bytes, bytesN in the first N) */
    const uint8_t *data;     /* bytes and string: NUL follows in decoded ones */
    size_t len;              /* bytes of data, or number of items */
    struct abi_value *items; /* tuple members or array elements */
};

struct abi_value abi_uint(uint64_t value);
struct abi_value abi_bool(bool value);
struct abi_value abi_word(const uint8_t word[32]); /* bytes32, uint256 */
struct abi_value abi_address(const uint8_t address[20]);
struct abi_value abi_bytes(const void *data, size_t len);          /* borrowed */
struct abi_value abi_string(const char *text);                     /* borrowed */
struct abi_value abi_items(struct abi_value *items, size_t count); /* array or tuple; borrowed */

/* 0 or -EBADMSG when the word does not fit. */
int abi_get_uint(const struct abi_value *value, uint64_t *ret_value);

/* First four bytes of keccak256(signature). */
void abi_selector(const char *signature, uint8_t ret_selector[4]);
/* keccak256(signature): topic 0 of an event ("Changed(uint64,uint64,…)"). */
void abi_topic(const char *signature, uint8_t ret_topic[32]);

/* types: "(uint64,bytes)" or with a name before it (which is ignored). Appends to out.
 * -EINVAL: a type is unknown, or a value does not match it (a programming error: callers may assert). */
int abi_encode(const char *types, const struct abi_value *values, size_t count, struct buffer *out);
/* Selector, then arguments. */
int abi_encode_call(const char *signature, const struct abi_value *values, size_t count,
                    struct buffer *out);

struct abi_decoded {
    struct abi_value *values; /* one per top-level type */
    size_t count;
    void *memory; /* private */
};
/* Strict: clean padding, offsets inside, at most ABI_VALUES_MAX values. Everything is copied. 0, -EBADMSG, -ENOMEM, -EINVAL (types). */
int abi_decode(const char *types, const uint8_t *data, size_t len, struct abi_decoded *ret_decoded);
void abi_decoded_done(struct abi_decoded *decoded);
#define ABI_VALUES_MAX 65536
