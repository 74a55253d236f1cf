/*
 * vdisk.c - the steps of a virtual disk, each of which may be the last before a crash: see vdisk.h.
 */
#include "vdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dm.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "loopdev.h"

#define FILE_DONE "disk"
#define FILE_NEW "disk.new"
/* Room for the notes of writes that are under way, which btrfs counts before it knows how small they are. */
#define LIMIT_UNDER_WAY ((uint64_t)8 << 20)
/* btrfs notes each extent in 114 bytes of tree at worst (leaves 70 % full); of 4 KiB extents that is 1/36. */
#define LIMIT_NOTES 32

uint64_t vdisk_limit(uint64_t size)
{
    return size + LUKS_HEADER_SIZE + size / LIMIT_NOTES + LIMIT_UNDER_WAY;
}

void vdisk_id(const char *key, char ret_id[VDISK_ID_SIZE])
{
    uint8_t hash[SHA256_SIZE];
    sha256(key, strlen(key), hash);
    memcpy(ret_id, VDISK_PREFIX, sizeof(VDISK_PREFIX));
    hex_encode(hash, 16, ret_id + strlen(VDISK_PREFIX));
}

/* ---- who holds it ---- */

struct vdisk_path {
    char text[64];
};

static struct vdisk_path run_path(const char *id, const char *suffix)
{
    struct vdisk_path path;
    snprintf(path.text, sizeof(path.text), VDISK_RUN "/%s%s", id, suffix);
    return path;
}

int vdisk_holder(const char *id, char ret_holder[VDISK_HOLDER_MAX + 1])
{
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read(run_path(id, ".holder").text, VDISK_HOLDER_MAX, &text, &len);
    if (r == 0)
        memcpy(ret_holder, text, len + 1);
    return r;
}

int vdisk_usage(const char *id, uint64_t *ret_size, uint64_t *ret_used)
{
    return vdisk_fs_usage(run_path(id, "").text, ret_size, ret_used);
}

static int holder_write(const char *id, const char *holder)
{
    return file_write_atomic(run_path(id, ".holder").text, holder, strlen(holder), 0600);
}

/* ---- taking down ---- */

static int busy(struct error *err)
{
    return error_set(err, EBUSY, "storage.busy", "try again",
                     "the virtual disk is still in use by what ends just now");
}

/* Whatever there is of the disk but its file. -EBUSY: the kernel does the rest when its last user is gone. */
static int take_down(const char *id)
{
    char device[LOOPDEV_PATH_MAX];
    struct vdisk_path mounted = run_path(id, "");
    while (vdisk_fs_is_mounted(mounted.text))
        if (umount2(mounted.text, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return -errno;
    (void)rmdir(mounted.text);
    int r = dm_remove(id);
    if (r < 0 && r != -ENOENT)
        return r;
    r = loopdev_find(id, device);
    if (r == 0)
        r = loopdev_detach(device);
    if (r < 0 && r != -ENOENT && r != -ENXIO)
        return r;
    return dm_find(id, device) == 0 || loopdev_find(id, device) == 0 ? -EBUSY : 0;
}

static int take_down_say(const char *id, struct error *err)
{
    int r = take_down(id);
    if (r == -EBUSY)
        return busy(err);
    return r < 0 ? error_set(err, -r, "storage.failed", "see the kernel's log",
                             "the virtual disk cannot be taken down: %s", strerror(-r))
                 : 0;
}

/* ---- bringing up ---- */

static int open_file(const struct vdisk_task *task, const char *name, int flags)
{
    char path[sizeof(task->folder) + 16];
    snprintf(path, sizeof(path), "%s/%s", task->folder, name);
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

static uint64_t file_size(const struct vdisk_task *task)
{
    return task->size / LOOPDEV_SECTOR * LOOPDEV_SECTOR +
           (task->form.encrypted ? LUKS_HEADER_SIZE : 0);
}

static int failed(struct error *err, int r, const char *what)
{
    return error_set(err, -r, r == -EIO ? "storage.disk-failed" : "storage.failed",
                     "see the kernel's log", "%s of the virtual disk: %s", what, strerror(-r));
}

static int key_needed(const struct vdisk_task *task, struct error *err)
{
    if (task->form.encrypted && !task->has_key)
        return error_set(err, EINVAL, "storage.no-key", "give the disk's key",
                         "the virtual disk is encrypted, and no key was given");
    return 0;
}

/* The device that the user sees, of a disk that is up. */
static int device_of(const struct vdisk_task *task, char ret_device[LOOPDEV_PATH_MAX])
{
    _Static_assert(LOOPDEV_PATH_MAX == DM_PATH_MAX, "one buffer for both");
    return task->form.encrypted ? dm_find(task->id, ret_device)
                                : loopdev_find(task->id, ret_device);
}

/* Loop device, and LUKS on it: `format` makes a new one. */
static int bring_up(const struct vdisk_task *task, int file, bool format,
                    char ret_device[LOOPDEV_PATH_MAX], struct error *err)
{
    char loop[LOOPDEV_PATH_MAX];
    int r = loopdev_attach(file, task->id, loop);
    if (r < 0)
        return failed(err, r, "the loop device");
    if (task->form.encrypted) {
        r = format ? luks_format(loop, task->key, err) : 0;
        if (r == 0)
            r = luks_open(loop, task->id, task->key, err);
    }
    if (r == 0) {
        r = device_of(task, ret_device);
        if (r < 0)
            return failed(err, r, "the device");
    }
    return r;
}

static bool is_raw(const struct vdisk_task *task)
{
    return strcmp(task->form.filesystem, "raw") == 0;
}

/* ---- ensure ---- */

static int make(const struct vdisk_task *task, struct error *err)
{
    char device[LOOPDEV_PATH_MAX];
    char path[sizeof(task->folder) + 16];
    char done[sizeof(task->folder) + 16];
    int r = key_needed(task, err);
    if (r == 0)
        r = take_down_say(task->id, err);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/" FILE_NEW, task->folder);
    snprintf(done, sizeof(done), "%s/" FILE_DONE, task->folder);
    if (unlink(path) < 0 && errno != ENOENT)
        return failed(err, -errno, "the half-made file");
    cleanup_close int file = open_file(task, FILE_NEW, O_RDWR | O_CREAT | O_EXCL);
    /* Written in place: a second copy of every block is what a database on it would pay twice for. */
    int flags = FS_NOCOW_FL;
    if (file < 0)
        return failed(err, file, "the file");
    if (ioctl(file, (int)FS_IOC_SETFLAGS, &flags) < 0 ||
        ftruncate(file, (off_t)file_size(task)) < 0)
        return failed(err, -errno, "the file");
    r = bring_up(task, file, true, device, err);
    if (r == 0 && !is_raw(task))
        r = vdisk_fs_make(task->form.filesystem, device, err);
    int down = take_down_say(task->id, r == 0 ? err : NULL);
    if (r == 0)
        r = down;
    if (r < 0)
        return r;
    cleanup_close int folder = open(task->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || fsync(file) < 0 || rename(path, done) < 0 || fsync(folder) < 0)
        return failed(err, -errno, "the file");
    return 0;
}

/* The devices and the file system of an attached disk take the file's size over. */
static int grow_attached(const struct vdisk_task *task, struct error *err)
{
    char device[LOOPDEV_PATH_MAX];
    int r = loopdev_find(task->id, device);
    if (r == 0)
        r = loopdev_resize(device);
    if (r < 0)
        return failed(err, r, "the size");
    if (task->form.encrypted)
        r = luks_resize(task->id, err);
    if (r == 0 && !is_raw(task)) {
        r = device_of(task, device);
        if (r < 0)
            return failed(err, r, "the device");
        r = vdisk_fs_grow(task->form.filesystem, device, run_path(task->id, "").text, err);
    }
    return r;
}

static int ensure(const struct vdisk_task *task, struct error *err)
{
    char holder[VDISK_HOLDER_MAX + 1];
    cleanup_close int file = open_file(task, FILE_DONE, O_RDWR);
    if (file == -ENOENT)
        return task->op == VDISK_ENSURE ? make(task, err) : 0;
    struct stat st;
    if (file < 0 || fstat(file, &st) < 0)
        return failed(err, file < 0 ? file : -errno, "the file");
    if ((uint64_t)st.st_size < file_size(task) &&
        (ftruncate(file, (off_t)file_size(task)) < 0 || fsync(file) < 0))
        return failed(err, -errno, "the size");
    return vdisk_holder(task->id, holder) == 0 ? grow_attached(task, err) : 0;
}

/* ---- attach ---- */

static void say_path(const struct vdisk_task *task, const char *device, struct vdisk_result *result)
{
    if (is_raw(task))
        snprintf(result->path, sizeof(result->path), "%s", device);
    else
        memcpy(result->path, run_path(task->id, "").text, sizeof(result->path));
}

static int attach(const struct vdisk_task *task, struct vdisk_result *result)
{
    struct error *err = &result->err;
    struct vdisk_path path = run_path(task->id, "");
    char device[LOOPDEV_PATH_MAX];
    char holder[VDISK_HOLDER_MAX + 1];
    if (vdisk_holder(task->id, holder) == 0) {
        if (strcmp(holder, task->holder) != 0)
            return error_set(err, EBUSY, "storage.in-use", "detach it there first",
                             "the virtual disk is attached to %s", holder);
        if (device_of(task, device) == 0 && (is_raw(task) || vdisk_fs_is_mounted(path.text))) {
            say_path(task, device, result);
            return 0;
        }
        (void)unlink(run_path(task->id, ".holder").text);
    }
    int r = key_needed(task, err);
    if (r == 0)
        r = take_down_say(task->id, err);
    if (r < 0)
        return r;
    cleanup_close int file = open_file(task, FILE_DONE, O_RDWR);
    if (file < 0)
        return file == -ENOENT ? error_set(err, ENOENT, "storage.not-found", "make it first",
                                           "the virtual disk was never made")
                               : failed(err, file, "the file");
    r = bring_up(task, file, false, device, err);
    if (r == 0 && !is_raw(task)) {
        r = vdisk_fs_mount(task->form.filesystem, device, path.text, err);
        if (r == 0) /* it may have grown while nobody held it */
            r = vdisk_fs_grow(task->form.filesystem, device, path.text, err);
    }
    if (r == 0) {
        r = holder_write(task->id, task->holder);
        if (r < 0)
            (void)failed(err, r, "the holder");
    }
    if (r < 0)
        (void)take_down(task->id);
    else
        say_path(task, device, result);
    return r;
}

/* ---- detach, trim, recover ---- */

static int detach(const struct vdisk_task *task, struct error *err)
{
    struct vdisk_path path = run_path(task->id, "");
    char holder[VDISK_HOLDER_MAX + 1];
    if (vdisk_holder(task->id, holder) == 0) {
        if (task->holder[0] != '\0' && strcmp(holder, task->holder) != 0)
            return 0;
        if (vdisk_fs_is_mounted(path.text))
            (void)vdisk_fs_trim(path.text); /* it saves room, no more */
        (void)unlink(run_path(task->id, ".holder").text);
    }
    return take_down_say(task->id, err);
}

static int take_down_dm(const char *name, void *attached_too)
{
    char holder[VDISK_HOLDER_MAX + 1];
    if (*(const bool *)attached_too || vdisk_holder(name, holder) == -ENOENT)
        (void)take_down(name);
    return 0;
}

static int take_down_loop(const char *name, const char *device, void *attached_too)
{
    (void)device;
    return take_down_dm(name, attached_too);
}

/* dm first: it stands on loop devices. */
static int take_down_all(bool attached_too)
{
    int r = dm_each(VDISK_PREFIX, take_down_dm, &attached_too);
    return r == 0 ? loopdev_each(VDISK_PREFIX, take_down_loop, &attached_too) : r;
}

/* What was half made when the last storaged ended. */
static int recover(struct error *err)
{
    int r = file_mkdirs(VDISK_RUN, 0711);
    if (r == 0)
        r = take_down_all(false);
    return r < 0 ? failed(err, r, "the devices") : 0;
}

void vdisk_run(const struct vdisk_task *task, struct vdisk_result *ret_result)
{
    struct vdisk_result *result = ret_result;
    *result = (struct vdisk_result){.status = 0};
    switch (task->op) {
    case VDISK_ENSURE:
    case VDISK_GROW:
        result->status = ensure(task, &result->err);
        break;
    case VDISK_ATTACH:
        result->status = attach(task, result);
        break;
    case VDISK_DETACH:
        result->status = detach(task, &result->err);
        break;
    case VDISK_TRIM:
        result->status = vdisk_fs_trim(run_path(task->id, "").text);
        break;
    case VDISK_RECOVER:
        result->status = recover(&result->err);
        break;
    case VDISK_STOP:
        result->status = take_down_all(true);
        break;
    }
}
