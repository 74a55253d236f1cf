/*
 * keccak.c - Keccak-f[1600] with rate 1088 and the padding byte 0x01 (keccak256 of Ethereum).
 *
 * After the Keccak reference (https://keccak.team/keccak_specs_summary.html): theta, rho with pi, chi, iota.
 */
#include "lib/crypto/keccak.h"

#include <string.h>

#define RATE 136 /* bytes: 1600 bits less twice the 256 of the hash */
#define ROUNDS 24

static const uint64_t round_constants[ROUNDS] = {
    0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000,
    0x000000000000808b, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
    0x000000000000008a, 0x0000000000000088, 0x0000000080008009, 0x000000008000000a,
    0x000000008000808b, 0x800000000000008b, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};

/* rho's offset and pi's target of the lanes in the order in which pi visits them, starting at lane 1. */
static const uint8_t rotations[24] = {1,  3,  6,  10, 15, 21, 28, 36, 45, 55, 2,  14,
                                      27, 41, 56, 8,  25, 43, 62, 18, 39, 61, 20, 44};
static const uint8_t lanes[24] = {10, 7,  11, 17, 18, 3, 5,  16, 8,  21, 24, 4,
                                  15, 23, 19, 13, 12, 2, 20, 14, 22, 9,  6,  1};

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void permute(uint64_t a[25])
{
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t column[5];
        for (int x = 0; x < 5; x++)
            column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int x = 0; x < 5; x++) {
            uint64_t mix = column[(x + 4) % 5] ^ rotate_left(column[(x + 1) % 5], 1);
            for (int y = 0; y < 25; y += 5)
                a[y + x] ^= mix;
        }
        uint64_t moving = a[1];
        for (int i = 0; i < 24; i++) {
            uint64_t next = a[lanes[i]];
            a[lanes[i]] = rotate_left(moving, rotations[i]);
            moving = next;
        }
        for (int y = 0; y < 25; y += 5) {
            uint64_t row[5];
            memcpy(row, a + y, sizeof(row));
            for (int x = 0; x < 5; x++)
                a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
        }
        a[0] ^= round_constants[round];
    }
}

static void absorb_byte(struct keccak *keccak, uint8_t byte)
{
    keccak->state[keccak->fill / 8] ^= (uint64_t)byte << 8 * (keccak->fill % 8);
    keccak->fill++;
}

void keccak_init(struct keccak *keccak)
{
    memset(keccak, 0, sizeof(*keccak));
}

void keccak_update(struct keccak *keccak, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        absorb_byte(keccak, bytes[i]);
        if (keccak->fill == RATE) {
            permute(keccak->state);
            keccak->fill = 0;
        }
    }
}

void keccak_final(struct keccak *keccak, uint8_t ret_hash[KECCAK256_SIZE])
{
    absorb_byte(keccak, 0x01);
    keccak->fill = RATE - 1;
    absorb_byte(keccak, 0x80);
    permute(keccak->state);
    for (size_t i = 0; i < KECCAK256_SIZE; i++)
        ret_hash[i] = (uint8_t)(keccak->state[i / 8] >> 8 * (i % 8));
}

void keccak256(const void *data, size_t len, uint8_t ret_hash[KECCAK256_SIZE])
{
    struct keccak keccak;
    keccak_init(&keccak);
    keccak_update(&keccak, data, len);
    keccak_final(&keccak, ret_hash);
}
