/*
 * slots.h - where the contracts keep what provd proves (docs/formats.md, section 7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* slot(key, position) = keccak256(abi.encode(key, position)), plus `offset`. key: 32 bytes. */
void slot_of(const uint8_t key[32], uint64_t position, uint64_t offset, uint8_t ret_slot[32]);

/* GridRegistry: slot 0. */
void slot_reservations(uint8_t ret_slot[32]);
/* GridRegistry: newest node id of an identity. */
void slot_node_of(const uint8_t identity[20], uint8_t ret_slot[32]);
/* GridRegistry: the first word of a node's record. */
void slot_node(uint64_t node, uint8_t ret_slot[32]);
/* The word after it: nonce, lastReport, keySince, keyEpoch. */
void slot_node_key(uint64_t node, uint8_t ret_slot[32]);
/* And the next: the boot id of the node's last message. */
void slot_node_boot(uint64_t node, uint8_t ret_slot[32]);
/* GridRegistry: the first word of a farm's record. */
void slot_farm(uint64_t farm, uint8_t ret_slot[32]);
/* Reservations: {sequence, lastBlock}, then head. */
void slot_list(uint64_t node, uint8_t ret_slots[2][32]);

struct slot_node {
    uint8_t identity[20];
    uint64_t farm;
    uint8_t state; /* 1 Pending, 2 Active, 3 Retired */
    uint8_t run_mode;
    bool ephemeral;
};
/* Of slot_node_key's word. */
void slot_node_key_unpack(const uint8_t word[32], uint32_t *ret_epoch, uint64_t *ret_since);
void slot_node_unpack(const uint8_t word[32], struct slot_node *ret_node);
/* Of slot_farm's word: whose the farm is. All zero: there is no such farm. */
void slot_farm_unpack(const uint8_t word[32], uint8_t ret_farmer[20]);
uint64_t slot_uint64(const uint8_t word[32],
                     unsigned shift_bits); /* bits shift..shift+63 from the least significant */
