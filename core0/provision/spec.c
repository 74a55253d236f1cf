/*
 * spec.c - reads the specification of a reservation by tables; see spec.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/grid/resources.h"
#include "provision/spec_parts.h"

int spec_bad(struct error *err, const char *what, const char *why)
{
    return error_set(err, EINVAL, SPEC_BAD, SPEC_HINT, "the specification is wrong at %s: %s", what,
                     why);
}

bool spec_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > SPEC_NAME_MAX || name[0] == '-' || name[0] == '_') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) {
            return false;
        }
    }
    return true;
}

static bool image_id_ok(const char *id)
{
    if (strlen(id) != 64) {
        return false;
    }
    return strspn(id, "0123456789abcdef") == 64;
}

const char *spec_text(yyjson_val *value)
{
    return yyjson_is_str(value) && strlen(yyjson_get_str(value)) == yyjson_get_len(value)
               ? yyjson_get_str(value)
               : NULL;
}

/* ---- top level maps ---- */

static int read_images(struct spec *spec, yyjson_val *images, struct error *err)
{
    size_t i, max;
    yyjson_val *key, *value;

    yyjson_obj_foreach(images, i, max, key, value)
    {
        if (spec->image_count == SPEC_IMAGES_MAX) {
            return spec_bad(err, "images", "too many");
        }
        struct spec_image *image = &spec->images[spec->image_count];
        image->id = spec_text(key);
        if (image->id == NULL || !image_id_ok(image->id)) {
            return spec_bad(err, "images", "a name is not 64 hex digits");
        }
        yyjson_val *hubs = NULL;
        struct read_image {
            yyjson_val *hubs;
        } read = {0};
        static const struct json_field fields[] = {
            {"hubs", JSON_ARRAY, offsetof(struct read_image, hubs), true, 0, SPEC_HUBS_MAX},
        };
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        hubs = read.hubs;
        size_t h, hub_max;
        yyjson_val *hub;
        yyjson_arr_foreach(hubs, h, hub_max, hub)
        {
            const char *url = spec_text(hub);
            if (url == NULL || strlen(url) > 256) {
                return spec_bad(err, "images.hubs", "not an address of at most 256 bytes");
            }
            image->hubs[image->hub_count++] = url;
        }
        spec->image_count++;
    }
    return 0;
}

static int read_networks(struct spec *spec, yyjson_val *networks, struct error *err)
{
    static const struct json_field fields[] = {
        {"internal", JSON_BOOL, offsetof(struct spec_network, internal), false, 0, 0},
    };
    size_t i, max;
    yyjson_val *key, *value;

    yyjson_obj_foreach(networks, i, max, key, value)
    {
        if (spec->network_count == SPEC_NETWORKS_MAX) {
            return spec_bad(err, "networks", "too many");
        }
        struct spec_network *network = &spec->networks[spec->network_count++];
        int ret = json_read(value, fields, COUNT(fields), 0, network, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        network->name = spec_text(key);
        if (network->name == NULL || !spec_name_ok(network->name)) {
            return spec_bad(err, "networks", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
        }
    }
    return 0;
}

/* ---- the whole ---- */

/* What volumes and namespaces take of one kind of disk. */
static uint64_t storage_of(const struct spec *spec, const char *kind)
{
    uint64_t sum = 0;

    /* 48 of at most 2^53 cannot overflow 64 bits; nor can 32 services below. */
    for (size_t i = 0; i < spec->volume_count; i++) {
        sum += strcmp(spec->volumes[i].kind, kind) == 0 ? spec->volumes[i].size : 0;
    }
    for (size_t i = 0; i < spec->kv_count; i++) {
        sum += strcmp(spec->kv[i].kind, kind) == 0 ? spec->kv[i].size : 0;
    }
    return sum;
}

const char *spec_scratch_kind(const struct spec *spec)
{
    return spec->resources.ssd > storage_of(spec, "ssd") ? "ssd" : "hdd";
}

/* Both are found by their names from inside a container. */
static int check_kv_names(const struct spec *spec, struct error *err)
{
    for (size_t i = 0; i < spec->kv_count; i++) {
        for (size_t j = 0; j < spec->service_count; j++) {
            if (strcmp(spec->kv[i].name, spec->services[j].name) == 0) {
                return spec_bad(err, "kv", "a service has the same name");
            }
        }
    }
    return 0;
}

static int check_resources(const struct spec *spec, struct resources *sum, struct error *err)
{
    uint64_t scratch = 0, ssd = storage_of(spec, "ssd"), hdd = storage_of(spec, "hdd");

    for (size_t i = 0; i < spec->service_count; i++) {
        scratch += spec->services[i].scratch;
    }
    /* Scratch space lies on the fastest pool, whose kind the specification chose: one of the two sums must fit. */
    bool on_ssd = spec->resources.ssd == ssd + scratch && spec->resources.hdd == hdd;
    bool on_hdd = spec->resources.ssd == ssd && spec->resources.hdd == hdd + scratch;
    if (spec->resources.milli_cores != sum->milli_cores || spec->resources.memory != sum->memory ||
        (!on_ssd && !on_hdd)) {
        return error_set(err, EINVAL, "provision.more-than-reserved", SPEC_HINT,
                         "the parts of the specification do not add up to its resources");
    }
    return 0;
}

static int read_resources_member(yyjson_val *object, struct resources *ret, struct error *err)
{
    struct read {
        uint64_t milli_cores, memory, ssd, hdd, addresses;
    } read = {0};
    static const struct json_field fields[] = {
        {"milliCores", JSON_UINT, offsetof(struct read, milli_cores), true, 0, UINT32_MAX},
        {"memory", JSON_UINT, offsetof(struct read, memory), true, 0, 0},
        {"ssd", JSON_UINT, offsetof(struct read, ssd), true, 0, 0},
        {"hdd", JSON_UINT, offsetof(struct read, hdd), true, 0, 0},
        {"addresses", JSON_UINT, offsetof(struct read, addresses), true, 0, UINT32_MAX},
    };
    int r = json_read(object, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
    if (r < 0) {
        return r;
    }
    *ret = (struct resources){(uint32_t)read.milli_cores, read.memory, read.ssd, read.hdd,
                              (uint32_t)read.addresses};
    return 0;
}

struct spec_members {
    uint64_t version, keep;
    const char *project, *update;
    yyjson_val *images, *networks, *volumes, *kv, *configs, *secrets, *services, *resources;
};

#define TOP(name, type, field, required, min, max)                                                 \
    {                                                                                              \
        name, type, offsetof(struct spec_members, field), required, min, max                       \
    }

static const struct json_field spec_fields[] = {
    TOP("version", JSON_UINT, version, true, 1, 1),
    TOP("project", JSON_STRING, project, true, 0, SPEC_NAME_MAX),
    TOP("keep", JSON_UINT, keep, false, 0, 30ULL * 86400 * 1000),
    TOP("update", JSON_STRING, update, false, 0, 16),
    TOP("images", JSON_OBJECT, images, true, 0, 0),
    TOP("networks", JSON_OBJECT, networks, true, 0, 0),
    TOP("volumes", JSON_OBJECT, volumes, false, 0, 0),
    TOP("kv", JSON_OBJECT, kv, false, 0, 0),
    TOP("configs", JSON_OBJECT, configs, false, 0, 0),
    TOP("secrets", JSON_OBJECT, secrets, false, 0, 0),
    TOP("services", JSON_OBJECT, services, true, 0, 0),
    TOP("resources", JSON_OBJECT, resources, true, 0, 0),
};

static int read_spec(struct spec *spec, struct error *err)
{
    struct spec_members read = {.keep = 86400000, .update = "parallel"};
    struct resources sum = {0};

    int ret = json_read(yyjson_doc_get_root(spec->doc), spec_fields, COUNT(spec_fields), 0, &read,
                        SPEC_BAD, err);
    if (ret < 0) {
        return ret;
    }
    spec->project = read.project;
    spec->keep_ms = read.keep;
    spec->replace = strcmp(read.update, "replace") == 0;
    if (!spec_name_ok(read.project)) {
        return spec_bad(err, "project", "not of [a-z0-9][a-z0-9_-]{0,62}");
    }
    if (!spec->replace && strcmp(read.update, "parallel") != 0) {
        return spec_bad(err, "update", "neither parallel nor replace");
    }
    if ((ret = read_images(spec, read.images, err)) < 0 ||
        (ret = read_networks(spec, read.networks, err)) < 0 ||
        (ret = spec_read_volumes(spec, read.volumes, err)) < 0 ||
        (ret = spec_read_kv(spec, read.kv, err)) < 0 ||
        (ret = read_resources_member(read.resources, &spec->resources, err)) < 0) {
        return ret;
    }
    ret = spec_read_services(spec, read.services, read.configs, read.secrets, &sum, err);
    if (ret < 0 || (ret = check_kv_names(spec, err)) < 0) {
        return ret;
    }
    return check_resources(spec, &sum, err);
}

int spec_parse(const char *text, size_t len, struct spec **ret_spec, struct error *err)
{
    struct spec *spec = calloc(1, sizeof(*spec));
    if (spec == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    spec->doc = json_parse(text, len, SPEC_TEXT_MAX, SPEC_BAD, err);
    int ret = spec->doc == NULL ? -EINVAL : 0;
    if (ret == 0 && json_is_canonical(text, len) != 0) {
        ret = spec_bad(err, "its form", "not canonical JSON (RFC 8785)");
    }
    if (ret == 0) {
        ret = read_spec(spec, err);
    }
    if (ret < 0) {
        error_set(err, -ret, SPEC_BAD, SPEC_HINT, "the specification cannot be read");
        spec_free(spec);
        return ret;
    }
    *ret_spec = spec;
    return 0;
}

void spec_free(struct spec *spec)
{
    if (spec == NULL) {
        return;
    }
    for (size_t i = 0; i < spec->service_count; i++) {
        free(spec->services[i].ports);
        free(spec->services[i].mounts);
        free(spec->services[i].files);
        free(spec->services[i].networks);
    }
    yyjson_doc_free(spec->doc);
    free(spec);
}

void resources_unpack(const uint8_t packed[32], struct resources *ret_resources)
{
    struct grid_resources whole;

    grid_resources_unpack(packed, &whole);
    *ret_resources = (struct resources){.milli_cores = (uint32_t)whole.milli_cores,
                                        .memory = whole.memory,
                                        .ssd = whole.ssd,
                                        .hdd = whole.hdd,
                                        .addresses = (uint32_t)whole.addresses};
}

bool resources_equal(const struct resources *a, const struct resources *b)
{
    return a->milli_cores == b->milli_cores && a->memory == b->memory && a->ssd == b->ssd &&
           a->hdd == b->hdd && a->addresses == b->addresses;
}
