// RLP, ABI, addresses, typed data, transactions, headers and proofs, against published vectors, those of tests/vectors, and what
// another implementation (anvil) answers.
// packages: mbedtls curl c-ares secp256k1 zlib
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/eth/abi.h"
#include "lib/eth/address.h"
#include "lib/eth/header.h"
#include "lib/eth/proof.h"
#include "lib/eth/rlp.h"
#include "lib/eth/rpc.h"
#include "lib/eth/tx.h"
#include "lib/eth/typed.h"
#include "lib/file.h"
#include "lib/grid/message.h"

static char *read_vectors(const char *name, size_t *ret_len)
{
    char path[128], *text;
    snprintf(path, sizeof(path), "tests/vectors/%s.json", name);
    assert_int_equal(file_read(path, 1 << 24, &text, ret_len), 0);
    return text;
}

static yyjson_doc *vectors(const char *name)
{
    size_t len;
    char *text = read_vectors(name, &len);
    yyjson_doc *doc = yyjson_read(text, len, 0);
    free(text);
    assert_non_null(doc);
    return doc;
}

static const char *str(yyjson_val *object, const char *name)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    assert_non_null(text);
    return text;
}

static void hex(const char *text, struct buffer *out)
{
    buffer_init(out, 0);
    assert_int_equal(hex_decode_buffer(text, out), 0);
}

static void assert_hex(const void *data, size_t len, const char *expected)
{
    char *text = malloc(2 * len + 3);
    hex_encode_0x(data, len, text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_rlp(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "8100",
        "817f",
        "b800",
        "b83700",
        "b90001",
        "c1",
        "83646f",
        "c483646f67ff",
        "bfffffffffffffffff",
        "ffffffffffffffffff",
        "f80000",
        "8180ff",
        "b8",
        "f9",
        "c28100" /* inner */,
    };
    struct buffer data, out;
    struct rlp_item item, members[4];
    uint64_t number;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        hex(bad[i], &data);
        int r = rlp_decode(data.data, data.len, &item);
        if (r == 0)
            r = rlp_members(&item, members, 4);
        assert_int_equal(r, -EBADMSG);
        buffer_done(&data);
    }
    /* ["cat", "dog"], and back */
    hex("c88363617483646f67", &data);
    assert_int_equal(rlp_decode(data.data, data.len, &item), 0);
    assert_true(item.list);
    assert_int_equal(rlp_members(&item, members, 4), 2);
    assert_memory_equal(members[1].data, "dog", 3);
    assert_int_equal(rlp_members(&item, members, 1), -EBADMSG);
    buffer_init(&out, 0);
    struct buffer list;
    buffer_init(&list, 0);
    rlp_put_bytes(&list, "cat", 3);
    rlp_put_bytes(&list, "dog", 3);
    rlp_put_list(&out, list.data, list.len);
    assert_int_equal(out.len, data.len);
    assert_memory_equal(out.data, data.data, data.len);
    buffer_done(&data);

    static const struct {
        uint64_t value;
        const char *text;
    } numbers[] = {{0, "0x80"},     {15, "0x0f"},       {127, "0x7f"},
                   {128, "0x8180"}, {1024, "0x820400"}, {UINT64_MAX, "0x88ffffffffffffffff"}};
    for (size_t i = 0; i < 6; i++) {
        buffer_clear(&out);
        rlp_put_uint64(&out, numbers[i].value);
        assert_hex(out.data, out.len, numbers[i].text);
        assert_int_equal(rlp_decode(out.data, out.len, &item), 0);
        assert_int_equal(rlp_uint64(&item, &number), 0);
        assert_int_equal(number, numbers[i].value);
    }
    /* a number has no leading zeros */
    hex("820001", &data);
    assert_int_equal(rlp_decode(data.data, data.len, &item), 0);
    assert_int_equal(rlp_uint64(&item, &number), -EBADMSG);
    buffer_done(&data);
    /* lengths around the two forms */
    for (size_t len = 54; len < 300; len++) {
        uint8_t bytes[300];
        memset(bytes, 0xee, sizeof(bytes));
        buffer_clear(&out);
        rlp_put_bytes(&out, bytes, len);
        assert_int_equal(rlp_decode(out.data, out.len, &item), 0);
        assert_int_equal(item.len, len);
        assert_int_equal(rlp_decode(out.data, out.len - 1, &item), -EBADMSG);
    }
    buffer_done(&list);
    buffer_done(&out);
}

static void test_address(void **state)
{
    (void)state;
    /* EIP-55's own test cases */
    static const char *const good[] = {
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7", "0xde709f2102306220921060314715629080e2fb77",
    };
    uint8_t address[20];
    char text[ETH_ADDRESS_TEXT];
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(eth_address_parse(good[i], address), 0);
        eth_address_format(address, text);
        assert_string_equal(text, good[i]);
    }
    assert_int_equal(eth_address_parse("0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed", address),
                     -EINVAL);
    assert_int_equal(eth_address_parse("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", address),
                     -EINVAL);
    assert_int_equal(eth_address_parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe", address),
                     -EINVAL);
    assert_int_equal(eth_address_parse("", address), -EINVAL);

    uint8_t word[32];
    char code[33];
    memset(word, 0xff, 32);
    word[30] = 0xfe;
    eth_slot_add(word, 0x103);
    assert_hex(word + 28, 4, "0x00000002");
    eth_word_from_uint64(UINT64_MAX, word);
    eth_slot_add(word, UINT64_MAX);
    assert_hex(word + 22, 10, "0x0001fffffffffffffffe");
    eth_code_to_word("image.digest-mismatch", word);
    eth_code_from_word(word, code);
    assert_string_equal(code, "image.digest-mismatch");
}

static void test_abi(void **state)
{
    (void)state;
    /* Solidity's documentation, "Use of Dynamic Types": f(0x123, [0x456, 0x789], "1234567890", "Hello, world!") */
    struct abi_value numbers[] = {abi_uint(0x456), abi_uint(0x789)};
    uint8_t ten[32] = "1234567890";
    struct abi_value values[] = {abi_uint(0x123), abi_items(numbers, 2), abi_word(ten),
                                 abi_string("Hello, world!")};
    static const char expected[] =
        "0x8be65246"
        "0000000000000000000000000000000000000000000000000000000000000123"
        "0000000000000000000000000000000000000000000000000000000000000080"
        "3132333435363738393000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000e0"
        "0000000000000000000000000000000000000000000000000000000000000002"
        "0000000000000000000000000000000000000000000000000000000000000456"
        "0000000000000000000000000000000000000000000000000000000000000789"
        "000000000000000000000000000000000000000000000000000000000000000d"
        "48656c6c6f2c20776f726c642100000000000000000000000000000000000000";
    struct buffer out;
    struct abi_decoded decoded;
    uint64_t number;
    buffer_init(&out, 0);
    assert_int_equal(abi_encode_call("f(uint256,uint32[],bytes10,bytes)", values, 4, &out), 0);
    assert_hex(out.data, out.len, expected);
    assert_int_equal(
        abi_decode("(uint256,uint32[],bytes10,bytes)", out.data + 4, out.len - 4, &decoded), 0);
    assert_int_equal(decoded.count, 4);
    assert_int_equal(decoded.values[1].len, 2);
    assert_int_equal(abi_get_uint(&decoded.values[1].items[1], &number), 0);
    assert_int_equal(number, 0x789);
    assert_string_equal((const char *)decoded.values[3].data, "Hello, world!");
    abi_decoded_done(&decoded);
    /* every truncation fails, every set bit of the padding too */
    for (size_t len = 0; len < out.len - 4; len++)
        assert_int_equal(
            abi_decode("(uint256,uint32[],bytes10,bytes)", out.data + 4, len, &decoded), -EBADMSG);
    static const size_t padding[] = {2 * 32 + 10, 2 * 32 + 31, 5 * 32,    5 * 32 + 27,
                                     8 * 32 + 13, 8 * 32 + 31, 3 * 32 + 4};
    for (size_t i = 0; i < sizeof(padding) / sizeof(padding[0]); i++) {
        out.data[4 + padding[i]] ^= 1;
        assert_int_equal(
            abi_decode("(uint256,uint32[],bytes10,bytes)", out.data + 4, out.len - 4, &decoded),
            -EBADMSG);
        out.data[4 + padding[i]] ^= 1;
    }
    buffer_done(&out);

    /* an array that claims more than there can be, and a type that is none */
    uint8_t huge[64] = {[31] = 32, [62] = 0xff};
    assert_int_equal(abi_decode("(uint256[])", huge, sizeof(huge), &decoded), -EBADMSG);
    assert_int_equal(abi_decode("(uint257)", huge, sizeof(huge), &decoded), -EINVAL);
    assert_int_equal(abi_decode("(bytes33)", huge, sizeof(huge), &decoded), -EINVAL);
    assert_int_equal(abi_decode("uint256", huge, sizeof(huge), &decoded), -EINVAL);
    /* offsets that point at themselves do not run away */
    uint8_t loop[32] = {0};
    assert_int_equal(abi_decode("(bytes[][][])", loop, sizeof(loop), &decoded), 0);
    abi_decoded_done(&decoded);
}

/* The calls and events of the contracts, made by tests/vectors/generate.py. */
static void test_story(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors("story");
    struct buffer data, again;
    struct abi_decoded decoded;
    static const char propose[] = "propose((uint64,uint32,uint32,bytes32,bytes32,bytes,bytes32,"
                                  "bytes32,string[],uint64,uint64,uint32,bool))";
    hex(str(yyjson_doc_get_root(doc), "propose"), &data);
    assert_int_equal(abi_decode(propose, data.data + 4, data.len - 4, &decoded), 0);
    buffer_init(&again, 0);
    assert_int_equal(abi_encode_call(propose, decoded.values, decoded.count, &again), 0);
    assert_int_equal(again.len, data.len);
    assert_memory_equal(again.data, data.data, data.len);
    abi_decoded_done(&decoded);
    buffer_done(&again);
    buffer_done(&data);
    yyjson_doc_free(doc);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum grid_kind kind;
    } kinds[] = {{"Registration", GRID_REGISTER}, {"Report", GRID_REPORT},
                 {"Profile", GRID_PROFILE},       {"KeyEpoch", GRID_KEY_EPOCH},
                 {"Result", GRID_RESULT},         {"Join", GRID_JOIN}};
    yyjson_doc *doc = vectors("typed-data");
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct grid_chain chain = {.chain_id = yyjson_get_uint(yyjson_obj_get(root, "chainId"))};
    uint8_t key[32], token[32], digest[32], signature[65], signer[20], identity[20];
    uint8_t token_address[20];
    assert_int_equal(eth_address_parse(str(root, "registry"), chain.registry), 0);
    assert_int_equal(eth_address_parse(str(root, "reservations"), chain.reservations), 0);
    assert_int_equal(eth_address_parse(str(root, "identity"), identity), 0);
    assert_int_equal(hex_decode(str(root, "identityPrivate"), key, 32), 0);
    assert_int_equal(hex_decode(str(root, "tokenPrivate"), token, 32), 0);
    assert_int_equal(ecdsa_address(token, token_address), 0);
    yyjson_val *messages = yyjson_obj_get(root, "messages");
    const char *join = str(yyjson_obj_get(messages, "Join"), "signature");
    assert_int_equal(grid_join_digest(&chain, 1, identity, digest), 0);
    assert_hex(digest, 32, str(yyjson_obj_get(messages, "Join"), "digest"));
    assert_int_equal(ecdsa_sign(token, digest, signature), 0);
    assert_hex(signature, 65, join);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        yyjson_val *vector = yyjson_obj_get(messages, kinds[i].name);
        char *members = yyjson_val_write(yyjson_obj_get(vector, "message"), 0, NULL);
        struct buffer text, call;
        struct grid_message message, copy;
        assert_string_equal(str(vector, "typeString"), grid_kinds[kinds[i].kind].type);
        buffer_init(&text, 0);
        buffer_printf(
            &text, "{\"message\":%s,\"signature\":\"%s\"%s%s%s%s}", members,
            str(vector, "signature"), kinds[i].kind == GRID_REGISTER ? ",\"join\":\"" : "",
            kinds[i].kind == GRID_REGISTER ? join : "", kinds[i].kind == GRID_REGISTER ? "\"" : "",
            kinds[i].kind == GRID_JOIN ? ",\"number\":1" : "");
        struct error err = {.code = ""};
        if (grid_message_from_json(kinds[i].kind, (const char *)text.data, text.len, &message,
                                   &err) != 0)
            fail_msg("%s: %s", kinds[i].name, err.message);
        assert_int_equal(grid_message_digest(&message, &chain, digest), 0);
        assert_hex(digest, 32, str(vector, "digest"));
        assert_int_equal(grid_message_signer(&message, &chain, signer), 0);
        bool by_token = kinds[i].kind == GRID_JOIN;
        assert_memory_equal(signer, by_token ? token_address : identity, 20);
        assert_int_equal(grid_message_sign(&message, &chain, by_token ? token : key), 0);
        assert_hex(message.signature, 65, str(vector, "signature"));
        buffer_init(&call, 0);
        assert_int_equal(grid_message_call(&message, &call), 0);
        assert_hex(call.data, call.len, str(vector, "calldata"));
        /* there and back */
        buffer_clear(&text);
        assert_int_equal(grid_message_to_json(&message, &text), 0);
        assert_int_equal(
            grid_message_from_json(kinds[i].kind, (const char *)text.data, text.len, &copy, NULL),
            0);
        buffer_clear(&call);
        assert_int_equal(grid_message_call(&copy, &call), 0);
        assert_hex(call.data, call.len, str(vector, "calldata"));
        buffer_done(&call);
        buffer_done(&text);
        free(members);
    }
    yyjson_doc_free(doc);
}

static void test_transaction(void **state)
{
    (void)state;
    /* made by foundry's cast */
    static const char expected[] = "0x02f8d2827a6907843b9aca0084b2d05e00830186a0945fbdb2315678afecb"
                                   "367f032d93f642f64180aa380b8643908111600000000"
                                   "000000000000000000000000000000000000000000000000000000200000000"
                                   "00000000000000000000000000000000000000000"
                                   "0000000000000004"
                                   "64656d6f0000000000000000000000000000000000000000000000000000000"
                                   "0c080a03d602edfe268b2cae5dbd7d41010e6c46a8ee3"
                                   "fbd16e5ff57cce3c1617cae08ca014545776c1f4b06ff4ce2b8def2115dcc8f"
                                   "d03a45818df12b67e8a75aae3db03";
    struct abi_value name = abi_string("demo");
    struct buffer call, raw;
    uint8_t key[32], hash[32], check[32];
    struct eth_tx tx = {.chain_id = 31337,
                        .nonce = 7,
                        .max_priority_fee = 1000000000,
                        .max_fee = 3000000000,
                        .gas = 100000};
    buffer_init(&call, 0);
    buffer_init(&raw, 0);
    hex_decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", key, 32);
    eth_address_parse("0x5fbdb2315678afecb367f032d93f642f64180aa3", tx.to);
    assert_int_equal(abi_encode_call("createFarm(string)", &name, 1, &call), 0);
    tx.data = call.data;
    tx.data_len = call.len;
    assert_int_equal(eth_tx_sign(&tx, key, &raw, hash), 0);
    assert_hex(raw.data, raw.len, expected);
    keccak256(raw.data, raw.len, check);
    assert_memory_equal(hash, check, 32);
    buffer_done(&raw);
    buffer_done(&call);
}

static void test_headers(void **state)
{
    (void)state;
    static const char *const forks[] = {"berlin", "london", "shanghai",
                                        "cancun", "prague", "osaka"};
    yyjson_doc *doc = vectors("chain");
    yyjson_val *blocks = yyjson_obj_get(yyjson_doc_get_root(doc), "blocks");
    struct eth_header header;
    struct error err;
    for (size_t i = 0; i < sizeof(forks) / sizeof(forks[0]); i++) {
        yyjson_val *block = yyjson_obj_get(blocks, forks[i]);
        memset(&err, 0, sizeof(err));
        if (eth_header_from_json(block, &header, &err) != 0)
            fail_msg("%s: %s", forks[i], err.message);
        assert_int_equal(header.number, 1);
        assert_hex(header.state_root, 32, str(block, "stateRoot"));
    }
    /* the first block of Ethereum's main network */
    static const char genesis[] =
        "{\"hash\":\"0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3\","
        "\"parentHash\":\"0x0000000000000000000000000000000000000000000000000000000000000000\","
        "\"sha3Uncles\":\"0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347\","
        "\"miner\":\"0x0000000000000000000000000000000000000000\","
        "\"stateRoot\":\"0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544\","
        "\"transactionsRoot\":"
        "\"0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421\","
        "\"receiptsRoot\":\"0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421\","
        "\"logsBloom\":\"0x%0512d\",\"difficulty\":\"0x400000000\",\"number\":\"0x0\",\"gasLimit\":"
        "\"0x1388\","
        "\"gasUsed\":\"0x0\",\"timestamp\":\"0x0\","
        "\"extraData\":\"0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa\","
        "\"mixHash\":\"0x0000000000000000000000000000000000000000000000000000000000000000\","
        "\"nonce\":\"0x0000000000000042\"}";
    char text[4096];
    int len = snprintf(text, sizeof(text), genesis, 0);
    yyjson_doc *first = yyjson_read(text, (size_t)len, 0);
    assert_int_equal(eth_header_from_json(yyjson_doc_get_root(first), &header, NULL), 0);
    yyjson_doc_free(first);
    yyjson_doc_free(doc);
}

/* ---- one changed byte anywhere ---- */

static int verify(const char *text, size_t len)
{
    yyjson_doc *doc = yyjson_read(text, len, 0);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_obj_get(yyjson_doc_get_root(doc), "state");
    struct eth_header header;
    uint8_t address[20], slots[8][32], values[8][32];
    size_t index, max, count = 0;
    yyjson_val *item;
    static const char *const keys[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000001"};
    yyjson_arr_foreach(yyjson_obj_get(yyjson_obj_get(root, "proof"), "storageProof"), index, max,
                       item)
    {
        if (index < 2)
            hex_decode(keys[index], slots[index], 32);
        else if (eth_rpc_bytes(yyjson_obj_get(item, "key"), slots[index], 32) < 0)
            break;
        count++;
    }
    int r = eth_rpc_bytes(yyjson_obj_get(root, "address"), address, 20);
    if (r == 0)
        r = eth_header_from_json(yyjson_obj_get(root, "block"), &header, NULL);
    if (r == 0)
        r = eth_proof_slots(yyjson_obj_get(root, "proof"), header.state_root, address,
                            (const uint8_t(*)[32])slots, count < 8 ? 8 : count, values, NULL);
    yyjson_doc_free(doc);
    return r;
}

static size_t flip_all(char *text, size_t len, const char *from, const char *to, const char *member)
{
    /* every hex digit of every string of `member` (NULL: of all) between the two marks */
    char *begin = strstr(text, from), *end = to != NULL ? strstr(begin, to) : text + len;
    size_t flipped = 0;
    for (char *c = begin; c < end; c++) {
        if (c[0] != '0' || c[1] != 'x' || c[-1] != '"')
            continue;
        char *stop = strchr(c, '"');
        if (member != NULL) {
            char *line = c;
            while (line > begin && *line != '\n')
                line--;
            if (strstr(line, member) == NULL || strstr(line, member) > c) {
                c = stop;
                continue;
            }
        }
        for (char *digit = c + 2; digit < stop; digit++) {
            char old = *digit;
            *digit = old == '0' ? '1' : '0';
            if (old == '0' && digit == c + 2 && stop - c <= 3)
                *digit = '1';
            if (verify(text, len) >= 0)
                fail_msg("a changed digit at %.40s… goes unnoticed", c);
            *digit = old;
            flipped++;
        }
        c = stop;
    }
    return flipped;
}

static void test_proofs(void **state)
{
    (void)state;
    size_t len;
    char *text = read_vectors("chain", &len);
    yyjson_doc *doc = yyjson_read(text, len, 0);
    yyjson_val *root = yyjson_obj_get(yyjson_doc_get_root(doc), "state");
    struct eth_header header;
    struct eth_account account;
    struct error err = {.code = ""};
    uint8_t address[20], value[32], slot[32] = {0};
    char shown[67];
    assert_int_equal(verify(text, len), 0);

    assert_int_equal(eth_header_from_json(yyjson_obj_get(root, "block"), &header, &err), 0);
    assert_int_equal(eth_rpc_bytes(yyjson_obj_get(root, "address"), address, 20), 0);
    assert_int_equal(eth_proof_account(yyjson_obj_get(root, "proof"), header.state_root, address,
                                       &account, &err),
                     1);
    /* slot 0: the address of Reservations; slot 1: nothing */
    assert_int_equal(
        eth_proof_slot(yyjson_obj_get(root, "proof"), account.storage_root, slot, value, &err), 0);
    hex_encode_0x(value + 12, 20, shown);
    assert_string_equal(shown, "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512");
    slot[31] = 1;
    memset(value, 0xff, 32);
    assert_int_equal(
        eth_proof_slot(yyjson_obj_get(root, "proof"), account.storage_root, slot, value, &err), 0);
    static const uint8_t zero[32];
    assert_memory_equal(value, zero, 32);
    /* a slot that nobody asked for has no proof */
    slot[31] = 7;
    assert_int_equal(
        eth_proof_slot(yyjson_obj_get(root, "proof"), account.storage_root, slot, value, &err),
        -EBADMSG);
    assert_string_equal(err.code, "chain.bad-proof");
    /* an account that is not there */
    assert_int_equal(eth_rpc_bytes(yyjson_obj_get(root, "absentAddress"), address, 20), 0);
    assert_int_equal(eth_proof_account(yyjson_obj_get(root, "absent"), header.state_root, address,
                                       &account, NULL),
                     0);
    memset(&err, 0, sizeof(err));
    assert_int_equal(eth_proof_slots(yyjson_obj_get(root, "absent"), header.state_root, address,
                                     (const uint8_t(*)[32])zero, 0, NULL, &err),
                     -ENOENT);
    assert_string_equal(err.code, "chain.no-contract");
    yyjson_doc_free(doc);

    assert_true(flip_all(text, len, "\"state\": {", "\"proof\"", NULL) >
                1000); /* header and address */
    assert_true(flip_all(text, len, "\"accountProof\"", "\"storageProof\"", NULL) >
                500); /* account proof */
    free(text);
}

/* Storage proofs node by node: changed, cut, longer, in another order. */
static void test_storage_proofs(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors("chain");
    yyjson_val *proof = yyjson_obj_get(yyjson_obj_get(yyjson_doc_get_root(doc), "state"), "proof");
    uint8_t root[32];
    size_t index, max, i, n, bytes = 0;
    yyjson_val *item, *text;
    assert_int_equal(eth_rpc_bytes(yyjson_obj_get(proof, "storageHash"), root, 32), 0);
    yyjson_arr_foreach(yyjson_obj_get(proof, "storageProof"), index, max, item)
    {
        struct eth_proof_node nodes[16];
        struct buffer data[16];
        uint8_t slot[32], key[32];
        const uint8_t *value;
        size_t len, count = 0;
        const char *name = str(item, "key");
        memset(slot, 0, 32);
        if (strlen(name) == 66)
            hex_decode(name, slot, 32);
        else
            slot[31] = (uint8_t)strtoul(name, NULL, 16);
        keccak256(slot, 32, key);
        yyjson_arr_foreach(yyjson_obj_get(item, "proof"), i, n, text)
        {
            hex(yyjson_get_str(text), &data[count]);
            nodes[count] = (struct eth_proof_node){data[count].data, data[count].len};
            count++;
        }
        int there = strcmp(str(item, "value"), "0x0") != 0;
        assert_int_equal(eth_proof_follow(root, key, 32, nodes, count, &value, &len), there);
        for (size_t k = 0; k < count; k++) {
            for (size_t b = 0; b < data[k].len; b++, bytes++) {
                data[k].data[b] ^= 0x20;
                assert_int_equal(eth_proof_follow(root, key, 32, nodes, count, &value, &len),
                                 -EBADMSG);
                data[k].data[b] ^= 0x20;
            }
        }
        nodes[count] = nodes[0];
        assert_int_equal(eth_proof_follow(root, key, 32, nodes, count + 1, &value, &len), -EBADMSG);
        if (count > 1) {
            assert_int_equal(eth_proof_follow(root, key, 32, nodes, count - 1, &value, &len),
                             -EBADMSG);
            assert_int_equal(eth_proof_follow(root, key, 32, nodes + 1, count, &value, &len),
                             -EBADMSG);
        }
        /* proofs of one slot prove nothing about another */
        key[0] ^= 0xff;
        assert_true(eth_proof_follow(root, key, 32, nodes, count, &value, &len) != 1);
        for (size_t k = 0; k < count; k++)
            buffer_done(&data[k]);
    }
    assert_true(bytes > 3000);
    yyjson_doc_free(doc);
}

static void test_reverts(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors("codes");
    size_t index, max;
    yyjson_val *item;
    struct buffer data;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), index, max, item)
    {
        struct error err = {.code = ""};
        hex(str(item, "revert"), &data);
        assert_true(eth_revert_decode(data.data, data.len, &err) < 0);
        assert_string_equal(err.code, str(item, "code"));
        buffer_done(&data);
    }
    struct error err = {.code = ""};
    eth_revert_decode((const uint8_t *)"", 0, &err);
    assert_string_equal(err.code, "chain.reverted");
    yyjson_doc_free(doc);
    uint64_t value;
    assert_int_equal(eth_quantity_parse("0x1f", &value), 0);
    assert_int_equal(value, 31);
    static const char *const bad[] = {"", "0x", "1f", "0xg", "0x10000000000000000", "0x 1"};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(eth_quantity_parse(bad[i], &value), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rlp),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_abi),
        cmocka_unit_test(test_story),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_transaction),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_storage_proofs),
        cmocka_unit_test(test_reverts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
