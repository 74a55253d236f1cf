/*
 * compose_limits.c - how a service is watched and what it may use: healthcheck, restart, deploy, x-croft.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose_service.h"

static int health_test(struct service_work *work, const char *key, yyjson_mut_val *value,
                       yyjson_mut_val *health)
{
    yyjson_mut_doc *doc = work->context->doc;
    const char *first = yyjson_mut_get_str(yyjson_mut_arr_get_first(value));

    if (first != NULL && strcmp(first, "NONE") == 0) {
        yyjson_mut_obj_add_bool(doc, health, "disable", true);
        return 0;
    }
    yyjson_mut_val *test = yyjson_mut_obj_add_arr(doc, health, "test");
    if (yyjson_mut_is_str(value)) {
        yyjson_mut_arr_add_str(doc, test, "CMD-SHELL");
        yyjson_mut_arr_add_strcpy(doc, test, yyjson_mut_get_str(value));
        return 0;
    }
    if (first == NULL || (strcmp(first, "CMD") != 0 && strcmp(first, "CMD-SHELL") != 0)) {
        return service_bad(work, key, "test wants CMD, CMD-SHELL or NONE first");
    }
    return service_copy_texts(work, key, value, test);
}

int service_convert_healthcheck(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    static const char *const durations[][2] = {{"interval", "interval"},
                                               {"timeout", "timeout"},
                                               {"start_period", "startPeriod"},
                                               {"start_interval", "startInterval"}};
    yyjson_mut_val *health = service_object(work, "healthcheck");
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        const char *member = yyjson_mut_get_str(name);
        int ret = 1;
        for (size_t d = 0; d < sizeof(durations) / sizeof(durations[0]); d++) {
            if (strcmp(member, durations[d][0]) == 0) {
                ret = service_add_duration(work, key, item, health, durations[d][1]);
            }
        }
        if (strcmp(member, "test") == 0) {
            ret = health_test(work, key, item, health);
        } else if (strcmp(member, "retries") == 0 && yyjson_mut_is_int(item)) {
            yyjson_mut_obj_add_int(work->context->doc, health, "retries",
                                   yyjson_mut_get_sint(item));
            ret = 0;
        } else if (strcmp(member, "disable") == 0 && yyjson_mut_is_bool(item)) {
            if (yyjson_mut_get_bool(item)) {
                yyjson_mut_obj_add_bool(work->context->doc, health, "disable", true);
            }
            ret = 0;
        }
        if (ret != 0) {
            return ret < 0 ? ret : service_unsupported(work, key, member);
        }
    }
    return yyjson_mut_is_obj(value) ? 0 : service_bad(work, key, "not a mapping");
}

int service_convert_restart(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    static const char *const policies[] = {"no", "always", "on-failure", "unless-stopped"};
    const char *text = yyjson_mut_is_false(value) ? "no" : yyjson_mut_get_str(value);
    size_t len = text != NULL ? strcspn(text, ":") : 0;
    yyjson_mut_val *restart = service_object(work, "restart");

    for (size_t i = 0; text != NULL && i < sizeof(policies) / sizeof(policies[0]); i++) {
        if (strlen(policies[i]) == len && strncmp(policies[i], text, len) == 0) {
            yyjson_mut_obj_add_str(work->context->doc, restart, "policy", policies[i]);
            if (text[len] == ':') {
                yyjson_mut_obj_add_uint(work->context->doc, restart, "maxRetries",
                                        strtoul(text + len + 1, NULL, 10));
            }
            return 0;
        }
    }
    return service_bad(work, key, "none of no, always, on-failure[:N], unless-stopped");
}

static int read_limits(struct service_work *work, const char *key, yyjson_mut_val *limits,
                       uint64_t values[3])
{
    char space[32];
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(limits, i, max, name, item)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = compose_scalar(item, space, sizeof(space));
        int ret = -EINVAL;
        if (strcmp(member, "cpus") == 0 && text != NULL) {
            ret = compose_cores(text, &values[0]);
        } else if (strcmp(member, "memory") == 0 && text != NULL) {
            ret = compose_size(text, &values[1]);
        } else if (strcmp(member, "pids") == 0 && yyjson_mut_is_uint(item)) {
            values[2] = yyjson_mut_get_uint(item);
            ret = 0;
        } else {
            return service_unsupported(work, key, member);
        }
        if (ret < 0) {
            return service_bad(work, key, "a limit is no such amount");
        }
    }
    return 0;
}

int service_convert_deploy(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_doc *doc = work->context->doc;
    uint64_t values[3] = {COMPOSE_MILLI_CORES_DEFAULT, COMPOSE_MEMORY_DEFAULT,
                          COMPOSE_PIDS_DEFAULT};
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        if (!yyjson_mut_equals_str(name, "resources")) {
            return service_unsupported(work, key, yyjson_mut_get_str(name));
        }
        if (yyjson_mut_obj_size(item) != 1 || yyjson_mut_obj_get(item, "limits") == NULL) {
            return service_unsupported(work, key, "resources other than limits");
        }
        int ret = read_limits(work, key, yyjson_mut_obj_get(item, "limits"), values);
        if (ret < 0) {
            return ret;
        }
    }
    yyjson_mut_obj_remove_str(work->out, "resources");
    yyjson_mut_val *resources = yyjson_mut_obj_add_obj(doc, work->out, "resources");
    yyjson_mut_obj_add_uint(doc, resources, "milliCores", values[0]);
    yyjson_mut_obj_add_uint(doc, resources, "memory", values[1]);
    yyjson_mut_obj_add_uint(doc, resources, "pids", values[2]);
    return 0;
}

int service_convert_croft(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    uint64_t scratch;
    const char *text = yyjson_mut_get_str(yyjson_mut_obj_get(value, "scratch"));

    if (yyjson_mut_obj_size(value) != 1 || text == NULL || compose_size(text, &scratch) < 0) {
        return service_bad(work, key, "knows scratch: SIZE only");
    }
    yyjson_mut_obj_remove_str(work->out, "scratch");
    yyjson_mut_obj_add_uint(work->context->doc, work->out, "scratch", scratch);
    return 0;
}
