/*
 * config.c - an image's configuration and identity: see config.h.
 */
#include "lib/image/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/image/erofs.h"
#include "lib/json.h"

enum kind { KIND_TEXT, KIND_TEXTS, KIND_SET, KIND_MAP, KIND_HEALTH };

/* What is taken over from OCI, and how it must look. */
static const struct member {
    const char *name;
    enum kind kind;
} members[] = {
    {"Env", KIND_TEXTS},          {"Entrypoint", KIND_TEXTS}, {"Cmd", KIND_TEXTS},
    {"User", KIND_TEXT},          {"WorkingDir", KIND_TEXT},  {"StopSignal", KIND_TEXT},
    {"Healthcheck", KIND_HEALTH}, {"Volumes", KIND_SET},      {"ExposedPorts", KIND_SET},
    {"Labels", KIND_MAP},
};
static const char *const health_numbers[] = {"Interval", "Timeout", "StartPeriod", "StartInterval",
                                             "Retries"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int bad(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "image.bad-config", "convert the image again",
                     "the image's configuration: %s", what);
}

/* A text without NUL: what becomes an argument or a variable cannot hold one. */
static bool is_text(yyjson_val *value)
{
    return yyjson_is_str(value) && strlen(yyjson_get_str(value)) == yyjson_get_len(value);
}

static bool is_health(yyjson_val *value)
{
    size_t index;
    size_t max;
    yyjson_val *key;
    yyjson_val *item;
    yyjson_obj_foreach(value, index, max, key, item)
    {
        if (yyjson_equals_str(key, "Test")) {
            if (!yyjson_is_arr(item))
                return false;
            size_t at;
            size_t count;
            yyjson_val *word;
            yyjson_arr_foreach(item, at, count, word) if (!is_text(word)) return false;
            continue;
        }
        bool known = false;
        for (size_t i = 0; i < COUNT(health_numbers); i++)
            known |= yyjson_equals_str(key, health_numbers[i]);
        if (!known || !yyjson_is_uint(item) || yyjson_get_uint(item) >= (uint64_t)1 << 53)
            return false;
    }
    return yyjson_is_obj(value);
}

static bool is_kind(yyjson_val *value, enum kind kind)
{
    size_t index;
    size_t max;
    yyjson_val *key;
    yyjson_val *item;
    switch (kind) {
    case KIND_TEXT:
        return is_text(value);
    case KIND_TEXTS:
        if (!yyjson_is_arr(value))
            return false;
        yyjson_arr_foreach(value, index, max, item) if (!is_text(item)) return false;
        return true;
    case KIND_SET:
    case KIND_MAP:
        if (!yyjson_is_obj(value))
            return false;
        yyjson_obj_foreach(value, index, max, key, item)
        {
            if (!is_text(key) ||
                (kind == KIND_MAP ? !is_text(item)
                                  : !yyjson_is_obj(item) || yyjson_obj_size(item) > 0))
                return false;
        }
        return true;
    case KIND_HEALTH:
        return is_health(value);
    }
    return false;
}

static bool is_empty(yyjson_val *value)
{
    return value == NULL || yyjson_is_null(value) ||
           (yyjson_is_str(value) && yyjson_get_len(value) == 0) ||
           (yyjson_is_arr(value) && yyjson_arr_size(value) == 0) ||
           (yyjson_is_obj(value) && yyjson_obj_size(value) == 0);
}

/* Docker's health check with what it knows beyond ours left out, and zeros, which mean "the default", too. */
static yyjson_mut_val *copy_health(yyjson_mut_doc *doc, yyjson_val *value)
{
    yyjson_mut_val *copy = yyjson_mut_obj(doc);
    yyjson_val *test = yyjson_obj_get(value, "Test");
    if (!is_empty(test))
        yyjson_mut_obj_add_val(doc, copy, "Test", yyjson_val_mut_copy(doc, test));
    for (size_t i = 0; i < COUNT(health_numbers); i++) {
        yyjson_val *number = yyjson_obj_get(value, health_numbers[i]);
        if (number != NULL && !yyjson_is_null(number) &&
            !(yyjson_is_uint(number) && yyjson_get_uint(number) == 0))
            yyjson_mut_obj_add_val(doc, copy, health_numbers[i], yyjson_val_mut_copy(doc, number));
    }
    return copy;
}

int image_config_build(yyjson_val *oci, const char *architecture, const char *os,
                       const uint8_t digest[VERITY_DIGEST_SIZE], uint64_t size, struct buffer *out,
                       struct error *err)
{
    char hex[VERITY_DIGEST_TEXT];
    hex_encode(digest, VERITY_DIGEST_SIZE, hex);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_val *metadata = yyjson_mut_obj_add_obj(doc, root, "metadata");
    yyjson_mut_obj_add_strcpy(doc, metadata, "digest", hex);
    yyjson_mut_obj_add_uint(doc, metadata, "size", size);
    yyjson_mut_obj_add_strcpy(doc, root, "architecture", architecture);
    yyjson_mut_obj_add_strcpy(doc, root, "os", os);
    for (size_t i = 0; i < COUNT(members); i++) {
        yyjson_val *value = yyjson_obj_get(oci, members[i].name);
        if (is_empty(value))
            continue;
        yyjson_mut_val *copy = members[i].kind == KIND_HEALTH && yyjson_is_obj(value)
                                   ? copy_health(doc, value)
                                   : yyjson_val_mut_copy(doc, value);
        yyjson_mut_obj_add_val(doc, root, members[i].name, copy);
    }
    yyjson_doc *whole = yyjson_mut_doc_imut_copy(doc, NULL);
    yyjson_mut_doc_free(doc);
    size_t before = out->len;
    int r = json_canonical(yyjson_doc_get_root(whole), out);
    yyjson_doc_free(whole);
    if (r < 0)
        return bad(err, "it holds a number or text that canonical JSON cannot hold");
    /* What was written is read back: one set of checks for both directions. */
    struct image_config check;
    r = image_config_read((const char *)out->data + before, out->len - before, &check, err);
    if (r == 0)
        image_config_done(&check);
    return r;
}

static int check_members(yyjson_val *root, struct error *err)
{
    size_t index;
    size_t max;
    yyjson_val *key;
    yyjson_val *value;
    yyjson_obj_foreach(root, index, max, key, value)
    {
        if (yyjson_equals_str(key, "metadata"))
            continue;
        if (yyjson_equals_str(key, "architecture") || yyjson_equals_str(key, "os")) {
            if (!is_text(value) || is_empty(value))
                return bad(err, "architecture or os is no text");
            continue;
        }
        size_t i = 0;
        while (i < COUNT(members) && !yyjson_equals_str(key, members[i].name))
            i++;
        if (i == COUNT(members))
            return bad(err, "it has a member of another name");
        if (is_empty(value) || !is_kind(value, members[i].kind))
            return error_set(err, EBADMSG, "image.bad-config", "convert the image again",
                             "the image's configuration: %s is malformed", members[i].name);
    }
    return 0;
}

int image_config_read(const char *text, size_t len, struct image_config *ret_config,
                      struct error *err)
{
    struct metadata {
        const char *digest;
        uint64_t size;
    } metadata = {0};
    static const struct json_field fields[] = {
        {"digest", JSON_STRING, offsetof(struct metadata, digest), true, 0, 64},
        {"size", JSON_UINT, offsetof(struct metadata, size), true, 1, EROFS_METADATA_MAX},
    };
    struct image_config config = {
        .doc = json_parse(text, len, IMAGE_CONFIG_MAX, "image.bad-config", err)};
    if (config.doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_doc_get_root(config.doc);
    int r = 0;
    if (!yyjson_is_obj(root) || yyjson_obj_get(root, "architecture") == NULL ||
        yyjson_obj_get(root, "os") == NULL)
        r = bad(err, "metadata, architecture or os is missing");
    else if (json_is_canonical(text, len) != 0)
        r = bad(err, "it is not canonical JSON");
    if (r == 0)
        r = check_members(root, err);
    if (r == 0 && !yyjson_is_obj(yyjson_obj_get(root, "metadata")))
        r = bad(err, "metadata is missing");
    if (r == 0)
        r = json_read(yyjson_obj_get(root, "metadata"), fields, COUNT(fields), 0, &metadata,
                      "image.bad-config", err);
    if (r == 0 && image_id_check(metadata.digest, NULL) < 0)
        r = bad(err, "the metadata's digest is malformed");
    if (r < 0) {
        yyjson_doc_free(config.doc);
        return r;
    }
    (void)hex_decode(metadata.digest, config.digest, sizeof(config.digest));
    config.size = metadata.size;
    image_id(text, len, config.id);
    *ret_config = config;
    return 0;
}

void image_config_done(struct image_config *config)
{
    yyjson_doc_free(config->doc);
    config->doc = NULL;
}

void image_id(const void *text, size_t len, char ret_id[IMAGE_ID_TEXT])
{
    uint8_t hash[SHA256_SIZE];
    sha256(text, len, hash);
    hex_encode(hash, sizeof(hash), ret_id);
}

int image_id_check(const char *id, struct error *err)
{
    if (strlen(id) != IMAGE_ID_TEXT - 1 || strspn(id, "0123456789abcdef") != IMAGE_ID_TEXT - 1)
        return error_set(err, EINVAL, "image.bad-id", "64 hexadecimal digits in lower case",
                         "'%.70s' is no id of an image", id);
    return 0;
}
