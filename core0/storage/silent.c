/*
 * silent.c - see silent.h.
 */
#include "silent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"

#define BLOCK 4096 /* a sector of any disk */

/* A child that reads, or stands. */
struct silent_look {
    struct silent_look *next;
    struct storage *storage;
    char uuid[GPT_GUID_TEXT]; /* of the pool, which may be none any more */
    uint64_t begun_us;
    struct loop_child *child;
};

static struct pool **find(struct pool **list, const char *uuid)
{
    while (*list != NULL && strcmp((*list)->uuid, uuid) != 0)
        list = &(*list)->next;
    return list;
}

static const struct silent_look *look_of(const struct storage *storage, const struct pool *pool)
{
    const struct silent_look *look = storage->looks;
    while (look != NULL && strcmp(look->uuid, pool->uuid) != 0)
        look = look->next;
    return look;
}

bool silent_late(const struct storage *storage, const struct pool *pool)
{
    const struct silent_look *look = look_of(storage, pool);
    return look != NULL && loop_clock() - look->begun_us >= SILENT_LATE_US;
}

int silent_check(const struct storage *storage, const struct pool *pool, struct error *err)
{
    if (!silent_late(storage, pool))
        return 0;
    return error_set(err, EBUSY, "storage.busy", "try again; a node asks again by itself",
                     "disk %s takes its time to answer", pool->disk);
}

const struct pool *silent_pool(const struct storage *storage, const char *uuid)
{
    const struct pool *pool = storage->silent;
    while (pool != NULL && strcmp(pool->uuid, uuid) != 0)
        pool = pool->next;
    return pool;
}

bool silent_disk(const struct storage *storage, const char *disk)
{
    const struct pool *pool = storage->silent;
    while (pool != NULL && strcmp(pool->disk, disk) != 0)
        pool = pool->next;
    return pool != NULL;
}

static void describe(const struct storage *storage, const struct pool *pool, const char *detail)
{
    for (struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next)
        if (strcmp(entry->disk.name, pool->disk) == 0)
            snprintf(entry->detail, sizeof(entry->detail), "%s", detail);
    notify_event("pool", "\"uuid\":\"%s\",\"disk\":\"%s\",\"state\":\"%s\"", pool->uuid, pool->disk,
                 detail);
}

static void fall_silent(struct storage *storage, const char *uuid)
{
    struct pool **at = find(&storage->pools, uuid);
    struct pool *pool = *at;
    struct error err = {0};
    if (pool == NULL)
        return;
    *at = pool->next;
    pool->next = storage->silent;
    storage->silent = pool;
    error_set(&err, ETIMEDOUT, "storage.disk-failed", "croft disk list tells its state; replace it",
              "disk %s does not answer any more: nothing that lies on it can be had", pool->disk);
    log_error(&err, "pool");
    notify_error(&err);
    describe(storage, pool, "does not answer");
    storage_settled(storage);
}

static void take_back(struct storage *storage, struct pool **at)
{
    struct pool *pool = *at;
    *at = pool->next;
    pool_insert(storage, pool);
    log_line(LOG_LEVEL_INFO, "disk %s answers after all", pool->disk);
    describe(storage, pool, "pool");
}

void silent_end(struct storage *storage, const char *disk)
{
    for (struct pool **at = &storage->silent; *at != NULL; at = &(*at)->next)
        if (strcmp((*at)->disk, disk) == 0) {
            take_back(storage, at);
            return;
        }
}

static void ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct silent_look *look = data;
    struct storage *storage = look->storage;
    struct silent_look **at = &storage->looks;
    struct pool **pool = find(&storage->silent, look->uuid);
    (void)child;
    (void)pid;
    (void)status; /* an error is an answer too; health.c looks at what it means */
    while (*at != look)
        at = &(*at)->next;
    *at = look->next;
    bool late = loop_clock() - look->begun_us >= SILENT_LATE_US;
    free(look);
    if (*pool != NULL) {
        take_back(storage, pool);
        storage_settled(storage);
    }
    if (late && storage->roster_owed)
        roster_update(storage);
}

/* In a child. Past the page cache, which would answer for the disk. */
static int read_block(const char *disk)
{
    static _Alignas(BLOCK) char block[BLOCK];
    char path[DISK_NAME_MAX + 8];
    snprintf(path, sizeof(path), "/dev/%s", disk);
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    return fd < 0 || pread(fd, block, BLOCK, 0) != BLOCK;
}

static int look_at(struct storage *storage, const struct pool *pool)
{
    struct silent_look *look = calloc(1, sizeof(*look));
    if (look == NULL)
        return -ENOMEM;
    look->storage = storage;
    look->begun_us = loop_clock();
    snprintf(look->uuid, sizeof(look->uuid), "%s", pool->uuid);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(read_block(pool->disk));
    }
    int r = pid < 0 ? -errno
                    : loop_child_add(daemon_loop(storage->daemon), pid, ended, look, &look->child);
    if (r < 0) {
        if (pid > 0)
            (void)kill(pid, SIGKILL);
        free(look);
        return r;
    }
    look->next = storage->looks;
    storage->looks = look;
    return 0;
}

static void on_time(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    uint64_t now = loop_clock();
    for (struct pool *pool = storage->pools, *next; pool != NULL; pool = next) {
        const struct silent_look *look = look_of(storage, pool);
        next = pool->next;
        int r = look != NULL || pool->ephemeral ? 0 : look_at(storage, pool);
        if (r < 0)
            log_warn("disk %s cannot be looked at: %s", pool->disk, strerror(-r));
        if (look != NULL && now - look->begun_us >= SILENT_PATIENCE_US)
            fall_silent(storage, pool->uuid);
    }
    loop_timer_in(timer, SILENT_LOOK_US);
}

int silent_start(struct storage *storage)
{
    int r = loop_timer_add(daemon_loop(storage->daemon), on_time, storage, &storage->silence);
    if (r == 0)
        loop_timer_in(storage->silence, SILENT_LOOK_US);
    return r;
}
