/*
 * snapshot_policy.c - snapshots by the clock: the policy that lies with a volume, and the timer; see snapshot.h.
 */
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
#include "lib/file.h"
#include "lib/log.h"
#include "volume_job.h"
#include "volume_parts.h"

#define ATTRIBUTE "trusted.croft.snapshots" /* on the folder: "<every ms> <keep>" */
#define LOOK_MAX_S 3600                     /* a clock that was set is noticed by then */
#define RETRY_S 60                          /* after one that failed */
#define EVERY_MIN_MS 1000
#define SECOND_US ((uint64_t)1000000)
#define KEEP_MAX 128

void snapshot_count(struct volume *volume)
{
    cleanup_free struct snapshot *list = NULL;
    size_t count = 0;
    char path[600];
    char text[64];
    unsigned long long every;
    unsigned long long keep;
    volume->policy = (struct snapshot_policy){0, 0};
    volume->snapshots = 0;
    snapshot_folder(volume, path, sizeof(path));
    ssize_t len = getxattr(path, ATTRIBUTE, text, sizeof(text) - 1);
    if (len > 0) {
        text[len] = '\0';
        if (sscanf(text, "%llu %llu", &every, &keep) == 2)
            volume->policy = (struct snapshot_policy){every, keep};
    }
    if (snapshot_list(volume, &list, &count) == 0)
        volume->snapshots = (unsigned)count;
}

/* Takes away the oldest that the policy made, until it keeps no more than it says. */
static int rotate(struct storage *storage, const struct volume *volume, struct error *err)
{
    cleanup_free struct snapshot *list = NULL;
    size_t count = 0;
    size_t automatic = 0;
    int r = snapshot_list(volume, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++)
        automatic += list[i].automatic;
    for (size_t i = 0; r == 0 && i < count && automatic > volume->policy.keep; i++) {
        if (!list[i].automatic)
            continue;
        r = snapshot_remove(storage, volume->key, list[i].name, err);
        automatic--;
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    return r < 0 ? volume_fail(err, volume->key, r) : 0;
}

static int write_policy(const struct volume *volume, const struct snapshot_policy *policy)
{
    char path[600];
    char text[64];
    int len = snprintf(text, sizeof(text), "%llu %llu", (unsigned long long)policy->every_ms,
                       (unsigned long long)policy->keep);
    snapshot_folder(volume, path, sizeof(path));
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (setxattr(path, ATTRIBUTE, text, (size_t)len, 0) < 0)
        return -errno;
    return btrfs_commit(volume->pool->fd);
}

int snapshot_policy_set(struct storage *storage, struct volume *volume,
                        const struct snapshot_policy *policy, struct error *err)
{
    bool none = policy->every_ms == 0 && policy->keep == 0;
    if (!none && (policy->every_ms < EVERY_MIN_MS || policy->keep == 0 || policy->keep > KEEP_MAX ||
                  volume_is_disk(volume)))
        return error_set(err, EINVAL, "storage.bad-snapshot", "",
                         "no policy of snapshots: one every %llu ms, the last %llu",
                         (unsigned long long)policy->every_ms, (unsigned long long)policy->keep);
    if (policy->every_ms == volume->policy.every_ms && policy->keep == volume->policy.keep)
        return 0;
    int r = volume_job_check(storage, volume, err);
    r = r < 0 ? r : write_policy(volume, policy);
    if (r < 0)
        return volume_fail(err, volume->key, r);
    volume->policy = *policy;
    r = rotate(storage, volume, err);
    snapshot_count(volume);
    snapshot_look(storage);
    return r;
}

struct look {
    struct storage *storage;
    uint64_t next; /* seconds */
};

/* After a failure the next look is the one that was set when the job began. */
static void made(struct storage *storage, const struct volume_job *job, int result)
{
    struct error err = {0};
    struct volume volume;
    int r = snapshot_made(storage, job, result, &err);
    if (r == 0)
        r = volume_get(storage, job->volume.key, &volume, &err);
    if (r == 0)
        r = rotate(storage, &volume, &err);
    if (r < 0)
        log_error(&err, job->volume.key);
    else
        snapshot_look(storage);
}

static void make_automatic(struct storage *storage, const struct volume *volume, int64_t now)
{
    char name[SNAPSHOT_NAME_MAX + 1];
    struct tm tm;
    time_t seconds = (time_t)now;
    struct error err = {0};
    strftime(name, sizeof(name), SNAPSHOT_AUTO "%Y%m%d-%H%M%S", gmtime_r(&seconds, &tm));
    int r = snapshot_make(storage, volume->key, name, made, NULL, &err);
    if (r < 0 && r != -EBUSY)
        log_error(&err, volume->key);
}

/* Unix seconds by the clock that stamps a snapshot (coarse: of the last tick). By the exact one a snapshot made just after the
 * turn of a second is a second old at once, and the next would have its name. */
static int64_t stamp_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec;
}

static int look_at(const struct volume *volume, void *data)
{
    struct look *look = data;
    cleanup_free struct snapshot *list = NULL;
    size_t count = 0;
    int64_t born = 0;
    int64_t now = stamp_now();
    /* Nobody writes any more once it is only kept: what is there stays as it is. */
    if (volume->policy.every_ms == 0 || volume->keep_until != 0 || volume_is_disk(volume))
        return 0;
    cleanup_close int fd = volume_open(volume);
    if (fd < 0 || btrfs_subvolume_time(fd, &born) < 0 || snapshot_list(volume, &list, &count) < 0)
        return 0;
    uint64_t due = snapshot_due(&volume->policy, born, list, count, now);
    /* Where one is being made, its end makes the next look. */
    if (due == 0) {
        make_automatic(look->storage, volume, now);
        due = RETRY_S;
    }
    if (due < look->next)
        look->next = due;
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freed by its attribute, which is not followed
    return 0;
}

static void on_timer(struct loop_timer *timer, void *data)
{
    struct look look = {.storage = data, .next = LOOK_MAX_S};
    for (const struct pool *pool = look.storage->pools; pool != NULL; pool = pool->next)
        (void)volume_each(pool, look_at, &look);
    loop_timer_in(timer, look.next * SECOND_US);
}

void snapshot_look(struct storage *storage)
{
    loop_timer_in(storage->snapshots, 0);
}

int snapshot_start(struct storage *storage)
{
    return loop_timer_add(daemon_loop(storage->daemon), on_timer, storage, &storage->snapshots);
}
