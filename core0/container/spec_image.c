/*
 * spec_image.c - how the image's defaults and the service's own words come together: as Docker does it.
 */
#include "container/spec.h"

#include <errno.h>
#include <string.h>

#include "lib/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ARGS_MAX 1024
#define ENV_MAX 1024
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

yyjson_val *spec_image_member(yyjson_val *image, const char *name)
{
    yyjson_val *inner =
        yyjson_obj_get(image, "config"); /* where OCI's own image configuration has it */
    size_t i, max, len = strlen(name);
    yyjson_val *key, *value;

    if (!yyjson_is_obj(image))
        return NULL;
    yyjson_obj_foreach(yyjson_is_obj(inner) ? inner : image, i, max, key, value)
    {
        const char *text = yyjson_get_str(key);

        /* Only the first letter differs between OCI's and our own spelling. */
        if (yyjson_get_len(key) == len && (text[0] | 0x20) == (name[0] | 0x20) &&
            memcmp(text + 1, name + 1, len - 1) == 0)
            return yyjson_is_null(value) ? NULL : value;
    }
    return NULL;
}

/* ---- what runs ---- */

static size_t list_count(const char **list)
{
    size_t count = 0;

    while (list != NULL && list[count] != NULL)
        count++;
    return count;
}

/* A given entrypoint drops the image's command; an empty one drops the image's entrypoint. */
int spec_merge_argv(struct container_spec *spec, yyjson_val *image, yyjson_val *entrypoint,
                    yyjson_val *command, struct error *err)
{
    const char *none[] = {NULL};
    const char **first = none, **rest = none;
    int ret =
        spec_strings(spec, entrypoint != NULL ? entrypoint : spec_image_member(image, "Entrypoint"),
                     "entrypoint", ARGS_MAX, &first, err);

    if (ret == 0 && command != NULL)
        ret = spec_strings(spec, command, "command", ARGS_MAX, &rest, err);
    else if (ret == 0 && entrypoint == NULL)
        ret = spec_strings(spec, spec_image_member(image, "Cmd"), "command", ARGS_MAX, &rest, err);
    if (ret < 0)
        return ret;
    size_t a = list_count(first), b = list_count(rest);
    if (a + b == 0 || (a > 0 ? first[0] : rest[0])[0] == '\0')
        return error_set(err, EINVAL, SPEC_BAD, "set command or entrypoint",
                         "neither the service nor its image says what to run");
    spec->argv = spec_alloc(spec, (a + b + 1) * sizeof(*spec->argv));
    if (spec->argv == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < a; i++)
        spec->argv[i] = first[i];
    for (size_t i = 0; i < b; i++)
        spec->argv[a + i] = rest[i];
    return 0;
}

/* ---- environment ---- */

static size_t name_len(const char *entry)
{
    return strcspn(entry, "=");
}

/* The later of two entries of one name counts, at the place of the first. */
static void env_set(const char **env, size_t *count, const char *entry)
{
    size_t len = name_len(entry);

    for (size_t i = 0; i < *count; i++) {
        if (name_len(env[i]) == len && memcmp(env[i], entry, len) == 0) {
            env[i] = entry;
            return;
        }
    }
    env[(*count)++] = entry;
}

int spec_merge_env(struct container_spec *spec, yyjson_val *image, yyjson_val *environment,
                   struct error *err)
{
    const char **own = NULL;
    size_t i, max, count = 0;
    yyjson_val *key, *value;
    int ret = spec_strings(spec, spec_image_member(image, "Env"), "the image's environment",
                           ENV_MAX, &own, err);

    if (ret < 0)
        return ret;
    if (yyjson_obj_size(environment) > ENV_MAX)
        return error_set(err, EINVAL, SPEC_BAD, NULL, "more than %d environment variables",
                         ENV_MAX);
    spec->env =
        spec_alloc(spec, (list_count(own) + yyjson_obj_size(environment) + 2) * sizeof(*spec->env));
    if (spec->env == NULL)
        return -ENOMEM;
    env_set(spec->env, &count, DEFAULT_PATH);
    for (const char **entry = own; entry != NULL && *entry != NULL; entry++) {
        if (name_len(*entry) > 0 && strchr(*entry, '=') != NULL)
            env_set(spec->env, &count, *entry);
    }
    if (environment == NULL)
        return 0;
    yyjson_obj_foreach(environment, i, max, key, value)
    {
        const char *name = yyjson_get_str(key), *text = yyjson_get_str(value);

        if (name[0] == '\0' || strlen(name) != yyjson_get_len(key) || strchr(name, '=') != NULL ||
            text == NULL || strlen(text) != yyjson_get_len(value))
            return error_set(err, EINVAL, SPEC_BAD, NULL,
                             "environment variable \"%.64s\" is no name with a plain string", name);
        const char *entry = spec_printf(spec, "%s=%s", name, text);
        if (entry == NULL)
            return -ENOMEM;
        env_set(spec->env, &count, entry);
    }
    return 0;
}

/* ---- health ---- */

struct health_members {
    yyjson_val *test;
    uint64_t interval, timeout, start_period, start_interval, retries;
    bool disable;
};

/* ["CMD", …], ["CMD-SHELL", text], ["NONE"]; Docker's shell is the image's /bin/sh. */
static int read_test(struct container_spec *spec, yyjson_val *test, struct error *err)
{
    const char **list = NULL;
    int ret = spec_strings(spec, test, "the health check's test", ARGS_MAX, &list, err);

    if (ret < 0)
        return ret;
    size_t count = list_count(list);
    if (count == 0 || strcmp(list[0], "NONE") == 0)
        return 0;
    if (strcmp(list[0], "CMD") == 0 && count >= 2 && list[1][0] != '\0') {
        spec->health.argv = list + 1;
        return 0;
    }
    if (strcmp(list[0], "CMD-SHELL") == 0 && count == 2) {
        const char **argv = spec_alloc(spec, 4 * sizeof(*argv));

        if (argv == NULL)
            return -ENOMEM;
        argv[0] = "/bin/sh";
        argv[1] = "-c";
        argv[2] = list[1];
        spec->health.argv = argv;
        return 0;
    }
    return error_set(err, EINVAL, SPEC_BAD, "use [\"CMD\", program, …] or [\"CMD-SHELL\", text]",
                     "the health check's test is of no known form");
}

/* us from the service (ms), else from the image (ns), else Docker's default (ms). */
static uint64_t duration(uint64_t own_ms, yyjson_val *image, const char *name, uint64_t default_ms)
{
    yyjson_val *value = spec_image_member(image, name);

    if (own_ms != 0)
        return own_ms * 1000;
    if (yyjson_is_uint(value) && yyjson_get_uint(value) >= 1000000)
        return yyjson_get_uint(value) / 1000;
    return default_ms * 1000;
}

int spec_merge_health(struct container_spec *spec, yyjson_val *image, yyjson_val *health,
                      struct error *err)
{
    static const struct json_field fields[] = {
        {"test", JSON_ARRAY, offsetof(struct health_members, test), false, 0, ARGS_MAX},
        {"interval", JSON_UINT, offsetof(struct health_members, interval), false, 0, 86400000},
        {"timeout", JSON_UINT, offsetof(struct health_members, timeout), false, 0, 86400000},
        {"startPeriod", JSON_UINT, offsetof(struct health_members, start_period), false, 0,
         86400000},
        {"startInterval", JSON_UINT, offsetof(struct health_members, start_interval), false, 0,
         86400000},
        {"retries", JSON_UINT, offsetof(struct health_members, retries), false, 0, 1000},
        {"disable", JSON_BOOL, offsetof(struct health_members, disable), false, 0, 0},
    };
    struct health_members own = {0};
    yyjson_val *other = spec_image_member(image, "Healthcheck");
    int ret = health != NULL ? json_read(health, fields, COUNT(fields), 0, &own, SPEC_BAD, err) : 0;

    if (ret < 0 || own.disable)
        return ret;
    ret = read_test(spec, own.test != NULL ? own.test : spec_image_member(other, "Test"), err);
    if (ret < 0)
        return ret;
    yyjson_val *retries = spec_image_member(other, "Retries");
    spec->health.interval = duration(own.interval, other, "Interval", 30000);
    spec->health.timeout = duration(own.timeout, other, "Timeout", 30000);
    spec->health.start_period = duration(own.start_period, other, "StartPeriod", 0);
    spec->health.start_interval = duration(own.start_interval, other, "StartInterval", 5000);
    spec->health.retries = own.retries != 0 ? (unsigned)own.retries
                           : yyjson_is_uint(retries) && yyjson_get_uint(retries) > 0 &&
                                   yyjson_get_uint(retries) <= 1000
                               ? (unsigned)yyjson_get_uint(retries)
                               : 3;
    return 0;
}
