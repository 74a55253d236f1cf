/*
 * address.c - addresses, storage slots, codes as words.
 */
#include "lib/eth/address.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"

void eth_address_format(const uint8_t address[ETH_ADDRESS_SIZE], char ret_text[ETH_ADDRESS_TEXT])
{
    uint8_t hash[KECCAK256_SIZE];
    hex_encode_0x(address, ETH_ADDRESS_SIZE, ret_text);
    /* EIP-55: a letter is upper case where the hash of the lower-case digits has a nibble of 8 or more */
    keccak256(ret_text + 2, (size_t)2 * ETH_ADDRESS_SIZE, hash);
    for (size_t i = 0; i < (size_t)2 * ETH_ADDRESS_SIZE; i++) {
        int nibble = i % 2 == 0 ? hash[i / 2] >> 4 : hash[i / 2] & 15;
        char *c = &ret_text[i + 2];
        if (nibble >= 8 && *c >= 'a')
            *c = (char)(*c - 'a' + 'A');
    }
}

int eth_address_parse(const char *text, uint8_t ret_address[ETH_ADDRESS_SIZE])
{
    uint8_t address[ETH_ADDRESS_SIZE];
    if (text[0] != '0' || text[1] != 'x' || hex_decode(text, address, sizeof(address)) < 0)
        return -EINVAL;
    bool lower = false, upper = false;
    for (const char *c = text + 2; *c != '\0'; c++) {
        lower |= *c >= 'a';
        upper |= *c >= 'A' && *c <= 'F';
    }
    if (lower && upper) {
        char expected[ETH_ADDRESS_TEXT];
        eth_address_format(address, expected);
        if (strcmp(expected, text) != 0)
            return -EINVAL;
    }
    memcpy(ret_address, address, sizeof(address));
    return 0;
}

bool eth_address_is_zero(const uint8_t address[ETH_ADDRESS_SIZE])
{
    static const uint8_t zero[ETH_ADDRESS_SIZE];
    return memcmp(address, zero, sizeof(zero)) == 0;
}

void eth_slot_of_mapping(const uint8_t key[32], const uint8_t slot[32], uint8_t ret_slot[32])
{
    uint8_t both[64];
    memcpy(both, key, 32);
    memcpy(both + 32, slot, 32);
    keccak256(both, sizeof(both), ret_slot);
}

void eth_slot_add(uint8_t slot[32], uint64_t offset)
{
    uint64_t carry = offset;
    for (size_t i = 32; i-- > 0 && carry != 0;) {
        /* carry can have 64 bits in the first rounds: add byte by byte, keep the rest */
        uint64_t sum = (uint64_t)slot[i] + (carry & 0xff);
        slot[i] = (uint8_t)sum;
        carry = (carry >> 8) + (sum >> 8);
    }
}

void eth_word_from_uint64(uint64_t value, uint8_t ret_word[32])
{
    memset(ret_word, 0, 24);
    for (int i = 0; i < 8; i++)
        ret_word[31 - i] = (uint8_t)(value >> 8 * i);
}

void eth_code_to_word(const char *code, uint8_t ret_word[32])
{
    size_t len = strnlen(code, 32);
    memset(ret_word, 0, 32);
    memcpy(ret_word, code, len);
}

void eth_code_from_word(const uint8_t word[32], char *ret_code)
{
    size_t len = 0;
    while (len < 32 && word[len] != 0) {
        ret_code[len] = isascii(word[len]) && isgraph(word[len]) ? (char)word[len] : '?';
        len++;
    }
    ret_code[len] = '\0';
}
