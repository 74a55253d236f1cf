/*
 * chain.c - looks at the registry and decides what there is to say.
 *
 * One look is: chain id, Reservations and report interval (once), then the node's id, then its record, and while messages are not
 * final the record at the final block. Every look ends in decide(), which compares the record with what we are and queues what is
 * missing. While something waits for the chain the looks come fast (0.2 s rising to 3 s), else once a minute: noded hears of nothing
 * by itself, provd has the subscription.
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
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "node.h"

#define SECOND ((uint64_t)1000000)
#define LOOK_FAST (SECOND / 5)
#define LOOK_SLOWEST (3 * SECOND)
#define LOOK_WAITING (5 * SECOND)
#define LOOK_CONFIRMING (15 * SECOND) /* all is on the chain, not all of it is final */
#define LOOK_IDLE (60 * SECOND)
#define LOOK_FAILED_MAX (30 * SECOND)
/* Blocks below the latest with croft.trust=rpc; with another trust the chain says what is final. */
#define FINAL_DEPTH 2
/* Until it is believed that the registry knows us no more: an endpoint may lag behind. */
#define UNKNOWN_LOOKS 10

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
    bool waiting = queue_waiting(&node->queue) > 0 || node->joining;
    node->looking = false;
    if (node->error.code[0] != '\0' && strncmp(node->error.code, "chain.", 6) == 0)
        node_set_error(node, NULL);
    if (waiting) {
        node->backoff = node->backoff * 3 / 2 < LOOK_SLOWEST ? node->backoff * 3 / 2 : LOOK_SLOWEST;
        chain_look_in(node, node->backoff);
        return;
    }
    node->backoff = LOOK_FAST;
    uint64_t pause = node->state == NODE_ACTIVE ? LOOK_IDLE : LOOK_WAITING;
    if (node->queue.count > 0 && pause > LOOK_CONFIRMING)
        pause = LOOK_CONFIRMING;
    chain_look_in(node, pause);
}

/* ---- asking ---- */

static void call_view(struct node *node, const char *signature, const struct abi_value *values,
                      size_t count, const char *block, eth_rpc_fn *fn)
{
    struct buffer call, params;
    struct error err = {.code = ""};
    buffer_init(&call, 0);
    buffer_init(&params, 0);
    int r = abi_encode_call(signature, values, count, &call);
    if (r >= 0)
        r = eth_rpc_call_params(&params, NULL, node->chain.registry, call.data, call.len, block);
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

static void learned(struct node *node)
{
    decide(node);
    look_done(node);
}

/* The record at the final block. That there is none (a young chain or node) only means that nothing is final. */
static void on_final(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    struct abi_decoded decoded;
    struct buffer bytes;
    buffer_init(&bytes, 0);
    if (err == NULL && eth_rpc_bytes_buffer(result, &bytes) >= 0 &&
        abi_decode(NODE_TYPE, bytes.data, bytes.len, &decoded) >= 0) {
        const struct abi_value *fields = decoded.values[0].items;
        if (memcmp(fields[0].word + 12, node->identity.address, 20) == 0)
            node->record.final_nonce = number(&fields[5]);
        abi_decoded_done(&decoded);
    }
    buffer_done(&bytes);
    learned(node);
}

static void ask_final(struct node *node, const char *block)
{
    struct abi_value argument = abi_uint(node->record.id);
    call_view(node, "node(uint64)", &argument, 1, block, on_final);
}

static void on_number(yyjson_val *result, const struct error *err, void *data)
{
    struct node *node = data;
    char block[24];
    uint64_t latest;
    if (err != NULL || eth_rpc_quantity(result, &latest) < 0 || latest < FINAL_DEPTH) {
        learned(node);
        return;
    }
    snprintf(block, sizeof(block), "0x%" PRIx64, latest - FINAL_DEPTH);
    ask_final(node, block);
}

static void after_record(struct node *node)
{
    bool finalizes = node->boot.trust != NULL && strcmp(node->boot.trust, "rpc") != 0;
    if (node->queue.count > 0 && finalizes)
        ask_final(node, "finalized");
    else if (node->queue.count == 0 ||
             eth_rpc_call(node->rpc, -1, "eth_blockNumber", "[]", on_number, node, NULL) < 0)
        learned(node);
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
    after_record(node);
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
        learned(node);
        return;
    }
    node->record.id = id;
    struct abi_value argument = abi_uint(id);
    call_view(node, "node(uint64)", &argument, 1, "latest", on_record);
}

static void ask_id(struct node *node)
{
    struct abi_value argument = abi_address(node->identity.address);
    call_view(node, "nodeByIdentity(address)", &argument, 1, "latest", on_id);
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
    call_view(node, "reportInterval()", NULL, 0, "latest", on_interval);
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
    call_view(node, "reservations()", NULL, 0, "latest", on_reservations);
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

static void rotate_if_due(struct node *node, bool now_wanted)
{
    struct error err = {.code = ""};
    const struct record *record = &node->record;
    const struct sealing_key *key = identity_current(&node->identity);
    int64_t now = (int64_t)time(NULL);
    bool known =
        key->epoch == record->key_epoch && memcmp(key->public_key, record->sealing_key, 32) == 0;
    if (queue_has(&node->queue, GRID_KEY_EPOCH))
        return;
    if (known && !now_wanted && !identity_due(&node->identity, now))
        return;
    /* the chain must learn exactly the epoch after its own; a key it cannot take (lost pools) is replaced */
    if (key->epoch != record->key_epoch + 1 &&
        identity_rotate(node->pools, &node->identity, record->key_epoch + 1, now, &err) < 0) {
        log_error(&err, "new sealing key");
        node_set_error(node, &err);
        return;
    }
    fault_point("key.made");
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
    uint64_t now = loop_clock();
    if (node->report_known_at == 0 || node->report_known != record->last_report) {
        node->report_known = record->last_report;
        node->report_known_at = now;
    }
    bool due = (now - node->report_known_at) / 1000000 >= node->report_interval;
    if (!node->has_capacity)
        return;
    if (!queue_has(queue, GRID_REPORT) &&
        (!queue->reported || due || memcmp(record->capacity, node->capacity, 32) != 0))
        say_report(node);
    if (!profile_same && !queue_has(queue, GRID_PROFILE))
        say_profile(node);
    rotate_if_due(node, false);
}

int chain_rotate_key(struct node *node, uint32_t *ret_epoch, struct error *err)
{
    const struct record *record = &node->record;
    const struct sealing_key *key = identity_current(&node->identity);
    if (queue_has(&node->queue, GRID_KEY_EPOCH) || key->epoch != record->key_epoch)
        return error_set(err, EBUSY, "node.busy", "look at the node's keys in a minute",
                         "a new sealing key is on its way to the chain already");
    rotate_if_due(node, true);
    if (identity_current(&node->identity)->epoch == record->key_epoch)
        return error_set(err, EIO, "node.no-pool", "look at the node's disks",
                         "a new sealing key cannot be kept");
    *ret_epoch = identity_current(&node->identity)->epoch;
    deliver_kick(node);
    chain_look_in(node, 0);
    return 0;
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

/* The registry has no record of us: the registration is on its way, or a reorganisation took it back. */
static void decide_unknown(struct node *node)
{
    static const uint8_t nobody[32];
    struct error err = {.code = ""};
    int r = queue_settle(&node->queue, 0, 0, nobody, &err);
    bool there = node->queue.count == 0 || queue_has(&node->queue, GRID_REGISTER);
    node->unknown_looks = there ? 0 : node->unknown_looks + 1;
    if (r >= 0 && node->unknown_looks == UNKNOWN_LOOKS) {
        log_warn("the registry does not know this node any more: registering again");
        r = queue_clear(&node->queue, &err);
    }
    if (r < 0) {
        log_error(&err, "queue");
        node_set_error(node, &err);
        return;
    }
    if (node->queue.count == 0 && node->has_capacity)
        say_registration(node);
    const struct queue_item *first = queue_first(&node->queue);
    if (first != NULL && first->delivered_at == 0 && first->attempts > 0)
        deliver_kick(node); /* it was taken back */
}

static void decide(struct node *node)
{
    const struct record *record = &node->record;
    struct error err = {.code = ""};
    char address[ETH_ADDRESS_TEXT], text[128];

    if (record->id == 0) {
        if (node->state != NODE_UNREGISTERED)
            node_set_state(node, NODE_UNREGISTERED, "waiting for the registration");
        decide_unknown(node);
        return;
    }
    if (!queue_is_ours(&node->queue, record->nonce, record->boot_id)) {
        stop(node, "node.identity-conflict", "another machine reports with this node's identity",
             "find the machine that has a copy of this node's disk");
        return;
    }
    if (queue_settle(&node->queue, record->nonce, record->final_nonce, record->boot_id, &err) < 0) {
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
    say_join_if_pending(node);
    if (node->error.code[0] != '\0' &&
        ((strncmp(node->error.code, "join.", 5) == 0 && record->state == 2) ||
         (queue_waiting(&node->queue) == 0 && !node->joining &&
          strncmp(node->error.code, "relay.", 6) == 0)))
        node_set_error(node, NULL);
    decide_registered(node);
    deliver_kick(node);
}
