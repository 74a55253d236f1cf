/*
 * probe.c - what lies on a disk: see probe.h.
 *
 * The table of signatures only gives a thing its name. Whether a disk is empty never depends on it: an edge that holds
 * anything but zeros is not empty.
 */
#include "probe.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct signature {
    const char *name;
    size_t offset;
    const char *bytes;
    size_t len;
} signatures[] = {
    {"LUKS volume", 0, "LUKS\xba\xbe", 6},
    {"XFS file system", 0, "XFSB", 4},
    {"squashfs file system", 0, "hsqs", 4},
    {"bitlocker volume", 3, "-FVE-FS-", 8},
    {"NTFS file system", 3, "NTFS    ", 8},
    {"exFAT file system", 3, "EXFAT   ", 8},
    {"FAT file system", 82, "FAT32", 5},
    {"FAT file system", 54, "FAT1", 4},
    {"LVM physical volume", 512, "LABELONE", 8},
    {"LVM physical volume", 0, "LABELONE", 8},
    {"EROFS file system", 1024, "\xe2\xe1\xf5\xe0", 4},
    {"ext2/3/4 file system", 1080, "\x53\xef", 2},
    {"F2FS file system", 1024, "\x10\x20\xf5\xf2", 4},
    {"Linux software RAID", 0, "\xfc\x4e\x2b\xa9", 4},
    {"Linux software RAID", 4096, "\xfc\x4e\x2b\xa9", 4},
    {"swap space", 4086, "SWAPSPACE2", 10},
    {"bcache device", 4120, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca", 8},
    {"ISO 9660 medium", 32769, "CD001", 5},
    {"btrfs file system", 65600, "_BHRfS_M", 8},
    {"ReiserFS file system", 65588, "ReIsEr", 6},
    {"partition table (GPT)", 512, "EFI PART", 8},
    {"partition table (GPT)", 4096, "EFI PART", 8},
    {"partition table (MBR)", 510, "\x55\xaa", 2},
};

/* The volume id of an ISO 9660 medium: ours begins with CROFT (board/ writes it). */
#define ISO_VOLUME_ID 32808

const char *probe_name(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        const struct signature *s = &signatures[i];
        if (s->offset + s->len <= len && memcmp(data + s->offset, s->bytes, s->len) == 0)
            return s->name;
    }
    return NULL;
}

/* Offset of the first byte that is not zero, len if there is none. */
static size_t first_byte(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != 0)
            return i;
    return len;
}

void probe_edges(const uint8_t *head, const uint8_t *tail, size_t edge, uint64_t disk_size,
                 uint32_t sector, struct probe_result *ret_result)
{
    struct probe_result result = {.kind = PROBE_FOREIGN};
    bool repair;
    if (gpt_find(head, tail, edge, disk_size, sector, &result.partition, &repair) == 1) {
        result.kind = PROBE_POOL;
        snprintf(result.what, sizeof(result.what),
                 repair ? "pool, one partition table damaged" : "pool");
        *ret_result = result;
        return;
    }
    if (edge >= ISO_VOLUME_ID + 5 && memcmp(head + 32769, "CD001", 5) == 0 &&
        memcmp(head + ISO_VOLUME_ID, "CROFT", 5) == 0) {
        result.kind = PROBE_MEDIUM;
        snprintf(result.what, sizeof(result.what), "boot medium of Croft");
        *ret_result = result;
        return;
    }
    const char *name = probe_name(head, edge);
    size_t at_head = first_byte(head, edge);
    size_t at_tail = first_byte(tail, edge);
    if (name != NULL)
        snprintf(result.what, sizeof(result.what), "%s", name);
    else if (at_head < edge)
        snprintf(result.what, sizeof(result.what), "unknown data at byte %zu", at_head);
    else if (at_tail < edge)
        snprintf(result.what, sizeof(result.what), "data %zu bytes before the end", edge - at_tail);
    else
        result.kind = PROBE_EMPTY;
    *ret_result = result;
}
