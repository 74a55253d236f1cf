/*
 * watch.c - rounds of proof over the chain's JSON-RPC; see watch.h for the stages.
 *
 * Every stage is one request. Its answer is checked, then the next stage is entered; whatever fails ends the round with an
 * error, leaves the lists as they were, and asks again later.
 */
#include "provision/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

#include "lib/crypto/text.h"
#include "lib/eth/heads.h"
#include "lib/eth/log.h"
#include "lib/eth/proof.h"
#include "provision/slots.h"

#define HINT "name another chain endpoint with croft.chain"
#define REMEMBERED_MAX 512
#define AHEAD_MAX_S 900       /* what clocks of honest machines differ by, and more */
#define SWITCHES_MAX 3        /* of endpoints within one round */
#define SLOTS_MAX 4           /* of one proof */
#define LOG_BLOCKS_MAX 100000 /* blocks walked in one round: far beyond any honest list */

enum stage {
    STAGE_IDLE,
    STAGE_CHAIN_ID,
    STAGE_PEEK,
    STAGE_HEADER,
    STAGE_LINK,
    STAGE_NODE,
    STAGE_LIST,
    STAGE_BLOCK,
    STAGE_LOGS
};

struct watch {
    struct loop *loop;
    struct eth_rpc *rpc;
    struct eth_heads *heads;
    struct loop_timer *retry;
    struct watch_handlers handlers;
    uint64_t chain_id;
    uint8_t registry[20];
    uint8_t identity[20];
    uint8_t boot_id[16];
    uint64_t farm;
    uint8_t run_mode;

    enum stage stage;
    bool again;         /* a head came during this round */
    bool chain_checked; /* of the endpoint below */
    size_t chain_endpoint;
    uint64_t chain_asked_at;
    unsigned switches; /* of endpoints in this round */
    bool reachable;
    uint64_t delay_us;
    uint64_t linked_at;   /* 0: LINK and NODE are due */
    uint64_t verified_at; /* end of the last whole round; 0: none */
    uint64_t head_number; /* what the newest head claims to be */
    uint64_t chain_time;  /* of the newest block that was proved; 0: none */
    uint64_t chain_time_at;
    enum watch_state state;

    /* the round */
    struct eth_header header;
    uint64_t sequence, last_block; /* proved */
    uint8_t head[32];
    uint64_t next_block;             /* whose logs are asked for */
    struct eth_header walked_header; /* of that block */
    struct ledger_change *walked;    /* falling sequence */
    size_t walked_count;
    size_t blocks_walked;

    /* what is known */
    struct ledger_scope scope;
    struct ledger latest, final;
    uint64_t final_block;
    uint64_t block;
    uint8_t block_hash[32];
    uint32_t key_epoch; /* the registry's, as last proved */
    uint64_t key_since;
    uint64_t nonce; /* likewise: the last one that the node used, and whether this boot did */
    bool own_boot;
    /* Times of proved headers: of one that is final, and of one that is not yet. */
    uint64_t final_time;
    uint64_t coming_block, coming_time;
};

static void enter(struct watch *watch, enum stage stage);

/* ---- ends of a round ---- */

static void round_reset(struct watch *watch)
{
    ledger_changes_free(watch->walked, watch->walked_count);
    watch->walked = NULL;
    watch->walked_count = 0;
    watch->blocks_walked = 0;
    watch->stage = STAGE_IDLE;
}

static void round_failed(struct watch *watch, const struct error *err)
{
    round_reset(watch);
    watch->again = false;
    watch->switches = 0;
    watch->chain_checked = false; /* whoever answers next time says which chain he serves */
    watch->verified_at = 0;
    loop_timer_in(watch->retry, watch->delay_us);
    watch->delay_us =
        watch->delay_us * 2 > WATCH_RETRY_MAX_US ? WATCH_RETRY_MAX_US : watch->delay_us * 2;
    watch->handlers.on_state(watch->state, err, watch->handlers.data);
}

/* The time of a block that is final by now: that of a header which an earlier round proved. */
static void note_time(struct watch *watch)
{
    if (watch->coming_block != 0 && watch->final_block >= watch->coming_block) {
        watch->final_time = watch->coming_time;
        watch->coming_block = 0;
    }
    if (watch->coming_block == 0) {
        watch->coming_block = watch->header.number;
        watch->coming_time = watch->header.timestamp;
    }
}

static void round_done(struct watch *watch, enum watch_state state)
{
    note_time(watch);
    round_reset(watch);
    watch->switches = 0;
    watch->delay_us = WATCH_RETRY_US;
    watch->verified_at = loop_now(watch->loop);
    if (watch->block == 0 || memcmp(watch->block_hash, watch->header.hash, 32) != 0) {
        /* The same block once more is as old as it was: the time since it was seen first counts. */
        watch->chain_time = watch->header.timestamp;
        watch->chain_time_at = loop_clock();
    }
    if (watch->head_number < watch->header.number) {
        watch->head_number = watch->header.number;
    }
    watch->block = watch->header.number;
    memcpy(watch->block_hash, watch->header.hash, 32);
    watch->state = state;
    watch->handlers.on_state(state, NULL, watch->handlers.data);
    if (watch->again) {
        watch->again = false;
        enter(watch, STAGE_PEEK);
        return;
    }
    loop_timer_in(watch->retry, WATCH_VERIFY_US);
}

static int stale(struct error *err)
{
    return error_set(err, ESTALE, "chain.stale", HINT,
                     "the chain endpoint shows a state older than the last final one");
}

/* ---- stages: what is asked ---- */

static void append_proof_params(struct buffer *out, const uint8_t address[20],
                                const uint8_t (*slots)[32], size_t count, uint64_t block)
{
    buffer_append_str(out, "[\"");
    hex_append_0x(out, address, 20);
    buffer_append_str(out, "\",[");
    for (size_t i = 0; i < count; i++) {
        buffer_append_str(out, i > 0 ? ",\"" : "\"");
        hex_append_0x(out, slots[i], 32);
        buffer_append_str(out, "\"");
    }
    buffer_printf(out, "],\"0x%" PRIx64 "\"]", block);
}

static size_t link_slots(const struct watch *watch, uint8_t slots[SLOTS_MAX][32])
{
    slot_reservations(slots[0]);
    slot_node_of(watch->identity, slots[1]);
    return 2;
}

static size_t node_slots(const struct watch *watch, uint8_t slots[SLOTS_MAX][32])
{
    slot_node(watch->scope.node, slots[0]);
    slot_node_key(watch->scope.node, slots[1]);
    slot_node_boot(watch->scope.node, slots[2]);
    slot_farm(watch->farm, slots[3]);
    return 4;
}

static size_t list_slots(const struct watch *watch, uint8_t slots[SLOTS_MAX][32])
{
    slot_list(watch->scope.node, slots);
    return 2;
}

static void ask_chain_id(struct watch *watch, struct buffer *out)
{
    (void)watch;
    buffer_append_str(out, "[]");
}

static void ask_peek(struct watch *watch, struct buffer *out)
{
    uint8_t slots[SLOTS_MAX][32];
    size_t count = list_slots(watch, slots);
    append_proof_params(out, watch->scope.reservations, (const uint8_t(*)[32])slots, count,
                        watch->head_number);
}

static void ask_block(struct watch *watch, struct buffer *out)
{
    buffer_printf(out, "[\"0x%" PRIx64 "\",false]", watch->next_block);
}

static void ask_header(struct watch *watch, struct buffer *out)
{
    (void)watch;
    buffer_append_str(out, "[\"latest\",false]");
}

static void ask_link(struct watch *watch, struct buffer *out)
{
    uint8_t slots[SLOTS_MAX][32];
    size_t count = link_slots(watch, slots);
    append_proof_params(out, watch->registry, (const uint8_t(*)[32])slots, count,
                        watch->header.number);
}

static void ask_node(struct watch *watch, struct buffer *out)
{
    uint8_t slots[SLOTS_MAX][32];
    size_t count = node_slots(watch, slots);
    append_proof_params(out, watch->registry, (const uint8_t(*)[32])slots, count,
                        watch->header.number);
}

static void ask_list(struct watch *watch, struct buffer *out)
{
    uint8_t slots[SLOTS_MAX][32];
    size_t count = list_slots(watch, slots);
    append_proof_params(out, watch->scope.reservations, (const uint8_t(*)[32])slots, count,
                        watch->header.number);
}

static void ask_logs(struct watch *watch, struct buffer *out)
{
    buffer_append_str(out, "[{\"address\":\"");
    hex_append_0x(out, watch->scope.reservations, 20);
    buffer_printf(out,
                  "\",\"fromBlock\":\"0x%" PRIx64 "\",\"toBlock\":\"0x%" PRIx64
                  "\",\"topics\":[null,\"0x%064" PRIx64 "\"]}]",
                  watch->next_block, watch->next_block, watch->scope.node);
}

/* ---- stages: what is made of the answer ---- */

static int got_chain_id(struct watch *watch, yyjson_val *result, struct error *err)
{
    uint64_t id;
    if (eth_rpc_quantity(result, &id) < 0) {
        return error_set(err, EBADMSG, "chain.bad-answer", HINT, "eth_chainId is no number");
    }
    if (id != watch->chain_id) {
        return error_set(err, EINVAL, "chain.wrong-id", "correct croft.chain or croft.chainid",
                         "the endpoint serves chain %" PRIu64 ", not %" PRIu64, id,
                         watch->chain_id);
    }
    watch->chain_checked = true;
    watch->chain_asked_at = loop_now(watch->loop);
    watch->chain_endpoint = eth_rpc_good(watch->rpc);
    enter(watch, STAGE_HEADER);
    return 0;
}

/* A quantity of at most 32 bytes as a word. */
static int peek_word(yyjson_val *proof, size_t index, uint8_t ret_word[32])
{
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_arr_get(proof, index), "value"));
    char digits[65];
    size_t len = text != NULL && strncmp(text, "0x", 2) == 0 ? strlen(text + 2) : 0;

    if (len == 0 || len > 64) {
        return -EBADMSG;
    }
    memset(digits, '0', 64);
    memcpy(digits + 64 - len, text + 2, len + 1);
    return hex_decode(digits, ret_word, 32);
}

static int got_peek(struct watch *watch, yyjson_val *result, struct error *err)
{
    uint8_t values[2][32];
    yyjson_val *proof = yyjson_obj_get(result, "storageProof");

    (void)err;
    if (peek_word(proof, 0, values[0]) == 0 && peek_word(proof, 1, values[1]) == 0 &&
        slot_uint64(values[0], 0) == watch->latest.sequence &&
        memcmp(values[1], watch->latest.head, 32) == 0) {
        uint64_t due = watch->verified_at + WATCH_VERIFY_US;
        watch->stage = STAGE_IDLE;
        if (watch->again) {
            watch->again = false;
            enter(watch, STAGE_PEEK);
            return 0;
        }
        loop_timer_set(watch->retry, due);
        return 0;
    }
    enter(watch, STAGE_HEADER);
    return 0;
}

/* What an event says of its time, and the block it claims to be in, must be that block's own. */
static int got_block(struct watch *watch, yyjson_val *result, struct error *err)
{
    int ret = eth_header_from_json(result, &watch->walked_header, err);
    if (ret < 0) {
        return ret;
    }
    if (watch->walked_header.number != watch->next_block) {
        return error_set(err, EBADMSG, "chain.bad-answer", HINT, "another block was answered");
    }
    enter(watch, STAGE_LOGS);
    return 0;
}

static int check_against_block(const struct watch *watch, const struct eth_log *logs, size_t count,
                               const struct ledger_change *changes, size_t change_count,
                               struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(logs[i].block_hash, watch->walked_header.hash, 32) != 0) {
            return error_set(err, EBADMSG, "chain.bad-list", HINT,
                             "a log is of another block than it claims");
        }
    }
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].time != watch->walked_header.timestamp) {
            return error_set(err, EBADMSG, "chain.bad-list", HINT,
                             "a change claims another time than its block's");
        }
    }
    return 0;
}

bool watch_clock_is_kept(void)
{
    struct timex kernel = {0};
    return adjtimex(&kernel) != TIME_ERROR;
}

/* A block that is not made yet is nobody's. Only a clock that a time server keeps can tell. */
static int check_time(const struct eth_header *header, struct error *err)
{
    uint64_t now = (uint64_t)time(NULL);

    if (!watch_clock_is_kept() || header->timestamp <= now + AHEAD_MAX_S) {
        return 0;
    }
    return error_set(
        err, EBADMSG, "chain.bad-header", "the chain endpoint lies or is broken: use another one",
        "the block's time is %" PRIu64 " s ahead of this machine's clock", header->timestamp - now);
}

static bool link_due(const struct watch *watch)
{
    return watch->state != WATCH_RUNNING || watch->linked_at == 0 ||
           loop_now(watch->loop) - watch->linked_at >= WATCH_RECHECK_US;
}

static int got_header(struct watch *watch, yyjson_val *result, struct error *err)
{
    int ret = eth_header_from_json(result, &watch->header, err);
    if (ret < 0) {
        return ret;
    }
    if (watch->header.number < watch->final_block) {
        return stale(err);
    }
    ret = check_time(&watch->header, err);
    if (ret < 0) {
        return ret;
    }
    enter(watch, link_due(watch) ? STAGE_LINK : STAGE_LIST);
    return 0;
}

static int got_link(struct watch *watch, yyjson_val *result, struct error *err)
{
    uint8_t slots[SLOTS_MAX][32], values[2][32];
    struct ledger_scope scope = {.chain_id = watch->chain_id};

    link_slots(watch, slots);
    int ret = eth_proof_slots(result, watch->header.state_root, watch->registry,
                              (const uint8_t(*)[32])slots, 2, values, err);
    if (ret < 0) {
        return ret;
    }
    memcpy(scope.reservations, values[0] + 12, 20);
    scope.node = slot_uint64(values[1], 0);
    if (scope.node == 0 && watch->final.sequence > 0) {
        return stale(err); /* it had a list, which is final */
    }
    if (scope.node == 0) {
        round_done(watch, WATCH_UNREGISTERED);
        return 0;
    }
    watch->scope = scope;
    enter(watch, STAGE_NODE);
    return 0;
}

static int got_node(struct watch *watch, yyjson_val *result, struct error *err)
{
    uint8_t slots[SLOTS_MAX][32], values[SLOTS_MAX][32];
    uint8_t farmer[20];
    struct slot_node node;

    size_t count = node_slots(watch, slots);
    int ret = eth_proof_slots(result, watch->header.state_root, watch->registry,
                              (const uint8_t(*)[32])slots, count, values, err);
    if (ret < 0) {
        return ret;
    }
    slot_node_unpack(values[0], &node);
    if (memcmp(node.identity, watch->identity, 20) != 0 || node.farm != watch->farm) {
        return error_set(
            err, EPERM, "node.wrong-farm", "boot with the farmer_id it registered with",
            "this node is registered with farm %" PRIu64 ", not %" PRIu64, node.farm, watch->farm);
    }
    slot_farm_unpack(values[3], farmer);
    watch->handlers.on_farmer(farmer, watch->handlers.data);
    if (node.state != 2) {
        round_done(watch, node.state == 3 ? WATCH_RETIRED : WATCH_PENDING);
        return 0;
    }
    if (node.run_mode != watch->run_mode) {
        return error_set(err, EPERM, "node.wrong-runmode", "wait for the node's next report",
                         "the chain knows another run mode of this node");
    }
    slot_node_key_unpack(values[1], &watch->key_epoch, &watch->key_since);
    watch->nonce = slot_uint64(values[1], 0);
    watch->own_boot = memcmp(values[2], watch->boot_id, 16) == 0;
    watch->linked_at = loop_now(watch->loop);
    if (!ledger_scope_equal(&watch->scope, &watch->final.scope)) {
        /* Another contract or node id: what was known is of no use. */
        ledger_done(&watch->latest);
        ledger_done(&watch->final);
        ledger_init(&watch->latest, &watch->scope);
        ledger_init(&watch->final, &watch->scope);
        watch->final_block = 0;
    }
    enter(watch, STAGE_LIST);
    return 0;
}

static bool keep_none(const struct ledger_revision *revision, void *data)
{
    (void)revision;
    (void)data;
    return false;
}

/* Ended reservations are remembered for a while (the time of a kept volume is counted from their end), not for ever. */
static void forget(struct ledger *final)
{
    if (final->count > REMEMBERED_MAX) {
        ledger_prune(final, final->sequence, keep_none, NULL);
    }
}

/* More of the list is final although nothing changed. */
static int promote(struct watch *watch)
{
    uint64_t final_block =
        watch->header.number > WATCH_FINAL_DEPTH ? watch->header.number - WATCH_FINAL_DEPTH : 0;
    if (final_block > watch->final_block) {
        watch->final_block = final_block;
    }
    if (watch->latest.sequence == watch->final.sequence ||
        watch->latest.last_block > watch->final_block) {
        return 0;
    }
    struct ledger final;
    int ret = ledger_copy(&watch->latest, &final);
    if (ret < 0) {
        return ret;
    }
    ledger_done(&watch->final);
    watch->final = final;
    forget(&watch->final);
    return 1;
}

static int fold(struct watch *watch, struct error *err);

static int got_list(struct watch *watch, yyjson_val *result, struct error *err)
{
    uint8_t slots[SLOTS_MAX][32], values[2][32];

    list_slots(watch, slots);
    int ret = eth_proof_slots(result, watch->header.state_root, watch->scope.reservations,
                              (const uint8_t(*)[32])slots, 2, values, err);
    if (ret < 0) {
        return ret;
    }
    watch->sequence = slot_uint64(values[0], 0);
    watch->last_block = slot_uint64(values[0], 64);
    memcpy(watch->head, values[1], 32);
    if (watch->sequence < watch->final.sequence ||
        (watch->sequence == watch->final.sequence &&
         memcmp(watch->head, watch->final.head, 32) != 0)) {
        return stale(err);
    }
    if (watch->sequence == watch->latest.sequence &&
        memcmp(watch->head, watch->latest.head, 32) == 0) {
        bool first = watch->block == 0;
        ret = promote(watch);
        if (ret < 0) {
            return error_set(err, -ret, "provision.no-memory", "", "out of memory");
        }
        if (ret > 0 || first) {
            watch->handlers.on_list(&watch->latest, &watch->final, watch->header.number,
                                    watch->handlers.data);
        }
        round_done(watch, WATCH_RUNNING);
        return 0;
    }
    if (watch->sequence == watch->final.sequence) {
        return fold(
            watch,
            err); /* a reorganisation took all back that is not final: nothing is to be read */
    }
    watch->next_block = watch->last_block;
    enter(watch, STAGE_BLOCK);
    return 0;
}

/* The walk met the final list: fold forward and compare. */
static int fold(struct watch *watch, struct error *err)
{
    struct ledger final, latest;
    uint64_t final_block =
        watch->header.number > WATCH_FINAL_DEPTH ? watch->header.number - WATCH_FINAL_DEPTH : 0;
    size_t i = watch->walked_count;
    int ret = ledger_copy(&watch->final, &final);

    if (ret < 0) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    for (; ret == 0 && i > 0 && watch->walked[i - 1].block <= final_block; i--) {
        ret = ledger_apply(&final, &watch->walked[i - 1], err);
    }
    forget(&final);
    if (ret == 0) {
        ret = ledger_copy(&final, &latest);
    }
    if (ret < 0) {
        ledger_done(&final);
        return ret;
    }
    for (; ret == 0 && i > 0; i--) {
        ret = ledger_apply(&latest, &watch->walked[i - 1], err);
    }
    if (ret == 0 &&
        (latest.sequence != watch->sequence || memcmp(latest.head, watch->head, 32) != 0)) {
        ret = error_set(err, EBADMSG, "chain.bad-list", HINT,
                        "the chain endpoint's list of changes does not meet the proved head");
    }
    if (ret < 0) {
        ledger_done(&final);
        ledger_done(&latest);
        return ret;
    }
    ledger_done(&watch->final);
    ledger_done(&watch->latest);
    watch->final = final;
    watch->latest = latest;
    if (final_block > watch->final_block) {
        watch->final_block = final_block;
    }
    watch->handlers.on_list(&watch->latest, &watch->final, watch->header.number,
                            watch->handlers.data);
    round_done(watch, WATCH_RUNNING);
    return 0;
}

/* Adds one block's changes below those walked already; falling sequence without a gap. */
static int walk(struct watch *watch, struct ledger_change *changes, size_t count, struct error *err)
{
    uint64_t expected = watch->walked_count == 0
                            ? watch->sequence
                            : watch->walked[watch->walked_count - 1].sequence - 1;
    struct ledger_change *grown =
        reallocarray(watch->walked, watch->walked_count + count + 1, sizeof(*grown));

    if (grown == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    watch->walked = grown;
    for (size_t i = count; i > 0; i--) {
        struct ledger_change *change = &changes[i - 1];
        uint64_t previous = i > 1 ? change->block : change->previous_block;
        if (change->sequence > expected) {
            continue; /* newer than the proved state: the block is asked again with a later head */
        }
        if (change->sequence != expected || change->previous_block != previous ||
            previous > change->block) {
            return error_set(err, EBADMSG, "chain.bad-list", HINT,
                             "the chain endpoint leaves out changes of block %" PRIu64,
                             watch->next_block);
        }
        if (change->sequence <= watch->final.sequence) {
            break;
        }
        grown[watch->walked_count++] = *change;
        change->content = NULL; /* moved */
        expected--;
    }
    return 0;
}

static int got_logs(struct watch *watch, yyjson_val *result, struct error *err)
{
    struct eth_log *logs;
    struct ledger_change *changes;
    size_t log_count, count;

    int ret = eth_logs_from_json(result, &logs, &log_count, err);
    if (ret < 0) {
        return ret;
    }
    ret = ledger_changes_from_logs(&watch->scope, watch->next_block, logs, log_count, &changes,
                                   &count, err);
    if (ret == 0) {
        ret = check_against_block(watch, logs, log_count, changes, count, err);
        if (ret < 0) {
            ledger_changes_free(changes, count);
        }
    }
    eth_logs_free(logs, log_count);
    if (ret < 0) {
        return ret;
    }
    size_t before = watch->walked_count;
    ret = walk(watch, changes, count, err);
    ledger_changes_free(changes, count);
    if (ret < 0) {
        return ret;
    }
    if (watch->walked_count == before || ++watch->blocks_walked > LOG_BLOCKS_MAX) {
        return error_set(err, EBADMSG, "chain.bad-list", HINT,
                         "the chain endpoint shows no change in block %" PRIu64
                         ", where the proof names one",
                         watch->next_block);
    }
    const struct ledger_change *lowest = &watch->walked[watch->walked_count - 1];
    if (lowest->sequence == watch->final.sequence + 1) {
        return fold(watch, err);
    }
    watch->next_block = lowest->previous_block;
    enter(watch, STAGE_BLOCK);
    return 0;
}

/* ---- the table ---- */

static const struct {
    const char *method;
    void (*ask)(struct watch *, struct buffer *);
    int (*got)(struct watch *, yyjson_val *, struct error *);
} stages[] = {
    [STAGE_CHAIN_ID] = {"eth_chainId", ask_chain_id, got_chain_id},
    [STAGE_PEEK] = {"eth_getProof", ask_peek, got_peek},
    [STAGE_HEADER] = {"eth_getBlockByNumber", ask_header, got_header},
    [STAGE_LINK] = {"eth_getProof", ask_link, got_link},
    [STAGE_NODE] = {"eth_getProof", ask_node, got_node},
    [STAGE_LIST] = {"eth_getProof", ask_list, got_list},
    [STAGE_BLOCK] = {"eth_getBlockByNumber", ask_block, got_block},
    [STAGE_LOGS] = {"eth_getLogs", ask_logs, got_logs},
};

/* The answer came from another endpoint than the one that said which chain it serves: the round begins anew there. */
static int endpoint_switched(struct watch *watch, struct error *err)
{
    if (watch->stage == STAGE_CHAIN_ID || !watch->chain_checked ||
        eth_rpc_good(watch->rpc) == watch->chain_endpoint) {
        return 0;
    }
    if (watch->switches++ >= SWITCHES_MAX) {
        return error_set(err, EAGAIN, "chain.unreachable", HINT,
                         "the chain endpoints answer in turns, none of them for a whole round");
    }
    round_reset(watch);
    watch->chain_checked = false;
    enter(watch, STAGE_HEADER);
    return 1;
}

static void on_answer(yyjson_val *result, const struct error *rpc_err, void *data)
{
    struct watch *watch = data;
    struct error err = {0};

    if (result == NULL) {
        round_failed(watch, rpc_err);
        return;
    }
    int switched = endpoint_switched(watch, &err);
    if (switched != 0) {
        if (switched < 0) {
            round_failed(watch, &err);
        }
        return;
    }
    if (stages[watch->stage].got(watch, result, &err) < 0) {
        round_failed(watch, &err);
    }
}

/* Once in a while an endpoint is asked again which chain it serves. */
static bool chain_id_due(const struct watch *watch)
{
    return !watch->chain_checked ||
           loop_now(watch->loop) - watch->chain_asked_at >= WATCH_RECHECK_US;
}

static void enter(struct watch *watch, enum stage stage)
{
    struct buffer params;
    struct error err = {0};

    bool may_peek = watch->state == WATCH_RUNNING && watch->verified_at != 0 &&
                    loop_now(watch->loop) - watch->verified_at < WATCH_VERIFY_US;

    if (stage == STAGE_PEEK && !may_peek) {
        stage = STAGE_HEADER;
    }
    if (stage == STAGE_HEADER && chain_id_due(watch)) {
        stage = STAGE_CHAIN_ID;
    }
    watch->stage = stage;
    buffer_init(&params, 0);
    stages[stage].ask(watch, &params);
    int ret = params.data == NULL ? -ENOMEM
                                  : eth_rpc_call(watch->rpc, -1, stages[stage].method,
                                                 (const char *)params.data, on_answer, watch, NULL);
    buffer_done(&params);
    if (ret < 0) {
        error_set(&err, -ret, "chain.unreachable", "", "no request could be sent: %s",
                  strerror(-ret));
        round_failed(watch, &err);
    }
}

static void start_round(struct watch *watch)
{
    if (watch->stage != STAGE_IDLE) {
        watch->again = true;
        return;
    }
    loop_timer_stop(watch->retry);
    enter(watch, STAGE_PEEK);
}

static void on_retry(struct loop_timer *timer, void *data)
{
    (void)timer;
    start_round(data);
}

static void on_head(uint64_t number, const uint8_t hash[32], void *data)
{
    struct watch *watch = data;
    watch->head_number = number;
    if (watch->block != 0 && memcmp(hash, watch->block_hash, 32) == 0) {
        return;
    }
    start_round(watch);
}

static void on_reachable(bool reachable, bool subscribed, const struct error *err, void *data)
{
    struct watch *watch = data;
    bool back = reachable && !watch->reachable;

    (void)subscribed;
    watch->reachable = reachable;
    watch->chain_checked = false; /* another connection: maybe to another chain */
    if (!reachable) {
        watch->handlers.on_state(watch->state, err, watch->handlers.data);
    } else if (back) {
        start_round(watch); /* also when no block came meanwhile */
    }
}

int watch_new(struct loop *loop, const struct config *config, const uint8_t identity[20],
              struct ledger *latest, struct ledger *final, uint64_t final_block,
              const struct watch_handlers *handlers, struct watch **ret_watch, struct error *err)
{
    struct eth_rpc_options options = {.urls = config->chain,
                                      .timeout_us = WATCH_REQUEST_US,
                                      .plain_allowed = config->run_mode == RUN_MODE_DEV};
    struct watch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    watch->loop = loop;
    watch->handlers = *handlers;
    watch->chain_id = config->chain_id;
    watch->farm = config->farm;
    memcpy(watch->boot_id, config->boot_id, 16);
    watch->run_mode = (uint8_t)config->run_mode;
    watch->delay_us = WATCH_RETRY_US;
    memcpy(watch->registry, config->registry, 20);
    memcpy(watch->identity, identity, 20);
    int ret = eth_rpc_new(loop, &options, &watch->rpc, err);
    if (ret == 0) {
        ret = loop_timer_add(loop, on_retry, watch, &watch->retry);
    }
    if (ret == 0) {
        ret = eth_heads_new(loop, watch->rpc, on_head, on_reachable, watch, &watch->heads);
    }
    if (ret < 0) {
        error_set(err, -ret, "chain.unreachable", "", "the chain cannot be watched: %s",
                  strerror(-ret));
        watch_free(watch);
        return ret;
    }
    watch->latest = *latest;
    watch->final = *final;
    watch->final_block = final_block;
    *latest = (struct ledger){0};
    *final = (struct ledger){0};
    start_round(watch);
    *ret_watch = watch;
    return 0;
}

void watch_free(struct watch *watch)
{
    if (watch == NULL) {
        return;
    }
    eth_heads_free(watch->heads);
    eth_rpc_free(watch->rpc);
    loop_timer_del(watch->retry);
    ledger_changes_free(watch->walked, watch->walked_count);
    ledger_done(&watch->latest);
    ledger_done(&watch->final);
    free(watch);
}

void watch_status(const struct watch *watch, struct watch_status *ret_status)
{
    *ret_status = (struct watch_status){
        .block = watch->block,
        .final_block = watch->final_block,
        .final_time = watch->final_time,
        .key_epoch = watch->key_epoch,
        .key_since = watch->key_since,
        .nonce = watch->nonce,
        .own_boot = watch->own_boot,
        .requests = eth_rpc_requests(watch->rpc) + eth_heads_requests(watch->heads),
        .reachable = watch->reachable,
    };
    memcpy(ret_status->block_hash, watch->block_hash, 32);
}

bool watch_time(const struct watch *watch, uint64_t *ret_now)
{
    if (watch->chain_time == 0) {
        return false;
    }
    *ret_now = watch->chain_time + (loop_clock() - watch->chain_time_at) / 1000000;
    return true;
}

const struct ledger *watch_latest(const struct watch *watch)
{
    return &watch->latest;
}

const struct ledger *watch_final(const struct watch *watch)
{
    return &watch->final;
}
