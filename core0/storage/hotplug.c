/*
 * hotplug.c - disks come and go: the list of disks follows /sys/block, at the start and whenever the kernel says so.
 *
 *   new ──► child (claim.c) ──► pool, foreign, failed, ignored        gone ──► its pool and nothing else is dropped
 *
 * Disks are told apart by the kernel's number for each (diskseq), since a name is given away again at once.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/notify.h"
#include "silent.h"

static void entry_free(struct disk_entry *entry)
{
    if (entry->wipe != NULL)
        wipe_ended(entry);
    free(entry);
}

static void entry_say(const struct disk_entry *entry, const struct claim *claim)
{
    const char *detail = entry->state == CLAIM_POOL ? entry->basis : entry->detail;
    log_line(entry->state == CLAIM_FAILED ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
             "disk %s (%llu MiB, %s, %s): %s%s%s%s", entry->disk.name,
             (unsigned long long)(entry->disk.size >> 20), disk_bus_name(entry->disk.bus),
             entry->disk.rotational ? "hdd" : "ssd", claim_state_name(entry->state),
             claim->created ? ", made now" : "", detail[0] != '\0' ? ": " : "", detail);
    notify_event("disk", "\"name\":\"%s\",\"state\":\"%s\"", entry->disk.name,
                 claim_state_name(entry->state));
}

static void entry_claimed(struct disk_entry *entry, const struct claim *claim)
{
    struct storage *storage = entry->storage;
    struct error err = {0};
    entry->state = claim->state;
    entry->disk.rotational = claim->rotational;
    memcpy(entry->detail, claim->detail, sizeof(entry->detail));
    memcpy(entry->basis, claim->basis, sizeof(entry->basis));
    if (claim->state == CLAIM_POOL && pool_add(storage, claim, &entry->disk, false, &err) < 0) {
        log_error(&err, entry->disk.name);
        entry->state = CLAIM_FAILED;
        snprintf(entry->detail, sizeof(entry->detail), "%.150s", err.message);
    }
    if (entry->state == CLAIM_POOL)
        roster_take(storage, pool_of(storage, entry->disk.name));
    entry_say(entry, claim);
    health_learned(entry, &claim->smart);
    if (entry->wipe != NULL)
        wipe_ended(entry);
}

/* The disk was pulled while the child had it: nothing of it may stay mounted. */
static void entry_left(struct disk_entry *entry, const struct claim *claim)
{
    char path[sizeof(CLAIM_POOLS) + GPT_GUID_TEXT + 1];
    if (claim->state == CLAIM_POOL && entry->purpose != CLAIM_HEALTH) {
        snprintf(path, sizeof(path), CLAIM_POOLS "/%s", claim->uuid);
        (void)umount2(path, MNT_DETACH);
        (void)rmdir(path);
    }
    entry_free(entry);
}

static void child_ended(struct loop_child *child, pid_t pid, int status, void *data)
{
    struct disk_entry *entry = data;
    struct storage *storage = entry->storage;
    struct claim claim = {.state = CLAIM_FAILED};
    (void)child;
    (void)pid;
    if (read(entry->fd, &claim, sizeof(claim)) != (ssize_t)sizeof(claim)) {
        claim = (struct claim){.state = CLAIM_FAILED, .rotational = entry->disk.rotational};
        snprintf(claim.detail, sizeof(claim.detail), "the look at it ended with status %d", status);
    }
    close(entry->fd);
    entry->pid = 0;
    bool health = entry->purpose == CLAIM_HEALTH;
    if (entry->late)
        log_line(LOG_LEVEL_INFO, "disk %s answers after all", entry->disk.name);
    else
        *(health ? &storage->checking : &storage->working) -= 1;
    entry->late = false;
    if (entry->gone)
        entry_left(entry, &claim);
    else if (health)
        health_learned(entry, &claim.smart);
    else
        entry_claimed(entry, &claim);
    health_settled(storage);
    if (!health)
        storage_settled(storage);
}

int hotplug_begin(struct disk_entry *entry, enum claim_purpose purpose)
{
    struct storage *storage = entry->storage;
    int r = claim_start(&entry->disk, &storage->rules, purpose, &entry->pid, &entry->fd);
    if (r < 0)
        return r;
    r = loop_child_add(daemon_loop(storage->daemon), entry->pid, child_ended, entry, &entry->child);
    if (r < 0) {
        (void)kill(entry->pid, SIGKILL);
        close(entry->fd);
        entry->pid = 0;
        return r;
    }
    entry->purpose = purpose;
    entry->late = false;
    entry->begun_us = loop_clock();
    if (!storage->lateness_set)
        loop_timer_in(storage->lateness, STORAGE_PATIENCE_US);
    storage->lateness_set = true;
    *(purpose == CLAIM_HEALTH ? &storage->checking : &storage->working) += 1;
    return 0;
}

void hotplug_give_up(struct disk_entry *entry)
{
    struct storage *storage = entry->storage;
    struct error err = {0};
    if (entry->pid == 0 || entry->late)
        return;
    entry->late = true;
    if (entry->purpose == CLAIM_HEALTH) {
        storage->checking--;
    } else {
        storage->working--;
        entry->state = CLAIM_FAILED;
    }
    snprintf(entry->detail, sizeof(entry->detail), "does not answer");
    error_set(&err, ETIMEDOUT, "storage.disk-failed", "croft disk list tells its state; replace it",
              "disk %s does not answer: the node goes on without it", entry->disk.name);
    log_error(&err, "disk");
    notify_event("disk", "\"name\":\"%s\",\"state\":\"failed\"", entry->disk.name);
    if (entry->wipe != NULL)
        wipe_ended(entry);
}

/* A child that hangs in the kernel cannot be ended; it may still answer one day, and is heard then. */
static void on_late(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    uint64_t now = loop_clock(), next = UINT64_MAX;
    bool gave_up = false;
    for (struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next) {
        uint64_t due = entry->begun_us + (entry->purpose == CLAIM_WIPE ? STORAGE_PATIENCE_WIPE_US
                                                                       : STORAGE_PATIENCE_US);
        if (entry->pid == 0 || entry->late)
            continue;
        if (due <= now && storage->ready) {
            hotplug_give_up(entry);
            gave_up = true;
        } else if (due < next) { /* at the start it is main.c that knows for how long to wait */
            next = due > now ? due : now + STORAGE_PATIENCE_US;
        }
    }
    storage->lateness_set = next != UINT64_MAX;
    if (storage->lateness_set)
        loop_timer_in(timer, next - now);
    if (gave_up) {
        health_settled(storage);
        storage_settled(storage);
    }
}

static void entry_begin(struct disk_entry *entry)
{
    entry->state = CLAIM_FAILED;
    if (entry->storage->rules.policy == DISK_POLICY_NONE) {
        entry->state = CLAIM_IGNORED;
        snprintf(entry->detail, sizeof(entry->detail), "croft.disks=none");
        return;
    }
    int r = hotplug_begin(entry, CLAIM_BY_RULES);
    if (r < 0)
        snprintf(entry->detail, sizeof(entry->detail), "cannot be looked at: %s", strerror(-r));
}

static int entry_add(struct storage *storage, const struct disk *disk)
{
    struct disk_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return -ENOMEM;
    entry->storage = storage;
    entry->disk = *disk;
    struct disk_entry **at = &storage->disks;
    while (*at != NULL && strcmp((*at)->disk.name, disk->name) < 0)
        at = &(*at)->next;
    entry->next = *at;
    *at = entry;
    entry_begin(entry);
    return 0;
}

/* Only what the disk carried goes: the entry is off the list already. */
static void entry_gone(struct disk_entry *entry)
{
    silent_end(entry->storage, entry->disk.name);
    struct pool *pool = pool_of(entry->storage, entry->disk.name);
    log_warn("disk %s (%s) is gone", entry->disk.name, entry->disk.serial);
    notify_event("disk", "\"name\":\"%s\",\"state\":\"gone\"", entry->disk.name);
    if (pool != NULL)
        pool_lose(entry->storage, pool);
    entry->gone = true;
    if (entry->pid == 0)
        entry_free(entry);
}

static const struct disk *find(const struct disk *disks, size_t count,
                               const struct disk_entry *entry)
{
    for (size_t i = 0; i < count; i++)
        if (disks[i].seq == entry->disk.seq && strcmp(disks[i].name, entry->disk.name) == 0)
            return &disks[i];
    return NULL;
}

static bool is_known(const struct storage *storage, const struct disk *disk)
{
    for (const struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next)
        if (find(disk, 1, entry) != NULL)
            return true;
    return false;
}

static void compare(struct storage *storage, const struct disk *disks, size_t count)
{
    for (struct disk_entry **at = &storage->disks; *at != NULL;) {
        struct disk_entry *entry = *at;
        const struct disk *now = find(disks, count, entry);
        if (now == NULL) {
            *at = entry->next;
            entry_gone(entry);
            continue;
        }
        /* A reader's card was changed, or the disk of a virtual machine grew: what is no pool is looked at anew. */
        if (now->size != entry->disk.size && entry->state != CLAIM_POOL && entry->pid == 0) {
            entry->disk = *now;
            entry_begin(entry);
        }
        at = &entry->next;
    }
    for (size_t i = 0; i < count; i++)
        if (!is_known(storage, &disks[i]) && entry_add(storage, &disks[i]) < 0)
            log_warn("disk %s: no memory", disks[i].name);
}

int hotplug_sync(struct storage *storage)
{
    size_t count;
    struct disk *disks = calloc(DISKS_MAX, sizeof(*disks));
    int r = disks == NULL ? -ENOMEM : disk_scan(disks, DISKS_MAX, &count);
    if (r == 0)
        compare(storage, disks, count);
    free(disks);
    return r;
}

static void disks_changed(void *data)
{
    struct storage *storage = data;
    int r = hotplug_sync(storage);
    if (r < 0)
        log_warn("the disks cannot be listed: %s", strerror(-r));
    storage_settled(storage);
}

int hotplug_start(struct storage *storage)
{
    int r = loop_timer_add(daemon_loop(storage->daemon), on_late, storage, &storage->lateness);
    return r < 0
               ? r
               : uevent_new(daemon_loop(storage->daemon), disks_changed, storage, &storage->uevent);
}
