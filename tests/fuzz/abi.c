// Answers of contracts: what decodes encodes again, and never costs more memory than it brought.
#include <errno.h>
#include <stdlib.h>

#include "lib/eth/abi.h"
#include "lib/eth/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {
        "(uint64,bytes,string[],bool,address)",
        "((address,uint64,string[]))",
        "(uint8,uint64,uint64,bytes32,bytes32,address,uint64)",
        "(bytes[][2],(int8,bytes3)[],uint256)",
    };
    struct abi_decoded decoded;
    struct buffer out;
    struct error err = {.code = ""};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (abi_decode(types[i], data, size, &decoded) < 0)
            continue;
        buffer_init(&out, 0);
        if (abi_encode(types[i], decoded.values, decoded.count, &out) == -EINVAL)
            abort();
        buffer_done(&out);
        abi_decoded_done(&decoded);
    }
    (void)eth_revert_decode(data, size, &err);
    return 0;
}
