/*
 * vdisk_service.c - virtual disks over varlink: what is asked for is checked here, and done by vdisk_job.c.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/json.h"
#include "vdisk.h"
#include "volume_parts.h"

struct vdisk_params {
    const char *key;
    const char *kind;
    const char *filesystem;
    const char *secret;
    const char *holder;
    uint64_t size;
    bool at_least;
    bool later;
};

#define SECRET_TEXT_MAX 64

static const struct json_field ensure_fields[] = {
    {"key", JSON_STRING, offsetof(struct vdisk_params, key), true, 0, 255},
    {"kind", JSON_STRING, offsetof(struct vdisk_params, kind), true, 0, 16},
    {"size", JSON_UINT, offsetof(struct vdisk_params, size), true, 0, 0},
    {"filesystem", JSON_STRING, offsetof(struct vdisk_params, filesystem), true, 0, 16},
    {"secret", JSON_STRING, offsetof(struct vdisk_params, secret), false, 0, SECRET_TEXT_MAX},
    {"atLeast", JSON_BOOL, offsetof(struct vdisk_params, at_least), false, 0, 0},
    {"later", JSON_BOOL, offsetof(struct vdisk_params, later), false, 0, 0},
};
static const struct json_field attach_fields[] = {
    {"key", JSON_STRING, offsetof(struct vdisk_params, key), true, 0, 255},
    {"holder", JSON_STRING, offsetof(struct vdisk_params, holder), true, 1, VDISK_HOLDER_MAX},
    {"secret", JSON_STRING, offsetof(struct vdisk_params, secret), false, 0, SECRET_TEXT_MAX},
};
static const struct json_field detach_fields[] = {
    {"key", JSON_STRING, offsetof(struct vdisk_params, key), true, 0, 255},
    {"holder", JSON_STRING, offsetof(struct vdisk_params, holder), false, 1, VDISK_HOLDER_MAX},
};

#define READ(fields, params, dest, err)                                                            \
    storage_read(data, params, fields, sizeof(fields) / sizeof((fields)[0]), dest, err)

/* Decodes the secret and wipes its text in the message. */
static int take_secret(const char *secret, struct vdisk_task *task, struct error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    char *text;
    if (secret == NULL)
        return 0;
    int r = base64_decode(secret, SECRET_TEXT_MAX, &data, &len);
    /* The message is ours from here on; it is const for those who only read it. */
    memcpy(&text, &secret, sizeof(text));
    crypto_wipe(text, strlen(text));
    if (r == 0 && len == sizeof(task->key)) {
        memcpy(task->key, data, len);
        task->has_key = true;
    } else {
        r = error_set(err, EINVAL, "storage.bad-request", "base64 of 32 random bytes",
                      "the secret of a virtual disk has %d bytes", LUKS_KEY_SIZE);
    }
    crypto_wipe(data, len);
    free(data);
    return r;
}

static void fill(const struct volume *volume, enum vdisk_op op, struct vdisk_task *task)
{
    task->op = op;
    vdisk_id(volume->key, task->id);
    snprintf(task->folder, sizeof(task->folder), "%s", volume->path);
    task->size = volume->size;
    task->form = volume->form;
}

static int check_form(const struct vdisk_params *p, struct error *err)
{
    static const struct {
        const char *filesystem;
        uint64_t least;
    } forms[] = {
        {"ext4", VDISK_SIZE_MIN}, {"btrfs", VDISK_SIZE_MIN_BTRFS}, {"raw", VDISK_SIZE_MIN}};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(forms[i].filesystem, p->filesystem) != 0)
            continue;
        if (p->size >= forms[i].least)
            return 0;
        return error_set(err, EINVAL, "storage.too-small", "ask for more",
                         "a virtual disk with %s has at least %llu bytes", p->filesystem,
                         (unsigned long long)forms[i].least);
    }
    return error_set(err, EINVAL, "storage.bad-filesystem", "ext4, btrfs or raw",
                     "'%s' is nothing that a virtual disk can hold", p->filesystem);
}

void vdisk_method_ensure(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct vdisk_params p = {0};
    struct vdisk_task task = {0};
    struct volume volume;
    bool created = false;
    int r = READ(ensure_fields, params, &p, &err);
    if (r >= 0)
        r = check_form(&p, &err);
    if (r >= 0)
        r = take_secret(p.secret, &task, &err);
    if (r >= 0) {
        struct volume_wish wish = {.key = p.key,
                                   .kind = p.kind,
                                   .size = p.size,
                                   .at_least = p.at_least,
                                   .later = p.later,
                                   .form = {.encrypted = task.has_key}};
        snprintf(wish.form.filesystem, sizeof(wish.form.filesystem), "%s", p.filesystem);
        r = volume_ensure(data, &wish, &volume, &created, &err);
    }
    if (r < 0) {
        crypto_wipe(&task, sizeof(task));
        varlink_call_fail(call, &err);
        return;
    }
    fill(&volume, VDISK_ENSURE, &task);
    vdisk_do(data, &task, created, call);
}

static int find_disk(const struct storage *storage, const char *key, struct volume *ret_volume,
                     struct error *err)
{
    int r = volume_get(storage, key, ret_volume, err);
    if (r == 0 && !volume_is_disk(ret_volume))
        r = error_set(err, EEXIST, "storage.conflict", "use another name",
                      "volume %s is a folder, not a virtual disk", key);
    return r;
}

void vdisk_method_attach(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct vdisk_params p = {0};
    struct vdisk_task task = {0};
    struct volume volume;
    int r = READ(attach_fields, params, &p, &err);
    if (r >= 0)
        r = take_secret(p.secret, &task, &err);
    if (r >= 0)
        r = find_disk(data, p.key, &volume, &err);
    if (r < 0) {
        crypto_wipe(&task, sizeof(task));
        varlink_call_fail(call, &err);
        return;
    }
    snprintf(task.holder, sizeof(task.holder), "%s", p.holder);
    fill(&volume, VDISK_ATTACH, &task);
    vdisk_do(data, &task, false, call);
}

void vdisk_method_detach(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct vdisk_params p = {0};
    struct vdisk_task task = {0};
    int r = READ(detach_fields, params, &p, &err);
    if (r >= 0)
        r = volume_key_check(p.key, &err);
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    /* Also of a volume that is gone, with its disk: devices may be left. */
    task.op = VDISK_DETACH;
    if (p.holder != NULL)
        snprintf(task.holder, sizeof(task.holder), "%s", p.holder);
    vdisk_id(p.key, task.id);
    vdisk_do(data, &task, false, call);
}

void vdisk_grow(struct storage *storage, const struct volume *volume, struct varlink_call *call)
{
    struct vdisk_task task = {0};
    fill(volume, VDISK_GROW, &task);
    vdisk_do(storage, &task, false, call);
}

void vdisk_describe(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct volume *volume)
{
    char id[VDISK_ID_SIZE];
    char holder[VDISK_HOLDER_MAX + 1];
    uint64_t size, used;
    yyjson_mut_obj_add_strcpy(doc, object, "filesystem", volume->form.filesystem);
    yyjson_mut_obj_add_bool(doc, object, "encrypted", volume->form.encrypted);
    vdisk_id(volume->key, id);
    if (vdisk_holder(id, holder) < 0)
        return;
    yyjson_mut_obj_add_strcpy(doc, object, "holder", holder);
    if (vdisk_usage(id, &size, &used) == 0) {
        yyjson_mut_obj_add_uint(doc, object, "filesystemSize", size);
        yyjson_mut_obj_add_uint(doc, object, "filesystemUsed", used);
    }
}
