/*
 * lost.c - a pool whose disk was pulled or died: what lay on it is lost, everything else goes on.
 *
 * The primary pool is the exception, as the node's own state and every image lie on it: see docs/decisions/0101-hot-plug.md.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/notify.h"
#include "space.h"
#include "storage.h"

struct pool *pool_of(const struct storage *storage, const char *disk)
{
    for (struct pool *pool = storage->pools; pool != NULL; pool = pool->next)
        if (strcmp(pool->disk, disk) == 0)
            return pool;
    return NULL;
}

void pool_drop(struct storage *storage, struct pool *pool)
{
    space_servers_lose(storage, pool);
    struct pool **at = &storage->pools;
    while (*at != pool)
        at = &(*at)->next;
    *at = pool->next;
    if (pool->fd >= 0)
        close(pool->fd);
    free(pool);
}

static void primary_lost(const struct storage *storage, const char *disk)
{
    struct error err = {0};
    (void)storage;
    /* It stays mounted: without it what programs write there would go into memory and look kept. */
    error_set(&err, EIO, "storage.primary-lost",
              "put the disk back, or restart: the next pool then holds the state",
              "disk %s is gone, and with it the node's own state and its images", disk);
    log_error(&err, "primary pool");
    notify_error(&err);
}

void pool_lose(struct storage *storage, struct pool *pool)
{
    char path[128];
    pool_path(pool, path, sizeof(path));
    log_warn("pool %s on %s is lost with all that lay on it", pool->uuid, pool->disk);
    notify_event("pool", "\"uuid\":\"%s\",\"disk\":\"%s\",\"state\":\"lost\"", pool->uuid,
                 pool->disk);
    if (pool->primary)
        primary_lost(storage, pool->disk);
    /* Lazily: whoever has a file open there gets I/O errors and keeps nothing else from going on. */
    if (umount2(path, MNT_DETACH) == 0)
        (void)rmdir(path);
    pool_drop(storage, pool);
}
