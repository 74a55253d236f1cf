// A zstd stream from a hub, in pieces, with a limit on what comes out.
// packages: zstd mbedtls
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "lib/image/unpack.h"

#define LIMIT 65536

static int on_piece(const void *data, size_t len, void *user)
{
    (void)data;
    *(size_t *)user += len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_unpack *unpack;
    uint8_t digest[VERITY_DIGEST_SIZE];
    uint64_t whole;
    size_t got = 0;
    int ret = 0;

    if (image_unpack_new(LIMIT, on_piece, &got, &unpack) < 0)
        abort();
    for (size_t at = 0; at < size && ret == 0; at += 37)
        ret = image_unpack_feed(unpack, data + at, size - at < 37 ? size - at : 37);
    if (ret == 0 && image_unpack_finish(unpack, digest, &whole) == 0 && whole != got)
        abort();
    if (got > LIMIT)
        abort();
    image_unpack_free(unpack);
    return 0;
}
