/*
 * rpc.h - JSON-RPC client of the chain, over the event loop; several endpoints, tried in turn.
 *
 * Errors: chain.unreachable (no endpoint answered in time), chain.bad-answer (it is no JSON-RPC), chain.refused (the
 * endpoint's own error, its text in the message), and for a revert the contract's code: Refused(bytes32) gives that code,
 * anything else chain.reverted. Endpoint URLs: http, https; ws and wss serve as http and https on the same port (geth and
 * Besu want their own port for WebSocket: name both).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/buffer.h"
#include "lib/error.h"
#include "lib/eth/header.h"
#include "lib/eth/log.h"
#include "lib/eth/tx.h"
#include "lib/loop.h"

struct eth_rpc;
struct eth_rpc_request;

#define ETH_RPC_ENDPOINTS_MAX 8
#define ETH_RPC_ANSWER_MAX ((size_t)16 << 20)

struct eth_rpc_options {
    const char *urls;    /* separated by commas */
    uint64_t timeout_us; /* per endpoint and request; 0: 10 s */
    bool
        plain_allowed; /* http and ws; else refused with chain.plain-refused unless to a loopback address */
};

int eth_rpc_new(struct loop *loop, const struct eth_rpc_options *options, struct eth_rpc **ret_rpc,
                struct error *err);
void eth_rpc_free(struct eth_rpc *rpc); /* callbacks of open requests are not called */

struct loop *eth_rpc_loop(const struct eth_rpc *rpc);
size_t eth_rpc_endpoint_count(const struct eth_rpc *rpc);
const char *eth_rpc_endpoint(const struct eth_rpc *rpc, size_t index);
/* Which endpoint answered last: it is asked first. */
size_t eth_rpc_good(const struct eth_rpc *rpc);
/* Requests sent since the start, for "requests of an idle minute are counted". */
uint64_t eth_rpc_requests(const struct eth_rpc *rpc);

/* result NULL: err is set. result is valid during the callback only (yyjson_val_mut_copy or eth_…_from_json to keep). */
typedef void eth_rpc_fn(yyjson_val *result, const struct error *err, void *data);

/* params: text of a JSON array. *ret_request (may be NULL) is valid until fn was called or it is cancelled; fn is never called
 * from inside eth_rpc_call. `endpoint` -1: the first that answers, starting with the last good one; else exactly that one. */
int eth_rpc_call(struct eth_rpc *rpc, int endpoint, const char *method, const char *params,
                 eth_rpc_fn *fn, void *data, struct eth_rpc_request **ret_request);
void eth_rpc_cancel(struct eth_rpc_request *request);

/* Runs the loop until the answer is there (command line and tests; never from a callback).
 * *ret_doc's root is the whole answer, eth_rpc_result() its result. */
int eth_rpc_blocking(struct eth_rpc *rpc, const char *method, const char *params,
                     yyjson_doc **ret_doc, struct error *err);
yyjson_val *eth_rpc_result(yyjson_doc *doc);

/* The parameters of eth_call, appended to out: [{"to":…,"data":…},block]. block: "latest", "finalized", "0x10". */
int eth_rpc_call_params(struct buffer *out, const uint8_t *from, const uint8_t to[20],
                        const void *data, size_t len, const char *block);
/* Calls a view: signature and values as abi_encode_call, result types as abi_decode, block as eth_rpc_call_params. Blocking. */
struct abi_value;
struct abi_decoded;
int eth_rpc_view(struct eth_rpc *rpc, const uint8_t to[20], const char *signature,
                 const struct abi_value *values, size_t count, const char *block,
                 const char *result_types, struct abi_decoded *ret_decoded, struct error *err);

/* Quantities: "0x1f". 0 or -EINVAL. */
int eth_quantity_parse(const char *text, uint64_t *ret_value);
int eth_rpc_quantity(yyjson_val *value, uint64_t *ret_value); /* a string value; NULL: -EINVAL */
int eth_rpc_bytes(yyjson_val *value, void *ret_data, size_t len); /* "0x…" of exactly len bytes */
int eth_rpc_bytes_buffer(yyjson_val *value, struct buffer *out);

/* What a "data" of a revert says: Refused(bytes32) → its code (1), Error(string) → chain.reverted with the text, else
 * chain.reverted with the selector. Always sets *err. */
int eth_revert_decode(const uint8_t *data, size_t len, struct error *err);
