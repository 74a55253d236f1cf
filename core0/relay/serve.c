/*
 * serve.c - the relay's HTTP interface (docs/formats.md, section 11): POST /v1/<kind>, GET /v1/status.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/log.h"
#include "relay.h"

#define LIMIT_MINUTES 10 /* worth of messages may come at once */
#define MINUTE_US ((uint64_t)60000000)

struct request {
    struct relay *relay;
    struct http_exchange *exchange; /* NULL: the peer is gone */
    struct entry *entry;
};

/* ---- answers ---- */

static const struct {
    const char *code;
    int status;
} statuses[] = {
    {"chain.unreachable", 503}, {"chain.bad-answer", 503},   {"relay.no-journal", 503},
    {"relay.no-memory", 503},   {"relay.full", 503},         {"relay.limit", 429},
    {"relay.bad-message", 400}, {"relay.unknown-path", 404}, {"relay.not-served", 403},
};

static void append_json_text(struct buffer *out, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            (void)buffer_printf(out, "\\%c", *c);
        else if ((unsigned char)*c >= 0x20)
            (void)buffer_append(out, c, 1);
    }
}

static void reply_error(struct http_exchange *exchange, const struct error *err)
{
    struct buffer body;
    int status = 422; /* the contract's own refusals */
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (strcmp(statuses[i].code, err->code) == 0)
            status = statuses[i].status;
    }
    buffer_init(&body, 4096);
    (void)buffer_printf(&body, "{\"code\":\"%s\",\"message\":\"", err->code);
    append_json_text(&body, err->message);
    (void)buffer_append_str(&body, "\",\"hint\":\"");
    append_json_text(&body, err->hint);
    (void)buffer_append_str(&body, "\"}\n");
    http_exchange_reply(exchange, status, "application/json", body.data, body.len);
    buffer_done(&body);
}

static void request_free(struct request *request)
{
    if (request->exchange != NULL)
        http_exchange_set_gone(request->exchange, NULL, NULL);
    entry_free(request->entry);
    free(request);
}

static void refuse(struct request *request, const struct error *err)
{
    struct http_exchange *exchange = request->exchange;
    request_free(request);
    if (exchange != NULL)
        reply_error(exchange, err);
}

static void accept_with(struct request *request, int status, const char *state)
{
    struct http_exchange *exchange = request->exchange;
    struct buffer body;
    request_free(request);
    if (exchange == NULL)
        return;
    buffer_init(&body, 256);
    (void)buffer_printf(&body, "{\"state\":\"%s\"}\n", state);
    http_exchange_reply(exchange, status, "application/json", body.data, body.len);
    buffer_done(&body);
}

static void on_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    ((struct request *)data)->exchange =
        NULL; /* what was begun is finished: the node comes again */
}

/* ---- limits ---- */

static bool within_limit(struct relay *relay, const uint8_t signer[20])
{
    uint64_t now = loop_clock(), refill = MINUTE_US / relay->per_node;
    struct relay_bucket *bucket = &relay->buckets[0];

    for (size_t i = 0; i < RELAY_SIGNERS_MAX; i++) {
        struct relay_bucket *one = &relay->buckets[i];
        if (memcmp(one->signer, signer, sizeof(one->signer)) == 0) {
            bucket = one;
            break;
        }
        if (one->full_at < bucket->full_at)
            bucket = one;
    }
    if (memcmp(bucket->signer, signer, sizeof(bucket->signer)) != 0) {
        memcpy(bucket->signer, signer, sizeof(bucket->signer));
        bucket->full_at = now;
    }
    if (bucket->full_at < now)
        bucket->full_at = now;
    if (bucket->full_at - now >= LIMIT_MINUTES * relay->per_node * refill)
        return false;
    bucket->full_at += refill;
    return true;
}

static bool serves(const struct relay *relay, uint64_t farm)
{
    for (size_t i = 0; i < relay->farm_count; i++) {
        if (relay->farms[i] == farm)
            return true;
    }
    return relay->open;
}

/* ---- a message's way in ---- */

static void take_in(struct request *request)
{
    struct relay *relay = request->relay;
    struct entry *entry = request->entry;
    struct error err = {.code = ""};
    size_t same = 0;
    bool known = false;
    for (const struct entry *other = relay->entries; other != NULL; other = other->next) {
        same += !other->seen && memcmp(other->identity, entry->identity, 20) == 0;
        known |= memcmp(other->digest, entry->digest, 32) == 0;
    }
    if (known) {
        accept_with(request, 202, "queued");
        return;
    }
    if (same >= RELAY_PER_NODE_MAX || relay->entry_count >= RELAY_ENTRIES_MAX) {
        error_set(&err, EAGAIN, "relay.full", "try again later", "too many messages wait already");
        refuse(request, &err);
        return;
    }
    entry->id = relay->next_id;
    int r = journal_received(relay, entry);
    if (r < 0) {
        log_err("the journal cannot be written: %s", strerror(-r));
        error_set(&err, -r, "relay.no-journal", "try another relay",
                  "the relay cannot write its journal");
        refuse(request, &err);
        return;
    }
    relay->next_id++;
    relay_add_entry(relay, entry);
    request->entry = NULL;
    relay_step(relay, STEP_RECEIVED);
    log_info("took a %s with nonce %llu", grid_kinds[entry->message.kind].name,
             (unsigned long long)entry->nonce);
    accept_with(request, 202, "queued");
    submit_kick(relay);
}

/* A gap before this message is closed by one that waits here. */
static bool predecessor_waits(const struct relay *relay, const struct entry *entry)
{
    for (const struct entry *other = relay->entries; other != NULL; other = other->next) {
        if (memcmp(other->identity, entry->identity, 20) == 0 && other->nonce != 0 &&
            other->nonce + 1 == entry->nonce)
            return true;
    }
    return false;
}

static void on_estimate(yyjson_val *result, const struct error *err, void *data)
{
    struct request *request = data;
    if (err != NULL) {
        if (strcmp(err->code, "node.nonce-gap") == 0 &&
            predecessor_waits(request->relay, request->entry))
            take_in(request);
        else
            refuse(request, err);
        return;
    }
    entry_set_gas(request->entry, result);
    take_in(request);
}

/* Simulates the transaction: a revert costs nothing here. */
static void simulate(struct request *request)
{
    struct relay *relay = request->relay;
    struct error err = {.code = ""};
    int r = registry_simulate(relay, &request->entry->message, on_estimate, request);
    if (r < 0) {
        error_set(&err, -r, "relay.no-memory", "", "the message cannot be simulated");
        refuse(request, &err);
    }
}

static void on_registered(const struct registered *registered, const struct error *why, void *data)
{
    struct request *request = data;
    const struct grid_message *message = &request->entry->message;
    struct error err = {.code = ""};
    if (why != NULL) {
        refuse(request, why);
        return;
    }
    bool registration = message->kind == GRID_REGISTER;
    uint64_t named = 0;
    if (message->kind == GRID_JOIN)
        named = message->number;
    else if (!registration)
        named = grid_message_uint(message, "node");
    if (registered_has(registered, request->entry)) {
        accept_with(request, 200, "done"); /* nothing to pay for */
        return;
    }
    if (!registration && registered->node != 0 && registered->node != named)
        error_set(&err, EPERM, "node.bad-signature", "",
                  "the message is not signed by the node it names");
    else if (!registration && registered->node == 0)
        error_set(&err, ENOENT, "node.unknown", "register first",
                  "the signer is no registered node");
    else if (!serves(request->relay,
                     registration ? grid_message_uint(message, "farm") : registered->farm))
        error_set(&err, EPERM, "relay.not-served", "ask who runs the relay, or use another one",
                  "this relay does not serve the node's farm");
    if (error_is_set(&err))
        refuse(request, &err);
    else
        simulate(request);
}

static int check(struct relay *relay, struct entry *entry, struct error *err)
{
    uint8_t signer[20];
    if (grid_message_digest(&entry->message, &relay->chain, entry->digest) < 0 ||
        entry_identity(relay, entry, entry->identity, signer) < 0)
        return error_set(err, EBADMSG, "node.bad-signature", "", "the signature is of nobody");
    if (entry->message.kind == GRID_REGISTER &&
        memcmp(grid_message_word(&entry->message, "identity") + 12, entry->identity, 20) != 0)
        return error_set(err, EBADMSG, "node.bad-signature", "check chain id and registry",
                         "the registration is not signed by its identity");
    entry->nonce = grid_message_nonce(&entry->message);
    if (!within_limit(relay, signer))
        return error_set(err, EAGAIN, "relay.limit", "it is sent again by itself",
                         "too many messages of this node");
    return 0;
}

static void take_message(struct relay *relay, struct http_exchange *exchange, enum grid_kind kind)
{
    struct error err = {.code = ""};
    size_t len;
    const uint8_t *body = http_exchange_body(exchange, &len);
    struct request *request = calloc(1, sizeof(*request));
    struct entry *entry = calloc(1, sizeof(*entry));
    if (request == NULL || entry == NULL) {
        free(request);
        free(entry);
        error_set(&err, ENOMEM, "relay.no-memory", "", "no memory");
        reply_error(exchange, &err);
        return;
    }
    request->relay = relay;
    request->exchange = exchange;
    request->entry = entry;
    if (grid_message_from_json(kind, (const char *)body, len, &entry->message, &err) < 0 ||
        check(relay, entry, &err) < 0) {
        refuse(request, &err);
        return;
    }
    http_exchange_set_gone(exchange, on_gone, request);
    if (registry_ask(relay, entry->identity, "latest", on_registered, request) < 0) {
        error_set(&err, ENOMEM, "relay.no-memory", "", "no memory");
        refuse(request, &err);
    }
}

static void show_status(struct relay *relay, struct http_exchange *exchange)
{
    struct buffer body;
    size_t pending = relay_pending(relay);
    char account[ETH_ADDRESS_TEXT], registry[ETH_ADDRESS_TEXT];
    eth_address_format(relay->account, account);
    eth_address_format(relay->chain.registry, registry);
    buffer_init(&body, 65536);
    (void)buffer_printf(&body,
                        "{\"account\":\"%s\",\"chainId\":%llu,\"registry\":\"%s\",\"open\":%s,"
                        "\"pending\":%zu,\"confirming\":%zu,\"farms\":[",
                        account, (unsigned long long)relay->chain.chain_id, registry,
                        relay->open ? "true" : "false", pending, relay->entry_count - pending);
    for (size_t i = 0; i < relay->farm_count; i++)
        (void)buffer_printf(&body, "%s%llu", i > 0 ? "," : "", (unsigned long long)relay->farms[i]);
    (void)buffer_append_str(&body, "]}\n");
    http_exchange_reply(exchange, 200, "application/json", body.data, body.len);
    buffer_done(&body);
}

static void on_request(struct http_exchange *exchange, void *data)
{
    struct relay *relay = data;
    struct error err = {.code = ""};
    const char *method = http_exchange_method(exchange);
    const char *path = http_exchange_path(exchange);
    enum grid_kind kind;
    if (strcmp(method, "GET") == 0 && strcmp(path, "/v1/status") == 0) {
        show_status(relay, exchange);
    } else if (strcmp(method, "POST") == 0 && strncmp(path, "/v1/", 4) == 0 &&
               grid_kind_find(path + 4, &kind) == 0) {
        take_message(relay, exchange, kind);
    } else {
        error_set(&err, ENOENT, "relay.unknown-path", "POST /v1/report and others, GET /v1/status",
                  "the relay does not know this path");
        reply_error(exchange, &err);
    }
}

int serve_start(struct relay *relay, const char *host, uint16_t port, struct error *err)
{
    static const struct http_server_limits limits = {.body = GRID_MESSAGE_MAX};
    uint16_t bound;
    int r = http_server_new(relay->loop, &limits, on_request, relay, &relay->server);
    if (r < 0)
        return error_set(err, -r, "relay.no-memory", "", "no memory");
    r = http_server_listen(relay->server, host, port, &bound, err);
    if (r >= 0)
        log_info("listening on port %u", bound);
    return r;
}
