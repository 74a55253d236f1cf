/*
 * compose_service.c - one service of a compose file: a table of keys, each with the function that turns it into the
 * specification's member.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose.h"
#include "lib/crypto/text.h"
#include "lib/file.h"

struct work {
    struct compose_context *context;
    yyjson_mut_val *file; /* the whole compose file */
    yyjson_mut_val *out;  /* the service object */
    struct error *err;
};

typedef int convert_fn(struct work *work, const char *key, yyjson_mut_val *value);

static int bad(const struct work *work, const char *key, const char *why)
{
    char where[200];
    snprintf(where, sizeof(where), "services.%s.%s", work->context->service, key);
    return compose_bad(work->err, where, why);
}

static int unsupported(const struct work *work, const char *key, const char *member)
{
    char where[200];
    snprintf(where, sizeof(where), "services.%s.%s", work->context->service, key);
    return compose_unsupported(work->err, where, member);
}

/* The text of a scalar: numbers and booleans as they are written. NULL: not a scalar. */
static const char *text_of(yyjson_mut_val *value, char *space, size_t size)
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

/* ---- plain ones ---- */

static int copy_text(struct work *work, const char *key, yyjson_mut_val *value, const char *member)
{
    char space[32];
    const char *text = text_of(value, space, sizeof(space));
    if (text == NULL) {
        return bad(work, key, "not a text");
    }
    yyjson_mut_obj_add_strcpy(work->context->doc, work->out, member, text);
    return 0;
}

static int convert_user(struct work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "user");
}

static int convert_working_dir(struct work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "workingDir");
}

static int convert_stop_signal(struct work *work, const char *key, yyjson_mut_val *value)
{
    return copy_text(work, key, value, "stopSignal");
}

static int convert_read_only(struct work *work, const char *key, yyjson_mut_val *value)
{
    if (!yyjson_mut_is_bool(value)) {
        return bad(work, key, "neither true nor false");
    }
    yyjson_mut_obj_add_bool(work->context->doc, work->out, "readOnly", yyjson_mut_get_bool(value));
    return 0;
}

static int add_duration(struct work *work, const char *key, yyjson_mut_val *value,
                        yyjson_mut_val *object, const char *member)
{
    uint64_t ms;
    if (!yyjson_mut_is_str(value) || compose_duration(yyjson_mut_get_str(value), &ms) < 0) {
        return bad(work, key, "not a duration such as 1m30s");
    }
    yyjson_mut_obj_add_uint(work->context->doc, object, member, ms);
    return 0;
}

static int convert_stop_grace_period(struct work *work, const char *key, yyjson_mut_val *value)
{
    return add_duration(work, key, value, work->out, "stopGracePeriod");
}

static int copy_texts(struct work *work, const char *key, yyjson_mut_val *value,
                      yyjson_mut_val *list)
{
    char space[32];
    size_t i, max;
    yyjson_mut_val *item;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        const char *text = text_of(item, space, sizeof(space));
        if (text == NULL) {
            return bad(work, key, "an item is not a text");
        }
        yyjson_mut_arr_add_strcpy(work->context->doc, list, text);
    }
    return 0;
}

static int convert_words(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list;

    if (yyjson_mut_is_null(value)) {
        return 0;
    }
    list = yyjson_mut_obj_add_arr(work->context->doc, work->out, key);
    if (yyjson_mut_is_str(value)) {
        return compose_words(yyjson_mut_get_str(value), work->context->doc, list) < 0
                   ? bad(work, key, "a quote is not closed")
                   : 0;
    }
    return yyjson_mut_is_arr(value) ? copy_texts(work, key, value, list)
                                    : bad(work, key, "neither a text nor a list");
}

static int convert_capabilities(struct work *work, const char *key, yyjson_mut_val *value)
{
    const char *member = strcmp(key, "cap_add") == 0 ? "capAdd" : "capDrop";
    if (!yyjson_mut_is_arr(value)) {
        return bad(work, key, "not a list");
    }
    return copy_texts(work, key, value,
                      yyjson_mut_obj_add_arr(work->context->doc, work->out, member));
}

/* ---- name and value ---- */

/* A list of "NAME=value" or a mapping into an object; a name without a value is taken from the environment (inherit). */
static int pairs(struct work *work, const char *key, yyjson_mut_val *value, yyjson_mut_val *object,
                 const char *separators, bool inherit)
{
    yyjson_mut_doc *doc = work->context->doc;
    char space[32];
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        const char *text = text_of(item, space, sizeof(space));
        if (yyjson_mut_is_null(item)) {
            text = inherit ? compose_variable(&work->context->options->environment,
                                              yyjson_mut_get_str(name))
                           : "";
            if (text == NULL) {
                continue;
            }
        }
        if (text == NULL) {
            return bad(work, key, "a value is not a text");
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
            return bad(work, key, "an item is not of the form NAME=value");
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
               : bad(work, key, "neither a mapping nor a list");
}

static yyjson_mut_val *member_object(struct work *work, const char *name)
{
    yyjson_mut_val *object = yyjson_mut_obj_get(work->out, name);
    return object != NULL ? object : yyjson_mut_obj_add_obj(work->context->doc, work->out, name);
}

static int convert_environment(struct work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, member_object(work, "environment"), "=", true);
}

static int convert_labels(struct work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, member_object(work, "labels"), "=", false);
}

static int convert_extra_hosts(struct work *work, const char *key, yyjson_mut_val *value)
{
    return pairs(work, key, value, member_object(work, "extraHosts"),
                 yyjson_mut_is_arr(value) ? "=:" : "", false);
}

static int one_env_file(struct work *work, const char *key, yyjson_mut_val *value)
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
        return bad(work, key, "not the name of a file");
    }
    if (compose_read_file(work->context, path, &text, &len, work->err) < 0) {
        if (required) {
            return -ENOENT;
        }
        error_clear(work->err);
        return 0;
    }
    return compose_env_file(text, len, work->context->doc, member_object(work, "environment")) < 0
               ? bad(work, key, "a line of the file is not of the form NAME=value")
               : 0;
}

static int convert_env_file(struct work *work, const char *key, yyjson_mut_val *value)
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

static int convert_image(struct work *work, const char *key, yyjson_mut_val *value)
{
    struct compose_context *context = work->context;
    const char *name = yyjson_mut_get_str(value);
    yyjson_val *locked = NULL;

    if (name == NULL) {
        return bad(work, key, "not a text");
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

/* ---- ports ---- */

/* "8000" or "8000-8010". */
static int port_range(const char *text, uint32_t *ret_first, uint32_t *ret_last)
{
    unsigned first, last;
    int used = 0;

    if (sscanf(text, "%5u%n", &first, &used) != 1) {
        return -EINVAL;
    }
    last = first;
    if (text[used] == '-') {
        int more = 0;
        if (sscanf(text + used + 1, "%5u%n", &last, &more) != 1) {
            return -EINVAL;
        }
        used += 1 + more;
    }
    if (text[used] != '\0' || first == 0 || last > 65535 || last < first || last - first > 63) {
        return -EINVAL;
    }
    *ret_first = first;
    *ret_last = last;
    return 0;
}

static int add_ports(struct work *work, const char *key, yyjson_mut_val *list,
                     const char *published, const char *target, const char *protocol)
{
    yyjson_mut_doc *doc = work->context->doc;
    uint32_t p, p_last, t, t_last;

    if (port_range(published, &p, &p_last) < 0 || port_range(target, &t, &t_last) < 0 ||
        p_last - p != t_last - t) {
        return bad(work, key, "not of the form PUBLISHED:TARGET");
    }
    if (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0) {
        return bad(work, key, "the protocol is neither tcp nor udp");
    }
    for (; p <= p_last; p++, t++) {
        yyjson_mut_val *port = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, port, "published", p);
        yyjson_mut_obj_add_uint(doc, port, "target", t);
        yyjson_mut_obj_add_strcpy(doc, port, "protocol", protocol);
    }
    return 0;
}

static int short_port(struct work *work, const char *key, yyjson_mut_val *list, const char *text)
{
    char copy[64];
    size_t len = strcspn(text, "/");
    const char *protocol = text[len] == '/' ? text + len + 1 : "tcp";

    if (len >= sizeof(copy)) {
        return bad(work, key, "not of the form PUBLISHED:TARGET");
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *colon = strchr(copy, ':');
    if (colon == NULL) {
        return bad(work, key, "a port wants a published one too: PUBLISHED:TARGET");
    }
    if (strchr(colon + 1, ':') != NULL) {
        return unsupported(work, key, "an address of the host");
    }
    *colon = '\0';
    return add_ports(work, key, list, copy, colon + 1, protocol);
}

static int long_port(struct work *work, const char *key, yyjson_mut_val *list, yyjson_mut_val *port)
{
    char published[32], target[32], protocol[8] = "tcp", space[32];
    size_t i, max;
    yyjson_mut_val *name, *value;

    published[0] = target[0] = '\0';
    yyjson_mut_obj_foreach(port, i, max, name, value)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = text_of(value, space, sizeof(space));
        if (text == NULL) {
            return bad(work, key, "a member is not a text");
        }
        if (strcmp(member, "published") == 0) {
            snprintf(published, sizeof(published), "%s", text);
        } else if (strcmp(member, "target") == 0) {
            snprintf(target, sizeof(target), "%s", text);
        } else if (strcmp(member, "protocol") == 0) {
            snprintf(protocol, sizeof(protocol), "%s", text);
        } else if (strcmp(member, "name") != 0 && strcmp(member, "app_protocol") != 0) {
            return unsupported(work, key, member);
        }
    }
    return add_ports(work, key, list, published, target, protocol);
}

static int convert_ports(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(work->context->doc, work->out, "ports");
    char space[32];
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return bad(work, key, "not a list");
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        const char *text = text_of(item, space, sizeof(space));
        int ret =
            text != NULL ? short_port(work, key, list, text) : long_port(work, key, list, item);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- mounts ---- */

static int add_tmpfs(struct work *work, const char *target, uint64_t size)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *list = yyjson_mut_obj_get(work->out, "tmpfs");

    list = list != NULL ? list : yyjson_mut_obj_add_arr(doc, work->out, "tmpfs");
    yyjson_mut_val *mount = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strcpy(doc, mount, "target", target);
    yyjson_mut_obj_add_uint(doc, mount, "size", size);
    return 0;
}

#define TMPFS_DEFAULT ((uint64_t)64 << 20)

static int one_tmpfs(struct work *work, const char *key, const char *text)
{
    char target[512];
    uint64_t size = TMPFS_DEFAULT;
    size_t len = strcspn(text, ":");

    if (text[0] != '/' || len >= sizeof(target)) {
        return bad(work, key, "not an absolute path");
    }
    memcpy(target, text, len);
    target[len] = '\0';
    if (text[len] == ':' &&
        (strncmp(text + len + 1, "size=", 5) != 0 || compose_size(text + len + 6, &size) < 0)) {
        return unsupported(work, key, text + len + 1);
    }
    return add_tmpfs(work, target, size);
}

static int convert_tmpfs(struct work *work, const char *key, yyjson_mut_val *value)
{
    size_t i, max;
    yyjson_mut_val *item;

    if (yyjson_mut_is_str(value)) {
        return one_tmpfs(work, key, yyjson_mut_get_str(value));
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        int ret = yyjson_mut_is_str(item) ? one_tmpfs(work, key, yyjson_mut_get_str(item))
                                          : bad(work, key, "not a text");
        if (ret < 0) {
            return ret;
        }
    }
    return yyjson_mut_is_arr(value) ? 0 : bad(work, key, "neither a text nor a list");
}

static int add_mount(struct work *work, const char *key, yyjson_mut_val *list, const char *volume,
                     const char *target, bool read_only)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *known = yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "volumes"), volume);

    if (strchr(volume, '/') != NULL || volume[0] == '.' || volume[0] == '~') {
        return unsupported(work, key, "a folder of the host (use a named volume)");
    }
    if (known == NULL) {
        return bad(work, key, "the volume is not named under volumes");
    }
    yyjson_mut_val *mount = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strcpy(doc, mount, "volume", volume);
    yyjson_mut_obj_add_strcpy(doc, mount, "target", target);
    yyjson_mut_obj_add_bool(doc, mount, "readOnly", read_only);
    return 0;
}

static int short_mount(struct work *work, const char *key, yyjson_mut_val *list, const char *text)
{
    char volume[128], target[512], mode[16] = "rw", more[2] = "";
    int count = sscanf(text, "%127[^:]:%511[^:]:%15[^:]%1s", volume, target, mode, more);

    if (count < 2 || count > 3 || target[0] != '/') {
        return bad(work, key, "not of the form VOLUME:/PATH");
    }
    if (strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0) {
        return unsupported(work, key, mode);
    }
    return add_mount(work, key, list, volume, target, strcmp(mode, "ro") == 0);
}

static int long_mount(struct work *work, const char *key, yyjson_mut_val *list,
                      yyjson_mut_val *mount)
{
    const char *type = "volume", *source = NULL, *target = NULL;
    bool read_only = false;
    uint64_t size = TMPFS_DEFAULT;
    size_t i, max;
    yyjson_mut_val *name, *value;

    yyjson_mut_obj_foreach(mount, i, max, name, value)
    {
        const char *member = yyjson_mut_get_str(name);
        char space[32];
        if (strcmp(member, "type") == 0) {
            type = yyjson_mut_get_str(value);
        } else if (strcmp(member, "source") == 0) {
            source = yyjson_mut_get_str(value);
        } else if (strcmp(member, "target") == 0) {
            target = yyjson_mut_get_str(value);
        } else if (strcmp(member, "read_only") == 0) {
            read_only = yyjson_mut_get_bool(value);
        } else if (strcmp(member, "tmpfs") == 0 && yyjson_mut_obj_size(value) == 1) {
            const char *text = text_of(yyjson_mut_obj_get(value, "size"), space, sizeof(space));
            if (text == NULL || compose_size(text, &size) < 0) {
                return unsupported(work, key, "tmpfs without size");
            }
        } else {
            return unsupported(work, key, member);
        }
    }
    if (type == NULL || target == NULL || target[0] != '/') {
        return bad(work, key, "a mount wants a type and an absolute target");
    }
    if (strcmp(type, "tmpfs") == 0) {
        return add_tmpfs(work, target, size);
    }
    if (strcmp(type, "volume") != 0 || source == NULL) {
        return unsupported(work, key, type);
    }
    return add_mount(work, key, list, source, target, read_only);
}

static int convert_volumes(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(work->context->doc, work->out, "mounts");
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return bad(work, key, "not a list");
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        int ret = yyjson_mut_is_str(item) ? short_mount(work, key, list, yyjson_mut_get_str(item))
                                          : long_mount(work, key, list, item);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- configs and secrets ---- */

static int add_file(struct work *work, const char *key, const char *kind, const char *source,
                    yyjson_mut_val *options)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *list = yyjson_mut_obj_get(work->out, "files");
    yyjson_mut_val *file = yyjson_mut_obj(doc);
    char target[600], space[32];
    int64_t mode = strcmp(kind, "secret") == 0 ? 0400 : 0444;
    size_t i, max;
    yyjson_mut_val *name, *value;

    if (source == NULL || yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, key), source) == NULL) {
        return bad(work, key, "no such entry at the top of the file");
    }
    snprintf(target, sizeof(target), "%s%s", strcmp(kind, "secret") == 0 ? "/run/secrets/" : "/",
             source);
    yyjson_mut_obj_add_strcpy(doc, file, kind, source);
    yyjson_mut_obj_foreach(options, i, max, name, value)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = text_of(value, space, sizeof(space));
        if (strcmp(member, "target") == 0 && text != NULL) {
            snprintf(target, sizeof(target), "%s%s",
                     text[0] == '/'                ? ""
                     : strcmp(kind, "secret") == 0 ? "/run/secrets/"
                                                   : "/",
                     text);
        } else if (strcmp(member, "mode") == 0 && text != NULL) {
            mode = yyjson_mut_is_int(value) ? yyjson_mut_get_sint(value) : strtol(text, NULL, 8);
        } else if ((strcmp(member, "uid") == 0 || strcmp(member, "gid") == 0) && text != NULL) {
            yyjson_mut_obj_add_int(doc, file, member[0] == 'u' ? "uid" : "gid",
                                   strtol(text, NULL, 10));
        } else if (strcmp(member, "source") != 0) {
            return unsupported(work, key, member);
        }
    }
    yyjson_mut_obj_add_int(doc, file, "mode", mode & 0777);
    yyjson_mut_obj_add_strcpy(doc, file, "target", target);
    list = list != NULL ? list : yyjson_mut_obj_add_arr(doc, work->out, "files");
    yyjson_mut_arr_append(list, file);
    return 0;
}

static int convert_files(struct work *work, const char *key, yyjson_mut_val *value)
{
    const char *kind = strcmp(key, "secrets") == 0 ? "secret" : "config";
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return bad(work, key, "not a list");
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        bool is_object = yyjson_mut_is_obj(item);
        const char *source =
            yyjson_mut_get_str(is_object ? yyjson_mut_obj_get(item, "source") : item);
        int ret = add_file(work, key, kind, source, is_object ? item : NULL);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- networks, dependencies ---- */

static int add_network(struct work *work, const char *key, yyjson_mut_val *networks,
                       const char *name, yyjson_mut_val *options)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *network = yyjson_mut_obj(doc);
    size_t i, max;
    yyjson_mut_val *member, *value;

    if (name == NULL ||
        (strcmp(name, "default") != 0 &&
         yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "networks"), name) == NULL)) {
        return bad(work, key, "the network is not named under networks");
    }
    yyjson_mut_obj_foreach(options, i, max, member, value)
    {
        if (!yyjson_mut_equals_str(member, "aliases") || !yyjson_mut_is_arr(value)) {
            return unsupported(work, key, yyjson_mut_get_str(member));
        }
        int ret = copy_texts(work, key, value, yyjson_mut_obj_add_arr(doc, network, "aliases"));
        if (ret < 0) {
            return ret;
        }
    }
    yyjson_mut_obj_add(networks, yyjson_mut_strcpy(doc, name), network);
    return 0;
}

static int convert_networks(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *networks = member_object(work, "networks");
    size_t i, max;
    yyjson_mut_val *name, *item;
    int ret = 0;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        ret = ret == 0 ? add_network(work, key, networks, yyjson_mut_get_str(item), NULL) : ret;
    }
    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        ret = ret == 0 ? add_network(work, key, networks, yyjson_mut_get_str(name), item) : ret;
    }
    return ret;
}

static int add_dependency(struct work *work, const char *key, yyjson_mut_val *depends,
                          const char *name, const char *condition)
{
    static const char *const words[][2] = {
        {"service_started", "started"},
        {"service_healthy", "healthy"},
        {"service_completed_successfully", "completed"},
    };
    if (name == NULL ||
        yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "services"), name) == NULL) {
        return bad(work, key, "there is no such service");
    }
    for (size_t i = 0; condition != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(condition, words[i][0]) == 0) {
            yyjson_mut_obj_add(depends, yyjson_mut_strcpy(work->context->doc, name),
                               yyjson_mut_str(work->context->doc, words[i][1]));
            return 0;
        }
    }
    return bad(work, key, "the condition is unknown");
}

static int convert_depends_on(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *depends = member_object(work, "dependsOn");
    size_t i, max;
    yyjson_mut_val *name, *item;
    int ret = 0;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        ret = ret == 0
                  ? add_dependency(work, key, depends, yyjson_mut_get_str(item), "service_started")
                  : ret;
    }
    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        if (ret == 0 && yyjson_mut_obj_size(item) != 1) {
            ret = unsupported(work, key, "required or restart");
        }
        ret = ret == 0 ? add_dependency(work, key, depends, yyjson_mut_get_str(name),
                                        yyjson_mut_get_str(yyjson_mut_obj_get(item, "condition")))
                       : ret;
    }
    return ret;
}

/* ---- health, restart, resources ---- */

static int health_test(struct work *work, const char *key, yyjson_mut_val *value,
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
        return bad(work, key, "test wants CMD, CMD-SHELL or NONE first");
    }
    return copy_texts(work, key, value, test);
}

static int convert_healthcheck(struct work *work, const char *key, yyjson_mut_val *value)
{
    static const char *const durations[][2] = {{"interval", "interval"},
                                               {"timeout", "timeout"},
                                               {"start_period", "startPeriod"},
                                               {"start_interval", "startInterval"}};
    yyjson_mut_val *health = member_object(work, "healthcheck");
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        const char *member = yyjson_mut_get_str(name);
        int ret = 1;
        for (size_t d = 0; d < sizeof(durations) / sizeof(durations[0]); d++) {
            if (strcmp(member, durations[d][0]) == 0) {
                ret = add_duration(work, key, item, health, durations[d][1]);
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
            return ret < 0 ? ret : unsupported(work, key, member);
        }
    }
    return yyjson_mut_is_obj(value) ? 0 : bad(work, key, "not a mapping");
}

static int convert_restart(struct work *work, const char *key, yyjson_mut_val *value)
{
    static const char *const policies[] = {"no", "always", "on-failure", "unless-stopped"};
    const char *text = yyjson_mut_is_false(value) ? "no" : yyjson_mut_get_str(value);
    size_t len = text != NULL ? strcspn(text, ":") : 0;
    yyjson_mut_val *restart = member_object(work, "restart");

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
    return bad(work, key, "none of no, always, on-failure[:N], unless-stopped");
}

static int read_limits(struct work *work, const char *key, yyjson_mut_val *limits,
                       uint64_t values[3])
{
    char space[32];
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(limits, i, max, name, item)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = text_of(item, space, sizeof(space));
        int ret = -EINVAL;
        if (strcmp(member, "cpus") == 0 && text != NULL) {
            ret = compose_cores(text, &values[0]);
        } else if (strcmp(member, "memory") == 0 && text != NULL) {
            ret = compose_size(text, &values[1]);
        } else if (strcmp(member, "pids") == 0 && yyjson_mut_is_uint(item)) {
            values[2] = yyjson_mut_get_uint(item);
            ret = 0;
        } else {
            return unsupported(work, key, member);
        }
        if (ret < 0) {
            return bad(work, key, "a limit is no such amount");
        }
    }
    return 0;
}

static int convert_deploy(struct work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_doc *doc = work->context->doc;
    uint64_t values[3] = {COMPOSE_MILLI_CORES_DEFAULT, COMPOSE_MEMORY_DEFAULT,
                          COMPOSE_PIDS_DEFAULT};
    size_t i, max;
    yyjson_mut_val *name, *item;

    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        if (!yyjson_mut_equals_str(name, "resources")) {
            return unsupported(work, key, yyjson_mut_get_str(name));
        }
        if (yyjson_mut_obj_size(item) != 1 || yyjson_mut_obj_get(item, "limits") == NULL) {
            return unsupported(work, key, "resources other than limits");
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

static int convert_croft(struct work *work, const char *key, yyjson_mut_val *value)
{
    uint64_t scratch;
    const char *text = yyjson_mut_get_str(yyjson_mut_obj_get(value, "scratch"));

    if (yyjson_mut_obj_size(value) != 1 || text == NULL || compose_size(text, &scratch) < 0) {
        return bad(work, key, "knows scratch: SIZE only");
    }
    yyjson_mut_obj_remove_str(work->out, "scratch");
    yyjson_mut_obj_add_uint(work->context->doc, work->out, "scratch", scratch);
    return 0;
}

/* env_file stands before environment: what is written in the file itself wins. */
static const struct {
    const char *key;
    convert_fn *convert;
} keys[] = {
    {"image", convert_image},
    {"command", convert_words},
    {"entrypoint", convert_words},
    {"env_file", convert_env_file},
    {"environment", convert_environment},
    {"user", convert_user},
    {"working_dir", convert_working_dir},
    {"ports", convert_ports},
    {"volumes", convert_volumes},
    {"tmpfs", convert_tmpfs},
    {"networks", convert_networks},
    {"depends_on", convert_depends_on},
    {"healthcheck", convert_healthcheck},
    {"restart", convert_restart},
    {"deploy", convert_deploy},
    {"cap_add", convert_capabilities},
    {"cap_drop", convert_capabilities},
    {"read_only", convert_read_only},
    {"labels", convert_labels},
    {"stop_signal", convert_stop_signal},
    {"stop_grace_period", convert_stop_grace_period},
    {"configs", convert_files},
    {"secrets", convert_files},
    {"extra_hosts", convert_extra_hosts},
    {"x-croft", convert_croft},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

int compose_service(struct compose_context *context, const char *name, yyjson_mut_val *service,
                    yyjson_mut_val *file, yyjson_mut_val *out, struct error *err)
{
    struct work work = {context, file, out, err};
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
    convert_deploy(&work, "deploy", NULL);
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
        return bad(&work, "image", "missing");
    }
    if (yyjson_mut_obj_get(out, "networks") == NULL) {
        yyjson_mut_val *networks = yyjson_mut_obj_add_obj(context->doc, out, "networks");
        yyjson_mut_obj_add_obj(context->doc, networks, "default");
    }
    return 0;
}
