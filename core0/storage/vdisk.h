/*
 * vdisk.h - virtual disks: a block device of a given size, kept as one file in a volume of its own.
 *
 *   volumes/<key>/disk  ──loop device──►  (LUKS2, dm-crypt)  ──►  ext4 or btrfs at VDISK_RUN/<id>, or the bare device
 *
 * Invariants
 *  1. The file is called `disk.new` until it is formatted; only `disk` was ever finished.
 *  2. A disk is attached exactly when VDISK_RUN/<id>.holder exists, which names who holds it and is written last. Devices
 *     and mounts without it are half made: whoever meets them takes them down, and so does every start.
 *  3. Loop and device-mapper devices carry the disk's id as their name, so that nothing needs to be remembered.
 *  4. A key is known to the one child process that uses it, and wiped in the daemon as soon as that child has it.
 *
 * What takes long (cryptsetup, mkfs, a dying disk) is done by child processes, one at a time per disk: vdisk_run().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "luks.h"
#include "storage.h"

#define VDISK_RUN "/run/croft/disks"
#define VDISK_PREFIX "croft-"
#define VDISK_ID_SIZE (sizeof(VDISK_PREFIX) + 32) /* and the NUL byte */
#define VDISK_HOLDER_MAX 127
#define VDISK_SIZE_MIN ((uint64_t)32 << 20)
#define VDISK_SIZE_MIN_BTRFS ((uint64_t)256 << 20) /* the kernel resizes none to less */

enum vdisk_op {
    VDISK_ENSURE,
    VDISK_GROW, /* one that was made, if it was */
    VDISK_ATTACH,
    VDISK_DETACH,
    VDISK_TRIM,
    VDISK_RECOVER, /* every disk that is half made */
    VDISK_STOP,    /* every disk */
};

struct vdisk_task {
    enum vdisk_op op;
    char id[VDISK_ID_SIZE];
    char folder[512]; /* of the volume */
    uint64_t size;    /* bytes; the device that its user sees has as many whole sectors */
    struct volume_form form;
    bool has_key;
    uint8_t key[LUKS_KEY_SIZE];
    char holder[VDISK_HOLDER_MAX + 1]; /* VDISK_ATTACH; VDISK_DETACH: only from that one, "": any */
};

struct vdisk_result {
    int status; /* 0 or -errno */
    struct error err;
    char path[64]; /* VDISK_ATTACH: the mounted file system, or the block device when it is raw */
};

/* What the file of a virtual disk of that size may take on its pool. */
uint64_t vdisk_limit(uint64_t size);

/* ---- vdisk.c: in a child process, blocking ---- */
void vdisk_run(const struct vdisk_task *task, struct vdisk_result *ret_result);

/* "croft-" and 128 bits of the key's SHA-256 in hex. */
void vdisk_id(const char *key, char ret_id[VDISK_ID_SIZE]);
/* Who holds the disk now. -ENOENT: nobody. */
int vdisk_holder(const char *id, char ret_holder[VDISK_HOLDER_MAX + 1]);
/* As vdisk_fs_usage(), of the file system on it. */
int vdisk_usage(const char *id, uint64_t *ret_size, uint64_t *ret_used);

/* ---- vdisk_fs.c ---- */
/* "ext4" or "btrfs" on a device that reads as garbage or zeros. */
int vdisk_fs_make(const char *filesystem, const char *device, struct error *err);
int vdisk_fs_mount(const char *filesystem, const char *device, const char *path, struct error *err);
bool vdisk_fs_is_mounted(const char *path);
/* Bytes of the mounted file system, and how many of them its user has no more. -ENOTCONN: it is not mounted. Asks no disk. */
int vdisk_fs_usage(const char *path, uint64_t *ret_size, uint64_t *ret_used);
/* Lets the mounted file system fill its device. */
int vdisk_fs_grow(const char *filesystem, const char *device, const char *path, struct error *err);
/* Tells the device about large free areas, so that their room goes back to the pool. */
int vdisk_fs_trim(const char *path);

/* ---- vdisk_job.c: the daemon's side ---- */
/* Does the task in a child, after what is under way with that disk, and answers the call (NULL: none). Wipes the key. */
void vdisk_do(struct storage *storage, struct vdisk_task *task, bool created,
              struct varlink_call *call);
/* Takes down what a predecessor left half made, and trims now and then. Calls wait until the former is done. */
void vdisk_start(struct storage *storage);
/* The machine stops: every disk is detached, and this waits for it. */
void vdisk_stop(void);
/* May the disk be removed? 0, or -EBUSY: storage.busy (something is under way), storage.in-use (somebody holds it). */
int vdisk_idle(const struct storage *storage, const char *key, struct error *err);

/* ---- vdisk_service.c: methods ---- */
void vdisk_method_ensure(struct varlink_call *call, yyjson_val *params, void *data);
void vdisk_method_attach(struct varlink_call *call, yyjson_val *params, void *data);
void vdisk_method_detach(struct varlink_call *call, yyjson_val *params, void *data);
/* The volume was given another size: the disk in it follows. Answers the call. */
void vdisk_grow(struct storage *storage, const struct volume *volume, struct varlink_call *call);
/* Adds what ListVolumes says of a disk. */
void vdisk_describe(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct volume *volume);
