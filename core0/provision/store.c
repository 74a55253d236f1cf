/*
 * store.c - provd's state folder; see store.h.
 */
#include "provision/store.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"

#define BAD "provision.bad-state"
#define LISTS_MAX ((size_t)32 << 20)

static int path_of(const struct store *store, char ret_path[PATH_MAX], const char *name)
{
    int len = snprintf(ret_path, PATH_MAX, "%s/%s", store->dir, name);
    return len > 0 && len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static yyjson_doc *load(const struct store *store, const char *name, struct error *err)
{
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len;

    int ret = path_of(store, path, name);
    if (ret == 0) {
        ret = file_read(path, LISTS_MAX, &text, &len);
    }
    if (ret < 0) {
        error_set(err, -ret, BAD, "", "%s cannot be read: %s", name, strerror(-ret));
        return NULL;
    }
    return json_parse(text, len, LISTS_MAX, BAD, err);
}

/* Consumes doc. */
static int save(const struct store *store, const char *name, yyjson_mut_doc *doc, struct error *err)
{
    char path[PATH_MAX];
    size_t len = 0;
    cleanup_free char *text = yyjson_mut_write(doc, 0, &len);

    yyjson_mut_doc_free(doc);
    int ret = text == NULL ? -ENOMEM : path_of(store, path, name);
    if (ret == 0) {
        ret = file_write_atomic(path, text, len, 0600);
    }
    return ret < 0 ? error_set(err, -ret, BAD, "free some space", "%s cannot be written: %s", name,
                               strerror(-ret))
                   : 0;
}

/* ---- lists ---- */

int store_load_lists(const struct store *store, struct ledger *ret_latest, struct ledger *ret_final,
                     uint64_t *ret_final_block, struct error *err)
{
    yyjson_doc *doc = load(store, "lists.json", err);
    struct ledger latest;

    if (doc == NULL) {
        return -ENOENT;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    int ret = ledger_from_json(yyjson_obj_get(root, "latest"), &latest, err);
    if (ret == 0) {
        ret = ledger_from_json(yyjson_obj_get(root, "final"), ret_final, err);
        if (ret < 0) {
            ledger_done(&latest);
        } else {
            *ret_latest = latest;
            *ret_final_block = yyjson_get_uint(yyjson_obj_get(root, "finalBlock"));
        }
    }
    yyjson_doc_free(doc);
    return ret;
}

int store_save_lists(const struct store *store, const struct ledger *latest,
                     const struct ledger *final, uint64_t final_block, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "finalBlock", final_block);
    yyjson_mut_obj_add_val(doc, root, "latest", ledger_to_json(latest, doc));
    yyjson_mut_obj_add_val(doc, root, "final", ledger_to_json(final, doc));
    return save(store, "lists.json", doc, err);
}

/* ---- the farmer ---- */

int store_load_farmer(const struct store *store, struct store_farmer *ret_farmer, struct error *err)
{
    struct read {
        uint64_t chain_id, farm;
        const char *registry, *trust, *farmer;
    } read = {0};
    static const struct json_field fields[] = {
        {"chainId", JSON_UINT, offsetof(struct read, chain_id), true, 0, 0},
        {"registry", JSON_STRING, offsetof(struct read, registry), true, 0, 40},
        {"farm", JSON_UINT, offsetof(struct read, farm), true, 0, 0},
        {"trust", JSON_STRING, offsetof(struct read, trust), true, 0,
         sizeof(ret_farmer->trust) - 1},
        {"farmer", JSON_STRING, offsetof(struct read, farmer), true, 0, 40},
    };
    struct store_farmer farmer = {0};
    yyjson_doc *doc = load(store, "farmer.json", err);

    if (doc == NULL) {
        return -ENOENT;
    }
    int ret = json_read(yyjson_doc_get_root(doc), fields, sizeof(fields) / sizeof(fields[0]), 0,
                        &read, BAD, err);
    if (ret == 0 && (hex_decode(read.registry, farmer.registry, 20) < 0 ||
                     hex_decode(read.farmer, farmer.farmer, 20) < 0)) {
        ret = error_set(err, EINVAL, BAD, "", "farmer.json holds no addresses");
    }
    if (ret == 0) {
        farmer.chain_id = read.chain_id;
        farmer.farm = read.farm;
        snprintf(farmer.trust, sizeof(farmer.trust), "%s", read.trust);
        *ret_farmer = farmer;
    }
    yyjson_doc_free(doc);
    return ret;
}

int store_save_farmer(const struct store *store, const struct store_farmer *farmer,
                      struct error *err)
{
    char registry[41], address[41];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    if (doc == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    hex_encode(farmer->registry, 20, registry);
    hex_encode(farmer->farmer, 20, address);
    yyjson_mut_obj_add_uint(doc, root, "chainId", farmer->chain_id);
    yyjson_mut_obj_add_strcpy(doc, root, "registry", registry);
    yyjson_mut_obj_add_uint(doc, root, "farm", farmer->farm);
    yyjson_mut_obj_add_strcpy(doc, root, "trust", farmer->trust);
    yyjson_mut_obj_add_strcpy(doc, root, "farmer", address);
    return save(store, "farmer.json", doc, err);
}

/* ---- what a reorganisation took back ---- */

int store_save_replaced(const struct store *store, const struct store_replaced *list, size_t count,
                        struct error *err)
{
    char path[PATH_MAX];

    if (count == 0) {
        int ret = path_of(store, path, "replaced.json");
        /* Still there after a cut of power: swept once more, which finds nothing. */
        if (ret == 0 && unlink(path) < 0 && errno != ENOENT) {
            ret = -errno;
        }
        return ret < 0 ? error_set(err, -ret, BAD, "", "replaced.json cannot be removed: %s",
                                   strerror(-ret))
                       : 0;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_mut_val *root = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, root);
        yyjson_mut_obj_add_uint(doc, item, "reservation", list[i].reservation);
        yyjson_mut_obj_add_uint(doc, item, "revision", list[i].revision);
    }
    return save(store, "replaced.json", doc, err);
}

int store_load_replaced(const struct store *store, struct store_replaced **ret_list,
                        size_t *ret_count, struct error *err)
{
    struct read {
        uint64_t reservation, revision;
    } read;
    static const struct json_field fields[] = {
        {"reservation", JSON_UINT, offsetof(struct read, reservation), true, 1, 0},
        {"revision", JSON_UINT, offsetof(struct read, revision), true, 1, UINT32_MAX},
    };
    struct error missing = {0};
    yyjson_doc *doc = load(store, "replaced.json", &missing);
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    size_t i, max;
    int ret = 0;

    *ret_count = 0;
    *ret_list = calloc(yyjson_arr_size(root) + 1, sizeof(**ret_list));
    if (*ret_list == NULL) {
        yyjson_doc_free(doc);
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_arr_foreach(root, i, max, item)
    {
        if ((ret = json_read(item, fields, 2, 0, &read, BAD, err)) < 0) {
            break;
        }
        (*ret_list)[(*ret_count)++] =
            (struct store_replaced){read.reservation, (uint32_t)read.revision};
    }
    yyjson_doc_free(doc);
    if (ret < 0) {
        free(*ret_list);
        *ret_list = NULL;
        *ret_count = 0;
    }
    return ret;
}

/* ---- sealed bytes ---- */

static int sealed_path(const struct store *store, uint64_t id, uint32_t revision,
                       char ret_path[PATH_MAX])
{
    char name[64];
    snprintf(name, sizeof(name), "sealed-%" PRIu64 "-%" PRIu32, id, revision);
    return path_of(store, ret_path, name);
}

int store_load_sealed(const struct store *store, uint64_t id, uint32_t revision, uint8_t **ret_data,
                      size_t *ret_len)
{
    char path[PATH_MAX];
    char *data;

    int ret = sealed_path(store, id, revision, path);
    if (ret == 0) {
        ret = file_read(path, STORE_SEALED_MAX, &data, ret_len);
    }
    if (ret < 0) {
        return ret;
    }
    *ret_data = (uint8_t *)data;
    return 0;
}

int store_save_sealed(const struct store *store, uint64_t id, uint32_t revision, const void *data,
                      size_t len, struct error *err)
{
    char path[PATH_MAX];

    int ret = sealed_path(store, id, revision, path);
    if (ret == 0) {
        ret = file_write_atomic(path, data, len, 0600);
    }
    return ret < 0 ? error_set(err, -ret, BAD, "free some space", "sealed bytes cannot be kept: %s",
                               strerror(-ret))
                   : 0;
}

void store_drop_sealed(const struct store *store, uint64_t id, uint32_t revision)
{
    char path[PATH_MAX];
    if (sealed_path(store, id, revision, path) == 0) {
        (void)unlink(path); /* absent is as good */
    }
}

/* ---- slots and volumes ---- */

static int save_slots(const struct store *store, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_val *slots = yyjson_mut_obj_add_arr(doc, root, "slots");
    for (size_t i = 0; i < store->slot_count; i++) {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, slots);
        yyjson_mut_obj_add_uint(doc, item, "reservation", store->slots[i].reservation);
        yyjson_mut_obj_add_uint(doc, item, "slot", store->slots[i].slot);
    }
    yyjson_mut_val *volumes = yyjson_mut_obj_add_arr(doc, root, "volumes");
    for (size_t i = 0; i < store->volume_count; i++) {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, volumes);
        yyjson_mut_obj_add_str(doc, item, "key", store->volumes[i].key);
        yyjson_mut_obj_add_uint(doc, item, "reservation", store->volumes[i].reservation);
        yyjson_mut_obj_add_uint(doc, item, "keep", store->volumes[i].keep_ms);
    }
    return save(store, "slots.json", doc, err);
}

static int read_slot(struct store *store, yyjson_val *item, struct error *err)
{
    struct read {
        uint64_t reservation, slot;
    } read = {0};
    static const struct json_field fields[] = {
        {"reservation", JSON_UINT, offsetof(struct read, reservation), true, 1, 0},
        {"slot", JSON_UINT, offsetof(struct read, slot), true, 0, STORE_SLOTS_MAX - 1},
    };
    int ret = json_read(item, fields, 2, 0, &read, BAD, err);
    if (ret == 0) {
        store->slots[store->slot_count++] =
            (struct store_slot){read.reservation, (uint32_t)read.slot};
    }
    return ret;
}

static int read_volume(struct store *store, yyjson_val *item, struct error *err)
{
    struct read {
        const char *key;
        uint64_t reservation, keep;
    } read = {0};
    static const struct json_field fields[] = {
        {"key", JSON_STRING, offsetof(struct read, key), true, 0, STORE_KEY_MAX},
        {"reservation", JSON_UINT, offsetof(struct read, reservation), true, 1, 0},
        {"keep", JSON_UINT, offsetof(struct read, keep), true, 0, 0},
    };
    int ret = json_read(item, fields, 3, 0, &read, BAD, err);
    if (ret == 0) {
        struct store_volume *volume = &store->volumes[store->volume_count++];
        snprintf(volume->key, sizeof(volume->key), "%s", read.key);
        volume->reservation = read.reservation;
        volume->keep_ms = read.keep;
    }
    return ret;
}

static int read_slots(struct store *store, yyjson_val *root, struct error *err)
{
    yyjson_val *slots = yyjson_obj_get(root, "slots");
    yyjson_val *volumes = yyjson_obj_get(root, "volumes");
    size_t i, max;
    yyjson_val *item;
    int ret = 0;

    store->slots = calloc(yyjson_arr_size(slots) + 1, sizeof(*store->slots));
    store->volumes = calloc(yyjson_arr_size(volumes) + 1, sizeof(*store->volumes));
    if (store->slots == NULL || store->volumes == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    yyjson_arr_foreach(slots, i, max, item)
    {
        ret = ret == 0 ? read_slot(store, item, err) : ret;
    }
    yyjson_arr_foreach(volumes, i, max, item)
    {
        ret = ret == 0 ? read_volume(store, item, err) : ret;
    }
    return ret;
}

int store_open(const char *dir, struct store *ret_store, struct error *err)
{
    struct store store = {.dir = strdup(dir)};
    struct error ignored = {0};

    if (store.dir == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    int ret = file_mkdirs(dir, 0700);
    if (ret < 0) {
        free(store.dir);
        return error_set(err, -ret, BAD, "", "%s cannot be made: %s", dir, strerror(-ret));
    }
    yyjson_doc *doc = load(&store, "slots.json", &ignored);
    if (doc != NULL) {
        ret = read_slots(&store, yyjson_doc_get_root(doc), err);
        yyjson_doc_free(doc);
    }
    if (ret < 0) {
        store_done(&store);
        return ret;
    }
    *ret_store = store;
    return 0;
}

void store_done(struct store *store)
{
    free(store->dir);
    free(store->slots);
    free(store->volumes);
    *store = (struct store){0};
}

static bool slot_taken(const struct store *store, uint32_t slot)
{
    for (size_t i = 0; i < store->slot_count; i++) {
        if (store->slots[i].slot == slot) {
            return true;
        }
    }
    return false;
}

int store_take_uids(struct store *store, uint64_t reservation, uint32_t limit, uint32_t *ret_base,
                    struct error *err)
{
    for (size_t i = 0; i < store->slot_count; i++) {
        if (store->slots[i].reservation == reservation) {
            *ret_base = STORE_UID_BASE + store->slots[i].slot * STORE_UID_COUNT;
            return 0;
        }
    }
    uint32_t slot = 0;
    while (slot < limit && slot_taken(store, slot)) {
        slot++;
    }
    if (slot >= limit) {
        return error_set(err, ENOSPC, "provision.no-uid-range", "cancel reservations of this node",
                         "every range of user ids is taken");
    }
    struct store_slot *grown = reallocarray(store->slots, store->slot_count + 1, sizeof(*grown));
    if (grown == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    store->slots = grown;
    grown[store->slot_count++] = (struct store_slot){reservation, slot};
    int ret = save_slots(store, err);
    if (ret < 0) {
        store->slot_count--;
        return ret;
    }
    *ret_base = STORE_UID_BASE + slot * STORE_UID_COUNT;
    return 0;
}

int store_release_uids(struct store *store, uint64_t reservation)
{
    for (size_t i = 0; i < store->slot_count; i++) {
        if (store->slots[i].reservation == reservation) {
            store->slots[i] = store->slots[--store->slot_count];
            return save_slots(store, NULL);
        }
    }
    return 0;
}

const struct store_volume *store_find_volume(const struct store *store, const char *key)
{
    for (size_t i = 0; i < store->volume_count; i++) {
        if (strcmp(store->volumes[i].key, key) == 0) {
            return &store->volumes[i];
        }
    }
    return NULL;
}

int store_put_volume(struct store *store, const char *key, uint64_t reservation, uint64_t keep_ms,
                     struct error *err)
{
    const struct store_volume *known = store_find_volume(store, key);
    struct store_volume volume = {.reservation = reservation, .keep_ms = keep_ms};

    if (known != NULL && known->reservation == reservation && known->keep_ms == keep_ms) {
        return 0;
    }
    snprintf(volume.key, sizeof(volume.key), "%s", key);
    if (known != NULL) {
        store->volumes[known - store->volumes] = volume;
        return save_slots(store, err);
    }
    struct store_volume *grown =
        reallocarray(store->volumes, store->volume_count + 1, sizeof(*grown));
    if (grown == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    store->volumes = grown;
    grown[store->volume_count++] = volume;
    return save_slots(store, err);
}

int store_drop_volume(struct store *store, const char *key)
{
    const struct store_volume *known = store_find_volume(store, key);
    if (known == NULL) {
        return 0;
    }
    store->volumes[known - store->volumes] = store->volumes[--store->volume_count];
    return save_slots(store, NULL);
}
