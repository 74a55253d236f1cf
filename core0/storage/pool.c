/*
 * pool.c - mounted pools: their folders, what lies on them, and which one is /var/croft.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "btrfs.h"
#include "lib/file.h"
#include "lib/log.h"
#include "storage.h"

const char *pool_kind(const struct pool *pool)
{
    return pool->rotational ? "hdd" : "ssd";
}

void pool_path(const struct pool *pool, char *ret_path, size_t size)
{
    snprintf(ret_path, size, CLAIM_POOLS "/%s", pool->uuid);
}

static int add_used(const struct volume *volume, void *data)
{
    *(uint64_t *)data += volume->used;
    return 0;
}

int pool_used(const struct pool *pool, uint64_t *ret_used, uint64_t *ret_volumes)
{
    uint64_t used;
    uint64_t volumes = 0;
    int r = btrfs_used(pool->fd, &used);
    if (r == 0)
        r = volume_each(pool, add_used, &volumes);
    if (r < 0)
        return r;
    *ret_used = used;
    *ret_volumes = volumes;
    return 0;
}

static int make_folder(int fd, const char *name, mode_t mode, uid_t uid)
{
    if (mkdirat(fd, name, mode) < 0 && errno != EEXIST)
        return -errno;
    /* The umask must not matter, nor what a predecessor left half done. */
    if (fchownat(fd, name, uid, uid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(fd, name, mode, 0) < 0)
        return -errno;
    return 0;
}

/* noded overwrites the key shares that it destroys, where they lie (docs/decisions/0161): new files inherit it. */
static int make_identity(int fd)
{
    int flags = 0;
    int r = make_folder(fd, "identity", 0700, STORAGE_UID_NODED);
    cleanup_close int folder =
        openat(fd, "identity", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r < 0 || folder < 0)
        return r < 0 ? r : -errno;
    r = file_ioctl(folder, FS_IOC_GETFLAGS, &flags);
    if (r == 0 && (flags & FS_NOCOW_FL) == 0) {
        flags |= FS_NOCOW_FL;
        r = file_ioctl(folder, FS_IOC_SETFLAGS, &flags);
    }
    return r;
}

/* Images get a limit of their own, so that fetching can never take what volumes were promised. */
static int make_images(int fd, uint64_t bytes)
{
    int r = btrfs_subvolume_create(fd, "images");
    if (r < 0 && r != -EEXIST)
        return r;
    if (fchmodat(fd, "images", 0711, 0) < 0)
        return -errno;
    cleanup_close int images =
        openat(fd, "images", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t id = 0;
    r = images < 0 ? -errno : btrfs_subvolume_id(images, &id);
    return r < 0 ? r : btrfs_limit_set(fd, id, bytes);
}

static int pool_prepare(const struct pool *pool)
{
    int r = btrfs_quota_enable(pool->fd);
    if (r < 0)
        return r;
    if (fchmod(pool->fd, 0711) < 0)
        return -errno;
    static const struct {
        const char *name;
        mode_t mode;
        uid_t uid;
    } folders[] = {
        {"volumes", 0711, 0},
        {"snapshots", 0711, 0},
        {"state", 0711, 0},
        {"logs", 0711, 0},
    };
    r = make_identity(pool->fd);
    for (size_t i = 0; r == 0 && i < sizeof(folders) / sizeof(folders[0]); i++) {
        r = make_folder(pool->fd, folders[i].name, folders[i].mode, folders[i].uid);
    }
    if (r < 0)
        return r;
    /* Three quarters of our share; the rest is for logs, state and identity. */
    return make_images(pool->fd, pool->own / 4 * 3);
}

void pool_insert(struct storage *storage, struct pool *pool)
{
    struct pool **at = &storage->pools;
    while (*at != NULL && ((*at)->rotational < pool->rotational ||
                           ((*at)->rotational == pool->rotational && (*at)->size >= pool->size)))
        at = &(*at)->next;
    pool->next = *at;
    *at = pool;
}

int pool_add(struct storage *storage, const struct claim *claim, const struct disk *disk,
             bool ephemeral, struct error *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL)
        return error_set(err, ENOMEM, "storage.no-memory", "", "no memory for another pool");
    snprintf(pool->uuid, sizeof(pool->uuid), "%s", claim->uuid);
    snprintf(pool->disk, sizeof(pool->disk), "%s", disk->name);
    pool->rotational = disk->rotational;
    pool->ephemeral = ephemeral;
    pool->size = disk->size;
    pool_plan(disk->size, &pool->usable, &pool->own);
    char path[128];
    pool_path(pool, path, sizeof(path));
    pool->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = pool->fd < 0 ? -errno : pool_prepare(pool);
    if (r < 0) {
        if (pool->fd >= 0)
            close(pool->fd);
        (void)umount2(path, MNT_DETACH);
        free(pool);
        return error_set(err, -r, "storage.pool-failed", "replace the disk if this stays",
                         "the pool on %s cannot be used: %s", disk->name, strerror(-r));
    }
    volume_recover(pool);
    health_begin(pool);
    pool_insert(storage, pool);
    return 0;
}

int pool_mount_primary(struct storage *storage, struct error *err)
{
    struct stat root;
    bool mounted = stat(STORAGE_ROOT, &root) == 0;
    struct stat parent;
    if (mounted && stat("/var", &parent) == 0 && root.st_dev != parent.st_dev) {
        for (struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
            struct stat st;
            if (fstat(pool->fd, &st) == 0 && st.st_dev == root.st_dev) {
                pool->primary = true;
                return 0;
            }
        }
    }
    struct pool *pool = storage->pools;
    if (pool == NULL)
        return error_set(err, ENODEV, "storage.no-pool", "", "there is no pool to mount");
    char path[128];
    pool_path(pool, path, sizeof(path));
    int r = file_mkdirs(STORAGE_ROOT, 0711);
    if (r == 0 && mount(path, STORAGE_ROOT, NULL, MS_BIND, NULL) < 0)
        r = -errno;
    if (r < 0)
        return error_set(err, -r, "storage.pool-failed", "", "%s cannot be mounted: %s",
                         STORAGE_ROOT, strerror(-r));
    pool->primary = true;
    return 0;
}
