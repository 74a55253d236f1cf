/*
 * unpack.c - a zstd stream unpacked and digested: see unpack.h.
 */
#include "lib/image/unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>

#define WINDOW_LOG_MAX 23 /* 8 MiB: what levels up to 19 ask of a reader; docs/images.md says so */

struct image_unpack {
    ZSTD_DCtx *zstd;
    image_unpack_fn *write;
    void *user;
    uint64_t limit;
    bool whole; /* the last frame is complete */
    struct verity verity;
    uint8_t out[(size_t)1 << 17];
};

int image_unpack_new(uint64_t limit, image_unpack_fn *write, void *user,
                     struct image_unpack **ret_unpack)
{
    struct image_unpack *unpack = malloc(sizeof(*unpack));
    if (unpack == NULL)
        return -ENOMEM;
    unpack->zstd = ZSTD_createDCtx();
    if (unpack->zstd == NULL) {
        free(unpack);
        return -ENOMEM;
    }
    ZSTD_DCtx_setParameter(unpack->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    unpack->write = write;
    unpack->user = user;
    unpack->limit = limit;
    unpack->whole = false;
    verity_init(&unpack->verity);
    *ret_unpack = unpack;
    return 0;
}

void image_unpack_free(struct image_unpack *unpack)
{
    if (unpack == NULL)
        return;
    ZSTD_freeDCtx(unpack->zstd);
    free(unpack);
}

int image_unpack_feed(struct image_unpack *unpack, const void *data, size_t len)
{
    ZSTD_inBuffer in = {data, len, 0};
    for (;;) {
        ZSTD_outBuffer out = {unpack->out, sizeof(unpack->out), 0};
        size_t r = ZSTD_decompressStream(unpack->zstd, &out, &in);
        if (ZSTD_isError(r))
            return -EBADMSG;
        if (out.pos > unpack->limit - unpack->verity.size)
            return -EFBIG;
        if (out.pos > 0) {
            verity_update(&unpack->verity, unpack->out, out.pos);
            int failed =
                unpack->write != NULL ? unpack->write(unpack->out, out.pos, unpack->user) : 0;
            if (failed != 0)
                return failed;
        }
        unpack->whole = r == 0;
        /* A full output buffer may mean that more is waiting inside. */
        if (in.pos == in.size && out.pos < out.size)
            return 0;
    }
}

int image_unpack_finish(struct image_unpack *unpack, uint8_t ret_digest[VERITY_DIGEST_SIZE],
                        uint64_t *ret_size)
{
    if (!unpack->whole)
        return -EBADMSG;
    *ret_size = unpack->verity.size;
    verity_final(&unpack->verity, ret_digest);
    return 0;
}
