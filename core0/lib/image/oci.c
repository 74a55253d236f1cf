/*
 * oci.c - the JSON of image layouts: see oci.h.
 */
#include "lib/image/oci.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/json.h"

#define TAG_ANNOTATION "org.opencontainers.image.ref.name"

static int bad(struct error *err, const char *what)
{
    return error_set(err, EBADMSG, "image.bad-layout", "was the image written whole?", "%s", what);
}

static yyjson_doc *parse_object(const char *text, size_t len, const char *what, struct error *err)
{
    yyjson_doc *doc = json_parse(text, len, OCI_JSON_MAX, "image.bad-layout", err);
    if (doc == NULL) {
        (void)error_prefix(err, -EBADMSG, "%s", what);
        return NULL;
    }
    return doc;
}

static int digest_read(yyjson_val *value, uint8_t ret_digest[SHA256_SIZE], struct error *err)
{
    const char *text = yyjson_get_str(value);
    if (text == NULL || strncmp(text, "sha256:", 7) != 0 || strlen(text) != 7 + 64 ||
        strspn(text + 7, "0123456789abcdef") != 64)
        return bad(err, "a digest is not sha256 in lower case");
    return hex_decode(text + 7, ret_digest, SHA256_SIZE);
}

static int descriptor_read(yyjson_val *value, struct oci_descriptor *ret_descriptor,
                           struct error *err)
{
    struct oci_descriptor descriptor = {0};
    if (!yyjson_is_obj(value))
        return bad(err, "a descriptor is no object");
    yyjson_val *size = yyjson_obj_get(value, "size");
    if (!yyjson_is_uint(size))
        return bad(err, "a descriptor has no size");
    descriptor.size = yyjson_get_uint(size);
    const char *type = yyjson_get_str(yyjson_obj_get(value, "mediaType"));
    descriptor.is_index =
        type != NULL &&
        (strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
         strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0);
    int r = digest_read(yyjson_obj_get(value, "digest"), descriptor.digest, err);
    if (r == 0)
        *ret_descriptor = descriptor;
    return r;
}

static bool tag_matches(yyjson_val *entry, const char *tag)
{
    const char *name =
        yyjson_get_str(yyjson_obj_get(yyjson_obj_get(entry, "annotations"), TAG_ANNOTATION));
    if (name == NULL)
        return false;
    /* Some writers put the whole reference there. */
    const char *colon = strrchr(name, ':');
    return strcmp(name, tag) == 0 || (colon != NULL && strcmp(colon + 1, tag) == 0);
}

static bool platform_matches(yyjson_val *entry, const char *architecture)
{
    yyjson_val *platform = yyjson_obj_get(entry, "platform");
    return yyjson_equals_str(yyjson_obj_get(platform, "architecture"), architecture) &&
           yyjson_equals_str(yyjson_obj_get(platform, "os"), "linux");
}

int oci_index_find(const char *text, size_t len, const char *tag, const char *architecture,
                   int by_platform, struct oci_descriptor *ret_descriptor, struct error *err)
{
    yyjson_doc *doc = parse_object(text, len, "the index", err);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *manifests = yyjson_obj_get(yyjson_doc_get_root(doc), "manifests");
    yyjson_val *match = NULL;
    size_t index;
    size_t max;
    yyjson_val *entry;
    int r = yyjson_is_arr(manifests) ? 0 : bad(err, "the index lists no manifests");
    size_t matches = 0;
    yyjson_arr_foreach(manifests, index, max, entry)
    {
        if (by_platform ? platform_matches(entry, architecture)
                        : tag == NULL || tag_matches(entry, tag)) {
            match = entry;
            matches++;
        }
    }
    if (r == 0 && matches == 0)
        r = by_platform ? error_set(err, ENOENT, "image.not-found", "", "there is no image for %s",
                                    architecture)
                        : error_set(err, ENOENT, "image.not-found", "look at its index.json",
                                    "there is no image%s%s", tag != NULL ? " with the tag " : "",
                                    tag != NULL ? tag : "");
    else if (r == 0 && matches > 1 && !by_platform)
        r = error_set(err, EINVAL, "image.not-found", "name a tag", "%zu images match", matches);
    if (r == 0)
        r = descriptor_read(match, ret_descriptor, err);
    yyjson_doc_free(doc);
    return r;
}

int oci_manifest_read(const char *text, size_t len, struct oci_manifest *ret_manifest,
                      struct error *err)
{
    yyjson_doc *doc = parse_object(text, len, "the manifest", err);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *layers = yyjson_obj_get(root, "layers");
    ret_manifest->layer_count = 0;
    int r = descriptor_read(yyjson_obj_get(root, "config"), &ret_manifest->config, err);
    if (r == 0 && (!yyjson_is_arr(layers) || yyjson_arr_size(layers) > OCI_LAYERS_MAX))
        r = bad(err, "the manifest has no layers or too many");
    size_t index;
    size_t max;
    yyjson_val *entry;
    if (r == 0)
        yyjson_arr_foreach(layers, index, max, entry)
        {
            r = descriptor_read(entry, &ret_manifest->layers[ret_manifest->layer_count++], err);
            if (r < 0)
                break;
        }
    yyjson_doc_free(doc);
    return r;
}

int oci_config_read(const char *text, size_t len, struct oci_config *ret_config, struct error *err)
{
    yyjson_doc *doc = parse_object(text, len, "the image's configuration", err);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *diffs = yyjson_obj_get(yyjson_obj_get(root, "rootfs"), "diff_ids");
    ret_config->doc = doc;
    ret_config->config = yyjson_obj_get(root, "config");
    ret_config->architecture = yyjson_get_str(yyjson_obj_get(root, "architecture"));
    ret_config->os = yyjson_get_str(yyjson_obj_get(root, "os"));
    ret_config->diff_count = 0;
    int r = 0;
    if (!yyjson_is_obj(root) || ret_config->architecture == NULL || ret_config->os == NULL)
        r = bad(err, "the image's configuration names no architecture or os");
    else if (ret_config->config != NULL && !yyjson_is_obj(ret_config->config) &&
             !yyjson_is_null(ret_config->config))
        r = bad(err, "the image's configuration is malformed");
    else if (!yyjson_is_arr(diffs) || yyjson_arr_size(diffs) > OCI_LAYERS_MAX)
        r = bad(err, "the image's configuration lists no layers or too many");
    size_t index;
    size_t max;
    yyjson_val *entry;
    if (r == 0)
        yyjson_arr_foreach(diffs, index, max, entry)
        {
            r = digest_read(entry, ret_config->diff_ids[ret_config->diff_count++], err);
            if (r < 0)
                break;
        }
    if (r < 0)
        oci_config_done(ret_config);
    return r;
}

void oci_config_done(struct oci_config *config)
{
    yyjson_doc_free(config->doc);
    config->doc = NULL;
}

static bool repo_tag_matches(yyjson_val *tags, const char *tag)
{
    size_t index;
    size_t max;
    yyjson_val *entry;
    yyjson_arr_foreach(tags, index, max, entry)
    {
        const char *name = yyjson_get_str(entry);
        const char *colon = name != NULL ? strrchr(name, ':') : NULL;
        if (name != NULL &&
            (strcmp(name, tag) == 0 || (colon != NULL && strcmp(colon + 1, tag) == 0)))
            return true;
    }
    return false;
}

int docker_manifest_read(const char *text, size_t len, const char *tag,
                         struct docker_manifest *ret_manifest, struct error *err)
{
    yyjson_doc *doc = parse_object(text, len, "manifest.json", err);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *match = NULL;
    size_t matches = 0;
    size_t index;
    size_t max;
    yyjson_val *entry;
    int r = yyjson_is_arr(root) ? 0 : bad(err, "manifest.json is no array");
    yyjson_arr_foreach(root, index, max, entry)
    {
        if (tag == NULL || repo_tag_matches(yyjson_obj_get(entry, "RepoTags"), tag)) {
            match = entry;
            matches++;
        }
    }
    if (r == 0 && matches != 1)
        r = error_set(err, ENOENT, "image.not-found", "name one tag of its manifest.json",
                      "%zu images match", matches);
    yyjson_val *layers = yyjson_obj_get(match, "Layers");
    ret_manifest->doc = doc;
    ret_manifest->config = yyjson_get_str(yyjson_obj_get(match, "Config"));
    ret_manifest->layer_count = 0;
    if (r == 0 && (ret_manifest->config == NULL || !yyjson_is_arr(layers) ||
                   yyjson_arr_size(layers) > OCI_LAYERS_MAX))
        r = bad(err, "manifest.json names no configuration or layers");
    if (r == 0)
        yyjson_arr_foreach(layers, index, max, entry)
        {
            ret_manifest->layers[ret_manifest->layer_count] = yyjson_get_str(entry);
            if (ret_manifest->layers[ret_manifest->layer_count++] == NULL)
                r = bad(err, "a layer in manifest.json has no name");
        }
    if (r < 0)
        docker_manifest_done(ret_manifest);
    return r;
}

void docker_manifest_done(struct docker_manifest *manifest)
{
    yyjson_doc_free(manifest->doc);
    manifest->doc = NULL;
}
