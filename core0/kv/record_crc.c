/*
 * record_crc.c - CRC32C, by the processor's instruction where it has one.
 *
 * None of the libraries that we link has it. The instruction takes 8 bytes in 3 cycles; three
 * independent streams keep its pipeline full, and are joined by multiplication with x^n (a table of
 * 4 * 256 words for the one block size that is used).
 */
#include "kv/record.h"

#include <endian.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected 0x1edc6f41 */
#define STREAM 1024u           /* bytes of one of three streams */

static uint32_t table[8][256];
static uint32_t skip[4][256]; /* a checksum, STREAM zero bytes later */

/* One bit at a time: for the tables only. */
static uint32_t shift_zeros(uint32_t crc, size_t bytes)
{
    for (size_t i = 0; i < bytes * 8; i++)
        crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
    return crc;
}

__attribute__((constructor)) static void tables_make(void)
{
    for (uint32_t i = 0; i < 256; i++)
        table[0][i] = shift_zeros(i, 1);
    for (uint32_t i = 0; i < 256; i++)
        for (unsigned k = 1; k < 8; k++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
    /* Linear: the image of a byte is the sum of those of its bits. */
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned bit = 0; bit < 8; bit++)
            skip[k][1u << bit] = shift_zeros(1u << (k * 8 + bit), STREAM);
        for (uint32_t i = 1; i < 256; i++)
            skip[k][i] = skip[k][i & (i - 1)] ^ skip[k][i & -i];
    }
}

uint32_t record_crc32c_table(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;

    crc = ~crc;
    while (len >= 8) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        word = le64toh(word) ^ crc;
        crc = table[7][word & 0xff] ^ table[6][word >> 8 & 0xff] ^ table[5][word >> 16 & 0xff] ^
              table[4][word >> 24 & 0xff] ^ table[3][word >> 32 & 0xff] ^
              table[2][word >> 40 & 0xff] ^ table[1][word >> 48 & 0xff] ^ table[0][word >> 56];
        at += 8;
        len -= 8;
    }
    while (len-- > 0)
        crc = (crc >> 8) ^ table[0][(crc ^ *at++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
static uint32_t skip_stream(uint32_t crc)
{
    return skip[0][crc & 0xff] ^ skip[1][crc >> 8 & 0xff] ^ skip[2][crc >> 16 & 0xff] ^
           skip[3][crc >> 24];
}

static inline uint64_t word_at(const uint8_t *from)
{
    uint64_t word;

    memcpy(&word, from, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *at,
                                                               size_t len)
{
    uint64_t a = ~crc;

    while (len >= (size_t)3 * STREAM) {
        uint64_t b = 0, c = 0;

        for (const uint8_t *end = at + STREAM; at < end; at += 8) {
            a = __builtin_ia32_crc32di(a, word_at(at));
            b = __builtin_ia32_crc32di(b, word_at(at + STREAM));
            c = __builtin_ia32_crc32di(c, word_at(at + (size_t)2 * STREAM));
        }
        a = skip_stream((uint32_t)a) ^ b;
        a = skip_stream((uint32_t)a) ^ c;
        at += (size_t)2 * STREAM;
        len -= (size_t)3 * STREAM;
    }
    for (; len >= 8; at += 8, len -= 8)
        a = __builtin_ia32_crc32di(a, word_at(at));
    while (len-- > 0)
        a = __builtin_ia32_crc32qi((uint32_t)a, *at++);
    return ~(uint32_t)a;
}
#endif

uint32_t record_crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, len);
#endif
    return record_crc32c_table(crc, data, len);
}
