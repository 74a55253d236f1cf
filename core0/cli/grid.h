/*
 * grid.h - the chain as a verb sees it: endpoints, contracts, the caller's key; calls and their answers.
 */
#pragma once

#include <yyjson.h>

#include "cli/verbs.h"
#include "lib/eth/abi.h"
#include "lib/eth/rpc.h"
#include "lib/eth/send.h"
#include "lib/grid/resources.h"

struct grid {
    struct loop *loop;
    struct eth_rpc *rpc;
    uint64_t chain_id;
    uint8_t registry[20];
    uint8_t reservations[20];
    bool has_key;
    uint8_t key[32];
    uint8_t account[20]; /* the key's address */
    char *key_file;
    bool pinned; /* everything is read of this block */
    uint64_t block;
};

#define GRID_KEY 1u /* the verb signs: a key is needed (the password of a keystore is asked for) */
#define GRID_KEY_IF_ANY 2u /* take the key when one is set and needs no password; has_key tells */

#define GRID_SNAPSHOT                                                                              \
    4u /* all that is read is of one block, the newest now: what belongs together fits together */

/* Reads the settings, checks the chain's id and finds the Reservations contract. */
int grid_open(const struct cli *cli, unsigned flags, struct grid *ret_grid, struct error *err);
void grid_close(struct grid *grid); /* wipes the key */

/* A view of the registry or of Reservations; as eth_rpc_view, of the newest block or of the snapshot's. */
int grid_view(const struct grid *grid, const uint8_t contract[20], const char *signature,
              const struct abi_value *values, size_t count, const char *result_types,
              struct abi_decoded *ret_decoded, struct error *err);
/* Sends a call, waits until it is mined. ret_receipt may be NULL. */
int grid_send(const struct grid *grid, const uint8_t contract[20], const char *signature,
              const struct abi_value *values, size_t count, struct eth_receipt *ret_receipt,
              struct error *err);
/* The first log of the receipt with this event; NULL: none. */
const struct eth_log *grid_find_log(const struct eth_receipt *receipt, const char *event);
uint64_t grid_topic_uint(const struct eth_log *log, size_t topic);

/* The newest log of an event whose first topic is `key`: 1 and *ret_log (grid_log_done), 0: none. Blocks are asked for in
 * windows from the newest backwards, as endpoints limit a query's range. */
int grid_last_log(const struct grid *grid, const uint8_t contract[20], const char *event,
                  uint64_t key, struct eth_log *ret_log, struct error *err);
void grid_log_done(struct eth_log *log);
/* Logs of one block (or a range) of a contract with two topics to match; key_topic 1 or 2. eth_logs_free. */
int grid_logs(const struct grid *grid, const uint8_t contract[20], const char *event,
              size_t key_topic, uint64_t key, uint64_t from, uint64_t to, struct eth_log **ret_logs,
              size_t *ret_count, struct error *err);
/* The newest block, or the snapshot's. */
int grid_block_number(const struct grid *grid, uint64_t *ret_number, struct error *err);

/* Resources packed as docs/formats.md has them, as an object. */
void grid_resources_json(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                         const uint8_t packed[32]);

/* Small helpers for results. */
yyjson_mut_doc *grid_json(yyjson_mut_val **ret_root); /* {} */
void grid_json_address(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                       const uint8_t address[20]);
void grid_json_hex(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, const void *data,
                   size_t len);
uint64_t grid_uint(const struct abi_value *value); /* 0 where it does not fit */
