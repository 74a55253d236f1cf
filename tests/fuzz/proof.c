// Merkle-Patricia nodes: first the raw follower on cut-up input, then the JSON of eth_getProof.
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/keccak.h"
#include "lib/eth/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(const uint8_t *data, size_t size)
{
    /* byte n: length of the next node; the root is made to fit the first, so that the walk begins */
    struct eth_proof_node nodes[8];
    uint8_t root[32], key[32] = {0};
    const uint8_t *value;
    size_t count = 0, len;
    while (size > 1 && count < 8) {
        size_t take = data[0] < size - 1 ? data[0] : size - 1;
        nodes[count++] = (struct eth_proof_node){data + 1, take};
        data += take + 1;
        size -= take + 1;
    }
    if (count == 0)
        return;
    keccak256(nodes[0].data, nodes[0].len, root);
    if (size > 0)
        key[0] = data[0];
    if (eth_proof_follow(root, key, 32, nodes, count, &value, &len) == 1) {
        volatile uint8_t sum = 0;
        for (size_t i = 0; i < len; i++)
            sum = (uint8_t)(sum + value[i]); /* must lie inside the node */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct eth_account account;
    uint8_t root[32] = {0}, address[20] = {0}, slot[32] = {0}, value[32];
    follow(data, size);
    yyjson_doc *doc = yyjson_read((const char *)data, size, 0);
    if (doc != NULL) {
        (void)eth_proof_account(yyjson_doc_get_root(doc), root, address, &account, NULL);
        (void)eth_proof_slot(yyjson_doc_get_root(doc), root, slot, value, NULL);
        yyjson_doc_free(doc);
    }
    return 0;
}
