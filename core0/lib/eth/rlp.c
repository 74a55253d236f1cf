/*
 * rlp.c - strict RLP.
 */
#include "lib/eth/rlp.h"

#include <errno.h>
#include <string.h>

/* Reads a length of `size` big-endian bytes: without leading zeros, and more than 55 (else the short form was due). */
static int long_length(const uint8_t *data, size_t size, size_t *ret_len)
{
    uint64_t value = 0;
    if (size > sizeof(size_t) || data[0] == 0)
        return -EBADMSG;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | data[i];
    if (value <= 55)
        return -EBADMSG;
    *ret_len = value;
    return 0;
}

int rlp_next(const uint8_t *data, size_t len, size_t *offset, struct rlp_item *ret_item)
{
    if (*offset >= len)
        return 0;
    const uint8_t *at = data + *offset;
    size_t left = len - *offset;
    uint8_t first = at[0];
    size_t prefix = 1, size;
    bool list = first >= 0xc0;
    uint8_t base = list ? 0xc0 : 0x80;

    if (first < 0x80) {
        prefix = 0;
        size = 1;
    } else if (first - base <= 55) {
        size = (size_t)(first - base);
        if (!list && size == 1 && (left < 2 || at[1] < 0x80))
            return -EBADMSG; /* a byte below 0x80 is its own encoding */
    } else {
        size_t length_size = (size_t)(first - base) - 55;
        if (left < 1 + length_size || long_length(at + 1, length_size, &size) < 0)
            return -EBADMSG;
        prefix = 1 + length_size;
    }
    if (size > left - prefix)
        return -EBADMSG;
    *ret_item = (struct rlp_item){
        .data = at + prefix, .len = size, .raw = at, .raw_len = prefix + size, .list = list};
    *offset += prefix + size;
    return 1;
}

int rlp_decode(const uint8_t *data, size_t len, struct rlp_item *ret_item)
{
    size_t offset = 0;
    struct rlp_item item;
    if (rlp_next(data, len, &offset, &item) != 1 || offset != len)
        return -EBADMSG;
    *ret_item = item;
    return 0;
}

int rlp_members(const struct rlp_item *list, struct rlp_item *ret_items, size_t max)
{
    size_t offset = 0, count = 0;
    struct rlp_item item;
    int r;
    if (!list->list)
        return -EBADMSG;
    while ((r = rlp_next(list->data, list->len, &offset, &item)) == 1) {
        if (count == max)
            return -EBADMSG;
        ret_items[count++] = item;
    }
    return r < 0 ? r : (int)count;
}

int rlp_uint64(const struct rlp_item *item, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (item->list || item->len > 8 || (item->len > 0 && item->data[0] == 0))
        return -EBADMSG;
    for (size_t i = 0; i < item->len; i++)
        value = value << 8 | item->data[i];
    *ret_value = value;
    return 0;
}

static size_t big_endian(uint64_t value, uint8_t ret_bytes[8])
{
    size_t len = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        uint8_t byte = (uint8_t)(value >> shift);
        if (byte != 0 || len > 0)
            ret_bytes[len++] = byte;
    }
    return len;
}

static int put_prefix(struct buffer *out, uint8_t base, size_t len)
{
    uint8_t prefix[9];
    if (len <= 55) {
        prefix[0] = (uint8_t)(base + len);
        return buffer_append(out, prefix, 1);
    }
    size_t size = big_endian(len, prefix + 1);
    prefix[0] = (uint8_t)(base + 55 + size);
    return buffer_append(out, prefix, 1 + size);
}

int rlp_put_bytes(struct buffer *out, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    if (len == 1 && bytes[0] < 0x80)
        return buffer_append(out, data, 1);
    int r = put_prefix(out, 0x80, len);
    return r < 0 || len == 0 ? r : buffer_append(out, data, len);
}

int rlp_put_uint64(struct buffer *out, uint64_t value)
{
    uint8_t bytes[8] = {0};
    return rlp_put_bytes(out, bytes, big_endian(value, bytes));
}

int rlp_put_uint(struct buffer *out, const uint8_t *big_endian_bytes, size_t len)
{
    while (len > 0 && big_endian_bytes[0] == 0) {
        big_endian_bytes++;
        len--;
    }
    return rlp_put_bytes(out, big_endian_bytes, len);
}

int rlp_put_list(struct buffer *out, const void *payload, size_t len)
{
    int r = put_prefix(out, 0xc0, len);
    return r < 0 || len == 0 ? r : buffer_append(out, payload, len);
}
