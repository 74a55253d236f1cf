/*
 * config.h - an image's configuration and identity: canonical JSON (RFC 8785) whose SHA-256 is the image's id.
 *
 * Members, absent where empty: metadata {digest, size}, architecture, os, and the OCI image specification's Env,
 * Entrypoint, Cmd, User, WorkingDir, StopSignal, Healthcheck (as Docker writes it, times in nanoseconds), Volumes,
 * ExposedPorts, Labels. Nothing else: the same files under the same configuration are the same image.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/buffer.h"
#include "lib/error.h"
#include "lib/image/verity.h"

#define IMAGE_CONFIG_MAX ((size_t)1 << 20) /* bytes */
#define IMAGE_ID_TEXT 65                   /* 64 hexadecimal digits and NUL */

struct image_config {
    char id[IMAGE_ID_TEXT];
    uint8_t digest[VERITY_DIGEST_SIZE]; /* fs-verity digest of the metadata file */
    uint64_t size;                      /* of the metadata file, bytes */
    yyjson_doc *doc;                    /* all of it */
};

/* Appends the configuration. oci: the "config" object of an OCI image configuration, NULL: none. image.bad-config. */
int image_config_build(yyjson_val *oci, const char *architecture, const char *os,
                       const uint8_t digest[VERITY_DIGEST_SIZE], uint64_t size, struct buffer *out,
                       struct error *err);
/* Reads one, refusing what is not canonical or has other members. image.bad-config. */
int image_config_read(const char *text, size_t len, struct image_config *ret_config,
                      struct error *err);
void image_config_done(struct image_config *config);
/* SHA-256 of the text in lower-case hexadecimal. */
void image_id(const void *text, size_t len, char ret_id[IMAGE_ID_TEXT]);
/* Is it 64 lower-case hexadecimal digits? */
int image_id_check(const char *id, struct error *err);
