/*
 * message.c - typed messages of nodes.
 */
#include "lib/grid/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/eth/typed.h"
#include "lib/json.h"

const struct grid_kind_info grid_kinds[GRID_KIND_COUNT] = {
    [GRID_REGISTER] =
        {"register",
         "Registration(uint64 farm,address identity,uint64 nonce,bytes32 bootId,string[] addresses,"
         "bytes32 tlsKeyHash,bytes32 sealingKey,uint32 keyEpoch,uint8 runMode,bytes32 imageDigest,"
         "bytes32 capacity,bool ephemeral)",
         "register((uint64,address,uint64,bytes32,string[],bytes32,bytes32,uint32,uint8,bytes32,"
         "bytes32,bool),bytes,bytes)",
         false, 1500000},
    [GRID_REPORT] =
        {"report",
         "Report(uint64 node,uint64 nonce,bytes32 bootId,uint64 uptime,bytes32 capacity,"
         "bytes32 version)",
         "report((uint64,uint64,bytes32,uint64,bytes32,bytes32),bytes)", false, 250000},
    [GRID_PROFILE] = {"profile",
                      "Profile(uint64 node,uint64 nonce,bytes32 bootId,string[] addresses,"
                      "bytes32 tlsKeyHash,uint8 runMode,bytes32 imageDigest)",
                      "changeProfile((uint64,uint64,bytes32,string[],bytes32,uint8,bytes32),bytes)",
                      false, 900000},
    [GRID_KEY_EPOCH] = {"key-epoch",
                        "KeyEpoch(uint64 node,uint64 nonce,bytes32 bootId,bytes32 sealingKey,"
                        "uint32 keyEpoch)",
                        "changeKeyEpoch((uint64,uint64,bytes32,bytes32,uint32),bytes)", false,
                        250000},
    [GRID_RESULT] = {"result",
                     "Result(uint64 node,uint64 nonce,bytes32 bootId,uint64 reservation,"
                     "uint32 revision,uint8 state,bytes32 reason)",
                     "result((uint64,uint64,bytes32,uint64,uint32,uint8,bytes32),bytes)", true,
                     700000},
    [GRID_JOIN] = {"join", "Join(uint64 farm,address node)", "join(uint64,bytes)", false, 200000},
};

int grid_kind_find(const char *name, enum grid_kind *ret_kind)
{
    for (int kind = 0; kind < GRID_KIND_COUNT; kind++) {
        if (strcmp(grid_kinds[kind].name, name) == 0) {
            *ret_kind = (enum grid_kind)kind;
            return 0;
        }
    }
    return -ENOENT;
}

struct member {
    const char *type;
    size_t type_len;
    const char *name;
    size_t name_len;
};

/* Members of a type string one after the other; *at starts at NULL. */
static bool member_next(const char *type, const char **at, struct member *ret_member)
{
    const char *from = *at == NULL ? strchr(type, '(') + 1 : *at;
    if (*from == '\0')
        return false;
    ret_member->type = from;
    ret_member->type_len = strcspn(from, " ");
    ret_member->name = from + ret_member->type_len + 1;
    ret_member->name_len = strcspn(ret_member->name, ",)");
    *at = ret_member->name + ret_member->name_len + 1;
    return true;
}

static bool type_is(const struct member *member, const char *type)
{
    return member->type_len == strlen(type) && memcmp(member->type, type, member->type_len) == 0;
}

static bool type_is_uint(const struct member *member)
{
    return member->type_len > 4 && memcmp(member->type, "uint", 4) == 0;
}

static size_t index_of(const struct grid_message *message, const char *name)
{
    const char *at = NULL;
    struct member member;
    for (size_t i = 0; member_next(grid_kinds[message->kind].type, &at, &member); i++) {
        if (member.name_len == strlen(name) && memcmp(member.name, name, member.name_len) == 0)
            return i;
    }
    abort();
}

void grid_message_init(struct grid_message *message, enum grid_kind kind)
{
    const char *at = NULL;
    struct member member;
    memset(message, 0, sizeof(*message));
    message->kind = kind;
    while (member_next(grid_kinds[kind].type, &at, &member)) {
        if (type_is(&member, "string[]"))
            message->values[message->count].items = message->hosts;
        message->count++;
    }
}

void grid_message_copy(const struct grid_message *from, struct grid_message *ret_to)
{
    *ret_to = *from;
    for (size_t i = 0; i < from->count; i++) {
        if (from->values[i].items != NULL)
            ret_to->values[i].items = ret_to->hosts;
    }
    for (size_t i = 0; i < GRID_ADDRESSES_MAX; i++) {
        if (from->hosts[i].data != NULL)
            ret_to->hosts[i].data = (const uint8_t *)ret_to->host_text[i];
    }
}

void grid_message_set_uint(struct grid_message *message, const char *name, uint64_t value)
{
    eth_word_from_uint64(value, message->values[index_of(message, name)].word);
}

void grid_message_set_word(struct grid_message *message, const char *name, const uint8_t word[32])
{
    memcpy(message->values[index_of(message, name)].word, word, 32);
}

void grid_message_set_address(struct grid_message *message, const char *name,
                              const uint8_t address[20])
{
    memcpy(message->values[index_of(message, name)].word + 12, address, 20);
}

int grid_message_set_hosts(struct grid_message *message, const char *const *hosts, size_t count)
{
    if (count > GRID_ADDRESSES_MAX)
        return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(hosts[i]);
        if (len == 0 || len > GRID_HOST_MAX)
            return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(hosts[i]);
        memcpy(message->host_text[i], hosts[i], len + 1);
        message->hosts[i] = abi_bytes(message->host_text[i], len);
    }
    message->values[index_of(message, "addresses")].len = count;
    return 0;
}

uint64_t grid_message_uint(const struct grid_message *message, const char *name)
{
    uint64_t value = 0;
    (void)abi_get_uint(&message->values[index_of(message, name)], &value);
    return value;
}

uint64_t grid_message_nonce(const struct grid_message *message)
{
    return message->kind == GRID_JOIN ? 0 : grid_message_uint(message, "nonce");
}

const uint8_t *grid_message_word(const struct grid_message *message, const char *name)
{
    return message->values[index_of(message, name)].word;
}

/* ---- signatures ---- */

static void domain_of(const struct grid_chain *chain, bool reservations,
                      struct eth_domain *ret_domain)
{
    *ret_domain = (struct eth_domain){.name = "Croft", .version = "1", .chain_id = chain->chain_id};
    memcpy(ret_domain->contract, reservations ? chain->reservations : chain->registry, 20);
}

int grid_message_digest(const struct grid_message *message, const struct grid_chain *chain,
                        uint8_t ret_digest[32])
{
    const struct grid_kind_info *info = &grid_kinds[message->kind];
    struct eth_domain domain;
    domain_of(chain, info->reservations, &domain);
    return eth_typed_digest(&domain, info->type, message->values, message->count, ret_digest);
}

int grid_message_sign(struct grid_message *message, const struct grid_chain *chain,
                      const uint8_t key[ECDSA_KEY_SIZE])
{
    uint8_t digest[32];
    int r = grid_message_digest(message, chain, digest);
    return r < 0 ? r : ecdsa_sign(key, digest, message->signature);
}

int grid_message_signer(const struct grid_message *message, const struct grid_chain *chain,
                        uint8_t ret_address[20])
{
    uint8_t digest[32];
    int r = grid_message_digest(message, chain, digest);
    return r < 0 ? r : ecdsa_recover(digest, message->signature, ret_address);
}

int grid_join_digest(const struct grid_chain *chain, uint64_t farm, const uint8_t node[20],
                     uint8_t ret_digest[32])
{
    struct eth_domain domain;
    struct abi_value values[] = {abi_uint(farm), abi_address(node)};
    domain_of(chain, false, &domain);
    return eth_typed_digest(&domain, "Join(uint64 farm,address node)", values, 2, ret_digest);
}

int grid_message_call(const struct grid_message *message, struct buffer *out)
{
    struct grid_message copy;
    struct abi_value arguments[3];
    grid_message_copy(message, &copy);
    arguments[0] =
        message->kind == GRID_JOIN ? abi_uint(copy.number) : abi_items(copy.values, copy.count);
    arguments[1] = abi_bytes(copy.signature, ECDSA_SIGNATURE_SIZE);
    arguments[2] = abi_bytes(copy.join, copy.joined ? ECDSA_SIGNATURE_SIZE : 0);
    return abi_encode_call(grid_kinds[message->kind].call, arguments,
                           message->kind == GRID_REGISTER ? 3 : 2, out);
}

/* ---- JSON ---- */

static void put_member(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct member *member,
                       const struct abi_value *value)
{
    char text[67];
    yyjson_mut_val *key = yyjson_mut_strncpy(doc, member->name, member->name_len);
    yyjson_mut_val *item;
    if (type_is(member, "string[]")) {
        item = yyjson_mut_arr(doc);
        for (size_t i = 0; i < value->len; i++)
            yyjson_mut_arr_add_strncpy(doc, item, (const char *)value->items[i].data,
                                       value->items[i].len);
    } else if (type_is(member, "bool")) {
        item = yyjson_mut_bool(doc, value->word[31] != 0);
    } else if (type_is_uint(member)) {
        uint64_t number = 0;
        (void)abi_get_uint(value, &number);
        item = yyjson_mut_uint(doc, number);
    } else if (type_is(member, "address")) {
        hex_encode_0x(value->word + 12, 20, text);
        item = yyjson_mut_strcpy(doc, text);
    } else {
        hex_encode_0x(value->word, 32, text);
        item = yyjson_mut_strcpy(doc, text);
    }
    yyjson_mut_obj_add(object, key, item);
}

static void put_signature(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                          const uint8_t signature[ECDSA_SIGNATURE_SIZE])
{
    char text[2 * ECDSA_SIGNATURE_SIZE + 3];
    hex_encode_0x(signature, ECDSA_SIGNATURE_SIZE, text);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

int grid_message_to_json(const struct grid_message *message, struct buffer *out)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return -ENOMEM;
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    const char *at = NULL;
    struct member member;
    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; member_next(grid_kinds[message->kind].type, &at, &member); i++)
        put_member(doc, object, &member, &message->values[i]);
    yyjson_mut_obj_add_val(doc, root, "message", object);
    put_signature(doc, root, "signature", message->signature);
    if (message->joined)
        put_signature(doc, root, "join", message->join);
    if (message->kind == GRID_JOIN)
        yyjson_mut_obj_add_uint(doc, root, "number", message->number);
    size_t len;
    char *text = yyjson_mut_write(doc, 0, &len);
    yyjson_mut_doc_free(doc);
    if (text == NULL)
        return -ENOMEM;
    int r = buffer_append(out, text, len);
    free(text);
    return r < 0 ? r : 0;
}

static int bad_message(struct error *err, const struct member *member, const char *what)
{
    return error_set(err, EBADMSG, "relay.bad-message", "", "the member %.*s %s",
                     (int)member->name_len, member->name, what);
}

static int take_hosts(yyjson_val *value, struct grid_message *message)
{
    const char *hosts[GRID_ADDRESSES_MAX];
    size_t index, max;
    yyjson_val *item;
    if (!yyjson_is_arr(value) || yyjson_arr_size(value) > GRID_ADDRESSES_MAX)
        return -EINVAL;
    yyjson_arr_foreach(value, index, max, item)
    {
        hosts[index] = yyjson_get_str(item);
        if (hosts[index] == NULL || strlen(hosts[index]) != yyjson_get_len(item))
            return -EINVAL;
    }
    return grid_message_set_hosts(message, hosts, yyjson_arr_size(value));
}

static int take_member(yyjson_val *object, const struct member *member, size_t index,
                       struct grid_message *message, struct error *err)
{
    yyjson_val *value = yyjson_obj_getn(object, member->name, member->name_len);
    struct abi_value *to = &message->values[index];
    const char *text = yyjson_get_str(value);
    int r = -EINVAL;
    if (value == NULL)
        return bad_message(err, member, "is missing");
    if (type_is(member, "string[]")) {
        r = take_hosts(value, message);
    } else if (type_is(member, "bool")) {
        to->word[31] = yyjson_get_bool(value);
        r = yyjson_is_bool(value) ? 0 : -EINVAL;
    } else if (type_is_uint(member)) {
        int bits = atoi(member->type + 4);
        uint64_t number = yyjson_get_uint(value);
        if (yyjson_is_uint(value) && number < (uint64_t)1 << 53 &&
            (bits >= 64 || number >> bits == 0))
            r = 0;
        eth_word_from_uint64(number, to->word);
    } else if (text != NULL && type_is(member, "address")) {
        r = hex_decode(text, to->word + 12, 20);
    } else if (text != NULL) {
        r = hex_decode(text, to->word, 32);
    }
    return r < 0 ? bad_message(err, member, "is malformed") : 0;
}

int grid_message_from_json(enum grid_kind kind, const char *text, size_t len,
                           struct grid_message *ret_message, struct error *err)
{
    struct {
        yyjson_val *message;
        const char *signature, *join;
        uint64_t number;
    } in = {0};
    static const struct json_field fields[] = {
        {"message", JSON_OBJECT, offsetof(__typeof__(in), message), true, 0, 0},
        {"signature", JSON_STRING, offsetof(__typeof__(in), signature), true, 0, 132},
        {"join", JSON_STRING, offsetof(__typeof__(in), join), false, 0, 132},
        {"number", JSON_UINT, offsetof(__typeof__(in), number), false, 1, ((int64_t)1 << 53) - 1},
    };
    struct grid_message message;
    const char *at = NULL;
    struct member member;
    yyjson_doc *doc = json_parse(text, len, GRID_MESSAGE_MAX, "relay.bad-message", err);
    if (doc == NULL)
        return -EBADMSG;
    grid_message_init(&message, kind);
    int r = json_read(yyjson_doc_get_root(doc), fields, sizeof(fields) / sizeof(fields[0]), 0, &in,
                      "relay.bad-message", err);
    for (size_t i = 0; r >= 0 && member_next(grid_kinds[kind].type, &at, &member); i++)
        r = take_member(in.message, &member, i, &message, err);
    if (r >= 0 && yyjson_obj_size(in.message) != message.count)
        r = error_set(err, EBADMSG, "relay.bad-message", "", "the message has unknown members");
    if (r >= 0 && hex_decode(in.signature, message.signature, ECDSA_SIGNATURE_SIZE) < 0)
        r = error_set(err, EBADMSG, "relay.bad-message", "", "the signature is malformed");
    if (r >= 0 && in.join != NULL) {
        message.joined = true;
        if (kind != GRID_REGISTER || hex_decode(in.join, message.join, ECDSA_SIGNATURE_SIZE) < 0)
            r = error_set(err, EBADMSG, "relay.bad-message", "",
                          "the token's signature is malformed");
    }
    if (r >= 0 && (kind == GRID_JOIN) != (in.number != 0))
        r = error_set(err, EBADMSG, "relay.bad-message", "",
                      "the member number belongs to a join, and to nothing else");
    message.number = in.number;
    yyjson_doc_free(doc);
    if (r < 0)
        return r;
    grid_message_copy(&message, ret_message);
    return 0;
}
