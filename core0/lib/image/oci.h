/*
 * oci.h - reads the JSON of OCI image layouts (image-spec 1.1) and of `docker save`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/crypto/hash.h"
#include "lib/error.h"

#define OCI_JSON_MAX                                                                               \
    ((size_t)4 << 20) /* bytes of an index, manifest or configuration (registries allow 4 MiB) */
#define OCI_LAYERS_MAX 512

struct oci_descriptor {
    uint8_t digest[SHA256_SIZE];
    uint64_t size;
    int is_index; /* points to another index, for several platforms */
};

/*
 * Finds the manifest (or nested index) of a tag in an index.json; tag NULL: the only one there is. In a nested index
 * (by_platform) the one for `architecture` and Linux. Errors: image.not-found, image.bad-layout.
 */
int oci_index_find(const char *text, size_t len, const char *tag, const char *architecture,
                   int by_platform, struct oci_descriptor *ret_descriptor, struct error *err);

struct oci_manifest {
    struct oci_descriptor config;
    struct oci_descriptor layers[OCI_LAYERS_MAX];
    size_t layer_count;
};
int oci_manifest_read(const char *text, size_t len, struct oci_manifest *ret_manifest,
                      struct error *err);

/* The image configuration. */
struct oci_config {
    yyjson_doc *doc;
    yyjson_val *config; /* "config", may be NULL */
    const char *architecture;
    const char *os;
    uint8_t diff_ids[OCI_LAYERS_MAX][SHA256_SIZE]; /* of each layer when unpacked */
    size_t diff_count;
};
int oci_config_read(const char *text, size_t len, struct oci_config *ret_config, struct error *err);
void oci_config_done(struct oci_config *config);

/* The manifest.json of `docker save`: names of members of the archive. Strings point into doc. */
struct docker_manifest {
    yyjson_doc *doc;
    const char *config;
    const char *layers[OCI_LAYERS_MAX];
    size_t layer_count;
};
/* tag: "name:tag", or "tag" alone; NULL: the only image there is. */
int docker_manifest_read(const char *text, size_t len, const char *tag,
                         struct docker_manifest *ret_manifest, struct error *err);
void docker_manifest_done(struct docker_manifest *manifest);
