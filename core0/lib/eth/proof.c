/*
 * proof.c - Merkle-Patricia proofs.
 *
 * A node is reached by the Keccak-256 of its bytes, or, when it is shorter than 32 bytes, it stands inside its parent.
 * Two nibbles of a path make a byte; leaf and extension carry part of the path with a prefix that says whether it is odd
 * and whether the node is a leaf ("hex prefix", yellow paper appendix C).
 */
#include "lib/eth/proof.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/eth/rlp.h"

static const uint8_t empty_trie[32] = {
    0x56, 0xe8, 0x1f, 0x17, 0x1b, 0xcc, 0x55, 0xa6, 0xff, 0x83, 0x45, 0xe6, 0x92, 0xc0, 0xf8, 0x6e,
    0x5b, 0x48, 0xe0, 0x1b, 0x99, 0x6c, 0xad, 0xc0, 0x01, 0x62, 0x2f, 0xb5, 0xe3, 0x63, 0xb4, 0x21};
static const uint8_t empty_code[32] = {
    0xc5, 0xd2, 0x46, 0x01, 0x86, 0xf7, 0x23, 0x3c, 0x92, 0x7e, 0x7d, 0xb2, 0xdc, 0xc7, 0x03, 0xc0,
    0xe5, 0x00, 0xb6, 0x53, 0xca, 0x82, 0x27, 0x3b, 0x7b, 0xfa, 0xd8, 0x04, 0x5d, 0x85, 0xa4, 0x70};

struct path {
    const uint8_t *key;
    size_t nibbles;
    size_t at; /* nibbles that were followed */
};

static unsigned nibble_at(const uint8_t *key, size_t index)
{
    return index % 2 == 0 ? key[index / 2] >> 4 : key[index / 2] & 15u;
}

/* Compares the node's part with the path. 1: it matches (path moves on), 0: it differs, -EBADMSG: it is no hex prefix. */
static int follow_part(struct path *path, const struct rlp_item *part, bool *ret_leaf)
{
    if (part->list || part->len == 0)
        return -EBADMSG;
    unsigned flag = part->data[0] >> 4;
    bool odd = (flag & 1) != 0;
    if (flag > 3 || (!odd && (part->data[0] & 15) != 0))
        return -EBADMSG;
    *ret_leaf = (flag & 2) != 0;
    size_t first = odd ? 1 : 2; /* in nibbles of part->data */
    size_t count = 2 * part->len - first;
    if (!*ret_leaf && count == 0)
        return -EBADMSG; /* an extension has at least one nibble */
    if (count > path->nibbles - path->at)
        return *ret_leaf ? -EBADMSG : 0; /* keys of one trie have one length */
    for (size_t i = 0; i < count; i++) {
        if (nibble_at(part->data, first + i) != nibble_at(path->key, path->at + i))
            return 0;
    }
    path->at += count;
    return 1;
}

struct step {
    struct rlp_item next; /* reference to the following node */
    struct rlp_item value;
    enum { STEP_NEXT, STEP_FOUND, STEP_ABSENT } what;
};

static int take_step(const struct rlp_item *node, struct path *path, struct step *ret_step)
{
    struct rlp_item members[17];
    int count = rlp_members(node, members, 17);
    if (count == 17) {
        const struct rlp_item *chosen = &members[16];
        bool end = path->at == path->nibbles;
        if (!end)
            chosen = &members[nibble_at(path->key, path->at++)];
        ret_step->what = end ? STEP_FOUND : STEP_NEXT;
        ret_step->value = ret_step->next = *chosen;
        if (!chosen->list && chosen->len == 0)
            ret_step->what = STEP_ABSENT;
        else if (end && chosen->list)
            return -EBADMSG;
        return 0;
    }
    if (count != 2)
        return -EBADMSG;
    bool leaf = false;
    int r = follow_part(path, &members[0], &leaf);
    if (r < 0)
        return r;
    ret_step->value = ret_step->next = members[1];
    if (r == 0 || (leaf && path->at != path->nibbles))
        ret_step->what = STEP_ABSENT;
    else
        ret_step->what = leaf ? STEP_FOUND : STEP_NEXT;
    if (leaf && (members[1].list || members[1].len == 0))
        return -EBADMSG;
    return 0;
}

int eth_proof_follow(const uint8_t root[32], const uint8_t *key, size_t key_len,
                     const struct eth_proof_node *nodes, size_t count, const uint8_t **ret_value,
                     size_t *ret_len)
{
    static const uint8_t empty_node[1] = {0x80};
    struct path path = {.key = key, .nibbles = 2 * key_len};
    uint8_t hash[KECCAK256_SIZE];
    const uint8_t *expected = root;
    size_t used = 0;

    if (memcmp(root, empty_trie, 32) == 0) /* geth sends no node, others the empty one */
        return count == 0 || (count == 1 && nodes[0].len == 1 &&
                              memcmp(nodes[0].data, empty_node, 1) == 0)
                   ? 0
                   : -EBADMSG;
    if (count == 0 || count > ETH_PROOF_NODES_MAX)
        return -EBADMSG;
    for (;;) {
        struct rlp_item node;
        struct step step;
        if (used == count || nodes[used].len > ETH_PROOF_NODE_SIZE_MAX)
            return -EBADMSG;
        keccak256(nodes[used].data, nodes[used].len, hash);
        if (memcmp(hash, expected, 32) != 0 ||
            rlp_decode(nodes[used].data, nodes[used].len, &node) < 0)
            return -EBADMSG;
        used++;
        int r = take_step(&node, &path, &step);
        /* nodes shorter than a hash stand inside; each consumes its bytes, so this ends */
        while (r == 0 && step.what == STEP_NEXT && step.next.list) {
            if (step.next.raw_len >= 32)
                return -EBADMSG;
            node = step.next;
            r = take_step(&node, &path, &step);
        }
        if (r < 0)
            return r;
        if (step.what == STEP_NEXT) {
            if (step.next.len != 32)
                return -EBADMSG;
            expected = step.next.data;
            continue;
        }
        if (used != count)
            return -EBADMSG;
        if (step.what == STEP_ABSENT)
            return 0;
        *ret_value = step.value.data;
        *ret_len = step.value.len;
        return 1;
    }
}

/* ---- the JSON of eth_getProof ---- */

static int bad_proof(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "chain.bad-proof",
                     "the chain endpoint lies or is broken: use another one", "%s", what);
}

struct nodes {
    struct eth_proof_node list[ETH_PROOF_NODES_MAX];
    size_t count;
    struct buffer bytes;
};

static int read_nodes(yyjson_val *array, struct nodes *ret_nodes, struct error *err)
{
    struct nodes *nodes = ret_nodes;
    size_t offsets[ETH_PROOF_NODES_MAX];
    nodes->count = 0;
    buffer_init(&nodes->bytes, (size_t)ETH_PROOF_NODES_MAX * ETH_PROOF_NODE_SIZE_MAX);
    if (!yyjson_is_arr(array) || yyjson_arr_size(array) > ETH_PROOF_NODES_MAX)
        return bad_proof(err, "a proof is no array of at most 64 nodes");
    size_t index, max;
    yyjson_val *item;
    yyjson_arr_foreach(array, index, max, item)
    {
        offsets[index] = nodes->bytes.len;
        if (!yyjson_is_str(item) || yyjson_get_len(item) > 2 * ETH_PROOF_NODE_SIZE_MAX + 2 ||
            yyjson_get_len(item) != strlen(yyjson_get_str(item)) ||
            hex_decode_buffer(yyjson_get_str(item), &nodes->bytes) < 0) {
            buffer_done(&nodes->bytes);
            return bad_proof(err, "a proof's node is not hexadecimal, or too long");
        }
        nodes->list[index].len = nodes->bytes.len - offsets[index];
    }
    nodes->count = yyjson_arr_size(array);
    for (size_t i = 0; i < nodes->count; i++)
        nodes->list[i].data = nodes->bytes.data + offsets[i];
    return 0;
}

static int fixed_bytes(const struct rlp_item *item, uint8_t *ret_bytes, size_t len)
{
    if (item->list || item->len != len)
        return -EBADMSG;
    memcpy(ret_bytes, item->data, len);
    return 0;
}

/* An integer of at most 32 bytes without leading zeros, right-aligned. */
static int word_of(const struct rlp_item *item, uint8_t ret_word[32])
{
    if (item->list || item->len > 32 || (item->len > 0 && item->data[0] == 0))
        return -EBADMSG;
    memset(ret_word, 0, 32);
    memcpy(ret_word + 32 - item->len, item->data, item->len);
    return 0;
}

static int account_decode(const uint8_t *data, size_t len, struct eth_account *ret_account)
{
    struct rlp_item item, fields[4];
    if (rlp_decode(data, len, &item) < 0 || rlp_members(&item, fields, 4) != 4)
        return -EBADMSG;
    if (rlp_uint64(&fields[0], &ret_account->nonce) < 0 ||
        word_of(&fields[1], ret_account->balance) < 0 ||
        fixed_bytes(&fields[2], ret_account->storage_root, 32) < 0 ||
        fixed_bytes(&fields[3], ret_account->code_hash, 32) < 0)
        return -EBADMSG;
    return 0;
}

int eth_proof_account(yyjson_val *result, const uint8_t state_root[32], const uint8_t address[20],
                      struct eth_account *ret_account, struct error *err)
{
    uint8_t key[32];
    const uint8_t *value = NULL;
    size_t len = 0;
    struct nodes nodes;
    struct eth_account account = {0};

    int r = read_nodes(yyjson_obj_get(result, "accountProof"), &nodes, err);
    if (r < 0)
        return r;
    keccak256(address, ETH_ADDRESS_SIZE, key);
    r = eth_proof_follow(state_root, key, sizeof(key), nodes.list, nodes.count, &value, &len);
    if (r == 1 && account_decode(value, len, &account) < 0)
        r = -EBADMSG;
    buffer_done(&nodes.bytes);
    if (r < 0)
        return bad_proof(err, "the account's proof does not lead to the block's state root");
    if (r == 0) {
        memcpy(account.storage_root, empty_trie, 32);
        memcpy(account.code_hash, empty_code, 32);
    }
    *ret_account = account;
    return r;
}

/* The element of storageProof whose key is this slot; endpoints write it with or without leading zeros. */
static yyjson_val *find_slot(yyjson_val *result, const uint8_t slot[32])
{
    yyjson_val *array = yyjson_obj_get(result, "storageProof");
    size_t index, max;
    yyjson_val *item;
    if (!yyjson_is_arr(array))
        return NULL;
    yyjson_arr_foreach(array, index, max, item)
    {
        const char *text = yyjson_get_str(yyjson_obj_get(item, "key"));
        char full[65];
        uint8_t bytes[32];
        if (text == NULL)
            continue;
        if (text[0] == '0' && text[1] == 'x')
            text += 2;
        size_t len = strlen(text);
        if (len > 64)
            continue;
        memset(full, '0', 64 - len);
        memcpy(full + 64 - len, text, len + 1);
        if (hex_decode(full, bytes, 32) == 0 && memcmp(bytes, slot, 32) == 0)
            return item;
    }
    return NULL;
}

int eth_proof_slot(yyjson_val *result, const uint8_t storage_root[32], const uint8_t slot[32],
                   uint8_t ret_value[32], struct error *err)
{
    uint8_t key[32], word[32] = {0};
    const uint8_t *value = NULL;
    size_t len = 0;
    struct nodes nodes;
    struct rlp_item item;

    yyjson_val *proof = find_slot(result, slot);
    if (proof == NULL)
        return bad_proof(err, "the answer holds no proof for a slot that was asked for");
    int r = read_nodes(yyjson_obj_get(proof, "proof"), &nodes, err);
    if (r < 0)
        return r;
    keccak256(slot, 32, key);
    r = eth_proof_follow(storage_root, key, sizeof(key), nodes.list, nodes.count, &value, &len);
    if (r == 1 && (rlp_decode(value, len, &item) < 0 || word_of(&item, word) < 0 || item.len == 0))
        r = -EBADMSG;
    buffer_done(&nodes.bytes);
    if (r < 0)
        return bad_proof(err, "a slot's proof does not lead to the contract's storage root");
    memcpy(ret_value, word, 32);
    return 0;
}

int eth_proof_slots(yyjson_val *result, const uint8_t state_root[32], const uint8_t address[20],
                    const uint8_t (*slots)[32], size_t count, uint8_t (*ret_values)[32],
                    struct error *err)
{
    struct eth_account account;
    int r = eth_proof_account(result, state_root, address, &account, err);
    if (r < 0)
        return r;
    if (r == 0 || memcmp(account.code_hash, empty_code, 32) == 0) {
        char text[ETH_ADDRESS_TEXT];
        eth_address_format(address, text);
        return error_set(err, ENOENT, "chain.no-contract", "check croft.registry and croft.chain",
                         "there is no contract at %s", text);
    }
    for (size_t i = 0; i < count; i++) {
        r = eth_proof_slot(result, account.storage_root, slots[i], ret_values[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}
