/*
 * spec.c - reads the specification of a reservation by tables; see spec.h.
 */
#include "provision/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"

#define BAD "provision.bad-specification"
#define HINT "deploy again with the same version of croft as the node runs"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int bad(struct error *err, const char *what, const char *why)
{
    return error_set(err, EINVAL, BAD, HINT, "the specification is wrong at %s: %s", what, why);
}

/* Names become parts of paths, interface names and DNS labels: nothing else is let in. */
static bool name_ok(const char *name)
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

static const char *text_of(yyjson_val *value)
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
            return bad(err, "images", "too many");
        }
        struct spec_image *image = &spec->images[spec->image_count];
        image->id = text_of(key);
        if (image->id == NULL || !image_id_ok(image->id)) {
            return bad(err, "images", "a name is not 64 hex digits");
        }
        yyjson_val *hubs = NULL;
        struct read_image {
            yyjson_val *hubs;
        } read = {0};
        static const struct json_field fields[] = {
            {"hubs", JSON_ARRAY, offsetof(struct read_image, hubs), true, 0, SPEC_HUBS_MAX},
        };
        int ret = json_read(value, fields, COUNT(fields), 0, &read, BAD, err);
        if (ret < 0) {
            return ret;
        }
        hubs = read.hubs;
        size_t h, hub_max;
        yyjson_val *hub;
        yyjson_arr_foreach(hubs, h, hub_max, hub)
        {
            const char *url = text_of(hub);
            if (url == NULL || strlen(url) > 256) {
                return bad(err, "images.hubs", "not an address of at most 256 bytes");
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
            return bad(err, "networks", "too many");
        }
        struct spec_network *network = &spec->networks[spec->network_count++];
        int ret = json_read(value, fields, COUNT(fields), 0, network, BAD, err);
        if (ret < 0) {
            return ret;
        }
        network->name = text_of(key);
        if (network->name == NULL || !name_ok(network->name)) {
            return bad(err, "networks", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
        }
    }
    return 0;
}

static int read_volumes(struct spec *spec, yyjson_val *volumes, struct error *err)
{
    static const struct json_field fields[] = {
        {"size", JSON_UINT, offsetof(struct spec_volume, size), true, 1, 0},
        {"kind", JSON_STRING, offsetof(struct spec_volume, kind), true, 0, 3},
    };
    size_t i, max;
    yyjson_val *key, *value;

    yyjson_obj_foreach(volumes, i, max, key, value)
    {
        if (spec->volume_count == SPEC_VOLUMES_MAX) {
            return bad(err, "volumes", "too many");
        }
        struct spec_volume *volume = &spec->volumes[spec->volume_count++];
        int ret = json_read(value, fields, COUNT(fields), 0, volume, BAD, err);
        if (ret < 0) {
            return ret;
        }
        volume->name = text_of(key);
        if (volume->name == NULL || !name_ok(volume->name)) {
            return bad(err, "volumes", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
        }
        if (strcmp(volume->kind, "ssd") != 0 && strcmp(volume->kind, "hdd") != 0) {
            return bad(err, "volumes.kind", "neither ssd nor hdd");
        }
    }
    return 0;
}

/* ---- one service ---- */

/* Everything a service object may hold. What only contd reads is checked for its type here and for its sense there. */
struct service_members {
    const char *image, *user, *working_dir, *stop_signal;
    yyjson_val *entrypoint, *command, *environment, *ports, *mounts, *tmpfs, *files, *networks,
        *depends_on, *healthcheck, *restart, *resources, *cap_add, *cap_drop, *labels, *extra_hosts;
    bool read_only;
    uint64_t scratch, stop_grace_period;
};

#define MEMBER(name, type, field, required, min, max)                                              \
    {                                                                                              \
        name, type, offsetof(struct service_members, field), required, min, max                    \
    }

static const struct json_field service_fields[] = {
    MEMBER("image", JSON_STRING, image, true, 0, 64),
    MEMBER("user", JSON_STRING, user, false, 0, 128),
    MEMBER("workingDir", JSON_STRING, working_dir, false, 0, 4096),
    MEMBER("stopSignal", JSON_STRING, stop_signal, false, 0, 16),
    MEMBER("entrypoint", JSON_ARRAY, entrypoint, false, 0, 256),
    MEMBER("command", JSON_ARRAY, command, false, 0, 256),
    MEMBER("environment", JSON_OBJECT, environment, false, 0, 0),
    MEMBER("ports", JSON_ARRAY, ports, false, 0, SPEC_PORTS_MAX),
    MEMBER("mounts", JSON_ARRAY, mounts, false, 0, SPEC_MOUNTS_MAX),
    MEMBER("tmpfs", JSON_ARRAY, tmpfs, false, 0, 16),
    MEMBER("files", JSON_ARRAY, files, false, 0, SPEC_FILES_MAX),
    MEMBER("networks", JSON_OBJECT, networks, false, 0, 0),
    MEMBER("dependsOn", JSON_OBJECT, depends_on, false, 0, 0),
    MEMBER("healthcheck", JSON_OBJECT, healthcheck, false, 0, 0),
    MEMBER("restart", JSON_OBJECT, restart, false, 0, 0),
    MEMBER("resources", JSON_OBJECT, resources, true, 0, 0),
    MEMBER("capAdd", JSON_ARRAY, cap_add, false, 0, 64),
    MEMBER("capDrop", JSON_ARRAY, cap_drop, false, 0, 64),
    MEMBER("labels", JSON_OBJECT, labels, false, 0, 0),
    MEMBER("extraHosts", JSON_OBJECT, extra_hosts, false, 0, 0),
    MEMBER("readOnly", JSON_BOOL, read_only, false, 0, 0),
    MEMBER("scratch", JSON_UINT, scratch, true, 1, 0),
    MEMBER("stopGracePeriod", JSON_UINT, stop_grace_period, false, 0, 3600000),
};

static int read_ports(struct spec_service *service, yyjson_val *ports, struct error *err)
{
    struct read_port {
        uint64_t published, target;
        const char *protocol;
    };
    static const struct json_field fields[] = {
        {"published", JSON_UINT, offsetof(struct read_port, published), true, 1, 65535},
        {"target", JSON_UINT, offsetof(struct read_port, target), true, 1, 65535},
        {"protocol", JSON_STRING, offsetof(struct read_port, protocol), true, 0, 3},
    };
    size_t i, max;
    yyjson_val *value;

    service->ports = calloc(yyjson_arr_size(ports) + 1, sizeof(*service->ports));
    if (service->ports == NULL) {
        return -ENOMEM;
    }
    yyjson_arr_foreach(ports, i, max, value)
    {
        struct read_port read = {0};
        int ret = json_read(value, fields, COUNT(fields), 0, &read, BAD, err);
        if (ret < 0) {
            return ret;
        }
        if (strcmp(read.protocol, "tcp") != 0 && strcmp(read.protocol, "udp") != 0) {
            return bad(err, "ports.protocol", "neither tcp nor udp");
        }
        service->ports[service->port_count++] =
            (struct spec_port){(uint16_t)read.published, (uint16_t)read.target, read.protocol};
    }
    return 0;
}

static int read_mounts(const struct spec *spec, struct spec_service *service, yyjson_val *mounts,
                       struct error *err)
{
    struct read_mount {
        const char *volume, *target;
        bool read_only;
    };
    static const struct json_field fields[] = {
        {"volume", JSON_STRING, offsetof(struct read_mount, volume), true, 0, SPEC_NAME_MAX},
        {"target", JSON_STRING, offsetof(struct read_mount, target), true, 0, 4096},
        {"readOnly", JSON_BOOL, offsetof(struct read_mount, read_only), false, 0, 0},
    };
    size_t i, max;
    yyjson_val *value;

    service->mounts = calloc(yyjson_arr_size(mounts) + 1, sizeof(*service->mounts));
    if (service->mounts == NULL) {
        return -ENOMEM;
    }
    yyjson_arr_foreach(mounts, i, max, value)
    {
        struct read_mount read = {0};
        int ret = json_read(value, fields, COUNT(fields), 0, &read, BAD, err);
        if (ret < 0) {
            return ret;
        }
        size_t volume = 0;
        while (volume < spec->volume_count &&
               strcmp(spec->volumes[volume].name, read.volume) != 0) {
            volume++;
        }
        if (volume == spec->volume_count) {
            return bad(err, "mounts.volume", "no such volume");
        }
        if (read.target[0] != '/') {
            return bad(err, "mounts.target", "not an absolute path");
        }
        service->mounts[service->mount_count++] =
            (struct spec_mount){volume, read.target, read.read_only};
    }
    return 0;
}

static int read_files(yyjson_val *configs, yyjson_val *secrets, struct spec_service *service,
                      yyjson_val *files, struct error *err)
{
    struct read_file {
        const char *config, *secret, *target;
        int64_t mode, uid, gid;
    };
    static const struct json_field fields[] = {
        {"config", JSON_STRING, offsetof(struct read_file, config), false, 0, SPEC_NAME_MAX},
        {"secret", JSON_STRING, offsetof(struct read_file, secret), false, 0, SPEC_NAME_MAX},
        {"target", JSON_STRING, offsetof(struct read_file, target), true, 0, 4096},
        {"mode", JSON_INT, offsetof(struct read_file, mode), false, 0, 0777},
        {"uid", JSON_INT, offsetof(struct read_file, uid), false, 0, 65535},
        {"gid", JSON_INT, offsetof(struct read_file, gid), false, 0, 65535},
    };
    size_t i, max;
    yyjson_val *value;

    service->files = calloc(yyjson_arr_size(files) + 1, sizeof(*service->files));
    if (service->files == NULL) {
        return -ENOMEM;
    }
    yyjson_arr_foreach(files, i, max, value)
    {
        struct read_file read = {.mode = 0444};
        int ret = json_read(value, fields, COUNT(fields), 0, &read, BAD, err);
        if (ret < 0) {
            return ret;
        }
        if ((read.config == NULL) == (read.secret == NULL)) {
            return bad(err, "files", "not exactly one of config and secret");
        }
        yyjson_val *source = read.config != NULL ? yyjson_obj_get(configs, read.config)
                                                 : yyjson_obj_get(secrets, read.secret);
        const char *data = text_of(yyjson_obj_get(source, "data"));
        if (data == NULL || yyjson_obj_size(source) != 1) {
            return bad(err, "files", "no such config or secret with data");
        }
        if (read.target[0] != '/') {
            return bad(err, "files.target", "not an absolute path");
        }
        service->files[service->file_count++] =
            (struct spec_file){data, read.target, read.mode, read.uid, read.gid};
    }
    return 0;
}

static int read_attachments(const struct spec *spec, struct spec_service *service,
                            yyjson_val *networks, struct error *err)
{
    size_t i, max;
    yyjson_val *key, *value;

    service->networks = calloc(yyjson_obj_size(networks) + 1, sizeof(*service->networks));
    if (service->networks == NULL) {
        return -ENOMEM;
    }
    yyjson_obj_foreach(networks, i, max, key, value)
    {
        struct read_attachment {
            yyjson_val *aliases;
        } read = {0};
        static const struct json_field fields[] = {
            {"aliases", JSON_ARRAY, offsetof(struct read_attachment, aliases), false, 0,
             SPEC_ALIASES_MAX},
        };
        int ret = json_read(value, fields, COUNT(fields), 0, &read, BAD, err);
        if (ret < 0) {
            return ret;
        }
        size_t network = 0;
        const char *name = text_of(key);
        while (network < spec->network_count &&
               (name == NULL || strcmp(spec->networks[network].name, name) != 0)) {
            network++;
        }
        if (network == spec->network_count) {
            return bad(err, "services.networks", "no such network");
        }
        struct spec_attachment *attachment = &service->networks[service->network_count++];
        attachment->network = network;
        size_t a, alias_max;
        yyjson_val *alias;
        yyjson_arr_foreach(read.aliases, a, alias_max, alias)
        {
            const char *text = text_of(alias);
            if (text == NULL || !name_ok(text)) {
                return bad(err, "aliases", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
            }
            attachment->aliases[attachment->alias_count++] = text;
        }
    }
    return 0;
}

static int read_service(struct spec *spec, yyjson_val *configs, yyjson_val *secrets,
                        yyjson_val *key, yyjson_val *value, struct resources *sum,
                        struct error *err)
{
    struct spec_service *service = &spec->services[spec->service_count++];
    struct service_members read = {0};

    int ret = json_read(value, service_fields, COUNT(service_fields), 0, &read, BAD, err);
    if (ret < 0) {
        return ret;
    }
    service->name = text_of(key);
    if (service->name == NULL || !name_ok(service->name)) {
        return bad(err, "services", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
    }
    service->object = value;
    service->scratch = read.scratch;
    service->hosts = read.extra_hosts;
    while (service->image < spec->image_count &&
           strcmp(spec->images[service->image].id, read.image) != 0) {
        service->image++;
    }
    if (service->image == spec->image_count) {
        return bad(err, "services.image", "not among images");
    }

    struct read_resources {
        uint64_t milli_cores, memory, pids;
    } limits = {0};
    static const struct json_field limit_fields[] = {
        {"milliCores", JSON_UINT, offsetof(struct read_resources, milli_cores), true, 1, 4096000},
        {"memory", JSON_UINT, offsetof(struct read_resources, memory), true, 8 << 20, 0},
        {"pids", JSON_UINT, offsetof(struct read_resources, pids), false, 1, 1 << 22},
    };
    ret = json_read(read.resources, limit_fields, COUNT(limit_fields), 0, &limits, BAD, err);
    if (ret < 0) {
        return ret;
    }
    /* 32 services of at most 2^53 cannot overflow 64 bits; cores are bounded by the table. */
    sum->milli_cores += (uint32_t)limits.milli_cores;
    sum->memory += limits.memory;

    if ((ret = read_ports(service, read.ports, err)) < 0 ||
        (ret = read_mounts(spec, service, read.mounts, err)) < 0 ||
        (ret = read_files(configs, secrets, service, read.files, err)) < 0 ||
        (ret = read_attachments(spec, service, read.networks, err)) < 0) {
        return ret;
    }
    return 0;
}

/* ---- dependencies ---- */

static int read_depends(struct spec *spec, struct error *err)
{
    static const char *const words[] = {"started", "healthy", "completed"};

    for (size_t s = 0; s < spec->service_count; s++) {
        struct spec_service *service = &spec->services[s];
        yyjson_val *depends = yyjson_obj_get(service->object, "dependsOn");
        size_t i, max;
        yyjson_val *key, *value;
        yyjson_obj_foreach(depends, i, max, key, value)
        {
            size_t other = 0, word = 0;
            while (other < spec->service_count &&
                   !yyjson_equals_str(key, spec->services[other].name)) {
                other++;
            }
            while (word < COUNT(words) && !yyjson_equals_str(value, words[word])) {
                word++;
            }
            if (other == spec->service_count || word == COUNT(words) ||
                service->depend_count == SPEC_DEPENDS_MAX) {
                return bad(err, "dependsOn", "no such service, or no such condition");
            }
            service->depends[service->depend_count++] =
                (struct spec_dependency){other, (enum spec_wait)word};
        }
    }
    return 0;
}

/* Services whose dependencies all stand already come next, in their given order: at most n rounds. */
static int order_services(struct spec *spec, struct error *err)
{
    bool placed[SPEC_SERVICES_MAX] = {false};
    size_t count = 0;

    while (count < spec->service_count) {
        size_t before = count;
        for (size_t s = 0; s < spec->service_count; s++) {
            bool ready = !placed[s];
            for (size_t d = 0; ready && d < spec->services[s].depend_count; d++) {
                ready = placed[spec->services[s].depends[d].service];
            }
            if (ready) {
                placed[s] = true;
                spec->order[count++] = s;
            }
        }
        if (count == before) {
            return bad(err, "dependsOn", "services wait for each other in a circle");
        }
    }
    return 0;
}

/* ---- the whole ---- */

static int check_resources(const struct spec *spec, struct resources *sum, struct error *err)
{
    uint64_t scratch = 0, ssd = 0, hdd = 0;

    for (size_t i = 0; i < spec->service_count; i++) {
        scratch += spec->services[i].scratch;
    }
    for (size_t i = 0; i < spec->volume_count; i++) {
        *(strcmp(spec->volumes[i].kind, "ssd") == 0 ? &ssd : &hdd) += spec->volumes[i].size;
    }
    /* Scratch space lies on the fastest pool, whose kind the specification chose: one of the two sums must fit. */
    bool on_ssd = spec->resources.ssd == ssd + scratch && spec->resources.hdd == hdd;
    bool on_hdd = spec->resources.ssd == ssd && spec->resources.hdd == hdd + scratch;
    if (spec->resources.milli_cores != sum->milli_cores || spec->resources.memory != sum->memory ||
        (!on_ssd && !on_hdd)) {
        return error_set(err, EINVAL, "provision.more-than-reserved", HINT,
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
    int r = json_read(object, fields, COUNT(fields), 0, &read, BAD, err);
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
    yyjson_val *images, *networks, *volumes, *configs, *secrets, *services, *resources;
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
                        BAD, err);
    if (ret < 0) {
        return ret;
    }
    spec->project = read.project;
    spec->keep_ms = read.keep;
    spec->replace = strcmp(read.update, "replace") == 0;
    if (!name_ok(read.project)) {
        return bad(err, "project", "not of [a-z0-9][a-z0-9_-]{0,62}");
    }
    if (!spec->replace && strcmp(read.update, "parallel") != 0) {
        return bad(err, "update", "neither parallel nor replace");
    }
    if ((ret = read_images(spec, read.images, err)) < 0 ||
        (ret = read_networks(spec, read.networks, err)) < 0 ||
        (ret = read_volumes(spec, read.volumes, err)) < 0 ||
        (ret = read_resources_member(read.resources, &spec->resources, err)) < 0) {
        return ret;
    }
    size_t i, max;
    yyjson_val *key, *value;
    if (yyjson_obj_size(read.services) == 0 || yyjson_obj_size(read.services) > SPEC_SERVICES_MAX) {
        return bad(err, "services", "none, or more than 32");
    }
    yyjson_obj_foreach(read.services, i, max, key, value)
    {
        ret = read_service(spec, read.configs, read.secrets, key, value, &sum, err);
        if (ret < 0) {
            return ret;
        }
    }
    if ((ret = read_depends(spec, err)) < 0 || (ret = order_services(spec, err)) < 0) {
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
    spec->doc = json_parse(text, len, SPEC_TEXT_MAX, BAD, err);
    int ret = spec->doc == NULL ? -EINVAL : 0;
    if (ret == 0 && json_is_canonical(text, len) != 0) {
        ret = bad(err, "its form", "not canonical JSON (RFC 8785)");
    }
    if (ret == 0) {
        ret = read_spec(spec, err);
    }
    if (ret < 0) {
        error_set(err, -ret, BAD, HINT, "the specification cannot be read");
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

static uint64_t big_endian(const uint8_t *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

void resources_unpack(const uint8_t packed[32], struct resources *ret_resources)
{
    ret_resources->milli_cores = (uint32_t)big_endian(packed, 4);
    ret_resources->memory = big_endian(packed + 4, 8);
    ret_resources->ssd = big_endian(packed + 12, 8);
    ret_resources->hdd = big_endian(packed + 20, 8);
    ret_resources->addresses = (uint32_t)big_endian(packed + 28, 4);
}

bool resources_equal(const struct resources *a, const struct resources *b)
{
    return a->milli_cores == b->milli_cores && a->memory == b->memory && a->ssd == b->ssd &&
           a->hdd == b->hdd && a->addresses == b->addresses;
}
