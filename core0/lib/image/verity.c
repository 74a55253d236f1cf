/*
 * verity.c - fs-verity digests: see verity.h.
 *
 * The Merkle tree is built while bytes come: a block that is full is hashed into the next level at once.
 */
#include "lib/image/verity.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DESCRIPTOR_SIZE                                                                            \
    256 /* struct fsverity_descriptor of the kernel's fs/verity/fsverity_private.h */

void verity_init(struct verity *verity)
{
    memset(verity, 0, sizeof(*verity));
}

/* Hashes the block of a level (filled up with zeros) into the next one. */
static void push_block(struct verity *verity, size_t level)
{
    for (; level + 1 < VERITY_LEVELS; level++) {
        uint8_t hash[SHA256_SIZE];
        memset(verity->levels[level].block + verity->levels[level].len, 0,
               VERITY_BLOCK - verity->levels[level].len);
        sha256(verity->levels[level].block, VERITY_BLOCK, hash);
        verity->levels[level].len = 0;
        memcpy(verity->levels[level + 1].block + verity->levels[level + 1].len, hash, sizeof(hash));
        verity->levels[level + 1].len += sizeof(hash);
        verity->levels[level + 1].hashes++;
        if (verity->levels[level + 1].len < VERITY_BLOCK)
            return;
    }
}

void verity_update(struct verity *verity, const void *data, size_t len)
{
    const uint8_t *at = data;
    verity->size += len;
    while (len > 0) {
        size_t room = VERITY_BLOCK - verity->levels[0].len;
        size_t take = len < room ? len : room;
        memcpy(verity->levels[0].block + verity->levels[0].len, at, take);
        verity->levels[0].len += take;
        at += take;
        len -= take;
        if (verity->levels[0].len == VERITY_BLOCK)
            push_block(verity, 0);
    }
}

void verity_final(struct verity *verity, uint8_t ret_digest[VERITY_DIGEST_SIZE])
{
    uint8_t descriptor[DESCRIPTOR_SIZE] = {1, FS_VERITY_HASH_ALG_SHA256, 12};
    for (size_t i = 0; i < 8; i++)
        descriptor[8 + i] = (uint8_t)(verity->size >> (8 * i));
    if (verity->size > 0) {
        if (verity->levels[0].len > 0)
            push_block(verity, 0);
        size_t level = 1;
        while (verity->levels[level].hashes > 1) {
            if (verity->levels[level].len > 0)
                push_block(verity, level);
            level++;
        }
        /* The only hash of its level is the root; an empty file has none. */
        memcpy(descriptor + 16, verity->levels[level].block, SHA256_SIZE);
    }
    sha256(descriptor, sizeof(descriptor), ret_digest);
}

int verity_file(int fd, uint8_t ret_digest[VERITY_DIGEST_SIZE], uint64_t *ret_size)
{
    enum { CHUNK = 1 << 17 };
    struct verity *verity = malloc(sizeof(*verity));
    uint8_t *data = malloc(CHUNK);
    int r = verity == NULL || data == NULL ? -ENOMEM : 0;
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r == 0)
        verity_init(verity);
    while (r == 0) {
        ssize_t n = read(fd, data, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = -errno;
        if (n <= 0)
            break;
        verity_update(verity, data, (size_t)n);
    }
    if (r == 0) {
        if (ret_size != NULL)
            *ret_size = verity->size;
        verity_final(verity, ret_digest);
    }
    free(data);
    free(verity);
    return r;
}

static int verity_ioctl(int fd, unsigned long request, void *arg)
{
#ifdef __GLIBC__
    return ioctl(fd, request, arg) < 0 ? -errno : 0;
#else /* musl declares an int; the bits are the same */
    return ioctl(fd, (int)request, arg) < 0 ? -errno : 0;
#endif
}

int verity_enable(int fd)
{
    struct fsverity_enable_arg arg = {
        .version = 1,
        .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
        .block_size = VERITY_BLOCK,
    };
    int r = verity_ioctl(fd, FS_IOC_ENABLE_VERITY, &arg);
    return r == -EEXIST ? 0 : r;
}

int verity_measure(int fd, uint8_t ret_digest[VERITY_DIGEST_SIZE])
{
    union {
        struct fsverity_digest header;
        uint8_t bytes[sizeof(struct fsverity_digest) + 64];
    } measured;
    memset(&measured, 0, sizeof(measured));
    measured.header.digest_size = 64;
    int r = verity_ioctl(fd, FS_IOC_MEASURE_VERITY, &measured);
    if (r < 0)
        return r;
    if (measured.header.digest_algorithm != FS_VERITY_HASH_ALG_SHA256 ||
        measured.header.digest_size != VERITY_DIGEST_SIZE)
        return -EBADMSG;
    memcpy(ret_digest, measured.header.digest, VERITY_DIGEST_SIZE);
    return 0;
}
