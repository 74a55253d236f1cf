/*
 * store.h - what provd keeps over a restart and a reboot: the proved lists and farmer, sealed bytes, ranges of user ids, and which
 * reservation a named volume belongs to. Opened specifications are never written.
 *
 * lists.json, farmer.json, replaced.json and slots.json are replaced as a whole (old or new, never half); sealed-<id>-<revision> holds sealed bytes that did
 * not travel in the transaction.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "provision/ledger.h"

#define STORE_UID_BASE 0x20000000u /* docs/contracts.md */
#define STORE_UID_COUNT 65536u
#define STORE_SLOTS_MAX 4096 /* 2^12 ranges end below the ids that nobody gives out (2^30) */
#define STORE_SEALED_MAX ((size_t)1 << 21)
#define STORE_KEY_MAX 255

struct store_slot {
    uint64_t reservation;
    uint32_t slot;
};

struct store_volume {
    char key[STORE_KEY_MAX + 1];
    uint64_t reservation;
    uint64_t keep_ms;
};

/* Whose the farm is, and what that was proved for. */
struct store_farmer {
    uint64_t chain_id;
    uint8_t registry[20];
    uint64_t farm;
    char trust[16];
    uint8_t farmer[20];
};

/* A revision that a reorganisation took back, and whose traces are not removed yet. */
struct store_replaced {
    uint64_t reservation;
    uint32_t revision;
};

struct store {
    char *dir;
    struct store_slot *slots;
    size_t slot_count;
    struct store_volume *volumes;
    size_t volume_count;
};

/* What cannot be read is treated as absent (the chain and the makers know it all but the slots of running containers, which
 * reading from a disk that lost them would give out again: that is provision.bad-state, and only a sweep helps). */
int store_open(const char *dir, struct store *ret_store, struct error *err);
void store_done(struct store *store);

int store_load_lists(const struct store *store, struct ledger *ret_latest, struct ledger *ret_final,
                     uint64_t *ret_final_block, struct error *err);
int store_save_lists(const struct store *store, const struct ledger *latest,
                     const struct ledger *final, uint64_t final_block, struct error *err);

/* provision.bad-state, and nothing is set: it is not there, or not what was written. */
int store_load_farmer(const struct store *store, struct store_farmer *ret_farmer,
                      struct error *err);
int store_save_farmer(const struct store *store, const struct store_farmer *farmer,
                      struct error *err);

int store_load_sealed(const struct store *store, uint64_t id, uint32_t revision, uint8_t **ret_data,
                      size_t *ret_len);
int store_save_sealed(const struct store *store, uint64_t id, uint32_t revision, const void *data,
                      size_t len, struct error *err);
void store_drop_sealed(const struct store *store, uint64_t id, uint32_t revision);

/* Replaces replaced.json as a whole; none: there is no such file. */
int store_save_replaced(const struct store *store, const struct store_replaced *list, size_t count,
                        struct error *err);
/* The list is the caller's (free). No file: none. */
int store_load_replaced(const struct store *store, struct store_replaced **ret_list,
                        size_t *ret_count, struct error *err);

/* First id of the reservation's range; takes a free one when it has none. limit: how many ranges there are, at most
 * STORE_SLOTS_MAX. provision.no-uid-range when all are taken. */
int store_take_uids(struct store *store, uint64_t reservation, uint32_t limit, uint32_t *ret_base,
                    struct error *err);
int store_release_uids(struct store *store, uint64_t reservation);

int store_put_volume(struct store *store, const char *key, uint64_t reservation, uint64_t keep_ms,
                     struct error *err);
const struct store_volume *store_find_volume(const struct store *store, const char *key);
int store_drop_volume(struct store *store, const char *key);
