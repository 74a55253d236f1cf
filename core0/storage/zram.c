/*
 * zram.c - a pool in memory, for a machine without a disk.
 *
 * The device's size is what is bounded: with mem_limit reached, zram answers I/O errors and sync still returns 0. Images
 * hardly compress, so every byte of the device is counted as a byte of memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "storage.h"

#define MIB ((uint64_t)1 << 20)
#define ZRAM_MIN (192 * MIB) /* btrfs with room for a small image */
#define ZRAM_MAX (8192 * MIB)

static int memory_total(uint64_t *ret_bytes)
{
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read("/proc/meminfo", 65536, &text, &len);
    if (r < 0)
        return r;
    const char *at = strstr(text, "MemTotal:");
    if (at == NULL)
        return -EINVAL;
    *ret_bytes = strtoull(at + strlen("MemTotal:"), NULL, 10) * 1024;
    return 0;
}

static int device_size(uint64_t *ret_size)
{
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read("/sys/block/zram0/disksize", 64, &text, &len);
    if (r == 0)
        *ret_size = strtoull(text, NULL, 10);
    return r;
}

int zram_pool(struct storage *storage, struct error *err)
{
    struct disk disk = {.name = "zram0", .sector = 4096};
    int r = device_size(&disk.size);
    if (r == 0 && disk.size == 0) {
        char number[32];
        r = memory_total(&disk.size);
        disk.size = disk.size / 4 / MIB * MIB;
        if (disk.size < ZRAM_MIN)
            disk.size = ZRAM_MIN;
        if (disk.size > ZRAM_MAX)
            disk.size = ZRAM_MAX;
        snprintf(number, sizeof(number), "%llu", (unsigned long long)disk.size);
        if (r == 0)
            r = file_write_text("/sys/block/zram0/disksize", number);
    }
    if (r < 0)
        return error_set(err, -r, "storage.no-pool", "add a disk",
                         "no disk, and no memory device either: %s", strerror(-r));
    struct claim claim;
    r = claim_make_pool("zram0", "discard", true, &claim);
    if (r < 0)
        return error_set(err, -r, "storage.no-pool", "add a disk",
                         "the pool in memory cannot be made: %s", claim.detail);
    return pool_add(storage, &claim, &disk, true, err);
}
