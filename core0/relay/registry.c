/*
 * registry.c - asks the registry about an identity: its newest node, that node's farm, nonce and state.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/eth/abi.h"
#include "relay.h"

#define NODE_TYPE                                                                                  \
    "((address,uint64,uint8,uint8,bool,uint64,uint64,uint64,uint32,bytes32,bytes32,bytes32,"       \
    "bytes32,bytes32,bytes32,bytes32,uint64,uint64,string[]))"

struct question {
    struct relay *relay;
    struct registered answer;
    char block[24];
    registered_fn *fn;
    void *data;
};

static int call(struct relay *relay, const char *signature, const struct abi_value *argument,
                const char *block, eth_rpc_fn *fn, void *data)
{
    struct buffer bytes, params;
    buffer_init(&bytes, 0);
    buffer_init(&params, 0);
    int r = abi_encode_call(signature, argument, 1, &bytes);
    if (r >= 0)
        r = eth_rpc_call_params(&params, NULL, relay->chain.registry, bytes.data, bytes.len, block);
    if (r >= 0)
        r = eth_rpc_call(relay->rpc, -1, "eth_call", (const char *)params.data, fn, data, NULL);
    buffer_done(&params);
    buffer_done(&bytes);
    return r;
}

bool registered_has(const struct registered *registered, const struct entry *entry)
{
    if (entry->message.kind ==
        GRID_JOIN) /* of a node that was retired since, nothing is left to do */
        return registered->node == entry->message.number && registered->state > 1;
    return registered->node != 0 && registered->nonce >= entry->nonce;
}

static void finish(struct question *question, const struct error *err)
{
    question->fn(err == NULL ? &question->answer : NULL, err, question->data);
    free(question);
}

/* Decodes; false: finished with an error. */
static bool take(struct question *question, yyjson_val *result, const struct error *why,
                 const char *types, struct abi_decoded *ret_decoded)
{
    struct buffer bytes;
    struct error err = {.code = ""};
    if (why != NULL) {
        finish(question, why);
        return false;
    }
    buffer_init(&bytes, 0);
    int r = eth_rpc_bytes_buffer(result, &bytes);
    if (r >= 0)
        r = abi_decode(types, bytes.data, bytes.len, ret_decoded);
    buffer_done(&bytes);
    if (r < 0) {
        error_set(&err, EBADMSG, "chain.bad-answer", "check the registry's address",
                  "the registry's answer does not decode");
        finish(question, &err);
        return false;
    }
    return true;
}

static void on_node(yyjson_val *result, const struct error *err, void *data)
{
    struct question *question = data;
    struct abi_decoded decoded;
    uint64_t state = 0;
    if (!take(question, result, err, NODE_TYPE, &decoded))
        return;
    const struct abi_value *fields = decoded.values[0].items;
    (void)abi_get_uint(&fields[1], &question->answer.farm);
    (void)abi_get_uint(&fields[2], &state);
    (void)abi_get_uint(&fields[5], &question->answer.nonce);
    question->answer.state = (unsigned)state;
    abi_decoded_done(&decoded);
    finish(question, NULL);
}

static void on_id(yyjson_val *result, const struct error *why, void *data)
{
    struct question *question = data;
    struct abi_decoded decoded;
    struct error err = {.code = ""};
    if (!take(question, result, why, "(uint64)", &decoded))
        return;
    struct abi_value id = decoded.values[0];
    (void)abi_get_uint(&id, &question->answer.node);
    abi_decoded_done(&decoded);
    if (question->answer.node == 0) {
        finish(question, NULL);
    } else if (call(question->relay, "node(uint64)", &id, question->block, on_node, question) < 0) {
        error_set(&err, ENOMEM, "relay.no-memory", "", "no memory");
        finish(question, &err);
    }
}

int registry_ask(struct relay *relay, const uint8_t identity[20], const char *block,
                 registered_fn *fn, void *data)
{
    struct question *question = calloc(1, sizeof(*question));
    struct abi_value argument = abi_address(identity);
    if (question == NULL)
        return -ENOMEM;
    question->relay = relay;
    snprintf(question->block, sizeof(question->block), "%s", block);
    question->fn = fn;
    question->data = data;
    int r = call(relay, "nodeByIdentity(address)", &argument, block, on_id, question);
    if (r < 0)
        free(question);
    return r;
}

int registry_simulate(struct relay *relay, const struct grid_message *message, eth_rpc_fn *fn,
                      void *data)
{
    struct buffer bytes, params;
    const uint8_t *to =
        grid_kinds[message->kind].reservations ? relay->chain.reservations : relay->chain.registry;
    buffer_init(&bytes, 0);
    buffer_init(&params, 0);
    int r = grid_message_call(message, &bytes);
    if (r >= 0)
        r = eth_rpc_call_params(&params, relay->account, to, bytes.data, bytes.len, NULL);
    if (r >= 0)
        r = eth_rpc_call(relay->rpc, -1, "eth_estimateGas", (const char *)params.data, fn, data,
                         NULL);
    buffer_done(&params);
    buffer_done(&bytes);
    return r;
}
