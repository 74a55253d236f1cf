/*
 * health.c - what disks say of their health, and what their pools saw of it: at the claim and every hour. A pool that btrfs has made
 * read-only after an error, though, is told within seconds.
 *
 * A disk that is failing keeps serving what lies on it, and gets nothing new (pool->failing).
 */
#include <errno.h>
#include <linux/btrfs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "storage.h"

#define HOUR_US ((uint64_t)3600 * 1000000)
#define OFTEN_US ((uint64_t)5 * 1000000)

/* Of writes and flushes, in the pool's whole life: the numbers are kept on the disk. */
static uint64_t write_errors(const struct pool *pool)
{
    struct btrfs_ioctl_get_dev_stats stats = {.devid = 1, .nr_items = BTRFS_DEV_STAT_VALUES_MAX};
    if (file_ioctl(pool->fd, BTRFS_IOC_GET_DEV_STATS, &stats) < 0)
        return 0;
    return stats.values[BTRFS_DEV_STAT_WRITE_ERRS] + stats.values[BTRFS_DEV_STAT_FLUSH_ERRS];
}

void health_begin(struct pool *pool)
{
    pool->write_errors = write_errors(pool);
}

/* btrfs counts per device and keeps the numbers on it; after an error that it cannot pass by it writes no more. */
static void look_at_pool(const struct pool *pool, struct smart *smart)
{
    struct btrfs_ioctl_get_dev_stats stats = {.devid = 1, .nr_items = BTRFS_DEV_STAT_VALUES_MAX};
    struct statvfs fs;
    uint64_t errors = 0;
    if (file_ioctl(pool->fd, BTRFS_IOC_GET_DEV_STATS, &stats) == 0)
        for (size_t i = 0; i < BTRFS_DEV_STAT_VALUES_MAX; i++)
            errors += stats.values[i];
    if (errors > 0)
        smart_raise(smart, SMART_WARNING, "%llu I/O errors in the pool",
                    (unsigned long long)errors);
    if (fstatvfs(pool->fd, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0)
        smart_raise(smart, SMART_FAILING, "the pool is read-only after an error");
    if (pool->bad_writes)
        smart_raise(smart, SMART_FAILING, "writes fail");
}

void health_learned(struct disk_entry *entry, const struct smart *learned)
{
    struct smart smart = *learned;
    struct pool *pool = pool_of(entry->storage, entry->disk.name);
    if (pool != NULL) {
        look_at_pool(pool, &smart);
        pool->failing = smart.health == SMART_FAILING;
    }
    if (smart.health != entry->smart.health) {
        log_line(smart.health >= SMART_WARNING ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
                 "disk %s: health %s%s%s", entry->disk.name, smart_health_name(smart.health),
                 smart.reason[0] != '\0' ? ": " : "", smart.reason);
        notify_event("health", "\"name\":\"%s\",\"health\":\"%s\"", entry->disk.name,
                     smart_health_name(smart.health));
    }
    entry->smart = smart;
}

static void begin_all(struct storage *storage)
{
    if (storage->rules.policy == DISK_POLICY_NONE)
        return;
    for (struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next) {
        if (entry->pid != 0)
            continue;
        /* What could not be read may have been a cable, or a pool that was still in use elsewhere. */
        int r = hotplug_begin(entry, entry->state == CLAIM_FAILED ? CLAIM_BY_RULES : CLAIM_HEALTH);
        if (r < 0)
            log_warn("disk %s cannot be asked for its health: %s", entry->disk.name, strerror(-r));
    }
}

void health_settled(struct storage *storage)
{
    if (storage->checking > 0 || storage->working > 0)
        return;
    while (storage->checks != NULL) {
        struct disk_check *check = storage->checks;
        storage->checks = check->next;
        varlink_call_reply(check->call, NULL);
        free(check);
    }
}

void health_check(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct storage *storage = data;
    struct disk_check *check = malloc(sizeof(*check));
    (void)params;
    if (check == NULL) {
        struct error err = {0};
        error_set(&err, ENOMEM, "storage.no-memory", "", "no memory");
        varlink_call_fail(call, &err);
        return;
    }
    *check = (struct disk_check){.next = storage->checks, .call = call};
    storage->checks = check;
    begin_all(storage);
    health_settled(storage);
}

static void hour_passed(struct loop_timer *timer, void *data)
{
    begin_all(data);
    loop_timer_in(timer, HOUR_US);
}

static void ask_health(struct storage *storage, const struct pool *pool)
{
    for (struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next) {
        if (entry->pid == 0 && strcmp(entry->disk.name, pool->disk) == 0 &&
            hotplug_begin(entry, CLAIM_HEALTH) < 0)
            log_warn("disk %s cannot be asked for its health", pool->disk);
    }
}

/* What lies on it can still be read; nothing new is put there, and nothing else is held up. */
static void tell_read_only(struct storage *storage, struct pool *pool)
{
    struct error err = {0};
    pool->read_only = pool->failing = true;
    error_set(&err, EROFS, "storage.disk-failed",
              pool->primary ? "restart the node, or replace the disk: its own state lies there"
                            : "croft disk list tells its state; replace it",
              "disk %s had an error: its pool takes no more writes", pool->disk);
    log_error(&err, "pool");
    notify_error(&err);
    notify_event("pool", "\"uuid\":\"%s\",\"disk\":\"%s\",\"state\":\"read-only\"", pool->uuid,
                 pool->disk);
    ask_health(storage, pool);
}

/* btrfs goes on when only data could not be written: who wrote it was told, and nothing else may trust the disk. */
static void tell_bad_writes(struct storage *storage, struct pool *pool)
{
    struct error err = {0};
    pool->bad_writes = pool->failing = true;
    error_set(&err, EIO, "storage.disk-failed", "croft disk list tells its state; replace it",
              "disk %s fails writes: nothing new is put there", pool->disk);
    log_error(&err, "pool");
    notify_error(&err);
    notify_event("pool", "\"uuid\":\"%s\",\"disk\":\"%s\",\"state\":\"failing\"", pool->uuid,
                 pool->disk);
    ask_health(storage, pool);
}

static void look_often(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    struct statvfs fs;
    for (struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        if (!pool->read_only && fstatvfs(pool->fd, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0)
            tell_read_only(storage, pool);
        else if (!pool->failing && write_errors(pool) > pool->write_errors)
            tell_bad_writes(storage, pool);
    }
    loop_timer_in(timer, OFTEN_US);
}

int health_start(struct storage *storage)
{
    int r = loop_timer_add(daemon_loop(storage->daemon), hour_passed, storage, &storage->hourly);
    if (r == 0)
        r = loop_timer_add(daemon_loop(storage->daemon), look_often, storage, &storage->often);
    if (r == 0) {
        loop_timer_in(storage->hourly, HOUR_US);
        loop_timer_in(storage->often, OFTEN_US);
    }
    return r;
}
