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

#define CORE0 "/run/croft/core0"

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

static void restart_answered(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    (void)parameters;
    (void)more;
    (void)data;
    if (err != NULL)
        log_warn("core0 does not restart the machine: %s", err->message);
}

/*
 * Every image lay there, so that no container of any disk can go on, and programs that write their state get errors. A
 * restart makes another pool the primary one; the identity lies on that one too. It stays mounted until then: without it
 * what programs write there would go into memory and look kept.
 */
static void primary_lost(struct storage *storage, const struct pool *lost)
{
    struct error err = {0};
    struct varlink_client *core0;
    const struct pool *other = storage->pools;
    while (other != NULL && (other == lost || other->ephemeral || other->failing))
        other = other->next;
    error_set(&err, EIO, "storage.primary-lost",
              other != NULL ? "the node restarts from the next pool"
                            : "put the disk back and restart",
              "disk %s is gone, and with it the node's own state and its images", lost->disk);
    log_error(&err, "primary pool");
    notify_error(&err);
    if (other == NULL)
        return;
    int r = varlink_client_new(daemon_loop(storage->daemon), CORE0, &core0);
    if (r == 0)
        r = varlink_client_call(core0, "org.croft.core.Reboot", NULL, 0, 0, restart_answered, NULL);
    if (r < 0)
        log_warn("core0 cannot be asked for a restart: %s", strerror(-r));
}

static void tell_volumes(const struct storage *storage, const char *uuid)
{
    for (size_t i = 0; i < storage->roster.count; i++)
        if (strcmp(storage->roster.entries[i].pool, uuid) == 0) {
            log_warn("volume %s is lost", storage->roster.entries[i].key);
            notify_event("volume", "\"key\":\"%s\",\"error\":\"storage.volume-lost\"",
                         storage->roster.entries[i].key);
        }
}

void pool_lose(struct storage *storage, struct pool *pool)
{
    char path[128];
    pool_path(pool, path, sizeof(path));
    log_warn("pool %s on %s is lost with all that lay on it", pool->uuid, pool->disk);
    notify_event("pool", "\"uuid\":\"%s\",\"disk\":\"%s\",\"state\":\"lost\"", pool->uuid,
                 pool->disk);
    if (pool->primary)
        primary_lost(storage, pool);
    tell_volumes(storage, pool->uuid);
    /* Lazily: whoever has a file open there gets I/O errors and keeps nothing else from going on. */
    if (umount2(path, MNT_DETACH) == 0)
        (void)rmdir(path);
    pool_drop(storage, pool);
}
