/*
 * watch.h - follows the chain for one node: learns of a head, proves what it says, reads the list back.
 *
 *   head ──► PEEK ──► HEADER ──► LINK ──► NODE ──► LIST ──► BLOCK ──► LOGS… ──► fold ──► on_list
 *            is there  block     registry  the       sequence  its       one block
 *            anything  fields    slots     node's    and head  header    at a time,
 *            new?      rehashed  proved    record,   proved    rehashed  backwards
 *                                          farmer
 *
 * PEEK is one request whose answer is not believed, only compared: when it shows what is known, the round ends. It saves most
 * requests of a quiet chain; at least every WATCH_VERIFY_US a round goes the whole way.
 *
 * LINK and NODE are left out once the node is known to be Active, and done again every WATCH_RECHECK_US. A head that comes
 * while a round is under way starts another one behind it. Which chain the endpoint serves is asked first, and again after every
 * failure, after a change of endpoints and every WATCH_RECHECK_US. Nothing is believed that a proof does not cover; which header
 * to believe is `croft.trust`'s matter (here: rpc).
 */
#pragma once

#include "lib/error.h"
#include "lib/eth/rpc.h"
#include "lib/loop.h"
#include "provision/config.h"
#include "provision/ledger.h"

#define WATCH_FINAL_DEPTH 2 /* blocks below latest, with croft.trust=rpc (interfaces.md) */
/* A request without an answer: with the subscription's ping and pong (lib/eth/heads.c) an endpoint that swallows packets is
 * left for the next one within 15 s. */
#define WATCH_REQUEST_US ((uint64_t)6 * 1000 * 1000)
#define WATCH_RETRY_US ((uint64_t)2 * 1000 * 1000) /* after a failed round, doubling */
#define WATCH_RETRY_MAX_US ((uint64_t)15 * 1000 * 1000)
#define WATCH_VERIFY_US ((uint64_t)20 * 1000 * 1000)
#define WATCH_RECHECK_US ((uint64_t)60 * 1000 * 1000)

enum watch_state {
    WATCH_WAITING, /* no head yet */
    WATCH_UNREGISTERED,
    WATCH_PENDING,
    WATCH_RUNNING,
    WATCH_RETIRED,
    WATCH_STATES
};

struct watch;

struct watch_handlers {
    /* A list was proved; it differs from the one before, or more of it is final. Both are valid until the next call. */
    void (*on_list)(const struct ledger *latest, const struct ledger *final, uint64_t block,
                    void *data);
    /* Whose the node's farm is was proved, in a round that reached NODE: also of a node that is Pending or Retired. */
    void (*on_farmer)(const uint8_t farmer[20], void *data);
    /* err NULL: the last round succeeded. */
    void (*on_state)(enum watch_state state, const struct error *err, void *data);
    void *data;
};

/* Both lists (taken over, may be empty with scope.node 0) are what is known from before; final_block is the block they were final at. */
int watch_new(struct loop *loop, const struct config *config, const uint8_t identity[20],
              struct ledger *latest, struct ledger *final, uint64_t final_block,
              const struct watch_handlers *handlers, struct watch **ret_watch, struct error *err);
void watch_free(struct watch *watch);

struct watch_status {
    uint64_t block; /* 0: none proved yet */
    uint8_t block_hash[32];
    uint64_t final_block;
    uint64_t final_time; /* Unix seconds: the time of a block that is final; 0: none is known */
    uint32_t key_epoch;  /* of the node's current sealing key, proved; 0: not yet */
    uint64_t key_since;  /* Unix seconds: when the chain took it */
    uint64_t nonce;      /* the last one of the node's messages, proved */
    bool own_boot;       /* that message was of this boot */
    uint64_t requests;
    bool reachable;
};
void watch_status(const struct watch *watch, struct watch_status *ret_status);
/* What time it is by the newest block that was proved, in Unix seconds. false: none was yet. */
bool watch_time(const struct watch *watch, uint64_t *ret_now);
/* Does a time server keep this machine's clock? Else it may be wrong by years. */
bool watch_clock_is_kept(void);
/* The lists as they stand. */
const struct ledger *watch_latest(const struct watch *watch);
const struct ledger *watch_final(const struct watch *watch);
