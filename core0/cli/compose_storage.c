/*
 * compose_storage.c - what a project keeps data in: `volumes` with their driver_opts, and the namespaces under x-croft.kv.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"

#define KEY_SIZE 32
#define BLOCK 4096
#define SNAPSHOTS_MAX 128 /* as the node takes them: core0/provision/spec.h */
#define EVERY_MIN_MS ((uint64_t)60 * 1000)
#define EVERY_MAX_MS ((uint64_t)366 * 86400 * 1000)
#define PASSWORD_MAX 63

/* One entry under volumes or x-croft.kv while it is read. */
struct entry {
    struct compose_context *context;
    const char *where; /* "volumes.data" */
    struct error *err;
    uint64_t size;
    const char *kind;
    /* volumes */
    bool is_disk, encrypted;
    const char *filesystem, *key_file;
    uint64_t every, keep;
    /* namespaces */
    const char *mode, *password, *password_file, *tls;
    bool is_public;
    uint64_t port;
};

static int entry_bad(const struct entry *entry, const char *option, const char *why)
{
    char where[240];
    snprintf(where, sizeof(where), "%s.%s", entry->where, option);
    return compose_bad(entry->err, where, why);
}

/* ---- options ---- */

/* One of the words, the last of which is NULL; what is kept is ours, not the file's. */
static int take_word(const char *text, const char *const *words, const char **ret_word)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            *ret_word = *words;
            return 0;
        }
    }
    return -EINVAL;
}

static int take_bool(const char *text, bool *ret_value)
{
    *ret_value = strcmp(text, "true") == 0;
    return *ret_value || strcmp(text, "false") == 0 ? 0 : -EINVAL;
}

static int take_number(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '1' || text[0] > '9' || *end != '\0' || value > max) {
        return -EINVAL;
    }
    *ret_value = value;
    return 0;
}

static int take_size(struct entry *entry, const char *text)
{
    return compose_size(text, &entry->size);
}

static int take_kind(struct entry *entry, const char *text)
{
    static const char *const words[] = {"ssd", "hdd", NULL};
    return take_word(text, words, &entry->kind);
}

static int take_encrypted(struct entry *entry, const char *text)
{
    entry->is_disk = true;
    return take_bool(text, &entry->encrypted);
}

static int take_filesystem(struct entry *entry, const char *text)
{
    static const char *const words[] = {"ext4", "btrfs", "raw", NULL};
    entry->is_disk = true;
    return take_word(text, words, &entry->filesystem);
}

static int take_key_file(struct entry *entry, const char *text)
{
    entry->key_file = text;
    return text[0] != '\0' ? 0 : -EINVAL;
}

static int take_every(struct entry *entry, const char *text)
{
    int ret = entry->every == 0 ? compose_duration(text, &entry->every) : -EINVAL;
    return ret == 0 && entry->every >= EVERY_MIN_MS && entry->every <= EVERY_MAX_MS ? 0 : -EINVAL;
}

static int take_keep(struct entry *entry, const char *text)
{
    return entry->keep == 0 ? take_number(text, SNAPSHOTS_MAX, &entry->keep) : -EINVAL;
}

/* "every 1h keep 24" */
static int take_snapshots(struct entry *entry, const char *text)
{
    char every[32], keep[16], more[2];
    if (sscanf(text, "every %31s keep %15s %1s", every, keep, more) != 2) {
        return -EINVAL;
    }
    int ret = take_every(entry, every);
    return ret == 0 ? take_keep(entry, keep) : ret;
}

static int take_mode(struct entry *entry, const char *text)
{
    static const char *const words[] = {"user", "seq", NULL};
    return take_word(text, words, &entry->mode);
}

static int take_password(struct entry *entry, const char *text)
{
    entry->password = text;
    return entry->password_file == NULL ? 0 : -EINVAL;
}

static int take_password_file(struct entry *entry, const char *text)
{
    entry->password_file = text;
    return entry->password == NULL ? 0 : -EINVAL;
}

static int take_public(struct entry *entry, const char *text)
{
    return take_bool(text, &entry->is_public);
}

static int take_port(struct entry *entry, const char *text)
{
    return take_number(text, 65535, &entry->port);
}

static int take_tls(struct entry *entry, const char *text)
{
    static const char *const words[] = {"optional", "required", NULL};
    return take_word(text, words, &entry->tls);
}

struct option {
    const char *name;
    int (*take)(struct entry *entry, const char *text);
    const char *wants;
};

static const struct option volume_options[] = {
    {"size", take_size, "not a size such as 10G"},
    {"kind", take_kind, "neither ssd nor hdd"},
    {"encrypted", take_encrypted, "neither true nor false"},
    {"filesystem", take_filesystem, "none of ext4, btrfs, raw"},
    {"key_file", take_key_file, "not the name of a file"},
    {"snapshots", take_snapshots, "not of the form: every 1h keep 24 (at least 1m; at most 128)"},
    {"snapshot_every", take_every, "not a duration from 1m to 8784h, or given twice"},
    {"snapshot_keep", take_keep, "not a number from 1 to 128, or given twice"},
    {NULL, NULL, NULL},
};

static const struct option kv_options[] = {
    {"size", take_size, "not a size such as 10G"},
    {"kind", take_kind, "neither ssd nor hdd"},
    {"mode", take_mode, "neither user nor seq"},
    {"password", take_password, "given beside password_file"},
    {"password_file", take_password_file, "given beside password"},
    {"public", take_public, "neither true nor false"},
    {"port", take_port, "not a number from 1 to 65535"},
    {"tls", take_tls, "neither optional nor required"},
    {NULL, NULL, NULL},
};

static int take_options(struct entry *entry, const struct option *known, yyjson_mut_val *options)
{
    size_t i, max;
    yyjson_mut_val *key, *value;

    if (options != NULL && !yyjson_mut_is_obj(options) && !yyjson_mut_is_null(options)) {
        return compose_bad(entry->err, entry->where, "not a mapping");
    }
    yyjson_mut_obj_foreach(options, i, max, key, value)
    {
        char space[32];
        const char *text = compose_scalar(value, space, sizeof(space));
        const struct option *option = known;
        while (option->name != NULL && !yyjson_mut_equals_str(key, option->name)) {
            option++;
        }
        if (option->name == NULL) {
            return compose_unsupported(entry->err, entry->where, yyjson_mut_get_str(key));
        }
        if (text == NULL || option->take(entry, text) < 0) {
            return entry_bad(entry, option->name, option->wants);
        }
    }
    return 0;
}

/* ---- keys and passwords ---- */

/* 32 bytes as they are, as 64 hexadecimal digits or as base64; the text forms may end in a line feed. */
static int decode_key(char *text, size_t len, uint8_t ret_key[KEY_SIZE])
{
    if (len == KEY_SIZE) {
        memcpy(ret_key, text, KEY_SIZE);
        return 0;
    }
    text[len > 0 && text[len - 1] == '\n' ? len - 1 : len] = '\0';
    if (hex_decode(text, ret_key, KEY_SIZE) == 0) {
        return 0;
    }
    uint8_t *decoded;
    size_t decoded_len;
    int ret = base64_decode(text, KEY_SIZE, &decoded, &decoded_len);
    if (ret < 0) {
        return ret;
    }
    if (decoded_len == KEY_SIZE) {
        memcpy(ret_key, decoded, KEY_SIZE);
    }
    crypto_wipe(decoded, decoded_len);
    free(decoded);
    return decoded_len == KEY_SIZE ? 0 : -EINVAL;
}

/*
 * Without a file the key follows from the tenant's own chain key, so that the same tenant finds the same disk again from any
 * machine and nothing new has to be kept (docs/decisions/0104). Neither name can hold a '/'.
 */
static int find_key(const struct entry *entry, const char *name, uint8_t ret_key[KEY_SIZE])
{
    const struct compose_options *options = entry->context->options;

    if (entry->key_file != NULL) {
        char *text = NULL;
        size_t len = 0;
        int ret = compose_read_file(entry->context, entry->key_file, &text, &len, entry->err);
        if (ret < 0) {
            return ret;
        }
        ret = decode_key(text, len, ret_key);
        crypto_wipe(text, len);
        free(text);
        return ret == 0 ? 0
                        : entry_bad(entry, "key_file", "not 32 bytes, raw, in hex or in base64");
    }
    if (options->tenant_key == NULL) {
        return entry_bad(entry, "encrypted", "there is no chain key to take the disk's from");
    }
    char label[160];
    snprintf(label, sizeof(label), "croft-volume-v1/%s/%s",
             yyjson_mut_get_str(yyjson_mut_obj_get(entry->context->spec, "project")), name);
    hkdf_sha256(options->tenant_key, KEY_SIZE, label, ret_key, KEY_SIZE);
    return 0;
}

static int add_disk(const struct entry *entry, const char *name, yyjson_mut_val *volume)
{
    yyjson_mut_doc *doc = entry->context->doc;

    if (entry->every != 0) {
        return entry_bad(entry, "snapshots", "a virtual disk has none: use a folder");
    }
    if (entry->size % BLOCK != 0) {
        return entry_bad(entry, "size", "a virtual disk's is a multiple of 4,096 bytes");
    }
    yyjson_mut_val *disk = yyjson_mut_obj_add_obj(doc, volume, "disk");
    yyjson_mut_obj_add_str(doc, disk, "filesystem",
                           entry->filesystem != NULL ? entry->filesystem : "ext4");
    if (!entry->encrypted) {
        return 0;
    }
    uint8_t key[KEY_SIZE];
    int ret = find_key(entry, name, key);
    char *text = ret == 0 ? base64_encode(key, sizeof(key)) : NULL;
    crypto_wipe(key, sizeof(key));
    if (ret == 0 && text == NULL) {
        ret = error_set(entry->err, ENOMEM, "cli.failed", "", "out of memory");
    }
    if (ret == 0) {
        yyjson_mut_obj_add_strcpy(doc, disk, "key", text);
        crypto_wipe(text, strlen(text));
    }
    free(text);
    return ret;
}

/* ---- volumes ---- */

static int add_volume(struct compose_context *context, yyjson_mut_val *volumes, const char *name,
                      yyjson_mut_val *given, struct error *err)
{
    char where[100];
    struct entry entry = {.context = context,
                          .where = where,
                          .err = err,
                          .size = COMPOSE_VOLUME_DEFAULT,
                          .kind = context->options->ssd ? "ssd" : "hdd"};
    yyjson_mut_doc *doc = context->doc;
    size_t i, max;
    yyjson_mut_val *key, *value;

    if (!compose_name_ok(name)) {
        return compose_bad(err, "volumes", "a name is of [a-z0-9][a-z0-9_-]{0,62}");
    }
    snprintf(where, sizeof(where), "volumes.%s", name);
    yyjson_mut_obj_foreach(given, i, max, key, value)
    {
        if (yyjson_mut_equals_str(key, "driver_opts")) {
            int ret = take_options(&entry, volume_options, value);
            if (ret < 0) {
                return ret;
            }
        } else if (!yyjson_mut_equals_str(key, "labels") &&
                   !(yyjson_mut_equals_str(key, "driver") &&
                     yyjson_mut_equals_str(value, "local"))) {
            return compose_unsupported(err, where, yyjson_mut_get_str(key));
        }
    }
    if ((entry.every == 0) != (entry.keep == 0)) {
        return entry_bad(&entry, "snapshot_every", "wants snapshot_keep beside it");
    }
    if (entry.key_file != NULL && !entry.encrypted) {
        return entry_bad(&entry, "key_file", "wants encrypted: true beside it");
    }
    yyjson_mut_val *volume = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_uint(doc, volume, "size", entry.size);
    yyjson_mut_obj_add_str(doc, volume, "kind", entry.kind);
    if (entry.is_disk) {
        int ret = add_disk(&entry, name, volume);
        if (ret < 0) {
            return ret;
        }
    } else if (entry.every != 0) {
        yyjson_mut_val *snapshots = yyjson_mut_obj_add_obj(doc, volume, "snapshots");
        yyjson_mut_obj_add_uint(doc, snapshots, "every", entry.every);
        yyjson_mut_obj_add_uint(doc, snapshots, "keep", entry.keep);
    }
    yyjson_mut_obj_add(volumes, yyjson_mut_strcpy(doc, name), volume);
    return 0;
}

int compose_read_volumes(struct compose_context *context, yyjson_mut_val *file, struct error *err)
{
    yyjson_mut_val *volumes = yyjson_mut_obj_add_obj(context->doc, context->spec, "volumes");
    size_t i, max;
    yyjson_mut_val *key, *value;
    int ret = 0;

    yyjson_mut_obj_foreach(yyjson_mut_obj_get(file, "volumes"), i, max, key, value)
    {
        ret = ret == 0 ? add_volume(context, volumes, yyjson_mut_get_str(key), value, err) : ret;
    }
    return ret;
}

/* ---- namespaces ---- */

static int add_password(const struct entry *entry, yyjson_mut_val *space)
{
    char *text = NULL;
    const char *password = entry->password;
    size_t len = password != NULL ? strlen(password) : 0;
    int ret = 0;

    if (entry->password_file != NULL) {
        ret = compose_read_file(entry->context, entry->password_file, &text, &len, entry->err);
        if (ret < 0) {
            return ret;
        }
        len -= len > 0 && text[len - 1] == '\n' ? 1 : 0;
        password = text;
    }
    if (len == 0 || len > PASSWORD_MAX || strnlen(password, len) != len ||
        (len == 1 && password[0] == '*')) {
        ret = entry_bad(entry, "password", "wanted: 1 to 63 bytes, not \"*\" alone");
    } else if (!yyjson_mut_obj_add_strncpy(entry->context->doc, space, "password", password, len)) {
        ret = error_set(entry->err, ENOMEM, "cli.failed", "", "out of memory");
    }
    if (text != NULL) {
        crypto_wipe(text, len);
    }
    free(text);
    return ret;
}

static int add_kv(struct compose_context *context, yyjson_mut_val *spaces, const char *name,
                  yyjson_mut_val *options, struct error *err)
{
    char where[100];
    struct entry entry = {.context = context,
                          .where = where,
                          .err = err,
                          .size = COMPOSE_VOLUME_DEFAULT,
                          .kind = context->options->ssd ? "ssd" : "hdd",
                          .mode = "user",
                          .tls = "optional"};
    yyjson_mut_doc *doc = context->doc;

    if (!compose_name_ok(name)) {
        return compose_bad(err, "x-croft.kv", "a name is of [a-z0-9][a-z0-9_-]{0,62}");
    }
    snprintf(where, sizeof(where), "x-croft.kv.%s", name);
    int ret = take_options(&entry, kv_options, options);
    if (ret < 0) {
        return ret;
    }
    yyjson_mut_val *space = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_uint(doc, space, "size", entry.size);
    yyjson_mut_obj_add_str(doc, space, "kind", entry.kind);
    yyjson_mut_obj_add_str(doc, space, "mode", entry.mode);
    yyjson_mut_obj_add_bool(doc, space, "public", entry.is_public);
    if (entry.port != 0) {
        yyjson_mut_obj_add_uint(doc, space, "published", entry.port);
    }
    if (strcmp(entry.tls, "required") == 0) { /* else left out: what was deployed keeps its bytes */
        yyjson_mut_obj_add_str(doc, space, "tls", entry.tls);
    }
    ret = add_password(&entry, space);
    if (ret == 0) {
        yyjson_mut_obj_add(spaces, yyjson_mut_strcpy(doc, name), space);
    }
    return ret;
}

int compose_read_kv(struct compose_context *context, yyjson_mut_val *given, struct error *err)
{
    yyjson_mut_val *spaces = yyjson_mut_obj_add_obj(context->doc, context->spec, "kv");
    size_t i, max;
    yyjson_mut_val *key, *value;
    int ret = 0;

    if (!yyjson_mut_is_obj(given)) {
        return compose_bad(err, "x-croft.kv", "not a mapping of namespaces");
    }
    yyjson_mut_obj_foreach(given, i, max, key, value)
    {
        ret = ret == 0 ? add_kv(context, spaces, yyjson_mut_get_str(key), value, err) : ret;
    }
    return ret;
}
