/*
 * log.h - event logs of eth_getLogs and receipts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"

struct eth_log {
    uint8_t address[20];
    uint8_t topics[4][32];
    size_t topic_count;
    uint8_t *data; /* freed by eth_logs_free */
    size_t data_len;
    uint64_t block_number;
    uint64_t log_index;
    uint8_t block_hash[32];
    uint8_t tx_hash[32];
    bool removed;
};

#define ETH_LOGS_MAX 4096 /* per answer; ask for fewer blocks */
#define ETH_LOG_DATA_MAX 65536

/* The array of eth_getLogs, or "logs" of a receipt. Error code chain.bad-answer. */
int eth_logs_from_json(yyjson_val *array, struct eth_log **ret_logs, size_t *ret_count,
                       struct error *err);
void eth_logs_free(struct eth_log *logs, size_t count);

struct eth_receipt {
    uint8_t tx_hash[32];
    uint8_t block_hash[32];
    uint64_t block_number;
    uint64_t gas_used;
    bool succeeded;
    struct eth_log *logs;
    size_t log_count;
};
int eth_receipt_from_json(yyjson_val *receipt, struct eth_receipt *ret_receipt, struct error *err);
void eth_receipt_done(struct eth_receipt *receipt);
