// RLP from outside: what decodes must encode to the same bytes, as there is one encoding only.
#include <stdlib.h>
#include <string.h>

#include "lib/eth/header.h"
#include "lib/eth/rlp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct rlp_item *item, struct buffer *out, int depth)
{
    struct rlp_item member;
    size_t offset = 0;
    if (!item->list || depth == 0) {
        if (item->list)
            rlp_put_list(out, item->data, item->len);
        else
            rlp_put_bytes(out, item->data, item->len);
        return;
    }
    struct buffer payload;
    buffer_init(&payload, 0);
    int r;
    while ((r = rlp_next(item->data, item->len, &offset, &member)) == 1)
        again(&member, &payload, depth - 1);
    if (r == 0)
        rlp_put_list(out, payload.data, payload.len);
    else
        buffer_append(out, item->raw, item->raw_len);
    buffer_done(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rlp_item item;
    struct eth_header header;
    struct buffer out;
    uint64_t number;
    if (rlp_decode(data, size, &item) < 0)
        return 0;
    (void)rlp_uint64(&item, &number);
    (void)eth_header_from_rlp(data, size, &header);
    buffer_init(&out, 0);
    again(&item, &out, 8);
    if (out.len != size || memcmp(out.data, data, size) != 0)
        abort();
    buffer_done(&out);
    return 0;
}
