/*
 * gpt.h - GUID partition tables (UEFI specification 2.10, chapter 5): finding our partition and writing a table.
 *
 * Pure functions over the first and the last bytes of a disk, so that they can be fuzzed. Integers on the disk are
 * little-endian; a GUID is kept as its 16 bytes on the disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GPT_EDGE ((size_t)1 << 20) /* how much of either end of a disk is looked at and written */
#define GPT_GUID_SIZE 16
#define GPT_ENTRIES 128
#define GPT_GUID_TEXT 37

/* The type of a Croft pool: e0adbe27-aff4-4f94-9b1a-39ef952c51eb. */
extern const uint8_t gpt_type_pool[GPT_GUID_SIZE];

struct gpt_partition {
    unsigned number; /* from 1, as the kernel names it */
    uint64_t start;  /* bytes */
    uint64_t size;   /* bytes */
    uint8_t guid[GPT_GUID_SIZE];
};

/* Text form: mixed-endian as everybody prints it. ret_text has room for GPT_GUID_TEXT. */
void gpt_guid_format(const uint8_t guid[GPT_GUID_SIZE], char *ret_text);
/* 0 or -EINVAL. */
int gpt_guid_parse(const char *text, uint8_t ret_guid[GPT_GUID_SIZE]);

/*
 * Looks for the first partition of our type in the primary table (in `head`, the disk's first `edge` bytes) or else in
 * the backup table (in `tail`, its last `edge` bytes). Only tables whose checksums and bounds are right count.
 * 1: found; *ret_repair is true when either table is not a good one. 0: none. -EINVAL: impossible sizes.
 */
int gpt_find(const uint8_t *head, const uint8_t *tail, size_t edge, uint64_t disk_size,
             uint32_t sector, struct gpt_partition *ret_partition, bool *ret_repair);
/* Is there a partition with this unique GUID? For finding the medium that the machine booted from. */
bool gpt_has_partition(const uint8_t *head, size_t edge, uint64_t disk_size, uint32_t sector,
                       const uint8_t guid[GPT_GUID_SIZE]);
/*
 * Fills head and tail (zeroed by this function) with a table of one partition of our type over all of the disk, aligned
 * to 1 MiB. 0, or -ENOSPC: the disk is smaller than 16 MiB, -EINVAL: sector is no power of two within 512..4096.
 */
int gpt_build(uint8_t *head, uint8_t *tail, size_t edge, uint64_t disk_size, uint32_t sector,
              const uint8_t disk_guid[GPT_GUID_SIZE], const uint8_t guid[GPT_GUID_SIZE],
              struct gpt_partition *ret_partition);
