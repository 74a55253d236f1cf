// What a chain endpoint answers: blocks, logs, receipts, quantities.
#include <stdlib.h>
#include <string.h>

#include "lib/eth/header.h"
#include "lib/eth/log.h"
#include "lib/eth/rpc.h"
#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct eth_header header;
    struct eth_log *logs;
    struct eth_receipt receipt;
    size_t count;
    uint64_t number;
    yyjson_doc *doc = json_parse((const char *)data, size, 1 << 20, "chain.bad-answer", NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *result = yyjson_obj_get(root, "result");
    if (result == NULL)
        result = root;
    if (eth_header_from_json(result, &header, NULL) == 0 && header.hash[0] == header.parent[0] &&
        memcmp(header.hash, header.parent, 32) == 0)
        abort();
    if (eth_logs_from_json(result, &logs, &count, NULL) == 0)
        eth_logs_free(logs, count);
    if (eth_receipt_from_json(result, &receipt, NULL) == 0)
        eth_receipt_done(&receipt);
    (void)eth_rpc_quantity(result, &number);
    yyjson_doc_free(doc);
    return 0;
}
