/*
 * compose_plain.c - keys of a service that are taken as they are: texts, words, names with values, the image.
 */
#include <errno.h>
#include <string.h>

#include "cli/compose_service.h"
#include "lib/file.h"

static int copy_text(struct service_work *work, const char *key, yyjson_mut_val *value,
                     const char *member)
{
    char space[32];
    const char *text = compose_scalar(value, space, sizeof(space));
    if (text == NULL) {
        return service_bad(work, key, "not a text");
    }
    yyjson_mut_obj_add_strcpy(work->context->doc, work->out, member, text);
    return 0;
}

int service_convert_user(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "user");
}

int service_convert_working_dir(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "workingDir");
}

int service_convert_stop_signal(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "stopSignal");
}

int service_convert_read_only(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    if (!yyjson_mut_is_bool(value)) {
        return service_bad(work, key, "neither true nor false");
    }
    yyjson_mut_obj_add_bool(work->context->doc, work->out, "readOnly", yyjson_mut_get_bool(value));
    return 0;
}

int service_convert_stop_grace_period(struct service_work *work, const char *key,
                                      yyjson_mut_val *value)
{
    return service_add_duration(work, key, value, work->out, "stopGracePeriod");
}

int service_convert_words(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list;

    if (yyjson_mut_is_null(value)) {
        return 0;
    }
    list = yyjson_mut_obj_add_arr(work->context->doc, work->out, key);
    if (yyjson_mut_is_str(value)) {
        return compose_words(yyjson_mut_get_str(value), work->context->doc, list) < 0
                   ? service_bad(work, key, "a quote is not closed")
                   : 0;
    }
    return yyjson_mut_is_arr(value) ? service_copy_texts(work, key, value, list)
                                    : service_bad(work, key, "neither a text nor a list");
}

int service_convert_capabilities(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    const char *member = strcmp(key, "cap_add") == 0 ? "capAdd" : "capDrop";
    if (!yyjson_mut_is_arr(value)) {
        return service_bad(work, key, "not a list");
    }
    return service_copy_texts(work, key, value,
                              yyjson_mut_obj_add_arr(work->context->doc, work->out, member));
}

/* ---- name and value ---- */

/* A list of "NAME=value" or a mapping into an object; a name without a value is taken from the environment (inherit). */
static int pairs(struct service_work *work, const char *key, yyjson_mut_val *value,
                 yyjson_mut_val *object, const char *separators, bool inherit)
{
    yyjson_mut_doc *doc = work->context->doc;
    char space[32];
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        const char *text = compose_scalar(item, space, sizeof(space));
        if (yyjson_mut_is_null(item)) {
            text = inherit ? compose_variable(&work->context->options->environment,
                                              yyjson_mut_get_str(name))
                           : "";
            if (text == NULL) {
                continue;
            }
        }
        if (text == NULL) {
            return service_bad(work, key, "a value is not a text");
        }
        yyjson_mut_obj_remove_str(object, yyjson_mut_get_str(name));
        yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, yyjson_mut_get_str(name)),
                           yyjson_mut_strcpy(doc, text));
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        const char *text = yyjson_mut_get_str(item);
        size_t len = text != NULL ? strcspn(text, separators) : 0;
        if (len == 0) {
            return service_bad(work, key, "an item is not of the form NAME=value");
        }
        yyjson_mut_val *item_name = yyjson_mut_strncpy(doc, text, len);
        const char *rest = text[len] != '\0' ? text + len + 1
                           : inherit ? compose_variable(&work->context->options->environment, text)
                                     : "";
        if (rest == NULL) {
            continue;
        }
        yyjson_mut_obj_remove_strn(object, text, len);
        yyjson_mut_obj_add(object, item_name, yyjson_mut_strcpy(doc, rest));
    }
    return yyjson_mut_is_obj(value) || yyjson_mut_is_arr(value) || yyjson_mut_is_null(value)
               ? 0
               : service_bad(work, key, "neither a mapping nor a list");
}

int service_convert_environment(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, service_object(work, "environment"), "=", true);
}

int service_convert_labels(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, service_object(work, "labels"), "=", false);
}

int service_convert_extra_hosts(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, service_object(work, "extraHosts"),
                 yyjson_mut_is_arr(value) ? "=:" : "", false);
}

static int one_env_file(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    cleanup_free char *text = NULL;
    size_t len;
    bool required = true;
    const char *path = yyjson_mut_get_str(value);

    if (yyjson_mut_is_obj(value)) {
        yyjson_mut_val *flag = yyjson_mut_obj_get(value, "required");
        path = yyjson_mut_get_str(yyjson_mut_obj_get(value, "path"));
        required = flag == NULL || yyjson_mut_get_bool(flag);
    }
    if (path == NULL) {
        return service_bad(work, key, "not the name of a file");
    }
    if (compose_read_file(work->context, path, &text, &len, work->err) < 0) {
        if (required) {
            return -ENOENT;
        }
        error_clear(work->err);
        return 0;
    }
    return compose_env_file(text, len, work->context->doc, service_object(work, "environment")) < 0
               ? service_bad(work, key, "a line of the file is not of the form NAME=value")
               : 0;
}

int service_convert_env_file(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return one_env_file(work, key, value);
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        int ret = one_env_file(work, key, item);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- image ---- */

static bool is_image_id(const char *text)
{
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

int service_convert_image(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    struct compose_context *context = work->context;
    const char *name = yyjson_mut_get_str(value);
    yyjson_val *locked = NULL;

    if (name == NULL) {
        return service_bad(work, key, "not a text");
    }
    const char *id = name;
    if (!is_image_id(name)) {
        locked = yyjson_obj_get(context->options->lock, name);
        id = yyjson_get_str(yyjson_obj_get(locked, "id"));
        if (id == NULL || !is_image_id(id)) {
            return error_set(
                work->err, ENOENT, "image.not-locked",
                "croft image convert … --name NAME writes it into croft.lock",
                "croft.lock beside the compose file does not say which image \"%s\" is", name);
        }
    }
    yyjson_mut_obj_add_strcpy(context->doc, work->out, "image", id);
    if (yyjson_mut_obj_get(context->images, id) != NULL) {
        return 0;
    }
    yyjson_mut_val *image = yyjson_mut_obj(context->doc);
    yyjson_mut_obj_add(context->images, yyjson_mut_strcpy(context->doc, id), image);
    yyjson_mut_val *hubs = yyjson_mut_obj_add_arr(context->doc, image, "hubs");
    size_t i, max;
    yyjson_val *hub;
    yyjson_arr_foreach(yyjson_obj_get(locked, "hubs"), i, max, hub)
    {
        if (yyjson_is_str(hub)) {
            yyjson_mut_arr_add_strcpy(context->doc, hubs, yyjson_get_str(hub));
        }
    }
    return 0;
}
