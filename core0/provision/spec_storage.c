/*
 * spec_storage.c - what a specification keeps data in: volumes, virtual disks, namespaces of the key-value server; see
 * spec_parts.h.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "provision/spec_parts.h"

#define BLOCK 4096 /* bytes of a virtual disk's sector */

/* Whether `text` is one of the words; the last is NULL. */
static bool one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strcmp(text, *words) != 0) {
        words++;
    }
    return *words != NULL;
}

static const char *const kinds[] = {"ssd", "hdd", NULL};

static int check_name(yyjson_val *key, const char *where, const char **ret_name, struct error *err)
{
    const char *name = spec_text(key);
    if (name == NULL || !spec_name_ok(name)) {
        return spec_bad(err, where, "a name is not of [a-z0-9][a-z0-9_-]{0,62}");
    }
    *ret_name = name;
    return 0;
}

/* ---- volumes ---- */

static int read_disk(struct spec_volume *volume, yyjson_val *object, struct error *err)
{
    static const struct json_field fields[] = {
        {"filesystem", JSON_STRING, offsetof(struct spec_volume, filesystem), true, 0, 8},
        {"key", JSON_STRING, offsetof(struct spec_volume, key), false, 0, 64},
    };
    static const char *const filesystems[] = {"ext4", "btrfs", "raw", NULL};

    int ret = json_read(object, fields, COUNT(fields), 0, volume, SPEC_BAD, err);
    if (ret < 0) {
        return ret;
    }
    if (!one_of(volume->filesystem, filesystems)) {
        return spec_bad(err, "volumes.disk.filesystem", "none of ext4, btrfs and raw");
    }
    if (volume->size % BLOCK != 0) {
        return spec_bad(err, "volumes.size", "a virtual disk's is no multiple of 4,096 bytes");
    }
    if (volume->key != NULL) {
        uint8_t *key;
        size_t len;
        if (base64_decode(volume->key, SPEC_KEY_SIZE, &key, &len) < 0) {
            return spec_bad(err, "volumes.disk.key", "not base64 of 32 bytes");
        }
        crypto_wipe(key, len);
        free(key);
        if (len != SPEC_KEY_SIZE) {
            return spec_bad(err, "volumes.disk.key", "not base64 of 32 bytes");
        }
    }
    return 0;
}

static int read_snapshots(struct spec_volume *volume, yyjson_val *object, struct error *err)
{
    static const struct json_field fields[] = {
        {"every", JSON_UINT, offsetof(struct spec_volume, snapshot_every), true, SPEC_EVERY_MIN_MS,
         SPEC_EVERY_MAX_MS},
        {"keep", JSON_UINT, offsetof(struct spec_volume, snapshot_keep), true, 1,
         SPEC_SNAPSHOTS_MAX},
    };
    return json_read(object, fields, COUNT(fields), 0, volume, SPEC_BAD, err);
}

int spec_read_volumes(struct spec *spec, yyjson_val *volumes, struct error *err)
{
    struct read_volume {
        uint64_t size;
        const char *kind;
        yyjson_val *disk, *snapshots;
    };
    static const struct json_field fields[] = {
        {"size", JSON_UINT, offsetof(struct read_volume, size), true, 1, 0},
        {"kind", JSON_STRING, offsetof(struct read_volume, kind), true, 0, 3},
        {"disk", JSON_OBJECT, offsetof(struct read_volume, disk), false, 0, 0},
        {"snapshots", JSON_OBJECT, offsetof(struct read_volume, snapshots), false, 0, 0},
    };
    size_t i, max;
    yyjson_val *key, *value;

    yyjson_obj_foreach(volumes, i, max, key, value)
    {
        struct read_volume read = {0};
        if (spec->volume_count == SPEC_VOLUMES_MAX) {
            return spec_bad(err, "volumes", "too many");
        }
        struct spec_volume *volume = &spec->volumes[spec->volume_count++];
        int ret = json_read(value, fields, COUNT(fields), 0, &read, SPEC_BAD, err);
        if (ret < 0 || (ret = check_name(key, "volumes", &volume->name, err)) < 0) {
            return ret;
        }
        volume->size = read.size;
        volume->kind = read.kind;
        if (!one_of(volume->kind, kinds)) {
            return spec_bad(err, "volumes.kind", "neither ssd nor hdd");
        }
        if (read.disk != NULL && read.snapshots != NULL) {
            return spec_bad(err, "volumes.snapshots", "a virtual disk has none");
        }
        if ((read.disk != NULL && (ret = read_disk(volume, read.disk, err)) < 0) ||
            (read.snapshots != NULL && (ret = read_snapshots(volume, read.snapshots, err)) < 0)) {
            return ret;
        }
    }
    return 0;
}

/* ---- namespaces of the key-value server ---- */

int spec_read_kv(struct spec *spec, yyjson_val *spaces, struct error *err)
{
    static const struct json_field fields[] = {
        {"size", JSON_UINT, offsetof(struct spec_kv, size), true, 1, 0},
        {"kind", JSON_STRING, offsetof(struct spec_kv, kind), true, 0, 3},
        {"mode", JSON_STRING, offsetof(struct spec_kv, mode), true, 0, 4},
        {"password", JSON_STRING, offsetof(struct spec_kv, password), false, 0,
         SPEC_KV_PASSWORD_MAX},
        {"public", JSON_BOOL, offsetof(struct spec_kv, is_public), false, 0, 0},
        {"published", JSON_UINT, offsetof(struct spec_kv, published), false, 1, 65535},
        {"tls", JSON_STRING, offsetof(struct spec_kv, tls), false, 0, 8},
    };
    static const char *const modes[] = {"user", "seq", NULL};
    size_t i, max;
    yyjson_val *key, *value;

    yyjson_obj_foreach(spaces, i, max, key, value)
    {
        if (spec->kv_count == SPEC_KV_MAX) {
            return spec_bad(err, "kv", "too many");
        }
        struct spec_kv *space = &spec->kv[spec->kv_count++];
        int ret = json_read(value, fields, COUNT(fields), 0, space, SPEC_BAD, err);
        if (ret < 0 || (ret = check_name(key, "kv", &space->name, err)) < 0) {
            return ret;
        }
        if (!one_of(space->kind, kinds)) {
            return spec_bad(err, "kv.kind", "neither ssd nor hdd");
        }
        if (!one_of(space->mode, modes)) {
            return spec_bad(err, "kv.mode", "neither user nor seq");
        }
        if (space->tls != NULL && strcmp(space->tls, "required") != 0) {
            return spec_bad(err, "kv.tls", "not required, and not left out");
        }
        /* kvd lets nobody but an administrator into a private namespace without one, and everybody write into a public one;
         * and "*" is its word for none. */
        if (space->password == NULL || space->password[0] == '\0' ||
            strcmp(space->password, "*") == 0) {
            return spec_bad(err, "kv.password", "missing, empty, or \"*\"");
        }
    }
    return 0;
}
