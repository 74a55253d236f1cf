/*
 * gpt.c - GUID partition tables: see gpt.h.
 */
#include "gpt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEADER_SIZE 92
#define ENTRY_SIZE 128
#define ENTRIES_BYTES ((size_t)GPT_ENTRIES * ENTRY_SIZE)
#define ALIGN ((uint64_t)1 << 20)
#define DISK_MIN ((uint64_t)16 << 20)

/* Offsets in the header (UEFI 2.10, table 5.5). */
enum {
    H_REVISION = 8,
    H_SIZE = 12,
    H_CRC = 16,
    H_MY_LBA = 24,
    H_OTHER_LBA = 32,
    H_FIRST = 40,
    H_LAST = 48,
    H_GUID = 56,
    H_ENTRIES_LBA = 72,
    H_ENTRIES = 80,
    H_ENTRY_SIZE = 84,
    H_ENTRIES_CRC = 88,
};

const uint8_t gpt_type_pool[GPT_GUID_SIZE] = {0x27, 0xbe, 0xad, 0xe0, 0xf4, 0xaf, 0x94, 0x4f,
                                              0x9b, 0x1a, 0x39, 0xef, 0x95, 0x2c, 0x51, 0xeb};

static void put_le(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static uint32_t crc32_of(const uint8_t *data, size_t len)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* Order of the 16 bytes in the text form: the first three fields are little-endian. */
static const uint8_t text_order[GPT_GUID_SIZE] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                  8, 9, 10, 11, 12, 13, 14, 15};

void gpt_guid_format(const uint8_t guid[GPT_GUID_SIZE], char *ret_text)
{
    char *at = ret_text;
    for (size_t i = 0; i < GPT_GUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        at += snprintf(at, 3, "%02x", guid[text_order[i]]);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int gpt_guid_parse(const char *text, uint8_t ret_guid[GPT_GUID_SIZE])
{
    uint8_t guid[GPT_GUID_SIZE];
    for (size_t i = 0; i < GPT_GUID_SIZE; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return -EINVAL;
        int high = hex_value(text[0]);
        int low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0)
            return -EINVAL;
        guid[text_order[i]] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    memcpy(ret_guid, guid, sizeof(guid));
    return 0;
}

struct table {
    const uint8_t *entries;
    size_t count;
};

/*
 * Checks the header at `lba` and the entries it names; both must lie in `edge`, whose first byte is byte `base` of the
 * disk. 0 or -EINVAL.
 */
static int table_read(const uint8_t *edge, size_t edge_len, uint64_t base, uint64_t lba,
                      uint64_t disk_size, uint32_t sector, struct table *ret_table)
{
    uint64_t sectors = disk_size / sector;
    uint64_t at = lba * sector;
    if (lba >= sectors || at < base || at - base > edge_len - sector)
        return -EINVAL;
    const uint8_t *header = edge + (at - base);
    if (memcmp(header, "EFI PART", 8) != 0 || get_le(header + H_SIZE, 4) != HEADER_SIZE)
        return -EINVAL;
    uint8_t copy[HEADER_SIZE];
    memcpy(copy, header, sizeof(copy));
    put_le(copy + H_CRC, 0, 4);
    if (get_le(header + H_CRC, 4) != crc32_of(copy, sizeof(copy)) ||
        get_le(header + H_MY_LBA, 8) != lba)
        return -EINVAL;
    uint64_t count = get_le(header + H_ENTRIES, 4);
    uint64_t entries_lba = get_le(header + H_ENTRIES_LBA, 8);
    if (get_le(header + H_ENTRY_SIZE, 4) != ENTRY_SIZE || count == 0 || count > GPT_ENTRIES ||
        entries_lba >= sectors)
        return -EINVAL;
    uint64_t bytes = count * ENTRY_SIZE;
    at = entries_lba * sector;
    if (at < base || at - base > edge_len || edge_len - (at - base) < bytes)
        return -EINVAL;
    if (get_le(header + H_ENTRIES_CRC, 4) != crc32_of(edge + (at - base), (size_t)bytes))
        return -EINVAL;
    ret_table->entries = edge + (at - base);
    ret_table->count = (size_t)count;
    return 0;
}

static bool table_find(const struct table *table, uint64_t disk_size, uint32_t sector,
                       struct gpt_partition *ret_partition)
{
    uint64_t sectors = disk_size / sector;
    for (size_t i = 0; i < table->count; i++) {
        const uint8_t *entry = table->entries + i * ENTRY_SIZE;
        if (memcmp(entry, gpt_type_pool, GPT_GUID_SIZE) != 0)
            continue;
        uint64_t first = get_le(entry + 32, 8);
        uint64_t last = get_le(entry + 40, 8);
        if (first < 2 || last < first || last >= sectors)
            continue;
        ret_partition->number = (unsigned)i + 1;
        ret_partition->start = first * sector;
        ret_partition->size = (last - first + 1) * sector;
        memcpy(ret_partition->guid, entry + 16, GPT_GUID_SIZE);
        return true;
    }
    return false;
}

static bool sizes_ok(size_t edge, uint64_t disk_size, uint32_t sector)
{
    return sector >= 512 && sector <= 4096 && (sector & (sector - 1)) == 0 &&
           edge >= (size_t)16 * sector && edge % sector == 0 && disk_size % sector == 0 &&
           disk_size >= edge;
}

int gpt_find(const uint8_t *head, const uint8_t *tail, size_t edge, uint64_t disk_size,
             uint32_t sector, struct gpt_partition *ret_partition, bool *ret_repair)
{
    if (!sizes_ok(edge, disk_size, sector))
        return -EINVAL;
    uint64_t sectors = disk_size / sector;
    struct table primary;
    struct table backup;
    bool has_primary = table_read(head, edge, 0, 1, disk_size, sector, &primary) == 0;
    bool has_backup =
        table_read(tail, edge, disk_size - edge, sectors - 1, disk_size, sector, &backup) == 0;
    *ret_repair = !has_primary || !has_backup;
    if (has_primary)
        return table_find(&primary, disk_size, sector, ret_partition) ? 1 : 0;
    return has_backup && table_find(&backup, disk_size, sector, ret_partition) ? 1 : 0;
}

bool gpt_has_partition(const uint8_t *head, size_t edge, uint64_t disk_size, uint32_t sector,
                       const uint8_t guid[GPT_GUID_SIZE])
{
    struct table table;
    if (!sizes_ok(edge, disk_size, sector) ||
        table_read(head, edge, 0, 1, disk_size, sector, &table) < 0)
        return false;
    for (size_t i = 0; i < table.count; i++)
        if (memcmp(table.entries + i * ENTRY_SIZE + 16, guid, GPT_GUID_SIZE) == 0)
            return true;
    return false;
}

static void header_build(uint8_t *at, uint64_t my_lba, uint64_t other_lba, uint64_t entries_lba,
                         uint64_t first, uint64_t last, const uint8_t disk_guid[GPT_GUID_SIZE],
                         uint32_t entries_crc)
{
    memcpy(at, "EFI PART", 8); // NOLINT(bugprone-not-null-terminated-result): no text, a signature
    put_le(at + H_REVISION, 0x00010000, 4);
    put_le(at + H_SIZE, HEADER_SIZE, 4);
    put_le(at + H_MY_LBA, my_lba, 8);
    put_le(at + H_OTHER_LBA, other_lba, 8);
    put_le(at + H_FIRST, first, 8);
    put_le(at + H_LAST, last, 8);
    memcpy(at + H_GUID, disk_guid, GPT_GUID_SIZE);
    put_le(at + H_ENTRIES_LBA, entries_lba, 8);
    put_le(at + H_ENTRIES, GPT_ENTRIES, 4);
    put_le(at + H_ENTRY_SIZE, ENTRY_SIZE, 4);
    put_le(at + H_ENTRIES_CRC, entries_crc, 4);
    put_le(at + H_CRC, crc32_of(at, HEADER_SIZE), 4);
}

int gpt_build(uint8_t *head, uint8_t *tail, size_t edge, uint64_t disk_size, uint32_t sector,
              const uint8_t disk_guid[GPT_GUID_SIZE], const uint8_t guid[GPT_GUID_SIZE],
              struct gpt_partition *ret_partition)
{
    if (!sizes_ok(edge, disk_size, sector) || edge < ENTRIES_BYTES + (size_t)2 * sector)
        return -EINVAL;
    if (disk_size < DISK_MIN)
        return -ENOSPC;
    uint64_t sectors = disk_size / sector;
    uint64_t entry_sectors = ENTRIES_BYTES / sector;
    uint64_t first_usable = 2 + entry_sectors;
    uint64_t last_usable = sectors - 2 - entry_sectors;
    uint64_t first = ALIGN / sector;
    uint64_t last = (last_usable + 1) * sector / ALIGN * ALIGN / sector - 1;

    memset(head, 0, edge);
    memset(tail, 0, edge);
    uint8_t *entry = head + (size_t)2 * sector;
    memcpy(entry, gpt_type_pool, GPT_GUID_SIZE);
    memcpy(entry + 16, guid, GPT_GUID_SIZE);
    put_le(entry + 32, first, 8);
    put_le(entry + 40, last, 8);
    static const char name[] = "croft pool";
    for (size_t i = 0; i < sizeof(name) - 1; i++)
        entry[56 + 2 * i] = (uint8_t)name[i]; /* UTF-16LE */
    uint32_t crc = crc32_of(entry, ENTRIES_BYTES);
    memcpy(tail + edge - sector - ENTRIES_BYTES, entry, ENTRIES_BYTES);
    header_build(head + sector, 1, sectors - 1, 2, first_usable, last_usable, disk_guid, crc);
    header_build(tail + edge - sector, sectors - 1, 1, sectors - 1 - entry_sectors, first_usable,
                 last_usable, disk_guid, crc);

    /* The protective MBR (5.2.3): one partition of type 0xee over everything. */
    uint8_t *mbr = head + 446;
    put_le(mbr + 1, 0x000200, 3);
    mbr[4] = 0xee;
    put_le(mbr + 5, 0xffffff, 3);
    put_le(mbr + 8, 1, 4);
    put_le(mbr + 12, sectors - 1 > 0xffffffffu ? 0xffffffffu : sectors - 1, 4);
    head[510] = 0x55;
    head[511] = 0xaa;

    ret_partition->number = 1;
    ret_partition->start = first * sector;
    ret_partition->size = (last - first + 1) * sector;
    memcpy(ret_partition->guid, guid, GPT_GUID_SIZE);
    return 0;
}
