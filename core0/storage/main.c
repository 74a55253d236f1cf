/*
 * main.c - storaged: gives the node its pools and volumes.
 *
 *   scan /sys/block ──► a child per disk: probe, claim, mount ──► pools ──► /var/croft ──► READY
 *   uevents ──► scan, and so on
 *                              │ none, or none in time: a pool in memory
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gen/interfaces.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "silent.h"
#include "snapshot.h"
#include "space.h"
#include "vdisk.h"

static void tell_pools(const struct storage *storage)
{
    char text[128] = "";
    size_t len = 0;
    for (const struct pool *pool = storage->pools; pool != NULL && len < sizeof(text) - 64;
         pool = pool->next)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s %llu MiB%s",
                                len > 0 ? ", " : "", pool->disk, pool_kind(pool),
                                (unsigned long long)(pool->size >> 20),
                                pool->ephemeral ? " (memory)" : "");
    notify_fact("pool", text);
    notify_status("%s", text);
}

static void become_ready(struct storage *storage)
{
    struct error err = {0};
    if (storage->ready)
        return;
    int r = 0;
    if (storage->pools == NULL)
        r = zram_pool(storage, &err);
    if (r == 0)
        r = pool_mount_primary(storage, &err);
    if (r < 0) {
        log_error(&err, "no pool");
        notify_error(&err);
        loop_exit(daemon_loop(storage->daemon), 1);
        return;
    }
    storage->ready = true;
    snapshot_look(storage);
    vdisk_start(storage);
    tell_pools(storage);
    space_servers_settle(storage);
    notify_ready();
}

int storage_check_ready(const struct storage *storage, struct error *err)
{
    if (storage->ready)
        return 0;
    return error_set(err, EBUSY, "storage.busy", "it is asked again by itself",
                     "the disks have not answered yet");
}

int storage_read(const struct storage *storage, yyjson_val *params, const struct json_field *fields,
                 size_t count, void *dest, struct error *err)
{
    int r = json_read(params, fields, count, 0, dest, "storage.bad-request", err);
    return r < 0 ? r : storage_check_ready(storage, err);
}

static void out_of_patience(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    if (storage->pools == NULL && storage->working > 0 && !storage->ready) {
        /* Without any pool the machine can do nothing anyway: give the disks longer, once. */
        static bool extended;
        if (!extended) {
            extended = true;
            loop_timer_in(timer, STORAGE_PATIENCE_ALONE_US - STORAGE_PATIENCE_US);
            return;
        }
    }
    for (struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next)
        hotplug_give_up(entry);
    become_ready(storage);
    health_settled(storage);
}

void storage_settled(struct storage *storage)
{
    if (storage->working == 0)
        roster_update(storage);
    if (storage->ready) {
        tell_pools(storage);
        space_servers_settle(storage);
        snapshot_look(storage); /* a pool that came late may have some due */
    } else if (storage->working == 0)
        become_ready(storage);
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct storage *storage = calloc(1, sizeof(*storage));
    if (storage == NULL)
        return error_set(err, ENOMEM, "storage.no-memory", "", "no memory");
    storage->daemon = daemon;
    *ret_state = storage;
    int r = disk_rules_read(daemon_boot_path(daemon), &storage->rules, err);
    if (r < 0)
        return r;
    r = loop_timer_add(daemon_loop(daemon), out_of_patience, storage, &storage->patience);
    if (r == 0)
        r = space_servers_new(storage, &storage->spaces);
    if (r == 0)
        r = snapshot_start(storage);
    if (r == 0)
        r = health_start(storage);
    if (r == 0)
        r = silent_start(storage);
    /* First the events, then the list: what comes between the two is seen twice rather than never. */
    if (r == 0)
        r = hotplug_start(storage);
    if (r < 0)
        return error_set(err, -r, "storage.failed", "", "the start failed: %s", strerror(-r));
    r = hotplug_sync(storage);
    if (r < 0)
        return error_set(err, -r, "storage.no-disks", "", "the disks cannot be listed: %s",
                         strerror(-r));
    if (storage->working == 0)
        become_ready(storage);
    else
        loop_timer_in(storage->patience, STORAGE_PATIENCE_US);
    return 0;
}

static void stop(void *state)
{
    (void)state;
    /* While the machine runs, disks stay attached: the next storaged finds them. */
    if (access(DAEMON_MACHINE_STOPS, F_OK) == 0)
        vdisk_stop();
}

int main(int argc, char **argv)
{
    static const struct daemon_spec spec = {
        .name = "storaged",
        .summary = "disks, pools and volumes of a node",
        .interfaces = &storage_interface,
        .interface_count = 1,
        .socket_mode = 0666, /* methods have their own callers */
        .start = start,
        .stop = stop,
        .notify_late = true,
    };
    return daemon_main(&spec, argc, argv);
}
