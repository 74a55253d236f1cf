/*
 * rlp.h - Recursive Length Prefix (Ethereum yellow paper, appendix B), strict: the one shortest encoding only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"

struct rlp_item {
    const uint8_t *data; /* payload: the string's bytes, or the encoded members of a list */
    size_t len;
    const uint8_t *raw; /* the item with its prefix */
    size_t raw_len;
    bool list;
};

/* One item that fills the buffer exactly. 0 or -EBADMSG. */
int rlp_decode(const uint8_t *data, size_t len, struct rlp_item *ret_item);
/* The item at *offset, which is moved behind it. 1, 0 at the end, -EBADMSG. */
int rlp_next(const uint8_t *data, size_t len, size_t *offset, struct rlp_item *ret_item);
/* The members of a list; the count, or -EBADMSG (no list, or more than max). */
int rlp_members(const struct rlp_item *list, struct rlp_item *ret_items, size_t max);
/* An integer without leading zeros. 0 or -EBADMSG. */
int rlp_uint64(const struct rlp_item *item, uint64_t *ret_value);

/* Encoding appends to out; 0, -ENOMEM, -EFBIG. */
int rlp_put_bytes(struct buffer *out, const void *data, size_t len);
int rlp_put_uint64(struct buffer *out, uint64_t value);
int rlp_put_uint(struct buffer *out, const uint8_t *big_endian,
                 size_t len); /* leading zeros are dropped */
int rlp_put_list(struct buffer *out, const void *payload,
                 size_t len); /* payload: encoded members */
