/*
 * image_check.c - croft image verify, push and show: everything that an id stands for, recomputed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image_hub.h"
#include "lib/crypto/text.h"
#include "lib/image/config.h"
#include "lib/image/erofs.h"
#include "lib/image/unpack.h"

struct whole {
    struct image_config config;
    struct buffer text;     /* of the configuration */
    struct buffer metadata; /* unpacked */
    struct erofs_object *objects;
    size_t count;
    uint64_t bytes;
};

static void whole_done(struct whole *whole)
{
    image_config_done(&whole->config);
    buffer_done(&whole->text);
    buffer_done(&whole->metadata);
    free(whole->objects);
}

static int feed(const void *data, size_t len, void *user)
{
    return image_unpack_feed(user, data, len);
}

static int append(const void *data, size_t len, void *user)
{
    return buffer_append(user, data, len);
}

/* Fetches a packed file and compares it with digest and size; its bytes go to `out` unless that is NULL. */
static int check_packed(struct image_hub *hub, const char *path,
                        const uint8_t digest[VERITY_DIGEST_SIZE], uint64_t size, struct buffer *out,
                        struct error *err)
{
    struct image_unpack *unpack;
    uint8_t got[VERITY_DIGEST_SIZE];
    uint64_t got_size = 0;
    if (image_unpack_new(size, out != NULL ? append : NULL, out, &unpack) < 0) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    struct image_sink sink = {.write = feed, .user = unpack};
    int r = image_hub_get(hub, path, &sink, err);
    if (r == 0) {
        r = image_unpack_finish(unpack, got, &got_size);
    }
    image_unpack_free(unpack);
    if (error_is_set(err)) {
        return r;
    }
    if (r < 0 || got_size != size || memcmp(got, digest, VERITY_DIGEST_SIZE) != 0) {
        return error_set(err, EBADMSG, "image.digest-mismatch", "push the image again",
                         "%s is altered or cut off", path);
    }
    return 0;
}

static void object_path(const uint8_t digest[VERITY_DIGEST_SIZE], char path[128])
{
    char hex[VERITY_DIGEST_TEXT];
    hex_encode(digest, VERITY_DIGEST_SIZE, hex);
    snprintf(path, 128, "objects/%.2s/%s.zst", hex, hex + 2);
}

static void metadata_path(const struct image_config *config, char path[128])
{
    char hex[VERITY_DIGEST_TEXT];
    hex_encode(config->digest, VERITY_DIGEST_SIZE, hex);
    snprintf(path, 128, "meta/%s.zst", hex);
}

/* Configuration and metadata, checked, and the list of objects. whole_done in any case. */
static int whole_load(struct image_hub *hub, const char *id, struct whole *whole, struct error *err)
{
    char path[128];
    memset(whole, 0, sizeof(*whole));
    buffer_init(&whole->text, IMAGE_CONFIG_MAX);
    buffer_init(&whole->metadata, EROFS_METADATA_MAX);
    int r = image_id_check(id, err);
    if (r < 0) {
        return r;
    }
    snprintf(path, sizeof(path), "images/%s.json", id);
    r = image_hub_read(hub, path, &whole->text, err);
    if (r == 0) {
        char got[IMAGE_ID_TEXT];
        image_id(whole->text.data, whole->text.len, got);
        if (strcmp(got, id) != 0) {
            return error_set(err, EBADMSG, "image.digest-mismatch", "push the image again",
                             "%s is altered", path);
        }
        r = image_config_read((const char *)whole->text.data, whole->text.len, &whole->config, err);
    }
    if (r == 0) {
        metadata_path(&whole->config, path);
        r = check_packed(hub, path, whole->config.digest, whole->config.size, &whole->metadata,
                         err);
    }
    r = r == 0 ? erofs_objects(whole->metadata.data, whole->metadata.len, &whole->objects,
                               &whole->count, err)
               : r;
    if (r == 0) {
        whole->bytes = whole->metadata.len;
        for (size_t i = 0; i < whole->count; i++) {
            whole->bytes += whole->objects[i].size;
        }
    }
    return r;
}

static int open_option(struct cli *cli, const char *option, struct image_hub **ret_hub,
                       struct error *err)
{
    const char *where = cli_option(cli, option);
    if (where == NULL) {
        return error_set(err, EINVAL, "cli.wrong-use", cli->verb->example,
                         "%s URL or DIR is missing", option);
    }
    return image_hub_open(where, ret_hub, err);
}

int image_run_verify(struct cli *cli, struct error *err)
{
    struct image_hub *hub = NULL;
    struct whole whole;
    int r = open_option(cli, "--hub", &hub, err);
    if (r < 0) {
        return r;
    }
    r = whole_load(hub, cli->args[0], &whole, err);
    for (size_t i = 0; r == 0 && i < whole.count; i++) {
        char path[128];
        object_path(whole.objects[i].digest, path);
        cli_progress(cli, "object %zu of %zu", i + 1, whole.count);
        r = check_packed(hub, path, whole.objects[i].digest, whole.objects[i].size, NULL, err);
    }
    image_hub_free(hub);
    if (r == 0) {
        cli_progress_end(cli);
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "id", whole.config.id);
        yyjson_mut_obj_add_uint(doc, root, "objects", whole.count);
        yyjson_mut_obj_add_uint(doc, root, "bytes", whole.bytes);
        r = cli_print_result(cli, doc);
    }
    whole_done(&whole);
    return r;
}

/* Copies one file as it is, unless the target has it. 1: copied. */
static int push_one(struct image_hub *from, struct image_hub *to, const char *path,
                    struct error *err)
{
    int r = image_hub_has(to, path, err);
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    struct buffer data;
    buffer_init(&data, (size_t)4 << 30);
    r = image_hub_read(from, path, &data, err);
    r = r == 0 ? image_hub_put(to, path, data.data, data.len, err) : r;
    buffer_done(&data);
    return r < 0 ? r : 1;
}

int image_run_push(struct cli *cli, struct error *err)
{
    struct image_hub *from = NULL;
    struct image_hub *to = NULL;
    struct whole whole;
    char path[128];
    uint64_t copied = 0;
    memset(&whole, 0, sizeof(whole));
    int r = open_option(cli, "--from", &from, err);
    r = r == 0 ? open_option(cli, "--to", &to, err) : r;
    r = r == 0 ? whole_load(from, cli->args[0], &whole, err) : r;
    /* As in converting: contents first, names last. */
    for (size_t i = 0; r >= 0 && i < whole.count; i++) {
        object_path(whole.objects[i].digest, path);
        cli_progress(cli, "object %zu of %zu", i + 1, whole.count);
        r = push_one(from, to, path, err);
        copied += r > 0 ? 1 : 0;
    }
    if (r >= 0) {
        metadata_path(&whole.config, path);
        r = push_one(from, to, path, err);
    }
    if (r >= 0) {
        snprintf(path, sizeof(path), "images/%s.json", cli->args[0]);
        r = push_one(from, to, path, err);
    }
    image_hub_free(from);
    image_hub_free(to);
    if (r >= 0) {
        cli_progress_end(cli);
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "id", whole.config.id);
        yyjson_mut_obj_add_uint(doc, root, "objects", whole.count);
        yyjson_mut_obj_add_uint(doc, root, "copied", copied);
        r = cli_print_result(cli, doc);
    }
    whole_done(&whole);
    return r < 0 ? r : 0;
}

int image_run_show(struct cli *cli, struct error *err)
{
    struct image_hub *hub = NULL;
    struct whole whole;
    int r = open_option(cli, "--hub", &hub, err);
    if (r < 0) {
        return r;
    }
    r = whole_load(hub, cli->args[0], &whole, err);
    image_hub_free(hub);
    if (r == 0) {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strcpy(doc, root, "id", whole.config.id);
        yyjson_mut_obj_add_uint(doc, root, "objects", whole.count);
        yyjson_mut_obj_add_uint(doc, root, "bytes", whole.bytes);
        yyjson_mut_obj_add_val(doc, root, "config",
                               yyjson_val_mut_copy(doc, yyjson_doc_get_root(whole.config.doc)));
        r = cli_print_result(cli, doc);
    }
    whole_done(&whole);
    return r;
}
