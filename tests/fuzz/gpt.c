// Both edges of a disk from a stranger. The input is spread over them: first half head, second half tail.
// sources: core0/storage/gpt.c core0/storage/probe.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { EDGE = 65536 };
    struct probe_result result;
    uint8_t *edges = calloc(2, EDGE);
    if (edges == NULL)
        return 0;
    size_t half = size / 2 < EDGE ? size / 2 : EDGE;
    memcpy(edges, data, half);
    memcpy(edges + 2 * EDGE - half, data + size - half, half);
    probe_edges(edges, edges + EDGE, EDGE, (uint64_t)16 << 20, 512, &result);
    if (result.kind == PROBE_POOL && result.partition.start + result.partition.size > (uint64_t)16
                                                                                          << 20)
        abort();
    free(edges);
    return 0;
}
