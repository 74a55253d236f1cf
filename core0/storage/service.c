/*
 * service.c - org.croft.storage: disks, pools and volumes over varlink.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "gen/interfaces.h"
#include "lib/json.h"
#include "snapshot.h"
#include "space.h"
#include "vdisk.h"
#include "volume_parts.h"

static void reply_doc(struct varlink_call *call, yyjson_mut_doc *doc, yyjson_mut_val *object)
{
    yyjson_mut_doc_set_root(doc, object);
    varlink_call_reply(call, doc);
}

/* A volume still counts here while its pool is full: what is free is what may still be promised. */
static void get_status(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct storage *storage = data;
    (void)params;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    uint64_t capacity[2] = {0, 0};
    bool ephemeral = false;
    yyjson_mut_val *disks = yyjson_mut_arr(doc);
    for (const struct disk_entry *entry = storage->disks; entry != NULL; entry = entry->next) {
        const struct smart *smart = &entry->smart;
        yyjson_mut_val *disk = yyjson_mut_arr_add_obj(doc, disks);
        yyjson_mut_obj_add_strcpy(doc, disk, "name", entry->disk.name);
        yyjson_mut_obj_add_uint(doc, disk, "size", entry->disk.size);
        yyjson_mut_obj_add_str(doc, disk, "kind", entry->disk.rotational ? "hdd" : "ssd");
        yyjson_mut_obj_add_strcpy(doc, disk, "model", entry->disk.model);
        yyjson_mut_obj_add_strcpy(doc, disk, "serial", entry->disk.serial);
        yyjson_mut_obj_add_str(doc, disk, "state", claim_state_name(entry->state));
        yyjson_mut_obj_add_strcpy(doc, disk, "detail", entry->detail);
        yyjson_mut_obj_add_str(doc, disk, "bus", disk_bus_name(entry->disk.bus));
        yyjson_mut_obj_add_strcpy(doc, disk, "basis", entry->basis);
        yyjson_mut_obj_add_str(doc, disk, "health", smart_health_name(smart->health));
        yyjson_mut_obj_add_strcpy(doc, disk, "healthDetail", smart->reason);
        if (smart->has_temperature)
            yyjson_mut_obj_add_int(doc, disk, "temperature", smart->temperature);
        if (smart->has_hours)
            yyjson_mut_obj_add_uint(doc, disk, "hours", smart->hours);
        if (smart->has_worn)
            yyjson_mut_obj_add_uint(doc, disk, "worn", smart->worn);
    }
    yyjson_mut_val *pools = yyjson_mut_arr(doc);
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        char path[128];
        uint64_t used = 0;
        uint64_t reserved = volume_reserved(pool) + space_reserved(pool);
        uint64_t left = pool_free(pool);
        uint64_t by_volumes = 0;
        (void)pool_used(pool, &used, &by_volumes);
        pool_path(pool, path, sizeof(path));
        /* What the contract counts of what is promised, and what may still be: a namespace's dead records and its server
         * are the node's own cost, and are sold to nobody else meanwhile (docs/decisions/0115). */
        capacity[pool->rotational] += volume_reserved(pool) + space_sold(pool) + left;
        ephemeral |= pool->ephemeral;
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, pools);
        yyjson_mut_obj_add_strcpy(doc, object, "uuid", pool->uuid);
        yyjson_mut_obj_add_strcpy(doc, object, "disk", pool->disk);
        yyjson_mut_obj_add_str(doc, object, "kind", pool_kind(pool));
        yyjson_mut_obj_add_uint(doc, object, "size", pool->size);
        yyjson_mut_obj_add_uint(doc, object, "own", pool->own);
        yyjson_mut_obj_add_uint(doc, object, "overhead", pool->size - pool->own - reserved - left);
        yyjson_mut_obj_add_uint(doc, object, "free", left);
        yyjson_mut_obj_add_uint(doc, object, "used", used);
        yyjson_mut_obj_add_uint(doc, object, "usedByVolumes", by_volumes);
        yyjson_mut_obj_add_uint(doc, object, "reserved", reserved);
        yyjson_mut_obj_add_strcpy(doc, object, "path", path);
        yyjson_mut_obj_add_bool(doc, object, "primary", pool->primary);
        yyjson_mut_obj_add_bool(doc, object, "ephemeral", pool->ephemeral);
    }
    yyjson_mut_obj_add_uint(doc, root, "ssd", capacity[0]);
    yyjson_mut_obj_add_uint(doc, root, "hdd", capacity[1]);
    yyjson_mut_obj_add_bool(doc, root, "ephemeral", ephemeral);
    yyjson_mut_obj_add_val(doc, root, "disks", disks);
    yyjson_mut_obj_add_val(doc, root, "pools", pools);
    reply_doc(call, doc, root);
}

struct volume_params {
    const char *key;
    const char *kind;
    uint64_t size;
    uint64_t every;
    uint64_t keep;
    int64_t until;
    bool at_least;
    bool later;
};

static const struct json_field ensure_fields[] = {
    {"key", JSON_STRING, offsetof(struct volume_params, key), true, 0, 255},
    {"kind", JSON_STRING, offsetof(struct volume_params, kind), true, 0, 16},
    {"size", JSON_UINT, offsetof(struct volume_params, size), true, 0, 0},
    {"snapshotEvery", JSON_UINT, offsetof(struct volume_params, every), false, 0, 0},
    {"snapshotKeep", JSON_UINT, offsetof(struct volume_params, keep), false, 0, 0},
    {"atLeast", JSON_BOOL, offsetof(struct volume_params, at_least), false, 0, 0},
    {"later", JSON_BOOL, offsetof(struct volume_params, later), false, 0, 0},
};
static const struct json_field resize_fields[] = {
    {"key", JSON_STRING, offsetof(struct volume_params, key), true, 0, 255},
    {"size", JSON_UINT, offsetof(struct volume_params, size), true, 0, 0},
};
static const struct json_field keep_fields[] = {
    {"key", JSON_STRING, offsetof(struct volume_params, key), true, 0, 255},
    {"until", JSON_INT, offsetof(struct volume_params, until), true, 0, (uint64_t)1 << 40},
};
static const struct json_field key_fields[] = {
    {"key", JSON_STRING, offsetof(struct volume_params, key), true, 0, 255},
};

#define READ(fields, params, dest, err)                                                            \
    storage_read(data, params, fields, sizeof(fields) / sizeof((fields)[0]), dest, err)

static void ensure_volume(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct volume_params p = {0};
    struct volume volume;
    bool created;
    int r = READ(ensure_fields, params, &p, &err);
    if (r >= 0)
        r = volume_ensure(data,
                          &(struct volume_wish){.key = p.key,
                                                .kind = p.kind,
                                                .size = p.size,
                                                .at_least = p.at_least,
                                                .later = p.later},
                          &volume, &created, &err);
    /* With atLeast only a first policy is taken, so that nothing an earlier one keeps goes. */
    if (r >= 0 && (!p.at_least || (p.keep != 0 && volume.policy.keep == 0)))
        r = snapshot_policy_set(data, &volume, &(struct snapshot_policy){p.every, p.keep}, &err);
    if (r == -EINPROGRESS) {
        volume_shrink(data, p.key, call, ensure_volume, params);
        return;
    }
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, root, "path", volume.path);
    yyjson_mut_obj_add_bool(doc, root, "created", created);
    if (volume.policy.keep != 0) {
        char path[600];
        snapshot_folder(&volume, path, sizeof(path));
        yyjson_mut_obj_add_strcpy(doc, root, "snapshots", path);
    }
    reply_doc(call, doc, root);
}

static void keep_volume(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct volume_params p = {0};
    int r = READ(keep_fields, params, &p, &err);
    if (r >= 0 && !roster_keep(data, p.key, p.until)) {
        r = volume_keep(data, p.key, p.until, &err);
        roster_changed(data, p.key);
    }
    if (r < 0)
        varlink_call_fail(call, &err);
    else
        varlink_call_reply(call, NULL);
}

static void resize_volume(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct volume_params p = {0};
    int r = READ(resize_fields, params, &p, &err);
    if (r >= 0)
        r = volume_resize(data, p.key, p.size, &err);
    struct volume volume;
    if (r == -EINPROGRESS) {
        volume_shrink(data, p.key, call, resize_volume, params);
        return;
    }
    if (r >= 0)
        r = volume_get(data, p.key, &volume, &err);
    if (r < 0)
        varlink_call_fail(call, &err);
    else if (volume_is_disk(&volume))
        vdisk_grow(data, &volume, call);
    else
        varlink_call_reply(call, NULL);
}

static void remove_volume(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct volume_params p = {0};
    int r = READ(key_fields, params, &p, &err);
    if (r >= 0)
        r = volume_remove(data, p.key, &err);
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    roster_forget(data, p.key);
    varlink_call_reply(call, NULL);
}

struct listing {
    yyjson_mut_doc *doc;
    yyjson_mut_val *volumes;
};

static int list_one(const struct volume *volume, void *data)
{
    struct listing *listing = data;
    yyjson_mut_doc *doc = listing->doc;
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, listing->volumes);
    yyjson_mut_obj_add_strcpy(doc, object, "key", volume->key);
    yyjson_mut_obj_add_str(doc, object, "kind", pool_kind(volume->pool));
    yyjson_mut_obj_add_uint(doc, object, "size", volume->size);
    yyjson_mut_obj_add_uint(doc, object, "used", volume->used);
    yyjson_mut_obj_add_strcpy(doc, object, "path", volume->path);
    yyjson_mut_obj_add_strcpy(doc, object, "pool", volume->pool->uuid);
    yyjson_mut_obj_add_uint(doc, object, "snapshots", volume->snapshots);
    if (volume->policy.keep != 0) {
        yyjson_mut_obj_add_uint(doc, object, "snapshotEvery", volume->policy.every_ms);
        yyjson_mut_obj_add_uint(doc, object, "snapshotKeep", volume->policy.keep);
    }
    if (volume->keep_until != 0)
        yyjson_mut_obj_add_sint(doc, object, "keepUntil", volume->keep_until);
    if (volume_is_disk(volume))
        vdisk_describe(doc, object, volume);
    return 0;
}

static void list_lost(const struct storage *storage, const struct listing *listing)
{
    yyjson_mut_doc *doc = listing->doc;
    const struct roster_entry *entry;
    size_t at = 0;
    while ((entry = roster_next_lost(storage, &at)) != NULL) {
        if (strncmp(entry->key, "volume/", 7) != 0)
            continue; /* a namespace: space_list() */
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, listing->volumes);
        yyjson_mut_obj_add_strcpy(doc, object, "key", entry->key);
        yyjson_mut_obj_add_strcpy(doc, object, "kind", entry->kind);
        yyjson_mut_obj_add_uint(doc, object, "size", entry->size);
        yyjson_mut_obj_add_uint(doc, object, "used", 0);
        yyjson_mut_obj_add_str(doc, object, "path", "");
        yyjson_mut_obj_add_uint(doc, object, "snapshots", 0);
        yyjson_mut_obj_add_strcpy(doc, object, "pool", entry->pool);
        if (entry->keep_until != 0)
            yyjson_mut_obj_add_sint(doc, object, "keepUntil", entry->keep_until);
        yyjson_mut_obj_add_str(doc, object, "error", roster_error(storage, entry));
    }
}

static void list_volumes(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct storage *storage = data;
    struct error err = {0};
    (void)params;
    if (storage_check_ready(storage, &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    struct listing listing = {.doc = yyjson_mut_doc_new(NULL)};
    yyjson_mut_val *root = yyjson_mut_obj(listing.doc);
    listing.volumes = yyjson_mut_arr(listing.doc);
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next)
        (void)volume_each(pool, list_one, &listing);
    list_lost(storage, &listing);
    yyjson_mut_obj_add_val(listing.doc, root, "volumes", listing.volumes);
    reply_doc(call, listing.doc, root);
}

/* Who asks for what: docs/services.md. Nobody else needs to know what a tenant keeps here; gated tells each his own. */
static const uid_t watchers[] = {STORAGE_UID_NODED, STORAGE_UID_GATED, VARLINK_UID_END};
static const uid_t provd[] = {STORAGE_UID_PROVD, VARLINK_UID_END};

static const uid_t askers[] = {STORAGE_UID_PROVD, STORAGE_UID_GATED, VARLINK_UID_END};

static const struct varlink_method methods[] = {
    {"org.croft.storage.GetStatus", get_status, watchers},
    {"org.croft.storage.CheckDisks", health_check, NULL},
    {"org.croft.storage.WipeDisk", wipe_disk, NULL},
    {"org.croft.storage.ListVolumes", list_volumes, askers},
    {"org.croft.storage.EnsureVolume", ensure_volume, provd},
    {"org.croft.storage.ResizeVolume", resize_volume, NULL},
    {"org.croft.storage.SnapshotVolume", snapshot_method_make, NULL},
    {"org.croft.storage.ListSnapshots", snapshot_method_list, NULL},
    {"org.croft.storage.RemoveSnapshot", snapshot_method_remove, NULL},
    {"org.croft.storage.RestoreSnapshot", snapshot_method_restore, NULL},
    {"org.croft.storage.KeepVolume", keep_volume, provd},
    {"org.croft.storage.RemoveVolume", remove_volume, provd},
    {"org.croft.storage.EnsureVirtualDisk", vdisk_method_ensure, provd},
    {"org.croft.storage.AttachVirtualDisk", vdisk_method_attach, provd},
    {"org.croft.storage.DetachVirtualDisk", vdisk_method_detach, provd},
    {"org.croft.storage.ListSpaces", space_list, provd},
    {"org.croft.storage.GetSpace", space_get, NULL},
    {"org.croft.storage.EnsureSpace", space_ensure, provd},
    {"org.croft.storage.KeepSpace", space_keep, provd},
    {"org.croft.storage.RemoveSpace", space_remove, provd},
};

const struct varlink_interface storage_interface = {
    .name = "org.croft.storage",
    .description = varlink_org_croft_storage,
    .methods = methods,
    .method_count = sizeof(methods) / sizeof(methods[0]),
};
