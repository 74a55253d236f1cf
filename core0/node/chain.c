/*
 * chain.c - looks at the registry and decides what there is to say.
 *
 * One look is: chain id, Reservations and report interval (once), then the node's id, then its record. Every look ends in decide(),
 * which compares the record with what we are and queues what is missing. While something waits for the chain the looks come fast
 * (0.2 s rising to 3 s), else once a minute: noded hears of nothing by itself, provd has the subscription.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/crypto/hash.h"
#include "lib/eth/abi.h"
#include "lib/eth/address.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "node.h"

#define SECOND ((uint64_t)1000000)
#define LOOK_FAST (SECOND / 5)
#define LOOK_SLOWEST (3 * SECOND)
#define LOOK_WAITING (5 * SECOND)
#define LOOK_IDLE (60 * SECOND)
#define LOOK_FAILED_MAX (30 * SECOND)
#define JOIN_AGAIN (600 * SECOND) /* a token that was refused is tried again */

#define NODE_TYPE                                                                                  \
    "((address,uint64,uint8,uint8,bool,uint64,uint64,uint64,uint32,bytes32,bytes32,bytes32,"       \
    "bytes32,bytes32,bytes32,bytes32,uint64,uint64,string[]))"

static void decide(struct node *node);

/* ---- timing ---- */

void chain_look_in(struct node *node, uint64_t us)
{
    if (node->tick != NULL && !node->looking)
        loop_timer_set(node->tick, loop_clock() + us);
}

static void look_failed(struct node *node, const struct error *err)
{
    node->looking = false;
    if (strcmp(node->error.code, err->code) != 0)
        log_error(err, "chain");
    node_set_error(node, err);
    if (node->state == NODE_STARTING)
        node_set_state(node, NODE_UNREGISTERED, err->message);
    node->backoff = node->backoff * 2 < LOOK_FAILED_MAX ? node->backoff * 2 : LOOK_FAILED_MAX;
    chain_look_in(node, node->backoff > SECOND ? node->backoff : SECOND);
}

static void look_done(struct node *node)
{
    bool waiting = node->queue.count > 0 || node->joining;
    node->looking = false;
    if (node->error.code[0] != '\0' && strncmp(node->error.code, "chain.", 6) == 0)
        node_set_error(node, NULL);
    if (waiting) {
        node->backoff = node->backoff * 3 / 2 < LOOK_SLOWEST ? node->backoff * 3 / 2 : LOOK_SLOWEST;
        chain_look_in(node, node->backoff);
        return;
    }
    node->backoff = LOOK_FAST;
    chain_look_in(node, node->state == NODE_ACTIVE ? LOOK_IDLE : LOOK_WAITING);
}

/* ---- asking ---- */

static void call_view(struct node *node, const char *signature, const struct abi_value *values,
                      size_t count, eth_rpc_fn *fn)
{
    struct buffer call, params;
    struct error err = {.code = ""};
    buffer_init(&call, 0);
    buffer_init(&params, 0);
    int r = abi_encode_call(signature, values, count, &call);
    if (r >= 0)
        r = eth_rpc_call_params(&params, NULL, node->chain.registry, call.data, call.len, "latest");
    if (r >= 0)
        r = eth_rpc_call(node->rpc, -1, "eth_call", (const char *)params.data, fn, node, NULL);
    buffer_done(&params);
    buffer_done(&call);
    if (r < 0) {
        error_set(&err, -r, "chain.no-memory", "", "a request cannot be made: %s", strerror(-r));
        look_failed(node, &err);
    }
}

/* Decodes the answer of a view; false: the failure was handled. */
static bool take_answer(struct node *node, yyjson_val *result, const struct error *err,
                        const char *types, struct abi_decoded *ret_decoded)
{
    struct error bad = {.code = ""};
    struct buffer bytes;
    if (err != NULL) {
        look_failed(node, err);
        return false;
    }
    buffer_init(&bytes, 0);
    int r = eth_rpc_bytes_buffer(result, &bytes);
    if (r >= 0)
        r = abi_decode(types, bytes.data, bytes.len, ret_decoded);
    if (r < 0) {
        if (bytes.len == 0)
            error_set(&bad, ENOENT, "chain.no-contract", "check croft.registry and croft.chain",
                      "there is no registry at the given address");
        else
            error_set(&bad, EBADMSG, "chain.bad-answer", "use another chain endpoint",
                      "the chain's answer does not decode");
        look_failed(node, &bad);
    }
    buffer_done(&bytes);
    return r >= 0;
}

static uint64_t number(const struct abi_value *value)
{
    uint64_t n = 0;
    (void)abi_get_uint(value, &n);
    return n;
}

/* The registry's Node: which field goes where. */
static void take_record(const struct abi_value *f, uint64_t id, struct record *record)
{
    memset(record, 0, sizeof(*record));
    record->id = id;
    record->farm = number(&f[1]);
    record->state = (unsigned)number(&f[2]);
    record->run_mode = (unsigned)number(&f[3]);
    record->nonce = number(&f[5]);
    record->last_report = number(&f[6]);
    record->key_epoch = (uint32_t)number(&f[8]);
    memcpy(record->boot_id, f[9].word, 32);
    memcpy(record->capacity, f[10].word, 32);
    memcpy(record->sealing_key, f[12].word, 32);
    memcpy(record->tls_key_hash, f[14].word, 32);
    memcpy(record->image_digest, f[15].word, 32);
    for (size_t i = 0; i < f[18].len && i < GRID_ADDRESSES_MAX; i++) {
        size_t len = f[18].items[i].len < GRID_HOST_MAX ? f[18].items[i].len : GRID_HOST_MAX;
        memcpy(record->hosts[i], f[18].items[i].data, len);
        record->host_count++;
    }
}

static void on_record(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct abi_decoded decoded;
    if (!take_answer(node, result, err, NODE_TYPE, &decoded))
        return;
    take_record(decoded.values[0].items, node->record.id, &node->record);
    abi_decoded_done(&decoded);
    node->has_record = true;
    decide(node);
    look_done(node);
}

static void on_id(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct abi_decoded decoded;
    if (!take_answer(node, result, err, "(uint64)", &decoded))
        return;
    uint64_t id = number(&decoded.values[0]);
    abi_decoded_done(&decoded);
    if (id == 0) {
        memset(&node->record, 0, sizeof(node->record));
        node->has_record = true;
        decide(node);
        look_done(node);
        return;
    }
    node->record.id = id;
    struct abi_value argument = abi_uint(id);
    call_view(node, "node(uint64)", &argument, 1, on_record);
}

static void ask_id(struct node *node)
{
    struct abi_value argument = abi_address(node->identity.address);
    call_view(node, "nodeByIdentity(address)", &argument, 1, on_id);
}

static void on_interval(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct abi_decoded decoded;
    if (!take_answer(node, result, err, "(uint64)", &decoded))
        return;
    node->report_interval = number(&decoded.values[0]);
    abi_decoded_done(&decoded);
    node->chain_checked = true;
    ask_id(node);
}

static void on_reservations(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct abi_decoded decoded;
    if (!take_answer(node, result, err, "(address)", &decoded))
        return;
    memcpy(node->chain.reservations, decoded.values[0].word + 12, 20);
    abi_decoded_done(&decoded);
    call_view(node, "reportInterval()", NULL, 0, on_interval);
}

static void on_chain_id(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct error bad = {.code = ""};
    uint64_t id = 0;
    if (err != NULL) {
        look_failed(node, err);
        return;
    }
    if (eth_rpc_quantity(result, &id) < 0 || id != node->chain.chain_id) {
        error_set(&bad, EPERM, "chain.wrong-id", "check croft.chain and croft.chainid",
                  "the endpoint serves chain %" PRIu64 ", croft.chainid says %" PRIu64, id,
                  node->chain.chain_id);
        node_set_state(node, NODE_UNREGISTERED, bad.message);
        look_failed(node, &bad);
        return;
    }
    call_view(node, "reservations()", NULL, 0, on_reservations);
}

static void look(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct node *node = data;
    if (node->looking || node->state == NODE_STOPPED)
        return;
    node->looking = true;
    capacity_look(node);
    if (node->chain_checked)
        ask_id(node);
    else if (eth_rpc_call(node->rpc, -1, "eth_chainId", "[]", on_chain_id, node, NULL) < 0) {
        node->looking = false;
        chain_look_in(node, SECOND);
    }
}

int chain_start(struct node *node, struct error *err)
{
    struct eth_rpc_options options = {.urls = node->boot.chain,
                                      .plain_allowed = node->boot.run_mode == 2};
    int r = eth_rpc_new(node->loop, &options, &node->rpc, err);
    if (r < 0)
        return r;
    r = loop_timer_add(node->loop, look, node, &node->tick);
    if (r < 0)
        return error_set(err, -r, "node.no-memory", "", "no memory for a timer");
    node->chain.chain_id = node->boot.chain_id;
    memcpy(node->chain.registry, node->boot.registry, 20);
    node->backoff = LOOK_FAST;
    chain_look_in(node, 0);
    return 0;
}

void capacity_changed(struct node *node)
{
    if (node->rpc != NULL && node->has_record)
        chain_look_in(node, 0);
    else if (node->rpc != NULL)
        chain_look_in(node, LOOK_FAST);
}

/* ---- saying ---- */

int chain_enqueue(struct node *node, struct grid_message *message, uint64_t *ret_nonce,
                  struct error *err)
{
    uint64_t last = queue_last_nonce(&node->queue);
    uint64_t nonce = (last > node->record.nonce ? last : node->record.nonce) + 1;
    grid_message_set_uint(message, "nonce", nonce);
    grid_message_set_word(message, "bootId", node->boot.boot_id);
    int r = grid_message_sign(message, &node->chain, node->identity.key);
    if (r < 0)
        return error_set(err, -r, "node.cannot-sign", "", "a message cannot be signed");
    r = queue_add(&node->queue, message, err);
    if (r < 0)
        return r;
    if (ret_nonce != NULL)
        *ret_nonce = nonce;
    node->backoff = LOOK_FAST;
    deliver_kick(node);
    return 0;
}

static void say(struct node *node, struct grid_message *message)
{
    struct error err = {.code = ""};
    if (chain_enqueue(node, message, NULL, &err) < 0) {
        log_error(&err, grid_kinds[message->kind].name);
        node_set_error(node, &err);
    }
}

static int set_hosts(const struct node *node, struct grid_message *message)
{
    const char *hosts[GRID_ADDRESSES_MAX];
    for (size_t i = 0; i < node->host_count; i++)
        hosts[i] = node->hosts[i];
    return grid_message_set_hosts(message, hosts, node->host_count);
}

static int read_token(uint8_t ret_key[32], struct error *err)
{
    const char *path = getenv("CROFT_JOIN_TOKEN_FILE"); /* tests run beside an installed Croft */
    return boot_read_token(path != NULL ? path : "/run/croft/join.token", ret_key, err);
}

static void say_registration(struct node *node)
{
    struct grid_message message;
    struct error err = {.code = ""};
    uint8_t token[32], digest[32];
    const struct sealing_key *key = identity_current(&node->identity);
    grid_message_init(&message, GRID_REGISTER);
    grid_message_set_uint(&message, "farm", node->boot.farm);
    grid_message_set_address(&message, "identity", node->identity.address);
    grid_message_set_word(&message, "tlsKeyHash", node->identity.tls_key_hash);
    grid_message_set_word(&message, "sealingKey", key->public_key);
    grid_message_set_uint(&message, "keyEpoch", key->epoch);
    grid_message_set_uint(&message, "runMode", node->boot.run_mode);
    grid_message_set_word(&message, "imageDigest", node->image_digest);
    grid_message_set_word(&message, "capacity", node->capacity);
    grid_message_set_uint(&message, "ephemeral", node->ephemeral);
    if (set_hosts(node, &message) < 0)
        return;
    int r = read_token(token, &err);
    if (r == 1) {
        if (grid_join_digest(&node->chain, node->boot.farm, node->identity.address, digest) == 0 &&
            ecdsa_sign(token, digest, message.join) == 0)
            message.joined = true;
        crypto_wipe(token, sizeof(token));
    } else if (r < 0) {
        log_error(&err, "join token");
        node_set_error(node, &err);
        node_set_state(node, NODE_UNREGISTERED, err.message);
        return;
    }
    say(node, &message);
}

/* A Pending node with a token: it got the token after its registration, or somebody who saw the registration submitted it without.
 * It needs no nonce and no disk: it is said as long as the node is Pending. */
static void join_if_pending(struct node *node)
{
    uint8_t token[32];
    struct error err = {.code = ""};
    struct queue_item *item = &node->join;
    if (node->record.state != 1) {
        node->joining = false;
        return;
    }
    if (node->joining ||
        (node->join_refused_at != 0 && loop_clock() - node->join_refused_at < JOIN_AGAIN))
        return;
    int r = read_token(token, &err);
    if (r < 0) {
        if (strcmp(node->error.code, err.code) != 0)
            log_error(&err, "join token");
        node_set_error(node, &err);
    }
    if (r <= 0)
        return;
    memset(item, 0, sizeof(*item));
    grid_message_init(&item->message, GRID_JOIN);
    item->message.number = node->record.id;
    grid_message_set_uint(&item->message, "farm", node->record.farm);
    grid_message_set_address(&item->message, "node", node->identity.address);
    node->joining = grid_message_sign(&item->message, &node->chain, token) == 0;
    crypto_wipe(token, sizeof(token));
    node->backoff = LOOK_FAST;
}

void chain_join_done(struct node *node, const struct error *err)
{
    if (err == NULL) {
        node->join.delivered_at = loop_clock();
        node->join.attempts++;
        return;
    }
    /* what the contract refuses now it refuses for long; what did not arrive is delivered again */
    if (strncmp(err->code, "join.", 5) == 0) {
        node->joining = false;
        node->join_refused_at = loop_clock();
    }
}

static void say_report(struct node *node)
{
    struct grid_message message;
    struct timespec since_boot;
    uint8_t version[32];
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    eth_code_to_word(daemon_version(), version);
    grid_message_init(&message, GRID_REPORT);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_uint(&message, "uptime", (uint64_t)since_boot.tv_sec);
    grid_message_set_word(&message, "capacity", node->capacity);
    grid_message_set_word(&message, "version", version);
    say(node, &message);
}

static void say_profile(struct node *node)
{
    struct grid_message message;
    grid_message_init(&message, GRID_PROFILE);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_word(&message, "tlsKeyHash", node->identity.tls_key_hash);
    grid_message_set_uint(&message, "runMode", node->boot.run_mode);
    grid_message_set_word(&message, "imageDigest", node->image_digest);
    if (set_hosts(node, &message) == 0)
        say(node, &message);
}

static void say_key_epoch(struct node *node)
{
    struct grid_message message;
    const struct sealing_key *key = identity_current(&node->identity);
    grid_message_init(&message, GRID_KEY_EPOCH);
    grid_message_set_uint(&message, "node", node->record.id);
    grid_message_set_word(&message, "sealingKey", key->public_key);
    grid_message_set_uint(&message, "keyEpoch", key->epoch);
    say(node, &message);
}

/* ---- deciding ---- */

static void stop(struct node *node, const char *code, const char *what, const char *hint)
{
    struct error err = {.code = ""};
    error_set(&err, EPERM, code, hint, "%s", what);
    log_error(&err, "stopped");
    node_set_error(node, &err);
    node_set_state(node, NODE_STOPPED, what);
}

/* Messages whose nonce another one used are signed again, behind everything else. */
static void sign_again(struct node *node)
{
    struct queue *queue = &node->queue;
    struct error err = {.code = ""};
    uint64_t next = queue_last_nonce(queue);
    bool changed = false;
    if (next < node->record.nonce)
        next = node->record.nonce;
    for (size_t i = 0; i < queue->count; i++) {
        struct queue_item *item = &queue->items[i];
        if (item->nonce != 0)
            continue;
        item->nonce = ++next;
        grid_message_set_uint(&item->message, "nonce", item->nonce);
        if (grid_message_sign(&item->message, &node->chain, node->identity.key) < 0)
            return;
        changed = true;
    }
    if (changed && queue_write(queue, &err) < 0)
        node_set_error(node, &err);
}

static void rotate_if_due(struct node *node)
{
    struct error err = {.code = ""};
    const struct record *record = &node->record;
    const struct sealing_key *key = identity_current(&node->identity);
    int64_t now = (int64_t)time(NULL);
    bool known =
        key->epoch == record->key_epoch && memcmp(key->public_key, record->sealing_key, 32) == 0;
    if (queue_has(&node->queue, GRID_KEY_EPOCH))
        return;
    if (known && now - key->created < IDENTITY_KEY_LIFE)
        return;
    /* the chain must learn exactly the epoch after its own; a key it cannot take (lost pools) is replaced */
    if (key->epoch != record->key_epoch + 1 &&
        identity_rotate(node->pools, &node->identity, record->key_epoch + 1, now, &err) < 0) {
        log_error(&err, "new sealing key");
        node_set_error(node, &err);
        return;
    }
    say_key_epoch(node);
}

static void decide_registered(struct node *node)
{
    const struct record *record = &node->record;
    struct queue *queue = &node->queue;
    bool profile_same = record->run_mode == node->boot.run_mode &&
                        memcmp(record->tls_key_hash, node->identity.tls_key_hash, 32) == 0 &&
                        memcmp(record->image_digest, node->image_digest, 32) == 0 &&
                        record->host_count == node->host_count &&
                        memcmp(record->hosts, node->hosts, sizeof(record->hosts)) == 0;
    uint64_t now = (uint64_t)time(NULL);
    bool due = now > record->last_report && now - record->last_report >= node->report_interval;
    if (!node->has_capacity)
        return;
    if (!queue_has(queue, GRID_REPORT) &&
        (!queue->reported || due || memcmp(record->capacity, node->capacity, 32) != 0))
        say_report(node);
    if (!profile_same && !queue_has(queue, GRID_PROFILE))
        say_profile(node);
    rotate_if_due(node);
}

static void tell_registered(struct node *node)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, node->record.id);
    notify_fact("node", text);
    if (node->record.state != 2) { /* the event means: takes reservations from now on */
        node->announced = false;
    } else if (!node->announced) {
        node->announced = true;
        log_info("registered as node %s of farm %" PRIu64, text, node->record.farm);
        notify_event("registered", "\"farm\":%" PRIu64 ",\"node\":%s", node->record.farm, text);
    }
}

static void decide(struct node *node)
{
    const struct record *record = &node->record;
    struct error err = {.code = ""};
    char address[ETH_ADDRESS_TEXT], text[128];
    bool had_accepted = node->queue.accepted;

    if (record->id == 0) {
        if (node->state != NODE_UNREGISTERED)
            node_set_state(node, NODE_UNREGISTERED, "waiting for the registration");
        if (node->queue.count == 0 && node->has_capacity)
            say_registration(node);
        return;
    }
    if (had_accepted && memcmp(record->boot_id, node->queue.boot_id, 32) != 0) {
        stop(node, "node.identity-conflict", "another machine reports with this node's identity",
             "find the machine that has a copy of this node's disk");
        return;
    }
    if (queue_settle(&node->queue, record->nonce, record->boot_id, &err) < 0) {
        log_error(&err, "queue");
        node_set_error(node, &err);
    }
    sign_again(node);
    if (record->farm != node->boot.farm) {
        snprintf(text, sizeof(text),
                 "this node belongs to farm %" PRIu64 ", farmer_id says %" PRIu64, record->farm,
                 node->boot.farm);
        stop(node, "node.wrong-farm", text, "boot it with the right farmer_id, or retire the node");
        return;
    }
    tell_registered(node);
    if (record->state == 3) {
        node_set_state(node, NODE_RETIRED, "retired by the farmer");
        return;
    }
    if (record->state == 1) {
        eth_address_format(node->identity.address, address);
        snprintf(text, sizeof(text), "waiting for approval, node address %s", address);
        node_set_state(node, NODE_PENDING, text);
    } else {
        node_set_state(node, NODE_ACTIVE, "");
    }
    join_if_pending(node);
    if (node->error.code[0] != '\0' &&
        ((strncmp(node->error.code, "join.", 5) == 0 && record->state == 2) ||
         (node->queue.count == 0 && !node->joining && strncmp(node->error.code, "relay.", 6) == 0)))
        node_set_error(node, NULL);
    decide_registered(node);
    deliver_kick(node);
}
