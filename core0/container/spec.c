/*
 * spec.c - see spec.h: the service object and the rest of Start's parameters.
 */
#include "container/spec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container/caps.h"
#include "lib/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MS UINT64_C(1000)
#define PATH_LEN_MAX 4095

/* ---- memory ---- */

struct spec_block {
    struct spec_block *next;
    max_align_t data[];
};

void *spec_alloc(struct container_spec *spec, size_t size)
{
    struct spec_block *block = calloc(1, sizeof(*block) + size);

    if (block == NULL)
        return NULL;
    block->next = spec->blocks;
    spec->blocks = block;
    return block->data;
}

const char *spec_printf(struct container_spec *spec, const char *fmt, ...)
{
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    char *text = len >= 0 ? spec_alloc(spec, (size_t)len + 1) : NULL;
    if (text != NULL)
        vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}

void container_spec_done(struct container_spec *spec)
{
    while (spec->blocks != NULL) {
        struct spec_block *next = spec->blocks->next;

        free(spec->blocks);
        spec->blocks = next;
    }
    yyjson_doc_free(spec->doc);
    memset(spec, 0, sizeof(*spec));
}

/* ---- values ---- */

int spec_strings(struct container_spec *spec, yyjson_val *value, const char *what, size_t max,
                 const char ***ret_list, struct error *err)
{
    size_t i, count;
    yyjson_val *item;

    if (value == NULL || yyjson_is_null(value))
        return 0;
    if (!yyjson_is_arr(value) || yyjson_arr_size(value) > max)
        return error_set(err, EINVAL, SPEC_BAD, NULL, "%s is not a list of at most %zu strings",
                         what, max);
    const char **list = spec_alloc(spec, (yyjson_arr_size(value) + 1) * sizeof(*list));
    if (list == NULL)
        return -ENOMEM;
    yyjson_arr_foreach(value, i, count, item)
    {
        if (!yyjson_is_str(item) || strlen(yyjson_get_str(item)) != yyjson_get_len(item))
            return error_set(err, EINVAL, SPEC_BAD, NULL,
                             "%s holds something that is no plain string", what);
        list[i] = yyjson_get_str(item);
    }
    *ret_list = list;
    return 0;
}

/* Absolute, and without "..", so that it means the same to everybody who reads it. */
static int check_target(const char *target, const char *what, struct error *err)
{
    size_t len = strlen(target);

    if (target[0] != '/' || len > PATH_LEN_MAX || strstr(target, "/../") != NULL ||
        (len >= 3 && strcmp(target + len - 3, "/..") == 0))
        return error_set(err, EINVAL, SPEC_BAD, "give the whole path, from / on",
                         "%s \"%.100s\" is no absolute path", what, target);
    if (strspn(target, "/") == len)
        return error_set(err, EINVAL, SPEC_BAD, NULL, "%s may not be the root folder", what);
    return 0;
}

int spec_signal(const char *text)
{
    static const char *const names[] = {
        [1] = "HUP",     [2] = "INT",   [3] = "QUIT",   [4] = "ILL",   [5] = "TRAP",
        [6] = "ABRT",    [7] = "BUS",   [8] = "FPE",    [9] = "KILL",  [10] = "USR1",
        [11] = "SEGV",   [12] = "USR2", [13] = "PIPE",  [14] = "ALRM", [15] = "TERM",
        [16] = "STKFLT", [17] = "CHLD", [18] = "CONT",  [19] = "STOP", [20] = "TSTP",
        [21] = "TTIN",   [22] = "TTOU", [23] = "URG",   [24] = "XCPU", [25] = "XFSZ",
        [26] = "VTALRM", [27] = "PROF", [28] = "WINCH", [29] = "IO",   [30] = "PWR",
        [31] = "SYS",
    };
    char *end;
    long number = strtol(text, &end, 10);

    if (end != text && *end == '\0')
        return number >= 1 && number <= 64 ? (int)number : -1;
    if (strncmp(text, "SIG", 3) == 0)
        text += 3;
    for (size_t i = 1; i < COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0)
            return (int)i;
    }
    /* The container's libc may count its real-time signals from 34 (glibc) or 35 (musl); systemd wants RTMIN+3 = 37. */
    if (strncmp(text, "RTMIN", 5) == 0) {
        long plus = text[5] == '+' ? strtol(text + 6, &end, 10) : 0;

        if ((text[5] == '\0' || (text[5] == '+' && *end == '\0')) && plus >= 0 && plus <= 30)
            return (int)(34 + plus);
    }
    return -1;
}

/* ---- the parts ---- */

struct service_members {
    const char *user, *working_dir, *stop_signal;
    yyjson_val *entrypoint, *command, *environment, *tmpfs, *healthcheck, *restart, *resources,
        *cap_add, *cap_drop, *extra_hosts, *ignored;
    bool read_only;
    uint64_t stop_grace;
};

#define MEMBER(name, type, field, min, max)                                                        \
    {                                                                                              \
        name, type, offsetof(struct service_members, field), false, min, max                       \
    }

static const struct json_field service_fields[] = {
    MEMBER("user", JSON_STRING, user, 0, 128),
    MEMBER("workingDir", JSON_STRING, working_dir, 0, PATH_LEN_MAX),
    MEMBER("stopSignal", JSON_STRING, stop_signal, 0, 16),
    MEMBER("entrypoint", JSON_ANY, entrypoint, 0, 0),
    MEMBER("command", JSON_ANY, command, 0, 0),
    MEMBER("environment", JSON_OBJECT, environment, 0, 0),
    MEMBER("tmpfs", JSON_ARRAY, tmpfs, 0, 16),
    MEMBER("healthcheck", JSON_OBJECT, healthcheck, 0, 0),
    MEMBER("restart", JSON_OBJECT, restart, 0, 0),
    MEMBER("resources", JSON_OBJECT, resources, 0, 0),
    MEMBER("capAdd", JSON_ANY, cap_add, 0, 0),
    MEMBER("capDrop", JSON_ANY, cap_drop, 0, 0),
    MEMBER("extraHosts", JSON_OBJECT, extra_hosts, 0, 0),
    MEMBER("readOnly", JSON_BOOL, read_only, 0, 0),
    MEMBER("stopGracePeriod", JSON_UINT, stop_grace, 0, 3600000),
    /* Others do these: imaged, storaged, netd and provd; what came of them stands in Start's other parameters. */
    MEMBER("image", JSON_ANY, ignored, 0, 0),
    MEMBER("ports", JSON_ANY, ignored, 0, 0),
    MEMBER("mounts", JSON_ANY, ignored, 0, 0),
    MEMBER("files", JSON_ANY, ignored, 0, 0),
    MEMBER("networks", JSON_ANY, ignored, 0, 0),
    MEMBER("dependsOn", JSON_ANY, ignored, 0, 0),
    MEMBER("labels", JSON_ANY, ignored, 0, 0),
    MEMBER("scratch", JSON_ANY, ignored, 0, 0),
};

static int read_resources(struct container_spec *spec, yyjson_val *value, struct error *err)
{
    static const struct json_field fields[] = {
        {"milliCores", JSON_UINT, offsetof(struct container_spec, milli_cores), false, 1, 1000000},
        {"memory", JSON_UINT, offsetof(struct container_spec, memory), false, 1, 0},
        {"pids", JSON_UINT, offsetof(struct container_spec, pids), false, 1, 4194304},
    };

    spec->milli_cores = 500;
    spec->memory = UINT64_C(256) << 20;
    spec->pids = 1024;
    int ret = value != NULL ? json_read(value, fields, COUNT(fields), 0, spec, SPEC_BAD, err) : 0;
    if (ret == 0 && spec->memory < SPEC_MEMORY_MIN)
        return error_set(
            err, EINVAL, SPEC_BAD, "give it more memory",
            "%llu bytes of memory are too few to start a container, 8 MiB are the least",
            (unsigned long long)spec->memory);
    return ret;
}

static int read_restart(struct container_spec *spec, yyjson_val *value, struct error *err)
{
    static const char *const policies[] = {"no", "always", "on-failure", "unless-stopped"};
    struct members {
        const char *policy;
        uint64_t max_retries;
    } members = {.policy = "no"};
    static const struct json_field fields[] = {
        {"policy", JSON_STRING, offsetof(struct members, policy), true, 0, 16},
        {"maxRetries", JSON_UINT, offsetof(struct members, max_retries), false, 0, 1000000},
    };
    int ret =
        value != NULL ? json_read(value, fields, COUNT(fields), 0, &members, SPEC_BAD, err) : 0;

    if (ret < 0)
        return ret;
    for (size_t i = 0; i < COUNT(policies); i++) {
        if (strcmp(members.policy, policies[i]) == 0) {
            spec->restart = (enum restart_policy)i;
            spec->max_retries = members.max_retries;
            return 0;
        }
    }
    return error_set(err, EINVAL, SPEC_BAD, "use no, always, on-failure or unless-stopped",
                     "there is no restart policy \"%s\"", members.policy);
}

static int read_tmpfs(struct container_spec *spec, yyjson_val *list, struct error *err)
{
    static const struct json_field fields[] = {
        {"target", JSON_STRING, offsetof(struct spec_tmpfs, target), true, 0, PATH_LEN_MAX},
        {"size", JSON_UINT, offsetof(struct spec_tmpfs, size), false, 0, 0},
    };
    size_t i, max;
    yyjson_val *item;

    spec->tmpfs = spec_alloc(spec, (yyjson_arr_size(list) + 1) * sizeof(*spec->tmpfs));
    if (spec->tmpfs == NULL)
        return -ENOMEM;
    yyjson_arr_foreach(list, i, max, item)
    {
        int ret = json_read(item, fields, COUNT(fields), 0, &spec->tmpfs[i], SPEC_BAD, err);

        if (ret == 0)
            ret = check_target(spec->tmpfs[i].target, "the target of a tmpfs", err);
        if (ret < 0)
            return error_prefix(err, ret, "tmpfs");
        spec->tmpfs_count++;
    }
    return 0;
}

static int read_mounts(struct container_spec *spec, yyjson_val *list, struct error *err)
{
    static const struct json_field fields[] = {
        {"source", JSON_STRING, offsetof(struct spec_mount, source), true, 1, PATH_LEN_MAX},
        {"target", JSON_STRING, offsetof(struct spec_mount, target), true, 1, PATH_LEN_MAX},
        {"readOnly", JSON_BOOL, offsetof(struct spec_mount, read_only), false, 0, 0},
        {"block", JSON_BOOL, offsetof(struct spec_mount, block), false, 0, 0},
    };
    size_t i, max;
    yyjson_val *item;

    spec->mounts = spec_alloc(spec, (yyjson_arr_size(list) + 1) * sizeof(*spec->mounts));
    if (spec->mounts == NULL)
        return -ENOMEM;
    yyjson_arr_foreach(list, i, max, item)
    {
        int ret = json_read(item, fields, COUNT(fields), 0, &spec->mounts[i], SPEC_BAD, err);

        if (ret == 0)
            ret = check_target(spec->mounts[i].source, "the source of a volume", err);
        if (ret == 0)
            ret = check_target(spec->mounts[i].target, "the target of a volume", err);
        if (ret < 0)
            return error_prefix(err, ret, "mounts");
        spec->mount_count++;
    }
    return 0;
}

/* RFC 4648, with padding, nothing else. Returns the length or -EINVAL; out has room for len / 4 * 3. */
static ssize_t base64_decode(const char *text, size_t len, uint8_t *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;

    if (len % 4 != 0)
        return -EINVAL;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        int pad = 0;

        for (size_t k = 0; k < 4; k++) {
            char c = text[i + k];
            const char *at = c != '\0' ? strchr(letters, c) : NULL;

            if (c == '=' && i + 4 == len && k >= 2)
                pad++;
            else if (at == NULL || pad > 0)
                return -EINVAL;
            bits = bits << 6 | (at != NULL ? (uint32_t)(at - letters) : 0);
        }
        for (int k = 0; k < 3 - pad; k++)
            out[n++] = (uint8_t)(bits >> (16 - 8 * k));
    }
    return (ssize_t)n;
}

static int read_files(struct container_spec *spec, yyjson_val *list, struct error *err)
{
    struct members {
        const char *target;
        yyjson_val *data;
        uint64_t mode, uid, gid;
    };
    static const struct json_field fields[] = {
        {"target", JSON_STRING, offsetof(struct members, target), true, 1, PATH_LEN_MAX},
        {"data", JSON_ANY, offsetof(struct members, data), true, 0, 0},
        {"mode", JSON_UINT, offsetof(struct members, mode), false, 0, 0777},
        {"uid", JSON_UINT, offsetof(struct members, uid), false, 0, 65535},
        {"gid", JSON_UINT, offsetof(struct members, gid), false, 0, 65535},
    };
    size_t i, max, total = 0;
    yyjson_val *item;

    spec->files = spec_alloc(spec, (yyjson_arr_size(list) + 1) * sizeof(*spec->files));
    if (spec->files == NULL)
        return -ENOMEM;
    yyjson_arr_foreach(list, i, max, item)
    {
        struct members members = {.mode = 0444};
        int ret = json_read(item, fields, COUNT(fields), 0, &members, SPEC_BAD, err);

        if (ret == 0)
            ret = check_target(members.target, "the target of a file", err);
        if (ret < 0)
            return error_prefix(err, ret, "files");
        size_t len = yyjson_get_len(members.data);
        uint8_t *data = spec_alloc(spec, len / 4 * 3 + 1);
        if (data == NULL)
            return -ENOMEM;
        ssize_t n = yyjson_is_str(members.data)
                        ? base64_decode(yyjson_get_str(members.data), len, data)
                        : -EINVAL;
        if (n < 0)
            return error_set(err, EINVAL, SPEC_BAD, NULL, "the content of %.100s is not base64",
                             members.target);
        total += (size_t)n;
        if (total > SPEC_FILES_BYTES_MAX)
            return error_set(err, EFBIG, SPEC_BAD, "use a volume",
                             "configs and secrets of one service have more than 4 MiB");
        spec->files[spec->file_count++] = (struct spec_file){
            members.target,       data, (size_t)n, (mode_t)members.mode, (uint32_t)members.uid,
            (uint32_t)members.gid};
    }
    return 0;
}

static bool is_address(const char *text)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static int add_hosts(struct container_spec *spec, yyjson_val *object, struct error *err)
{
    size_t i, max;
    yyjson_val *key, *value;

    if (object == NULL)
        return 0;
    yyjson_obj_foreach(object, i, max, key, value)
    {
        const char *name = yyjson_get_str(key), *address = yyjson_get_str(value);
        bool known = false;

        if (name[0] == '\0' || strlen(name) != yyjson_get_len(key) ||
            strpbrk(name, " \t\r\n#") != NULL || address == NULL || !is_address(address))
            return error_set(err, EINVAL, SPEC_BAD, "give a name and an IP address",
                             "host \"%.64s\" has no usable address", name);
        /* The caller may have put the service's own hosts into its list already. */
        for (size_t h = 0; h < spec->host_count && !known; h++)
            known = strcmp(spec->hosts[h].name, name) == 0 &&
                    strcmp(spec->hosts[h].address, address) == 0;
        if (known)
            continue;
        spec->hosts[spec->host_count++] = (struct spec_host){name, address};
    }
    return 0;
}

static int read_dns(struct container_spec *spec, yyjson_val *list, struct error *err)
{
    int ret = spec_strings(spec, list, "dns", 8, &spec->dns, err);

    for (const char **dns = spec->dns; ret == 0 && dns != NULL && *dns != NULL; dns++) {
        if (!is_address(*dns))
            ret = error_set(err, EINVAL, SPEC_BAD, NULL, "dns: \"%.64s\" is no IP address", *dns);
    }
    return ret;
}

/* ---- the whole ---- */

struct start_members {
    yyjson_val *ignored, *image, *spec, *mounts, *files, *hosts, *dns;
    const char *rootfs;
};

#define START(name, type, field, required, max)                                                    \
    {                                                                                              \
        name, type, offsetof(struct start_members, field), required, 0, max                        \
    }

static const struct json_field start_fields[] = {
    START("reservation", JSON_ANY, ignored, true, 0),
    START("revision", JSON_ANY, ignored, true, 0),
    START("service", JSON_ANY, ignored, true, 0),
    START("rootfs", JSON_STRING, rootfs, true, PATH_LEN_MAX),
    START("image", JSON_OBJECT, image, true, 0),
    START("spec", JSON_OBJECT, spec, true, 0),
    START("mounts", JSON_ARRAY, mounts, false, SPEC_MOUNTS_MAX),
    START("files", JSON_ARRAY, files, false, 64),
    START("hosts", JSON_OBJECT, hosts, false, 0),
    START("dns", JSON_ARRAY, dns, false, 8),
};

static int read_service(struct container_spec *spec, yyjson_val *image, yyjson_val *object,
                        struct service_members *service, struct error *err)
{
    const char *image_user = yyjson_get_str(spec_image_member(image, "User"));
    const char *image_dir = yyjson_get_str(spec_image_member(image, "WorkingDir"));
    const char *image_signal = yyjson_get_str(spec_image_member(image, "StopSignal"));
    int ret = json_read(object, service_fields, COUNT(service_fields), 0, service, SPEC_BAD, err);

    if (ret < 0)
        return ret;
    spec->user = service->user != NULL ? service->user : image_user != NULL ? image_user : "";
    spec->cwd = service->working_dir != NULL                ? service->working_dir
                : image_dir != NULL && image_dir[0] != '\0' ? image_dir
                                                            : "/";
    if (spec->cwd[0] != '/')
        return error_set(err, EINVAL, SPEC_BAD, NULL,
                         "the working folder \"%.100s\" is no absolute path", spec->cwd);
    const char *signal = service->stop_signal != NULL                      ? service->stop_signal
                         : image_signal != NULL && image_signal[0] != '\0' ? image_signal
                                                                           : "SIGTERM";
    spec->stop_signal = spec_signal(signal);
    if (spec->stop_signal < 0)
        return error_set(err, EINVAL, SPEC_BAD, "use a name of signal(7)",
                         "there is no signal \"%.32s\"", signal);
    spec->stop_grace = service->stop_grace * MS;
    spec->read_only = service->read_only;
    return 0;
}

static int parse(struct container_spec *spec, struct error *err)
{
    struct start_members start = {0};
    struct service_members service = {.stop_grace = 10000};
    int ret = json_read(yyjson_doc_get_root(spec->doc), start_fields, COUNT(start_fields), 0,
                        &start, SPEC_BAD, err);

    if (ret < 0)
        return ret;
    spec->rootfs = start.rootfs;
    if ((ret = check_target(spec->rootfs, "rootfs", err)) < 0 ||
        (ret = read_service(spec, start.image, start.spec, &service, err)) < 0 ||
        (ret = spec_merge_argv(spec, start.image, service.entrypoint, service.command, err)) < 0 ||
        (ret = spec_merge_env(spec, start.image, service.environment, err)) < 0 ||
        (ret = spec_merge_health(spec, start.image, service.healthcheck, err)) < 0 ||
        (ret = spec_strings(spec, service.cap_add, "capAdd", 64, &spec->cap_add, err)) < 0 ||
        (ret = spec_strings(spec, service.cap_drop, "capDrop", 64, &spec->cap_drop, err)) < 0 ||
        (ret = caps_compute(spec->cap_add, spec->cap_drop, &spec->caps, err)) < 0 ||
        (ret = read_resources(spec, service.resources, err)) < 0 ||
        (ret = read_restart(spec, service.restart, err)) < 0 ||
        (ret = read_tmpfs(spec, service.tmpfs, err)) < 0 ||
        (ret = read_mounts(spec, start.mounts, err)) < 0 ||
        (ret = read_files(spec, start.files, err)) < 0 ||
        (ret = read_dns(spec, start.dns, err)) < 0)
        return ret;
    spec->hosts =
        spec_alloc(spec, (yyjson_obj_size(start.hosts) + yyjson_obj_size(service.extra_hosts) + 1) *
                             sizeof(*spec->hosts));
    if (spec->hosts == NULL)
        return -ENOMEM;
    if ((ret = add_hosts(spec, start.hosts, err)) < 0)
        return ret;
    return add_hosts(spec, service.extra_hosts, err);
}

int container_spec_parse(const char *json, size_t len, struct container_spec *ret_spec,
                         struct error *err)
{
    memset(ret_spec, 0, sizeof(*ret_spec));
    ret_spec->doc = json_parse(json, len, SPEC_START_MAX, SPEC_BAD, err);
    if (ret_spec->doc == NULL)
        return -EINVAL;
    int ret = parse(ret_spec, err);
    if (ret < 0 && !error_is_set(err))
        error_set(err, -ret, SPEC_BAD, NULL, "the specification could not be read: %s",
                  strerror(-ret));
    return ret;
}
