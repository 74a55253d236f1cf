/*
 * spec_service.c - the services of a specification: one by one, then the order in which they start; see spec_parts.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "provision/spec_parts.h"

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
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        if (strcmp(read.protocol, "tcp") != 0 && strcmp(read.protocol, "udp") != 0) {
            return spec_bad(err, "ports.protocol", "neither tcp nor udp");
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
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        size_t volume = 0;
        while (volume < spec->volume_count &&
               strcmp(spec->volumes[volume].name, read.volume) != 0) {
            volume++;
        }
        if (volume == spec->volume_count) {
            return spec_bad(err, "mounts.volume", "no such volume");
        }
        if (read.target[0] != '/') {
            return spec_bad(err, "mounts.target", "not an absolute path");
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
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        if ((read.config == NULL) == (read.secret == NULL)) {
            return spec_bad(err, "files", "not exactly one of config and secret");
        }
        yyjson_val *source = read.config != NULL ? yyjson_obj_get(configs, read.config)
                                                 : yyjson_obj_get(secrets, read.secret);
        const char *data = spec_text(yyjson_obj_get(source, "data"));
        if (data == NULL || yyjson_obj_size(source) != 1) {
            return spec_bad(err, "files", "no such config or secret with data");
        }
        if (read.target[0] != '/') {
            return spec_bad(err, "files.target", "not an absolute path");
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
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0) {
            return ret;
        }
        size_t network = 0;
        const char *name = spec_text(key);
        while (network < spec->network_count &&
               (name == NULL || strcmp(spec->networks[network].name, name) != 0)) {
            network++;
        }
        if (network == spec->network_count) {
            return spec_bad(err, "services.networks", "no such network");
        }
        struct spec_attachment *attachment = &service->networks[service->network_count++];
        attachment->network = network;
        size_t a, alias_max;
        yyjson_val *alias;
        yyjson_arr_foreach(read.aliases, a, alias_max, alias)
        {
            const char *text = spec_text(alias);
            if (text == NULL || !spec_name_ok(text)) {
                return spec_bad(err, "aliases", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
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

    int ret = json_read(value, service_fields, COUNT(service_fields), 0, &read, SPEC_BAD, err);
    if (ret < 0) {
        return ret;
    }
    service->name = spec_text(key);
    if (service->name == NULL || !spec_name_ok(service->name)) {
        return spec_bad(err, "services", "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
    }
    service->object = value;
    service->scratch = read.scratch;
    service->hosts = read.extra_hosts;
    while (service->image < spec->image_count &&
           strcmp(spec->images[service->image].id, read.image) != 0) {
        service->image++;
    }
    if (service->image == spec->image_count) {
        return spec_bad(err, "services.image", "not among images");
    }

    struct read_resources {
        uint64_t milli_cores, memory, pids;
    } limits = {0};
    static const struct json_field limit_fields[] = {
        {"milliCores", JSON_UINT, offsetof(struct read_resources, milli_cores), true, 1, 4096000},
        {"memory", JSON_UINT, offsetof(struct read_resources, memory), true, 8 << 20, 0},
        {"pids", JSON_UINT, offsetof(struct read_resources, pids), false, 1, 1 << 22},
    };
    ret = json_read(read.resources, limit_fields, COUNT(limit_fields), 0, &limits, SPEC_BAD, err);
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

/* A virtual disk is one file system on one block device: it belongs to one mount of one service. */
static int check_disks(const struct spec *spec, struct error *err)
{
    bool mounted[SPEC_VOLUMES_MAX] = {false};

    for (size_t s = 0; s < spec->service_count; s++) {
        for (size_t m = 0; m < spec->services[s].mount_count; m++) {
            size_t volume = spec->services[s].mounts[m].volume;
            if (mounted[volume] && spec->volumes[volume].filesystem != NULL) {
                return spec_bad(err, "mounts.volume", "a virtual disk is mounted twice");
            }
            mounted[volume] = true;
        }
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
                return spec_bad(err, "dependsOn", "no such service, or no such condition");
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
            return spec_bad(err, "dependsOn", "services wait for each other in a circle");
        }
    }
    return 0;
}

int spec_read_services(struct spec *spec, yyjson_val *services, yyjson_val *configs,
                       yyjson_val *secrets, struct resources *sum, struct error *err)
{
    size_t i, max;
    yyjson_val *key, *value;

    if ((yyjson_obj_size(services) == 0 && spec->kv_count == 0) ||
        yyjson_obj_size(services) > SPEC_SERVICES_MAX) {
        return spec_bad(err, "services", "none and no kv either, or more than 32");
    }
    yyjson_obj_foreach(services, i, max, key, value)
    {
        int ret = read_service(spec, configs, secrets, key, value, sum, err);
        if (ret < 0) {
            return ret;
        }
    }
    int ret = check_disks(spec, err);
    if (ret == 0) {
        ret = read_depends(spec, err);
    }
    return ret < 0 ? ret : order_services(spec, err);
}
