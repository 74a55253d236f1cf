/*
 * volume.c - volumes: subvolumes with a hard size limit, one per key, on a pool of the wanted kind.
 *
 * Invariants. A volume is the subvolume volumes/<key with '+' for '/'>. Its description is the extended attribute
 * trusted.croft.volume on its root, which no user namespace can read or write; it is set last, so that a subvolume
 * without it is half made and goes at the next start. The attribute is the truth, the quota group follows it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "btrfs.h"
#include "lib/file.h"
#include "lib/log.h"
#include "space.h"
#include "storage.h"

#define ATTRIBUTE "trusted.croft.volume"
#define ATTRIBUTE_ROOM ((uint64_t)1 << 20) /* what btrfs sets aside for one change of metadata */
#define SIZE_MIN ((uint64_t)1 << 20)       /* below, btrfs's own blocks are all there is */

/* "<size> <keep until>": two numbers, nothing that would want a parser. */
static int attribute_write(int fd, uint64_t size, int64_t keep_until)
{
    char text[64];
    int len =
        snprintf(text, sizeof(text), "%llu %lld", (unsigned long long)size, (long long)keep_until);
    if (fsetxattr(fd, ATTRIBUTE, text, (size_t)len, 0) < 0)
        return -errno;
    /* The description must be on the disk before anybody relies on it. */
    return syncfs(fd) < 0 ? -errno : 0;
}

static int attribute_read(int fd, uint64_t *ret_size, int64_t *ret_keep_until)
{
    char text[64];
    ssize_t len = fgetxattr(fd, ATTRIBUTE, text, sizeof(text) - 1);
    if (len < 0)
        return -errno;
    text[len] = '\0';
    unsigned long long size;
    long long keep;
    if (sscanf(text, "%llu %lld", &size, &keep) != 2)
        return -EINVAL;
    *ret_size = size;
    *ret_keep_until = keep;
    return 0;
}

/* A full volume has no room for its own description: the limit gives way meanwhile. volume_recover sets it again. */
static int attribute_change(const struct pool *pool, int fd, uint64_t size, int64_t keep_until)
{
    uint64_t id;
    int r = attribute_write(fd, size, keep_until);
    if (r != -EDQUOT)
        return r;
    r = btrfs_subvolume_id(fd, &id);
    if (r == 0)
        r = btrfs_limit_set(pool->fd, id, size + ATTRIBUTE_ROOM);
    if (r < 0)
        return r;
    r = attribute_write(fd, size, keep_until);
    int restored = btrfs_limit_set(pool->fd, id, size);
    return r < 0 ? r : restored;
}

/* Names of tenants, projects, volumes and services: what compose allows, and no folder of that name climbs. */
static bool is_key_part(const char *part, size_t len)
{
    if (len == 0 || len > 64 || part[0] == '.' || part[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", part[i]) ==
            NULL)
            return false;
    return true;
}

bool volume_key_is_valid(const char *key)
{
    const char *at = key;
    size_t parts = 0;
    bool good = strlen(key) < sizeof(((struct volume *)NULL)->key);
    for (; good; at++) {
        size_t len = strcspn(at, "/");
        good = is_key_part(at, len);
        parts++;
        at += len;
        if (*at == '\0')
            break;
    }
    return good && parts == 4;
}

int volume_key_check(const char *key, struct error *err)
{
    if (!volume_key_is_valid(key) ||
        (strncmp(key, "volume/", 7) != 0 && strncmp(key, "scratch/", 8) != 0))
        return error_set(err, EINVAL, "storage.bad-key", "", "'%.80s' is no key of a volume", key);
    return 0;
}

static void key_to_name(const char *key, char name[256])
{
    size_t i = 0;
    for (; i < 255 && key[i] != '\0'; i++)
        name[i] = (char)(key[i] == '/' ? '+' : key[i]);
    name[i] = '\0';
}

static int open_volumes(const struct pool *pool)
{
    int fd = openat(pool->fd, "volumes", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Reads the volume `name` of the open folder. -ENOENT: none; -ENODATA: half made. */
static int volume_load(const struct pool *pool, int folder, const char *name,
                       struct volume *ret_volume)
{
    cleanup_close int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct volume volume = {.pool = pool};
    int r = attribute_read(fd, &volume.size, &volume.keep_until);
    if (r < 0)
        return r;
    uint64_t id;
    uint64_t limit;
    r = btrfs_subvolume_id(fd, &id);
    if (r < 0)
        return r;
    if (btrfs_limit_get(pool->fd, id, &volume.used, &limit) < 0)
        volume.used = 0;
    for (size_t i = 0; i < sizeof(volume.key) - 1 && name[i] != '\0'; i++)
        volume.key[i] = (char)(name[i] == '+' ? '/' : name[i]);
    char path[128];
    pool_path(pool, path, sizeof(path));
    snprintf(volume.path, sizeof(volume.path), "%s/volumes/%s", path, name);
    *ret_volume = volume;
    return 0;
}

int volume_each(const struct pool *pool, volume_fn *fn, void *data)
{
    int folder = open_volumes(pool);
    DIR *dir = folder < 0 ? NULL : fdopendir(folder);
    if (dir == NULL) {
        int r = folder < 0 ? folder : -errno;
        if (folder >= 0)
            close(folder);
        return r;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir)) != NULL;) {
        struct volume volume;
        if (entry->d_name[0] != '.' && volume_load(pool, dirfd(dir), entry->d_name, &volume) == 0)
            r = fn(&volume, data);
    }
    closedir(dir);
    return r;
}

static int add_size(const struct volume *volume, void *data)
{
    *(uint64_t *)data += volume->size;
    return 0;
}

uint64_t volume_reserved(const struct pool *pool)
{
    uint64_t sum = 0;
    (void)volume_each(pool, add_size, &sum);
    return sum;
}

static int set_limit(const struct pool *pool, int folder, const char *name, uint64_t size)
{
    cleanup_close int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t id = 0;
    int r = fd < 0 ? -errno : btrfs_subvolume_id(fd, &id);
    return r < 0 ? r : btrfs_limit_set(pool->fd, id, size);
}

void volume_recover(const struct pool *pool)
{
    int folder = open_volumes(pool);
    DIR *dir = folder < 0 ? NULL : fdopendir(folder);
    if (dir == NULL) {
        if (folder >= 0)
            close(folder);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct volume volume;
        if (entry->d_name[0] == '.')
            continue;
        int r = volume_load(pool, dirfd(dir), entry->d_name, &volume);
        if (r == 0)
            r = set_limit(pool, dirfd(dir), entry->d_name, volume.size);
        else if (r == -ENODATA)
            r = btrfs_subvolume_remove(dirfd(dir), entry->d_name);
        if (r < 0)
            log_warn("volume %s on %s: %s", entry->d_name, pool->disk, strerror(-r));
    }
    closedir(dir);
    (void)btrfs_limit_sweep(pool->fd);
}

/* Finds the volume on any pool. 0, -ENOENT, or what went wrong. *ret_folder is the open folder it lies in. */
static int volume_find(const struct storage *storage, const char *name, struct volume *ret_volume,
                       int *ret_folder)
{
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        int folder = open_volumes(pool);
        if (folder < 0)
            return folder;
        int r = volume_load(pool, folder, name, ret_volume);
        if (r == -ENODATA) {
            r = btrfs_subvolume_remove(folder, name);
            r = r < 0 ? r : -ENOENT;
        }
        if (r == 0) {
            *ret_folder = folder;
            return 0;
        }
        close(folder);
        if (r != -ENOENT)
            return r;
    }
    return -ENOENT;
}

static int fail(struct error *err, const char *key, int r)
{
    if (error_is_set(err))
        return r;
    return error_set(err, -r, r == -EIO ? "storage.disk-failed" : "storage.failed",
                     "see the log of storaged", "volume %s: %s", key, strerror(-r));
}

static int no_space(struct error *err, const char *kind, uint64_t wanted, uint64_t best)
{
    return error_set(err, ENOSPC, "storage.no-space", "reserve less, or a node with larger disks",
                     "no %s pool has %llu bytes left; the most is %llu", kind,
                     (unsigned long long)wanted, (unsigned long long)best);
}

uint64_t pool_free(const struct pool *pool)
{
    if (pool->failing)
        return 0;
    uint64_t reserved = volume_reserved(pool) + space_reserved(pool);
    return pool->usable > reserved ? pool->usable - reserved : 0;
}

static int volume_grow(struct volume *volume, int folder, const char *name, uint64_t size,
                       struct error *err)
{
    if (size < volume->size)
        return error_set(err, EINVAL, "storage.too-small", "ask for at least what it has",
                         "volume %s has %llu bytes and cannot shrink to %llu", volume->key,
                         (unsigned long long)volume->size, (unsigned long long)size);
    uint64_t left = pool_free(volume->pool);
    if (size - volume->size > left)
        return no_space(err, pool_kind(volume->pool), size - volume->size, left);
    cleanup_close int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && (size != volume->size || volume->keep_until != 0))
        r = attribute_change(volume->pool, fd, size, 0);
    if (r == 0)
        r = set_limit(volume->pool, folder, name, size);
    if (r < 0)
        return fail(err, volume->key, r);
    volume->size = size;
    volume->keep_until = 0;
    return 0;
}

static int volume_make(const struct pool *pool, const char *key, const char *name, uint64_t size,
                       struct volume *ret_volume, struct error *err)
{
    cleanup_close int folder = open_volumes(pool);
    int r = folder < 0 ? folder : btrfs_subvolume_create(folder, name);
    if (r < 0)
        return fail(err, key, r);
    r = set_limit(pool, folder, name, size);
    if (r == 0) {
        cleanup_close int fd =
            openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fchmod(fd, 0755) < 0)
            r = -errno;
        if (r == 0)
            r = attribute_write(fd, size, 0);
    }
    if (r == 0)
        r = volume_load(pool, folder, name, ret_volume);
    if (r < 0) {
        (void)btrfs_subvolume_remove(folder, name);
        return fail(err, key, r);
    }
    return 0;
}

int volume_ensure(struct storage *storage, const char *key, const char *kind, uint64_t size,
                  struct volume *ret_volume, bool *ret_created, struct error *err)
{
    char name[256];
    int r = volume_key_check(key, err);
    if (r < 0)
        return r;
    if (strcmp(kind, "ssd") != 0 && strcmp(kind, "hdd") != 0)
        return error_set(err, EINVAL, "storage.bad-kind", "ssd or hdd",
                         "'%.20s' is no kind of disk", kind);
    if (size < SIZE_MIN)
        return error_set(err, EINVAL, "storage.too-small", "at least 1 MiB",
                         "a volume of %llu bytes is too small", (unsigned long long)size);
    key_to_name(key, name);
    struct volume volume;
    int found = -1;
    r = volume_find(storage, name, &volume, &found);
    cleanup_close int folder = found;
    if (r == 0) {
        if (strcmp(pool_kind(volume.pool), kind) != 0)
            return error_set(err, EEXIST, "storage.conflict", "use another name",
                             "volume %s exists on an %s", key, pool_kind(volume.pool));
        r = volume_grow(&volume, folder, name, size, err);
        if (r == 0) {
            *ret_volume = volume;
            *ret_created = false;
        }
        return r;
    }
    if (r != -ENOENT)
        return fail(err, key, r);
    /* The pool with the most left, so that disks fill evenly. */
    const struct pool *best = NULL;
    uint64_t most = 0;
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        uint64_t left = pool_free(pool);
        if (strcmp(pool_kind(pool), kind) == 0 && left > most) {
            best = pool;
            most = left;
        }
    }
    if (best == NULL || size > most)
        return no_space(err, kind, size, most);
    r = volume_make(best, key, name, size, &volume, err);
    if (r == 0) {
        *ret_volume = volume;
        *ret_created = true;
    }
    return r;
}

int volume_keep(struct storage *storage, const char *key, int64_t until, struct error *err)
{
    char name[256];
    int r = volume_key_check(key, err);
    if (r < 0)
        return r;
    key_to_name(key, name);
    struct volume volume;
    int found = -1;
    r = volume_find(storage, name, &volume, &found);
    cleanup_close int folder = found;
    if (r == -ENOENT)
        return error_set(err, ENOENT, "storage.not-found", "", "there is no volume %s", key);
    if (r < 0)
        return fail(err, key, r);
    if (volume.keep_until == until)
        return 0;
    cleanup_close int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    r = fd < 0 ? -errno : attribute_change(volume.pool, fd, volume.size, until);
    return r < 0 ? fail(err, key, r) : 0;
}

int volume_remove(struct storage *storage, const char *key, struct error *err)
{
    char name[256];
    int r = volume_key_check(key, err);
    if (r < 0)
        return r;
    key_to_name(key, name);
    struct volume volume = {.pool = NULL};
    int found = -1;
    r = volume_find(storage, name, &volume, &found);
    cleanup_close int folder = found;
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = btrfs_subvolume_remove(folder, name);
    if (r != 0)
        return fail(err, key, r);
    if (volume.pool != NULL)
        (void)btrfs_limit_sweep(volume.pool->fd);
    return 0;
}
