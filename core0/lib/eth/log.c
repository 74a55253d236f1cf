/*
 * log.c - event logs and receipts from JSON.
 */
#include "lib/eth/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/text.h"
#include "lib/eth/rpc.h"

static int bad_answer(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "chain.bad-answer", "use another chain endpoint",
                     "the chain endpoint answered %s", what);
}

static int read_data(yyjson_val *value, struct eth_log *log)
{
    struct buffer data;
    buffer_init(&data, ETH_LOG_DATA_MAX);
    int r = eth_rpc_bytes_buffer(value, &data);
    if (r >= 0)
        log->data = buffer_steal(&data, &log->data_len);
    buffer_done(&data);
    return r;
}

static int read_log(yyjson_val *value, struct eth_log *log)
{
    yyjson_val *topics = yyjson_obj_get(value, "topics");
    size_t index, max;
    yyjson_val *topic;
    if (eth_rpc_bytes(yyjson_obj_get(value, "address"), log->address, 20) < 0 ||
        eth_rpc_bytes(yyjson_obj_get(value, "blockHash"), log->block_hash, 32) < 0 ||
        eth_rpc_bytes(yyjson_obj_get(value, "transactionHash"), log->tx_hash, 32) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(value, "blockNumber"), &log->block_number) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(value, "logIndex"), &log->log_index) < 0 ||
        !yyjson_is_arr(topics) || yyjson_arr_size(topics) > 4)
        return -EBADMSG;
    yyjson_arr_foreach(topics, index, max, topic)
    {
        if (eth_rpc_bytes(topic, log->topics[index], 32) < 0)
            return -EBADMSG;
    }
    log->topic_count = yyjson_arr_size(topics);
    log->removed = yyjson_get_bool(yyjson_obj_get(value, "removed"));
    return read_data(yyjson_obj_get(value, "data"), log);
}

int eth_logs_from_json(yyjson_val *array, struct eth_log **ret_logs, size_t *ret_count,
                       struct error *err)
{
    if (!yyjson_is_arr(array))
        return bad_answer(err, "something else than a list of logs");
    size_t count = yyjson_arr_size(array), index, max;
    if (count > ETH_LOGS_MAX)
        return bad_answer(err, "more logs than 4,096 at once");
    struct eth_log *logs = calloc(count + 1, sizeof(*logs));
    if (logs == NULL)
        return error_set(err, ENOMEM, "chain.no-memory", "", "no memory for %zu logs", count);
    yyjson_val *value;
    yyjson_arr_foreach(array, index, max, value)
    {
        if (read_log(value, &logs[index]) < 0) {
            eth_logs_free(logs, count);
            return bad_answer(err, "a malformed log");
        }
    }
    *ret_logs = logs;
    *ret_count = count;
    return 0;
}

void eth_logs_free(struct eth_log *logs, size_t count)
{
    for (size_t i = 0; logs != NULL && i < count; i++)
        free(logs[i].data);
    free(logs);
}

int eth_receipt_from_json(yyjson_val *value, struct eth_receipt *ret_receipt, struct error *err)
{
    struct eth_receipt receipt = {.succeeded = false};
    uint64_t status;
    if (eth_rpc_bytes(yyjson_obj_get(value, "transactionHash"), receipt.tx_hash, 32) < 0 ||
        eth_rpc_bytes(yyjson_obj_get(value, "blockHash"), receipt.block_hash, 32) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(value, "blockNumber"), &receipt.block_number) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(value, "gasUsed"), &receipt.gas_used) < 0 ||
        eth_rpc_quantity(yyjson_obj_get(value, "status"), &status) < 0)
        return bad_answer(err, "a malformed receipt");
    receipt.succeeded = status == 1;
    int r =
        eth_logs_from_json(yyjson_obj_get(value, "logs"), &receipt.logs, &receipt.log_count, err);
    if (r < 0)
        return r;
    *ret_receipt = receipt;
    return 0;
}

void eth_receipt_done(struct eth_receipt *receipt)
{
    if (receipt != NULL) {
        eth_logs_free(receipt->logs, receipt->log_count);
        receipt->logs = NULL;
        receipt->log_count = 0;
    }
}
