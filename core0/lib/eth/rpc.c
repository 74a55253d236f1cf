/*
 * rpc.c - JSON-RPC over HTTP, several endpoints.
 *
 * A request goes to the endpoint that answered last; when that fails to answer (not: when it answers with an error) the
 * next one is tried, each once. So one request costs at most one time-out per endpoint.
 */
#include "lib/eth/rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/crypto/text.h"
#include "lib/eth/abi.h"
#include "lib/eth/address.h"
#include "lib/http/client.h"
#include "lib/http/url.h"
#include "lib/json.h"

#define DEFAULT_TIMEOUT_US ((uint64_t)10000000)

struct eth_rpc {
    struct loop *loop;
    struct http_client *http;
    char *urls[ETH_RPC_ENDPOINTS_MAX];
    size_t count;
    size_t good; /* the endpoint that answered last */
    uint64_t timeout_us;
    uint64_t sent;
    uint64_t next_id;
    struct eth_rpc_request *requests;
};

struct eth_rpc_request {
    struct eth_rpc *rpc;
    struct eth_rpc_request *next, *previous;
    struct http_transfer *transfer;
    char *body;
    uint64_t id;
    size_t endpoint;
    size_t tried;
    bool only; /* this endpoint and no other */
    eth_rpc_fn *fn;
    void *data;
};

/* ---- endpoints ---- */

/* ws and wss serve requests at the same place as http and https. */
static char *http_form(const char *url, size_t len)
{
    static const struct {
        const char *from, *to;
    } schemes[] = {{"ws://", "http://"},
                   {"wss://", "https://"},
                   {"http://", "http://"},
                   {"https://", "https://"}};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t skip = strlen(schemes[i].from);
        if (len > skip && strncasecmp(url, schemes[i].from, skip) == 0) {
            char *form = NULL;
            if (asprintf(&form, "%s%.*s", schemes[i].to, (int)(len - skip), url + skip) < 0)
                return NULL;
            return form;
        }
    }
    return NULL;
}

static int add_endpoint(struct eth_rpc *rpc, const char *url, size_t len, bool plain_allowed,
                        struct error *err)
{
    char origin[URL_ORIGIN_MAX];
    if (rpc->count == ETH_RPC_ENDPOINTS_MAX)
        return error_set(err, E2BIG, "chain.bad-url", "name at most 8", "too many chain endpoints");
    char *form = len <= 2048 ? http_form(url, len) : NULL;
    if (form == NULL || url_origin(form, origin) < 0) {
        free(form);
        return error_set(err, EINVAL, "chain.bad-url",
                         "http, https, ws or wss, separated by commas",
                         "a chain endpoint is no URL");
    }
    if (!plain_allowed && strncasecmp(form, "http:", 5) == 0 && !url_is_loopback(form)) {
        free(form);
        return error_set(err, EPERM, "chain.plain-refused", "use https, or runmode=dev",
                         "the chain endpoint %s is not encrypted", origin);
    }
    /* kept as given: heads.c wants to know about ws */
    rpc->urls[rpc->count] = strndup(url, len);
    free(form);
    if (rpc->urls[rpc->count] == NULL)
        return error_set(err, ENOMEM, "chain.no-memory", "", "no memory for a chain endpoint");
    rpc->count++;
    return 0;
}

int eth_rpc_new(struct loop *loop, const struct eth_rpc_options *options, struct eth_rpc **ret_rpc,
                struct error *err)
{
    struct eth_rpc *rpc = calloc(1, sizeof(*rpc));
    if (rpc == NULL || http_client_new(loop, NULL, &rpc->http) < 0) {
        free(rpc);
        return error_set(err, ENOMEM, "chain.no-memory", "", "no memory for the chain's client");
    }
    rpc->loop = loop;
    rpc->timeout_us = options->timeout_us > 0 ? options->timeout_us : DEFAULT_TIMEOUT_US;
    for (const char *at = options->urls; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ",");
        int r = add_endpoint(rpc, at, len, options->plain_allowed, err);
        if (r < 0) {
            eth_rpc_free(rpc);
            return r;
        }
        at += len;
        at += *at == ',';
    }
    if (rpc->count == 0) {
        eth_rpc_free(rpc);
        return error_set(err, EINVAL, "chain.bad-url", "name one with croft.chain or CROFT_CHAIN",
                         "no chain endpoint is known");
    }
    *ret_rpc = rpc;
    return 0;
}

static void request_free(struct eth_rpc_request *request)
{
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        request->rpc->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    free(request->body);
    free(request);
}

void eth_rpc_free(struct eth_rpc *rpc)
{
    if (rpc == NULL)
        return;
    for (struct eth_rpc_request *request = rpc->requests, *next; request != NULL; request = next) {
        next = request->next;
        eth_rpc_cancel(request);
    }
    http_client_free(rpc->http);
    for (size_t i = 0; i < rpc->count; i++)
        free(rpc->urls[i]);
    free(rpc);
}

struct loop *eth_rpc_loop(const struct eth_rpc *rpc)
{
    return rpc->loop;
}

size_t eth_rpc_endpoint_count(const struct eth_rpc *rpc)
{
    return rpc->count;
}

const char *eth_rpc_endpoint(const struct eth_rpc *rpc, size_t index)
{
    return rpc->urls[index];
}

size_t eth_rpc_good(const struct eth_rpc *rpc)
{
    return rpc->good;
}

uint64_t eth_rpc_requests(const struct eth_rpc *rpc)
{
    return rpc->sent;
}

/* ---- answers ---- */

int eth_revert_decode(const uint8_t *data, size_t len, struct error *err)
{
    static const uint8_t refused[4] = {0xdd, 0x61, 0xb5, 0x8c};      /* Refused(bytes32) */
    static const uint8_t error_string[4] = {0x08, 0xc3, 0x79, 0xa0}; /* Error(string) */
    if (len == 36 && memcmp(data, refused, 4) == 0) {
        char code[33];
        eth_code_from_word(data + 4, code);
        return error_set(err, EPERM, code, "", "the contract refuses: %s", code);
    }
    if (len > 4 && memcmp(data, error_string, 4) == 0) {
        struct abi_decoded decoded;
        if (abi_decode("(string)", data + 4, len - 4, &decoded) == 0) {
            int r = error_set(err, EPERM, "chain.reverted", "", "the contract refuses: %.200s",
                              (const char *)decoded.values[0].data);
            abi_decoded_done(&decoded);
            return r;
        }
    }
    char selector[9] = "nothing";
    if (len >= 4)
        hex_encode(data, 4, selector);
    return error_set(err, EPERM, "chain.reverted", "", "the contract reverts with %s", selector);
}

/* The error object of an answer. Endpoints put the revert's data into "data", as a string or inside an object. */
static int answer_error(yyjson_val *error, struct error *err)
{
    const char *message = yyjson_get_str(yyjson_obj_get(error, "message"));
    yyjson_val *data = yyjson_obj_get(error, "data");
    if (yyjson_is_obj(data))
        data = yyjson_obj_get(data, "data");
    struct buffer bytes;
    buffer_init(&bytes, 65536);
    int r = eth_rpc_bytes_buffer(data, &bytes);
    if (r >= 0 && bytes.len >= 4)
        r = eth_revert_decode(bytes.data, bytes.len, err);
    else if (message != NULL && strstr(message, "revert") != NULL)
        r = error_set(err, EPERM, "chain.reverted", "", "the contract refuses: %.200s", message);
    else
        r = error_set(err, EPROTO, "chain.refused", "", "the chain endpoint refuses: %.200s",
                      message != NULL ? message : "without a reason");
    buffer_done(&bytes);
    return r;
}

/* ---- requests ---- */

static int request_send(struct eth_rpc_request *request);

static void request_finish(struct eth_rpc_request *request, yyjson_val *result,
                           const struct error *err)
{
    eth_rpc_fn *fn = request->fn;
    void *data = request->data;
    request_free(request); /* first: fn may free the client */
    fn(result, err, data);
}

static void request_failed(struct eth_rpc_request *request, const struct error *why)
{
    struct eth_rpc *rpc = request->rpc;
    struct error err = {.code = ""};
    request->tried++;
    if (!request->only && request->tried < rpc->count) {
        request->endpoint = (request->endpoint + 1) % rpc->count;
        if (request_send(request) == 0)
            return;
    }
    error_set(&err, EHOSTUNREACH, "chain.unreachable", "check croft.chain and the network", "%s",
              why->message);
    request_finish(request, NULL, &err);
}

static void on_response(const struct http_response *response, const struct error *why, void *data)
{
    struct eth_rpc_request *request = data;
    struct eth_rpc *rpc = request->rpc;
    struct error err = {.code = ""};
    yyjson_doc *doc = NULL;
    request->transfer = NULL;
    if (why != NULL) {
        request_failed(request, why);
        return;
    }
    /* some endpoints send a JSON-RPC error with a status of 4xx; 429 and 5xx are for the next endpoint */
    if (response->status != 429 && response->status / 100 != 5)
        doc = json_parse((const char *)response->body, response->body_len, ETH_RPC_ANSWER_MAX,
                         "chain.bad-answer", &err);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *error = yyjson_obj_get(root, "error");
    yyjson_val *result = yyjson_obj_get(root, "result");
    bool matches = yyjson_get_uint(yyjson_obj_get(root, "id")) == request->id;
    if (doc == NULL || (error == NULL && (result == NULL || !matches))) {
        char origin[URL_ORIGIN_MAX] = "the endpoint";
        struct error bad = {.code = ""};
        url_origin(rpc->urls[request->endpoint], origin);
        error_set(&bad, EBADMSG, "chain.bad-answer", "",
                  "%s answered with status %d and no JSON-RPC", origin, response->status);
        yyjson_doc_free(doc);
        request_failed(request, &bad);
        return;
    }
    if (!request->only)
        rpc->good = request->endpoint;
    if (error != NULL && !yyjson_is_null(error)) {
        struct error refusal = {.code = ""};
        answer_error(error, &refusal);
        request_finish(request, NULL, &refusal);
    } else {
        request_finish(request, result, NULL);
    }
    yyjson_doc_free(doc);
}

static int request_send(struct eth_rpc_request *request)
{
    struct eth_rpc *rpc = request->rpc;
    const char *url = rpc->urls[request->endpoint];
    char *form = http_form(url, strlen(url));
    if (form == NULL)
        return -ENOMEM;
    uint64_t connect_us = rpc->timeout_us < 5000000 ? rpc->timeout_us : 5000000;
    struct http_request http = {
        .url = form,
        .body = request->body,
        .body_len = strlen(request->body),
        .timeout_us = rpc->timeout_us,
        .connect_timeout_us = connect_us,
        .max_body = ETH_RPC_ANSWER_MAX,
        .done = on_response,
        .user = request,
        .flags = HTTP_NO_REDIRECT,
    };
    int r = http_request_start(rpc->http, &http, &request->transfer);
    free(form);
    if (r == 0)
        rpc->sent++;
    return r;
}

int eth_rpc_call(struct eth_rpc *rpc, int endpoint, const char *method, const char *params,
                 eth_rpc_fn *fn, void *data, struct eth_rpc_request **ret_request)
{
    if (endpoint >= 0 && (size_t)endpoint >= rpc->count)
        return -EINVAL;
    struct eth_rpc_request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return -ENOMEM;
    request->rpc = rpc;
    request->id = ++rpc->next_id;
    request->endpoint = endpoint >= 0 ? (size_t)endpoint : rpc->good;
    request->only = endpoint >= 0;
    request->fn = fn;
    request->data = data;
    if (asprintf(&request->body,
                 "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"%s\",\"params\":%s}",
                 (unsigned long long)request->id, method, params) < 0)
        request->body = NULL;
    request->next = rpc->requests;
    if (rpc->requests != NULL)
        rpc->requests->previous = request;
    rpc->requests = request;
    int r = request->body == NULL ? -ENOMEM : request_send(request);
    if (r < 0) {
        request_free(request);
        return r;
    }
    if (ret_request != NULL)
        *ret_request = request;
    return 0;
}

void eth_rpc_cancel(struct eth_rpc_request *request)
{
    if (request == NULL)
        return;
    http_transfer_cancel(request->transfer);
    request_free(request);
}

/* ---- blocking ---- */

struct waiter {
    yyjson_doc *doc;
    struct error err;
    bool done;
};

static void on_answer(yyjson_val *result, const struct error *err, void *data)
{
    struct waiter *waiter = data;
    waiter->done = true;
    if (err != NULL) {
        waiter->err = *err;
        return;
    }
    yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);
    if (copy != NULL) {
        yyjson_mut_val *root = yyjson_mut_obj(copy);
        yyjson_mut_doc_set_root(copy, root);
        yyjson_mut_obj_add_val(copy, root, "result", yyjson_val_mut_copy(copy, result));
        waiter->doc = yyjson_mut_doc_imut_copy(copy, NULL);
        yyjson_mut_doc_free(copy);
    }
}

int eth_rpc_blocking(struct eth_rpc *rpc, const char *method, const char *params,
                     yyjson_doc **ret_doc, struct error *err)
{
    struct waiter waiter = {.done = false};
    struct eth_rpc_request *request;
    int r = eth_rpc_call(rpc, -1, method, params, on_answer, &waiter, &request);
    while (r == 0 && !waiter.done) {
        r = loop_step(rpc->loop, -1);
        if (r != 0 && !waiter.done) { /* the loop was told to end, or failed */
            eth_rpc_cancel(request);
            return error_set(err, r < 0 ? -r : EINTR, "chain.interrupted", "",
                             "interrupted while waiting for the chain");
        }
        r = 0;
    }
    if (r < 0)
        return error_set(err, -r, "chain.no-memory", "", "a request to the chain cannot be made");
    if (error_is_set(&waiter.err)) {
        int number = strcmp(waiter.err.code, "chain.unreachable") == 0 ? EHOSTUNREACH : EPROTO;
        return error_set(err, number, waiter.err.code, waiter.err.hint, "%s", waiter.err.message);
    }
    if (waiter.doc == NULL)
        return error_set(err, ENOMEM, "chain.no-memory", "", "no memory for the chain's answer");
    *ret_doc = waiter.doc;
    return 0;
}

yyjson_val *eth_rpc_result(yyjson_doc *doc)
{
    return yyjson_obj_get(yyjson_doc_get_root(doc), "result");
}

int eth_rpc_call_params(struct buffer *out, const uint8_t *from, const uint8_t to[20],
                        const void *data, size_t len, const char *block)
{
    int r = buffer_append_str(out, "[{");
    if (r >= 0 && from != NULL) {
        char text[43];
        hex_encode_0x(from, 20, text);
        r = buffer_printf(out, "\"from\":\"%s\",", text);
    }
    if (r >= 0)
        r = buffer_append_str(out, "\"to\":\"");
    if (r >= 0)
        r = hex_append_0x(out, to, 20);
    if (r >= 0)
        r = buffer_append_str(out, "\",\"data\":\"");
    if (r >= 0)
        r = hex_append_0x(out, data, len);
    if (r >= 0)
        r = buffer_append_str(out, "\"}");
    if (r >= 0 && block != NULL)
        r = buffer_printf(out, ",\"%s\"", block);
    if (r >= 0)
        r = buffer_append_str(out, "]");
    return r < 0 ? r : 0;
}

int eth_rpc_view(struct eth_rpc *rpc, const uint8_t to[20], const char *signature,
                 const struct abi_value *values, size_t count, const char *block,
                 const char *result_types, struct abi_decoded *ret_decoded, struct error *err)
{
    struct buffer call, params, answer;
    yyjson_doc *doc = NULL;
    buffer_init(&call, 0);
    buffer_init(&params, 0);
    buffer_init(&answer, 0);
    int r = abi_encode_call(signature, values, count, &call);
    if (r >= 0)
        r = eth_rpc_call_params(&params, NULL, to, call.data, call.len, block);
    if (r < 0)
        r = error_set(err, -r, "chain.bad-call", "", "the call %s cannot be encoded", signature);
    else
        r = eth_rpc_blocking(rpc, "eth_call", (const char *)params.data, &doc, err);
    if (r >= 0) {
        r = eth_rpc_bytes_buffer(eth_rpc_result(doc), &answer);
        if (r >= 0 && answer.len == 0)
            r = error_set(err, ENOENT, "chain.no-contract",
                          "check the registry's address and the chain",
                          "there is no contract at the address that was called");
        else if (r < 0 || (r = abi_decode(result_types, answer.data, answer.len, ret_decoded)) < 0)
            r = error_set(err, EBADMSG, "chain.bad-answer", "use another chain endpoint",
                          "the answer to %s does not decode", signature);
    }
    yyjson_doc_free(doc);
    buffer_done(&answer);
    buffer_done(&params);
    buffer_done(&call);
    return r < 0 ? r : 0;
}
