/*
 * queue.h - messages that were signed and are not yet final on the chain, kept on disk.
 *
 * Invariants: (1) a message is on disk before anybody hears of it; (2) nonces rise by one; (3) a message leaves only when the
 * registry's nonce has reached its own in a final block, so that none is lost; above that block it is *seen*, and when a reorganisation
 * takes it back it waits again, with the same nonce: two messages with one nonce never exist after the first is accepted; (4) messages of an earlier boot stay, and
 * go first, because a relay may still hold them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/grid/message.h"

#define QUEUE_MAX 64
#define QUEUE_DONE_MAX                                                                             \
    64 /* results that are remembered, so that provd's repetition is not signed twice */

struct queue_result {
    uint64_t nonce, reservation;
    uint32_t revision;
    unsigned state;
    uint32_t round;
};

struct queue_item {
    struct grid_message message;
    uint64_t nonce;
    uint64_t delivered_at; /* loop time; 0: no relay has it */
    unsigned attempts;     /* how often it was delivered */
    uint32_t round;        /* of a result: how often its revision was funded again; not signed */
    bool seen;             /* the registry has it, in a block that is not final */
};

struct queue {
    const char *path;
    struct queue_item items[QUEUE_MAX];
    size_t count;
    struct queue_result done[QUEUE_DONE_MAX]; /* the newest last */
    size_t done_count;
    uint8_t boot_id[32];
    uint64_t chain_id;
    uint8_t registry[20];
    bool accepted;    /* the registry has taken a message of this boot */
    uint64_t reached; /* the highest nonce that it had with this boot's id */
    bool reported;    /* a report of this boot is among them: version and uptime are known there */
};

/* Reads the file (absent: empty). Of another boot: accepted is false; of another chain or registry: everything
 * is dropped. A registration always is, and is made anew. An unreadable one is an error: node.queue-damaged. */
int queue_open(struct queue *queue, const char *path, const uint8_t boot_id[32], uint64_t chain_id,
               const uint8_t registry[20], struct error *err);
/* Adds and writes. -ENOSPC: queue.full. */
int queue_add(struct queue *queue, const struct grid_message *message, uint32_t round,
              struct error *err);
/* Marks what the registry has at the latest block as seen, and what it has no more as waiting; removes what it has at the final one.
 * Messages of this boot whose nonce another message used are returned for signing anew: they stay in the queue with nonce 0. */
int queue_settle(struct queue *queue, uint64_t chain_nonce, uint64_t final_nonce,
                 const uint8_t chain_boot_id[32], struct error *err);
/* Whether the registry's last message is of this boot, or a reorganisation took one of this boot back; else another machine has our
 * identity. Always true before a message of this boot was accepted. */
bool queue_is_ours(const struct queue *queue, uint64_t chain_nonce,
                   const uint8_t chain_boot_id[32]);
/* Forgets all messages: the registry does not know the node that they are of. */
int queue_clear(struct queue *queue, struct error *err);
int queue_write(const struct queue *queue, struct error *err);
/* The highest nonce in it, 0 if empty. */
uint64_t queue_last_nonce(const struct queue *queue);
size_t queue_waiting(const struct queue *queue);                /* how many are not seen */
struct queue_item *queue_first(struct queue *queue);            /* of these; NULL: none */
bool queue_has(const struct queue *queue, enum grid_kind kind); /* among these */
/* Nonce of this result if it is queued or done; 0: neither. */
uint64_t queue_find_result(const struct queue *queue, uint64_t reservation, uint32_t revision,
                           unsigned state, uint32_t round);
