/*
 * media_usb.c - a bootable disk image, written without root and without other tools; see media.h.
 *
 *   LBA 0 protective MBR | 1 GPT header | 2-33 entries | 2048 EFI system partition (FAT32) … | entries | GPT header
 *
 * Sources: UEFI 2.10, 5.2 and 5.3 (MBR, GPT) and 13.3 (file system); Microsoft's FAT32 File System Specification 1.03,
 * to whose sections the comments refer. A cluster is one sector: FAT32 wants at least 65,525 clusters, and so the image
 * stays small. Everything lies in a row, so the tables follow from three numbers.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "cli/media.h"
#include "lib/crypto/hash.h"

#define SECTOR 512u
#define GPT_ENTRIES 128u
#define GPT_ENTRY_SIZE 128u
#define GPT_ENTRY_SECTORS (GPT_ENTRIES * GPT_ENTRY_SIZE / SECTOR)
#define GPT_HEADER_SIZE 92u
#define ESP_FIRST 2048u  /* 1 MiB, as partitioning tools align */
#define FAT_RESERVED 32u /* sectors before the first FAT */
#define FAT_CLUSTERS_MIN 66000u
#define FAT_END 0x0fffffffu
enum { CLUSTER_ROOT = 2, CLUSTER_EFI, CLUSTER_BOOT, CLUSTER_FILE };

struct layout {
    uint32_t clusters;      /* of data */
    uint32_t file_clusters; /* of the program */
    uint32_t fat_sectors;   /* of one FAT */
    uint32_t esp_sectors;
    uint64_t sectors; /* of the whole disk */
};

static void put(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* On-disk texts have fixed places and no end. */
static void put_text(uint8_t *at, const char *text)
{
    while (*text != '\0') {
        *at++ = (uint8_t)*text++;
    }
}

static int write_at(int fd, const void *data, size_t len, uint64_t sector)
{
    const uint8_t *bytes = data;
    off_t offset = (off_t)(sector * SECTOR);

    while (len > 0) {
        ssize_t written = pwrite(fd, bytes, len, offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? -errno : -EIO;
        }
        bytes += written;
        offset += written;
        len -= (size_t)written;
    }
    return 0;
}

static struct layout plan(size_t len)
{
    struct layout layout = {.file_clusters = (uint32_t)((len + SECTOR - 1) / SECTOR)};
    uint32_t wanted = layout.file_clusters + CLUSTER_FILE + 64;

    layout.clusters = wanted > FAT_CLUSTERS_MIN ? wanted : FAT_CLUSTERS_MIN;
    layout.fat_sectors = ((layout.clusters + 2) * 4 + SECTOR - 1) / SECTOR;
    layout.esp_sectors = FAT_RESERVED + 2 * layout.fat_sectors + layout.clusters;
    layout.sectors = (uint64_t)ESP_FIRST + layout.esp_sectors + GPT_ENTRY_SECTORS + 1;
    return layout;
}

/* ---- partition table ---- */

static void guid_random(uint8_t guid[16])
{
    crypto_random(guid, 16);
    guid[7] = (uint8_t)((guid[7] & 0x0f) | 0x40); /* version 4, RFC 9562 */
    guid[8] = (uint8_t)((guid[8] & 0x3f) | 0x80);
}

static int write_gpt_header(int fd, const struct layout *layout, const uint8_t disk_guid[16],
                            uint32_t entries_crc, bool backup)
{
    uint8_t header[SECTOR] = "EFI PART";
    uint64_t last = layout->sectors - 1, own = backup ? last : 1;

    put(header + 8, 0x00010000, 4);
    put(header + 12, GPT_HEADER_SIZE, 4);
    put(header + 24, own, 8);
    put(header + 32, backup ? 1 : last, 8);
    put(header + 40, 2 + GPT_ENTRY_SECTORS, 8);        /* first usable */
    put(header + 48, last - GPT_ENTRY_SECTORS - 1, 8); /* last usable */
    memcpy(header + 56, disk_guid, 16);
    put(header + 72, backup ? last - GPT_ENTRY_SECTORS : 2, 8);
    put(header + 80, GPT_ENTRIES, 4);
    put(header + 84, GPT_ENTRY_SIZE, 4);
    put(header + 88, entries_crc, 4);
    put(header + 16, crc32(0, header, GPT_HEADER_SIZE), 4);
    return write_at(fd, header, sizeof(header), own);
}

static int write_partitions(int fd, const struct layout *layout)
{
    static const uint8_t esp_type[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                         0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
    static const char name[] = "croft";
    uint8_t mbr[SECTOR] = {0}, entries[GPT_ENTRIES * GPT_ENTRY_SIZE] = {0}, disk_guid[16];
    uint64_t rest = layout->sectors - 1;

    put(mbr + 446 + 1, 0x000200, 3); /* CHS of the first sector */
    mbr[446 + 4] = 0xee;
    put(mbr + 446 + 5, 0xffffff, 3);
    put(mbr + 446 + 8, 1, 4);
    put(mbr + 446 + 12, rest < UINT32_MAX ? rest : UINT32_MAX, 4);
    put(mbr + 510, 0xaa55, 2);

    memcpy(entries, esp_type, sizeof(esp_type));
    guid_random(entries + 16);
    put(entries + 32, ESP_FIRST, 8);
    put(entries + 40, (uint64_t)ESP_FIRST + layout->esp_sectors - 1, 8);
    for (size_t i = 0; name[i] != '\0'; i++) {
        entries[56 + 2 * i] = (uint8_t)name[i];
    }
    uint32_t crc = (uint32_t)crc32(0, entries, sizeof(entries));
    guid_random(disk_guid);
    int ret = write_at(fd, mbr, sizeof(mbr), 0);
    if (ret == 0) {
        ret = write_at(fd, entries, sizeof(entries), 2);
    }
    if (ret == 0) {
        ret = write_at(fd, entries, sizeof(entries), layout->sectors - 1 - GPT_ENTRY_SECTORS);
    }
    if (ret == 0) {
        ret = write_gpt_header(fd, layout, disk_guid, crc, false);
    }
    return ret == 0 ? write_gpt_header(fd, layout, disk_guid, crc, true) : ret;
}

/* ---- file system ---- */

static int write_boot_sectors(int fd, const struct layout *layout)
{
    uint8_t boot[SECTOR] = {0xeb, 0x58, 0x90}, info[SECTOR] = "RRaA";
    uint32_t used = CLUSTER_FILE - CLUSTER_ROOT + layout->file_clusters;

    put_text(boot + 3, "CROFT   ");
    put(boot + 11, SECTOR, 2);
    boot[13] = 1; /* sectors per cluster */
    put(boot + 14, FAT_RESERVED, 2);
    boot[16] = 2; /* FATs */
    boot[21] = 0xf8;
    put(boot + 24, 63, 2); /* geometry, which nobody asks for */
    put(boot + 26, 255, 2);
    put(boot + 28, ESP_FIRST, 4);
    put(boot + 32, layout->esp_sectors, 4);
    put(boot + 36, layout->fat_sectors, 4);
    put(boot + 44, CLUSTER_ROOT, 4);
    put(boot + 48, 1, 2); /* FSInfo */
    put(boot + 50, 6, 2); /* copy of this sector */
    boot[64] = 0x80;
    boot[66] = 0x29; /* the next three are there */
    crypto_random(boot + 67, 4);
    put_text(boot + 71, "CROFT      FAT32   ");
    put(boot + 510, 0xaa55, 2);

    put_text(info + 484, "rrAa");
    put(info + 488, layout->clusters - used, 4);
    put(info + 492, CLUSTER_ROOT + used, 4);
    put(info + 510, 0xaa55, 2);

    int ret = 0;
    for (uint64_t copy = 0; ret == 0 && copy <= 6; copy += 6) {
        ret = write_at(fd, boot, sizeof(boot), ESP_FIRST + copy);
        if (ret == 0) {
            ret = write_at(fd, info, sizeof(info), ESP_FIRST + copy + 1);
        }
    }
    return ret;
}

/* The entry of a cluster: folders have one cluster, the program's lie in a row. */
static uint32_t fat_entry(const struct layout *layout, uint32_t cluster)
{
    uint32_t end = CLUSTER_FILE + layout->file_clusters;

    if (cluster == 0) {
        return 0x0ffffff8; /* the media byte of the boot sector */
    }
    if (cluster < CLUSTER_FILE || cluster + 1 == end) {
        return FAT_END;
    }
    return cluster < end ? cluster + 1 : 0;
}

static int write_fats(int fd, const struct layout *layout)
{
    for (uint32_t s = 0; s < layout->fat_sectors; s++) {
        uint8_t sector[SECTOR] = {0};
        for (uint32_t i = 0; i < SECTOR / 4; i++) {
            put(sector + (size_t)4 * i, fat_entry(layout, s * (SECTOR / 4) + i), 4);
        }
        for (uint32_t copy = 0; copy < 2; copy++) {
            int ret = write_at(fd, sector, sizeof(sector),
                               (uint64_t)ESP_FIRST + FAT_RESERVED +
                                   (uint64_t)copy * layout->fat_sectors + s);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

static void folder_entry(uint8_t *entry, const char *name, uint8_t attributes, uint32_t cluster,
                         uint32_t size)
{
    const uint32_t date = 1u << 5 | 1u; /* 1980-01-01: a medium tells no time */

    put_text(entry, name); /* 8 and 3 characters, filled up with blanks */
    entry[11] = attributes;
    put(entry + 16, date, 2);
    put(entry + 18, date, 2);
    put(entry + 20, cluster >> 16, 2);
    put(entry + 24, date, 2);
    put(entry + 26, cluster & 0xffff, 2);
    put(entry + 28, size, 4);
}

#define FOLDER 0x10
#define LABEL 0x08

static int write_files(int fd, const struct layout *layout, const void *efi, size_t len)
{
    uint8_t folders[3 * SECTOR] = {0};
    uint8_t *root = folders, *efi_folder = folders + SECTOR, *boot = folders + (size_t)2 * SECTOR;
    uint64_t data = (uint64_t)ESP_FIRST + FAT_RESERVED + 2 * (uint64_t)layout->fat_sectors;

    folder_entry(root, "CROFT      ", LABEL, 0, 0);
    folder_entry(root + 32, "EFI        ", FOLDER, CLUSTER_EFI, 0);
    folder_entry(efi_folder, ".          ", FOLDER, CLUSTER_EFI, 0);
    folder_entry(efi_folder + 32, "..         ", FOLDER, 0, 0); /* 0: the root */
    folder_entry(efi_folder + 64, "BOOT       ", FOLDER, CLUSTER_BOOT, 0);
    folder_entry(boot, ".          ", FOLDER, CLUSTER_BOOT, 0);
    folder_entry(boot + 32, "..         ", FOLDER, CLUSTER_EFI, 0);
    folder_entry(boot + 64, "BOOTX64 EFI", 0x20, CLUSTER_FILE, (uint32_t)len);
    int ret = write_at(fd, folders, sizeof(folders), data);
    return ret == 0 ? write_at(fd, efi, len, data + CLUSTER_FILE - CLUSTER_ROOT) : ret;
}

int media_usb_write(int fd, const void *efi, size_t len, uint64_t *ret_size)
{
    if (len == 0 || len > MEDIA_EFI_MAX) {
        return -EFBIG;
    }
    struct layout layout = plan(len);
    int ret = ftruncate(fd, (off_t)(layout.sectors * SECTOR)) < 0 ? -errno : 0;
    if (ret == 0) {
        ret = write_partitions(fd, &layout);
    }
    if (ret == 0) {
        ret = write_boot_sectors(fd, &layout);
    }
    if (ret == 0) {
        ret = write_fats(fd, &layout);
    }
    if (ret == 0) {
        ret = write_files(fd, &layout, efi, len);
    }
    if (ret == 0) {
        *ret_size = layout.sectors * SECTOR;
    }
    return ret;
}
