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
#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"
#include "silent.h"
#include "snapshot.h"
#include "space.h"
#include "vdisk.h"
#include "volume_job.h"
#include "volume_parts.h"

#define ATTRIBUTE "trusted.croft.volume"
#define ATTRIBUTE_ROOM ((uint64_t)1 << 20) /* what btrfs sets aside for one change of metadata */
#define SIZE_MIN ((uint64_t)1 << 20)       /* below, btrfs's own blocks are all there is */

/* "<size> <keep until>", and for a virtual disk "<file system> <1: encrypted>": nothing that would want a parser. */
static int attribute_write(int fd, const struct volume *volume)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "%llu %lld", (unsigned long long)volume->size,
                       (long long)volume->keep_until);
    if (volume_is_disk(volume))
        len += snprintf(text + len, sizeof(text) - (size_t)len, " %s %d", volume->form.filesystem,
                        volume->form.encrypted);
    if (fsetxattr(fd, ATTRIBUTE, text, (size_t)len, 0) < 0)
        return -errno;
    /* The description must be on the disk before anybody relies on it. */
    return btrfs_commit(fd);
}

int volume_describe(int fd, const struct volume *volume)
{
    return attribute_write(fd, volume);
}

static int attribute_read(int fd, struct volume *volume)
{
    char text[96];
    ssize_t len = fgetxattr(fd, ATTRIBUTE, text, sizeof(text) - 1);
    if (len < 0)
        return -errno;
    text[len] = '\0';
    unsigned long long size;
    long long keep;
    char filesystem[sizeof(volume->form.filesystem)] = "";
    int encrypted = 0;
    int count = sscanf(text, "%llu %lld %7s %d", &size, &keep, filesystem, &encrypted);
    if (count != 2 && count != 4)
        return -EINVAL;
    volume->size = size;
    volume->keep_until = keep;
    memcpy(volume->form.filesystem, filesystem, sizeof(filesystem));
    volume->form.encrypted = encrypted != 0;
    return 0;
}

bool volume_is_disk(const struct volume *volume)
{
    return volume->form.filesystem[0] != '\0';
}

/* What its snapshots cost themselves, which is not the tenant's. */
static uint64_t snapshots_cost(const struct volume *volume)
{
    return volume->snapshots * BTRFS_SNAPSHOT_COST;
}

/* What the quota group lets the volume hold. A virtual disk's own header and btrfs's notes about its extents come on top. */
static uint64_t limit_of(const struct volume *volume)
{
    return volume_is_disk(volume) ? vdisk_limit(volume->size)
                                  : volume->size + snapshots_cost(volume);
}

/* A full volume has no room for its own description: the limit gives way meanwhile. volume_recover sets it again. */
static int attribute_change(int fd, const struct volume *volume)
{
    const struct pool *pool = volume->pool;
    uint64_t id;
    int r = attribute_write(fd, volume);
    if (r != -EDQUOT)
        return r;
    r = btrfs_subvolume_id(fd, &id);
    if (r == 0)
        r = btrfs_limit_set(pool->fd, id, limit_of(volume) + ATTRIBUTE_ROOM);
    if (r < 0)
        return r;
    r = attribute_write(fd, volume);
    int restored = btrfs_limit_set(pool->fd, id, limit_of(volume));
    return r < 0 ? r : restored;
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
    *ret_volume =
        (struct volume){.pool = pool}; /* static analysis takes a failure for possible success */
    cleanup_close int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct volume volume = {.pool = pool};
    int r = attribute_read(fd, &volume);
    if (r < 0)
        return r;
    uint64_t id;
    uint64_t limit;
    r = btrfs_subvolume_id(fd, &id);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof(volume.key) - 1 && name[i] != '\0'; i++)
        volume.key[i] = (char)(name[i] == '+' ? '/' : name[i]);
    char path[128];
    pool_path(pool, path, sizeof(path));
    snprintf(volume.path, sizeof(volume.path), "%s/volumes/%s", path, name);
    snapshot_count(&volume);
    if (btrfs_limit_get(pool->fd, id, &volume.used, &limit) < 0)
        volume.used = 0;
    uint64_t cost = snapshots_cost(&volume);
    volume.used -= volume.used < cost ? volume.used : cost;
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

int volume_open(const struct volume *volume)
{
    int fd = open(volume->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

const char *volume_name(const struct volume *volume)
{
    return strrchr(volume->path, '/') + 1;
}

int volume_set_limit(const struct volume *volume)
{
    cleanup_close int fd = volume_open(volume);
    uint64_t id = 0;
    int r = fd < 0 ? fd : btrfs_subvolume_id(fd, &id);
    return r < 0 ? r : btrfs_limit_set(volume->pool->fd, id, limit_of(volume));
}

void volume_recover(const struct pool *pool)
{
    snapshot_recover(pool);
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
            r = volume_set_limit(&volume);
        else if (r == -ENODATA)
            r = btrfs_subvolume_remove(dirfd(dir), entry->d_name);
        if (r < 0)
            log_warn("volume %s on %s: %s", entry->d_name, pool->disk, strerror(-r));
    }
    closedir(dir);
    (void)btrfs_limit_sweep(pool->fd);
}

/* Finds the volume on any pool. 0, -ENOENT, or what went wrong. */
static int volume_find(const struct storage *storage, const char *name, struct volume *ret_volume)
{
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        cleanup_close int folder = open_volumes(pool);
        int r = folder < 0 ? folder : volume_load(pool, folder, name, ret_volume);
        if (r == -ENODATA) {
            r = btrfs_subvolume_remove(folder, name);
            r = r < 0 ? r : -ENOENT;
        }
        if (r != -ENOENT)
            return r;
    }
    return -ENOENT;
}

int volume_fail(struct error *err, const char *key, int r)
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

static int too_small(const struct volume *volume, uint64_t size, struct error *err)
{
    return error_set(err, EINVAL, "storage.too-small", "ask for at least what is used",
                     "%s %s uses %llu bytes of its %llu and cannot shrink to %llu",
                     volume_is_disk(volume) ? "virtual disk" : "volume", volume->key,
                     (unsigned long long)volume->used, (unsigned long long)volume->size,
                     (unsigned long long)size);
}

/* The limit comes down first, so that what is used cannot grow beyond it while it is looked at; and what was written a moment ago is
 * counted when it is on the disk. */
static int volume_squeeze(const struct storage *storage, const struct volume *volume,
                          const struct volume *wanted, struct error *err)
{
    bool written = storage->written != NULL && strcmp(storage->written, volume->key) == 0;
    if (volume_is_disk(volume) || volume->used > wanted->size) {
        if (written)
            (void)volume_set_limit(volume);
        return too_small(volume, wanted->size, err);
    }
    if (written)
        return 0;
    int r = volume_set_limit(wanted);
    fault_point("resize.limited");
    return r < 0 ? volume_fail(err, volume->key, r) : -EINPROGRESS;
}

/* Sets another size, and that it is used again. */
static int volume_change(const struct storage *storage, struct volume *volume, uint64_t size,
                         struct error *err)
{
    struct volume wanted = *volume;
    wanted.size = size;
    wanted.keep_until = 0;
    bool changes = size != volume->size || volume->keep_until != 0;
    int r = changes ? volume_job_check(storage, volume, err) : 0;
    if (r < 0)
        return r;
    uint64_t left = pool_free(volume->pool);
    if (size > volume->size && size - volume->size > left)
        return no_space(err, pool_kind(volume->pool), size - volume->size, left);
    r = size < volume->size ? volume_squeeze(storage, volume, &wanted, err) : 0;
    if (r < 0)
        return r;
    cleanup_close int fd = volume_open(volume);
    r = fd < 0 ? fd : 0;
    if (r == 0 && changes)
        r = attribute_change(fd, &wanted);
    fault_point("resize.described");
    if (r == 0)
        r = volume_set_limit(&wanted);
    if (r < 0)
        return volume_fail(err, volume->key, r);
    *volume = wanted;
    return 0;
}

static int volume_make(const struct pool *pool, const char *name, const struct volume_wish *wish,
                       struct volume *ret_volume, struct error *err)
{
    struct volume volume = {.size = wish->size, .form = wish->form};
    cleanup_close int folder = open_volumes(pool);
    int r = folder < 0 ? folder : btrfs_subvolume_create(folder, name);
    if (r < 0)
        return volume_fail(err, wish->key, r);
    fault_point("volume.made");
    r = set_limit(pool, folder, name, limit_of(&volume));
    if (r == 0) {
        fault_point("volume.limited");
        cleanup_close int fd =
            openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* The raw bytes of a virtual disk are nobody's but ours. */
        if (fd < 0 || fchmod(fd, volume_is_disk(&volume) ? 0700 : 0755) < 0)
            r = -errno;
        if (r == 0)
            r = attribute_write(fd, &volume);
    }
    if (r == 0)
        r = volume_load(pool, folder, name, ret_volume);
    if (r < 0) {
        (void)btrfs_subvolume_remove(folder, name);
        return volume_fail(err, wish->key, r);
    }
    return 0;
}

static bool same_form(const struct volume_form *a, const struct volume_form *b)
{
    return strcmp(a->filesystem, b->filesystem) == 0 && a->encrypted == b->encrypted;
}

/* A volume of that key exists: it must be of that kind and form, and gets the size. */
static int volume_reuse(const struct storage *storage, struct volume *volume,
                        const struct volume_wish *wish, struct error *err)
{
    if (strcmp(pool_kind(volume->pool), wish->kind) != 0)
        return error_set(err, EEXIST, "storage.conflict", "use another name",
                         "volume %s exists on an %s", wish->key, pool_kind(volume->pool));
    if (!same_form(&volume->form, &wish->form))
        return error_set(
            err, EEXIST, "storage.conflict", "use another name", "volume %s exists as a %s%s%s",
            wish->key, volume->form.encrypted ? "encrypted " : "",
            volume_is_disk(volume) ? "virtual disk, " : "folder", volume->form.filesystem);
    uint64_t size = wish->at_least && wish->size < volume->size ? volume->size : wish->size;
    if (wish->later) {
        uint64_t left = pool_free(volume->pool);
        if (size > volume->size && size - volume->size > left)
            return no_space(err, pool_kind(volume->pool), size - volume->size, left);
        size = volume->size;
    }
    return volume_change(storage, volume, size, err);
}

/* The pool with the most left, so that disks fill evenly. */
static int volume_place(const struct storage *storage, const struct volume_wish *wish,
                        const struct pool **ret_pool, struct error *err)
{
    const struct pool *best = NULL;
    uint64_t most = 0;
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        if (strcmp(pool_kind(pool), wish->kind) == 0 && silent_check(storage, pool, err) < 0)
            continue;
        uint64_t left = pool_free(pool);
        if (strcmp(pool_kind(pool), wish->kind) == 0 && !pool->failing && left > most) {
            best = pool;
            most = left;
        }
    }
    if (best == NULL || wish->size > most)
        return error_is_set(err) ? -EBUSY : no_space(err, wish->kind, wish->size, most);
    error_clear(err);
    *ret_pool = best;
    return 0;
}

int volume_ensure(struct storage *storage, const struct volume_wish *wish,
                  struct volume *ret_volume, bool *ret_created, struct error *err)
{
    char name[256];
    int r = volume_key_check(wish->key, err);
    if (r < 0)
        return r;
    if (strcmp(wish->kind, "ssd") != 0 && strcmp(wish->kind, "hdd") != 0)
        return error_set(err, EINVAL, "storage.bad-kind", "ssd or hdd",
                         "'%.20s' is no kind of disk", wish->kind);
    if (wish->size < SIZE_MIN)
        return error_set(err, EINVAL, "storage.too-small", "at least 1 MiB",
                         "a volume of %llu bytes is too small", (unsigned long long)wish->size);
    key_to_name(wish->key, name);
    struct volume volume;
    const struct pool *pool = NULL;
    r = volume_find(storage, name, &volume);
    bool created = r == -ENOENT;
    if (r == 0)
        r = volume_reuse(storage, &volume, wish, err);
    else if (created)
        r = roster_check(storage, wish->key, err);
    if (r == 0 && created)
        r = volume_place(storage, wish, &pool, err);
    if (r == 0 && created)
        r = volume_make(pool, name, wish, &volume, err);
    if (r == -EINPROGRESS)
        return r;
    if (r < 0)
        return volume_fail(err, wish->key, r);
    roster_changed(storage, wish->key);
    *ret_volume = volume;
    *ret_created = created;
    return 0;
}

int volume_get(const struct storage *storage, const char *key, struct volume *ret_volume,
               struct error *err)
{
    char name[256];
    int r = volume_key_check(key, err);
    if (r < 0)
        return r;
    key_to_name(key, name);
    r = volume_find(storage, name, ret_volume);
    if (r == -ENOENT && (r = roster_check(storage, key, err)) == 0)
        return error_set(err, ENOENT, "storage.not-found", "", "there is no volume %s", key);
    return r < 0 ? volume_fail(err, key, r) : 0;
}

int volume_resize(struct storage *storage, const char *key, uint64_t size, struct error *err)
{
    struct volume volume;
    int r = volume_get(storage, key, &volume, err);
    if (r < 0)
        return r;
    int64_t keep_until = volume.keep_until;
    r = size < SIZE_MIN ? too_small(&volume, size, err)
                        : volume_change(storage, &volume, size, err);
    return r < 0 || keep_until == 0 ? r : volume_keep(storage, key, keep_until, err);
}

/* In a child. */
static int write_data(const struct volume *volume, const char *name)
{
    (void)name;
    cleanup_close int fd = volume_open(volume);
    return fd < 0 ? fd : syncfs(fd) < 0 ? -errno : 0;
}

static void data_written(struct storage *storage, const struct volume_job *job, int result)
{
    struct error err = {0};
    struct volume volume;
    if (result < 0) {
        if (volume_get(storage, job->volume.key, &volume, &err) == 0) {
            (void)volume_set_limit(&volume);
            (void)volume_fail(&err, job->volume.key, result);
        }
        varlink_call_fail(job->call, &err);
        return;
    }
    storage->written = job->volume.key;
    job->method(job->call, job->params, storage);
    storage->written = NULL;
}

void volume_shrink(struct storage *storage, const char *key, struct varlink_call *call,
                   varlink_method_fn *method, yyjson_val *params)
{
    struct error err = {0};
    struct volume_job job = {
        .done = data_written, .call = call, .method = method, .params = params};
    int r = volume_get(storage, key, &job.volume, &err);
    if (r == 0 && (r = volume_job_begin(storage, &job, write_data, &err)) < 0)
        (void)volume_set_limit(&job.volume);
    if (r < 0)
        varlink_call_fail(call, &err);
}

int volume_keep(struct storage *storage, const char *key, int64_t until, struct error *err)
{
    struct volume volume;
    int r = volume_get(storage, key, &volume, err);
    if (r < 0 || volume.keep_until == until)
        return r;
    r = volume_job_check(storage, &volume, err);
    if (r < 0)
        return r;
    cleanup_close int fd = volume_open(&volume);
    volume.keep_until = until;
    r = fd < 0 ? fd : attribute_change(fd, &volume);
    return r < 0 ? volume_fail(err, key, r) : 0;
}

int volume_remove(struct storage *storage, const char *key, struct error *err)
{
    char name[256];
    struct volume volume;
    int r = volume_key_check(key, err);
    if (r < 0)
        return r;
    r = vdisk_idle(storage, key, err);
    if (r < 0)
        return r;
    key_to_name(key, name);
    if (volume_find(storage, name, &volume) == 0 &&
        (r = volume_job_check(storage, &volume, err)) < 0)
        return r;
    /* Also where the volume is gone already: a removal that was interrupted left the snapshots. */
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        cleanup_close int folder = open_volumes(pool);
        r = folder < 0 ? folder : btrfs_subvolume_remove(folder, name);
        bool removed = r == 0;
        fault_point("volume.removed");
        if (r == 0 || r == -ENOENT)
            r = snapshot_forget(pool, name);
        if (r < 0)
            return volume_fail(err, key, r);
        if (removed)
            (void)btrfs_limit_sweep(pool->fd);
    }
    return 0;
}
