/*
 * header.c - block headers.
 *
 * The yellow paper's fifteen fields, then what the forks added, each in its place; a header ends with the last field that
 * its fork knows. JSON-RPC names them; the table below has one row per field in RLP order.
 */
#include "lib/eth/header.h"

#include <errno.h>
#include <string.h>

#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/eth/rlp.h"

#define EXTRA_MAX                                                                                  \
    4096 /* a QBFT chain keeps validators and seals in extraData; Ethereum's own limit is 32 */
#define OLD_FIELDS 15 /* before London */

enum field_kind { FIELD_BYTES, FIELD_NUMBER, FIELD_EXTRA };

static const struct field {
    const char *name;
    enum field_kind kind;
    size_t size; /* of FIELD_BYTES */
} fields[] = {
    {"parentHash", FIELD_BYTES, 32},
    {"sha3Uncles", FIELD_BYTES, 32},
    {"miner", FIELD_BYTES, 20},
    {"stateRoot", FIELD_BYTES, 32},
    {"transactionsRoot", FIELD_BYTES, 32},
    {"receiptsRoot", FIELD_BYTES, 32},
    {"logsBloom", FIELD_BYTES, 256},
    {"difficulty", FIELD_NUMBER, 0},
    {"number", FIELD_NUMBER, 0},
    {"gasLimit", FIELD_NUMBER, 0},
    {"gasUsed", FIELD_NUMBER, 0},
    {"timestamp", FIELD_NUMBER, 0},
    {"extraData", FIELD_EXTRA, 0},
    {"mixHash", FIELD_BYTES, 32},
    {"nonce", FIELD_BYTES, 8},
    {"baseFeePerGas", FIELD_NUMBER, 0},         /* London, EIP-1559 */
    {"withdrawalsRoot", FIELD_BYTES, 32},       /* Shanghai, EIP-4895 */
    {"blobGasUsed", FIELD_NUMBER, 0},           /* Cancun, EIP-4844 */
    {"excessBlobGas", FIELD_NUMBER, 0},         /* Cancun, EIP-4844 */
    {"parentBeaconBlockRoot", FIELD_BYTES, 32}, /* Cancun, EIP-4788 */
    {"requestsHash", FIELD_BYTES, 32},          /* Prague, EIP-7685; Osaka adds none */
};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

/* What decoding picks out, by index in the table. */
enum {
    AT_PARENT = 0,
    AT_STATE_ROOT = 3,
    AT_RECEIPTS_ROOT = 5,
    AT_NUMBER = 8,
    AT_GAS_LIMIT = 9,
    AT_TIMESTAMP = 11,
    AT_BASE_FEE = 15
};

static int bad_header(struct error *err, const char *field, const char *what)
{
    return error_set(err, EBADMSG, "chain.bad-header",
                     "the chain endpoint lies or is broken: use another one", "the block's %s %s",
                     field, what);
}

static int put_field(const struct field *field, yyjson_val *value, struct buffer *scratch,
                     struct buffer *out)
{
    const char *text = yyjson_get_str(value);
    if (text == NULL || strlen(text) != yyjson_get_len(value) || text[0] != '0' || text[1] != 'x')
        return -EBADMSG;
    size_t digits = strlen(text + 2);
    buffer_clear(scratch);
    if (field->kind == FIELD_NUMBER) {
        char even[67] = "0";
        if (digits == 0 || digits > 64)
            return -EBADMSG;
        memcpy(even + digits % 2, text + 2, digits + 1);
        int r = hex_decode_buffer(even, scratch);
        return r < 0 ? r : rlp_put_uint(out, scratch->data, scratch->len);
    }
    if (field->kind == FIELD_EXTRA ? digits > (size_t)2 * EXTRA_MAX : digits != 2 * field->size)
        return -EBADMSG;
    int r = hex_decode_buffer(text, scratch);
    return r < 0 ? r : rlp_put_bytes(out, scratch->data, scratch->len);
}

int eth_header_rlp(yyjson_val *block, struct buffer *out, struct error *err)
{
    struct buffer payload, scratch;
    bool ended = false;
    int r = 0;
    buffer_init(&payload, 0);
    buffer_init(&scratch, 0);
    for (size_t i = 0; i < FIELD_COUNT && r >= 0; i++) {
        yyjson_val *value = yyjson_obj_get(block, fields[i].name);
        if (i >= OLD_FIELDS && (value == NULL || yyjson_is_null(value))) {
            ended = true;
            continue;
        }
        if (ended)
            r = bad_header(err, fields[i].name, "is there, but a field of an earlier fork is not");
        else if (put_field(&fields[i], value, &scratch, &payload) < 0)
            r = bad_header(err, fields[i].name, "is missing or malformed");
    }
    if (r >= 0)
        r = rlp_put_list(out, payload.data, payload.len);
    buffer_done(&scratch);
    buffer_done(&payload);
    return r < 0 ? r : 0;
}

static int copy_hash(const struct rlp_item *item, uint8_t ret_hash[32])
{
    if (item->list || item->len != 32)
        return -EBADMSG;
    memcpy(ret_hash, item->data, 32);
    return 0;
}

int eth_header_from_rlp(const uint8_t *rlp, size_t len, struct eth_header *ret_header)
{
    struct rlp_item list, items[FIELD_COUNT];
    struct eth_header header = {.number = 0};
    int count;
    if (rlp_decode(rlp, len, &list) < 0 || (count = rlp_members(&list, items, FIELD_COUNT)) < 0 ||
        count < OLD_FIELDS)
        return -EBADMSG;
    if (copy_hash(&items[AT_PARENT], header.parent) < 0 ||
        copy_hash(&items[AT_STATE_ROOT], header.state_root) < 0 ||
        copy_hash(&items[AT_RECEIPTS_ROOT], header.receipts_root) < 0 ||
        rlp_uint64(&items[AT_NUMBER], &header.number) < 0 ||
        rlp_uint64(&items[AT_GAS_LIMIT], &header.gas_limit) < 0 ||
        rlp_uint64(&items[AT_TIMESTAMP], &header.timestamp) < 0)
        return -EBADMSG;
    if (count > AT_BASE_FEE && rlp_uint64(&items[AT_BASE_FEE], &header.base_fee) < 0)
        header.base_fee = UINT64_MAX;
    keccak256(rlp, len, header.hash);
    *ret_header = header;
    return 0;
}

int eth_header_from_json(yyjson_val *block, struct eth_header *ret_header, struct error *err)
{
    struct buffer rlp;
    uint8_t claimed[32];
    const char *text = yyjson_get_str(yyjson_obj_get(block, "hash"));
    if (text == NULL || hex_decode(text, claimed, sizeof(claimed)) < 0)
        return bad_header(err, "hash", "is missing or malformed");
    buffer_init(&rlp, 0);
    int r = eth_header_rlp(block, &rlp, err);
    struct eth_header header;
    if (r >= 0 && eth_header_from_rlp(rlp.data, rlp.len, &header) < 0)
        r = bad_header(err, "header", "does not parse");
    if (r >= 0 && memcmp(header.hash, claimed, 32) != 0)
        r = bad_header(err, "hash", "is not the Keccak-256 of its header");
    if (r >= 0)
        *ret_header = header;
    buffer_done(&rlp);
    return r < 0 ? r : 0;
}
