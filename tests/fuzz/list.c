// Any bytes as the data of the logs of a node's list, and as the list that provd kept on its disk.
// sources: core0/provision/ledger.c core0/provision/ledger_json.c
// packages: mbedtls
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/eth/abi.h"
#include "lib/json.h"
#include "provision/ledger.h"

static const struct ledger_scope scope = {.chain_id = 1, .node = 1};

static void as_logs(const uint8_t *data, size_t size)
{
    struct eth_log logs[2];
    struct ledger_change *changes;
    struct error err = {0};
    size_t count, half = size / 2;

    memset(logs, 0, sizeof(logs));
    for (size_t i = 0; i < 2; i++) {
        abi_topic(i == 0
                      ? "Changed(uint64,uint64,uint32,uint8,uint64,uint64,bytes32,bytes32,address,"
                        "uint64)"
                      : "Proposed(uint64,uint64,address,uint32,uint32,bytes32,bytes32,bytes32,"
                        "bytes32,uint64,uint64,uint32,bool,bytes,string[])",
                  logs[i].topics[0]);
        logs[i].topics[1][31] = 1;
        logs[i].topics[2][31] = 1;
        logs[i].topic_count = i == 0 ? 3 : 4;
        logs[i].data = (uint8_t *)(uintptr_t)data + (i == 0 ? 0 : half);
        logs[i].data_len = i == 0 ? half : size - half;
    }
    if (ledger_changes_from_logs(&scope, 0, logs, 2, &changes, &count, &err) < 0) {
        return;
    }
    struct ledger ledger;
    ledger_init(&ledger, &scope);
    for (size_t i = 0; i < count; i++) {
        (void)ledger_apply(&ledger, &changes[i], &err);
    }
    ledger_done(&ledger);
    ledger_changes_free(changes, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct ledger ledger;
    yyjson_doc *doc = json_parse((const char *)data, size, 1 << 20, "fuzz.bad", &err);

    if (doc != NULL && ledger_from_json(yyjson_doc_get_root(doc), &ledger, &err) == 0) {
        ledger_done(&ledger);
    }
    yyjson_doc_free(doc);
    as_logs(data, size);
    return 0;
}
