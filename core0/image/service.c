/*
 * service.c - org.croft.image over varlink.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gen/interfaces.h"
#include "image.h"
#include "lib/json.h"

#define KEEP_MAX 4096

#define READ(fields, params, dest, err)                                                            \
    json_read(params, fields, sizeof(fields) / sizeof((fields)[0]), 0, dest, "image.bad-request",  \
              err)

static void reply_doc(struct varlink_call *call, yyjson_mut_doc *doc, yyjson_mut_val *object)
{
    yyjson_mut_doc_set_root(doc, object);
    varlink_call_reply(call, doc);
}

/* The strings of an array; 0, or -1 with err when it holds anything else. */
static int strings(yyjson_val *array, const char **ret_strings, size_t max, size_t *ret_count,
                   struct error *err)
{
    size_t index;
    size_t count;
    yyjson_val *item;
    *ret_count = 0;
    yyjson_arr_foreach(array, index, count, item)
    {
        if (!yyjson_is_str(item) || yyjson_get_len(item) > 1024 || *ret_count == max)
            return error_set(err, 22, "image.bad-request", "",
                             "an array holds too much, or no text");
        ret_strings[(*ret_count)++] = yyjson_get_str(item);
    }
    return 0;
}

struct params {
    const char *id;
    yyjson_val *hubs;
    yyjson_val *keep;
    int64_t reservation;
    int64_t revision;
    const char *service;
    const char *scratch;
    uint64_t uid_base;
    uint64_t uid_count;
};

static const struct json_field pull_fields[] = {
    {"id", JSON_STRING, offsetof(struct params, id), true, 0, 64},
    {"hubs", JSON_ARRAY, offsetof(struct params, hubs), true, 0, IMAGE_HUBS_MAX},
};

static void pull(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct params p = {0};
    const char *hubs[IMAGE_HUBS_MAX];
    size_t count = 0;
    int r = READ(pull_fields, params, &p, &err);
    if (r >= 0)
        r = image_id_check(p.id, &err);
    if (r >= 0)
        r = strings(p.hubs, hubs, IMAGE_HUBS_MAX, &count, &err);
    if (r < 0)
        varlink_call_fail(call, &err);
    else
        pull_request(data, p.id, hubs, count, call);
}

static const struct json_field mount_fields[] = {
    {"reservation", JSON_INT, offsetof(struct params, reservation), true, 0, 0},
    {"revision", JSON_INT, offsetof(struct params, revision), true, 0, 0},
    {"service", JSON_STRING, offsetof(struct params, service), true, 0, 63},
    {"id", JSON_STRING, offsetof(struct params, id), true, 0, 64},
    {"scratch", JSON_STRING, offsetof(struct params, scratch), true, 0, 240},
    {"uidBase", JSON_UINT, offsetof(struct params, uid_base), true, 0, UINT32_MAX},
    {"uidCount", JSON_UINT, offsetof(struct params, uid_count), true, 0, UINT32_MAX},
};

static void mount_image(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct params p = {0};
    struct image_config config;
    char rootfs[256];
    int r = READ(mount_fields, params, &p, &err);
    if (r >= 0)
        r = image_id_check(p.id, &err);
    if (r >= 0) {
        struct mount_request request = {p.reservation, p.revision, p.service,  p.id,
                                        p.scratch,     p.uid_base, p.uid_count};
        r = mount_make(data, &request, rootfs, sizeof(rootfs), &config, &err);
    }
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, root, "rootfs", rootfs);
    yyjson_mut_obj_add_val(doc, root, "config",
                           yyjson_val_mut_copy(doc, yyjson_doc_get_root(config.doc)));
    image_config_done(&config);
    reply_doc(call, doc, root);
}

static void unmount_image(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct params p = {0};
    int r = json_read(params, mount_fields, 3, 0, &p, "image.bad-request", &err);
    if (r >= 0)
        r = mount_remove(data, p.reservation, p.revision, p.service, &err);
    if (r < 0)
        varlink_call_fail(call, &err);
    else
        varlink_call_reply(call, NULL);
}

struct listing {
    struct images *images;
    yyjson_mut_doc *doc;
    yyjson_mut_val *array;
};

static int list_image(const char *id, void *data)
{
    struct listing *listing = data;
    struct error err = {0};
    struct image_config config;
    struct erofs_object *objects = NULL;
    size_t count = 0;
    if (store_config(listing->images, id, &config, &err) < 0)
        return 0;
    uint64_t bytes = config.size;
    int fd = -1;
    bool complete = store_meta_open(listing->images, config.digest, &fd, &err) == 0 &&
                    store_objects(fd, &objects, &count, &err) == 0;
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; i < count; i++) {
        char path[128];
        store_object_path(objects[i].digest, path);
        bytes += objects[i].size;
        complete = complete && store_has(listing->images, path);
    }
    free(objects);
    image_config_done(&config);
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(listing->doc, listing->array);
    yyjson_mut_obj_add_strcpy(listing->doc, object, "id", id);
    yyjson_mut_obj_add_uint(listing->doc, object, "bytes", bytes);
    yyjson_mut_obj_add_uint(listing->doc, object, "objects", count);
    yyjson_mut_obj_add_bool(listing->doc, object, "complete", complete);
    return 0;
}

static int list_mount(const struct mount_entry *entry, void *data)
{
    struct listing *listing = data;
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(listing->doc, listing->array);
    yyjson_mut_obj_add_sint(listing->doc, object, "reservation", entry->reservation);
    yyjson_mut_obj_add_sint(listing->doc, object, "revision", entry->revision);
    yyjson_mut_obj_add_strcpy(listing->doc, object, "service", entry->service);
    yyjson_mut_obj_add_strcpy(listing->doc, object, "id", entry->id);
    yyjson_mut_obj_add_strcpy(listing->doc, object, "rootfs", entry->rootfs);
    return 0;
}

static void list(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    struct listing listing = {.images = data, .doc = yyjson_mut_doc_new(NULL)};
    yyjson_mut_val *root = yyjson_mut_obj(listing.doc);
    listing.array = yyjson_mut_arr(listing.doc);
    (void)collect_each(data, list_image, &listing);
    yyjson_mut_obj_add_val(listing.doc, root, "images", listing.array);
    listing.array = yyjson_mut_arr(listing.doc);
    (void)mount_each(data, list_mount, &listing);
    yyjson_mut_obj_add_val(listing.doc, root, "mounts", listing.array);
    reply_doc(call, listing.doc, root);
}

static const struct json_field collect_fields[] = {
    {"keep", JSON_ARRAY, offsetof(struct params, keep), true, 0, KEEP_MAX},
};

static void collect(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct params p = {0};
    const char **keep = calloc(KEEP_MAX, sizeof(*keep));
    size_t count = 0;
    uint64_t images = 0;
    uint64_t objects = 0;
    uint64_t bytes = 0;
    int r = keep == NULL ? error_set(&err, 12, "image.no-memory", "", "no memory") : 0;
    r = r == 0 ? READ(collect_fields, params, &p, &err) : r;
    if (r >= 0)
        r = strings(p.keep, keep, KEEP_MAX, &count, &err);
    if (r >= 0)
        r = collect_run(data, keep, count, &images, &objects, &bytes, &err);
    free(keep);
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_uint(doc, root, "images", images);
    yyjson_mut_obj_add_uint(doc, root, "objects", objects);
    yyjson_mut_obj_add_uint(doc, root, "bytes", bytes);
    reply_doc(call, doc, root);
}

static const uid_t provd[] = {IMAGE_UID_PROVD, VARLINK_UID_END};

static const struct varlink_method methods[] = {
    {"org.croft.image.Pull", pull, provd},
    {"org.croft.image.Mount", mount_image, provd},
    {"org.croft.image.Unmount", unmount_image, provd},
    {"org.croft.image.List", list, provd},
    {"org.croft.image.Collect", collect, provd},
};

const struct varlink_interface image_interface = {
    .name = "org.croft.image",
    .description = varlink_org_croft_image,
    .methods = methods,
    .method_count = sizeof(methods) / sizeof(methods[0]),
};
