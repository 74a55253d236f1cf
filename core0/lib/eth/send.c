/*
 * send.c - transactions of the command line.
 */
#include "lib/eth/send.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/loop.h"

#define DEFAULT_TIMEOUT_US ((uint64_t)120000000)
#define DEFAULT_TIP 1000000000 /* wei: where the endpoint does not know eth_maxPriorityFeePerGas */

static int ask_quantity(struct eth_rpc *rpc, const char *method, const char *params,
                        uint64_t *ret_value, struct error *err)
{
    yyjson_doc *doc;
    int r = eth_rpc_blocking(rpc, method, params, &doc, err);
    if (r < 0)
        return r;
    r = eth_rpc_quantity(eth_rpc_result(doc), ret_value);
    yyjson_doc_free(doc);
    return r < 0 ? error_set(err, EBADMSG, "chain.bad-answer", "use another chain endpoint",
                             "%s was answered with no number", method)
                 : 0;
}

int eth_check_chain_id(struct eth_rpc *rpc, uint64_t chain_id, struct error *err)
{
    uint64_t actual;
    int r = ask_quantity(rpc, "eth_chainId", "[]", &actual, err);
    if (r < 0)
        return r;
    if (actual != chain_id)
        return error_set(err, EPERM, "chain.wrong-id",
                         "check the endpoint (croft.chain, CROFT_CHAIN) and the chain id",
                         "the endpoint serves chain %llu, expected %llu",
                         (unsigned long long)actual, (unsigned long long)chain_id);
    return 0;
}

static int ask_fees(struct eth_rpc *rpc, struct eth_tx *tx, struct error *err)
{
    yyjson_doc *doc;
    uint64_t base;
    struct error ignored = {.code = ""};
    int r = eth_rpc_blocking(rpc, "eth_getBlockByNumber", "[\"latest\",false]", &doc, err);
    if (r < 0)
        return r;
    r = eth_rpc_quantity(yyjson_obj_get(eth_rpc_result(doc), "baseFeePerGas"), &base);
    yyjson_doc_free(doc);
    if (r < 0)
        base = 0; /* a chain without EIP-1559's fee, such as a consortium's with free gas */
    if (ask_quantity(rpc, "eth_maxPriorityFeePerGas", "[]", &tx->max_priority_fee, &ignored) < 0)
        tx->max_priority_fee = DEFAULT_TIP;
    tx->max_fee = 2 * base + tx->max_priority_fee;
    return 0;
}

static int ask_receipt(struct eth_rpc *rpc, const char *hash, struct eth_receipt *ret_receipt,
                       struct error *err)
{
    char params[80] = "[\"";
    yyjson_doc *doc;
    strcat(params, hash);
    strcat(params, "\"]");
    int r = eth_rpc_blocking(rpc, "eth_getTransactionReceipt", params, &doc, err);
    if (r < 0)
        return r;
    yyjson_val *result = eth_rpc_result(doc);
    if (!yyjson_is_null(result))
        r = eth_receipt_from_json(result, ret_receipt, err) < 0 ? -EBADMSG : 1;
    yyjson_doc_free(doc);
    return r;
}

struct nap {
    bool over;
};

static void wake(struct loop_timer *timer, void *data)
{
    (void)timer;
    ((struct nap *)data)->over = true;
}

/* There is no event for a receipt over plain HTTP: it is asked for, more and more slowly. */
static int wait_receipt(const struct eth_sender *sender, struct loop *loop, const char *hash,
                        struct eth_receipt *ret_receipt, struct error *err)
{
    uint64_t deadline =
        loop_clock() + (sender->timeout_us > 0 ? sender->timeout_us : DEFAULT_TIMEOUT_US);
    uint64_t pause = 50000;
    struct nap nap;
    struct loop_timer *timer;
    int r = loop_timer_add(loop, wake, &nap, &timer);
    if (r < 0)
        return error_set(err, -r, "chain.no-memory", "", "no memory for a timer");
    for (;;) {
        r = ask_receipt(sender->rpc, hash, ret_receipt, err);
        if (r != 0)
            break;
        if (loop_clock() > deadline) {
            r = error_set(err, ETIMEDOUT, "chain.timeout",
                          "it may still be mined: look before repeating",
                          "the transaction %s is not mined yet", hash);
            break;
        }
        nap.over = false;
        loop_timer_set(timer, loop_clock() + pause);
        while (!nap.over && r == 0)
            r = loop_step(loop, -1);
        if (r != 0) {
            r = error_set(err, EINTR, "chain.interrupted", "", "interrupted while waiting for %s",
                          hash);
            break;
        }
        pause = pause < 1000000 ? pause * 2 : 1000000;
    }
    loop_timer_del(timer);
    return r < 0 ? r : 0;
}

int eth_send(const struct eth_sender *sender, const uint8_t to[20], const void *data, size_t len,
             struct eth_receipt *ret_receipt, struct error *err)
{
    struct eth_tx tx = {.chain_id = sender->chain_id, .data = data, .data_len = len};
    uint8_t from[20], hash[32];
    char from_text[43], hash_text[67], params[80];
    struct buffer text, raw;
    yyjson_doc *doc = NULL;
    buffer_init(&text, 0);
    buffer_init(&raw, 0);

    memcpy(tx.to, to, 20);
    int r = ecdsa_address(sender->key, from);
    if (r < 0)
        r = error_set(err, EINVAL, "key.bad-file", "", "the private key is not valid");
    if (r >= 0)
        r = eth_check_chain_id(sender->rpc, sender->chain_id, err);
    if (r >= 0 && eth_rpc_call_params(&text, from, to, data, len, NULL) < 0)
        r = error_set(err, ENOMEM, "chain.no-memory", "", "no memory for a transaction");
    if (r >= 0)
        r = ask_quantity(sender->rpc, "eth_estimateGas", (const char *)text.data, &tx.gas, err);
    if (r >= 0)
        r = ask_fees(sender->rpc, &tx, err);
    hex_encode_0x(from, 20, from_text);
    snprintf(params, sizeof(params), "[\"%s\",\"pending\"]", from_text);
    if (r >= 0)
        r = ask_quantity(sender->rpc, "eth_getTransactionCount", params, &tx.nonce, err);
    if (r < 0)
        goto out;
    tx.gas += tx.gas / 4;
    buffer_clear(&text);
    r = eth_tx_sign(&tx, sender->key, &raw, hash);
    if (r >= 0)
        r = buffer_append_str(&text, "[\"");
    if (r >= 0)
        r = hex_append_0x(&text, raw.data, raw.len);
    if (r >= 0)
        r = buffer_append_str(&text, "\"]");
    if (r < 0) {
        r = error_set(err, -r, "chain.no-memory", "", "the transaction cannot be signed");
        goto out;
    }
    r = eth_rpc_blocking(sender->rpc, "eth_sendRawTransaction", (const char *)text.data, &doc, err);
    if (r < 0)
        goto out;
    yyjson_doc_free(doc);
    hex_encode_0x(hash, 32, hash_text);
    struct eth_receipt receipt;
    r = wait_receipt(sender, eth_rpc_loop(sender->rpc), hash_text, &receipt, err);
    if (r >= 0 && !receipt.succeeded) {
        eth_receipt_done(&receipt);
        r = error_set(err, EPERM, "chain.reverted", "something changed meanwhile: try again",
                      "the transaction %s was mined and reverted", hash_text);
    }
    if (r >= 0)
        *ret_receipt = receipt;
out:
    buffer_done(&raw);
    buffer_done(&text);
    return r < 0 ? r : 0;
}
