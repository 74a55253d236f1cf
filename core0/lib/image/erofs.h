/*
 * erofs.h - reads a composefs metadata file (EROFS, Documentation/filesystems/erofs.rst) far enough to list its objects.
 *
 * The file comes from a tenant: everything is checked against its length, each inode is visited once, and nothing
 * recurses. Compressed inodes, which composefs never writes, are refused.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/image/verity.h"

#define EROFS_OBJECTS_MAX ((size_t)1 << 20)      /* regular files of one image */
#define EROFS_METADATA_MAX ((uint64_t)512 << 20) /* bytes of a metadata file */

struct erofs_object {
    uint8_t digest[VERITY_DIGEST_SIZE];
    uint64_t size; /* bytes of the file */
};

/*
 * All objects, sorted by digest, each once. *ret_objects: free(). Errors: image.bad-metadata. The same object with two
 * sizes is an error too.
 */
int erofs_objects(const uint8_t *data, size_t len, struct erofs_object **ret_objects,
                  size_t *ret_count, struct error *err);
