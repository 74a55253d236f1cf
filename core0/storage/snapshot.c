/*
 * snapshot.c - makes, lists, removes and restores snapshots; see snapshot.h.
 */
#include "snapshot.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "btrfs.h"
#include "lib/fault.h"
#include "lib/file.h"
#include "lib/log.h"
#include "volume_job.h"
#include "volume_parts.h"

#define FOLDER "snapshots"
#define RESTORING                                                                                  \
    ".restore" /* beside the volumes: the new content before, the old one after the exchange */
#define SNAPSHOTS_MAX 256 /* of one volume: each is a tree block and an entry in every listing */
#define MOUNTS_MAX ((size_t)1 << 20)

static int open_folder(const struct pool *pool, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    int fd = openat(pool->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_snapshot(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void snapshot_folder(const struct volume *volume, char *ret_path, size_t size)
{
    char path[128];
    pool_path(volume->pool, path, sizeof(path));
    snprintf(ret_path, size, "%s/" FOLDER "/%s", path, volume_name(volume));
}

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= SNAPSHOT_NAME_MAX && name[0] != '-' && name[0] != '_' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

/* ---- the list ---- */

static int by_age(const void *a, const void *b)
{
    const struct snapshot *x = a;
    const struct snapshot *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int load(int folder, const char *name, struct snapshot *ret_snapshot)
{
    cleanup_close int fd = open_snapshot(folder, name);
    uint64_t id;
    int r = fd < 0 ? fd : btrfs_subvolume_id(fd, &id);
    if (r == 0)
        r = btrfs_subvolume_time(fd, &ret_snapshot->time);
    snprintf(ret_snapshot->name, sizeof(ret_snapshot->name), "%.63s", name);
    ret_snapshot->automatic = strncmp(name, SNAPSHOT_AUTO, strlen(SNAPSHOT_AUTO)) == 0;
    return r;
}

static int list_folder(const struct pool *pool, const char *name, struct snapshot **ret_snapshots,
                       size_t *ret_count)
{
    int folder = open_folder(pool, name);
    DIR *dir = folder < 0 ? NULL : fdopendir(folder);
    if (dir == NULL) {
        int r = folder < 0 ? folder : -errno;
        if (folder >= 0)
            close(folder);
        if (r != -ENOENT)
            return r;
        *ret_snapshots = NULL;
        *ret_count = 0;
        return 0;
    }
    struct snapshot *list = calloc(SNAPSHOTS_MAX, sizeof(*list));
    size_t count = 0;
    for (struct dirent *entry; list != NULL && (entry = readdir(dir)) != NULL;)
        if (count < SNAPSHOTS_MAX && is_name(entry->d_name) &&
            load(dirfd(dir), entry->d_name, &list[count]) == 0)
            count++;
    closedir(dir);
    if (list == NULL)
        return -ENOMEM;
    qsort(list, count, sizeof(*list), by_age);
    *ret_snapshots = list;
    *ret_count = count;
    return 0;
}

int snapshot_list(const struct volume *volume, struct snapshot **ret_snapshots, size_t *ret_count)
{
    return list_folder(volume->pool, volume_name(volume), ret_snapshots, ret_count);
}

/* ---- making ---- */

static int make_folder(const struct pool *pool, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    if (mkdirat(pool->fd, path, 0755) < 0 && errno != EEXIST)
        return -errno;
    return open_folder(pool, name);
}

/* Lets the snapshot open as fd count like the volume itself. */
static int join(const struct volume *volume, int fd)
{
    cleanup_close int root = volume_open(volume);
    uint64_t id = 0;
    uint64_t group = 0;
    int r = root < 0 ? root : btrfs_subvolume_id(root, &id);
    if (r == 0)
        r = btrfs_group_find(volume->pool->fd, id, &group);
    if (r == 0)
        r = btrfs_subvolume_id(fd, &id);
    if (r == 0)
        r = btrfs_group_join(volume->pool->fd, id, group);
    return r;
}

/* In a child: the kernel writes first what the volume has not on the disk. */
static int make(const struct volume *volume, const char *name)
{
    cleanup_close int root = volume_open(volume);
    cleanup_close int folder = root < 0 ? root : make_folder(volume->pool, volume_name(volume));
    int r = folder < 0 ? folder : btrfs_snapshot_create(root, folder, name, true);
    if (r < 0)
        return r;
    fault_point("snapshot.made");
    cleanup_close int fd = open_snapshot(folder, name);
    r = fd < 0 ? fd : join(volume, fd);
    fault_point("snapshot.counted");
    if (r < 0)
        (void)btrfs_subvolume_remove(folder, name);
    return r;
}

/* The volume of a folder; virtual disks have no snapshots, scratch space is not worth any. */
static int find(const struct storage *storage, const char *key, struct volume *ret_volume,
                struct error *err)
{
    int r = volume_get(storage, key, ret_volume, err);
    if (r < 0)
        return r;
    if (volume_is_disk(ret_volume) || strncmp(key, "volume/", 7) != 0)
        return error_set(err, ENOTSUP, "storage.no-snapshots",
                         "make a named volume that is a folder",
                         "%s has no snapshots: it is a virtual disk or scratch space", key);
    return 0;
}

static int check_name(const char *name, struct error *err)
{
    return is_name(name)
               ? 0
               : error_set(err, EINVAL, "storage.bad-snapshot", "",
                           "'%.80s' is no name of a snapshot: [a-z0-9][a-z0-9_-]{0,62}", name);
}

int snapshot_make(struct storage *storage, const char *key, const char *name, volume_job_done *done,
                  struct varlink_call *call, struct error *err)
{
    struct volume_job job = {.done = done, .call = call};
    int r = find(storage, key, &job.volume, err);
    if (r == 0 && name == NULL) {
        time_t seconds = time(NULL);
        struct tm tm;
        strftime(job.name, sizeof(job.name), "%Y%m%d-%H%M%S", gmtime_r(&seconds, &tm));
        name = job.name;
    }
    if (r == 0)
        r = check_name(name, err);
    if (r < 0)
        return r;
    if (name != job.name)
        snprintf(job.name, sizeof(job.name), "%s", name);
    if (job.volume.snapshots >= SNAPSHOTS_MAX)
        return error_set(err, EMFILE, "storage.too-many-snapshots", "remove some",
                         "%s has %u snapshots already", key, job.volume.snapshots);
    return volume_job_begin(storage, &job, make, err);
}

static int count_again(const struct volume *volume, void *data)
{
    cleanup_free struct snapshot *list = NULL;
    size_t count = 0;
    (void)data;
    cleanup_close int folder = open_folder(volume->pool, volume_name(volume));
    int r = folder < 0 ? folder : snapshot_list(volume, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        cleanup_close int fd = open_snapshot(folder, list[i].name);
        r = fd < 0 ? fd : join(volume, fd);
    }
    if (r < 0 && r != -ENOENT)
        log_warn("snapshots of %s: %s", volume->key, strerror(-r));
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    return 0;
}

int snapshot_made(struct storage *storage, const struct volume_job *job, int result,
                  struct error *err)
{
    const char *key = job->volume.key;
    struct volume volume;
    int r = volume_get(storage, key, &volume, err);
    if (r == 0 && result == -ECANCELED) /* one that was made before is not to count for nobody */
        (void)count_again(&volume, NULL);
    if (r == 0 && (result == 0 || result == -ECANCELED)) { /* its block is not the tenant's */
        int limited = volume_set_limit(&volume);
        result = result == 0 ? limited : result;
    }
    if (r == 0 && result == -EEXIST)
        return error_set(err, EEXIST, "storage.snapshot-exists", "choose another name",
                         "%s has a snapshot %s already", key, job->name);
    return r < 0 ? r : result < 0 ? volume_fail(err, key, result) : 0;
}

/* ---- removing ---- */

int snapshot_remove(struct storage *storage, const char *key, const char *name, struct error *err)
{
    struct volume volume;
    int r = find(storage, key, &volume, err);
    if (r == 0)
        r = check_name(name, err);
    if (r == 0)
        r = volume_job_check(storage, &volume, err);
    if (r < 0)
        return r;
    cleanup_close int folder = open_folder(volume.pool, volume_name(&volume));
    if (folder == -ENOENT)
        return 0;
    r = folder < 0 ? folder : btrfs_subvolume_remove(folder, name);
    if (r == -ENOENT)
        return 0;
    fault_point("snapshot.removed");
    snapshot_count(&volume);
    if (r == 0)
        r = volume_set_limit(&volume);
    if (r < 0)
        return volume_fail(err, key, r);
    (void)btrfs_limit_sweep(volume.pool->fd);
    return 0;
}

int snapshot_forget(const struct pool *pool, const char *name)
{
    cleanup_free struct snapshot *list = NULL;
    size_t count = 0;
    char path[512];
    cleanup_close int folder = open_folder(pool, name);
    if (folder == -ENOENT)
        return 0;
    int r = folder < 0 ? folder : list_folder(pool, name, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = btrfs_subvolume_remove(folder, list[i].name);
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    if (r == 0 && unlinkat(pool->fd, path, AT_REMOVEDIR) < 0)
        r = -errno;
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    return r;
}

/* ---- restoring ---- */

/* Whether a line of mountinfo (proc(5)) shows the folder `root` of a file system, or what is in it. */
static bool shows(const char *line, const char *root)
{
    char mounted[600];
    size_t len = strlen(root);
    return sscanf(line, "%*s %*s %*s %599s", mounted) == 1 && strncmp(mounted, root, len) == 0 &&
           (mounted[len] == '\0' || mounted[len] == '/');
}

/* Whether any process sees the volume mounted: a container that has it. 1, 0 or -errno. */
static int is_mounted(const struct volume *volume)
{
    char root[300];
    snprintf(root, sizeof(root), "/volumes/%s", volume_name(volume));
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return -errno;
    int found = 0;
    for (struct dirent *entry; found == 0 && (entry = readdir(proc)) != NULL;) {
        char path[64];
        cleanup_free char *text = NULL;
        size_t len;
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%.20s/mountinfo", entry->d_name);
        if (file_read(path, MOUNTS_MAX, &text, &len) < 0)
            continue; /* it has ended */
        for (char *line = text; line != NULL && found == 0;) {
            found = shows(line, root);
            line = strchr(line, '\n');
            line = line != NULL ? line + 1 : NULL;
        }
    }
    closedir(proc);
    return found;
}

static int check_stopped(const struct volume *volume, struct error *err)
{
    int r = is_mounted(volume);
    if (r > 0)
        return error_set(err, EBUSY, "storage.volume-in-use", "stop its containers first",
                         "a container uses the volume %s", volume->key);
    return r < 0 ? volume_fail(err, volume->key, r) : 0;
}

/* A volume of the snapshot's content, described like the one that it will replace. */
static int prepare(const struct volume *volume, int volumes, const char *name)
{
    cleanup_close int folder = open_folder(volume->pool, volume_name(volume));
    cleanup_close int source = folder < 0 ? folder : open_snapshot(folder, name);
    if (source < 0)
        return source;
    int r = btrfs_subvolume_remove(volumes, RESTORING);
    if (r == 0 || r == -ENOENT)
        r = btrfs_snapshot_create(source, volumes, RESTORING, false);
    if (r < 0)
        return r;
    fault_point("restore.made");
    cleanup_close int fd = open_snapshot(volumes, RESTORING);
    /* Before it counts under the limit, which a full volume would have no room left in. */
    r = fd < 0 ? fd : volume_describe(fd, volume);
    return r < 0 ? r : join(volume, fd);
}

static int exchange(const struct volume *volume, int volumes)
{
    if (renameat2(volumes, RESTORING, volumes, volume_name(volume), RENAME_EXCHANGE) < 0)
        return -errno;
    return btrfs_commit(volumes);
}

int snapshot_restore(struct storage *storage, const char *key, const char *name, struct error *err)
{
    struct volume volume;
    int r = find(storage, key, &volume, err);
    if (r == 0)
        r = check_name(name, err);
    if (r == 0)
        r = volume_job_check(storage, &volume, err);
    if (r == 0)
        r = check_stopped(&volume, err);
    if (r < 0)
        return r;
    cleanup_close int volumes =
        openat(volume.pool->fd, "volumes", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    r = volumes < 0 ? -errno : prepare(&volume, volumes, name);
    if (r == -ENOENT)
        return error_set(err, ENOENT, "storage.no-snapshot", "", "%s has no snapshot %s", key,
                         name);
    if (r < 0)
        return volume_fail(err, key, r);
    fault_point("restore.described");
    r = exchange(&volume, volumes);
    fault_point("restore.exchanged");
    /* A container that was started in between has what is now the old content: it keeps it. */
    if (r == 0 && check_stopped(&volume, err) < 0) {
        r = exchange(&volume, volumes);
        r = r < 0 ? r : -EBUSY;
    }
    int removed = btrfs_subvolume_remove(volumes, RESTORING);
    r = r < 0 ? r : removed;
    if (r == 0)
        r = volume_set_limit(&volume);
    (void)btrfs_limit_sweep(volume.pool->fd);
    return r < 0 ? volume_fail(err, key, r) : 0;
}

/* ---- after a start ---- */

void snapshot_recover(const struct pool *pool)
{
    cleanup_close int volumes =
        openat(pool->fd, "volumes", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int folder = openat(pool->fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = folder < 0 ? NULL : fdopendir(folder);
    if (dir == NULL || volumes < 0) {
        if (dir != NULL)
            closedir(dir);
        else if (folder >= 0)
            close(folder);
        return;
    }
    int r = btrfs_subvolume_remove(volumes, RESTORING);
    if (r < 0 && r != -ENOENT)
        log_warn("an interrupted restore on %s: %s", pool->disk, strerror(-r));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (entry->d_name[0] != '.' && fstatat(volumes, entry->d_name, &st, 0) < 0 &&
            errno == ENOENT && (r = snapshot_forget(pool, entry->d_name)) < 0)
            log_warn("snapshots of %s on %s: %s", entry->d_name, pool->disk, strerror(-r));
    }
    closedir(dir);
    (void)volume_each(pool, count_again, NULL);
}
