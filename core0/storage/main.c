/*
 * main.c - storaged: gives the node its pools and volumes.
 *
 *   scan /sys/block ──► a child per disk: probe, claim, mount ──► pools ──► /var/croft ──► READY
 *                              │ none, or none in time: a pool in memory
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "gen/interfaces.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "storage.h"

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
    tell_pools(storage);
    notify_ready();
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
    for (size_t i = 0; i < storage->disk_count; i++)
        if (storage->disks[i].pid != 0) {
            snprintf(storage->disks[i].detail, sizeof(storage->disks[i].detail), "does not answer");
            log_warn("disk %s does not answer", storage->disks[i].disk.name);
        }
    become_ready(storage);
}

static void claim_ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct disk_entry *entry = data;
    struct storage *storage = entry->storage;
    struct claim claim = {.state = CLAIM_FAILED};
    (void)child;
    (void)pid;
    entry->pid = 0;
    storage->working--;
    if (read(entry->fd, &claim, sizeof(claim)) != (ssize_t)sizeof(claim)) {
        claim.state = CLAIM_FAILED;
        snprintf(claim.detail, sizeof(claim.detail), "the look at it ended with status %d", status);
    }
    close(entry->fd);
    claim.detail[sizeof(claim.detail) - 1] = '\0';
    claim.uuid[sizeof(claim.uuid) - 1] = '\0';
    entry->state = claim.state;
    memcpy(entry->detail, claim.detail, sizeof(entry->detail));
    if (claim.state == CLAIM_POOL) {
        struct error err = {0};
        if (pool_add(storage, &claim, &entry->disk, false, &err) < 0) {
            log_error(&err, entry->disk.name);
            entry->state = CLAIM_FAILED;
            snprintf(entry->detail, sizeof(entry->detail), "%.150s", err.message);
        }
    }
    log_line(entry->state == CLAIM_FAILED ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
             "disk %s (%llu MiB, %s): %s%s%s", entry->disk.name,
             (unsigned long long)(entry->disk.size >> 20), entry->disk.rotational ? "hdd" : "ssd",
             claim_state_name(entry->state), claim.created ? ", made now" : "",
             entry->state == CLAIM_POOL ? ""
             : entry->detail[0] != '\0' ? ": "
                                        : "");
    if (entry->state != CLAIM_POOL && entry->detail[0] != '\0')
        log_info("disk %s: %s", entry->disk.name, entry->detail);
    notify_event("disk", "\"name\":\"%s\",\"state\":\"%s\"", entry->disk.name,
                 claim_state_name(entry->state));
    if (storage->working == 0)
        become_ready(storage);
    else if (storage->ready)
        tell_pools(storage);
}

static int begin_disk(struct storage *storage, struct disk_entry *entry)
{
    int r = claim_start(&entry->disk, &storage->rules, &entry->pid, &entry->fd);
    if (r < 0)
        return r;
    r = loop_child_add(daemon_loop(storage->daemon), entry->pid, claim_ended, entry, &entry->child);
    if (r < 0) {
        (void)kill(entry->pid, SIGKILL);
        close(entry->fd);
        entry->pid = 0;
        return r;
    }
    storage->working++;
    return 0;
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
    struct disk *disks = calloc(DISKS_MAX, sizeof(*disks));
    if (disks == NULL || disk_scan(disks, DISKS_MAX, &storage->disk_count) < 0) {
        free(disks);
        return error_set(err, ENODEV, "storage.no-disks", "", "/sys/block cannot be read");
    }
    r = loop_timer_add(daemon_loop(daemon), out_of_patience, storage, &storage->patience);
    for (size_t i = 0; r == 0 && i < storage->disk_count; i++) {
        struct disk_entry *entry = &storage->disks[i];
        entry->disk = disks[i];
        entry->storage = storage;
        entry->state = CLAIM_FAILED;
        if (storage->rules.policy == DISK_POLICY_NONE) {
            entry->state = CLAIM_IGNORED;
            snprintf(entry->detail, sizeof(entry->detail), "croft.disks=none");
            continue;
        }
        int failed = begin_disk(storage, entry);
        if (failed < 0)
            snprintf(entry->detail, sizeof(entry->detail), "cannot be looked at: %s",
                     strerror(-failed));
    }
    free(disks);
    if (r < 0)
        return error_set(err, -r, "storage.failed", "", "no timer: %s", strerror(-r));
    if (storage->working == 0)
        become_ready(storage);
    else
        loop_timer_in(storage->patience, STORAGE_PATIENCE_US);
    return 0;
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
        .notify_late = true,
    };
    return daemon_main(&spec, argc, argv);
}
