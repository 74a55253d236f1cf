/*
 * verity.h - fs-verity digests computed in user space (Documentation/filesystems/fsverity.rst), as the kernel measures
 * them: SHA-256, blocks of 4096 bytes, no salt.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/crypto/hash.h"

#define VERITY_DIGEST_SIZE SHA256_SIZE
#define VERITY_DIGEST_TEXT (2 * VERITY_DIGEST_SIZE + 1)
#define VERITY_BLOCK 4096
#define VERITY_LEVELS 8 /* 4096 * 128^7 bytes are more than a file can hold */

/* A digest under way. About 36 KiB: keep it off small stacks. */
struct verity {
    uint64_t size;
    struct {
        uint8_t block[VERITY_BLOCK];
        size_t len;      /* bytes in block */
        uint64_t hashes; /* of this level in all (level 0: unused) */
    } levels[VERITY_LEVELS];
};

void verity_init(struct verity *verity);
void verity_update(struct verity *verity, const void *data, size_t len);
void verity_final(struct verity *verity, uint8_t ret_digest[VERITY_DIGEST_SIZE]);

/* Of a whole open file, from its beginning; leaves the offset at the end. 0 or -errno. *ret_size may be NULL. */
int verity_file(int fd, uint8_t ret_digest[VERITY_DIGEST_SIZE], uint64_t *ret_size);

/* FS_IOC_ENABLE_VERITY on a file opened read-only that nobody has open for writing. 0 or -errno; already on: 0. */
int verity_enable(int fd);
/* What the kernel measures. 0, -ENODATA: not on, -ENOTTY: the file system has none, or another -errno. */
int verity_measure(int fd, uint8_t ret_digest[VERITY_DIGEST_SIZE]);
