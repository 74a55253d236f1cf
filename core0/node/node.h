/*
 * node.h - the state of noded, shared by its files.
 *
 *   boot.json, pools ──► identity ──► chain (what the registry says) ──► decide what to say ──► queue ──► deliver (relay)
 *                                       ▲                                                                  │
 *                                       └────────────────────── looks again ◄──────────────────────────────┘
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "boot.h"
#include "identity.h"
#include "lib/daemon.h"
#include "lib/eth/rpc.h"
#include "lib/grid/message.h"
#include "lib/http/client.h"
#include "lib/varlink.h"
#include "queue.h"

/* What the registry holds about us. */
struct record {
    uint64_t id; /* 0: not registered */
    uint64_t farm;
    unsigned state; /* 1 pending, 2 active, 3 retired */
    unsigned run_mode;
    uint64_t nonce;       /* the last one used */
    uint64_t final_nonce; /* likewise, at the newest final block; 0: not known */
    uint64_t last_report;
    uint32_t key_epoch;
    uint8_t boot_id[32];
    uint8_t capacity[32];
    uint8_t sealing_key[32];
    uint8_t tls_key_hash[32];
    uint8_t image_digest[32];
    size_t host_count;
    char hosts[GRID_ADDRESSES_MAX][GRID_HOST_MAX + 1];
};

enum node_state {
    NODE_STARTING,
    NODE_UNREGISTERED,
    NODE_WAITING,
    NODE_PENDING,
    NODE_ACTIVE,
    NODE_RETIRED,
    NODE_STOPPED
};

/* There is one: its fields go by topic, not by size. */
struct node { // NOLINT(clang-analyzer-optin.performance.Padding)
    struct loop *loop;
    struct daemon *daemon;
    const char *pools;
    const char *state_dir;
    struct boot boot;
    struct identity identity;
    bool has_identity;

    enum node_state state;
    char detail[320];
    struct error error; /* shown; code empty: none */

    /* what we are */
    uint8_t capacity[32]; /* packed resources */
    bool has_capacity;    /* storaged answered once */
    bool ephemeral;
    uint8_t image_digest[32];
    size_t host_count;
    char hosts[GRID_ADDRESSES_MAX][GRID_HOST_MAX + 1];
    struct varlink_client *storaged;
    struct varlink_client *netd;

    /* chain.c */
    struct eth_rpc *rpc;
    struct grid_chain chain;
    bool chain_checked;       /* id, Reservations and interval are known */
    uint64_t report_interval; /* seconds */
    struct record record;
    bool has_record;       /* the registry was read once */
    uint64_t report_known; /* the last report's time, as the chain has it … */
    uint64_t
        report_known_at; /* … and when it was seen first, in loop time: the clock may be wrong by years */
    struct loop_timer *tick;
    uint64_t backoff;
    bool looking; /* a read is under way */
    unsigned
        unknown_looks; /* in a row that found no record, and no registration of ours on its way */

    struct queue queue;
    struct queue_item join;   /* a token's word that a Pending node may be Active; needs no nonce */
    bool joining;             /* it is wanted */
    uint64_t join_refused_at; /* loop time; 0: never */
    bool announced;           /* event `registered` was sent */

    /* deliver.c */
    struct http_client *http;
    struct loop_timer *retry;
    bool delivering;
    uint64_t delivering_nonce;
    size_t relay; /* index of the relay that answered last */
    uint64_t retry_backoff;
};

void node_set_state(struct node *node, enum node_state state, const char *detail);
const char *node_state_name(enum node_state state);
void node_set_error(struct node *node, const struct error *err); /* NULL: cleared */

/* capacity.c: asks storaged and netd; node_known is called when something was learned. */
int capacity_start(struct node *node);
void capacity_look(struct node *node);
void capacity_changed(struct node *node); /* implemented by chain.c */

/* chain.c */
int chain_start(struct node *node, struct error *err);
void chain_look_in(struct node *node,
                   uint64_t us); /* looks at the registry again, at latest after this */
/* A new sealing key now; its epoch, or node.busy while one is on its way. */
int chain_rotate_key(struct node *node, uint32_t *ret_epoch, struct error *err);
/* say.c: make, sign and enqueue */
/* The digest, the signature, the queue, the disk. round: of a result (Submit), else 0. */
int say_enqueue(struct node *node, struct grid_message *message, uint32_t round,
                uint64_t *ret_nonce, struct error *err);
void say_registration(struct node *node);
void say_report(struct node *node);
void say_profile(struct node *node);
void say_key_epoch(struct node *node);
void say_join_if_pending(struct node *node);
/* What became of the join that was delivered; NULL: taken. */
void say_join_done(struct node *node, const struct error *err);

/* deliver.c */
int deliver_start(struct node *node);
void deliver_kick(struct node *node); /* something is in the queue */
void deliver_done(struct node *node,
                  const struct error *err); /* the message under way was taken (NULL) or not */

/* deliver_self.c: pays for it from the node's own address; ends in deliver_done. */
int deliver_self(struct node *node, const struct queue_item *item);

/* service.c */
extern const struct varlink_interface node_interface;
