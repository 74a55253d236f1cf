/*
 * storage.h - what storaged knows: its disks and pools. Volumes are never kept in memory, only on their pool.
 */
#pragma once

#include "claim.h"
#include "disk.h"
#include "lib/daemon.h"
#include "lib/json.h"
#include "roster.h"
#include "uevent.h"

#define STORAGE_ROOT "/var/croft"
/* initramfs/etc/passwd */
#define STORAGE_UID_NODED 105
#define STORAGE_UID_PROVD 106
#define STORAGE_UID_KVD 107
#define STORAGE_UID_GATED 108
/* A disk that is being wiped may have to discard all it has first. */
#define STORAGE_PATIENCE_WIPE_US ((uint64_t)300 * 1000000)
/* Why a boot goes on without a disk that does not answer: with a pool at hand, and without. */
#define STORAGE_PATIENCE_US ((uint64_t)20 * 1000000)
#define STORAGE_PATIENCE_ALONE_US ((uint64_t)90 * 1000000)

struct pool {
    struct pool *next;
    char uuid[GPT_GUID_TEXT];
    char disk[DISK_NAME_MAX];
    bool rotational;
    bool ephemeral;
    bool primary;
    bool read_only;  /* btrfs writes no more after an error, and it was told */
    bool bad_writes; /* writes failed since it was mounted, and it was told */
    bool failing; /* its disk expects to fail, or takes no more writes: nothing new is put there */
    uint64_t write_errors; /* that btrfs has counted in all its life, when it was mounted */
    int fd;                /* its root folder */
    uint64_t size;         /* bytes of its device */
    uint64_t usable;       /* bytes that volumes may be promised */
    uint64_t
        own; /* bytes for images, logs and state; the rest of size is what btrfs needs for itself */
};

struct disk_entry {
    struct disk_entry *next;
    struct storage *storage;
    struct disk disk;
    enum claim_state state;
    char detail[160];
    char basis[CLASS_TEXT]; /* of its class */
    struct smart smart;
    bool gone; /* pulled while its child was at work: on no list, freed when the child ends */
    bool late; /* its child has not ended in time: nobody waits for it any more */
    uint64_t begun_us; /* when the child began */
    /* The child at work, pid 0 when it has ended. */
    enum claim_purpose purpose;
    pid_t pid;
    int fd;
    struct loop_child *child;
    struct varlink_call *wipe; /* waits for the child */
};

/* A caller that waits until every disk has answered. */
struct disk_check {
    struct disk_check *next;
    struct varlink_call *call;
};

struct storage {
    struct daemon *daemon;
    struct disk_rules rules;
    struct disk_entry *disks;  /* by name */
    size_t working;            /* children that claim and have not ended */
    size_t checking;           /* children that ask for health */
    struct disk_check *checks; /* who waits for all of these */
    struct roster roster;
    bool roster_owed; /* a copy was not written, as its disk was late */
    struct uevent *uevent;
    struct loop_timer *patience;
    struct loop_timer *lateness; /* the next disk that does not answer in time */
    bool lateness_set;
    struct loop_timer *hourly;
    struct loop_timer *often;     /* whether a pool takes no more writes */
    struct loop_timer *snapshots; /* the next one that a policy wants */
    struct pool *pools;           /* fastest first: ssd before hdd, larger before smaller */
    struct pool *silent;          /* mounted, but their disks do not answer: silent.h */
    struct silent_look *looks;    /* at the disks of pools */
    struct loop_timer *silence;   /* the next look */
    bool ready;
    struct space_servers *spaces;   /* space.h */
    struct vdisk_job *vdisk_jobs;   /* in the order they came; vdisk_job.c */
    struct volume_job *volume_jobs; /* volume_job.h */
    const char *written; /* the volume whose shrinking goes on, as its data is on the disk now */
    struct loop_timer *vdisk_timer;
};

/* ---- main.c ---- */
/* No claim is under way any more, or the list of pools changed. */
void storage_settled(struct storage *storage);
/* 0, or storage.busy while it cannot be known what there is: a volume would be made twice, or taken for gone. */
int storage_check_ready(const struct storage *storage, struct error *err);
/* Reads the parameters of a request about volumes, as json_read does, and checks that. */
int storage_read(const struct storage *storage, yyjson_val *params, const struct json_field *fields,
                 size_t count, void *dest, struct error *err);

/* ---- hotplug.c ---- */
/* Compares /sys/block with what is known: claims what came, drops what went. */
int hotplug_sync(struct storage *storage);
/* From now on by itself, when the kernel says so. */
int hotplug_start(struct storage *storage);
int hotplug_begin(struct disk_entry *entry, enum claim_purpose purpose);
/* Nobody waits any more for what the disk's child finds: it counts as failed until it answers. */
void hotplug_give_up(struct disk_entry *entry);

/* ---- health.c ---- */
int health_start(struct storage *storage); /* every hour, and pools every few seconds */
/* A pool was mounted: what went wrong before does not count. */
void health_begin(struct pool *pool);
/* Takes over what a child learned, and adds what the disk's pool saw. */
void health_learned(struct disk_entry *entry, const struct smart *learned);
/* A child ended: answers those who wait for all of them. */
void health_settled(struct storage *storage);
/* Varlink: asks every disk now, and tries again those that failed. */
void health_check(struct varlink_call *call, yyjson_val *params, void *data);

/* ---- wipe.c ---- */
/* Varlink: makes a disk empty and a new pool of it. */
void wipe_disk(struct varlink_call *call, yyjson_val *params, void *data);
/* The child that wiped ended, or the disk was pulled meanwhile: answers the caller. */
void wipe_ended(struct disk_entry *entry);

/* ---- roster_keep.c ---- */
/* A pool came: takes over its copy of the roster if that is the newest. */
void roster_take(struct storage *storage, const struct pool *pool);
/* Pools came or went: what lies on them is what is true. Writes the copies. */
void roster_update(struct storage *storage);
/* A volume was made or changed. */
void roster_changed(struct storage *storage, const char *key);
/* storage.volume-lost, if the volume is known to lie on a pool that is not there; storage.disk-failed, if its disk does not answer. */
int roster_check(const struct storage *storage, const char *key, struct error *err);
/* Why it cannot be had: the code of roster_check(). */
const char *roster_error(const struct storage *storage, const struct roster_entry *entry);
/* The next lost volume from *at on (which begins with 0); NULL: no more. */
const struct roster_entry *roster_next_lost(const struct storage *storage, size_t *at);
/* Notes until when a lost volume is kept; false: it is not lost. */
bool roster_keep(struct storage *storage, const char *key, int64_t until);
/* The volume is not wanted any more, wherever it is. */
void roster_forget(struct storage *storage, const char *key);
void roster_forget_pool(struct storage *storage, const char *uuid);

/* ---- lost.c ---- */
struct pool *pool_of(const struct storage *storage, const char *disk);
/* Takes a pool off the list; it is not unmounted. What lies on it is told that it is gone. */
void pool_drop(struct storage *storage, struct pool *pool);
/* The pool's disk is gone. */
void pool_lose(struct storage *storage, struct pool *pool);

/* ---- key.c ---- */
/* Four parts of the allowed characters: what volumes and namespaces are known by. */
bool volume_key_is_valid(const char *key);

/* ---- pool.c ---- */
/* Opens a pool that was just mounted, switches limits on, makes its folders, and adds it. */
int pool_add(struct storage *storage, const struct claim *claim, const struct disk *disk,
             bool ephemeral, struct error *err);
/* Puts it where it belongs in the list. */
void pool_insert(struct storage *storage, struct pool *pool);
/* Bytes of a pool of that size that volumes may be promised, and how many its own folders may take. */
void pool_plan(uint64_t size, uint64_t *ret_usable, uint64_t *ret_own);
/* Mounts the fastest pool at STORAGE_ROOT, unless it is mounted already. */
int pool_mount_primary(struct storage *storage, struct error *err);
const char *pool_kind(const struct pool *pool); /* "ssd" or "hdd" */
void pool_path(const struct pool *pool, char *ret_path, size_t size);
/* Bytes that the pool's volumes and folders hold, as btrfs counts them, and those of its volumes alone. */
int pool_used(const struct pool *pool, uint64_t *ret_used, uint64_t *ret_volumes);

/* ---- zram.c ---- */
/* A pool in memory: bounded by a quarter of it. Takes back the one of a predecessor. */
int zram_pool(struct storage *storage, struct error *err);

/* ---- volume.c ---- */
/* A folder, or the file of a virtual disk (vdisk.h). */
struct volume_form {
    char filesystem[8]; /* "ext4", "btrfs", "raw": what is inside the virtual disk; "": a folder */
    bool encrypted;
};

/* One each so many ms, of which so many stay. {0, 0}: none. */
struct snapshot_policy {
    uint64_t every_ms;
    uint64_t keep;
};

struct volume {
    char key[256];
    uint64_t size;
    uint64_t used;
    int64_t keep_until; /* 0: none */
    struct volume_form form;
    struct snapshot_policy policy;
    unsigned snapshots; /* their number */
    char path[512];
    const struct pool *pool;
};
typedef int volume_fn(const struct volume *volume, void *data);

int volume_key_check(const char *key, struct error *err);
/* Calls fn for each volume of the pool, in no order. Stops at the first answer other than 0 and returns it. */
int volume_each(const struct pool *pool, volume_fn *fn, void *data);
bool volume_is_disk(const struct volume *volume);
/* What a caller wants to have. */
struct volume_wish {
    const char *key;
    const char *kind; /* "ssd", "hdd" */
    uint64_t size;
    bool at_least; /* a larger size stays as it is */
    bool
        later; /* one that exists keeps its size for now; whether there is space to grow it is said */
    struct volume_form form;
};
int volume_ensure(struct storage *storage, const struct volume_wish *wish,
                  struct volume *ret_volume, bool *ret_created, struct error *err);
/* storage.too-small: more is used, or it is a virtual disk and the size smaller. storage.no-space.
 * Here and above -EINPROGRESS, without an error: the volume is to be smaller, takes no more than that from now on, and its data has
 * to be written before it is known whether it fits; volume_shrink() goes on. */
int volume_resize(struct storage *storage, const char *key, uint64_t size, struct error *err);
/* Waits for the data of the volume and calls the method once more, which then decides. Answers the call in any case. */
void volume_shrink(struct storage *storage, const char *key, struct varlink_call *call,
                   varlink_method_fn *method, yyjson_val *params);
int volume_keep(struct storage *storage, const char *key, int64_t until, struct error *err);
int volume_remove(struct storage *storage, const char *key, struct error *err);
uint64_t volume_reserved(const struct pool *pool);
uint64_t pool_free(const struct pool *pool); /* bytes that may still be promised */
/* After a start: removes what was half made, sets every limit again. */
void volume_recover(const struct pool *pool);

/* ---- service.c ---- */
extern const struct varlink_interface storage_interface;
