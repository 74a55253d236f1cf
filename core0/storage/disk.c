/*
 * disk.c - the machine's disks: see disk.h.
 */
#include "disk.h"
#include "gpt.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"

#define SYS_BLOCK "/sys/block"

/* Kernel names of whole disks; what is not here (loop, ram, zram, sr, dm-, md, nbd, fd) is no disk to lend out. */
static const char *const prefixes[] = {"sd", "vd", "xvd", "nvme", "mmcblk", "hd"};

static bool is_disk_name(const char *name)
{
    /* Boot and replay areas of eMMC, and NVMe's hidden paths, are not disks of their own. */
    if (strncmp(name, "mmcblk", 6) == 0 &&
        (strstr(name, "boot") != NULL || strstr(name, "rpmb") != NULL))
        return false;
    if (strncmp(name, "nvme", 4) == 0 &&
        (strchr(name, 'n') == NULL || strchr(name + 4, 'c') != NULL))
        return false;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* The text of an attribute behind its first `skip` bytes, trimmed; "" if there is none. */
static void read_text_behind(const char *disk, const char *attribute, size_t skip, char *ret_text,
                             size_t size)
{
    char path[PATH_MAX];
    cleanup_free char *data = NULL;
    size_t end;
    size_t len = 0;
    snprintf(path, sizeof(path), SYS_BLOCK "/%s/%s", disk, attribute);
    if (file_read(path, 4096, &data, &end) < 0)
        end = 0;
    while (end > skip && (data[end - 1] == '\0' || isspace((unsigned char)data[end - 1])))
        end--;
    while (skip < end && isspace((unsigned char)data[skip]))
        skip++;
    for (size_t i = skip; i < end && len < size - 1; i++)
        ret_text[len++] = (char)(data[i] >= ' ' && data[i] < 127 ? data[i] : '?');
    ret_text[len] = '\0';
}

static void read_text(const char *disk, const char *attribute, char *ret_text, size_t size)
{
    read_text_behind(disk, attribute, 0, ret_text, size);
}

static uint64_t read_number(const char *disk, const char *attribute)
{
    char text[32];
    read_text(disk, attribute, text, sizeof(text));
    return strtoull(text, NULL, 10);
}

/* Calls for each entry of a folder of the disk; returns how many have the file `attribute` inside (NULL: any). */
static size_t count_entries(const char *disk, const char *folder, const char *attribute)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), SYS_BLOCK "/%s/%s", disk, folder);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return 0;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        if (attribute != NULL) {
            char file[PATH_MAX + 300];
            snprintf(file, sizeof(file), "%s/%s/%s", path, entry->d_name, attribute);
            if (access(file, F_OK) != 0)
                continue;
        }
        count++;
    }
    closedir(dir);
    return count;
}

const char *disk_bus_name(enum disk_bus bus)
{
    static const char *const names[] = {"other", "virtio", "nvme", "sata", "scsi", "usb"};
    return names[bus];
}

static enum disk_bus read_bus(const char *name)
{
    char path[PATH_MAX];
    char target[PATH_MAX];
    char vendor[16];
    snprintf(path, sizeof(path), SYS_BLOCK "/%s", name);
    if (realpath(path, target) != NULL && strstr(target, "/usb") != NULL)
        return DISK_USB;
    if (strncmp(name, "nvme", 4) == 0)
        return DISK_NVME;
    if (strncmp(name, "vd", 2) == 0)
        return DISK_VIRTIO;
    if (strncmp(name, "sd", 2) != 0)
        return DISK_OTHER;
    read_text(name, "device/vendor", vendor, sizeof(vendor));
    return strcmp(vendor, "ATA") == 0 ? DISK_SATA : DISK_SCSI;
}

static void read_serial(const char *name, enum disk_bus bus, char *ret_text, size_t size)
{
    read_text(name, "serial", ret_text, size);
    if (ret_text[0] == '\0')
        read_text(name, "device/serial", ret_text, size);
    /* Disks of SCSI give theirs in a page with a header of 4 bytes (SPC-5, VPD page 80h). */
    if (ret_text[0] == '\0')
        read_text_behind(name, "device/vpd_pg80", 4, ret_text, size);
    /* Of a USB disk it is the plug's: target, host, interface and device lie above the logical unit. */
    static const char *const above[] = {"device/../../../../serial",
                                        "device/../../../../../serial"};
    for (size_t i = 0; bus == DISK_USB && i < 2 && ret_text[0] == '\0'; i++)
        read_text(name, above[i], ret_text, size);
}

static void disk_read(const char *name, struct disk *ret_disk)
{
    struct disk disk = {0};
    snprintf(disk.name, sizeof(disk.name), "%.*s", DISK_NAME_MAX - 1, name);
    disk.size =
        read_number(name, "size") * 512; /* always in units of 512 bytes, whatever the sector */
    disk.sector = (uint32_t)read_number(name, "queue/logical_block_size");
    disk.rotational = read_number(name, "queue/rotational") != 0;
    disk.read_only = read_number(name, "ro") != 0;
    disk.partitioned = count_entries(name, ".", "partition") > 0;
    disk.held = count_entries(name, "holders", NULL) > 0;
    read_text(name, "device/model", disk.model, sizeof(disk.model));
    disk.bus = read_bus(name);
    read_serial(name, disk.bus, disk.serial, sizeof(disk.serial));
    disk.seq = read_number(name, "diskseq");
    *ret_disk = disk;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct disk *)a)->name, ((const struct disk *)b)->name);
}

int disk_scan(struct disk *ret_disks, size_t max, size_t *ret_count)
{
    DIR *dir = opendir(SYS_BLOCK);
    if (dir == NULL)
        return -errno;
    size_t count = 0;
    for (struct dirent *entry; count < max && (entry = readdir(dir)) != NULL;)
        if (strlen(entry->d_name) < DISK_NAME_MAX && is_disk_name(entry->d_name))
            disk_read(entry->d_name, &ret_disks[count++]);
    closedir(dir);
    qsort(ret_disks, count, sizeof(*ret_disks), by_name);
    *ret_count = count;
    return 0;
}

int disk_partition_name(const char *disk, uint64_t start, char ret_name[DISK_NAME_MAX])
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), SYS_BLOCK "/%s", disk);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    int r = -ENOENT;
    for (struct dirent *entry; r != 0 && (entry = readdir(dir)) != NULL;) {
        char attribute[300];
        if (strncmp(entry->d_name, disk, strlen(disk)) != 0 ||
            strlen(entry->d_name) >= DISK_NAME_MAX)
            continue;
        snprintf(attribute, sizeof(attribute), "%s/start", entry->d_name);
        if (read_number(disk, attribute) == start / 512) {
            snprintf(ret_name, DISK_NAME_MAX, "%.*s", DISK_NAME_MAX - 1, entry->d_name);
            r = 0;
        }
    }
    closedir(dir);
    return r;
}

/* An EFI variable: four bytes of attributes, then a GUID in UTF-16. Absent without EFI or without the stub. */
static void read_boot_partition(struct disk_rules *rules)
{
    static const char path[] =
        "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    cleanup_free char *data = NULL;
    size_t len;
    char text[GPT_GUID_TEXT] = "";
    if (file_read(path, 256, &data, &len) < 0)
        return;
    for (size_t i = 0; i + 1 < sizeof(text) && 4 + 2 * i < len; i++)
        text[i] = data[4 + 2 * i];
    rules->has_boot_partition = gpt_guid_parse(text, rules->boot_partition) == 0;
}

int disk_rules_read(const char *boot_path, struct disk_rules *ret_rules, struct error *err)
{
    static const char *const policies[] = {"empty", "wipe", "none"};
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read(boot_path, (size_t)1 << 20, &text, &len);
    if (r < 0)
        return error_set(err, -r, "storage.bad-boot", "is core0 running?", "%s cannot be read: %s",
                         boot_path, strerror(-r));
    yyjson_doc *doc = json_parse(text, len, (size_t)1 << 20, "storage.bad-boot", err);
    if (doc == NULL)
        return -EINVAL;
    yyjson_val *disks = yyjson_obj_get(yyjson_doc_get_root(doc), "disks");
    const char *policy = yyjson_get_str(yyjson_obj_get(disks, "policy"));
    struct disk_rules rules = {.usb = yyjson_get_bool(yyjson_obj_get(disks, "usb"))};
    size_t i = 0;
    while (policy != NULL && i < 3 && strcmp(policy, policies[i]) != 0)
        i++;
    r = 0;
    if (policy == NULL || i == 3)
        r = error_set(err, EINVAL, "storage.bad-boot", "", "%s names no known policy of disks",
                      boot_path);
    else
        rules.policy = (enum disk_policy)i;
    yyjson_doc_free(doc);
    read_boot_partition(&rules);
    if (r == 0)
        *ret_rules = rules;
    return r;
}
