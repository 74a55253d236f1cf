/*
 * submit.c - from the queue to the chain.
 *
 * A pump is: latest block → count of our mined transactions → base fee → fee tip → then, for every entry: sign and send what has no
 * transaction, replace what is stuck, ask the registry about what was mined, and at every new head about what is not final yet. Pumps
 * run while there are entries, faster while things move.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/log.h"
#include "relay.h"

#define SECOND ((uint64_t)1000000)
#define PUMP_FAST (SECOND / 4)
#define PUMP_SLOW (3 * SECOND)
#define DEFAULT_TIP 1000000000 /* wei */

static void pump_again(struct relay *relay)
{
    uint64_t pause = PUMP_FAST << (relay->calm < 8 ? relay->calm / 2 : 4);
    relay->pumping = false;
    relay->calm++;
    if (relay->entry_count > 0)
        loop_timer_set(relay->pump, loop_clock() + (pause < PUMP_SLOW ? pause : PUMP_SLOW));
}

void submit_kick(struct relay *relay)
{
    relay->calm = 0;
    if (!relay->pumping)
        loop_timer_set(relay->pump, loop_clock());
}

void entry_set_gas(struct entry *entry, yyjson_val *estimate)
{
    uint64_t gas = 0, least = grid_kinds[entry->message.kind].gas / 2;
    if (eth_rpc_quantity(estimate, &gas) < 0)
        gas = 0;
    entry->gas = gas + gas / 2 > least ? gas + gas / 2 : least;
}

static void pump_failed(struct relay *relay, const struct error *err)
{
    log_error(err, "chain");
    relay->calm = 8;
    pump_again(relay);
}

/* ---- one transaction ---- */

struct sending {
    struct relay *relay;
    uint64_t id;
    uint8_t hash[32];
};

static void on_sent(yyjson_val *result, const struct error *err, void *data)
{
    struct sending *sending = data;
    (void)result;
    if (err == NULL)
        relay_step(sending->relay, STEP_SENT);
    else if (strstr(err->message, "known") == NULL &&
             strstr(err->message, "nonce too low") == NULL &&
             strstr(err->message, "imported") == NULL)
        log_error(err, "sending"); /* it is tried again when it counts as stuck */
    free(sending);
}

static void send_raw(struct relay *relay, struct entry *entry)
{
    struct buffer params;
    struct sending *sending = calloc(1, sizeof(*sending));
    entry->sent_at = loop_clock();
    if (sending == NULL)
        return;
    sending->relay = relay;
    sending->id = entry->id;
    buffer_init(&params, 0);
    int r = buffer_append_str(&params, "[\"");
    if (r >= 0)
        r = hex_append_0x(&params, entry->raw, entry->raw_len);
    if (r >= 0)
        r = buffer_append_str(&params, "\"]");
    if (r < 0 || eth_rpc_call(relay->rpc, -1, "eth_sendRawTransaction", (const char *)params.data,
                              on_sent, sending, NULL) < 0)
        free(sending);
    buffer_done(&params);
}

/* Signs with the given account nonce and fees, journals, and only then sends. */
static int sign_and_send(struct relay *relay, struct entry *entry, uint64_t account_nonce,
                         uint64_t max_fee, uint64_t tip, enum relay_step step)
{
    struct buffer call, raw;
    struct entry old = *entry;
    uint8_t hash[32];
    buffer_init(&call, 0);
    buffer_init(&raw, 0);
    int r = grid_message_call(&entry->message, &call);
    if (r >= 0) {
        struct eth_tx tx = {
            .chain_id = relay->chain.chain_id,
            .nonce = account_nonce,
            .max_priority_fee = tip < max_fee ? tip : max_fee,
            .max_fee = max_fee,
            .gas = entry->gas > 0 ? entry->gas : grid_kinds[entry->message.kind].gas,
            .data = call.data,
            .data_len = call.len,
        };
        memcpy(tx.to,
               grid_kinds[entry->message.kind].reservations ? relay->chain.reservations
                                                            : relay->chain.registry,
               20);
        r = eth_tx_sign(&tx, relay->key, &raw, hash);
    }
    if (r >= 0) {
        entry->tx = true;
        entry->account_nonce = account_nonce;
        entry->max_fee = max_fee;
        entry->tip = tip;
        entry->raw = buffer_steal(&raw, &entry->raw_len);
        memcpy(entry->hash, hash, 32);
        r = journal_signed(relay, entry);
        if (r >= 0) {
            free(old.raw);
            relay_step(relay, step);
            send_raw(relay, entry);
        } else { /* not in the journal: it must not be sent */
            uint8_t *unsent = entry->raw;
            entry->tx = old.tx;
            entry->account_nonce = old.account_nonce;
            entry->max_fee = old.max_fee;
            entry->tip = old.tip;
            entry->raw = old.raw;
            entry->raw_len = old.raw_len;
            memcpy(entry->hash, old.hash, 32);
            free(unsent);
        }
    }
    buffer_done(&raw);
    buffer_done(&call);
    return r < 0 ? r : 0;
}

static uint64_t wanted_fee(const struct relay *relay)
{
    uint64_t fee = 2 * relay->base_fee + relay->tip;
    return fee < relay->max_fee_cap ? fee : relay->max_fee_cap;
}

/* Replacing needs a tenth more of both fees at least (geth); an eighth keeps clear of rounding. */
static void replace(struct relay *relay, struct entry *entry)
{
    uint64_t max_fee = entry->max_fee + entry->max_fee / 8 + 1;
    uint64_t tip = entry->tip + entry->tip / 8 + 1;
    if (max_fee < wanted_fee(relay))
        max_fee = wanted_fee(relay);
    if (tip < relay->tip)
        tip = relay->tip;
    if (max_fee > relay->max_fee_cap) {
        log_warn("a transaction is stuck, and its fee has reached --max-fee");
        send_raw(relay, entry);
        return;
    }
    log_info("replacing transaction %llu with a fee of %llu wei",
             (unsigned long long)entry->account_nonce, (unsigned long long)max_fee);
    int r = sign_and_send(relay, entry, entry->account_nonce, max_fee, tip, STEP_REPLACED);
    if (r < 0)
        log_err("a transaction cannot be replaced: %s", strerror(-r));
}

/* ---- mined ---- */

static struct entry *find(struct relay *relay, uint64_t id)
{
    struct entry *entry = relay->entries;
    while (entry != NULL && entry->id != id)
        entry = entry->next;
    return entry;
}

/* The entry that an answer is about; NULL: gone meanwhile. */
static struct entry *take_answer(void *data, struct relay **ret_relay)
{
    struct sending *asking = data;
    struct relay *relay = asking->relay;
    struct entry *entry = find(relay, asking->id);
    free(asking);
    *ret_relay = relay;
    if (entry != NULL)
        entry->asking = false;
    return entry;
}

static struct sending *about(struct relay *relay, struct entry *entry)
{
    struct sending *asking = calloc(1, sizeof(*asking));
    if (asking == NULL)
        return NULL;
    asking->relay = relay;
    asking->id = entry->id;
    entry->asking = true;
    return asking;
}

static void ask(struct relay *relay, struct entry *entry, const char *block, registered_fn *fn)
{
    struct sending *asking = about(relay, entry);
    if (asking == NULL || registry_ask(relay, entry->identity, block, fn, asking) < 0) {
        entry->asking = false; /* the next pump asks again */
        free(asking);
    }
}

static void end(struct relay *relay, struct entry *entry)
{
    int r = journal_done(relay, entry);
    if (r < 0) {
        log_err("the journal cannot be written: %s", strerror(-r));
        return;
    }
    relay->calm = 0;
    relay_remove_entry(relay, entry);
}

/* At the newest final block. */
static void on_final(const struct registered *registered, const struct error *err, void *data)
{
    struct relay *relay;
    struct entry *entry = take_answer(data, &relay);
    if (entry == NULL || err != NULL || !registered_has(registered, entry))
        return; /* an error: the registry is younger than that block, or the next head asks again */
    relay_step(relay, STEP_FINAL);
    end(relay, entry);
}

/* At the latest block, about an entry that was SEEN. */
static void on_still(const struct registered *registered, const struct error *err, void *data)
{
    struct relay *relay;
    struct entry *entry = take_answer(data, &relay);
    if (entry == NULL || err != NULL) {
        if (entry != NULL)
            entry->looked = 0;
        return;
    }
    if (registered_has(registered, entry)) {
        if (relay->final[0] != '\0')
            ask(relay, entry, relay->final, on_final);
        return;
    }
    log_warn("a reorganisation took the %s with nonce %llu back, sending it again",
             grid_kinds[entry->message.kind].name, (unsigned long long)entry->nonce);
    entry->seen = false;
    entry->sent_at = 0;
    submit_kick(relay);
}

/* At the latest block, about an entry whose account nonce was used. */
static void on_mined(const struct registered *registered, const struct error *err, void *data)
{
    struct relay *relay;
    struct entry *entry = take_answer(data, &relay);
    if (entry == NULL || err != NULL)
        return; /* the next pump asks again */
    if (registered_has(registered, entry)) {
        relay_step(relay, STEP_MINED);
        entry->seen = true;
        entry->looked = 0;
        relay->calm = 0;
        return;
    }
    /* a message before it was missing, or the contract refuses it by now: another one follows, or none */
    log_warn("the %s with nonce %llu was mined without effect",
             grid_kinds[entry->message.kind].name, (unsigned long long)entry->nonce);
    entry->tx = false;
    entry->gas = 0;
    entry->doubtful = true;
}

/* ---- doubtful ---- */

/* Whether a message of the same node is still on its way that this one builds on. */
static bool builds_on(const struct relay *relay, const struct entry *entry)
{
    for (const struct entry *other = relay->entries; other != NULL; other = other->next) {
        if (other != entry && memcmp(other->identity, entry->identity, 20) == 0 &&
            (other->message.kind == GRID_REGISTER || other->nonce < entry->nonce))
            return true;
    }
    return false;
}

static void on_simulated(yyjson_val *result, const struct error *err, void *data)
{
    struct relay *relay;
    struct entry *entry = take_answer(data, &relay);
    if (entry == NULL)
        return;
    if (err == NULL) {
        entry_set_gas(entry, result);
        entry->doubtful = false;
        relay->calm = 0;
        return;
    }
    bool refused = strncmp(err->code, "node.", 5) == 0 || strncmp(err->code, "join.", 5) == 0 ||
                   strncmp(err->code, "reservation.", 12) == 0 ||
                   strcmp(err->code, "chain.farm-unknown") == 0;
    if (!refused || builds_on(relay, entry))
        return; /* the next pump tries again */
    log_warn("giving up the %s with nonce %llu: %s (%s)", grid_kinds[entry->message.kind].name,
             (unsigned long long)entry->nonce, err->message, err->code);
    end(relay, entry);
}

static void simulate(struct relay *relay, struct entry *entry)
{
    struct sending *asking = about(relay, entry);
    if (asking == NULL || registry_simulate(relay, &entry->message, on_simulated, asking) < 0) {
        entry->asking = false;
        free(asking);
    }
}

/* ---- a pump ---- */

size_t relay_pending(const struct relay *relay)
{
    size_t count = 0;
    for (const struct entry *entry = relay->entries; entry != NULL; entry = entry->next)
        count += !entry->seen;
    return count;
}

static const struct entry *with_account_nonce(const struct relay *relay, uint64_t nonce)
{
    const struct entry *entry = relay->entries;
    while (entry != NULL && !(entry->tx && entry->account_nonce == nonce))
        entry = entry->next;
    return entry;
}

/* The lowest that the chain has not used and no transaction of ours carries. */
static uint64_t next_account_nonce(const struct relay *relay)
{
    uint64_t next = relay->account_used;
    while (with_account_nonce(relay, next) != NULL)
        next++;
    return next;
}

static void sign_next(struct relay *relay, struct entry *entry)
{
    int r = sign_and_send(relay, entry, next_account_nonce(relay), wanted_fee(relay), relay->tip,
                          STEP_SIGNED);
    if (r < 0)
        log_err("a message cannot be signed: %s", strerror(-r));
}

/* A reorganisation can leave an account nonce unused that nothing here carries any more: what comes after it would wait for ever. The
 * last transaction takes its place; should both be mined, the second repeats a message and changes nothing. */
static void fill_gap(struct relay *relay)
{
    uint64_t gap = next_account_nonce(relay);
    struct entry *last = NULL;
    for (struct entry *entry = relay->entries; entry != NULL; entry = entry->next) {
        if (entry->tx && entry->account_nonce > gap &&
            (last == NULL || entry->account_nonce > last->account_nonce))
            last = entry;
    }
    if (last != NULL) {
        log_warn("account nonce %llu became free, filling it", (unsigned long long)gap);
        sign_next(relay, last);
    }
}

static void work(struct relay *relay)
{
    uint64_t now = loop_clock();
    for (struct entry *entry = relay->entries; entry != NULL; entry = entry->next) {
        if (entry->asking)
            continue;
        if (entry->seen) {
            if (entry->looked != relay->heads)
                ask(relay, entry, "latest", on_still);
            entry->looked = relay->heads;
        } else if (!entry->tx && entry->doubtful) {
            simulate(relay, entry);
        } else if (!entry->tx) {
            sign_next(relay, entry);
        } else if (entry->account_nonce < relay->account_used) {
            ask(relay, entry, "latest", on_mined);
        } else if (entry->sent_at == 0) {
            send_raw(relay, entry); /* of an earlier run, or taken back */
        } else if (now - entry->sent_at > relay->replace_after_us) {
            replace(relay, entry);
        }
    }
    fill_gap(relay);
    pump_again(relay);
}

static void on_tip(yyjson_val *result, const struct error *err, void *data)
{
    struct relay *relay = data;
    if (err != NULL || eth_rpc_quantity(result, &relay->tip) < 0)
        relay->tip = DEFAULT_TIP;
    work(relay);
}

static void on_block(yyjson_val *result, const struct error *err, void *data)
{
    struct relay *relay = data;
    if (err != NULL) {
        pump_failed(relay, err);
        return;
    }
    if (eth_rpc_quantity(yyjson_obj_get(result, "baseFeePerGas"), &relay->base_fee) < 0)
        relay->base_fee = 0;
    if (eth_rpc_call(relay->rpc, -1, "eth_maxPriorityFeePerGas", "[]", on_tip, relay, NULL) < 0)
        pump_again(relay);
}

static void on_count(yyjson_val *result, const struct error *err, void *data)
{
    struct relay *relay = data;
    uint64_t count;
    if (err != NULL) {
        pump_failed(relay, err);
        return;
    }
    if (eth_rpc_quantity(result, &count) < 0) {
        pump_again(relay);
        return;
    }
    if (count != relay->account_used)
        relay->calm = 0;
    relay->account_used = count;
    relay->counted = true;
    /* "pending" has the fee of the block to come: the one that a stuck transaction must reach */
    if (eth_rpc_call(relay->rpc, -1, "eth_getBlockByNumber", "[\"pending\",false]", on_block, relay,
                     NULL) < 0)
        pump_again(relay);
}

static void on_head(yyjson_val *result, const struct error *err, void *data)
{
    struct relay *relay = data;
    char params[80], account[43];
    uint8_t hash[32];
    uint64_t number;
    if (err != NULL) {
        pump_failed(relay, err);
        return;
    }
    if (eth_rpc_bytes(yyjson_obj_get(result, "hash"), hash, 32) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(result, "number"), &number) < 0) {
        pump_again(relay);
        return;
    }
    if (memcmp(hash, relay->head, 32) != 0)
        relay->heads++;
    memcpy(relay->head, hash, 32);
    relay->final[0] = '\0';
    if (relay->final_depth == RELAY_FINALIZED)
        snprintf(relay->final, sizeof(relay->final), "finalized");
    else if (number >= relay->final_depth)
        snprintf(relay->final, sizeof(relay->final), "0x%llx",
                 (unsigned long long)(number - relay->final_depth));
    hex_encode_0x(relay->account, 20, account);
    snprintf(params, sizeof(params), "[\"%s\",\"latest\"]", account);
    if (eth_rpc_call(relay->rpc, -1, "eth_getTransactionCount", params, on_count, relay, NULL) < 0)
        pump_again(relay);
}

static void on_pump(struct loop_timer *timer, void *data)
{
    (void)timer;
    struct relay *relay = data;
    if (relay->pumping)
        return;
    relay->pumping = true;
    if (eth_rpc_call(relay->rpc, -1, "eth_getBlockByNumber", "[\"latest\",false]", on_head, relay,
                     NULL) < 0)
        pump_again(relay);
}

int submit_start(struct relay *relay)
{
    int r = loop_timer_add(relay->loop, on_pump, relay, &relay->pump);
    if (r == 0)
        submit_kick(relay);
    return r;
}
