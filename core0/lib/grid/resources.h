/*
 * resources.h - cores, memory, disk and addresses in one word, as contracts keep them (docs/formats.md, section 1).
 */
#pragma once

#include <stdint.h>

struct grid_resources {
    uint64_t milli_cores;      /* 1/1000 of a hardware thread; at most UINT32_MAX */
    uint64_t memory, ssd, hdd; /* bytes */
    uint64_t addresses;        /* public IP addresses; at most UINT32_MAX */
};

void grid_resources_unpack(const uint8_t packed[32], struct grid_resources *ret_resources);
/* What does not fit its field loses its upper bits: callers hold cores and addresses to their limits. */
void grid_resources_pack(const struct grid_resources *resources, uint8_t ret_packed[32]);
