/*
 * wipe.c - org.croft.storage.WipeDisk: a disk whose content nobody wants becomes an empty pool.
 *
 * Nothing is written before everything was checked and the old pool, if there is one, is unmounted in good order; what
 * somebody still uses cannot be. The rest is the child's (claim.c), which opens the disk exclusively.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/log.h"
#include "silent.h"
#include "space.h"

struct wipe_params {
    const char *name;
    const char *serial;
    bool force;
};

static const struct json_field wipe_fields[] = {
    {"name", JSON_STRING, offsetof(struct wipe_params, name), true, 0, DISK_NAME_MAX},
    {"serial", JSON_STRING, offsetof(struct wipe_params, serial), true, 0, 128},
    {"force", JSON_BOOL, offsetof(struct wipe_params, force), false, 0, 0},
};

static int count_one(const struct volume *volume, void *data)
{
    (void)volume;
    *(size_t *)data += 1;
    return 0;
}

static struct disk_entry *find(const struct storage *storage, const struct wipe_params *params)
{
    struct disk_entry *entry = storage->disks;
    while (entry != NULL && (strcmp(entry->disk.name, params->name) != 0 ||
                             strcmp(entry->disk.serial, params->serial) != 0))
        entry = entry->next;
    return entry;
}

static int check(const struct storage *storage, const struct disk_entry *entry,
                 const struct wipe_params *params, struct error *err)
{
    if (entry == NULL)
        return error_set(err, ENOENT, "storage.disk-unknown", "croft disk list shows them",
                         "there is no disk %s with the serial number '%s'", params->name,
                         params->serial);
    if (entry->pid != 0)
        return error_set(err, EBUSY, "storage.disk-busy", "try again later",
                         "disk %s is being looked at", params->name);
    if (silent_disk(storage, entry->disk.name))
        return error_set(err, EBUSY, "storage.disk-busy", "replace it, or try again later",
                         "disk %s does not answer", params->name);
    const struct pool *pool = pool_of(storage, entry->disk.name);
    if (storage->rules.policy == DISK_POLICY_NONE || entry->disk.read_only ||
        (entry->disk.bus == DISK_USB && !storage->rules.usb && pool == NULL))
        return error_set(err, EPERM, "storage.disk-protected", "see croft.disks",
                         "disk %s is not to be used%s", params->name,
                         entry->disk.read_only ? ": it is read-only"
                                               : " by this boot's parameters");
    if (pool != NULL && pool->primary)
        return error_set(err, EPERM, "storage.disk-protected", "boot from another pool first",
                         "disk %s holds the node's own state", params->name);
    if (pool == NULL && entry->disk.held)
        return error_set(err, EBUSY, "storage.disk-busy", "",
                         "something else (RAID, a mapping) sits on disk %s", params->name);
    size_t volumes = 0;
    if (pool != NULL && !params->force) {
        int r = volume_each(pool, count_one, &volumes);
        bool spaces = space_reserved(pool) > 0;
        if (r < 0 || volumes > 0 || spaces)
            return error_set(err, EBUSY, "storage.disk-in-use", "--force throws them away",
                             "disk %s holds a pool with %zu volumes%s%s", params->name, volumes,
                             spaces ? " and key-value namespaces" : "",
                             r < 0 ? ", as far as it can be read" : "");
    }
    return 0;
}

/* In good order: what is open there keeps it, and then the pool stays as it was. */
static int unmount(struct storage *storage, struct pool *pool, struct error *err)
{
    char path[128];
    pool_path(pool, path, sizeof(path));
    close(pool->fd);
    int r = umount2(path, 0) < 0 ? -errno : 0;
    if (r < 0) {
        pool->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return error_set(err, -r, "storage.disk-busy", "end what uses its volumes first",
                         "the pool on disk %s is in use: %s", pool->disk, strerror(-r));
    }
    (void)rmdir(path);
    pool->fd = -1;
    roster_forget_pool(storage, pool->uuid);
    pool_drop(storage, pool);
    return 0;
}

void wipe_disk(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct storage *storage = data;
    struct wipe_params p = {0};
    struct error err = {0};
    int r = json_read(params, wipe_fields, sizeof(wipe_fields) / sizeof(wipe_fields[0]), 0, &p,
                      "storage.bad-request", &err);
    struct disk_entry *entry = r < 0 ? NULL : find(storage, &p);
    if (r >= 0)
        r = check(storage, entry, &p, &err);
    struct pool *pool = r < 0 ? NULL : pool_of(storage, entry->disk.name);
    if (pool != NULL)
        r = unmount(storage, pool, &err);
    if (r >= 0) {
        log_warn("disk %s (%s) is wiped, as was asked", entry->disk.name, entry->disk.serial);
        r = hotplug_begin(entry, CLAIM_WIPE);
        if (r < 0)
            error_set(&err, -r, "storage.disk-failed", "", "disk %s: %s", p.name, strerror(-r));
    }
    if (r < 0)
        varlink_call_fail(call, &err);
    else
        entry->wipe = call;
}

void wipe_ended(struct disk_entry *entry)
{
    struct varlink_call *call = entry->wipe;
    const struct pool *pool = entry->gone ? NULL : pool_of(entry->storage, entry->disk.name);
    entry->wipe = NULL;
    if (pool == NULL) {
        struct error err = {0};
        bool refused = !entry->gone && entry->state == CLAIM_IGNORED;
        error_set(&err, refused ? EPERM : EIO,
                  refused ? "storage.disk-protected" : "storage.disk-failed",
                  "croft disk list tells its state", "disk %s was not made a pool: %.150s",
                  entry->disk.name, entry->gone ? "it is gone" : entry->detail);
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "uuid", pool->uuid);
    varlink_call_reply(call, doc);
}
