/*
 * compose_service.c - one service of a compose file: the table of keys, each with the function that turns it into the
 * specification's member, and what those functions share.
 */
#include <stdio.h>
#include <string.h>

#include "cli/compose_service.h"

int service_bad(const struct service_work *work, const char *key, const char *why)
{
    char where[200];
    snprintf(where, sizeof(where), "services.%s.%s", work->context->service, key);
    return compose_bad(work->err, where, why);
}

int service_unsupported(const struct service_work *work, const char *key, const char *member)
{
    char where[200];
    snprintf(where, sizeof(where), "services.%s.%s", work->context->service, key);
    return compose_unsupported(work->err, where, member);
}

int service_add_duration(struct service_work *work, const char *key, yyjson_mut_val *value,
                         yyjson_mut_val *object, const char *member)
{
    uint64_t ms;
    if (!yyjson_mut_is_str(value) || compose_duration(yyjson_mut_get_str(value), &ms) < 0) {
        return service_bad(work, key, "not a duration such as 1m30s");
    }
    yyjson_mut_obj_add_uint(work->context->doc, object, member, ms);
    return 0;
}

int service_copy_texts(struct service_work *work, const char *key, yyjson_mut_val *value,
                       yyjson_mut_val *list)
{
    char space[32];
    size_t i, max;
    yyjson_mut_val *item;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        const char *text = compose_scalar(item, space, sizeof(space));
        if (text == NULL) {
            return service_bad(work, key, "an item is not a text");
        }
        yyjson_mut_arr_add_strcpy(work->context->doc, list, text);
    }
    return 0;
}

yyjson_mut_val *service_object(struct service_work *work, const char *name)
{
    yyjson_mut_val *object = yyjson_mut_obj_get(work->out, name);
    return object != NULL ? object : yyjson_mut_obj_add_obj(work->context->doc, work->out, name);
}

/* env_file stands before environment: what is written in the file itself wins. */
static const struct {
    const char *key;
    service_convert_fn *convert;
} keys[] = {
    {"image", service_convert_image},
    {"command", service_convert_words},
    {"entrypoint", service_convert_words},
    {"env_file", service_convert_env_file},
    {"environment", service_convert_environment},
    {"user", service_convert_user},
    {"working_dir", service_convert_working_dir},
    {"ports", service_convert_ports},
    {"volumes", service_convert_volumes},
    {"tmpfs", service_convert_tmpfs},
    {"networks", service_convert_networks},
    {"depends_on", service_convert_depends_on},
    {"healthcheck", service_convert_healthcheck},
    {"restart", service_convert_restart},
    {"deploy", service_convert_deploy},
    {"cap_add", service_convert_capabilities},
    {"cap_drop", service_convert_capabilities},
    {"read_only", service_convert_read_only},
    {"labels", service_convert_labels},
    {"stop_signal", service_convert_stop_signal},
    {"stop_grace_period", service_convert_stop_grace_period},
    {"configs", service_convert_files},
    {"secrets", service_convert_files},
    {"extra_hosts", service_convert_extra_hosts},
    {"x-croft", service_convert_croft},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

int compose_service(struct compose_context *context, const char *name, yyjson_mut_val *service,
                    yyjson_mut_val *file, yyjson_mut_val *out, struct error *err)
{
    struct service_work work = {context, file, out, err};
    size_t i, max;
    yyjson_mut_val *key, *value;

    context->service = name;
    yyjson_mut_obj_foreach(service, i, max, key, value)
    {
        const char *text = yyjson_mut_get_str(key);
        bool known = strncmp(text, "x-", 2) == 0;
        for (size_t k = 0; k < KEYS && !known; k++) {
            known = strcmp(keys[k].key, text) == 0;
        }
        if (!known) {
            char where[160];
            snprintf(where, sizeof(where), "services.%s", name);
            return compose_unsupported(err, where, text);
        }
    }
    yyjson_mut_obj_add_uint(context->doc, out, "scratch", context->scratch);
    service_convert_deploy(&work, "deploy", NULL);
    for (size_t k = 0; k < KEYS; k++) {
        value = yyjson_mut_obj_get(service, keys[k].key);
        if (value != NULL) {
            int ret = keys[k].convert(&work, keys[k].key, value);
            if (ret < 0) {
                return ret;
            }
        }
    }
    if (yyjson_mut_obj_get(out, "image") == NULL) {
        return service_bad(&work, "image", "missing");
    }
    if (yyjson_mut_obj_get(out, "networks") == NULL) {
        yyjson_mut_val *networks = yyjson_mut_obj_add_obj(context->doc, out, "networks");
        yyjson_mut_obj_add_obj(context->doc, networks, "default");
    }
    return 0;
}
