/*
 * device.c - see device.h.
 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <scsi/sg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/loop.h"

#define TIMEOUT_MS 5000
#define SECTOR ((size_t)512)
#define SENSE_MAX 64
#define MEASURE_PAIRS 16
#define MEASURE_US ((uint64_t)1000000)
#define MEASURE_SIZE ((size_t)4096)

/* ---- SCSI ---- */

/* Reads up to len bytes. Returns how many came, or -errno; with `sense`, a check condition is an answer too. */
static int scsi_command(int fd, const uint8_t *cdb, size_t cdb_len, uint8_t *data, size_t len,
                        uint8_t *sense)
{
    uint8_t own[SENSE_MAX];
    uint8_t command[16];
    struct sg_io_hdr io = {
        .interface_id = 'S',
        .dxfer_direction = len > 0 ? SG_DXFER_FROM_DEV : SG_DXFER_NONE,
        .cmd_len = (unsigned char)cdb_len,
        .mx_sb_len = SENSE_MAX,
        .dxfer_len = (unsigned)len,
        .dxferp = data,
        .cmdp = command,
        .sbp = sense != NULL ? sense : own,
        .timeout = TIMEOUT_MS,
    };
    memcpy(command, cdb, cdb_len);
    int r = file_ioctl(fd, SG_IO, &io);
    if (r < 0)
        return r;
    if (io.host_status != 0 || (io.status != 0 && (sense == NULL || io.sb_len_wr == 0)))
        return -EIO;
    return sense != NULL ? io.sb_len_wr : (int)len - io.resid;
}

static int scsi_vpd(int fd, uint8_t page, uint8_t *data, uint8_t len)
{
    const uint8_t cdb[6] = {0x12, 1, page, 0, len};
    return scsi_command(fd, cdb, sizeof(cdb), data, len, NULL);
}

static void scsi_log(int fd, uint8_t page, struct smart *smart)
{
    const uint8_t cdb[10] = {[0] = 0x4d, [2] = (uint8_t)(0x40 | page), [7] = SECTOR >> 8};
    uint8_t data[SECTOR];
    int len = scsi_command(fd, cdb, sizeof(cdb), data, sizeof(data), NULL);
    /* A device that lacks the page may answer with another. */
    if (len > 0 && (data[0] & 0x3f) == page)
        (void)smart_parse_scsi_log(data, (size_t)len, smart);
}

/* ---- ATA PASS-THROUGH (16), SAT-4 12.2.2 ---- */

#define ATA_IDENTIFY 0xec
#define ATA_SMART 0xb0
#define ATA_SMART_DATA 0xd0
#define ATA_SMART_STATUS 0xda

static int ata_read(int fd, uint8_t command, uint8_t feature, uint8_t data[SECTOR])
{
    const uint8_t cdb[16] = {
        [0] = 0x85,    [1] = 4 << 1, /* PIO in */
        [2] = 0x0e,                  /* from the device, in blocks, their number is in the count */
        [4] = feature, [6] = 1,      [10] = 0x4f, [12] = 0xc2, [14] = command,
    };
    int r = scsi_command(fd, cdb, sizeof(cdb), data, SECTOR, NULL);
    return r == (int)SECTOR ? 0 : r < 0 ? r : -EIO;
}

static void ata_smart_status(int fd, struct smart *smart)
{
    const uint8_t cdb[16] = {
        [0] = 0x85,
        [1] = 3 << 1, /* no data */
        [2] = 0x20,   /* give the registers back as sense data */
        [4] = ATA_SMART_STATUS,
        [10] = 0x4f,
        [12] = 0xc2,
        [14] = ATA_SMART,
    };
    uint8_t sense[SENSE_MAX] = {0};
    int len = scsi_command(fd, cdb, sizeof(cdb), NULL, 0, sense);
    if (len > 0)
        (void)smart_parse_ata_status(sense, (size_t)len, smart);
}

static void ata_smart(int fd, struct smart *smart)
{
    uint8_t data[SECTOR];
    if (ata_read(fd, ATA_IDENTIFY, 0, data) < 0 || !smart_identify_has_smart(data, sizeof(data)))
        return;
    ata_smart_status(fd, smart);
    if (ata_read(fd, ATA_SMART, ATA_SMART_DATA, data) == 0)
        (void)smart_parse_ata_data(data, sizeof(data), smart);
}

/* ---- NVMe ---- */

static void nvme_smart(int fd, struct smart *smart)
{
    uint8_t log[SECTOR] = {0};
    struct nvme_admin_cmd command = {
        .opcode = 0x02, /* Get Log Page */
        .nsid = 0xffffffff,
        .addr = (uint64_t)(uintptr_t)log,
        .data_len = sizeof(log),
        .cdw10 = 0x02 | (uint32_t)(sizeof(log) / 4 - 1) << 16,
        .timeout_ms = TIMEOUT_MS,
    };
    if (file_ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command) == 0)
        (void)smart_parse_nvme(log, sizeof(log), smart);
}

/* ---- what is asked of which disk ---- */

enum class_said device_class(const struct disk *disk, int fd)
{
    uint8_t data[SECTOR] = {0};
    switch (disk->bus) {
    case DISK_NVME:
        /* Flash but for the kernel's word (NVMe 2.0 knows rotating media, and so do newer kernels). */
        return disk->rotational ? CLASS_SAID_HDD : CLASS_SAID_SSD;
    case DISK_SATA:
        return ata_read(fd, ATA_IDENTIFY, 0, data) == 0 ? class_parse_identify(data, sizeof(data))
                                                        : CLASS_SAID_NOTHING;
    case DISK_SCSI:
    case DISK_USB: {
        int len = scsi_vpd(fd, 0xb1, data, 64);
        return len > 0 ? class_parse_vpd(data, (size_t)len) : CLASS_SAID_NOTHING;
    }
    case DISK_VIRTIO:
    case DISK_OTHER:
        break;
    }
    return CLASS_SAID_NOTHING;
}

struct smart device_smart(const struct disk *disk, int fd)
{
    struct smart smart = {.health = SMART_UNKNOWN};
    if (disk->bus == DISK_NVME)
        nvme_smart(fd, &smart);
    if (disk->bus == DISK_SATA)
        ata_smart(fd, &smart);
    if (disk->bus == DISK_SCSI) {
        scsi_log(fd, 0x2f, &smart);
        scsi_log(fd, 0x0d, &smart);
        scsi_log(fd, 0x15, &smart);
    }
    return smart;
}

/* ---- measuring ---- */

static int timed_read(int fd, void *buffer, uint64_t at, uint32_t *ret_us)
{
    uint64_t begin = loop_clock();
    ssize_t n = pread(fd, buffer, MEASURE_SIZE, (off_t)at);
    if (n != (ssize_t)MEASURE_SIZE)
        return n < 0 ? -errno : -EIO;
    uint64_t us = loop_clock() - begin;
    *ret_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    return 0;
}

enum class_seen device_measure(const struct disk *disk, struct class_pair *ret_typical)
{
    char path[DISK_NAME_MAX + 8];
    struct class_pair pairs[MEASURE_PAIRS];
    uint64_t places[MEASURE_PAIRS];
    uint64_t blocks = disk->size / MEASURE_SIZE;
    size_t count = 0;
    *ret_typical = (struct class_pair){0};
    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    cleanup_free uint8_t *buffer = aligned_alloc(MEASURE_SIZE, MEASURE_SIZE);
    if (fd < 0 || buffer == NULL || blocks < 2 ||
        getrandom(places, sizeof(places), 0) != (ssize_t)sizeof(places))
        return CLASS_SEEN_NOTHING;
    uint64_t end = loop_clock() + MEASURE_US;
    while (count < MEASURE_PAIRS && loop_clock() < end) {
        uint64_t at = places[count] % (blocks - 1) * MEASURE_SIZE;
        if (timed_read(fd, buffer, at, &pairs[count].random_us) < 0 ||
            timed_read(fd, buffer, at + MEASURE_SIZE, &pairs[count].next_us) < 0)
            break;
        count++;
    }
    return class_judge(pairs, count, ret_typical);
}
