/*
 * slots.c - slot numbers and packed words of the contracts; see slots.h.
 */
#include "provision/slots.h"

#include <string.h>

#include "lib/crypto/keccak.h"

static void put_uint(uint8_t word[32], uint64_t value)
{
    memset(word, 0, 32);
    for (size_t i = 0; i < 8; i++) {
        word[31 - i] = (uint8_t)(value >> (8 * i));
    }
}

void slot_of(const uint8_t key[32], uint64_t position, uint64_t offset, uint8_t ret_slot[32])
{
    uint8_t words[2][32];

    memcpy(words[0], key, 32);
    put_uint(words[1], position);
    keccak256(words, sizeof(words), ret_slot);
    for (size_t i = 32; i-- > 0 && offset > 0;) {
        offset += ret_slot[i];
        ret_slot[i] = (uint8_t)offset;
        offset >>= 8;
    }
}

void slot_reservations(uint8_t ret_slot[32])
{
    memset(ret_slot, 0, 32);
}

void slot_node_of(const uint8_t identity[20], uint8_t ret_slot[32])
{
    uint8_t key[32] = {0};
    memcpy(key + 12, identity, 20);
    slot_of(key, 2, 0, ret_slot);
}

void slot_node(uint64_t node, uint8_t ret_slot[32])
{
    uint8_t key[32];
    put_uint(key, node);
    slot_of(key, 1, 0, ret_slot);
}

void slot_node_key(uint64_t node, uint8_t ret_slot[32])
{
    uint8_t key[32];
    put_uint(key, node);
    slot_of(key, 1, 1, ret_slot);
}

void slot_node_boot(uint64_t node, uint8_t ret_slot[32])
{
    uint8_t key[32];
    put_uint(key, node);
    slot_of(key, 1, 2, ret_slot);
}

void slot_node_key_unpack(const uint8_t word[32], uint32_t *ret_epoch, uint64_t *ret_since)
{
    *ret_since = slot_uint64(word, 128);
    *ret_epoch = (uint32_t)slot_uint64(word, 192);
}

void slot_farm(uint64_t farm, uint8_t ret_slot[32])
{
    uint8_t key[32];
    put_uint(key, farm);
    slot_of(key, 4, 0, ret_slot);
}

void slot_farm_unpack(const uint8_t word[32], uint8_t ret_farmer[20])
{
    memcpy(ret_farmer, word + 12, 20);
}

void slot_list(uint64_t node, uint8_t ret_slots[2][32])
{
    uint8_t key[32];
    put_uint(key, node);
    slot_of(key, 0, 0, ret_slots[0]);
    slot_of(key, 0, 1, ret_slots[1]);
}

uint64_t slot_uint64(const uint8_t word[32], unsigned shift_bits)
{
    uint64_t value = 0;
    const uint8_t *last = word + 31 - shift_bits / 8;
    for (size_t i = 0; i < 8; i++) {
        value |= (uint64_t) * (last - i) << (8 * i);
    }
    return value;
}

void slot_node_unpack(const uint8_t word[32], struct slot_node *ret_node)
{
    memcpy(ret_node->identity, word + 12, 20);
    ret_node->farm = slot_uint64(word, 160);
    ret_node->state = word[3];
    ret_node->run_mode = word[2];
    ret_node->ephemeral = word[1] != 0;
}
