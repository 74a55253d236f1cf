/*
 * compose.c - the top of a compose file, and the sums that the contract reserves; see compose.h.
 */
#include "cli/compose.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/file.h"

int compose_unsupported(struct error *err, const char *where, const char *key)
{
    return error_set(err, ENOTSUP, "deploy.unsupported-key",
                     "take it out; what is supported stands in docs/tenants.md",
                     "a node cannot do what %s asks for with: %s", where, key);
}

int compose_bad(struct error *err, const char *where, const char *why)
{
    return error_set(err, EINVAL, "deploy.bad-compose", "", "%s: %s", where, why);
}

int compose_read_file(const struct compose_context *context, const char *name, char **ret_text,
                      size_t *ret_len, struct error *err)
{
    char path[PATH_MAX];
    const char *base = context->options->path;
    const char *slash = strrchr(base, '/');
    int len = name[0] == '/' || slash == NULL
                  ? snprintf(path, sizeof(path), "%s", name)
                  : snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - base), base, name);

    if (len < 0 || len >= (int)sizeof(path)) {
        return compose_bad(err, name, "the path is too long");
    }
    int ret = file_read(path, COMPOSE_FILE_MAX, ret_text, ret_len);
    return ret < 0 ? error_set(err, -ret, "deploy.no-file", "", "%s cannot be read: %s", path,
                               strerror(-ret))
                   : 0;
}

bool compose_name_ok(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= 63 && strchr("-_", name[0]) == NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

const char *compose_scalar(yyjson_mut_val *value, char *space, size_t size)
{
    if (yyjson_mut_is_str(value)) {
        return yyjson_mut_get_str(value);
    }
    if (yyjson_mut_is_int(value)) {
        snprintf(space, size, "%" PRId64, yyjson_mut_get_sint(value));
        return space;
    }
    if (yyjson_mut_is_bool(value)) {
        return yyjson_mut_get_bool(value) ? "true" : "false";
    }
    return NULL;
}

/* ---- project ---- */

/* As Docker's tool makes it of a folder's name: lower case, other characters left out. */
static int find_project(struct compose_context *context, yyjson_mut_val *file,
                        struct compose_result *result, struct error *err)
{
    char folder[PATH_MAX];
    const char *name = context->options->project;
    size_t len = 0;

    if (name == NULL) {
        name = yyjson_mut_get_str(yyjson_mut_obj_get(file, "name"));
    }
    if (name == NULL) {
        snprintf(folder, sizeof(folder), "%s", context->options->path);
        char *slash = strrchr(folder, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        char *whole = realpath(slash != NULL ? folder : ".", NULL);
        snprintf(folder, sizeof(folder), "%s", whole != NULL ? whole : "");
        free(whole);
        slash = strrchr(folder, '/');
        for (const char *p = slash != NULL ? slash + 1 : folder; *p != '\0'; p++) {
            char c = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
            bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
            if (len < 63 && (letter || (len > 0 && (c == '-' || c == '_')))) {
                result->project[len++] = c;
            }
        }
        result->project[len] = '\0';
        name = result->project;
    }
    if (!compose_name_ok(name)) {
        return compose_bad(err, "name",
                           "a project's name is of [a-z0-9][a-z0-9_-]{0,62}; give --project-name");
    }
    if (name != result->project) {
        snprintf(result->project, sizeof(result->project), "%s", name);
    }
    yyjson_mut_obj_add_strcpy(context->doc, context->spec, "project", result->project);
    return 0;
}

static int read_extension(struct compose_context *context, yyjson_mut_val *croft,
                          struct compose_result *result, struct error *err)
{
    size_t i, max;
    yyjson_mut_val *key, *value;

    yyjson_mut_obj_foreach(croft, i, max, key, value)
    {
        const char *name = yyjson_mut_get_str(key), *text = yyjson_mut_get_str(value);
        int ret = -EINVAL;
        if (text != NULL && strcmp(name, "keep") == 0) {
            ret = compose_duration(text, &result->keep_ms);
        } else if (text != NULL && strcmp(name, "scratch") == 0) {
            ret = compose_size(text, &context->scratch);
        } else if (text != NULL && strcmp(name, "update") == 0) {
            result->replace = strcmp(text, "replace") == 0;
            ret = result->replace || strcmp(text, "parallel") == 0 ? 0 : -EINVAL;
        } else if (strcmp(name, "kv") == 0) {
            ret = compose_read_kv(context, value, err);
            if (ret < 0) {
                return ret;
            }
        } else {
            return compose_unsupported(err, "x-croft", name);
        }
        if (ret < 0 || result->keep_ms > (uint64_t)30 * 86400 * 1000) {
            return compose_bad(err, "x-croft",
                               "keep: at most 720h, scratch: a size, update: parallel or replace");
        }
    }
    return 0;
}

/* ---- maps at the top ---- */

static int add_network(struct compose_context *context, yyjson_mut_val *networks, const char *name,
                       yyjson_mut_val *options, struct error *err)
{
    bool internal = false;
    size_t i, max;
    yyjson_mut_val *key, *value;

    if (!compose_name_ok(name)) {
        return compose_bad(err, "networks", "a name is of [a-z0-9][a-z0-9_-]{0,62}");
    }
    yyjson_mut_obj_foreach(options, i, max, key, value)
    {
        if (yyjson_mut_equals_str(key, "internal") && yyjson_mut_is_bool(value)) {
            internal = yyjson_mut_get_bool(value);
        } else if (!yyjson_mut_equals_str(key, "driver") ||
                   !yyjson_mut_equals_str(value, "bridge")) {
            return compose_unsupported(err, "networks", yyjson_mut_get_str(key));
        }
    }
    yyjson_mut_val *network = yyjson_mut_obj(context->doc);
    yyjson_mut_obj_add_bool(context->doc, network, "internal", internal);
    yyjson_mut_obj_add(networks, yyjson_mut_strcpy(context->doc, name), network);
    return 0;
}

static int read_networks(struct compose_context *context, yyjson_mut_val *file, struct error *err)
{
    yyjson_mut_val *networks = yyjson_mut_obj_add_obj(context->doc, context->spec, "networks");
    yyjson_mut_val *given = yyjson_mut_obj_get(file, "networks");
    size_t i, max;
    yyjson_mut_val *key, *value;
    int ret = 0;

    yyjson_mut_obj_foreach(given, i, max, key, value)
    {
        ret = ret == 0 ? add_network(context, networks, yyjson_mut_get_str(key), value, err) : ret;
    }
    if (ret == 0 && yyjson_mut_obj_get(networks, "default") == NULL) {
        ret = add_network(context, networks, "default", NULL, err);
    }
    return ret;
}

/* configs and secrets: file, content or environment; travels as base64. */
static int add_data(struct compose_context *context, yyjson_mut_val *map, const char *where,
                    const char *name, yyjson_mut_val *options, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len = 0;
    yyjson_mut_val *key = NULL, *value = NULL;
    yyjson_mut_obj_iter iter = yyjson_mut_obj_iter_with(options);

    if (!compose_name_ok(name) || yyjson_mut_obj_size(options) != 1 ||
        (key = yyjson_mut_obj_iter_next(&iter)) == NULL ||
        !yyjson_mut_is_str(value = yyjson_mut_obj_iter_get_val(key))) {
        return compose_bad(err, where, "an entry wants exactly one of file, content, environment");
    }
    const char *given = yyjson_mut_get_str(value);
    if (yyjson_mut_equals_str(key, "file")) {
        int ret = compose_read_file(context, given, &text, &len, err);
        if (ret < 0) {
            return ret;
        }
    } else if (yyjson_mut_equals_str(key, "environment")) {
        given = compose_variable(&context->options->environment, given);
        text = given != NULL ? strdup(given) : NULL;
        if (text == NULL) {
            return compose_bad(err, where, "the environment lacks the variable");
        }
        len = strlen(text);
    } else if (yyjson_mut_equals_str(key, "content")) {
        len = yyjson_mut_get_len(value);
        text = strdup(given);
    } else {
        return compose_unsupported(err, where, yyjson_mut_get_str(key));
    }
    /* `text` is freed by its attribute, which the analyzer does not follow. */
    cleanup_free char *encoded = base64_encode(text, len); // NOLINT(clang-analyzer-unix.Malloc)
    if (encoded == NULL) {
        return error_set(err, ENOMEM, "cli.failed", "", "out of memory");
    }
    yyjson_mut_val *entry = yyjson_mut_obj(context->doc);
    yyjson_mut_obj_add_strcpy(context->doc, entry, "data", encoded);
    yyjson_mut_obj_add(map, yyjson_mut_strcpy(context->doc, name), entry);
    return 0;
}

static int read_data(struct compose_context *context, yyjson_mut_val *file, const char *where,
                     struct error *err)
{
    yyjson_mut_val *given = yyjson_mut_obj_get(file, where);
    size_t i, max;
    yyjson_mut_val *key, *value;
    int ret = 0;

    if (given == NULL) {
        return 0;
    }
    yyjson_mut_val *map = yyjson_mut_obj_add_obj(context->doc, context->spec, where);
    yyjson_mut_obj_foreach(given, i, max, key, value)
    {
        ret = ret == 0 ? add_data(context, map, where, yyjson_mut_get_str(key), value, err) : ret;
    }
    return ret;
}

static int read_services(struct compose_context *context, yyjson_mut_val *file, struct error *err)
{
    yyjson_mut_val *services = yyjson_mut_obj_add_obj(context->doc, context->spec, "services");
    yyjson_mut_val *given = yyjson_mut_obj_get(file, "services");
    size_t i, max;
    yyjson_mut_val *key, *value;

    /* A namespace is used from outside too: its storage is enough to reserve. */
    if (yyjson_mut_obj_size(given) == 0 &&
        yyjson_mut_obj_size(yyjson_mut_obj_get(context->spec, "kv")) == 0) {
        return compose_bad(err, "services", "there is none, and no x-croft.kv");
    }
    yyjson_mut_obj_foreach(given, i, max, key, value)
    {
        const char *name = yyjson_mut_get_str(key);
        if (!compose_name_ok(name) || !yyjson_mut_is_obj(value)) {
            return compose_bad(err, "services",
                               "a name is of [a-z0-9][a-z0-9_-]{0,62}, and holds a mapping");
        }
        yyjson_mut_val *out = yyjson_mut_obj(context->doc);
        yyjson_mut_obj_add(services, yyjson_mut_strcpy(context->doc, name), out);
        int ret = compose_service(context, name, value, file, out, err);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- sums ---- */

static void sum_up(struct compose_context *context, struct compose_result *result)
{
    static const char *const storage[] = {"volumes", "kv"};
    struct grid_resources *sum = &result->resources;
    yyjson_mut_val *key, *value;
    size_t i, max;

    for (size_t s = 0; s < sizeof(storage) / sizeof(storage[0]); s++) {
        yyjson_mut_obj_foreach(yyjson_mut_obj_get(context->spec, storage[s]), i, max, key, value)
        {
            bool ssd = yyjson_mut_equals_str(yyjson_mut_obj_get(value, "kind"), "ssd");
            *(ssd ? &sum->ssd : &sum->hdd) +=
                yyjson_mut_get_uint(yyjson_mut_obj_get(value, "size"));
        }
    }
    yyjson_mut_obj_foreach(yyjson_mut_obj_get(context->spec, "services"), i, max, key, value)
    {
        yyjson_mut_val *limits = yyjson_mut_obj_get(value, "resources");
        sum->milli_cores += yyjson_mut_get_uint(yyjson_mut_obj_get(limits, "milliCores"));
        sum->memory += yyjson_mut_get_uint(yyjson_mut_obj_get(limits, "memory"));
        *(context->options->ssd ? &sum->ssd : &sum->hdd) +=
            yyjson_mut_get_uint(yyjson_mut_obj_get(value, "scratch"));
    }
    yyjson_mut_val *resources = yyjson_mut_obj_add_obj(context->doc, context->spec, "resources");
    yyjson_mut_obj_add_uint(context->doc, resources, "milliCores", sum->milli_cores);
    yyjson_mut_obj_add_uint(context->doc, resources, "memory", sum->memory);
    yyjson_mut_obj_add_uint(context->doc, resources, "ssd", sum->ssd);
    yyjson_mut_obj_add_uint(context->doc, resources, "hdd", sum->hdd);
    yyjson_mut_obj_add_uint(context->doc, resources, "addresses", sum->addresses);
}

static int check_keys(yyjson_mut_val *file, struct error *err)
{
    static const char *const known[] = {"name",    "version", "services", "networks",
                                        "volumes", "configs", "secrets"};
    size_t i, max;
    yyjson_mut_val *key, *value;

    yyjson_mut_obj_foreach(file, i, max, key, value)
    {
        const char *name = yyjson_mut_get_str(key);
        bool ok = strncmp(name, "x-", 2) == 0;
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            ok = ok || strcmp(known[k], name) == 0;
        }
        if (!ok) {
            return compose_unsupported(err, "the file", name);
        }
    }
    return 0;
}

int compose_convert(yyjson_mut_val *file, const struct compose_options *options,
                    struct compose_result *ret_result, struct error *err)
{
    struct compose_result result = {.keep_ms = COMPOSE_KEEP_DEFAULT_MS};
    struct compose_context context = {
        .options = options, .doc = yyjson_mut_doc_new(NULL), .scratch = COMPOSE_SCRATCH_DEFAULT};
    int ret;

    if (context.doc == NULL) {
        return error_set(err, ENOMEM, "cli.failed", "", "out of memory");
    }
    context.spec = yyjson_mut_obj(context.doc);
    yyjson_mut_doc_set_root(context.doc, context.spec);
    context.images = yyjson_mut_obj_add_obj(context.doc, context.spec, "images");
    yyjson_mut_obj_add_uint(context.doc, context.spec, "version", 1);
    if ((ret = check_keys(file, err)) < 0 ||
        (ret = find_project(&context, file, &result, err)) < 0 ||
        (ret = read_extension(&context, yyjson_mut_obj_get(file, "x-croft"), &result, err)) < 0 ||
        (ret = read_networks(&context, file, err)) < 0 ||
        (ret = compose_read_volumes(&context, file, err)) < 0 ||
        (ret = read_data(&context, file, "configs", err)) < 0 ||
        (ret = read_data(&context, file, "secrets", err)) < 0 ||
        (ret = read_services(&context, file, err)) < 0) {
        yyjson_mut_doc_free(context.doc);
        return ret;
    }
    yyjson_mut_obj_add_uint(context.doc, context.spec, "keep", result.keep_ms);
    yyjson_mut_obj_add_str(context.doc, context.spec, "update",
                           result.replace ? "replace" : "parallel");
    sum_up(&context, &result);
    result.doc = context.doc;
    *ret_result = result;
    return 0;
}
