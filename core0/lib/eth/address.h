/*
 * address.h - addresses as text, with the checksum of EIP-55, and 256-bit words.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/crypto/ecdsa.h" /* ETH_ADDRESS_SIZE */

#define ETH_ADDRESS_TEXT 43 /* "0x", 40 digits, NUL */
#define ETH_WORD_SIZE 32

/* 0x and 40 digits, all lower, all upper, or mixed with a right checksum. 0 or -EINVAL. */
int eth_address_parse(const char *text, uint8_t ret_address[ETH_ADDRESS_SIZE]);
void eth_address_format(const uint8_t address[ETH_ADDRESS_SIZE], char ret_text[ETH_ADDRESS_TEXT]);
bool eth_address_is_zero(const uint8_t address[ETH_ADDRESS_SIZE]);

/* keccak256(abi.encode(uint256 key, uint256 slot)): where Solidity keeps mapping[key]. */
void eth_slot_of_mapping(const uint8_t key[32], const uint8_t slot[32], uint8_t ret_slot[32]);
/* slot += offset, big-endian. */
void eth_slot_add(uint8_t slot[32], uint64_t offset);
void eth_word_from_uint64(uint64_t value, uint8_t ret_word[32]);

/* An error code as the chain keeps it (ASCII, zero-padded). */
void eth_code_to_word(const char *code, uint8_t ret_word[32]); /* cut at 32 bytes */
/* ret_code has 33 bytes; what is no printable ASCII becomes '?'. */
void eth_code_from_word(const uint8_t word[32], char *ret_code);
