/*
 * compose_mounts.c - what a service sees besides its image: volumes, tmpfs, configs and secrets.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose_service.h"

/* ---- mounts ---- */

static int add_tmpfs(struct service_work *work, const char *target, uint64_t size)
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

static int one_tmpfs(struct service_work *work, const char *key, const char *text)
{
    char target[512];
    uint64_t size = TMPFS_DEFAULT;
    size_t len = strcspn(text, ":");

    if (text[0] != '/' || len >= sizeof(target)) {
        return service_bad(work, key, "not an absolute path");
    }
    memcpy(target, text, len);
    target[len] = '\0';
    if (text[len] == ':' &&
        (strncmp(text + len + 1, "size=", 5) != 0 || compose_size(text + len + 6, &size) < 0)) {
        return service_unsupported(work, key, text + len + 1);
    }
    return add_tmpfs(work, target, size);
}

int service_convert_tmpfs(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    size_t i, max;
    yyjson_mut_val *item;

    if (yyjson_mut_is_str(value)) {
        return one_tmpfs(work, key, yyjson_mut_get_str(value));
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        int ret = yyjson_mut_is_str(item) ? one_tmpfs(work, key, yyjson_mut_get_str(item))
                                          : service_bad(work, key, "not a text");
        if (ret < 0) {
            return ret;
        }
    }
    return yyjson_mut_is_arr(value) ? 0 : service_bad(work, key, "neither a text nor a list");
}

static int add_mount(struct service_work *work, const char *key, yyjson_mut_val *list,
                     const char *volume, const char *target, bool read_only)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *known = yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "volumes"), volume);

    if (strchr(volume, '/') != NULL || volume[0] == '.' || volume[0] == '~') {
        return service_unsupported(work, key, "a folder of the host (use a named volume)");
    }
    if (known == NULL) {
        return service_bad(work, key, "the volume is not named under volumes");
    }
    yyjson_mut_val *mount = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strcpy(doc, mount, "volume", volume);
    yyjson_mut_obj_add_strcpy(doc, mount, "target", target);
    yyjson_mut_obj_add_bool(doc, mount, "readOnly", read_only);
    return 0;
}

static int short_mount(struct service_work *work, const char *key, yyjson_mut_val *list,
                       const char *text)
{
    char volume[128], target[512], mode[16] = "rw", more[2] = "";
    int count = sscanf(text, "%127[^:]:%511[^:]:%15[^:]%1s", volume, target, mode, more);

    if (count < 2 || count > 3 || target[0] != '/') {
        return service_bad(work, key, "not of the form VOLUME:/PATH");
    }
    if (strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0) {
        return service_unsupported(work, key, mode);
    }
    return add_mount(work, key, list, volume, target, strcmp(mode, "ro") == 0);
}

static int long_mount(struct service_work *work, const char *key, yyjson_mut_val *list,
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
            const char *text =
                compose_scalar(yyjson_mut_obj_get(value, "size"), space, sizeof(space));
            if (text == NULL || compose_size(text, &size) < 0) {
                return service_unsupported(work, key, "tmpfs without size");
            }
        } else {
            return service_unsupported(work, key, member);
        }
    }
    if (type == NULL || target == NULL || target[0] != '/') {
        return service_bad(work, key, "a mount wants a type and an absolute target");
    }
    if (strcmp(type, "tmpfs") == 0) {
        return add_tmpfs(work, target, size);
    }
    if (strcmp(type, "volume") != 0 || source == NULL) {
        return service_unsupported(work, key, type);
    }
    return add_mount(work, key, list, source, target, read_only);
}

int service_convert_volumes(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(work->context->doc, work->out, "mounts");
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return service_bad(work, key, "not a list");
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

static int add_file(struct service_work *work, const char *key, const char *kind,
                    const char *source, yyjson_mut_val *options)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *list = yyjson_mut_obj_get(work->out, "files");
    yyjson_mut_val *file = yyjson_mut_obj(doc);
    char target[600], space[32];
    int64_t mode = strcmp(kind, "secret") == 0 ? 0400 : 0444;
    size_t i, max;
    yyjson_mut_val *name, *value;

    if (source == NULL || yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, key), source) == NULL) {
        return service_bad(work, key, "no such entry at the top of the file");
    }
    snprintf(target, sizeof(target), "%s%s", strcmp(kind, "secret") == 0 ? "/run/secrets/" : "/",
             source);
    yyjson_mut_obj_add_strcpy(doc, file, kind, source);
    yyjson_mut_obj_foreach(options, i, max, name, value)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = compose_scalar(value, space, sizeof(space));
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
            return service_unsupported(work, key, member);
        }
    }
    yyjson_mut_obj_add_int(doc, file, "mode", mode & 0777);
    yyjson_mut_obj_add_strcpy(doc, file, "target", target);
    list = list != NULL ? list : yyjson_mut_obj_add_arr(doc, work->out, "files");
    yyjson_mut_arr_append(list, file);
    return 0;
}

int service_convert_files(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    const char *kind = strcmp(key, "secrets") == 0 ? "secret" : "config";
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return service_bad(work, key, "not a list");
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
