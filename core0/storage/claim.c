/*
 * claim.c - one disk from its name to a mounted pool: see claim.h.
 *
 * Order of writing: zeros over the partition's beginning, then the table: backup, primary, protective MBR. An interrupted claim leaves either nothing or
 * a backup table of ours, which the next boot recognises and completes; the file system is made last, and a partition of
 * ours that holds only zeros is a claim that was interrupted before it.
 */
#include "claim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "btrfs.h"
#include "device.h"
#include "lib/file.h"
#include "lib/process.h"
#include "probe.h"

#define MKFS "/sbin/mkfs.btrfs"
#define MKFS_TIMEOUT_US ((uint64_t)300 * 1000000)
#define BTRFS_MAGIC_AT ((size_t)65600) /* superblock at 64 KiB, magic at 64 in it */
#define BTRFS_FSID_AT ((size_t)65568)
#define BTRFS_MIRROR_AT ((uint64_t)64 << 20) /* the second superblock */
#define POOL_OPTIONS "user_subvol_rm_allowed"
#define POOL_FLAGS (MS_NOSUID | MS_NODEV | MS_NOATIME)
#define POOL_CLASS "trusted.croft.class" /* on the root folder; class_format() */

/* Both ends of a disk. */
struct edges {
    uint8_t head[GPT_EDGE];
    uint8_t tail[GPT_EDGE];
};

const char *claim_state_name(enum claim_state state)
{
    static const char *const names[] = {"pool", "foreign", "empty", "failed", "ignored"};
    return names[state];
}

__attribute__((format(printf, 3, 4))) static int settle(struct claim *claim, enum claim_state state,
                                                        const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    claim->state = state;
    vsnprintf(claim->detail, sizeof(claim->detail), fmt, args);
    va_end(args);
    return state == CLAIM_POOL ? 0 : -1;
}

static int read_at(int fd, uint64_t offset, uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

static int write_at(int fd, uint64_t offset, const uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

/* A random GUID (RFC 9562, version 4), in the byte order of the disk. */
static void guid_random(uint8_t guid[GPT_GUID_SIZE])
{
    if (getrandom(guid, GPT_GUID_SIZE, 0) != GPT_GUID_SIZE)
        abort();
    guid[7] = (uint8_t)((guid[7] & 0x0f) | 0x40);
    guid[8] = (uint8_t)((guid[8] & 0x3f) | 0x80);
}

static void uuid_format(const uint8_t *bytes, char *ret_text)
{
    char *at = ret_text;
    for (size_t i = 0; i < 16; i++)
        at += snprintf(at, 4, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
}

/* A predecessor of this process may have mounted it. 1: it is, 0: nothing is there, -EEXIST: another disk's pool is. */
static int is_mounted(const char *target, const char *source)
{
    struct stat inside;
    struct stat outside;
    if (stat(target, &inside) < 0 || stat(CLAIM_POOLS, &outside) < 0 ||
        inside.st_dev == outside.st_dev)
        return 0;
    struct btrfs_ioctl_dev_info_args info = {.devid = 1};
    cleanup_close int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || file_ioctl(fd, BTRFS_IOC_DEV_INFO, &info) < 0 ||
        strcmp((const char *)info.path, source) != 0)
        return -EEXIST;
    return 1;
}

static int mount_pool(const char *device, const char *options, struct claim *claim)
{
    char source[DISK_NAME_MAX + 8];
    char target[sizeof(CLAIM_POOLS) + GPT_GUID_TEXT + 1];
    snprintf(source, sizeof(source), "/dev/%s", device);
    snprintf(target, sizeof(target), CLAIM_POOLS "/%s", claim->uuid);
    int r = file_mkdirs(target, 0711);
    if (r < 0)
        return settle(claim, CLAIM_FAILED, "%s: %s", target, strerror(-r));
    r = is_mounted(target, source);
    if (r == 0 && mount(source, target, "btrfs", POOL_FLAGS, options) < 0) {
        r = -errno;
        rmdir(target);
    }
    if (r == -EEXIST)
        return settle(claim, CLAIM_FAILED, "pool %s is in use already, from another disk",
                      claim->uuid);
    if (r < 0)
        return settle(claim, CLAIM_FAILED, "the pool cannot be mounted: %s", strerror(-r));
    return settle(claim, CLAIM_POOL, "pool");
}

/* Decided once and kept with the pool: neither another slot nor another kernel makes a disk's class flip. */
static void settle_class(const struct disk *disk, int disk_fd, struct claim *claim)
{
    char target[sizeof(CLAIM_POOLS) + GPT_GUID_TEXT + 1];
    snprintf(target, sizeof(target), CLAIM_POOLS "/%s", claim->uuid);
    cleanup_close int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char text[CLASS_TEXT];
    ssize_t len = fd < 0 ? -1 : fgetxattr(fd, POOL_CLASS, text, sizeof(text) - 1);
    if (len > 0) {
        text[len] = '\0';
        if (class_parse(text, &claim->rotational) == 0) {
            memcpy(claim->basis, text, sizeof(claim->basis));
            return;
        }
    }
    struct class_evidence evidence = {.kernel_rotational = disk->rotational,
                                      .device = device_class(disk, disk_fd)};
    evidence.measured = device_measure(disk, &evidence.typical);
    claim->rotational = class_is_rotational(&evidence);
    class_format(&evidence, claim->basis);
    if (fd < 0 || fsetxattr(fd, POOL_CLASS, claim->basis, strlen(claim->basis), 0) < 0 ||
        syncfs(fd) < 0)
        (void)settle(claim, CLAIM_POOL, "pool; its class could not be kept: %s", strerror(errno));
}

/* Only now is the class known, whatever the kernel took the disk for at the mount. */
static void tune_pool(const struct claim *claim)
{
    char target[sizeof(CLAIM_POOLS) + GPT_GUID_TEXT + 1];
    snprintf(target, sizeof(target), CLAIM_POOLS "/%s", claim->uuid);
    (void)mount(NULL, target, NULL, MS_REMOUNT | POOL_FLAGS,
                claim->rotational ? "nossd,nodiscard" : "ssd,discard=async");
}

static int make_file_system(const char *device, bool single, struct claim *claim)
{
    char source[DISK_NAME_MAX + 8];
    uint8_t id[16];
    guid_random(id);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* here the text order is the byte order */
    uuid_format(id, claim->uuid);
    snprintf(source, sizeof(source), "/dev/%s", device);
    const char *const argv[] = {MKFS,
                                "--quiet",
                                "--force",
                                "--label",
                                "croft",
                                "--uuid",
                                claim->uuid,
                                "--data",
                                "single",
                                "--metadata",
                                single ? "single" : "dup",
                                source,
                                NULL};
    struct process_options options = {.timeout_us = MKFS_TIMEOUT_US};
    struct error err = {0};
    if (process_check(argv, &options, "storage.mkfs-failed", &err) < 0)
        return settle(claim, CLAIM_FAILED, "%.140s", err.message);
    claim->created = true;
    return 0;
}

/* Known pool or one that was interrupted before its file system was made. 1: make it, 0: mount it, -1: settled. */
static int look_into_partition(const char *device, struct claim *claim)
{
    char path[DISK_NAME_MAX + 8];
    snprintf(path, sizeof(path), "/dev/%s", device);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    cleanup_free uint8_t *data = malloc(GPT_EDGE);
    if (fd < 0 || data == NULL)
        return settle(claim, CLAIM_FAILED, "%s: %s", path, strerror(errno));
    int r = read_at(fd, 0, data, GPT_EDGE);
    if (r < 0)
        return settle(claim, CLAIM_FAILED, "cannot be read: %s", strerror(-r));
    if (memcmp(data + BTRFS_MAGIC_AT, "_BHRfS_M", 8) == 0) {
        uuid_format(data + BTRFS_FSID_AT, claim->uuid);
        return 0;
    }
    for (size_t i = 0; i < GPT_EDGE; i++)
        if (data[i] != 0)
            return settle(claim, CLAIM_FAILED, "a partition of ours holds no pool (%s)",
                          probe_name(data, GPT_EDGE) != NULL ? probe_name(data, GPT_EDGE)
                                                             : "unknown data");
    /* Zeros over the beginning of a pool are an accident, not an interrupted claim: a claim clears both superblocks. */
    if (read_at(fd, BTRFS_MIRROR_AT, data, 4096) == 0 && memcmp(data + 64, "_BHRfS_M", 8) == 0)
        return settle(claim, CLAIM_FAILED, "the beginning of a pool was overwritten");
    return 1;
}

/* The first sector, which makes the rest valid to the kernel, comes last. */
static int write_edges(int fd, const struct disk *disk, const uint8_t *head, const uint8_t *tail)
{
    int r = write_at(fd, disk->size - GPT_EDGE, tail, GPT_EDGE);
    if (r == 0)
        r = write_at(fd, disk->sector, head + disk->sector, GPT_EDGE - disk->sector);
    return r == 0 ? write_at(fd, 0, head, disk->sector) : r;
}

static int write_table(int fd, const struct disk *disk, uint8_t *head, uint8_t *tail,
                       struct gpt_partition *partition, struct claim *claim)
{
    uint8_t disk_guid[GPT_GUID_SIZE];
    uint8_t guid[GPT_GUID_SIZE];
    guid_random(disk_guid);
    guid_random(guid);
    int r = gpt_build(head, tail, GPT_EDGE, disk->size, disk->sector, disk_guid, guid, partition);
    if (r == -ENOSPC)
        return settle(claim, CLAIM_IGNORED, "smaller than 16 MiB");
    /* What the partition held before must not be taken for a pool of ours; so that goes first. */
    cleanup_free uint8_t *zeros = calloc(1, GPT_EDGE);
    if (zeros == NULL)
        r = -ENOMEM;
    if (r == 0)
        r = write_at(fd, partition->start, zeros, GPT_EDGE);
    if (r == 0 && partition->size > BTRFS_MIRROR_AT + GPT_EDGE)
        r = write_at(fd, partition->start + BTRFS_MIRROR_AT, zeros, 4096);
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    if (r == 0)
        r = write_edges(fd, disk, head, tail);
    if (r < 0)
        return settle(claim, CLAIM_FAILED, "cannot be written: %s", strerror(-r));
    return 0;
}

/* The device node of the partition, the kernel's table read again where it does not know it. */
static int partition_device(int fd, const struct disk *disk, const struct gpt_partition *partition,
                            struct claim *claim)
{
    if (disk_partition_name(disk->name, partition->start, claim->device) == 0)
        return 0;
    if (ioctl(fd, BLKRRPART) < 0)
        return settle(claim, CLAIM_FAILED, "the kernel does not read its partition table: %s",
                      strerror(errno));
    if (disk_partition_name(disk->name, partition->start, claim->device) < 0)
        return settle(claim, CLAIM_FAILED, "the kernel does not find the partition");
    return 0;
}

/* Is the disk to become a pool? 0, or -1: settled, it is not. */
static int may_take(const struct disk *disk, const struct disk_rules *rules,
                    const struct probe_result *found, struct claim *claim)
{
    bool fresh = found->kind == PROBE_EMPTY && !disk->partitioned && !disk->held;
    if (!fresh && rules->policy != DISK_POLICY_WIPE)
        return settle(claim, CLAIM_FOREIGN, "%s; croft.disks=wipe would take it",
                      found->kind == PROBE_EMPTY ? "partitions" : found->what);
    if (disk->bus == DISK_USB && !rules->usb)
        return settle(claim, CLAIM_IGNORED, "a USB disk; croft.disks=%s+usb would take it",
                      rules->policy == DISK_POLICY_WIPE ? "wipe" : "empty");
    if (disk->read_only)
        return settle(claim, CLAIM_IGNORED, "read-only");
    return 0;
}

/* Gives the disk a table with one partition of ours. 0 or -1: settled. */
static int take(const struct disk *disk, struct edges *edges, struct gpt_partition *partition,
                struct claim *claim)
{
    char path[DISK_NAME_MAX + 8];
    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    /* O_EXCL: nobody else (RAID, a mount) has it, and nobody gets it meanwhile. */
    cleanup_close int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd < 0)
        return settle(claim, CLAIM_FAILED, "in use: %s", strerror(errno));
    if (write_table(fd, disk, edges->head, edges->tail, partition, claim) < 0)
        return -1;
    if (ioctl(fd, BLKRRPART) < 0)
        return settle(claim, CLAIM_FAILED, "the kernel does not read its partition table: %s",
                      strerror(errno));
    return 0;
}

/* Our own table, one copy torn: a claim that was interrupted. With other partitions on it the disk is left. */
static void repair_table(const struct disk *disk, const struct gpt_partition *partition,
                         struct edges *edges)
{
    char path[DISK_NAME_MAX + 8];
    struct gpt_partition whole;
    uint8_t disk_guid[GPT_GUID_SIZE];
    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    guid_random(disk_guid);
    cleanup_close int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd < 0 ||
        gpt_build(edges->head, edges->tail, GPT_EDGE, disk->size, disk->sector, disk_guid,
                  partition->guid, &whole) < 0 ||
        whole.start != partition->start || whole.size != partition->size)
        return;
    if (write_edges(fd, disk, edges->head, edges->tail) == 0)
        (void)ioctl(fd, BLKRRPART);
}

/* Reads both ends and says what they are. 0 or -1: settled. */
static int look(const struct disk *disk, int fd, struct edges *edges,
                struct probe_result *ret_found, struct claim *claim)
{
    int r = read_at(fd, 0, edges->head, GPT_EDGE);
    if (r == 0)
        r = read_at(fd, disk->size - GPT_EDGE, edges->tail, GPT_EDGE);
    if (r < 0)
        return settle(claim, CLAIM_FAILED, "cannot be read: %s", strerror(-r));
    probe_edges(edges->head, edges->tail, GPT_EDGE, disk->size, disk->sector, ret_found);
    return 0;
}

static void claim_open_disk(const struct disk *disk, int fd, const struct disk_rules *rules,
                            enum claim_purpose purpose, struct edges *edges, struct claim *claim)
{
    claim->smart = device_smart(disk, fd);
    if (purpose == CLAIM_HEALTH)
        return;
    struct probe_result found = {.kind = PROBE_FOREIGN};
    if (look(disk, fd, edges, &found, claim) < 0)
        return;
    /* Of what is no pool yet the device's word is all there is: it is not measured before it is taken. */
    claim->rotational = class_is_rotational(&(struct class_evidence){
        .kernel_rotational = disk->rotational, .device = device_class(disk, fd)});
    if (found.kind == PROBE_MEDIUM) {
        settle(claim, CLAIM_IGNORED, "%s", found.what);
        return;
    }
    if (rules->has_boot_partition && (found.kind != PROBE_POOL || purpose == CLAIM_WIPE) &&
        gpt_has_partition(edges->head, GPT_EDGE, disk->size, disk->sector, rules->boot_partition)) {
        settle(claim, CLAIM_IGNORED, "what this machine booted from");
        return;
    }
    if (found.kind != PROBE_POOL || purpose == CLAIM_WIPE) {
        struct disk_rules own = *rules;
        if (purpose == CLAIM_WIPE)
            own.policy = DISK_POLICY_WIPE;
        if (may_take(disk, &own, &found, claim) < 0 ||
            take(disk, edges, &found.partition, claim) < 0)
            return;
    } else if (strstr(found.what, "damaged") != NULL && !disk->read_only) {
        repair_table(disk, &found.partition, edges);
    }
    if (partition_device(fd, disk, &found.partition, claim) < 0)
        return;
    int r = look_into_partition(claim->device, claim);
    if (r == 1)
        r = make_file_system(claim->device, false, claim);
    if (r == 0 && mount_pool(claim->device, POOL_OPTIONS, claim) == 0) {
        settle_class(disk, fd, claim);
        tune_pool(claim);
    }
}

static void claim_disk(const struct disk *disk, const struct disk_rules *rules,
                       enum claim_purpose purpose, struct claim *claim)
{
    char path[DISK_NAME_MAX + 8];
    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    claim->rotational = disk->rotational;
    if (disk->size < 2 * GPT_EDGE) {
        settle(claim, CLAIM_IGNORED, disk->size == 0 ? "no medium" : "smaller than 16 MiB");
        return;
    }
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct edges *edges = malloc(sizeof(*edges));
    if (fd < 0 || edges == NULL)
        settle(claim, CLAIM_FAILED, "%s: %s", path, strerror(errno));
    else
        claim_open_disk(disk, fd, rules, purpose, edges, claim);
    free(edges);
}

int claim_make_pool(const char *device, const char *options, bool single, struct claim *ret_claim)
{
    struct claim claim = {.state = CLAIM_FAILED};
    snprintf(claim.device, sizeof(claim.device), "%.*s", DISK_NAME_MAX - 1, device);
    int r = look_into_partition(device, &claim);
    if (r == 1)
        r = make_file_system(device, single, &claim);
    if (r == 0) {
        char all[128];
        snprintf(all, sizeof(all), POOL_OPTIONS ",%s", options);
        r = mount_pool(device, all, &claim);
    }
    *ret_claim = claim;
    return r < 0 ? -EIO : 0;
}

int claim_start(const struct disk *disk, const struct disk_rules *rules, enum claim_purpose purpose,
                pid_t *ret_pid, int *ret_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        int r = -errno;
        close(fds[0]);
        close(fds[1]);
        return r;
    }
    if (pid == 0) {
        struct claim claim = {.state = CLAIM_FAILED};
        claim_disk(disk, rules, purpose, &claim);
        /* The struct is smaller than PIPE_BUF: it arrives whole or not at all. */
        _Static_assert(sizeof(struct claim) < 4096, "one write");
        _exit(file_write_all(fds[1], &claim, sizeof(claim)) < 0);
    }
    close(fds[1]);
    *ret_pid = pid;
    *ret_fd = fds[0];
    return 0;
}
