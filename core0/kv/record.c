/*
 * record.c - see record.h.
 */
#include "kv/record.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static uint32_t get32(const uint8_t *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof(value));
    return le64toh(value);
}

static void put32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof(value));
}

static void put64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof(value));
}

static uint32_t head_of(const uint8_t *header, const void *key, size_t key_len,
                        const struct record_position *at)
{
    uint8_t position[20];
    uint32_t crc = record_crc32c(0, header + 4, RECORD_HEADER - 4);

    put64(position, at->identity);
    put32(position + 8, at->segment);
    put64(position + 12, at->offset);
    crc = record_crc32c(crc, key, key_len);
    return record_crc32c(crc, position, sizeof(position));
}

void record_encode(const struct record *record, const void *key, const struct record_position *at,
                   uint8_t out[RECORD_HEADER])
{
    out[4] = RECORD_MAGIC;
    out[5] = (uint8_t)((unsigned)record->kind | (record->earlier_synced ? 0x80u : 0));
    out[6] = (uint8_t)record->key_len;
    out[7] = (uint8_t)(record->key_len >> 8);
    put32(out + 8, record->value_len);
    put32(out + 12, record->body);
    put64(out + 16, record->number);
    put32(out + 24, record->time);
    put32(out + 28, record->synced);
    put32(out + 32, record->previous_segment);
    put32(out + 36, record->previous_place);
    put32(out, head_of(out, key, record->key_len, at));
}

int record_decode(const void *data, size_t len, const struct record_position *at,
                  struct record *ret)
{
    const uint8_t *header = data;
    struct record record;
    unsigned kind;

    if (len < RECORD_HEADER)
        return -ENODATA;
    kind = header[5] & 0x7fu;
    record = (struct record){
        .kind = (enum record_kind)kind,
        .earlier_synced = (header[5] & 0x80u) != 0,
        .key_len = (uint16_t)(header[6] | header[7] << 8),
        .value_len = get32(header + 8),
        .body = get32(header + 12),
        .number = get64(header + 16),
        .time = get32(header + 24),
        .synced = get32(header + 28),
        .previous_segment = get32(header + 32),
        .previous_place = get32(header + 36),
    };
    if (header[4] != RECORD_MAGIC || kind < RECORD_SET || kind > RECORD_END ||
        record.key_len > RECORD_KEY_MAX || record.value_len > RECORD_VALUE_MAX)
        return -EBADMSG;
    if ((kind != RECORD_SET && record.value_len != 0) ||
        (kind > RECORD_DEL) != (record.key_len == 0))
        return -EBADMSG;
    if (len < RECORD_HEADER + (size_t)record.key_len)
        return -ENODATA;
    if (get32(header) != head_of(header, header + RECORD_HEADER, record.key_len, at))
        return -EBADMSG;
    *ret = record;
    return 0;
}

uint32_t record_head(const void *data)
{
    return get32(data);
}

bool record_value_is_good(const struct record *record, const void *value, size_t pad)
{
    const uint8_t *after = (const uint8_t *)value + record->value_len;

    for (size_t i = 0; i < pad; i++)
        if (after[i] != 0)
            return false;
    return record_crc32c(0, value, record->value_len) == record->body;
}
