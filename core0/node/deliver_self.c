/*
 * deliver_self.c - without a relay: the node pays for its own messages, one after the other.
 *
 *   balance (none: says which address to fund) → account nonce → fees → estimate (a revert costs nothing) → sign, send
 *
 * Nothing is kept about a transaction: what is not on the chain 30 s later is sent again with the same account nonce (that of the
 * last mined one) and fees of that moment, so it replaces the stuck one. The message itself is in the queue on disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "node.h"

#define DEFAULT_TIP 1000000000 /* wei: where the endpoint does not know eth_maxPriorityFeePerGas */

struct payment {
    struct node *node;
    struct buffer call;
    struct eth_tx tx;
    unsigned attempt; /* raises the fee of every repetition */
};

static void finish(struct payment *payment, const struct error *err)
{
    struct node *node = payment->node;
    buffer_done(&payment->call);
    free(payment);
    deliver_done(node, err);
}

static void fail(struct payment *payment, int ret, const char *what)
{
    struct error err = {.code = ""};
    error_set(&err, ret, "chain.bad-answer", "use another chain endpoint", "%s", what);
    finish(payment, &err);
}

static void ask(struct payment *payment, const char *method, const char *params, eth_rpc_fn *fn)
{
    if (eth_rpc_call(payment->node->rpc, -1, method, params, fn, payment, NULL) < 0)
        fail(payment, ENOMEM, "a request to the chain cannot be made");
}

static void ask_about_us(struct payment *payment, const char *method, eth_rpc_fn *fn)
{
    char params[80], address[43];
    hex_encode_0x(payment->node->identity.address, 20, address);
    snprintf(params, sizeof(params), "[\"%s\",\"latest\"]", address);
    ask(payment, method, params, fn);
}

static void on_sent(yyjson_val *result, const struct error *err, void *data)
{
    (void)result;
    /* an endpoint that knows it already, or finds the replacement too cheap, has it */
    if (err != NULL &&
        (strstr(err->message, "known") != NULL || strstr(err->message, "underpriced") != NULL ||
         strstr(err->message, "imported") != NULL))
        err = NULL;
    finish(data, err);
}

static void on_gas(yyjson_val *result, const struct error *err, void *data)
{
    struct payment *payment = data;
    struct buffer raw, params;
    uint8_t hash[32];
    if (err != NULL) {
        finish(payment, err);
        return;
    }
    if (eth_rpc_quantity(result, &payment->tx.gas) < 0) {
        fail(payment, EBADMSG, "the estimate of gas is no number");
        return;
    }
    payment->tx.gas += payment->tx.gas / 2;
    payment->tx.data = payment->call.data;
    payment->tx.data_len = payment->call.len;
    buffer_init(&raw, 0);
    buffer_init(&params, 0);
    int r = eth_tx_sign(&payment->tx, payment->node->identity.key, &raw, hash);
    if (r >= 0)
        r = buffer_append_str(&params, "[\"");
    if (r >= 0)
        r = hex_append_0x(&params, raw.data, raw.len);
    if (r >= 0)
        r = buffer_append_str(&params, "\"]");
    if (r >= 0)
        ask(payment, "eth_sendRawTransaction", (const char *)params.data, on_sent);
    else
        fail(payment, -r, "a transaction cannot be signed");
    buffer_done(&params);
    buffer_done(&raw);
}

static void on_tip(yyjson_val *result, const struct error *err, void *data)
{
    struct payment *payment = data;
    struct buffer params;
    uint64_t tip;
    if (err != NULL || eth_rpc_quantity(result, &tip) < 0)
        tip = DEFAULT_TIP;
    tip += tip / 4 * payment->attempt;
    payment->tx.max_priority_fee = tip;
    payment->tx.max_fee += payment->tx.max_fee / 4 * payment->attempt + tip;
    buffer_init(&params, 0);
    int r = eth_rpc_call_params(&params, payment->node->identity.address, payment->tx.to,
                                payment->call.data, payment->call.len, NULL);
    if (r >= 0)
        ask(payment, "eth_estimateGas", (const char *)params.data, on_gas);
    else
        fail(payment, -r, "a transaction cannot be built");
    buffer_done(&params);
}

static void on_block(yyjson_val *result, const struct error *err, void *data)
{
    struct payment *payment = data;
    uint64_t base;
    if (err != NULL) {
        finish(payment, err);
        return;
    }
    if (eth_rpc_quantity(yyjson_obj_get(result, "baseFeePerGas"), &base) < 0)
        base = 0;
    payment->tx.max_fee = 2 * base;
    ask(payment, "eth_maxPriorityFeePerGas", "[]", on_tip);
}

static void on_count(yyjson_val *result, const struct error *err, void *data)
{
    struct payment *payment = data;
    if (err != NULL)
        finish(payment, err);
    else if (eth_rpc_quantity(result, &payment->tx.nonce) < 0)
        fail(payment, EBADMSG, "the count of transactions is no number");
    else
        ask(payment, "eth_getBlockByNumber", "[\"pending\",false]", on_block);
}

static void on_balance(yyjson_val *result, const struct error *err, void *data)
{
    struct payment *payment = data;
    struct error none = {.code = ""};
    char address[ETH_ADDRESS_TEXT];
    const char *text = yyjson_get_str(result);
    if (err != NULL) {
        finish(payment, err);
    } else if (text == NULL) {
        fail(payment, EBADMSG, "the balance is no number");
    } else if (strspn(text, "0x") == strlen(text)) {
        eth_address_format(payment->node->identity.address, address);
        error_set(&none, EPERM, "node.no-coin",
                  "name a relay with croft.relay, or send coin to the address",
                  "there is no relay, and the node's address %s has no coin", address);
        finish(payment, &none);
    } else {
        ask_about_us(payment, "eth_getTransactionCount", on_count);
    }
}

int deliver_self(struct node *node, const struct queue_item *item)
{
    struct payment *payment = calloc(1, sizeof(*payment));
    if (payment == NULL)
        return -ENOMEM;
    bool reservations = grid_kinds[item->message.kind].reservations;
    payment->node = node;
    payment->attempt = item->attempts < 8 ? item->attempts : 8;
    payment->tx.chain_id = node->chain.chain_id;
    memcpy(payment->tx.to, reservations ? node->chain.reservations : node->chain.registry, 20);
    buffer_init(&payment->call, 0);
    int r = grid_message_call(&item->message, &payment->call);
    if (r < 0) {
        buffer_done(&payment->call);
        free(payment);
        return r;
    }
    ask_about_us(payment, "eth_getBalance", on_balance);
    return 0;
}
