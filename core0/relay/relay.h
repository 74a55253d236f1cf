/*
 * relay.h - croft-relay: takes signed messages of nodes, pays for their transactions, loses none.
 *
 *   HTTP ─► check: form, signature, farm, limits, simulation ─► journal ─► 202
 *                                                                  │
 *   QUEUED ─► sign ─► journal ─► SIGNED ─► send ─► mined? ─► does the registry have it? ─► SEEN ─► at final depth too? ─► journal ─► gone
 *      ▲                            │ ▲                                        │            │ no more: a reorganisation
 *      │                            │ └──────────────────────────────── send ◄─┼────────────┘
 *      │                            └─ not in time: same account nonce, higher fee, journal, send
 *      └── simulated again: what the contract refuses now is given up ◄────── no: its transaction reverted
 *
 * Invariants: (1) what was answered with 202 is in the journal; (2) a transaction is in the journal before it is sent; (3) an account
 * nonce is given up only when the chain has used it, and what a reorganisation leaves unused is filled before anything else; (4) an
 * entry goes only when the registry has its effect in a block that is final, or when the contract refuses it for good.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/eth/rpc.h"
#include "lib/grid/message.h"
#include "lib/http/server.h"
#include "lib/loop.h"

/* The table of steps at which tests kill the program: --fault NAME, optionally NAME:N for the Nth time. */
enum relay_step {
    STEP_RECEIVED,
    STEP_SIGNED,
    STEP_SENT,
    STEP_REPLACED,
    STEP_MINED,
    STEP_FINAL,
    STEP_COUNT
};

#define RELAY_ENTRIES_MAX 4096
#define RELAY_SIGNERS_MAX                                                                          \
    4096                      /* whose messages are counted; the one that matters least gives way */
#define RELAY_PER_NODE_MAX 32 /* that are not on the chain yet */
#define RELAY_FINALIZED UINT64_MAX
#define RELAY_FARMS_MAX 256

struct entry {
    struct entry *next;
    uint64_t id; /* in the journal */
    struct grid_message message;
    uint8_t digest[32];
    uint8_t identity[20];
    uint64_t nonce; /* of a join: 0 */
    uint64_t gas;   /* estimated, 0: the kind's own limit */
    bool tx;        /* SIGNED: the following count */
    uint64_t account_nonce, max_fee, tip;
    uint8_t hash[32];
    uint8_t *raw;
    size_t raw_len;
    uint64_t sent_at; /* loop time; 0: not in this run */
    bool asking;      /* a question about it is under way */
    bool seen;        /* the registry has its effect, in a block that is not final yet */
    uint64_t looked;  /* relay's `heads` when a SEEN one was asked about last */
    bool doubtful;    /* its transaction had no effect: simulated before the next one */
};

/* What one signer has sent of late. */
struct relay_bucket {
    uint8_t signer[20];
    uint64_t full_at; /* loop time when it may send a whole burst again */
};

struct relay {
    struct loop *loop;
    struct eth_rpc *rpc;
    struct http_server *server;
    struct grid_chain chain;
    uint8_t key[32];
    uint8_t account[20];
    uint64_t farms[RELAY_FARMS_MAX];
    size_t farm_count;
    bool open; /* serves every farm */
    uint64_t replace_after_us;
    uint64_t max_fee_cap; /* wei per gas */
    uint64_t per_node;    /* messages a minute of one signer, after ten minutes' worth at once */
    struct relay_bucket buckets[RELAY_SIGNERS_MAX];
    uint64_t final_depth; /* blocks below the latest, or RELAY_FINALIZED: the chain's own word */

    /* journal.c */
    int journal;
    const char *journal_path;
    uint64_t next_id;

    struct entry *entries; /* by id, rising */
    size_t entry_count;

    /* submit.c */
    struct loop_timer *pump;
    bool pumping;
    bool counted;          /* account_used was read once */
    uint64_t account_used; /* the chain's count of our transactions */
    uint8_t head[32];      /* hash of the latest block */
    uint64_t heads;        /* how often it was another one */
    char final[24];        /* the newest final block, as eth_call wants it; "": none yet */
    uint64_t base_fee, tip;
    uint64_t calm; /* pumps without change: they get slower */

    enum relay_step fault_step;
    unsigned fault_count; /* 0: no fault */
};

/* Dies here if the test wants it so. */
void relay_step(struct relay *relay, enum relay_step step);

/* journal.c */
int journal_open(struct relay *relay, const char *path, struct error *err);
int journal_received(struct relay *relay, const struct entry *entry);
int journal_signed(struct relay *relay, const struct entry *entry);
int journal_done(struct relay *relay, const struct entry *entry);
void entry_free(struct entry *entry);
/* From an estimate, with a margin: what the message does may cost more when it is its turn. */
void entry_set_gas(struct entry *entry, yyjson_val *estimate);
/* Whose node a message is about (the signer, but of a join, which a token signs), and who signed it. -EBADMSG. */
int entry_identity(const struct relay *relay, const struct entry *entry, uint8_t ret_identity[20],
                   uint8_t ret_signer[20]);
void relay_add_entry(struct relay *relay, struct entry *entry);
void relay_remove_entry(struct relay *relay, struct entry *entry);

/* submit.c */
int submit_start(struct relay *relay);
void submit_kick(struct relay *relay);
size_t relay_pending(const struct relay *relay); /* entries that are not on the chain */

/* serve.c */
int serve_start(struct relay *relay, const char *host, uint16_t port, struct error *err);

/* registry.c: what the registry holds about an identity. */
struct registered {
    uint64_t node; /* 0: never registered */
    uint64_t farm;
    uint64_t nonce;
    unsigned state; /* 1 pending, 2 active, 3 retired */
};
/* Whether the registry has what the entry is for. */
bool registered_has(const struct registered *registered, const struct entry *entry);
typedef void registered_fn(const struct registered *registered, const struct error *err,
                           void *data);
int registry_ask(struct relay *relay, const uint8_t identity[20], const char *block,
                 registered_fn *fn, void *data);
/* Estimates what the message's call costs: a quantity, or the contract's refusal; it costs nothing. */
int registry_simulate(struct relay *relay, const struct grid_message *message, eth_rpc_fn *fn,
                      void *data);
