/*
 * request.c - one HTTP request from its first look to its answer.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "lib/json.h"

#define BODY_MAX ((size_t)16 << 10)
#define SOON_US (2 * UINT64_C(1000000)) /* the caller, who waits five seconds, gets the rest */
#define CALL_US (30 * UINT64_C(1000000))
#define RESTART_US (120 * UINT64_C(1000000)) /* a container's grace period is part of it */
#define JSON_TYPE "application/json"

yyjson_mut_doc *gate_parameters(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

yyjson_mut_doc *gate_instance(const struct request *request, yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = gate_parameters(ret_root);

    yyjson_mut_obj_add_uint(doc, *ret_root, "reservation", request->challenge.reservation);
    yyjson_mut_obj_add_uint(doc, *ret_root, "revision", request->revision);
    yyjson_mut_obj_add_strcpy(doc, *ret_root, "service", request->service);
    return doc;
}

/* ---- answers ---- */

static const struct {
    const char *code;
    int status;
} statuses[] = {
    {"gate.bad-request", 400},    {"gate.which-service", 400}, {"gate.bad-challenge", 401},
    {"gate.not-allowed", 403},    {"gate.not-found", 404},     {"gate.bad-method", 405},
    {"gate.other-boot", 410},     {"gate.busy", 429},          {"gate.not-ready", 503},
    {"gate.farmer-unknown", 503}, {"container.absent", 404},   {"container.not-running", 409},
    {"container.busy", 429},      {"container.bad-call", 400}, {"container.bad-user", 400},
    {"varlink.lost", 503},        {"varlink.timeout", 503},
};

int gate_status_of(const char *code)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (strcmp(statuses[i].code, code) == 0)
            return statuses[i].status;
    }
    return 500;
}

void request_free(struct request *request)
{
    if (request == NULL)
        return;
    varlink_client_free(request->client);
    yyjson_doc_free(request->body);
    yyjson_mut_doc_free(request->answer);
    query_done(&request->query);
    free(request);
}

static void send_document(struct http_exchange *exchange, int status, yyjson_mut_doc *doc)
{
    size_t len = 0;
    char *text = yyjson_mut_write(doc, 0, &len);

    http_exchange_reply(exchange, text != NULL ? status : 500, JSON_TYPE,
                        text != NULL ? text : "{}", text != NULL ? len : 2);
    free(text);
    yyjson_mut_doc_free(doc);
}

void request_reply(struct request *request, yyjson_mut_doc *doc)
{
    send_document(request_detach(request), 200, doc);
}

/* The body is JSON; a header says the same, because WebSocket clients show no body of an upgrade that was refused. */
void request_fail(struct request *request, const struct error *err)
{
    struct http_exchange *exchange;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = gate_parameters(&root);
    char header[2048];
    size_t len;

    yyjson_mut_obj_add_strcpy(doc, root, "code", err->code);
    yyjson_mut_obj_add_strcpy(doc, root, "message", err->message);
    yyjson_mut_obj_add_strcpy(doc, root, "hint", err->hint);
    int status = gate_status_of(err->code);
    exchange = request_detach(request);
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_ESCAPE_UNICODE, &len);
    if (text != NULL &&
        (size_t)snprintf(header, sizeof(header), "Croft-Error: %s\r\n", text) < sizeof(header))
        http_exchange_set_headers(exchange, header);
    free(text);
    send_document(exchange, status, doc);
}

void request_fail_with(struct request *request, const char *code, const char *hint, const char *fmt,
                       ...)
{
    struct error err = {0};
    char message[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    error_set(&err, EPERM, code, hint, "%s", message);
    request_fail(request, &err);
}

struct http_exchange *request_detach(struct request *request)
{
    struct http_exchange *exchange = request->exchange;

    http_exchange_set_gone(exchange, NULL, NULL);
    request_free(request);
    return exchange;
}

/* ---- asking other daemons ---- */

static void request_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    request_free(data);
}

static void call_done(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct request *request = data;

    (void)more;
    if (err != NULL && request->optional)
        request->fn(request, NULL);
    else if (err != NULL && strncmp(err->code, "varlink.", 8) == 0)
        request_fail_with(request, "gate.not-ready", "try again in a moment",
                          "a part of the node does not answer: %s", err->message);
    else if (err != NULL)
        request_fail(request, err);
    else
        request->fn(request, parameters);
}

static void call(struct request *request, const char *program, const char *method,
                 yyjson_mut_doc *parameters, uint64_t timeout_us, request_fn *fn)
{
    struct gate *gate = request->gate;
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", gate->opt.run, program);
    /* the old connection may be the one whose reply we are in: it goes when that is over */
    varlink_client_free(request->client);
    request->client = NULL;
    request->fn = fn;
    int r = varlink_client_new(gate->loop, path, &request->client);
    if (r == 0)
        r = varlink_client_call(request->client, method, parameters, 0, timeout_us, call_done,
                                request);
    else
        yyjson_mut_doc_free(parameters);
    if (r < 0)
        request_fail_with(request, "gate.not-ready", "try again in a moment",
                          "the node is out of memory");
}

void request_call(struct request *request, const char *program, const char *method,
                  yyjson_mut_doc *parameters, request_fn *fn)
{
    bool slow = strcmp(method, "org.croft.container.Restart") == 0;

    request->optional = false;
    call(request, program, method, parameters, slow ? RESTART_US : CALL_US, fn);
}

void request_call_if_there(struct request *request, const char *program, const char *method,
                           request_fn *fn)
{
    request->optional = true;
    call(request, program, method, NULL, SOON_US, fn);
}

/* ---- the first look ---- */

static bool take_body(struct request *request)
{
    size_t len;
    const uint8_t *bytes = http_exchange_body(request->exchange, &len);
    struct error err = {0};

    if (len == 0)
        return true;
    request->body = json_parse((const char *)bytes, len, BODY_MAX, "gate.bad-request", &err);
    return request->body != NULL && yyjson_is_obj(yyjson_doc_get_root(request->body));
}

void request_handle(struct http_exchange *exchange, void *data)
{
    struct gate *gate = data;
    struct request *request = calloc(1, sizeof(*request));
    const char *http = http_exchange_method(exchange);
    bool known = false;

    if (request == NULL) {
        http_exchange_reply(exchange, 503, JSON_TYPE, "{}", 2);
        return;
    }
    request->gate = gate;
    request->exchange = exchange;
    http_exchange_set_gone(exchange, request_gone, request);
    if (query_parse(http_exchange_path(exchange), &request->query) < 0 || !take_body(request)) {
        request_fail_with(request, "gate.bad-request", "use croft",
                          "the request cannot be understood");
        return;
    }
    if (strcmp(request->query.path, "/v1/challenge") == 0 && strcmp(http, "POST") == 0) {
        access_challenge(request);
        return;
    }
    request->method = method_find(http, request->query.path, &known);
    if (request->method == NULL) {
        request_fail_with(request, known ? "gate.bad-method" : "gate.not-found", "use croft",
                          known ? "not with this HTTP method" : "there is nothing of that name");
        return;
    }
    if (query_only(&request->query, request->method->parameters) < 0) {
        request_fail_with(request, "gate.bad-request", "use a current croft",
                          "the request has a parameter that is not known");
        return;
    }
    access_check(request, http_exchange_header(exchange, "authorization"));
}
