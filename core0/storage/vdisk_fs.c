/*
 * vdisk_fs.c - the file system inside a virtual disk: made, mounted, grown, trimmed. See vdisk.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/process.h"
#include "vdisk.h"

#define MKFS_TIMEOUT_US ((uint64_t)300 * 1000000)
#define BLOCK 4096u
/*
 * btrfs frees an extent when nothing of it is used any more. Below this, trimmed areas would mostly be parts of extents
 * (they have up to 1.25 MiB, as the loop device writes them), and what is written there later would count twice.
 */
#define TRIM_MIN ((uint64_t)16 << 20)
/* linux/ext4.h is not for programs: fs/ext4/ext4.h, EXT4_IOC_RESIZE_FS; the argument is the new number of blocks. */
#define EXT4_RESIZE _IOW('f', 16, uint64_t)

static int fs_ioctl(const char *path, unsigned long request, void *arg)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
#ifdef __GLIBC__
    return ioctl(fd, request, arg) < 0 ? -errno : 0;
#else /* musl declares an int; the bits are the same */
    return ioctl(fd, (int)request, arg) < 0 ? -errno : 0;
#endif
}

int vdisk_fs_make(const char *filesystem, const char *device, struct error *err)
{
    /* Nothing is kept back for root: the disk is its user's alone. What was never written needs no discard. */
    static const char *const ext4[] = {
        "/usr/bin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E",
        "nodiscard",       NULL};
    static const char *const btrfs[] = {"/usr/bin/mkfs.btrfs", "--quiet", "--force", "--nodiscard",
                                        NULL};
    const char *const *args = strcmp(filesystem, "ext4") == 0 ? ext4 : btrfs;
    const char *argv[16];
    size_t count = 0;
    for (; args[count] != NULL; count++)
        argv[count] = args[count];
    argv[count++] = device;
    argv[count] = NULL;
    struct process_options options = {.timeout_us = MKFS_TIMEOUT_US};
    return process_check(argv, &options, "storage.mkfs-failed", err);
}

bool vdisk_fs_is_mounted(const char *path)
{
    struct stat inside;
    struct stat outside;
    return stat(path, &inside) == 0 && stat(VDISK_RUN, &outside) == 0 &&
           inside.st_dev != outside.st_dev;
}

int vdisk_fs_usage(const char *path, uint64_t *ret_size, uint64_t *ret_used)
{
    struct statvfs fs;

    if (!vdisk_fs_is_mounted(path))
        return -ENOTCONN;
    if (statvfs(path, &fs) < 0)
        return -errno;
    *ret_size = (uint64_t)fs.f_blocks * fs.f_frsize;
    *ret_used = (uint64_t)(fs.f_blocks - fs.f_bavail) * fs.f_frsize;
    return 0;
}

int vdisk_fs_mount(const char *filesystem, const char *device, const char *path, struct error *err)
{
    int r = file_mkdirs(path, 0711);
    if (r == 0 && mount(device, path, filesystem, MS_NOSUID | MS_NODEV | MS_NOATIME, NULL) < 0)
        r = -errno;
    return r < 0 ? error_set(err, -r, "storage.failed", "see the kernel's log",
                             "the %s on the virtual disk cannot be mounted: %s", filesystem,
                             strerror(-r))
                 : 0;
}

static int device_size(const char *device, uint64_t *ret_size)
{
    return fs_ioctl(device, BLKGETSIZE64, ret_size);
}

int vdisk_fs_grow(const char *filesystem, const char *device, const char *path, struct error *err)
{
    uint64_t size = 0;
    int r = device_size(device, &size);
    if (r == 0 && strcmp(filesystem, "ext4") == 0) {
        uint64_t blocks = size / BLOCK;
        r = fs_ioctl(path, EXT4_RESIZE, &blocks);
    } else if (r == 0) {
        struct btrfs_ioctl_vol_args args = {.name = "max"};
        r = fs_ioctl(path, BTRFS_IOC_RESIZE, &args);
    }
    return r < 0 ? error_set(err, -r, "storage.failed", "see the kernel's log",
                             "the %s on the virtual disk cannot be grown: %s", filesystem,
                             strerror(-r))
                 : 0;
}

int vdisk_fs_trim(const char *path)
{
    struct fstrim_range range = {.len = UINT64_MAX, .minlen = TRIM_MIN};
    return fs_ioctl(path, FITRIM, &range);
}
