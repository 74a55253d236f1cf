/*
 * disk.h - the machine's disks as the kernel lists them in /sys/block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define DISK_NAME_MAX 32
#define DISKS_MAX 256 /* of one machine; a farm's largest chassis have 100 */

/* How it is attached, which is also which commands it takes. SATA: behind any SCSI/ATA translation (SAS controllers too). */
enum disk_bus { DISK_OTHER, DISK_VIRTIO, DISK_NVME, DISK_SATA, DISK_SCSI, DISK_USB };

struct disk {
    char name[DISK_NAME_MAX]; /* vda */
    uint64_t seq;             /* a number that no other disk has had since the boot */
    uint64_t size;            /* bytes */
    uint32_t sector;          /* logical sector, bytes */
    bool rotational;          /* the kernel's flag; from the claim on, what was decided (class.h) */
    enum disk_bus bus;
    bool read_only;
    bool partitioned; /* the kernel found partitions on it */
    bool held;        /* something else (RAID, LVM, …) sits on it */
    char model[64];
    char serial[64];
};

const char *disk_bus_name(enum disk_bus bus);
/* Whole disks of real hardware and hypervisors, sorted by name: no loop devices, RAM disks, CDs or mappings. */
int disk_scan(struct disk *ret_disks, size_t max, size_t *ret_count);
/* Name of the partition that begins at `start` bytes ("vda1"); -ENOENT: the kernel knows none. */
int disk_partition_name(const char *disk, uint64_t start, char ret_name[DISK_NAME_MAX]);

enum disk_policy { DISK_POLICY_EMPTY, DISK_POLICY_WIPE, DISK_POLICY_NONE };

struct disk_rules {
    enum disk_policy policy;
    bool usb;
    bool has_boot_partition;
    uint8_t boot_partition
        [16]; /* unique GUID of the partition that the firmware started, as systemd's EFI stub says */
};

/* Reads "disks" of boot.json. Code storage.bad-boot. */
int disk_rules_read(const char *boot_path, struct disk_rules *ret_rules, struct error *err);
