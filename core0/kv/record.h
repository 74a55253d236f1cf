/*
 * record.h - one record of a segment as it lies on disk, and its checksums.
 *
 * Little-endian, at offsets that are multiples of 8:
 *      0  u32  head      CRC32C of bytes 4 to 39, the key, and the record's position: the namespace's
 *                        identity (u64), the segment's id (u32), the offset (u64)
 *      4  u8   magic     0xc7
 *      5  u8   kind      enum record_kind; bit 7: RECORD_EARLIER_SYNCED
 *      6  u16  key       bytes of the key, at most 1024
 *      8  u32  value     bytes of the value, at most 64 MiB
 *     12  u32  body      CRC32C of the value
 *     16  u64  number    of the record in its namespace
 *     24  u32  time      seconds since 1970
 *     28  u32  synced    place up to which this segment was synced when the record was appended
 *     32  u32  segment   where the key's record before this one lies: id of the segment, 0: nowhere
 *     36  u32  place     and place in it
 *     40  key, value, zero bytes up to a multiple of 8
 * A *place* is an offset divided by 8.
 *
 * Invariants
 *  R1  `head` covers `body`, the lengths and the position: a record that verifies is the one that was
 *      written, whole, at this place of this segment of this namespace.
 *  R2  A record whose header verifies has a trustworthy length and key, also when its value is damaged:
 *      damage of a value costs that key alone.
 *  R3  `synced` and RECORD_EARLIER_SYNCED only ever claim what fdatasync has returned 0 for: what lies
 *      before a claim and does not verify is damage, never a torn tail.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_HEADER 40u
#define RECORD_MAGIC 0xc7u
#define RECORD_KEY_MAX 1024u
#define RECORD_VALUE_MAX (64u << 20)
#define RECORD_HEAD_MAX (RECORD_HEADER + RECORD_KEY_MAX)

enum record_kind {
    RECORD_SET = 1,
    RECORD_DEL = 2,  /* the key is gone; no value */
    RECORD_MARK = 3, /* nothing but its claim of what is synced; number of the record before it */
    RECORD_END = 4,  /* the segment is complete; number of the record before it */
};

struct record {
    enum record_kind kind;
    bool earlier_synced; /* all segments before this one were synced when it was appended */
    uint16_t key_len;
    uint32_t value_len;
    uint32_t body;
    uint64_t number;
    uint32_t time;
    uint32_t synced;
    uint32_t previous_segment, previous_place;
};

/* Where a record lies: what its checksum is bound to. */
struct record_position {
    uint64_t identity; /* of the namespace */
    uint32_t segment;
    uint64_t offset;
};

/* CRC32C (Castagnoli, RFC 3720 appendix B.4); start with 0, go on with the result. */
uint32_t record_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t record_crc32c_table(uint32_t crc, const void *data, size_t len); /* without SSE 4.2 */

/* Bytes on disk, padding included. */
static inline uint64_t record_size(uint32_t key_len, uint32_t value_len)
{
    return ((uint64_t)RECORD_HEADER + key_len + value_len + 7) & ~(uint64_t)7;
}

/* Writes the header, with its checksum. */
void record_encode(const struct record *record, const void *key, const struct record_position *at,
                   uint8_t out[RECORD_HEADER]);
/* Reads a header and its key from a buffer: 0; -ENODATA when the buffer ends before them; -EBADMSG.
 * On success the key lies at data + RECORD_HEADER and the value behind it. */
int record_decode(const void *data, size_t len, const struct record_position *at,
                  struct record *ret);
/* The checksum in a header, as stored. */
uint32_t record_head(const void *data);
/* The value, whole at `value`, and the padding behind it (`pad` bytes are there). */
bool record_value_is_good(const struct record *record, const void *value, size_t pad);
