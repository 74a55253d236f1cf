/*
 * storage.h - what storaged knows: its disks and pools. Volumes are never kept in memory, only on their pool.
 */
#pragma once

#include "claim.h"
#include "disk.h"
#include "lib/daemon.h"

#define STORAGE_ROOT "/var/croft"
/* initramfs/etc/passwd */
#define STORAGE_UID_NODED 105
#define STORAGE_UID_PROVD 106
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
    int fd;          /* its root folder */
    uint64_t size;   /* bytes of its device */
    uint64_t usable; /* bytes that volumes may be promised */
};

struct disk_entry {
    struct disk disk;
    enum claim_state state;
    char detail[160];
    /* The child at work, pid 0 when it has ended. */
    struct storage *storage;
    pid_t pid;
    int fd;
    struct loop_child *child;
};

struct storage {
    struct daemon *daemon;
    struct disk_rules rules;
    struct disk_entry disks[DISKS_MAX];
    size_t disk_count;
    size_t working; /* children that have not ended */
    struct loop_timer *patience;
    struct pool *pools; /* fastest first: ssd before hdd, larger before smaller */
    bool ready;
};

/* ---- pool.c ---- */
/* Opens a pool that was just mounted, switches limits on, makes its folders, and adds it. */
int pool_add(struct storage *storage, const struct claim *claim, const struct disk *disk,
             bool ephemeral, struct error *err);
/* Bytes of a pool of that size that volumes may be promised, and how many its own folders may take. */
void pool_plan(uint64_t size, uint64_t *ret_usable, uint64_t *ret_own);
/* Mounts the fastest pool at STORAGE_ROOT, unless it is mounted already. */
int pool_mount_primary(struct storage *storage, struct error *err);
const char *pool_kind(const struct pool *pool); /* "ssd" or "hdd" */
void pool_path(const struct pool *pool, char *ret_path, size_t size);
int pool_used(const struct pool *pool, uint64_t *ret_used);

/* ---- zram.c ---- */
/* A pool in memory: bounded by a quarter of it. Takes back the one of a predecessor. */
int zram_pool(struct storage *storage, struct error *err);

/* ---- volume.c ---- */
struct volume {
    char key[256];
    uint64_t size;
    uint64_t used;
    int64_t keep_until; /* 0: none */
    char path[512];
    const struct pool *pool;
};
typedef int volume_fn(const struct volume *volume, void *data);

int volume_key_check(const char *key, struct error *err);
/* Calls fn for each volume of the pool, in no order. Stops at the first answer other than 0 and returns it. */
int volume_each(const struct pool *pool, volume_fn *fn, void *data);
int volume_ensure(struct storage *storage, const char *key, const char *kind, uint64_t size,
                  struct volume *ret_volume, bool *ret_created, struct error *err);
int volume_keep(struct storage *storage, const char *key, int64_t until, struct error *err);
int volume_remove(struct storage *storage, const char *key, struct error *err);
uint64_t volume_reserved(const struct pool *pool);
/* After a start: removes what was half made, sets every limit again. */
void volume_recover(const struct pool *pool);

/* ---- service.c ---- */
extern const struct varlink_interface storage_interface;
