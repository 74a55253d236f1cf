/*
 * pool_plan.c - how a pool's bytes are shared out: to volumes, to ourselves, to btrfs.
 */
#include "storage.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/*
 * No over-commit: limits of volumes plus our own share plus btrfs's own needs fit on the device. btrfs keeps metadata
 * (twice on a disk): a sixteenth and at least 32 MiB is what small files cost in the worst mixes seen. Our own share
 * holds images, logs and state: a tenth, at least 96 MiB, at most 64 GiB.
 */
void pool_plan(uint64_t size, uint64_t *ret_usable, uint64_t *ret_own)
{
    uint64_t metadata = size / 16 > 32 * MIB ? size / 16 : 32 * MIB;
    uint64_t own = size / 10;
    if (own < 96 * MIB)
        own = 96 * MIB;
    if (own > 64 * GIB)
        own = 64 * GIB;
    /* A pool below 1 GiB lends half of what is left, so that at least small images fit; a tiny one lends nothing. */
    if (size < GIB)
        own = size > metadata ? (size - metadata) / 2 : size / 2;
    *ret_own = own;
    *ret_usable = size > metadata + own ? (size - metadata - own) / MIB * MIB : 0;
}
