/*
 * tx.c - EIP-1559 transactions: 0x02 ‖ rlp([chain_id, nonce, max_priority_fee, max_fee, gas, to, value, data,
 * access_list, y_parity, r, s]), signed over the same without the last three.
 */
#include "lib/eth/tx.h"

#include <errno.h>

#include "lib/crypto/keccak.h"
#include "lib/eth/rlp.h"

static int put_fields(const struct eth_tx *tx, struct buffer *out)
{
    int r = rlp_put_uint64(out, tx->chain_id);
    if (r >= 0)
        r = rlp_put_uint64(out, tx->nonce);
    if (r >= 0)
        r = rlp_put_uint64(out, tx->max_priority_fee);
    if (r >= 0)
        r = rlp_put_uint64(out, tx->max_fee);
    if (r >= 0)
        r = rlp_put_uint64(out, tx->gas);
    if (r >= 0)
        r = rlp_put_bytes(out, tx->to, sizeof(tx->to));
    if (r >= 0)
        r = rlp_put_uint(out, tx->value, sizeof(tx->value));
    if (r >= 0)
        r = rlp_put_bytes(out, tx->data, tx->data_len);
    if (r >= 0)
        r = rlp_put_list(out, NULL, 0); /* no access list */
    return r;
}

static int put_typed(const struct buffer *fields, struct buffer *out)
{
    static const uint8_t type = 2;
    int r = buffer_append(out, &type, 1);
    return r < 0 ? r : rlp_put_list(out, fields->data, fields->len);
}

int eth_tx_sign(const struct eth_tx *tx, const uint8_t key[ECDSA_KEY_SIZE], struct buffer *out,
                uint8_t ret_hash[32])
{
    struct buffer fields, unsigned_tx;
    uint8_t digest[KECCAK256_SIZE], signature[ECDSA_SIGNATURE_SIZE];
    buffer_init(&fields, 0);
    buffer_init(&unsigned_tx, 0);
    int r = put_fields(tx, &fields);
    if (r >= 0)
        r = put_typed(&fields, &unsigned_tx);
    if (r < 0)
        goto out;
    keccak256(unsigned_tx.data, unsigned_tx.len, digest);
    r = ecdsa_sign(key, digest, signature);
    if (r >= 0)
        r = rlp_put_uint64(&fields, (uint64_t)signature[64] - 27);
    if (r >= 0)
        r = rlp_put_uint(&fields, signature, 32);
    if (r >= 0)
        r = rlp_put_uint(&fields, signature + 32, 32);
    size_t start = out->len;
    if (r >= 0)
        r = put_typed(&fields, out);
    if (r >= 0)
        keccak256(out->data + start, out->len - start, ret_hash);
out:
    buffer_done(&unsigned_tx);
    buffer_done(&fields);
    return r < 0 ? r : 0;
}
